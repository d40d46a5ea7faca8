"""Where a record is, how it came there, and who has received it.

A record is in one `append` operation.  Where the log has been cut since, the partition's file still
has that operation's line; and a running broker sends it to whoever fetches.

What proves that it is committed, each for itself: a partition's file holds only what is; so does
a checkpoint; a group can acknowledge nothing else; and a running broker says how far it is.

Not here: groups and clients for their own sake (why_group.py, why_client.py).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from yak.core import ops
from yak.explain.facts import (
    Cause,
    Explanation,
    Facts,
    LogFacts,
    Unexplained,
    counted,
    explanation,
    joined,
    moment,
    named,
    of_log,
)
from yak.explain.names import Names, reach_of, stand, told_by
from yak.explain.why_leader import isr_at, who_led
from yak.model import TopicPartition


class OffsetSeen(Names):
    """The operation that holds one offset, and what was done about it since."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__()
        self.where = (topic, partition)
        self.offset = offset
        self.append: ops.Append | None = None
        self.trim: ops.Trim | None = None
        #: group -> the first acknowledgement beyond it, the last time that it was behind.
        self.acks: dict[str, ops.Ack] = {}

    def see(self, op: ops.Op) -> None:
        super().see(op)
        match op:
            case ops.Append() if (op.topic, op.partition) == self.where:
                if op.offset <= self.offset < op.offset + op.count:
                    self.append = op
            case ops.Ack():
                self._acked(op)
            case ops.Trim() if (op.topic, op.partition) == self.where:
                if self.trim is None and op.before > self.offset:
                    self.trim = op
            case ops.DeleteTopic() if op.topic == self.where[0]:
                self.append = self.trim = None
                self.acks.clear()
            case ops.Deregister() if op.reason == "deleted":
                self.acks.pop(str(op.group), None)
            case _:
                pass

    def _acked(self, op: ops.Ack) -> None:
        for topic, partition, upto in op.offsets:
            if (topic, partition) != self.where:
                continue
            if upto > self.offset:
                self.acks.setdefault(op.group, op)
            elif op.reset is True:
                self.acks.pop(op.group, None)


def explain_offset(topic: str, partition: int, offset: int, facts: Facts) -> Explanation:
    """Raises Unexplained where there is no such record."""
    where = f"{topic}/{partition}@{offset}"
    start, end = _bounds(topic, partition, facts)
    if offset >= end:
        _, ends = reach_of(topic, facts)
        there = [f"{topic}/{n}@{a} to {b - 1}" for n, (a, b) in enumerate(ends) if b > a]
        written = f"; there are {joined(there, 4)}" if there else ""
        raise Unexplained(
            f"{where} has not been written: the next offset of {topic}/{partition} is {end}"
            + written
        )
    op = _operation(facts)
    unknown: list[str] = []
    chain: list[Cause] = []
    if op is None:
        gone = "it was trimmed away, and" if offset < start else "the log begins later, and"
        unknown.append(
            f"which operation held {where}: {gone} no file or broker that was asked has it"
        )
        answer = f"{where} was written once, and "
        answer += (
            f"is forgotten: {topic}/{partition} begins at {start}"
            if offset < start
            else ("nothing here has its operation any more")
        )
    else:
        chain += _written(op, where, facts, unknown)
        answer = _where_is(op, where, facts)
    chain += _trimmed(facts)
    received = _received((topic, partition), offset, facts, unknown)
    chain += received.causes
    if offset < start and op is not None:
        answer += f"; it is forgotten since: {topic}/{partition} begins at {start}"
    answer += f"; {received.summary}"
    return explanation(where, answer, chain, facts, unknown)


def _bounds(topic: str, partition: int, facts: Facts) -> tuple[int, int]:
    """Log start and next offset.  Raises Unexplained where there is no such partition."""
    total, ends = reach_of(topic, facts)
    if partition >= total:
        raise Unexplained(
            f"topic {topic} has no partition {partition}: it has {counted(total, 'partition')}, "
            f"0 to {total - 1}"
        )
    return ends[partition]


def _operation(facts: Facts) -> ops.Append | None:
    """What holds the offset: from the log, a partition's file, or a broker."""
    for log in facts.logs:
        found: ops.Append | None = log.seen.append or log.stored
        if found is not None:
            return found
    return facts.fetched


def _written(op: ops.Append, where: str, facts: Facts, unknown: list[str]) -> list[Cause]:
    chain = []
    writer = ""
    if not isinstance(op.producer, msgspec.UnsetType):
        client, registered = _producer(op.producer, facts)
        writer = f" for producer {op.producer}" + (f" ({client})" if client else "")
        writer += f", its sequence {op.sequence}"
        if registered is not None:
            what = f"producer {op.producer} registered, as client {registered.client}"
            chain.append(of_log(registered, "register", what))
        elif client is None:
            late = "begins after it registered" if facts.logs else "would say it is not here"
            unknown.append(f"whose producer {op.producer} is: the log that {late}")
    leader = who_led(facts, op.epoch)
    by = f"broker {leader}" if leader is not None else "the leader"
    last = op.offset + op.count - 1
    span = f"the record {op.offset}" if op.count == 1 else f"records {op.offset} to {last}"
    what = (
        f"{where} is in operation {op.index}, with {span}: written by {by} in epoch {op.epoch}"
        f"{writer} ({counted(op.size, 'byte')})"
    )
    chain.append(of_log(op, "append", what))
    return chain + _committed(op, facts, unknown)


def _producer(number: int, facts: Facts) -> tuple[str | None, ops.Register | None]:
    for log in facts.logs:
        if number in log.seen.producers:
            client, registered = log.seen.producers[number]
            return client, registered
    return None, None


def _holders(op: ops.Append, facts: Facts) -> list[int]:
    """The brokers whose files, here, have this very operation."""
    return sorted(
        log.broker
        for log in facts.logs
        for found in [log.seen.append or log.stored]
        if found is not None and (found.index, found.epoch) == (op.index, op.epoch)
    )


def _committed(op: ops.Append, facts: Facts, unknown: list[str]) -> list[Cause]:
    """By what it is known that every in-sync broker had it."""
    chain = []
    stood = isr_at(facts, op.time, op.epoch)
    if stood is not None and stood.fields["isr"]:
        what = f"it counts as committed once {named(stood.fields['isr'])}, in sync then, have it"
        chain.append(
            Cause(time=op.time, epoch=op.epoch, kind="required", source="yak-zk", what=what)
        )
    else:
        unknown.append("who was in sync when it was written: yak-zk's events are not here")
    held = _holders(op, facts)
    proofs = _proofs(op, facts)
    if held:
        what = f"the files of {named(held)} hold it"
        chain.append(Cause(index=op.index, epoch=op.epoch, kind="held", source="files", what=what))
    if proofs:
        what = f"it is committed: {proofs[0]}"
        chain.append(
            Cause(index=op.index, epoch=op.epoch, kind="committed", source="files", what=what)
        )
        unknown.append(
            f"the moment at which operation {op.index} was committed: no file says that of each "
            "operation"
        )
    else:
        unknown.append(
            f"whether operation {op.index} is committed: no running broker was asked, and no file "
            "here proves it"
        )
    return chain


def _proofs(op: ops.Append, facts: Facts) -> list[str]:
    proofs = [
        f"broker {one.broker} says that all up to operation {one.committed} is"
        for one in facts.statuses.values()
        if one.committed >= op.index
    ]
    if facts.fetched is not None and facts.fetched.index == op.index:
        proofs.append("a broker gives it to readers")
    for log in facts.logs:
        if log.checkpoint >= op.index:
            proofs.append(f"broker {log.broker}'s checkpoint of operation {log.checkpoint} has it")
        if log.stored is not None and log.stored.index == op.index:
            proofs.append(f"broker {log.broker} has it in the partition's file")
    acks = facts.log.seen.acks if facts.log is not None else {}
    proofs += [f"group {group} has acknowledged it" for group in acks]
    return proofs


def _where_is(op: ops.Append, where: str, facts: Facts) -> str:
    leader = who_led(facts, op.epoch)
    by = f"broker {leader}" if leader is not None else "the leader"
    answer = f"{where} is operation {op.index}, written by {by} in epoch {op.epoch} at "
    answer += moment(op.time)
    return answer + (", and committed" if _proofs(op, facts) else "")


def _trimmed(facts: Facts) -> list[Cause]:
    trim: ops.Trim | None = facts.log.seen.trim if facts.log is not None else None
    if trim is None:
        return []
    what = (
        f"operation {trim.index} trimmed it away: {trim.topic}/{trim.partition} begins at "
        f"{trim.before} from then on"
    )
    return [of_log(trim, "trim", what)]


class _Received(NamedTuple):
    causes: list[Cause]
    summary: str


def _received(where: TopicPartition, offset: int, facts: Facts, unknown: list[str]) -> _Received:
    """Which groups have acknowledged it, and how far the others are."""
    log = facts.log
    causes: list[Cause] = []
    got, waits = [], []
    for group in sorted({*facts.groups, *(log.state.groups if log is not None else ())}):
        acked, delivered, member = stand(group, where, facts)
        if acked is None and member is None and delivered is None:
            continue  # it does not read this partition
        ack = log.seen.acks.get(group) if log is not None else None
        if acked is not None and acked > offset:
            got.append(group)
            causes.append(_ack(group, ack, acked, log, unknown))
            continue
        waits.append(group)
        stands = (
            "it has acknowledged nothing there yet"
            if acked is None
            else (f"its next offset there is {acked}")
        )
        what = f"group {group} has not acknowledged it: {stands}"
        if delivered is not None and delivered > offset:
            what += f"; it was delivered to {member or 'a member'}, which has yet to say so"
        elif member is not None:
            what += f"; {member} reads the partition, and has not been handed it yet"
        else:
            what += "; no member reads the partition"
        causes.append(Cause(kind="waits", source=told_by(facts), what=what))
    parts = [f"group {group} has acknowledged it" for group in got]
    parts += [f"group {group} has not" for group in waits]
    return _Received(causes, joined(parts, 6) if parts else "no group reads its partition")


def _ack(
    group: str, ack: ops.Ack | None, acked: int, log: LogFacts | None, unknown: list[str]
) -> Cause:
    if ack is not None:
        assert log is not None
        by = log.seen.by(group, ack.member)
        return of_log(ack, "ack", f"group {group} acknowledged it in operation {ack.index}{by}")
    begins = (
        f"the log here begins with operation {log.first}" if log is not None else ("no log is here")
    )
    unknown.append(f"who acknowledged it in group {group}, and when: {begins}")
    what = f"group {group} has acknowledged it: its next offset there is {acked}"
    return Cause(kind="ack", source="log" if log is not None else "leader", what=what)
