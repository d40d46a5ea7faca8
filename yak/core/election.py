"""The coordinator's brain: who leads, in which epoch, with whom in sync.  Pure functions.

The *document* is all that the cluster has agreed on; `state.json` holds it, and one day
ZooKeeper or etcd could.  A rule takes a document and returns the next one:

    take_in     a broker joins: known or refused, and whether its log can be relied on
    change_isr  the leader proposes an ISR: a compare-and-set
    vacate      the leader gives up its epoch
    decide      after anything that happened: is a leader missing, and who is it?

The rules carry the names that they have in the design: `bootstrap`, `elect_isr`, `drop_dead`,
`new_epoch`, `floor`, `fence_zk`, `expand_inc`, `torn`, `settled`, `not_whole`, `other_disk`,
`cooldown`.

* A broker is *whole* unless it is in `suspects`.  It becomes one when it joins torn, unclean or
  damaged, or when it is in the ISR and comes with another disk; it stays one through restarts
  (its log is no better for having been reported), and with the worst of what it reported.  It
  is whole again when the leader proposes an ISR that names its incarnation, or when a torn one
  is elected: what it holds then is what the cluster holds.
* Nobody leads without an epoch of its own; an epoch has one leader, for good.
* `version` is the caller's: it counts what was written down.

What it does not do: it knows no sessions, time-outs or connections (core/coordinator.py), and
never makes a damaged or unclean broker leader; an operator may (core/orders.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from yak import messages as m
from yak.core.document import (
    ELECTIONS_REMEMBERED,
    Document,
    Known,
    Liveness,
    Present,
    Replica,
    Suspect,
)
from yak.core.events import Tell
from yak.errors import Refused

#: From "lost at most an unfinished tail" to "must not be believed".
_SEVERITY: Final[dict[m.LogState, int]] = {"whole": 0, "torn": 1, "unclean": 2, "damaged": 3}


# -- A broker joins -------------------------------------------------------------------------------


def take_in(
    document: Document, request: m.Join, live: Present | None, *, connected: bool = True
) -> tuple[Document, list[Tell]]:
    """The document with this broker in it.  Raises Refused.

    live: its session so far; connected: whether that one still has its connection.
    """
    _check_cluster(document, request)
    _check_disk(request, live, connected=connected)
    known = Known(host=request.host, port=request.port, disk=request.disk)
    before = document.brokers.get(request.broker, known)
    document = replace(document, brokers={**document.brokers, request.broker: known})
    said = []
    if before.disk != request.disk:
        fields = {"broker": request.broker, "disk": request.disk, "before": before.disk}
        said.append(Tell("other_disk", fields))
    suspect = _suspicion(document, request)
    if suspect is None:
        return document, said
    told = document.suspects.get(request.broker)
    document = replace(document, suspects={**document.suspects, request.broker: suspect})
    if told is None or (told.state, told.disk) != (suspect.state, suspect.disk):
        what = {"broker": request.broker, "state": suspect.state, "reason": suspect.why}
        said.append(Tell("not_whole", what))
    return document, said


def _check_cluster(document: Document, request: m.Join) -> None:
    """Refuse a broker whose log belongs to another cluster, or to a later state of this one."""
    broker, mine = request.broker, document.cluster
    if request.broker < 1:
        raise Refused("INVALID_REQUEST", "broker: an id is a positive integer")
    if request.cluster is not None and request.cluster != mine:
        raise Refused(
            "CLUSTER_MISMATCH",
            f"broker {broker} belongs to cluster {request.cluster}, this yak-zk keeps cluster "
            f"{mine}: give the broker the yak-zk of its own cluster, or an empty --data-dir; if "
            "that yak-zk was lost, `yak zk adopt` lets this one take its place",
        )
    # bootstrap: only empty directories form a cluster, and only they enter one without its id.
    held = request.end != (0, 0)
    if held and (request.cluster is None or document.epoch == 0):
        raise Refused(
            "CLUSTER_MISMATCH",
            f"broker {broker} (cluster {request.cluster}) holds operations up to index "
            f"{request.end[1]}, which cluster {mine} never gave it: it needs an empty --data-dir, "
            "or the yak-zk that it belongs to, or `yak zk adopt` if that one's state was lost",
        )
    newest = newest_epoch(request)
    if newest > document.epoch:
        raise Refused(
            "CLUSTER_MISMATCH",
            f"broker {broker} has taken part in epoch {newest} of cluster {mine}, this yak-zk "
            f"gave only {document.epoch}: its state.json was lost or is an older copy; bring the "
            "newest one back, or, if it is gone, look at `yak zk adopt`",
        )


def newest_epoch(request: m.Join) -> int:
    """The newest epoch that this broker knows of."""
    return max(request.epoch, request.end[0], request.seen[0])


def _check_disk(request: m.Join, live: Present | None, *, connected: bool) -> None:
    """other_disk: under an id with a live session another disk is another broker.

    One that lost its connection may be dead, only nobody knows yet: that is worth waiting for.
    """
    if live is not None and live.disk != request.disk:
        if not connected:
            raise Refused(
                "NO_LEADER",
                f"broker {request.broker} with disk {live.disk} has lost its connection, but may "
                f"live until its session ends; then disk {request.disk} can take its place",
            )
        raise Refused(
            "CLUSTER_MISMATCH",
            f"broker {request.broker} is alive with disk {live.disk}, and another one joins under "
            f"its id with disk {request.disk}: stop one of them, or give it an --id of its own",
        )


def _suspicion(document: Document, request: m.Join) -> Suspect | None:
    """not_whole: why this broker's log may lack what it once acknowledged, if it may."""
    state, why = request.state, f"it joined with its log {request.state}"
    disk = next((r.disk for r in document.isr if r.id == request.broker), request.disk)
    # other_disk: what a member of the ISR held went with its old disk.
    if disk != request.disk:
        state, why = "damaged", f"it was in sync with disk {disk} and came with {request.disk}"
    told = document.suspects.get(request.broker)
    if told is not None and _SEVERITY[told.state] >= _SEVERITY[state]:
        state, why = told.state, told.why
    if state == "whole":
        return None
    return Suspect(state=state, disk=request.disk, inc=request.inc, why=why)


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
