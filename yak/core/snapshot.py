"""State as plain values: what a checkpoint holds of it, and State made again from that.

    state.copy()          cheap: shares every value, since they are immutable
    describe(copy)        plain lists and numbers, which may be encoded anywhere, also in a thread
    restore(snapshot)     an equal State: the rule "replay equals what was" rests on it

What follows from something else is left out: a producer's `written` from its sequences, a group's
`moving` from its owners, the end of a partition in which nothing was written.

A row is nothing to the garbage collector, and shares what State shares: a hundred thousand of them
are made beside a broker that answers, and looking through them would hold it up.

It knows no files, and no form but msgspec's.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any, TypeAlias

import msgspec

from yak.core.ops import Owner
from yak.core.state import Batch, Group, Member, Ownership, Producer, SequenceKey, State, Topic

#: sequence, count, offset, time, index
BatchRow: TypeAlias = tuple[int, int, int, int, int]


class TopicRow(msgspec.Struct, frozen=True, gc=False):
    topic_id: str
    partitions: int
    config: Mapping[str, Any]
    created: int


class ProducerRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    client: str
    topics: tuple[str, ...]
    gone_ms: int | None = None


class MemberRow(msgspec.Struct, frozen=True, gc=False):
    client: str
    topics: tuple[str, ...]
    session_ms: int


class GroupRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    generation: int = 0
    members: dict[str, MemberRow] = {}
    owners: list[Owner] = []


class Snapshot(msgspec.Struct, kw_only=True):
    """State at `index`.

    offsets: [topic, partition, next offset, log start] where either is above 0.
    sequences: [producer, topic, partition, its last batches].
    acked: [topic, partition, {group: the next offset that it wants}].
    """

    index: int
    epoch: int
    time: int
    next_producer: int
    topics: dict[str, TopicRow]
    offsets: list[tuple[str, int, int, int]]
    producers: dict[int, ProducerRow]
    sequences: list[tuple[int, str, int, list[BatchRow]]]
    groups: dict[str, GroupRow]
    acked: list[tuple[str, int, Mapping[str, int]]]


def describe(state: State) -> Snapshot:
    """Plain values for State."""
    return Snapshot(
        index=state.index,
        epoch=state.epoch,
        time=state.time,
        next_producer=state.next_producer,
        topics={
            name: TopicRow(t.topic_id, t.partitions, t.config, t.created)
            for name, t in state.topics.items()
        },
        offsets=[
            (*tp, end, state.starts.get(tp, 0))
            for tp, end in state.ends.items()
            if end or tp in state.starts
        ],
        producers={
            number: ProducerRow(p.client, p.topics, p.gone_ms)
            for number, p in state.producers.items()
        },
        sequences=[
            (*key, [(b.sequence, b.count, b.offset, b.time, b.index) for b in batches])
            for key, batches in state.sequences.items()
        ],
        groups={name: _describe_group(group) for name, group in state.groups.items()},
        acked=[(*tp, by) for tp, by in state.acked.items()],
    )


def _describe_group(group: Group) -> GroupRow:
    return GroupRow(
        generation=group.generation,
        members={
            name: MemberRow(one.client, one.topics, one.session_ms)
            for name, one in group.members.items()
        },
        owners=[(*tp, o.owner, o.holder, o.since) for tp, o in group.owners.items()],
    )


def restore(snapshot: Snapshot) -> State:
    """The State that was described."""
    state = State()
    state.index, state.epoch = snapshot.index, snapshot.epoch
    state.time, state.next_producer = snapshot.time, snapshot.next_producer
    for name, topic in snapshot.topics.items():
        state.topics[name] = Topic(topic.topic_id, topic.partitions, topic.config, topic.created)
        for partition in range(topic.partitions):
            state.ends[name, partition] = 0
    for topic_name, partition, end, start in snapshot.offsets:
        state.ends[topic_name, partition] = end
        if start:
            state.starts[topic_name, partition] = start
    _restore_producers(state, snapshot)
    for name, row in snapshot.groups.items():
        state.groups[name] = _restore_group(row)
    for topic_name, partition, by in snapshot.acked:
        state.acked[topic_name, partition] = by
    return state


def _restore_producers(state: State, snapshot: Snapshot) -> None:
    written: dict[int, list[SequenceKey]] = {}
    for number, topic, partition, batches in snapshot.sequences:
        key = (number, intern(topic), partition)
        state.sequences[key] = tuple(Batch(*batch) for batch in batches)
        written.setdefault(number, []).append(key)
    for number, row in snapshot.producers.items():
        topics = tuple(map(intern, row.topics))
        wrote = tuple(written.get(number, ()))
        state.producers[number] = Producer(intern(row.client), topics, row.gone_ms, wrote)


def _restore_group(row: GroupRow) -> Group:
    members = {
        name: Member(one.client, tuple(one.topics), one.session_ms)
        for name, one in row.members.items()
    }
    owners = {(t, p): Ownership(owner, holder, at) for t, p, owner, holder, at in row.owners}
    moving = frozenset(tp for tp, o in owners.items() if o.holder is not None)
    return Group(row.generation, members, owners, moving)
