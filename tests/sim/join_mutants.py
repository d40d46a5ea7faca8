"""Mutants of the rules by which brokers join, are elected, are taken for dead, and give up.

    joins      bootstrap  torn  damaged  other_disk  older_copy  older_restarts  still_suspect
               whole_again  whole_named
    election   torn_all  torn_furthest  settled  drop_floor  drop_dead
    lease      deposed  deposed_all  deposed_restart
    liveness   death_check  hung  resign  cooldown

They are as those of mutants.py.  `drop_dead` has a second one behind it: a leader proposes by
itself that the dead leave, so that both are out here, and the cluster stands still.  Which of
the dead goes, where the floor lets one stay, and whether one goes that lives, costs nothing but
a proposal more: whoever is in the ISR has all that counts, and whoever is not may come again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from tests.sim.mutants import Patch, both
from yak import messages as m
from yak.broker import Broker
from yak.core import election, joins
from yak.core.coordinator import Coordinator, Effect
from yak.core.document import Document, Known, Liveness, Present, Replica
from yak.core.events import Tell
from yak.core.replication import Leader, Progress
from yak.model import Now

# -- Joins ----------------------------------------------------------------------------------------


def bootstrap() -> Patch:
    """A yak-zk that never gave an epoch takes whoever comes, whatever it holds."""
    check = joins._check_cluster

    def mutant(document: Document, request: m.Join) -> None:
        if document.epoch:
            check(document, request)

    return patch.object(joins, "_check_cluster", mutant)


def _believes(state: str) -> Patch:
    suspicion = joins._suspicion

    def mutant(document: Document, request: m.Join, before: Known) -> Any:
        if request.state == state:
            request.state = "whole"
        return suspicion(document, request, before)

    return patch.object(joins, "_suspicion", mutant)


def torn() -> Patch:
    """A log whose end was cut is as good as any."""
    return _believes("torn")


def damaged() -> Patch:
    """A broker that begins with nothing, since its disk was damaged, is as good as any."""
    return _believes("damaged")


def other_disk() -> Patch:
    """A member of the ISR may come with another disk."""
    suspicion = joins._suspicion

    def mutant(document: Document, request: m.Join, before: Known) -> Any:
        mine = tuple(
            Replica(one.id, request.disk) if one.id == request.broker else one
            for one in document.isr
        )
        return suspicion(replace(document, isr=mine), request, before)

    return patch.object(joins, "_suspicion", mutant)


def older_copy() -> Patch:
    """A disk that is older than what was here under its id is as good as any."""
    return patch.object(joins, "_older_copy", lambda *_: "")


def older_restarts() -> Patch:
    """An older copy that starts more than once before yak-zk hears of it passes for the newest."""
    older = joins._older_copy

    def mutant(before: Known, request: m.Join) -> str:
        return older(before, request) if len(request.lineage) <= 2 else ""

    return patch.object(joins, "_older_copy", mutant)


def still_suspect() -> Patch:
    """Who starts once more is whole: its log has been cut by then, and nothing is wrong with it."""
    take_in = joins.take_in

    def mutant(document: Document, request: m.Join, live: Present | None, **more: Any) -> Any:
        others = {i: s for i, s in document.suspects.items() if i != request.broker}
        return take_in(replace(document, suspects=others), request, live, **more)

    return patch("yak.core.coordinator.take_in", mutant)


def whole_again() -> Patch:
    """A suspect that is in the ISR is whole as soon as it follows, not when it has caught up."""
    joining = Leader._joining

    def mutant(self: Leader) -> tuple[int, Progress] | None:
        for broker, inc in self._outside:
            p = self.followers.get(broker)
            if p is not None and p.inc == inc and broker in self.isr:
                return broker, p
        return joining(self)

    return patch.object(Leader, "_joining", mutant)


def whole_named() -> Patch:
    """Any change of the ISR makes whole who is in it, named or not."""
    check = election._check_incs

    def mutant(
        document: Document,
        before: set[int],
        request: m.ProposeIsr,
        present: Mapping[int, Present],
    ) -> set[int]:
        return check(document, before, request, present) | (set(request.isr) & set(present))

    return patch.object(election, "_check_incs", mutant)


# -- Election -------------------------------------------------------------------------------------


def torn_all() -> Patch:
    """A torn one is elected though another member of the ISR has not come yet."""
    choose = election.choose

    def mutant(document: Document, alive: Liveness) -> tuple[int, str] | None:
        here = tuple(one for one in document.isr if one.id in alive.present)
        return choose(replace(document, isr=here), alive)

    return patch.object(election, "choose", mutant)


def torn_furthest() -> Patch:
    """Of the torn, the lowest id is elected, not the one whose log ends furthest."""
    choose = election.choose

    def mutant(document: Document, alive: Liveness) -> tuple[int, str] | None:
        level = {i: one._replace(end=(0, 0)) for i, one in alive.present.items()}
        return choose(document, alive._replace(present=level))

    return patch.object(election, "choose", mutant)


def settled() -> Patch:
    """Where a torn one's log ended when it joined counts, though it has followed on since."""
    return both(
        patch.object(Coordinator, "_is_settled", lambda *_: True),
        patch.object(Present, "_replace", lambda self, **_: self),
    )


def drop_floor() -> Patch:
    """An election drops all the dead, however few are left."""

    def mutant(document: Document, alive: Liveness) -> frozenset[int]:
        here = alive.present.keys() | alive.presumed
        return frozenset(i for i in document.isr_ids if i not in here)

    return patch.object(election, "drop_dead", mutant)


def drop_dead() -> Patch:
    """Nobody leaves the ISR for being dead: not at an election, not at the leader's word."""
    leaving = Leader._leaving

    def mutant(self: Leader, now: float) -> tuple[int, str] | None:
        found = leaving(self, now)
        return None if found is not None and found[1] == "yak-zk reports it gone" else found

    return both(
        patch.object(election, "drop_dead", lambda *_: frozenset()),
        patch.object(Leader, "_leaving", mutant),
    )


def deposed() -> Patch:
    """A leader that was replaced alive may be left behind while it still has its lease."""
    return patch.object(Coordinator, "_check_deposed", lambda *_: None)


def deposed_all() -> Patch:
    """Only the last leader that was replaced alive is waited for, not who was so before it."""
    settle = Coordinator._settle

    def mutant(self: Coordinator, *args: Any, **more: Any) -> list[Effect]:
        before = dict(self._deposed)
        effects = settle(self, *args, **more)
        added = {i: until for i, until in self._deposed.items() if before.get(i) != until}
        self._deposed = added or before
        return effects

    return patch.object(Coordinator, "_settle", mutant)


def deposed_restart() -> Patch:
    """A yak-zk that was started again does not know who led before."""
    init = Coordinator.__init__

    def mutant(self: Coordinator, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        self._deposed.clear()

    return patch.object(Coordinator, "__init__", mutant)


# -- Liveness -------------------------------------------------------------------------------------


def death_check() -> Patch:
    """A connection that is closed is a death, whoever answers at the broker's port."""
    closed = Coordinator.closed

    def mutant(self: Coordinator, conn: int, now: Now) -> list[Effect]:
        whose = [i for i, session in self.sessions.items() if session.conn == conn]
        effects = closed(self, conn, now)
        for broker in whose:
            self._end(broker, "its connection was closed")
            effects += self._settle(now, said=[Tell("died", {"broker": broker, "reason": "?"})])
        return effects

    return patch.object(Coordinator, "closed", mutant)


def hung() -> Patch:
    """A broker whose disk hangs goes on beating."""
    return patch.object(Broker, "may_beat", lambda self: True)


def resign() -> Patch:
    """A leader that no follower reaches stays."""
    return patch.object(Leader, "must_resign", lambda self, now: False)


def cooldown() -> Patch:
    """Who has resigned may be elected again at once."""
    liveness = Coordinator._liveness

    def mutant(self: Coordinator, now: float) -> Liveness:
        self._resigned_at.clear()
        return liveness(self, now)

    return patch.object(Coordinator, "_liveness", mutant)


RULES: Final[dict[str, Callable[[], Patch]]] = {
    mutant.__name__: mutant
    for mutant in (
        bootstrap,
        torn,
        damaged,
        other_disk,
        older_copy,
        older_restarts,
        still_suspect,
        whole_again,
        whole_named,
        torn_all,
        torn_furthest,
        settled,
        drop_floor,
        drop_dead,
        deposed,
        deposed_all,
        deposed_restart,
        death_check,
        hung,
        resign,
        cooldown,
    )
}
#: As in mutants.py.
SCENT: Final[dict[str, tuple[str, int]]] = {
    "bootstrap": ("stranger", 1),
    "torn": ("torn", 100),
    "damaged": ("torn", 24),
    "other_disk": ("torn", 5),
    "older_copy": ("older_copy", 1),
    "older_restarts": ("older_restarts", 1),
    "still_suspect": ("still_suspect", 1),
    "whole_again": ("torn", 5),
    "whole_named": ("whole_named", 1),
    "torn_all": ("torn", 100),
    "torn_furthest": ("torn_furthest", 1),
    "settled": ("settled", 1),
    "drop_floor": ("mixed", 1),
    "drop_dead": ("outage", 1),
    "deposed": ("lease", 1),
    "deposed_all": ("deposed_all", 1),
    "deposed_restart": ("deposed_restart", 1),
    "death_check": ("lease", 4),
    "hung": ("outage", 2),
    "resign": ("outage", 25),
    "cooldown": ("outage", 9),
}
