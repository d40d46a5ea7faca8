"""The steps of a broker whatever its role: it dies, starts, joins, learns who leads.

kill        the page cache survives
power cut   it does not: any part of the log's end may be gone that was not synced
torn        it is killed within a write, or its disk loses the end: the rest of that is cut
damage      the log cannot be relied upon: the broker begins without it
wipe        another disk, with nothing on it, under the same id
back        an older copy of its disk: a log that it once had, before its present process
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model import coordinator, follower, leader
from tests.model.coordinator import Step
from tests.model.rules import Scene
from tests.model.state import (
    DAMAGED,
    FOLLOWER,
    IDLE,
    LEADER,
    NOBODY,
    TORN,
    UNCLEAN,
    WHOLE,
    Broker,
    State,
    operations,
    put,
)


def steps(scene: Scene, s: State, i: int) -> Iterator[Step]:
    broker = s.brokers[i]
    if not broker.up:
        started = replace(broker, up=1, inc=broker.inc + 1)
        yield f"b{i} starts again", replace(s, brokers=put(s.brokers, i, started))
        return
    yield from coordinator.join(scene, s, i)
    yield from _views(scene, s, i)
    yield from _faults(scene, s, i)
    if broker.role == LEADER:
        yield from leader.steps(scene, s, i)
    elif broker.role == FOLLOWER:
        yield from follower.steps(scene, s, i)


# -- The document arrives -------------------------------------------------------------------------


def _views(scene: Scene, s: State, i: int) -> Iterator[Step]:
    zk, broker = s.zk, s.brokers[i]
    if zk.live[i] != broker.inc:
        return
    if zk.leader == NOBODY:
        if scene.tells and broker.role != IDLE:
            idle = replace(_stepped_down(scene, broker), role=IDLE, ldr=NOBODY)
            yield f"b{i} learns that nobody leads", replace(s, brokers=put(s.brokers, i, idle))
        return
    if broker.ep > zk.epoch or (broker.ep == zk.epoch and broker.role != IDLE):
        return
    after = _stepped_down(scene, broker)
    if zk.leader == i:
        after = replace(
            after,
            role=LEADER,
            ep=zk.epoch,
            ldr=i,
            lisr=zk.isr,
            match=((0, 0),) * scene.n,
            start=len(broker.log),
            lease=1,
        )
        what = f"b{i} takes the lead in epoch {zk.epoch}"
    else:
        after = replace(after, role=FOLLOWER, ep=zk.epoch, ldr=zk.leader)
        what = f"b{i} follows b{zk.leader} in epoch {zk.epoch}"
    yield what, replace(_lease_over(s, i), brokers=put(s.brokers, i, after))


def _stepped_down(scene: Scene, broker: Broker) -> Broker:
    """What a role holds is gone with it."""
    memory = broker.memory
    if broker.role == LEADER and not scene.on("pending_drop"):
        for value in operations(broker.log[broker.commit :]):
            memory |= 1 << value
    return replace(broker, synced=0, lisr=0, match=(), start=0, lease=0, memory=memory)


def _lease_over(s: State, i: int) -> State:
    """yak-zk waits no longer for this broker's lease."""
    if not s.zk.deposed >> i & 1:
        return s
    return replace(s, zk=replace(s.zk, deposed=s.zk.deposed & ~(1 << i)))


# -- Faults ---------------------------------------------------------------------------------------


def _faults(scene: Scene, s: State, i: int) -> Iterator[Step]:
    left, broker = s.left, s.brokers[i]
    if left.kills:
        spent = replace(left, kills=left.kills - 1)
        yield f"b{i} is killed", _died(s, i, broker, spent)
        if not scene.on("marker") and broker.mark != WHOLE:
            cleared = replace(broker, mark=WHOLE)
            what = f"b{i} clears its mark, and is killed before yak-zk hears of it"
            yield what, _died(s, i, cleared, spent)
    if left.powers:
        yield from _power_cuts(scene, s, i)
    if left.tears:
        yield from _tears(s, i)
    if left.damages:
        damaged = replace(broker, log=(), dur=0, mark=DAMAGED)
        spent = replace(left, damages=left.damages - 1)
        yield f"b{i}'s log is damaged, it begins without", _died(s, i, damaged, spent)
        if not scene.on("marker_told"):
            what = f"b{i}'s log is damaged as it joins anew, and the answer takes the mark off"
            yield what, _died(s, i, replace(damaged, mark=WHOLE), spent)
    if left.wipes:
        wiped = replace(broker, log=(), dur=0, mark=WHOLE, disk=broker.disk + 1, cluster=0)
        spent = replace(left, wipes=left.wipes - 1)
        yield f"b{i}'s disk is replaced by an empty one", _died(s, i, wiped, spent)
    if left.backs:
        yield from _goes_back(s, i)


def _goes_back(s: State, i: int) -> Iterator[Step]:
    broker, spent = s.brokers[i], replace(s.left, backs=s.left.backs - 1)
    if s.zk.live[i] != broker.inc:
        return  # yak-zk has not heard of a run since the copy, so nobody can know
    for keeps in range(len(broker.log)):
        older = replace(broker, log=broker.log[:keeps], dur=min(broker.dur, keeps), old=1)
        what = f"b{i}'s disk is an older copy of it, with {keeps} of {len(broker.log)}"
        yield what, _died(s, i, older, spent)


def _power_cuts(scene: Scene, s: State, i: int) -> Iterator[Step]:
    broker, spent = s.brokers[i], replace(s.left, powers=s.left.powers - 1)
    has = len(broker.log)
    for keeps in range(broker.dur if scene.always else 0, has + 1):
        marks = [broker.mark if scene.always else max(broker.mark, UNCLEAN)]
        if scene.always and scene.tells and keeps < has:
            marks.append(max(broker.mark, TORN))
        for mark in marks:
            cut = replace(broker, log=broker.log[:keeps], dur=min(broker.dur, keeps), mark=mark)
            torn = ", torn" if mark == TORN else ""
            yield f"b{i} loses power, keeps {keeps} of {has}{torn}", _died(s, i, cut, spent)


def _tears(s: State, i: int) -> Iterator[Step]:
    broker, left = s.brokers[i], s.left
    for lost in range(min(left.cuts, len(broker.log)) + 1):
        keeps = len(broker.log) - lost
        mark = max(broker.mark, TORN)
        cut = replace(broker, log=broker.log[:keeps], dur=min(broker.dur, keeps), mark=mark)
        spent = replace(left, tears=left.tears - 1, cuts=left.cuts - lost)
        yield f"b{i} crashes, its log is torn: {lost} entries are lost", _died(s, i, cut, spent)


def _died(s: State, i: int, disk: Broker, left: object) -> State:
    """Of the broker only its disk is left."""
    dead = Broker(
        up=0,
        inc=disk.inc,
        log=disk.log,
        dur=disk.dur,
        mark=disk.mark,
        disk=disk.disk,
        cluster=disk.cluster,
        old=disk.old,
    )
    return replace(_lease_over(s, i), brokers=put(s.brokers, i, dead), left=left)
