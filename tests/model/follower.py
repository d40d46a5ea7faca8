"""The steps of a follower: it agrees where the logs part, copies, acknowledges, learns C."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.coordinator import Step
from tests.model.rules import Scene
from tests.model.state import LEADER, Broker, State, Violation, epoch_of, link


def steps(scene: Scene, s: State, f: int) -> Iterator[Step]:
    me = s.brokers[f]
    for lead, ld in enumerate(s.brokers):
        if lead == f or not ld.up or ld.role != LEADER or ld.cluster != me.cluster:
            continue
        mine = ld.ep == me.ep and me.ldr == lead
        if not mine and (scene.on("fence_follower") or ld.ep > me.ep):
            continue
        if me.synced == link(lead, ld.inc):
            yield from _copies(scene, s, f, lead)
        else:
            yield from _agrees(scene, s, f, lead)


def _both(s: State, f: int, me: Broker, lead: int, ld: Broker) -> State:
    brokers = list(s.brokers)
    brokers[f], brokers[lead] = me, ld
    return replace(s, brokers=tuple(brokers))


def _acked(ld: Broker, f: int, inc: int, position: int) -> Broker:
    match = list(ld.match)
    match[f] = (position, inc)
    return replace(ld, match=tuple(match))


def _agrees(scene: Scene, s: State, f: int, lead: int) -> Iterator[Step]:
    """A new connection: where do the logs part?"""
    me, ld = s.brokers[f], s.brokers[lead]
    if not scene.on("verified_commit"):
        c = min(ld.commit, len(me.log))
        if c > me.commit:
            early = _both(s, f, replace(me, commit=c), lead, ld)
            yield f"b{f} takes {c} as committed before it truncates", early
    keeps = _agreed(scene, me, ld)
    if keeps < me.commit:
        raise Violation(f"b{f} truncates what it had shown to consumers")
    cut = replace(me, log=me.log[:keeps], dur=min(me.dur, keeps), synced=link(lead, ld.inc))
    position = 0 if scene.always else keeps
    if not scene.on("match_reset"):
        position = max(position, ld.match[f][0])
    after = _both(s, f, cut, lead, _acked(ld, f, me.inc, position))
    yield f"b{f} truncates to {keeps} and follows b{lead}'s log", after


def _agreed(scene: Scene, me: Broker, ld: Broker) -> int:
    if not scene.on("truncate"):
        return len(me.log)
    if not scene.on("truncate_epoch"):
        return min(me.commit, len(me.log))
    if not scene.on("truncate_deep"):
        return _last_epoch_only(me.log, ld.log)
    return common_prefix(me.log, ld.log)


def common_prefix(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """As far as the epochs are the same: more a follower cannot compare."""
    n = 0
    for x, y in zip(one, other, strict=False):
        if epoch_of(x) != epoch_of(y):
            break
        n += 1
    return n


def _last_epoch_only(mine: tuple[int, ...], its: tuple[int, ...]) -> int:
    """Where my last epoch ends there; what lies below is taken on trust."""
    if not mine:
        return 0
    return min(len(mine), sum(1 for one in its if epoch_of(one) <= epoch_of(mine[-1])))


def _copies(scene: Scene, s: State, f: int, lead: int) -> Iterator[Step]:
    me, ld = s.brokers[f], s.brokers[lead]
    c = min(ld.commit, len(me.log))
    if len(ld.log) > len(me.log):
        log = (*me.log, ld.log[len(me.log)])
        c = max(me.commit, min(ld.commit, len(log)))
        told = ld if scene.always else _acked(ld, f, me.inc, len(log))
        after = _both(s, f, replace(me, log=log, commit=c), lead, told)
        yield f"b{f} copies entry {len(log)} from b{lead}", after
    elif c > me.commit:
        after = _both(s, f, replace(me, commit=c), lead, ld)
        yield f"b{f} learns from b{lead} that {c} is committed", after
    has = len(me.log)
    if scene.always and ld.match[f] != (has, me.inc):
        acked = _acked(ld, f, me.inc, has)
        after = _both(s, f, replace(me, dur=has), lead, acked)
        yield f"b{f} syncs, and acknowledges {has} to b{lead}", after
        if not scene.on("ack_durable"):
            after = _both(s, f, me, lead, acked)
            yield f"b{f} acknowledges {has} to b{lead} without a sync", after
