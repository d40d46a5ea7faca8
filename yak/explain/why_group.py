"""Why a group is behind.

A group's past is in the log: who came and went, who was given what, how far was acknowledged.  What
was delivered and not acknowledged is in the leader's memory only, and said where a running cluster
was asked.

Not here: what a client does in several groups (why_client.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import UNSET

from yak.core import ops
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
from yak.explain.names import Names, told_by
from yak.model import TopicPartition

#: So many of a group's comings and goings, and of its partitions, are told.
TOLD: Final = 12


class GroupSeen(Names):
    """Who came and went, and the last acknowledgement of each partition."""

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group
        self.moves: list[ops.Op] = []
        #: How many of them there were.
        self.moved = 0
        self.acks: dict[TopicPartition, tuple[ops.Ack, int]] = {}
        self.last: dict[TopicPartition, ops.Append] = {}

    def see(self, op: ops.Op) -> None:
        super().see(op)
        match op:
            case ops.Append():
                self.last[op.topic, op.partition] = op
            case ops.Ack() if op.group == self.group:
                for topic, partition, upto in op.offsets:
                    known = self.acks.get((topic, partition))
                    if known is None or upto > known[1] or op.reset is True:
                        self.acks[topic, partition] = (op, upto)
            case ops.DeleteTopic():
                for where in [tp for tp in self.acks if tp[0] == op.topic]:
                    del self.acks[where]
            case ops.Register() | ops.Deregister() | ops.Assign() if op.group == self.group:
                self.moved += 1
                self.moves.append(op)
                del self.moves[:-TOLD]
            case _:
                pass


class _Row(NamedTuple):
    """Where a group stands in one partition."""

    where: TopicPartition
    acked: int | None
    delivered: int | None
    end: int
    lag: int
    member: str | None
    holder: str | None


def explain_group(group: str, facts: Facts) -> Explanation:
    """Raises Unexplained where there is no such group."""
    answer, log = facts.groups.get(group), facts.log
    known = sorted({*facts.groups, *(log.state.groups if log is not None else ())})
    if group not in known:
        gone = _deleted(facts)
        there = f"groups that there are: {joined(known)}" if known else "there are no groups"
        raise Unexplained(f"there is no group {group}: {gone}{there}")
    rows = _rows(group, facts)
    members = _members(group, facts)
    lag = sum(row.lag for row in rows)
    told = (
        "has acknowledged everything"
        if not lag
        else (
            f"has {counted(lag, 'record')} yet to acknowledge, in "
            f"{counted(sum(1 for row in rows if row.lag), 'partition')}"
        )
    )
    sentence = f"group {group} {told}; {_who(group, members, facts)}"
    pending = sum(max(0, row.delivered - (row.acked or 0)) for row in rows if row.delivered)
    unknown: list[str] = []
    if answer is None:
        unknown.append(
            "what was delivered and not acknowledged: the leader knows that, in its memory, and "
            "no running cluster was asked"
        )
    elif pending:
        sentence += f"; {counted(pending, 'record')} delivered and not acknowledged yet"
    chain: list[Cause] = []
    if log is not None:
        seen: GroupSeen = log.seen
        chain += [of_log(op, op.op, _move(op, seen)) for op in seen.moves]
        if seen.moved > len(seen.moves):
            unknown.append(
                f"{seen.moved - len(seen.moves)} earlier comings and goings are left out"
            )
        if log.first > 1:
            unknown.append(f"what was before operation {log.first}: the log here begins with it")
    else:
        unknown.append("how it came to this: that is in a log, and none is here")
    behind = [row for row in rows if row.lag] or rows
    chain += [cause for row in behind[:TOLD] for cause in _stands(row, members, facts)]
    if len(behind) > TOLD:
        unknown.append(f"{len(behind) - TOLD} further partitions: `yak group describe {group}`")
    return explanation(f"group {group}", sentence, chain, facts, unknown)


def _deleted(facts: Facts) -> str:
    """The operation that ended it, if the log here has one."""
    moves = facts.log.seen.moves if facts.log is not None else []
    last = moves[-1] if moves else None
    if isinstance(last, ops.Deregister) and last.reason == "deleted":
        return f"operation {last.index} deleted it at {moment(last.time)}; "
    return ""


def _rows(group: str, facts: Facts) -> list[_Row]:
    answer = facts.groups.get(group)
    if answer is not None:
        return [
            _Row(
                (one.topic, one.partition),
                one.acked,
                one.delivered,
                one.high_watermark,
                one.lag,
                one.member,
                None,
            )
            for one in answer.partitions
        ]
    assert facts.log is not None
    state = facts.log.state
    owners = state.group(group).owners
    wheres = {tp for tp, by in state.acked.items() if group in by} | set(owners)
    rows = []
    for where in sorted(wheres & set(state.ends)):
        acked, end = state.acked_by(group, where), state.ends[where]
        lag = max(0, end - max(acked or 0, state.start(where)))
        owner = owners.get(where)
        member, holder = (owner.owner or None, owner.holder) if owner else (None, None)
        rows.append(_Row(where, acked, None, end, lag, member, holder))
    return rows


def _members(group: str, facts: Facts) -> Mapping[str, str]:
    """member -> client."""
    answer = facts.groups.get(group)
    if answer is not None:
        return {one.member: one.client for one in answer.members}
    assert facts.log is not None
    members = facts.log.state.group(group).members
    return {name: one.client for name, one in members.items()}


def _who(group: str, members: Mapping[str, str], facts: Facts) -> str:
    if members:
        names = [f"{name} (client {client})" for name, client in sorted(members.items())]
        return f"its {'member is' if len(names) == 1 else 'members are'} {joined(names, 4)}"
    moves = facts.log.seen.moves if facts.log is not None else []
    left = [op for op in moves if isinstance(op, ops.Deregister) and op.member is not UNSET]
    if not left:
        return "it has no members"
    why = "it left" if left[-1].reason == "asked" else f"it {left[-1].reason}"
    return f"it has no members since {moment(left[-1].time)}, when {left[-1].member} went: {why}"


def _move(op: ops.Op, seen: GroupSeen) -> str:
    match op:
        case ops.Register():
            return (
                f"{op.member} registered as a member of group {op.group} (client {op.client}), for "
                f"{joined(op.topics, 4) if op.topics else 'no topics'}"
            )
        case ops.Deregister() if op.member is UNSET:
            return f"group {op.group} was deleted"
        case ops.Deregister():
            why = (
                "left, as it said"
                if op.reason == "asked"
                else (
                    "was silent for longer than its session: it expired"
                    if op.reason == "expired"
                    else f"is gone: {op.reason}"
                )
            )
            return f"{op.member} {why}"
        case ops.Assign():
            return f"generation {op.generation} of group {op.group}: {_shares(op)}"
        case _:
            raise AssertionError(op)


def _shares(op: ops.Assign) -> str:
    shares: dict[str, list[str]] = {}
    waits = []
    for topic, partition, owner, holder, _ in op.owners:
        shares.setdefault(owner, []).append(f"{topic}/{partition}")
        if holder:
            waits.append(f"{topic}/{partition} once {holder} lets go")
    if not op.owners:
        return "nobody is left to read anything"
    parts = [
        f"{owner or 'nobody'} reads {joined(wheres, 4)}" for owner, wheres in sorted(shares.items())
    ]
    return "; ".join(parts) + (f" ({joined(waits, 4)})" if waits else "")


def _stands(row: _Row, members: Mapping[str, str], facts: Facts) -> list[Cause]:
    """How far it has come in a partition, by which operation, and why not further."""
    name = f"{row.where[0]}/{row.where[1]}"
    seen: GroupSeen | None = facts.log.seen if facts.log is not None else None
    known = seen.acks.get(row.where) if seen is not None else None
    causes = []
    if known is not None and row.acked is not None and seen is not None:
        op = known[0]
        by = seen.by(op.group, op.member)
        causes.append(of_log(op, "ack", f"{name} was acknowledged up to {row.acked}{by}"))
    last = seen.last.get(row.where) if seen is not None else None
    if last is not None and row.lag and last.offset + last.count > (row.acked or 0):
        what = f"{name} was written up to offset {last.offset + last.count - 1}"
        causes.append(of_log(last, "append", what))
    what = f"{name}: {_lags(row, members)}"
    causes.append(Cause(kind="lag", source=told_by(facts), what=what))
    return causes


def _lags(row: _Row, members: Mapping[str, str]) -> str:
    acked = "nothing is acknowledged" if row.acked is None else f"acknowledged up to {row.acked}"
    if not row.lag:
        return f"{acked}, and that is all"
    behind = f"{acked} of {row.end}, so {counted(row.lag, 'record')} behind"
    if row.holder is not None:
        return f"{behind}: {row.member or 'nobody'} reads it once {row.holder} has let go of it"
    if row.member is None:
        return f"{behind}: no member reads it"
    if row.delivered is None:
        return f"{behind}: {row.member} reads it"
    out = row.delivered - (row.acked or 0)
    if out <= 0:
        return f"{behind}: {row.member} reads it, and has not been handed them yet"
    return (
        f"{behind}: {counted(out, 'record')} were delivered to {row.member}, which has not "
        "acknowledged them yet"
    )
