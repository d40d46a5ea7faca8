"""Who is behind the numbers of a log, and how far partitions and groups have come.

What a running cluster says comes before what the log here adds up to: it is newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from yak.core import ops
from yak.core.state import State
from yak.explain.facts import Facts, Unexplained, joined, moment
from yak.explain.why_leader import Leads
from yak.model import TopicPartition


class Names(Leads):
    """Who is behind the numbers that operations carry."""

    def __init__(self) -> None:
        super().__init__()
        #: producer -> its client, and the operation of its first registration, if the log has it.
        self.producers: dict[int, tuple[str, ops.Register | None]] = {}
        #: (group, member) -> its client.
        self.members: dict[tuple[str, str], str] = {}

    def begin(self, state: State) -> None:
        self.producers = {number: (one.client, None) for number, one in state.producers.items()}
        self.members = {
            (name, member): one.client
            for name, group in state.groups.items()
            for member, one in group.members.items()
        }

    def see(self, op: ops.Op) -> None:
        super().see(op)
        if isinstance(op, ops.Register):
            if not isinstance(op.producer, msgspec.UnsetType):
                known = self.producers.get(op.producer)
                if known is None or known[1] is None:
                    self.producers[op.producer] = (op.client, op)
            elif not isinstance(op.group, msgspec.UnsetType):
                self.members[op.group, str(op.member)] = op.client

    def by(self, group: str, member: Any) -> str:
        """` by c1-19 (client c1)`; from outside where no member is named."""
        if member is UNSET:
            return " from outside (a seek, or an ack without a member)"
        client = self.members.get((group, member))
        return f" by {member}" + (f" (client {client})" if client else "")


def reach_of(topic: str, facts: Facts) -> tuple[int, Sequence[tuple[int, int]]]:
    """How many partitions a topic has, and how far each reaches.  Raises Unexplained."""
    log = facts.log
    if facts.ends:
        return len(facts.ends), facts.ends
    if log is not None and topic in log.state.topics:
        wheres = log.state.topic_partitions(topic)
        return len(wheres), [(log.state.start(tp), log.state.ends[tp]) for tp in wheres]
    names = sorted({*facts.topics, *(log.state.topics if log is not None else ())})
    there = f"topics that there are: {joined(names)}" if names else "there are no topics"
    deleted = getattr(log.seen, "deleted", None) if log is not None else None
    if deleted is not None:
        there = f"operation {deleted.index} deleted it at {moment(deleted.time)}; {there}"
    raise Unexplained(f"there is no topic {topic}: {there}")


def stand(
    group: str, where: TopicPartition, facts: Facts
) -> tuple[int | None, int | None, str | None]:
    """(acknowledged up to, delivered up to, the member that reads it)."""
    answer = facts.groups.get(group)
    for row in answer.partitions if answer is not None else ():
        if (row.topic, row.partition) == where:
            return row.acked, row.delivered if row.member else None, row.member
    if answer is not None or facts.log is None:
        return None, None, None
    state = facts.log.state
    owner = state.group(group).owners.get(where)
    return state.acked_by(group, where), None, owner.held_by or None if owner else None


def told_by(facts: Facts) -> str:
    """Whose word counts for what is so now."""
    return "leader" if facts.groups or facts.ends else "log"
