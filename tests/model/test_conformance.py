"""The model's yak-zk and the real one decide alike, in every state that the model can come to.

Each state of some scenes is put before yak/core/election.py as a document and who is there: whom
does it elect, whom does it take in and as what, which ISR changes does it accept?  So what the
search says of the model's rules holds for the real ones.

What is not compared: versions, which are the real one's stricter fence; and that a session whose
disk was replaced must have ended before the new one is taken in (`_check_disk`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from tests.model import coordinator
from tests.model.rules import Scene
from tests.model.search import reachable
from tests.model.state import (
    LEADER,
    NOBODY,
    NOT_TOLD,
    PRESUMED,
    STATES,
    WHOLE,
    Broker,
    Change,
    Faults,
    State,
    Zk,
    end_of,
    members,
)
from yak import messages as m
from yak.config import Settings
from yak.core.document import Document, Known, Liveness, Present, Replica, Suspect
from yak.core.election import change_isr, choose, decide
from yak.core.joins import take_in
from yak.errors import Refused

SCENES = {
    "one is killed": Scene(Faults(kills=1, expiries=1, isr_changes=1)),
    "power": Scene(Faults(powers=1, isr_changes=1)),
    "torn": Scene(Faults(tears=2, cuts=1)),
    "two torn": Scene(Faults(tears=2, cuts=1, kills=1, expiries=1), n=2),
    "damaged": Scene(Faults(damages=1, isr_changes=1)),
    "damaged and torn": Scene(Faults(damages=1, tears=2, isr_changes=1), n=2),
    "replaced": Scene(Faults(wipes=1, isr_changes=1)),
    "older copy": Scene(Faults(backs=1, isr_changes=1)),
    "resigns": Scene(Faults(resigns=1, isr_changes=1)),
    "new": Scene(Faults(zk_losses=1, isr_changes=2), fresh=True),
    "yak-zk restarts": Scene(Faults(zk_restarts=1, isr_changes=1)),
}


def document_of(scene: Scene, zk: Zk, leader_inc: str = "") -> Document:
    """Brokers count from 1 there."""
    suspects = {
        i + 1: Suspect(state=STATES[state], disk="", inc="", why="")
        for i, state in enumerate(zk.sus)
        if state != WHOLE
    }
    return Document(
        cluster=f"c{zk.cluster}",
        epoch=zk.epoch,
        leader=None if zk.leader == NOBODY else zk.leader + 1,
        leader_inc=leader_inc,
        isr=tuple(Replica(i + 1, f"d{zk.disks[i]}") for i in members(zk.isr, scene.n)),
        suspects=suspects,
        brokers={i + 1: Known("h", 1, f"d{disk}", mark="run 1") for i, disk in enumerate(zk.disks)},
        settings=Settings(min_insync_replicas=scene.min_isr),
    )


def liveness_of(s: State) -> Liveness:
    zk = s.zk
    return Liveness(
        present={
            i + 1: Present(f"i{inc}", f"d{s.brokers[i].disk}", divmod(max(zk.ends[i], 0), 100))
            for i, inc in enumerate(zk.live)
            if inc > 0
        },
        presumed=frozenset(i + 1 for i, inc in enumerate(zk.live) if inc == PRESUMED),
        unsettled=frozenset(i + 1 for i, end in enumerate(zk.ends) if end == NOT_TOLD),
        bootstrap=True,
    )


def same(scene: Scene, real: Document, zk: Zk) -> bool:
    """Whether the two say the same of who leads, is in sync, and is not whole."""
    mine = document_of(scene, zk)
    return (real.epoch, real.leader, real.isr_ids) == (mine.epoch, mine.leader, mine.isr_ids) and {
        i: suspect.state for i, suspect in real.suspects.items()
    } == {i: suspect.state for i, suspect in mine.suspects.items()}


class Met(NamedTuple):
    """All different things that a scene has for yak-zk to decide on, each in a state that has it.

    joins: (broker, state).  changes: (ISR change, state); also what was not proposed there.
    """

    states: list[State]
    joins: list[tuple[int, State]]
    changes: list[tuple[Change, State]]


def thinkable(scene: Scene, zk: Zk) -> list[Change]:
    """What the sitting leader might propose, were it careless."""
    if zk.leader == NOBODY:
        return []
    others = [f for f in range(scene.n) if f != zk.leader]
    drops: list[Change] = [(zk.epoch, zk.leader, -1, f, 0) for f in others]
    return drops + [(zk.epoch, zk.leader, 1, f, zk.live[f]) for f in others if zk.live[f] > 0]


@cache
def met(name: str) -> Met:
    scene, found, seen = SCENES[name], Met([], [], []), set[object]()

    def is_new(*what: object) -> bool:
        new = what not in seen
        seen.add(what)
        return new

    for s in reachable(scene):
        if is_new(s.zk):
            found.states.append(s)
        for i, broker in enumerate(s.brokers):
            if broker.up and broker.inc != s.zk.live[i] and is_new(s.zk, i, broker):
                found.joins.append((i, s))
        for change in (*s.changes, *thinkable(scene, s.zk)):
            if is_new(s.zk, change):
                found.changes.append((change, s))
    return found


@pytest.mark.parametrize("name", SCENES)
def test_the_same_broker_is_elected_with_the_same_isr(name: str) -> None:
    scene = SCENES[name]
    vacant = [s for s in met(name).states if s.zk.leader == NOBODY and s.zk.epoch < scene.epochs]
    assert vacant
    for s in vacant:
        zk = s.zk
        elected = [after.zk for _, after in coordinator.elections(scene, s)]
        real, _ = decide(document_of(scene, zk), liveness_of(s), now_ms=0)
        assert same(scene, real, elected[0] if elected else zk), (real, zk, elected)
        if len(elected) > 1:
            cooling = liveness_of(s)._replace(cooling=frozenset({elected[0].leader + 1}))
            found = choose(document_of(scene, zk), cooling)
            assert found is not None
            assert found[0] == elected[1].leader + 1, "who resigned comes last"


@pytest.mark.parametrize("name", [name for name in SCENES if name != "resigns"])
def test_the_same_brokers_are_taken_in_and_thought_whole(name: str) -> None:
    scene = SCENES[name]
    assert met(name).joins
    for i, s in met(name).joins:
        zk, broker = s.zk, s.brokers[i]
        taken = [after.zk for _, after in coordinator.join(scene, s, i)]
        resumes = broker.role == LEADER and broker.ep == zk.epoch
        document = document_of(scene, zk, f"i{broker.inc}" if resumes else "")
        try:
            real, _ = take_in(document, join_of(i, broker), None)
        except Refused:
            assert not taken, (document, broker)
            continue
        assert taken, (document, broker)
        if zk.leader == i:
            here = {i + 1: Present(f"i{broker.inc}", f"d{broker.disk}", (0, 0))}
            after, _ = decide(real, Liveness(present=here, presumed=others(scene, i)), now_ms=0)
            leads_on = (after.leader, after.epoch) == (i + 1, zk.epoch)
            assert leads_on == (taken[0].leader == i), (real, zk, broker)
            real = replace(real, leader=i + 1 if leads_on else None)
        assert same(scene, real, taken[0]), (real, zk, broker)


def others(scene: Scene, i: int) -> frozenset[int]:
    return frozenset(range(1, scene.n + 1)) - {i + 1}


def join_of(i: int, broker: Broker) -> m.Join:
    return m.Join(
        id=1,
        broker=i + 1,
        host="h",
        port=1,
        cluster=f"c{broker.cluster}" if broker.cluster else None,
        disk=f"d{broker.disk}",
        inc=f"i{broker.inc}",
        state=STATES[broker.mark],
        end=divmod(end_of(broker.log), 100),
        epoch=broker.ep,
        lineage=("run 2",) if broker.old else ("run 1", "run 2"),
    )


@pytest.mark.parametrize("name", SCENES)
def test_the_same_isr_changes_are_accepted(name: str) -> None:
    scene = SCENES[name]
    assert met(name).changes
    for change, s in met(name).changes:
        zk = s.zk
        after = [after.zk for _, after in coordinator.isr_change(scene, s, change)]
        if not after:
            continue  # it waits for a lease: core/coordinator.py, and its tests
        present = liveness_of(s).present
        try:
            real, _ = change_isr(
                document_of(scene, zk), change[1] + 1, proposal_of(scene, zk, change), present
            )
        except Refused:
            assert after == [zk], (zk, change)
            continue
        assert same(scene, real, after[0]), (real, zk, change)
        assert [one.disk for one in real.isr] == [
            one.disk for one in document_of(scene, after[0]).isr
        ]


def proposal_of(scene: Scene, zk: Zk, change: Change) -> m.ProposeIsr:
    epoch, _, sign, f, inc = change
    isr = zk.isr | 1 << f if sign > 0 else zk.isr & ~(1 << f)
    return m.ProposeIsr(
        id=1,
        epoch=epoch,
        version=0,
        isr=[i + 1 for i in members(isr, scene.n)],
        incs={str(f + 1): f"i{inc}"} if sign > 0 else {},
    )
