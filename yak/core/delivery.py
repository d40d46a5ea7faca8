"""Which records have reached which consumer, and which have not.

`acked` is in State: the next offset that a group wants, confirmed.  `delivered` is here, in the
leader's memory only: the next offset to hand out, as the holder of a partition last reported it
in a heartbeat.  What lies between the two has been sent and not acknowledged; it is delivered
again to whoever owns the partition next.  After a change of leader, or of holder, `delivered` is
`acked` until the next report.

What a member reports of partitions that it does not hold is dropped: it may be late, and must
neither hide the holder's word nor fill this memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from yak import messages as m
from yak.core.counts import Counts
from yak.core.state import State
from yak.model import TopicPartition


class Delivery:
    """`delivered` of every group, as reported."""

    def __init__(self, counts: Counts | None = None) -> None:
        self._counts = counts or Counts()
        #: group -> partition -> (member that reported, next offset to hand out)
        self._reported: dict[str, dict[TopicPartition, tuple[str, int]]] = {}

    def report(self, state: State, group: str, member: str, delivered: Iterable[m.At]) -> None:
        """A heartbeat's `delivered`: in full, so it replaces the member's earlier one."""
        owners = state.group(group).owners
        reported = self._reported.setdefault(group, {})
        before = {tp: offset for tp, (who, offset) in reported.items() if who == member}
        for tp in before:
            del reported[tp]
        for topic, partition, offset in delivered:
            owner = owners.get((topic, partition))
            if owner is not None and owner.held_by == member:
                reported[topic, partition] = (member, offset)
                before.pop((topic, partition), None)
        self._let_go(state, group, before)

    def gone(self, state: State, group: str, member: str) -> None:
        """The member has left its group, or is taken for dead."""
        self.report(state, group, member, ())

    def _let_go(self, state: State, group: str, places: Mapping[TopicPartition, int]) -> None:
        for tp, offset in places.items():
            acked = max(state.start(tp), state.acked_by(group, tp) or 0)
            self._counts.redelivered += max(0, offset - acked)

    def forget_group(self, group: str) -> None:
        self._reported.pop(group, None)

    def delivered(self, state: State, group: str, tp: TopicPartition) -> int | None:
        """The next offset to hand out; None where nothing was delivered or acknowledged."""
        acked = state.acked_by(group, tp)
        owner = state.group(group).owners.get(tp)
        who, offset = self._reported.get(group, {}).get(tp, ("", 0))
        if owner is None or who != owner.held_by:
            return acked
        return max(offset, acked or 0)

    def describe(self, state: State, name: str) -> m.GroupAnswer:
        """The answer to `group`; an unknown group is empty."""
        group = state.group(name)
        members = [
            m.MemberEntry(
                member=member,
                client=info.client,
                generation=group.generation,
                assignment=group.assigned(member),
                topics=list(info.topics),
            )
            for member, info in sorted(group.members.items())
        ]
        known = {tp for tp, by in state.acked.items() if name in by} | set(group.owners)
        return m.GroupAnswer(
            generation=group.generation,
            members=members,
            partitions=[self._partition(state, name, tp) for tp in sorted(known & set(state.ends))],
        )

    def _partition(self, state: State, name: str, tp: TopicPartition) -> m.GroupPartition:
        acked = state.acked_by(name, tp)
        end = state.ends[tp]
        owner = state.group(name).owners.get(tp)
        return m.GroupPartition(
            topic=tp[0],
            partition=tp[1],
            acked=acked,
            delivered=self.delivered(state, name, tp),
            high_watermark=end,
            lag=end - max(state.start(tp), acked or 0),
            member=owner.held_by if owner else None,
        )
