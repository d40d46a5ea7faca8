"""What yak-zk counts, from the very sentences that its core tells."""

from __future__ import annotations

import pytest

from tests.support.coordinator_stage import Stage, only
from yak import messages as m
from yak.core.coordinator import Effect
from yak.core.events import Tell
from yak.metrics.of_zk import REASONS, VACANT, ZkFigures, why_not_ready
from yak.net.timing import RequestTimes


def counting(*stories: list[Effect], isr: frozenset[int] = frozenset()) -> ZkFigures:
    figures = ZkFigures(RequestTimes(), isr)
    for effects in stories:
        for tell in only(effects, Tell):
            figures(tell.event, tell.fields)
    return figures


def elections(*stories: list[Effect]) -> dict[str, int]:
    return {kind: times for kind, times in counting(*stories).elections.items() if times}


def settled(*ids: int) -> Stage:
    stage = Stage()
    stage.settle(*ids)
    return stage


def test_a_new_cluster() -> None:
    stage = Stage()
    stage.join(1)
    assert elections(stage.run(0.5, 1)) == {"new_cluster": 1}


def test_a_leader_that_died() -> None:
    stage = settled(1, 2)
    stage.close(1)
    effects = stage.brain.probed(1, "i1.1", "its port refuses connections", stage.now)
    assert elections(effects) == {"died": 1}


def test_a_leader_that_fell_silent() -> None:
    assert elections(settled(1, 2).run(3.0, 2)) == {"silent": 1}


def test_a_leader_that_resigned() -> None:
    stage = settled(1, 2)
    stage.ask(1, m.Resign(id=9, epoch=stage.document.epoch, reason="the disk refused"))
    assert elections(stage.effects) == {"resigned": 1}


def test_a_leader_that_said_goodbye() -> None:
    stage = settled(1, 2)
    stage.ask(1, m.Leave(id=9))
    assert elections(stage.effects) == {"left": 1}


def test_a_leader_that_came_back_as_another_process() -> None:
    stage = settled(1, 2)
    stage.join(11, inc="i1.2")
    assert elections(stage.effects) == {"restarted": 1}


def test_nobody_led_before() -> None:
    stage = settled(1)
    stage.ask(1, m.Leave(id=9))
    vacated = stage.effects
    stage.join(11, inc="i1.2")
    assert elections(vacated, stage.effects) == {VACANT: 1}


def test_an_operator_ordered_it() -> None:
    stage = settled(1, 2)
    looked = stage.ask(99, m.Elect(id=1, broker=2))
    assert isinstance(looked, m.OrderAnswer), looked
    stage.ask(99, m.Elect(id=2, broker=2, plan=looked.plan))
    assert elections(stage.effects) == {"ordered": 1}


def test_every_kind_is_told_from_the_start() -> None:
    assert set(counting().elections) == {*REASONS, VACANT}
    assert not any(counting().elections.values())


def test_the_isr_shrinks_and_expands() -> None:
    changes: list[Effect] = [
        Tell("elected", {"isr": [1], "reason": "a new cluster; …"}),
        Tell("isr_changed", {"isr": [1, 2, 3], "reason": "caught up: 2, 3"}),
        Tell("isr_changed", {"isr": [1, 2], "reason": "left behind: 3"}),
        Tell("isr_changed", {"isr": [1, 2], "reason": "whole again: 2"}),
        Tell("elected", {"isr": [2], "reason": "leader 1 is gone: …"}),
    ]
    figures = counting(changes)
    assert (figures.isr_expansions, figures.isr_shrinks) == (1, 2)
    assert figures.events.told == {"elected": 2, "isr_changed": 3}
    figures = counting(changes[2:3], isr=frozenset({1, 2, 3}))
    assert figures.isr_shrinks == 1, "what was before the process started counts, too"


@pytest.mark.parametrize(
    ("ids", "without", "reason"),
    [((1, 2), (), ""), ((1, 2), (2,), "1 in-sync brokers live"), ((1,), (1,), "nobody leads")],
)
def test_ready_is_who_can_acknowledge(
    ids: tuple[int, ...], without: tuple[int, ...], reason: str
) -> None:
    stage = settled(*ids)
    if len(ids) == 1:
        assert "min_insync_replicas is 2" in why_not_ready(stage.brain.status(stage.now))
    for broker in without:
        stage.ask(broker, m.Leave(id=9))
    assert why_not_ready(stage.brain.status(stage.now)).startswith(reason)
    assert bool(why_not_ready(stage.brain.status(stage.now))) == bool(reason)
