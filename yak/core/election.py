"""The coordinator's brain: who leads, in which epoch, with whom in sync.  Pure functions.

The *document* is all that the cluster has agreed on; `state.json` holds it, and one day
ZooKeeper or etcd could.  A rule takes a document and returns the next one:

    take_in     a broker joins: core/joins.py
    change_isr  the leader proposes an ISR: a compare-and-set
    vacate      the leader gives up its epoch
    decide      after anything that happened: is a leader missing, and who is it?

The rules carry the names that they have in the design: `bootstrap`, `elect_isr`, `drop_dead`,
`new_epoch`, `floor`, `fence_zk`, `expand_inc`, `torn`, `settled`, `not_whole`, `cooldown`.

* A broker is *whole* unless it is in `suspects`.  How it becomes one is told in joins.py.  It is
  whole again when the leader proposes an ISR that names its incarnation, or when a torn one
  is elected: what it holds then is what the cluster holds.
* Nobody leads without an epoch of its own; an epoch has one leader, for good.
* `version` is the caller's: it counts what was written down.

What it does not do: it knows no sessions, time-outs or connections (core/coordinator.py), and
never makes a damaged or unclean broker leader; an operator may (core/orders.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from yak import messages as m
from yak.core.document import (
    ELECTIONS_REMEMBERED,
    Document,
    Liveness,
    Present,
    Replica,
)
from yak.core.events import Tell
from yak.errors import Refused

# -- The leader proposes an ISR, or resigns -------------------------------------------------------


def change_isr(
    document: Document, broker: int, request: m.ProposeIsr, present: Mapping[int, Present]
) -> tuple[Document, list[Tell]]:
    """The document with the proposed ISR.  Raises Refused, which is a definite no."""
    _check_fence(document, broker, request)
    before, after = set(document.isr_ids), set(request.isr)
    if broker not in after:
        raise Refused("INVALID_REQUEST", f"isr: the leader, {broker}, is always in sync")
    _check_floor(document, before, after)
    named = _check_incs(document, before, request, present)
    disks = {r.id: r.disk for r in document.isr} | {i: present[i].disk for i in named}
    changed = replace(
        document,
        isr=tuple(Replica(i, disks[i]) for i in sorted(after)),
        suspects={i: s for i, s in document.suspects.items() if i not in named},
    )
    if changed == document:
        return document, []
    fields: dict[str, Any] = {"epoch": document.epoch, "leader": broker, "isr": sorted(after)}
    parts = {
        "caught up": after - before,
        "left behind": before - after,
        "whole again": named & set(document.suspects),
    }
    said = [f"{what}: {', '.join(map(str, sorted(who)))}" for what, who in parts.items() if who]
    return changed, [Tell("isr_changed", {**fields, "reason": "; ".join(said)})]


def _check_fence(document: Document, broker: int, request: m.ProposeIsr) -> None:
    """fence_zk: only from the sitting leader, and only on top of what it has seen."""
    if document.leader != broker or request.epoch != document.epoch:
        raise Refused(
            "STALE_EPOCH",
            f"broker {broker} proposes an ISR for epoch {request.epoch}, but broker "
            f"{document.leader} leads epoch {document.epoch}",
        )
    if request.version != document.version:
        raise Refused(
            "STALE_EPOCH",
            f"the proposal builds on version {request.version}, the document is at "
            f"{document.version}: look at it again",
        )


def _check_floor(document: Document, before: set[int], after: set[int]) -> None:
    """floor: nobody is dropped if that leaves fewer than min_insync_replicas."""
    floor = document.settings.min_insync_replicas
    if before - after and len(after) < floor:
        raise Refused(
            "NOT_ENOUGH_REPLICAS",
            f"dropping {sorted(before - after)} would leave {len(after)} in sync, "
            f"--min-insync-replicas is {floor}",
        )


def _check_incs(
    document: Document, before: set[int], request: m.ProposeIsr, present: Mapping[int, Present]
) -> set[int]:
    """expand_inc: who enters or becomes whole does so as the very process that caught up."""
    named = set()
    for broker in request.isr:
        inc = request.incs.get(str(broker))
        if inc is None and broker in before:
            continue
        live = present.get(broker)
        if live is None or live.inc != inc:
            runs = "has no session" if live is None else f"runs as incarnation {live.inc}"
            raise Refused(
                "STALE_EPOCH",
                f"the proposal names incarnation {inc} of broker {broker}, which {runs}",
            )
        named.add(broker)
    return named


def vacate(document: Document, broker: int, epoch: int) -> Document:
    """The leader resigns.  Raises Refused where it no longer leads that epoch."""
    if document.leader != broker or document.epoch != epoch:
        raise Refused(
            "STALE_EPOCH",
            f"broker {broker} resigns from epoch {epoch}, but broker {document.leader} leads "
            f"epoch {document.epoch}",
        )
    return replace(document, leader=None, leader_inc="")


# -- Who leads ------------------------------------------------------------------------------------


def decide(
    document: Document, alive: Liveness, now_ms: int, why: str = ""
) -> tuple[Document, list[Tell]]:
    """Give a cluster without a leader one, if the rules allow it.

    now_ms: wall time, for the record.  why: how the leader was lost, if the caller knows.
    It is called after everything that happens, and returns the same document if all is well.
    """
    if document.epoch == 0:
        return _bootstrap(document, alive, now_ms)
    if document.leader is not None:
        why = _lost(document, document.leader, alive)
        if not why:
            return document, []
        document = replace(document, leader=None, leader_inc="")
    chosen = choose(document, alive)
    if chosen is None:
        if not why:
            return document, []
        return record(document, now_ms, f"{why}; {_nobody(document, alive)}", "vacated")
    broker, merit = chosen
    dropped = drop_dead(document, alive)
    reason = "; ".join(part for part in (why, f"broker {broker} is {merit}") if part)
    if dropped:
        reason += f"; dropped from the ISR, as dead: {', '.join(map(str, sorted(dropped)))}"
    return enthrone(document, alive, broker, dropped, now_ms, reason)


def _bootstrap(document: Document, alive: Liveness, now_ms: int) -> tuple[Document, list[Tell]]:
    """bootstrap: the first epoch is that of the lowest id present, with itself in sync.

    take_in let only empty directories come this far, so whoever it is lacks nothing.
    """
    if not alive.bootstrap or not alive.present:
        return document, []
    first = min(alive.present)
    document = replace(document, isr=(Replica(first, alive.present[first].disk),))
    reason = f"a new cluster; broker {first} is the lowest id present"
    return enthrone(document, alive, first, frozenset(), now_ms, reason)


def _lost(document: Document, leader: int, alive: Liveness) -> str:
    """Why the sitting leader no longer leads; "" while it does."""
    session = alive.present.get(leader)
    if session is None:
        # zk_grace: not heard of since the restart is not dead.
        if leader in alive.presumed:
            return ""
        return f"leader {leader} is gone: {alive.gone.get(leader, 'it did not come back')}"
    # new_epoch: another process has forgotten what this epoch's leader promised.
    if session.inc != document.leader_inc:
        return f"leader {leader} was restarted"
    # not_whole
    if leader in document.suspects:
        return f"leader {leader} is not whole: {document.suspects[leader].why}"
    return ""


def choose(document: Document, alive: Liveness) -> tuple[int, str] | None:
    """Who leads next, and by what right."""
    members = document.isr_ids
    # elect_isr, not_whole: only who surely holds all that was acknowledged.
    whole = [i for i in members if i in alive.present and i not in document.suspects]
    # cooldown: who resigned comes last, and not in the same breath.
    electable = [i for i in whole if i not in alive.cooling]
    if electable:
        return min(electable), "the lowest live in-sync id"
    if whole:
        rested = [i for i in whole if i not in alive.resting]
        return (min(rested), "the only one electable, though it resigned") if rested else None
    # torn: a log cut short still holds all that was acknowledged if no other goes further;
    # so all must have joined, as one of the absent might.
    # settled: and said where their logs end since they follow and lead no more.
    if not all(i in alive.present and i not in alive.unsettled for i in members):
        return None
    torn = [i for i in members if document.suspects[i].state == "torn"]
    if not torn:
        return None
    best = max(torn, key=lambda i: (alive.present[i].end, -i))
    return best, f"the one whose torn log ends furthest, at {list(alive.present[best].end)}"


def drop_dead(document: Document, alive: Liveness) -> frozenset[int]:
    """drop_dead: dead members leave the ISR with the election, down to the floor.

    The lowest ids among the dead stay.  zk_grace: the unheard-of are not dead.
    """
    members = document.isr_ids
    dead = [i for i in members if i not in alive.present and i not in alive.presumed]
    room = max(0, len(members) - document.settings.min_insync_replicas)
    return frozenset(sorted(dead, reverse=True)[:room])


def _nobody(document: Document, alive: Liveness) -> str:
    """Why nobody can be elected, and what would help."""
    waits = []
    for broker in document.isr_ids:
        if broker not in alive.present:
            waits.append(f"{broker} is not there")
        elif broker in document.suspects:
            waits.append(f"{broker} is {document.suspects[broker].state}")
        else:
            waits.append(f"{broker} has just resigned")
    order = any(i in document.suspects for i in document.isr_ids)
    return f"no in-sync broker is electable ({', '.join(waits)}): start one that is whole" + (
        ", or look at `yak zk elect`" if order else ""
    )


def enthrone(
    document: Document,
    alive: Liveness,
    broker: int,
    dropped: frozenset[int],
    now_ms: int,
    reason: str,
) -> tuple[Document, list[Tell]]:
    """new_epoch: every election begins an epoch, also for the broker that led before.

    Whoever is elected is whole from this write on: what it holds is now what the cluster holds.
    """
    document = replace(
        document,
        epoch=document.epoch + 1,
        leader=broker,
        leader_inc=alive.present[broker].inc,
        isr=tuple(replica for replica in document.isr if replica.id not in dropped),
        suspects={i: suspect for i, suspect in document.suspects.items() if i != broker},
    )
    return record(document, now_ms, reason, "elected")


def record(document: Document, now_ms: int, reason: str, event: str) -> tuple[Document, list[Tell]]:
    entry = m.Election(time=now_ms, epoch=document.epoch, leader=document.leader, reason=reason)
    document = replace(document, elections=(*document.elections, entry)[-ELECTIONS_REMEMBERED:])
    fields: dict[str, Any] = {"epoch": document.epoch, "leader": document.leader}
    return document, [Tell(event, {**fields, "isr": document.isr_ids, "reason": reason})]
