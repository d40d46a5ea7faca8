"""The steps of a leader: its lease, what clients ask, what is committed, whom it wants in the ISR.

As in yak/core/replication.py, with one ISR change under way at a time.  `lead`, the first
operation of an epoch, is left out: `start` stands for it, and nothing is served below it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.coordinator import Step
from tests.model.rules import Scene
from tests.model.state import (
    GENERATION,
    WHOLE,
    Broker,
    Change,
    Faults,
    State,
    Violation,
    entry,
    generations,
    operations,
    put,
    show,
)


def steps(scene: Scene, s: State, lead: int) -> Iterator[Step]:
    me = s.brokers[lead]
    yield from _lease(s, lead)
    if me.lease or not scene.on("lease"):
        yield from _producers(scene, s, lead)
        yield from _generations(scene, s, lead)
    if scene.always and me.dur < len(me.log):
        yield f"b{lead} syncs", _with(s, lead, replace(me, dur=len(me.log)))
    yield from _commit(scene, s, lead)
    waits = any(one[1] == lead and one[0] == me.ep for one in s.changes)
    if not waits and s.left.isr_changes:
        yield from _proposals(scene, s, lead)
    if (not waits or not scene.on("expand_keep")) and _sits(s, lead) and me.lisr != s.zk.isr:
        yield f"b{lead} learns the ISR", _with(s, lead, replace(me, lisr=s.zk.isr))


def _with(s: State, lead: int, me: Broker) -> State:
    return replace(s, brokers=put(s.brokers, lead, me))


def _sits(s: State, lead: int) -> bool:
    """It has a session, and yak-zk's document names it as what it believes to be."""
    me, zk = s.brokers[lead], s.zk
    return zk.live[lead] == me.inc and zk.leader == lead and zk.epoch == me.ep


def _lease(s: State, lead: int) -> Iterator[Step]:
    me = s.brokers[lead]
    if me.lease:
        over = _with(s, lead, replace(me, lease=0))
        if s.zk.deposed >> lead & 1:
            over = replace(over, zk=replace(s.zk, deposed=s.zk.deposed & ~(1 << lead)))
        yield f"b{lead}'s lease runs out", over
    elif _sits(s, lead):
        yield f"b{lead} renews its lease", _with(s, lead, replace(me, lease=1))


# -- What clients ask -----------------------------------------------------------------------------


def _producers(scene: Scene, s: State, lead: int) -> Iterator[Step]:
    """Each operation may come for the first time, or once more."""
    me = s.brokers[lead]
    everything = operations(me.log)
    known = everything if scene.on("dedupe_tail") else operations(me.log[: me.commit])
    for value in range(scene.values):
        told = s.acked >> value & 1
        if value in known:
            if not scene.on("dup_ack_wait") and not told:
                acked = replace(s, acked=s.acked | 1 << value)
                yield f"b{lead} answers a retransmission of {value} at once", acked
            continue
        if me.memory >> value & 1:
            if not told:
                acked = replace(s, acked=s.acked | 1 << value)
                yield f"b{lead} answers {value}, which it once had pending", acked
            continue
        before = value - scene.producers
        gap = before >= 0 and before not in everything
        if (gap and scene.on("seq_gap")) or everything.count(value) > 1:
            continue
        if len(me.log) < scene.room:
            yield f"b{lead} appends {value}", _appended(s, lead, value)


def _generations(scene: Scene, s: State, lead: int) -> Iterator[Step]:
    """A member comes or goes: the group is shared out anew."""
    me = s.brokers[lead]
    known = me.log if scene.on("pending_generations") else me.log[: me.commit]
    generation = max(generations(known), default=0) + 1
    if generation <= scene.generations and len(me.log) < scene.room:
        yield (
            f"b{lead} appends generation {generation}",
            _appended(s, lead, GENERATION + generation),
        )


def _appended(s: State, lead: int, value: int) -> State:
    me = s.brokers[lead]
    return _with(s, lead, replace(me, log=(*me.log, entry(me.ep, value))))


# -- Commit ---------------------------------------------------------------------------------------


def _commit(scene: Scene, s: State, lead: int) -> Iterator[Step]:
    me = s.brokers[lead]
    mine = me.dur if scene.always and scene.on("self_durable") else len(me.log)
    required = [i for i in range(scene.n) if me.lisr >> i & 1]
    held = sorted(mine if i == lead else me.match[i][0] for i in required)
    if len(held) < scene.min_isr:
        return
    c = held[0] if scene.on("commit_all_isr") else held[-scene.min_isr]
    if c <= me.commit:
        return
    new = me.log[:c]
    if s.gc and s.home != me.cluster:
        raise Violation(f"two clusters commit: {show(s.gc)}, and {show(new)}")
    both = min(len(new), len(s.gc))
    if new[:both] != s.gc[:both]:
        raise Violation(f"two histories are committed: {show(s.gc)} and {show(new)}")
    gc, acked = max(new, s.gc, key=len), s.acked
    for value in operations(gc):
        acked |= 1 << value
    after = replace(_with(s, lead, replace(me, commit=c)), gc=gc, acked=acked, home=me.cluster)
    yield f"b{lead} commits up to {c} in epoch {me.ep}", after


# -- ISR changes ----------------------------------------------------------------------------------


def _proposals(scene: Scene, s: State, lead: int) -> Iterator[Step]:
    me = s.brokers[lead]
    need = max(me.commit, me.start) if scene.on("expand_start") else me.commit
    spent = replace(s.left, isr_changes=s.left.isr_changes - 1)
    for f in range(scene.n):
        if f == lead:
            continue
        member = me.lisr >> f & 1
        matched, inc = me.match[f]
        if inc and matched >= need and (not member or s.zk.sus[f] != WHOLE):
            after = replace(me, lisr=me.lisr | 1 << f) if scene.on("expand_first") else me
            change = (me.ep, lead, 1, f, inc)
            yield f"b{lead} proposes to add b{f}", _proposed(s, lead, after, change, spent)
        if member and me.lisr.bit_count() > (scene.min_isr if scene.on("floor") else 1):
            after = me if scene.on("shrink_after") else replace(me, lisr=me.lisr & ~(1 << f))
            change = (me.ep, lead, -1, f, 0)
            yield f"b{lead} proposes to drop b{f}", _proposed(s, lead, after, change, spent)


def _proposed(s: State, lead: int, me: Broker, change: Change, left: Faults) -> State:
    changes = tuple(sorted((*s.changes, change)))
    return replace(_with(s, lead, me), changes=changes, left=left)
