"""The steps of yak-zk: it elects, takes brokers in, changes the ISR, declares dead, restarts.

An election is as in yak/core/election.py: the lowest whole member of the ISR that is there; where
there is none, and all of it has joined, the torn one whose log ends furthest.  The dead leave the
ISR with it, down to the floor, the lowest of them last.

A model, so: it elects when it gets to it, hears of a death when it gets to it, and has no clock.
What a clock would forbid (to declare a leader dead before its lease has run out) is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.rules import Scene, document
from tests.model.state import (
    DAMAGED,
    IDLE,
    LEADER,
    NOBODY,
    NOT_TOLD,
    PRESUMED,
    STATES,
    TORN,
    UNCLEAN,
    WHOLE,
    Broker,
    Change,
    State,
    Zk,
    end_of,
    holds_lease,
    members,
    put,
)

#: What happened, and the state after it.
Step = tuple[str, State]


def steps(scene: Scene, s: State) -> Iterator[Step]:
    yield from elections(scene, s)
    yield from _deaths(scene, s)
    for change in s.changes:
        yield from isr_change(scene, s, change)
    yield from _stops(scene, s)


# -- Elections ------------------------------------------------------------------------------------


def elections(scene: Scene, s: State) -> Iterator[Step]:
    zk = s.zk
    if zk.leader != NOBODY or zk.epoch >= scene.epochs:
        return
    for i in _electable(scene, zk):
        isr = zk.isr | 1 << i if zk.epoch else 1 << i
        isr = _without_dead(scene, zk, isr)
        after = replace(
            zk,
            epoch=zk.epoch + 1,
            leader=i,
            isr=isr,
            sus=put(zk.sus, i, WHOLE),
            ends=(NOT_TOLD,) * scene.n if scene.on("settled") else zk.ends,
        )
        if zk.epoch == 0:
            after = replace(after, disks=put(zk.disks, i, s.brokers[i].disk))
        yield f"yak-zk elects b{i} for epoch {after.epoch}", replace(s, zk=after)


def _electable(scene: Scene, zk: Zk) -> list[int]:
    """Who may be elected now.  More than one only where one of them may have resigned."""
    there = [i for i in range(scene.n) if zk.live[i] > 0]
    if zk.epoch == 0 or not scene.on("elect_isr"):
        return there[:1]
    whole = [i for i in there if zk.isr >> i & 1 and zk.sus[i] == WHOLE]
    if whole:
        return whole if scene.left.resigns else whole[:1]
    return _torn(scene, zk, there)


def _torn(scene: Scene, zk: Zk, there: list[int]) -> list[int]:
    """The torn one that is elected, if it is the moment."""
    unknown = [i for i in members(zk.isr, scene.n) if i not in there or zk.ends[i] == NOT_TOLD]
    if unknown and scene.on("torn_all"):
        return []
    torn = [i for i in there if zk.isr >> i & 1 and zk.sus[i] == TORN]
    if not scene.on("torn_furthest"):
        return torn[:1]
    return sorted(torn, key=lambda i: (-zk.ends[i], i))[:1]


def _without_dead(scene: Scene, zk: Zk, isr: int) -> int:
    dead = [i for i in members(isr, scene.n) if zk.live[i] == 0]
    room = max(0, isr.bit_count() - scene.min_isr) if scene.on("drop_dead") else len(dead)
    for i in sorted(dead, reverse=True)[:room]:
        isr &= ~(1 << i)
    return isr


# -- Joins ----------------------------------------------------------------------------------------


def join(scene: Scene, s: State, i: int) -> Iterator[Step]:
    """A broker joins, or says anew where its log ends."""
    zk, broker = s.zk, s.brokers[i]
    if zk.live[i] == broker.inc:
        end = end_of(broker.log)
        if scene.tells and _knows_nobody_leads(zk, broker) and end != zk.ends[i]:
            after = replace(zk, ends=put(zk.ends, i, end))
            yield f"b{i} tells yak-zk where its log ends", replace(s, zk=after)
        return
    if scene.on("bootstrap") and _belongs_elsewhere(zk, broker):
        return
    severity = _suspicion(scene, zk, i, broker)
    leader = zk.leader
    resumes = broker.role == LEADER and broker.ep == zk.epoch
    if leader == i and ((not resumes and scene.on("new_epoch")) or severity):
        leader = NOBODY
    after = replace(
        zk, live=put(zk.live, i, broker.inc), sus=put(zk.sus, i, severity), leader=leader
    )
    if scene.tells:
        after = replace(after, ends=put(zk.ends, i, _end_told(scene, after, broker)))
    taken = replace(broker, mark=WHOLE, cluster=zk.cluster, old=0)
    said = f", {STATES[severity]}" if severity else ""
    yield f"b{i} joins{said}", replace(s, zk=after, brokers=put(s.brokers, i, taken))


def _knows_nobody_leads(zk: Zk, broker: Broker) -> bool:
    """So its log does not grow any more."""
    return zk.leader == NOBODY and broker.role == IDLE


def _end_told(scene: Scene, zk: Zk, broker: Broker) -> int:
    if scene.on("settled") and not _knows_nobody_leads(zk, broker):
        return NOT_TOLD
    return end_of(broker.log)


def _belongs_elsewhere(zk: Zk, broker: Broker) -> bool:
    """Its log is not of this cluster, or of an epoch that this yak-zk never gave."""
    if broker.cluster and broker.cluster != zk.cluster:
        return True
    return bool(broker.log) and (not broker.cluster or zk.epoch == 0)


def _suspicion(scene: Scene, zk: Zk, i: int, broker: Broker) -> int:
    """How this broker is not whole."""
    said = broker.mark
    for state, rule in ((TORN, "torn_out"), (UNCLEAN, "unclean_out"), (DAMAGED, "damaged_out")):
        if said == state and not scene.on(rule):
            said = WHOLE
    if zk.isr >> i & 1 and zk.disks[i] != broker.disk and scene.on("other_disk"):
        said = DAMAGED
    if broker.old and scene.on("older_copy"):
        said = max(said, UNCLEAN)
    return max(said, zk.sus[i]) if scene.on("suspect_stays") else said


# -- Deaths ---------------------------------------------------------------------------------------


def _deaths(scene: Scene, s: State) -> Iterator[Step]:
    zk = s.zk
    for i in range(scene.n):
        holds = holds_lease(s.brokers[i])
        if zk.live[i] == PRESUMED and not holds:
            yield f"yak-zk has not heard of b{i} since it started", _dead(s, i)
        waits = holds and scene.on("lease") and scene.on("death_check")
        if zk.live[i] > 0 and s.left.expiries and not waits:
            spent = replace(s.left, expiries=s.left.expiries - 1)
            yield f"yak-zk takes b{i} for dead", replace(_dead(s, i), left=spent)
    if zk.leader != NOBODY and s.left.resigns:
        lead, leader = zk.leader, s.brokers[zk.leader]
        if (
            leader.up
            and leader.role == LEADER
            and leader.ep == zk.epoch
            and zk.live[lead] == leader.inc
        ):
            yield f"b{lead} resigns, or the lead is taken from it", _resigned(scene, s, lead)


def _dead(s: State, i: int) -> State:
    zk = s.zk
    leader = NOBODY if zk.leader == i else zk.leader
    return replace(s, zk=replace(zk, live=put(zk.live, i, 0), leader=leader))


def _resigned(scene: Scene, s: State, lead: int) -> State:
    """A leader is replaced while it lives, and does not know it yet."""
    mine = s.brokers[lead].lease << lead if scene.on("deposed") else 0
    deposed = s.zk.deposed | mine if scene.on("deposed_all") else mine
    left = replace(s.left, resigns=s.left.resigns - 1)
    return replace(s, zk=replace(s.zk, leader=NOBODY, deposed=deposed), left=left)


# -- ISR changes ----------------------------------------------------------------------------------


def isr_change(scene: Scene, s: State, change: Change) -> Iterator[Step]:
    """It is accepted or refused; which of the two, its leader learns when it sees the document."""
    zk = s.zk
    epoch, lead, sign, f, inc = change
    rest = tuple(one for one in s.changes if one is not change)
    good = (epoch == zk.epoch and lead == zk.leader) or not scene.on("fence_zk")
    if sign > 0:
        good = good and (zk.live[f] == inc or not scene.on("expand_inc"))
        after = replace(
            zk,
            isr=zk.isr | 1 << f,
            sus=put(zk.sus, f, WHOLE),
            disks=put(zk.disks, f, s.brokers[f].disk),
        )
        what = f"makes b{f} a member of the ISR"
    else:
        isr = zk.isr & ~(1 << f)
        good = good and isr.bit_count() >= (scene.min_isr if scene.on("floor") else 1)
        if good and zk.deposed >> f & 1:
            return  # it is refused until the lease is over, and asked again until then
        after = replace(zk, isr=isr)
        what = f"takes b{f} out of the ISR"
    if good:
        yield f"yak-zk {what}, as b{lead} proposed", replace(s, zk=after, changes=rest)
    else:
        yield f"yak-zk refuses an ISR change of b{lead}", replace(s, changes=rest)


# -- Its own stops --------------------------------------------------------------------------------


def _stops(scene: Scene, s: State) -> Iterator[Step]:
    zk, n = s.zk, scene.n
    if s.left.zk_restarts:
        left = replace(s.left, zk_restarts=s.left.zk_restarts - 1)
        yield "yak-zk restarts", replace(s, zk=_restarted(scene, zk), left=left)
    if s.left.zk_losses:
        left = replace(s.left, zk_losses=s.left.zk_losses - 1)
        nothing = (0,) * n
        new = Zk(0, NOBODY, 0, nothing, nothing, nothing, (NOT_TOLD,) * n, cluster=zk.cluster + 1)
        yield "yak-zk loses its document, and begins anew", replace(s, zk=new, left=left)
    if not scene.on("zk_durable") and document(zk) != zk.saved:
        yield "yak-zk writes its document", replace(s, zk=replace(zk, saved=document(zk)))


def _restarted(scene: Scene, zk: Zk) -> Zk:
    """It knows its document, and no session."""
    n = scene.n
    if not scene.on("zk_durable"):
        kept = dict(zip(("epoch", "leader", "isr", "sus", "disks"), zk.saved, strict=True))
        zk = replace(zk, **kept)
    zk = replace(zk, ends=(NOT_TOLD,) * n)
    if not scene.on("deposed_restart"):
        zk = replace(zk, deposed=0)
    if not scene.on("zk_grace"):
        return replace(zk, live=(0,) * n, leader=NOBODY)
    presumed = tuple(PRESUMED if zk.isr >> i & 1 else 0 for i in range(n))
    return replace(zk, live=presumed)
