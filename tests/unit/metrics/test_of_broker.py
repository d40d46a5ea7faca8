"""When a broker may serve."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import Playbook
from yak import messages as m
from yak.metrics.of_broker import ROLES, BrokerFigures, why_not_ready
from yak.net.timing import RequestTimes


def status(**changes: Any) -> m.StatusAnswer:
    answer = Playbook.alone().ask(m.Status(id=1))
    assert isinstance(answer, m.StatusAnswer)
    for name, value in changes.items():
        setattr(answer, name, value)
    return answer


@pytest.mark.parametrize(
    ("changes", "joined", "reason"),
    [
        ({"role": "leader"}, True, ""),
        ({"role": "leader"}, False, ""),
        ({"role": "follower", "isr": [1, 2]}, True, ""),
        ({"role": "follower", "isr": [1, 2]}, False, "no session with yak-zk"),
        ({"role": "follower", "isr": [2], "leader": 2}, True, "copies from broker 2"),
        *(({"role": role}, True, role) for role in ROLES if role not in ("leader", "follower")),
    ],
)
def test_who_may_serve(changes: dict[str, Any], joined: bool, reason: str) -> None:
    why = why_not_ready(status(**changes), joined=joined)
    assert reason in why
    assert bool(reason) == bool(why)


def test_every_role_that_a_node_can_have_is_told() -> None:
    assert status().role in ROLES


def test_before_it_lives_it_is_healthy_and_not_ready() -> None:
    figures = BrokerFigures(RequestTimes())
    assert figures.health().well
    assert not figures.readiness().well
    assert "starts" in figures.readiness().reason
    assert list(figures.families()) == []
