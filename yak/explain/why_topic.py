"""What became of a topic: what was done to it, how far it reaches, who writes and who reads it.

Not here: single records (why_offset.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET

from yak.core import ops
from yak.explain.facts import (
    Cause,
    Explanation,
    Facts,
    counted,
    explanation,
    joined,
    moment,
    of_log,
)
from yak.explain.names import Names, reach_of, stand, told_by

#: So many operations on a topic itself are told, and so many of its partitions and groups.
TOLD: Final = 12


class TopicSeen(Names):
    """What was done to one topic, and the last operation of each partition."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic
        self.changes: list[ops.Op] = []
        self.last: dict[int, ops.Append] = {}
        #: client -> [records, last time]
        self.writers: dict[str, list[int]] = {}
        self.deleted: ops.DeleteTopic | None = None

    def see(self, op: ops.Op) -> None:
        super().see(op)
        match op:
            case ops.Append() if op.topic == self.topic:
                self.last[op.partition] = op
                client = "" if op.producer is UNSET else self.producers[op.producer][0]
                wrote = self.writers.setdefault(client, [0, 0])
                wrote[0] += op.count
                wrote[1] = op.time
            case ops.CreateTopic() if op.topic == self.topic:
                self.last.clear()
                self.writers.clear()
                self.deleted = None
                self.changes.append(op)
            case ops.DeleteTopic() if op.topic == self.topic:
                self.deleted = op
                self.changes.append(op)
            case ops.CreatePartitions() | ops.AlterTopic() | ops.Trim() if op.topic == self.topic:
                self.changes.append(op)
            case _:
                return
        del self.changes[: -TOLD - 1]


def explain_topic(topic: str, facts: Facts) -> Explanation:
    """Raises Unexplained where there is no such topic."""
    total, ends = reach_of(topic, facts)
    records = sum(end - start for start, end in ends)
    chain: list[Cause] = []
    unknown: list[str] = []
    log = facts.log
    seen: TopicSeen | None = log.seen if log is not None else None
    answer = f"topic {topic} has {counted(total, 'partition')} and {counted(records, 'record')}"
    if log is not None and seen is not None and topic in log.state.topics:
        made = log.state.topics[topic].created
        if not any(op.index == made for op in seen.changes):
            unknown.append(
                f"when topic {topic} was made, and how it changed at first: that was operation "
                f"{made}, and the log here begins with {log.first}"
                if made < log.first
                else f"all earlier changes of topic {topic}: only the last {TOLD} are told"
            )
        chain += [of_log(op, op.op, _changed(op)) for op in seen.changes[-TOLD:]]
        answer += f"; it was made by operation {made}"
        answer += _writers(seen)
        chain += [
            _reaches(topic, n, ends[n], seen.last.get(n), facts) for n in range(min(total, TOLD))
        ]
    else:
        unknown.append("who made it and who wrote to it: that is in a log, and none is here")
        chain += [_reaches(topic, n, ends[n], None, facts) for n in range(min(total, TOLD))]
    if total > TOLD:
        unknown.append(f"{total - TOLD} further partitions: `yak topic describe {topic}` has all")
    readers = [_reader(group, topic, ends, facts) for group in _readers(topic, facts)]
    chain += readers
    if not readers:
        answer += "; no group reads it"
    return explanation(f"topic {topic}", answer, chain, facts, unknown)


def _changed(op: ops.Op) -> str:
    match op:
        case ops.CreateTopic():
            config = "".join(f", {name}={value}" for name, value in op.config.items())
            return (
                f"topic {op.topic} was made, with {counted(op.partitions, 'partition')}{config}; "
                "the log does not say who asked"
            )
        case ops.DeleteTopic():
            return f"topic {op.topic} was deleted"
        case ops.CreatePartitions():
            return f"it has {counted(op.partitions, 'partition')} from then on"
        case ops.AlterTopic():
            config = ", ".join(f"{name}={value}" for name, value in op.config.items())
            return f"its settings are {config or 'the defaults'} from then on"
        case ops.Trim():
            return f"{op.topic}/{op.partition} begins at {op.before} from then on"
        case _:
            raise AssertionError(op)


def _writers(seen: TopicSeen) -> str:
    told = [
        f"{counted(count, 'record')} by {client or 'clients without a name'} "
        f"(the last at {moment(time)})"
        for client, (count, time) in sorted(seen.writers.items(), key=lambda one: -one[1][0])
    ]
    return f"; the log here has {joined(told, 4)}" if told else "; the log here has no record of it"


def _reaches(
    topic: str, partition: int, ends: tuple[int, int], last: ops.Append | None, facts: Facts
) -> Cause:
    start, end = ends
    what = f"{topic}/{partition} begins at {start}, and the next offset is {end}"
    if last is None:
        return Cause(kind="partition", source=told_by(facts), what=what)
    what += f": operation {last.index} wrote the last {counted(last.count, 'record')}"
    return of_log(last, "partition", what)


def _readers(topic: str, facts: Facts) -> list[str]:
    state = facts.log.state if facts.log is not None else None
    found = {
        name
        for name, answer in facts.groups.items()
        if any(row.topic == topic for row in answer.partitions)
    }
    for name, group in state.groups.items() if state is not None else ():
        assert state is not None
        wheres = {tp for tp in group.owners if tp[0] == topic}
        if wheres or any(tp[0] == topic and name in by for tp, by in state.acked.items()):
            found.add(name)
    return sorted(found)[:TOLD]


def _reader(group: str, topic: str, ends: Sequence[tuple[int, int]], facts: Facts) -> Cause:
    lag = 0
    members = set()
    for partition, (start, end) in enumerate(ends):
        acked, _, member = stand(group, (topic, partition), facts)
        lag += max(0, end - max(start, acked or 0))
        members |= {member} if member else set()
    who = f"{joined(sorted(members), 4)} read it" if members else "no member reads it now"
    behind = f"has {counted(lag, 'record')} yet to acknowledge" if lag else "has acknowledged all"
    what = f"group {group} {behind}; {who}"
    return Cause(kind="group", source=told_by(facts), what=what)
