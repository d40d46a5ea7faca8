"""One sentence on how a cluster is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pictures import a_coordinator, a_picture, a_report
from yak import messages as m
from yak.config import Settings
from yak.explain.health import Health
from yak.net.reports import ClusterReport


def how(report: ClusterReport | None, **more: Any) -> Health:
    return a_picture(report=report, **more).health()


def test_all_is_well() -> None:
    assert how(a_report()) == Health(
        "ok", "all is well: broker 1 leads epoch 3, and brokers 1, 2 and 3 are in sync"
    )


@pytest.mark.parametrize(
    ("report", "more", "level", "words"),
    [
        (None, {"error": "no broker answers: refused"}, "bad", "no broker answers: refused"),
        (a_report(leader=None), {}, "bad", "nobody leads, so that writes wait: leader 2 is gone"),
        (
            a_report(down=[1], isr=[1, 2, 3]),
            {},
            "bad",
            "broker 1 leads epoch 3 and does not",
        ),
        (
            a_report(role="taking the lead"),
            {},
            "bad",
            "epoch 3, and is taking the lead",
        ),
        (
            a_report(down=[2, 3], isr=[1, 2]),
            {},
            "bad",
            "writes wait: of those in sync only broker 1 is here, and 2 must be "
            "(--min-insync-replicas)",
        ),
        (
            a_report(down=[3], isr=[1, 2]),
            {},
            "warn",
            "broker 3 is down; brokers 1 and 2 are in sync, and writes go on, but not if one more "
            "goes",
        ),
        (
            a_report(isr=[1, 2]),
            {"coordinator": a_coordinator(settings=Settings(min_insync_replicas=1))},
            "warn",
            "broker 3 is not in sync yet; brokers 1 and 2 are in sync, and writes go on; 1 more "
            "may go",
        ),
        (
            a_report(found=[m.Finding(time=1, kind="refused", what="No space left")]),
            {},
            "warn",
            "the disk of broker 1: refused, No space left",
        ),
        (a_report(state="torn"), {}, "warn", "broker 1 came back with its log torn"),
        (
            a_report(),
            {"coordinator": None, "zk_error": "Connection refused"},
            "warn",
            "yak-zk does not answer, so that nobody can be elected: Connection refused",
        ),
    ],
)
def test_what_is_not(
    report: ClusterReport | None, more: dict[str, Any], level: str, words: str
) -> None:
    found = how(report, **more)
    assert found.level == level
    assert words in found.sentence


def test_without_yak_zk_s_word_nothing_is_said_of_its_settings() -> None:
    found = how(a_report(down=[3], isr=[1, 2]), coordinator=None)
    assert found == Health(
        "warn", "broker 3 is down; brokers 1 and 2 are in sync, and writes go on"
    )
