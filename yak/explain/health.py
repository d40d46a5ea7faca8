"""How a cluster is, in one sentence.

    bad     writes wait, or nobody can say
    warn    all goes on, and something is not as it should be
    ok      all is well

Not here: what it follows from (why_leader.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from yak import messages as m
from yak.explain.facts import are, named

Level: TypeAlias = Literal["ok", "warn", "bad"]


class Health(NamedTuple):
    level: Level
    sentence: str


class Standing(NamedTuple):
    """leader, isr, epoch: by the word of the highest epoch.

    statuses: of the brokers that answer; down: why the others do not.
    coordinator: yak-zk's word; None where it was not found.  silent: why yak-zk does not answer,
    where it is known that it should.
    """

    leader: int | None
    epoch: int
    isr: Sequence[int]
    statuses: Mapping[int, m.StatusAnswer]
    down: Mapping[int, str]
    coordinator: m.CoordinatorStatus | None = None
    silent: str = ""


def health(stands: Standing) -> Health:
    """The worst of what there is to say, and what it means for whoever writes."""
    bad = _trouble(stands)
    if bad:
        return Health("bad", bad)
    worries = _worries(stands)
    if worries:
        return Health("warn", "; ".join(worries))
    everybody = sorted(stands.isr)
    others = "alone" if len(everybody) == 1 else f"and {named(everybody)} are in sync"
    return Health("ok", f"all is well: broker {stands.leader} leads epoch {stands.epoch}, {others}")


def _trouble(stands: Standing) -> str:
    """Why writes wait; "" where they do not."""
    told = stands.coordinator
    if not stands.statuses:
        why = next(iter(stands.down.values()), "")
        return f"no broker answers: {why}" if why else "no broker answers"
    if stands.leader is None:
        why = f": {told.elections[-1].reason}" if told is not None and told.elections else ""
        return f"nobody leads, so that writes wait{why}"
    if stands.leader not in stands.statuses:
        why = stands.down.get(stands.leader, "it does not answer")
        return f"broker {stands.leader} leads epoch {stands.epoch} and does not answer: {why}"
    if stands.statuses[stands.leader].role != "leader":
        role = stands.statuses[stands.leader].role
        return f"broker {stands.leader} was elected for epoch {stands.epoch}, and is {role}"
    here = [one for one in stands.isr if one in stands.statuses]
    floor = told.settings.min_insync_replicas if told is not None else 1
    if len(here) < floor:
        return (
            f"writes wait: of those in sync only {named(here)} {are(here)} here, and {floor} must "
            "be (--min-insync-replicas)"
        )
    return ""


def _worries(stands: Standing) -> list[str]:
    worries = []
    known = sorted({*stands.statuses, *stands.down})
    outside = [one for one in known if one not in stands.isr]
    gone = [one for one in known if one in stands.down]
    behind = [one for one in outside if one not in gone]
    if gone:
        worries.append(f"{named(gone)} {are(gone)} down")
    if behind:
        worries.append(f"{named(behind)} {are(behind)} not in sync yet")
    if gone or behind:
        here = [one for one in stands.isr if one in stands.statuses]
        worries.append(
            f"{named(here)} {are(here)} in sync, and writes go on{_margin(stands, here)}"
        )
    for number, status in sorted(stands.statuses.items()):
        if status.state != "whole":
            worries.append(f"broker {number} came back with its log {status.state}")
        open_ = [one for one in status.found if one.mended is None]
        if open_:
            worries.append(f"the disk of broker {number}: {open_[-1].kind}, {open_[-1].what}")
    if stands.silent:
        worries.append(f"yak-zk does not answer, so that nobody can be elected: {stands.silent}")
    return worries


def _margin(stands: Standing, here: Sequence[int]) -> str:
    told = stands.coordinator
    if told is None:
        return ""
    spare = len(here) - told.settings.min_insync_replicas
    return f"; {spare} more may go" if spare else ", but not if one more goes"
