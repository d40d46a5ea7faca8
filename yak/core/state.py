"""What the log adds up to.  `State.apply(op)` is the one place where an operation becomes real.

Rules:

* `apply` is a plain function of the state and the operation: no clock, no chance, no decision.
  It asserts that the operation is the next one; whatever could be refused was refused by the
  leader before it wrote the line.
* Every value in a mapping is immutable; a change replaces it.  So a State can be laid over
  another (`State.over`), and that is *Pending*: the leader's uncommitted tail, read through to
  what is committed.  Both run this very `apply`.

* What could grow for ever is dropped where that costs nothing.  A deleted topic's sequences stay
  where they are, out of force (`batches`), until their producer goes or writes elsewhere: a look
  at every producer would take longer than a lease.

Invariants, for the simulator too: ends[p] >= starts[p]; an acknowledged offset lies within
0 … ends[p]; the remembered batches of a producer in a partition follow one another.

It does not hold records, members' liveness or `delivered` (the leader's memory: sessions.py,
delivery.py).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from sys import intern
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from yak.core import ops
from yak.core.overlay import Overlay
from yak.model import BATCHES_REMEMBERED, TopicPartition


class Topic(msgspec.Struct, frozen=True):
    """config: only what was set explicitly.  created: the index of the operation that made it."""

    topic_id: str
    partitions: int
    config: Mapping[str, Any]
    created: int


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A producer's batch as it lies in the log."""

    sequence: int
    count: int
    offset: int
    time: int
    index: int


#: (producer, topic, partition)
SequenceKey: TypeAlias = tuple[int, str, int]


class Producer(msgspec.Struct, frozen=True, gc=False):
    """gone_ms: the operation time at which it fell silent; None while it is registered.

    written: its keys in `sequences`, in the order of their coming.
    """

    client: str
    topics: tuple[str, ...]
    gone_ms: int | None = None
    written: tuple[SequenceKey, ...] = ()


class Member(msgspec.Struct, frozen=True):
    client: str
    topics: tuple[str, ...]
    session_ms: int


class Ownership(NamedTuple):
    """Whose a partition is in a group.

    owner: "" where nobody wants it, or it is deleted, and only its holder has not let it go yet.
    holder: the member that may still hold it, until it reports generation `since` or a later
    one without it; None once it is released.
    """

    owner: str
    holder: str | None = None
    since: int | None = None

    @property
    def held_by(self) -> str:
        """Who reads it at present, as far as is known."""
        return self.holder or self.owner


class Group(msgspec.Struct, frozen=True):
    """generation: of the last assignment; 0 before the first.

    moving: the partitions that a member may still hold though they are another's.
    """

    generation: int = 0
    members: Mapping[str, Member] = {}
    owners: Mapping[TopicPartition, Ownership] = {}
    moving: frozenset[TopicPartition] = frozenset()

    def assigned(self, member: str) -> list[TopicPartition]:
        """What the member owns and nobody else may still hold, in order."""
        return sorted(tp for tp, o in self.owners.items() if o.owner == member and o.holder is None)


NO_GROUP = Group()


class State:
    """The sum of the operations 1 … index."""

    def __init__(self) -> None:
        #: The last operation applied.
        self.index = 0
        self.epoch = 0
        #: Its time, in ms.  Invariant: never goes back.
        self.time = 0
        self.next_producer = 1
        self.topics: MutableMapping[str, Topic] = {}
        #: The next offset of every partition that exists: its high watermark.
        self.ends: MutableMapping[TopicPartition, int] = {}
        #: The log start; left out while it is 0.
        self.starts: MutableMapping[TopicPartition, int] = {}
        self.producers: MutableMapping[int, Producer] = {}
        #: Its last batches, oldest first.  See `batches`.
        self.sequences: MutableMapping[SequenceKey, tuple[Batch, ...]] = {}
        self.groups: MutableMapping[str, Group] = {}
        #: partition -> {group: the next offset that it wants}.
        self.acked: MutableMapping[TopicPartition, Mapping[str, int]] = {}
        #: On a layer: the mappings above, which are overlays there.
        self._overlays: list[Overlay[Any, Any]] = []

    @classmethod
    def over(cls, base: State) -> State:
        """Pending: an empty layer over `base`."""
        layer = cls()
        layer.index, layer.epoch, layer.time = base.index, base.epoch, base.time
        layer.next_producer = base.next_producer
        for name in _MAPPINGS:
            overlay: Overlay[Any, Any] = Overlay(getattr(base, name), layer)
            setattr(layer, name, overlay)
            layer._overlays.append(overlay)
        return layer

    def copy(self) -> State:
        """State as it is now, whatever is applied later: mappings are copied, values shared."""
        copied = State()
        copied.index, copied.epoch, copied.time = self.index, self.epoch, self.time
        copied.next_producer = self.next_producer
        for name in _MAPPINGS:
            setattr(copied, name, dict(getattr(self, name)))
        return copied

    def settle(self, index: int) -> None:
        """On a layer: its base has applied everything up to `index`."""
        for overlay in self._overlays:
            overlay.settle(index)

    def apply(self, op: ops.Op) -> None:
        """Make the next operation real."""
        assert op.index == self.index + 1, f"operation {op.index} after {self.index}"
        assert op.epoch >= self.epoch, f"epoch {op.epoch} after {self.epoch}"
        assert op.time >= self.time, f"time {op.time} after {self.time}"
        self.index, self.epoch, self.time = op.index, op.epoch, op.time
        _APPLY[type(op)](self, op)

    # -- reading ---------------------------------------------------------------------------------

    def start(self, tp: TopicPartition) -> int:
        return self.starts.get(tp, 0)

    def acked_by(self, group: str, tp: TopicPartition) -> int | None:
        """Where the group stands in a partition; None if it never acknowledged there."""
        return self.acked.get(tp, _NOBODY).get(group)

    def group(self, name: str) -> Group:
        """The group; an unknown one is empty."""
        group: Group = self.groups.get(name, NO_GROUP)
        return group

    def batches(self, producer: int, topic: str, partition: int) -> tuple[Batch, ...]:
        """A producer's last batches in a partition of the topic that exists, oldest first."""
        found: tuple[Batch, ...] = self.sequences.get((producer, topic, partition), ())
        # A topic of that name that was deleted since: nothing of it is in force.
        return found if found and found[-1].index > self.topics[topic].created else ()

    def topic_partitions(self, topic: str) -> list[TopicPartition]:
        return [(topic, p) for p in range(self.topics[topic].partitions)]

    # -- one method an operation -----------------------------------------------------------------

    def _lead(self, op: ops.Lead) -> None:
        pass

    def _create_topic(self, op: ops.CreateTopic) -> None:
        assert op.topic not in self.topics
        self.topics[op.topic] = Topic(op.topic_id, op.partitions, op.config, op.index)
        for p in range(op.partitions):
            self.ends[op.topic, p] = 0

    def _delete_topic(self, op: ops.DeleteTopic) -> None:
        for tp in self.topic_partitions(op.topic):
            del self.ends[tp]
            self.starts.pop(tp, None)
            self.acked.pop(tp, None)
        del self.topics[op.topic]

    def _create_partitions(self, op: ops.CreatePartitions) -> None:
        old = self.topics[op.topic]
        assert op.partitions > old.partitions
        for p in range(old.partitions, op.partitions):
            self.ends[op.topic, p] = 0
        self.topics[op.topic] = msgspec.structs.replace(old, partitions=op.partitions)

    def _alter_topic(self, op: ops.AlterTopic) -> None:
        self.topics[op.topic] = msgspec.structs.replace(self.topics[op.topic], config=op.config)

    def _trim(self, op: ops.Trim) -> None:
        tp = (op.topic, op.partition)
        assert self.start(tp) <= op.before <= self.ends[tp]
        self.starts[tp] = op.before

    def _register(self, op: ops.Register) -> None:
        topics = tuple(map(intern, op.topics))
        if op.role == "producer":
            number = given(op.producer)
            known = self.producers.get(number)
            written = known.written if known else ()
            self.producers[number] = Producer(intern(op.client), topics, None, written)
            self.next_producer = max(self.next_producer, number + 1)
            return
        group = self.group(given(op.group))
        member = Member(op.client, topics, given(op.session_ms))
        self.groups[given(op.group)] = msgspec.structs.replace(
            group, members={**group.members, given(op.member): member}
        )

    def _deregister(self, op: ops.Deregister) -> None:
        if op.group is not UNSET:
            self._deregister_member(op.group, op.member)
            return
        number = given(op.producer)
        producer = self.producers[number]
        if op.reason == "expired":
            self.producers[number] = msgspec.structs.replace(producer, gone_ms=op.time)
            return
        for key in producer.written:
            del self.sequences[key]
        del self.producers[number]

    def _deregister_member(self, name: str, member: str | UnsetType) -> None:
        group = self.groups[name]
        if member is not UNSET:
            rest = {k: v for k, v in group.members.items() if k != member}
            self.groups[name] = msgspec.structs.replace(group, members=rest)
            return
        del self.groups[name]
        for tp in [tp for tp, by in self.acked.items() if name in by]:
            self.acked[tp] = {g: o for g, o in self.acked[tp].items() if g != name}

    def _append(self, op: ops.Append) -> None:
        tp = (op.topic, op.partition)
        assert self.ends[tp] == op.offset, f"{tp}: offset {op.offset}, expected {self.ends[tp]}"
        self.ends[tp] = op.offset + op.count
        if op.producer is UNSET:
            return
        batch = Batch(given(op.sequence), op.count, op.offset, op.time, op.index)
        before = self.batches(op.producer, op.topic, op.partition)
        key = (op.producer, intern(op.topic), op.partition)
        if not before and key not in self.sequences:
            self._writes_to(key)
        self.sequences[key] = (*before[1 - BATCHES_REMEMBERED :], batch)

    def _writes_to(self, key: SequenceKey) -> None:
        """A producer writes to a partition for the first time."""
        producer = self.producers[key[0]]
        written = producer.written
        if len(written) & (len(written) - 1) == 0:  # at 1, 2, 4, 8, …: never twice too many
            kept = []
            for old in written:
                if self._in_force(old):
                    kept.append(old)
                else:
                    del self.sequences[old]
            written = tuple(kept)
        self.producers[key[0]] = msgspec.structs.replace(producer, written=(*written, key))

    def _in_force(self, key: SequenceKey) -> bool:
        """Whether the topic exists in which these batches are."""
        return key[1] in self.topics and bool(self.batches(*key))

    def _ack(self, op: ops.Ack) -> None:
        for topic, partition, offset in op.offsets:
            tp = (topic, partition)
            by = self.acked.get(tp, _NOBODY)
            if op.reset is True or offset > by.get(op.group, -1):
                self.acked[tp] = {**by, op.group: offset}
        if op.group not in self.groups:
            self.groups[op.group] = NO_GROUP

    def _assign(self, op: ops.Assign) -> None:
        group = self.group(op.group)
        assert op.generation > group.generation
        owners = {(t, p): Ownership(owner, holder, at) for t, p, owner, holder, at in op.owners}
        moving = frozenset(tp for tp, o in owners.items() if o.holder is not None)
        self.groups[op.group] = msgspec.structs.replace(
            group, generation=op.generation, owners=owners, moving=moving
        )


_MAPPINGS = ("topics", "ends", "starts", "producers", "sequences", "groups", "acked")
_NOBODY: Mapping[str, int] = {}
_APPLY: Mapping[type, Any] = {
    ops.Lead: State._lead,
    ops.CreateTopic: State._create_topic,
    ops.DeleteTopic: State._delete_topic,
    ops.CreatePartitions: State._create_partitions,
    ops.AlterTopic: State._alter_topic,
    ops.Trim: State._trim,
    ops.Register: State._register,
    ops.Deregister: State._deregister,
    ops.Append: State._append,
    ops.Ack: State._ack,
    ops.Assign: State._assign,
}


def given(value: Any) -> Any:
    """A field that this kind of operation always carries."""
    assert value is not UNSET
    return value
