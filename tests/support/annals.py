"""Legal histories of every kind of operation, in a seeded order, for whoever replays them.

Topics come, grow, change, lose their front and go, under names of which one begins another; groups
with members that still hold what was taken from them; producers with sequences, silent ones and
forgotten ones; a new epoch now and then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.support.operations import body_of
from yak.core import ops
from yak.core.groups import shared_out
from yak.core.ops import Op
from yak.core.state import _MAPPINGS, State
from yak.storage.disk import Buffer

Written = list[tuple[Op, Buffer | None]]

TOPICS = ("order", "orders", "o")
GROUPS = ("g", "group")
MEMBERS = ("m-1", "m-2", "m-3")


def content(state: State) -> dict[str, Any]:
    """All that a State holds; two with the same content decide the same."""
    mappings = {name: dict(getattr(state, name)) for name in _MAPPINGS}
    single = ("index", "epoch", "time", "next_producer")
    return mappings | {name: getattr(state, name) for name in single}


class Annals:
    """What happened so far: `written`, and the State that it adds up to."""

    def __init__(self, seed: int, *, appends: int = 12, width: int = 8) -> None:
        """appends: how often one comes, against once for each of the rarer operations."""
        self.rng = random.Random(seed)
        self.state = State()
        self.written: Written = []
        self._width = width
        self._epoch = 1
        self._kinds: list[Callable[[], None]] = [
            *[self._append] * appends,
            *[self._create] * 3,
            *[self._trim] * 2,
            *[self._register] * 2,
            *[self._join] * 2,
            *[self._assign] * 2,
            *[self._ack] * 2,
            self._grow,
            self._alter,
            self._delete,
            self._deregister,
            self._leave,
            self._forget_group,
            self._lead,
        ]
        self._write(ops.Lead, broker=1)

    def go_on(self, count: int) -> Written:
        """As many more operations; those alone."""
        first = len(self.written)
        while len(self.written) < first + count:
            self.rng.choice(self._kinds)()
        return self.written[first:]

    def _write(self, kind: type[Any], body: bytes | None = None, **fields: Any) -> None:
        index = self.state.index + 1
        op = kind(index=index, epoch=self._epoch, time=1000 + index, **fields)
        self.state.apply(op)
        self.written.append((op, body))

    def _topic(self) -> str | None:
        return self.rng.choice(sorted(self.state.topics)) if self.state.topics else None

    def _lead(self) -> None:
        self._epoch += self.rng.randint(1, 3)
        self._write(ops.Lead, broker=self.rng.randint(1, 3))

    # -- topics ----------------------------------------------------------------------------------

    def _create(self) -> None:
        missing = [name for name in TOPICS if name not in self.state.topics]
        if missing:
            name, index = self.rng.choice(missing), self.state.index + 1
            config = {"segment_bytes": self.rng.choice((200, 400, 4000)), "retention_ms": -1}
            partitions = self.rng.randint(1, 3)
            self._write(
                ops.CreateTopic,
                topic=name,
                topic_id=f"t{index}",
                partitions=partitions,
                config=config,
            )

    def _grow(self) -> None:
        name = self._topic()
        if name is not None and self.state.topics[name].partitions < 5:
            more = self.state.topics[name].partitions + self.rng.randint(1, 2)
            self._write(ops.CreatePartitions, topic=name, partitions=more)

    def _alter(self) -> None:
        name = self._topic()
        if name is not None:
            config: dict[str, Any] = {"segment_bytes": self.rng.choice((200, 300, 4000))}
            self._write(ops.AlterTopic, topic=name, config=config)

    def _delete(self) -> None:
        name = self._topic()
        if name is not None:
            self._write(ops.DeleteTopic, topic=name, topic_id=self.state.topics[name].topic_id)

    def _trim(self) -> None:
        found = [tp for tp, end in self.state.ends.items() if self.state.start(tp) < end]
        if found:
            topic, partition = tp = self.rng.choice(found)
            before = self.rng.randint(self.state.start(tp) + 1, self.state.ends[tp])
            self._write(ops.Trim, topic=topic, partition=partition, before=before)

    def _append(self) -> None:
        if self.state.ends:
            topic, partition = tp = self.rng.choice(list(self.state.ends))
            body = body_of(self.rng.randint(1, 4), self.rng.choice("xyz"), self._width)
            fields: dict[str, Any] = {"topic": topic, "partition": partition, "size": len(body)}
            fields |= {"offset": self.state.ends[tp], "count": body.count(b"\n")}
            present = [n for n, p in self.state.producers.items() if p.gone_ms is None]
            if present and self.rng.random() < 0.7:
                producer = self.rng.choice(present)
                last = self.state.sequences.get((producer, topic, partition))
                sequence = last[-1].sequence + last[-1].count if last else 0
                fields |= {"producer": producer, "sequence": sequence}
            self._write(ops.Append, body, crc=ops.crc_of(body), **fields)

    # -- who writes and reads --------------------------------------------------------------------

    def _register(self) -> None:
        number = self.state.next_producer
        if self.state.producers and self.rng.random() < 0.4:  # it comes back
            number = self.rng.choice(sorted(self.state.producers))
        topics = self.rng.sample(TOPICS, self.rng.randint(0, 2))
        self._write(ops.Register, role="producer", client="c", topics=topics, producer=number)

    def _deregister(self) -> None:
        if self.state.producers:
            number = self.rng.choice(sorted(self.state.producers))
            gone = self.state.producers[number].gone_ms is not None
            reason = "forgotten" if gone else self.rng.choice(("asked", "expired"))
            self._write(ops.Deregister, reason=reason, producer=number)

    def _join(self) -> None:
        group, member = self.rng.choice(GROUPS), self.rng.choice(MEMBERS)
        topics = self.rng.sample(TOPICS, self.rng.randint(1, 3))
        fields: dict[str, Any] = {"group": group, "member": member, "session_ms": 1000}
        self._write(ops.Register, role="consumer", client="c", topics=topics, **fields)

    def _leave(self) -> None:
        found = [(g, m) for g, group in self.state.groups.items() for m in group.members]
        if found:
            group, member = self.rng.choice(found)
            self._write(ops.Deregister, reason="expired", group=group, member=member)

    def _forget_group(self) -> None:
        found = [name for name, group in self.state.groups.items() if not group.members]
        if found:
            self._write(ops.Deregister, reason="deleted", group=self.rng.choice(found))

    def _assign(self) -> None:
        found = [name for name, group in self.state.groups.items() if group.members]
        if found:
            name = self.rng.choice(found)
            generation = self.state.groups[name].generation + 1
            owners = shared_out(self.state, name, generation)
            self._write(ops.Assign, group=name, generation=generation, owners=owners)

    def _ack(self) -> None:
        if self.state.ends:
            chosen = self.rng.sample(list(self.state.ends), min(2, len(self.state.ends)))
            offsets = [(*tp, self.rng.randint(0, self.state.ends[tp])) for tp in chosen]
            reset: dict[str, Any] = {"reset": True} if self.rng.random() < 0.2 else {}
            self._write(ops.Ack, group=self.rng.choice(GROUPS), offsets=offsets, **reset)


def annals(count: int, seed: int = 0, **more: int) -> Written:
    """A whole history."""
    found = Annals(seed, **more)
    found.go_on(count - 1)
    return found.written[:count]
