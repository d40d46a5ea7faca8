"""What a client has done: as a producer, and as a member of groups.

A client is known by the name that it gave itself, or by that of a member, or as `producer N`.

Not here: why a group is behind (why_group.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from yak.core import ops
from yak.core.state import State
from yak.explain.facts import (
    Cause,
    Explanation,
    Facts,
    Unexplained,
    counted,
    explanation,
    joined,
    moment,
    of_log,
)
from yak.explain.names import Names
from yak.model import TopicPartition

#: So many registrations are told, and so many partitions.
TOLD: Final = 12


class _Wrote:
    """What a client wrote to one partition."""

    def __init__(self, op: ops.Append) -> None:
        self.first = self.last = op
        self.records = 0


class ClientSeen(Names):
    """A client's registrations, by its name, a member's or `producer N`."""

    def __init__(self, client: str) -> None:
        super().__init__()
        self.client = client
        self.moves: list[ops.Op] = []
        self.moved = 0
        self.wrote: dict[TopicPartition, _Wrote] = {}
        #: (group, topic, partition) -> its last acknowledgement, and up to where.
        self.acked: dict[tuple[str, str, int], tuple[ops.Ack, int]] = {}
        self.names: set[str] = set()

    def begin(self, state: State) -> None:
        super().begin(state)
        self.names |= {client for client, _ in self.producers.values()}
        self.names |= set(self.members.values())

    def _is_producer(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        client, _ = self.producers.get(number, ("", None))
        return self.client in (client, f"producer {number}")

    def _is_member(self, group: object, member: object) -> bool:
        if not (isinstance(group, str) and isinstance(member, str)):
            return False
        return self.client in (member, self.members.get((group, member)))

    def see(self, op: ops.Op) -> None:
        super().see(op)
        match op:
            case ops.Register():
                self.names.add(op.client)
                if self._is_producer(op.producer) or self._is_member(op.group, op.member):
                    self._moved(op)
            case ops.Deregister():
                if self._is_producer(op.producer) or self._is_member(op.group, op.member):
                    self._moved(op)
            case ops.Append() if self._is_producer(op.producer):
                wrote = self.wrote.setdefault((op.topic, op.partition), _Wrote(op))
                wrote.last = op
                wrote.records += op.count
            case ops.Ack() if self._is_member(op.group, op.member):
                for topic, partition, upto in op.offsets:
                    self.acked[op.group, topic, partition] = (op, upto)
            case _:
                pass

    def _moved(self, op: ops.Op) -> None:
        self.moved += 1
        self.moves.append(op)
        del self.moves[:-TOLD]


def explain_client(client: str, facts: Facts) -> Explanation:
    """Raises Unexplained where nobody of that name is known."""
    log = facts.log
    seen: ClientSeen | None = log.seen if log is not None else None
    live = [
        (group, one.member, one.client, [f"{t}/{p}" for t, p in one.assignment])
        for group, answer in sorted(facts.groups.items())
        for one in answer.members
        if client in (one.member, one.client)
    ]
    producers = _producers(client, facts)
    if not live and not producers and (seen is None or not (seen.moves or seen.wrote)):
        names = sorted((seen.names if seen is not None else set()) - {""})
        where = "as a member of a group now, and no log is here, which would know of others"
        if log is not None:
            there = f"clients that are: {joined(names)}" if names else "no client is"
            where = f"in the log from operation {log.first} on: {there}"
        raise Unexplained(f"nobody named {client} is known {where}")
    chain: list[Cause] = []
    unknown: list[str] = []
    if seen is not None and log is not None:
        chain += [of_log(op, op.op, _registered(op)) for op in seen.moves]
        chain += _did(seen)
        if seen.moved > len(seen.moves):
            unknown.append(f"{seen.moved - len(seen.moves)} earlier registrations are left out")
        if log.first > 1:
            unknown.append(f"what it did before operation {log.first}: the log here begins there")
    else:
        unknown.append("what it has done: that is in a log, and none is here")
    for group, member, _, wheres in live:
        what = f"{member} is a member of group {group} now"
        what += f", and reads {joined(wheres, 6)}" if wheres else ", and has no partition"
        chain.append(Cause(kind="member", source="leader", what=what))
    return explanation(
        f"client {client}", _does(client, seen, live, producers), chain, facts, unknown
    )


def _producers(client: str, facts: Facts) -> list[tuple[int, int | None]]:
    """(number, gone since) of its producers that the cluster still knows."""
    if facts.log is None:
        return []
    return [
        (number, one.gone_ms)
        for number, one in facts.log.state.producers.items()
        if client in (one.client, f"producer {number}")
    ]


def _does(
    client: str,
    seen: ClientSeen | None,
    live: list[tuple[str, str, str, list[str]]],
    producers: list[tuple[int, int | None]],
) -> str:
    parts = []
    if seen is not None and seen.wrote:
        records = sum(one.records for one in seen.wrote.values())
        parts.append(f"wrote {counted(records, 'record')}")
    if seen is not None and seen.acked:
        groups = sorted({group for group, _, _ in seen.acked})
        parts.append(
            f"acknowledged in {'group' if len(groups) == 1 else 'groups'} {joined(groups, 4)}"
        )
    did = f"client {client} {joined(parts)}" if parts else f"client {client} is known"
    now = [f"a member of group {group}" for group, *_ in live]
    now += [f"producer {number}" for number, gone in producers if gone is None]
    silent = [
        f"producer {number}, silent since {moment(gone)}"
        for number, gone in producers
        if gone is not None
    ]
    if now or silent:
        return f"{did}; it is {joined([*now, *silent], 4)}"
    last = seen.moves[-1] if seen is not None and seen.moves else None
    if isinstance(last, ops.Deregister):
        went = "left" if last.reason == "asked" else f"went ({last.reason})"
        return f"{did}; it {went} at {moment(last.time)}"
    return f"{did}; whether it is there now is not known"


def _registered(op: ops.Op) -> str:
    assert isinstance(op, ops.Register | ops.Deregister)
    if not isinstance(op.producer, msgspec.UnsetType):
        who = f"producer {op.producer}"
    else:
        who = f"{op.member}, of group {op.group},"
    if isinstance(op, ops.Register):
        topics = joined(op.topics, 4) if op.topics else "no topics yet"
        return f"{who} registered as client {op.client}, for {topics}"
    words = {
        "asked": "left, as it said",
        "expired": "was silent for longer than its session",
        "forgotten": "was forgotten, with its sequences",
        "deleted": "went with its group",
    }
    return f"{who} {words[op.reason]}"


def _did(seen: ClientSeen) -> list[Cause]:
    causes = []
    for (topic, partition), wrote in list(seen.wrote.items())[:TOLD]:
        until = wrote.last.offset + wrote.last.count - 1
        what = (
            f"it wrote {counted(wrote.records, 'record')} to {topic}/{partition} from operation "
            f"{wrote.first.index} to {wrote.last.index}, the last at offset {until}"
        )
        causes.append(of_log(wrote.last, "append", what))
    for (group, topic, partition), (op, upto) in list(seen.acked.items())[:TOLD]:
        what = f"it acknowledged {topic}/{partition} up to {upto} in group {group}"
        causes.append(of_log(op, "ack", what))
    return causes
