"""A broker joins: known or refused, and whether its log can be relied on.  Pure functions.

They take a document (core/document.py) and return the next one, as those of core/election.py; the
rules are `bootstrap`, `not_whole`, `other_disk`, `older_copy`.

* A broker becomes a *suspect* when it joins torn, unclean or damaged, when it is in the ISR and
  comes with another disk, or when its disk is an older copy of the one that was here.  It stays
  one through restarts (its log is no better for having been reported), and with the worst of what
  it reported.
* `older_copy`: a disk marks each of its runs before its join, and the orderly end of one before its
  goodbye; the marks are its *lineage*.  One without the newest mark that yak-zk has heard of is a
  copy that was made before that, however often it has started since.  What yak-zk cannot know is a
  copy of a running disk that is put back after that very run was killed.

What it does not do: who is whole again, and when, is election.py's.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from yak import messages as m
from yak.core.document import Document, Known, Present, Suspect
from yak.core.events import Tell
from yak.errors import Refused

#: From "lost at most an unfinished tail" to "must not be believed".
_SEVERITY: Final[dict[m.LogState, int]] = {"whole": 0, "torn": 1, "unclean": 2, "damaged": 3}


def take_in(
    document: Document, request: m.Join, live: Present | None, *, connected: bool = True
) -> tuple[Document, list[Tell]]:
    """The document with this broker in it.  Raises Refused.

    live: its session so far; connected: whether that one still has its connection.
    """
    _check_cluster(document, request)
    _check_disk(request, live, connected=connected)
    known = Known(request.host, request.port, request.disk, request.inc, request.mark)
    before = document.brokers.get(request.broker, known)
    document = replace(document, brokers={**document.brokers, request.broker: known})
    said = []
    if before.disk != request.disk:
        fields = {"broker": request.broker, "disk": request.disk, "before": before.disk}
        said.append(Tell("other_disk", fields))
    told = document.suspects.get(request.broker)
    suspect = _suspicion(document, request, before)
    if suspect is None:
        return document, said
    document = replace(document, suspects={**document.suspects, request.broker: suspect})
    if told is None or (told.state, told.disk) != (suspect.state, suspect.disk):
        what = {"broker": request.broker, "state": suspect.state, "reason": suspect.why}
        said.append(Tell("not_whole", what))
    return document, said


def _older_copy(before: Known, request: m.Join) -> str:
    """older_copy: yak-zk has heard of a run of this disk of which it knows nothing, so what that
    one wrote is not here.  "" if all is well.

    It is taken in with its own mark, so that the newer disk, put back in turn, is an older copy.
    """
    if request.disk != before.disk or not (before.mark and request.lineage):
        return ""
    if before.mark in request.lineage:
        return ""
    return (
        f"its directory is an older copy: it knows nothing of run {before.mark}, of which yak-zk "
        "has heard"
    )


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


def ended(document: Document, broker: int, mark: str) -> Document:
    """older_copy: this broker's directory has ended in order, and `mark` says so in its lineage.

    So a copy that was made of it before that is older, though no run has begun since.
    """
    known = document.brokers[broker]
    known = replace(known, mark=mark or known.mark)
    return replace(document, brokers={**document.brokers, broker: known})


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


def _suspicion(document: Document, request: m.Join, before: Known) -> Suspect | None:
    """not_whole: why this broker's log may lack what it once acknowledged, if it may."""
    state, why = request.state, f"it joined with its log {request.state}"
    older = _older_copy(before, request)
    if older and _SEVERITY[state] < _SEVERITY["unclean"]:
        state, why = "unclean", older
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
