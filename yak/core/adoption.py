"""`adopt`: this yak-zk takes over a cluster whose brokers it refused, since its state was lost.

* An adopted cluster has no leader.  Nobody knows any more who was in sync, so all its brokers
  count as torn: the rule `torn` waits until each of them has joined and said where its log ends,
  and elects the one that goes furthest.  That one has all that was acknowledged, if one member
  of the lost ISR is among them, and whole: who led later had it from one that was in sync, and
  within one epoch the longer log has the shorter one in it.  For the same reason an unclean one
  may lead here: it has at least what the others have.  A damaged one may not.
* Epochs that somebody may have seen are never given again, hence EPOCH_MARGIN.
* A refused broker is remembered with what it said, until its disk is taken in.  One that ran
  before goes on asking, and one that was started gives up: either is here to be adopted.

What it does not do: as in orders.py; nor does it elect, which is left to the rules.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from yak import messages as m
from yak.core.document import Document, Known, Liveness, Replica, Suspect
from yak.core.election import record
from yak.core.events import Tell
from yak.core.joins import newest_epoch
from yak.core.orders import End, Order, answer_of, ids, operation, plan_of
from yak.errors import Refused

#: How far above the newest epoch that any broker reports an adopted cluster goes on: more
#: elections than it can have had while all of these were away.
EPOCH_MARGIN: Final = 1000
#: Refused joins that are remembered; more brokers than one cluster has.
REFUSED_REMEMBERED: Final = 100


class Refusal(NamedTuple):
    """A join that was refused, why, and when (monotonic)."""

    request: m.Join
    why: str
    at: float


class Refusals:
    """Who was refused with CLUSTER_MISMATCH: the newest of each broker of each cluster."""

    def __init__(self) -> None:
        #: By (cluster, broker), the oldest first.
        self._known: dict[tuple[str | None, int], Refusal] = {}

    def remember(self, request: m.Join, why: str, now: float) -> bool:
        """Whether this is news: a broker that goes on asking is none."""
        key = (request.cluster, request.broker)
        old = self._known.pop(key, None)
        self._known[key] = Refusal(request, why, now)
        while len(self._known) > REFUSED_REMEMBERED:
            del self._known[next(iter(self._known))]
        return old is None or old.request.inc != request.inc

    def forget(self, request: m.Join) -> None:
        """Its disk has been taken in."""
        for key, one in list(self._known.items()):
            if (one.request.broker, one.request.disk) == (request.broker, request.disk):
                del self._known[key]

    def all(self) -> list[Refusal]:
        return sorted(self._known.values(), key=lambda one: one.request.broker)

    def entries(self, now: float) -> list[m.RefusedEntry]:
        """For yak-zk's status."""
        return [
            m.RefusedEntry(
                broker=request.broker,
                host=request.host,
                port=request.port,
                cluster=request.cluster,
                disk=request.disk,
                state=request.state,
                end=request.end,
                epoch=newest_epoch(request),
                age_ms=round((now - at) * 1000),
                why=why,
            )
            for request, why, at in self.all()
        ]


class _Candidate(NamedTuple):
    """A broker that an adopted cluster may count on.  known: where it listens, on which disk."""

    known: Known
    inc: str
    state: m.LogState
    end: End
    epoch: int
    live: bool


def adopt(
    document: Document, alive: Liveness, refusals: Refusals, request: m.Adopt, now_ms: int
) -> Order:
    """Take over the cluster of the brokers that were refused.  Raises Refused."""
    cluster = _cluster(document, refusals, request)
    _check_adoptable(document, alive, cluster)
    found = _candidates(document, alive, refusals, cluster)
    isr = sorted(found if request.isr is UNSET else set(request.isr))
    if not isr or not found.keys() >= set(isr):
        missing = ids(sorted(set(isr) - found.keys())) or "none is named"
        raise Refused(
            "INVALID_REQUEST",
            f"isr: {missing}; of cluster {cluster} have come: {ids(sorted(found))}; a broker that "
            "is to be counted on must have been started, and refused, at least once",
        )
    newest = max(document.epoch, *(one.epoch for one in found.values()))
    after = _adopted(document, cluster, newest + EPOCH_MARGIN, {i: found[i] for i in isr})
    losses = _adopt_losses(document, found, isr)
    reason = (
        f"adopted by an operator: cluster {cluster} with brokers {ids(isr)}, whose logs decide "
        f"who leads; epochs go on after {after.epoch}"
    )
    after, said = record(after, now_ms, reason, "adopted")
    decisive = [after.cluster, after.epoch, after.isr, document.epoch, document.version]
    answer = answer_of(
        after,
        plan=plan_of("adopt", *decisive),
        would=f"adopt cluster {cluster}: the leader of epoch {after.epoch + 1} is elected as soon "
        f"as brokers {ids(isr)} have all joined (start those that have ended), by whose log goes "
        "furthest",
        losses=losses,
        brokers=[
            m.OrderEntry(broker=i, live=one.live, in_sync=i in isr, state=one.state, end=one.end)
            for i, one in sorted(found.items())
        ],
    )
    ordered = Tell("ordered", {"order": "adopt", "cluster": cluster, "losses": losses})
    return Order(after, [ordered, *said], answer)


def _cluster(document: Document, refusals: Refusals, request: m.Adopt) -> str:
    """Whose brokers were refused: the one that was named, or the only one."""
    there = {one.request.cluster for one in refusals.all()} - {None}
    if not there:
        raise Refused(
            "INVALID_REQUEST",
            f"no broker of an existing cluster was refused since this yak-zk (cluster "
            f"{document.cluster}) started: start them, each is refused and remembered",
        )
    names = sorted(map(str, there))
    if request.cluster is UNSET and len(names) == 1:
        return names[0]
    if request.cluster is UNSET or request.cluster not in there:
        raise Refused(
            "INVALID_REQUEST",
            f"cluster: name the one to adopt; brokers of these were refused: {', '.join(names)}",
        )
    return request.cluster


def _check_adoptable(document: Document, alive: Liveness, cluster: str) -> None:
    if document.leader in alive.presumed - alive.present.keys():
        raise Refused(
            "NO_LEADER",
            f"yak-zk was started just now, and waits for broker {document.leader}: in a moment",
        )
    if document.leader is not None:
        raise Refused(
            "INVALID_REQUEST",
            f"broker {document.leader} leads epoch {document.epoch} here: stop it first, if this "
            "yak-zk shall take over another state of things",
        )
    if cluster == document.cluster:
        return
    if document.epoch > 0 or alive.present:
        raise Refused(
            "INVALID_REQUEST",
            f"this yak-zk keeps cluster {document.cluster}, which has brokers of its own: start "
            f"another one, with an empty --data-dir, for cluster {cluster}",
        )


def _candidates(
    document: Document, alive: Liveness, refusals: Refusals, cluster: str
) -> dict[int, _Candidate]:
    """The brokers of this cluster that have come, refused or not."""
    found = {}
    for request, _, _ in refusals.all():
        if request.cluster == cluster:
            known = Known(host=request.host, port=request.port, disk=request.disk)
            where = (known, request.inc, request.state, request.end)
            found[request.broker] = _Candidate(*where, newest_epoch(request), live=False)
    for i, present in alive.present.items() if cluster == document.cluster else ():
        state = document.suspects[i].state if i in document.suspects else "whole"
        where = (document.brokers[i], present.inc, state, present.end)
        found[i] = _Candidate(*where, max(present.end[0], present.seen[0]), live=True)
    return found


def _adopted(
    document: Document, cluster: str, epoch: int, chosen: dict[int, _Candidate]
) -> Document:
    """The document that waits for these brokers."""
    kept = document if cluster == document.cluster else replace(document, brokers={}, suspects={})
    suspects = {
        i: Suspect(
            state="damaged" if one.state == "damaged" else "torn",
            disk=one.known.disk,
            inc=one.inc,
            why=f"adopted {one.state}, and nobody knows any more whether it was in sync",
        )
        for i, one in chosen.items()
    }
    return replace(
        kept,
        cluster=cluster,
        epoch=epoch,
        isr=tuple(Replica(i, one.known.disk) for i, one in sorted(chosen.items())),
        suspects={**kept.suspects, **suspects},
        brokers={**kept.brokers, **{i: one.known for i, one in chosen.items()}},
    )


def _adopt_losses(document: Document, found: dict[int, _Candidate], isr: list[int]) -> list[str]:
    """When something may be lost, and what is known to speak for it."""
    copies = document.settings.min_insync_replicas
    said = [
        f"what was acknowledged is on at least {copies} brokers (--min-insync-replicas, if it was "
        f"the same): some of it may be lost where {copies} or more of the cluster's brokers are "
        "not among these, or not whole"
    ]
    said += [
        f"broker {i} is {found[i].state}, and counts as missing"
        for i in isr
        if found[i].state != "whole"
    ]
    furthest = max(found[i].end for i in isr)
    for i, one in sorted(found.items()):
        if i not in isr:
            more = ", further than those of all others" if one.end > furthest else ""
            said.append(f"broker {i} is left out; its log ends with {operation(one.end)}{more}")
    absent = [i for i in document.isr_ids if i not in found and document.epoch > 0]
    said += [f"broker {i} was in sync in epoch {document.epoch}, and has not come" for i in absent]
    return said
