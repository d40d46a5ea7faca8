"""What is expected of a fault follows from how the cluster stands, and from its settings."""

from __future__ import annotations

import pytest

from yak.commands.expecting import Stand, announced, expected
from yak.config import Settings
from yak.explain.faults import Kind
from yak.local.faults import Fault

ALL = Stand(1, 3, [1, 2, 3], Settings())
TWO = Stand(1, 3, [1, 2], Settings())
ALONE = Stand(1, 3, [1], Settings(min_insync_replicas=1))


def a_fault(
    kind: Kind,
    *members: int,
    for_ms: int = 5000,
    late_ms: int | None = None,
    one_way: bool = False,
) -> Fault:
    return Fault(
        kind=kind, members=[*members], since=0, for_ms=for_ms, command="", by=1, by_born="",
        pid=4711, late_ms=late_ms, one_way=one_way,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "stand", "words"),
    [
        (a_fault("kill", 1), ALL, "within some tens of milliseconds; brokers 2 and 3"),
        (a_fault("kill", 1), TWO, "only broker 2 is in sync then, and 2 must be"),
        (a_fault("kill", 1), ALONE, "nobody else is in sync, so that writes and reads wait"),
        (a_fault("kill", 2), ALL, "broker 1 leads on; brokers 1 and 3 are in sync then"),
        (a_fault("kill", 0), ALL, "nobody can be elected"),
        (a_fault("kill", 2), Stand(None, 0, [], Settings()), "nobody leads as it is"),
        (a_fault("pause", 1), ALL, "elects another after 2 s"),
        (a_fault("pause", 1, for_ms=1000), ALL, "over before 2 s have passed"),
        (a_fault("pause", 1, for_ms=1900), ALL, "elected if its last heartbeat, of one in each"),
        (a_fault("pause", 2), ALL, "until it has left the ISR, after 1.5 s"),
        (a_fault("pause", 2, for_ms=1000), ALL, "over before 1.5 s have passed"),
        (a_fault("pause", 3), TWO, "it is not in sync as it is"),
        (a_fault("pause", 0), ALL, "after 1.3 s without yak-zk"),
        (a_fault("fill", 1), ALL, "resigns; another is elected at once"),
        (a_fault("fill", 2), ALL, "it cannot keep its copy"),
        (a_fault("fill", 3), TWO, "it is not in sync as it is"),
        (a_fault("cut", 1), ALL, "elects another after 2 s"),
        (a_fault("cut", 1, 2), ALL, "until it has left the ISR, after 1.5 s; brokers 1 and 3"),
        (a_fault("cut", 3, 1), ALL, "until it has left the ISR, after 1.5 s; brokers 1 and 2"),
        (a_fault("cut", 2, 3), ALL, "nothing: followers copy from the leader, broker 1"),
        (a_fault("cut", 1, 0), ALL, "elects another after 2 s"),
        (a_fault("cut", 0, 2), ALL, "its session ends after 2 s"),
        (a_fault("cut", 0, 2, for_ms=500), ALL, "nothing that a client notices"),
        (a_fault("slow", 2, late_ms=200), ALL, "takes some 0.4 s longer"),
        (a_fault("slow", 2, late_ms=200, one_way=True), ALL, "takes some 0.2 s longer"),
        (a_fault("slow", 1, 2, late_ms=1000), ALL, "waits for broker 2, until it has left the ISR"),
        (a_fault("slow", 2, 3, late_ms=200), ALL, "nothing: followers copy from the leader"),
        (a_fault("slow", 1, 0, late_ms=200), ALL, "0.4 s longer, which nobody notices"),
        (a_fault("slow", 0, 1, late_ms=2000), ALL, "leases and sessions may end by that"),
    ],
)  # fmt: skip
def test_what_is_expected(fault: Fault, stand: Stand, words: str) -> None:
    assert words in expected(fault, stand)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            a_fault("kill", 1),
            "broker 1, which leads epoch 3: kill -9 of pid 4711, and started again after 5 s",
        ),
        (
            a_fault("cut", 2, 0, one_way=True),
            "broker 2: nothing comes through to yak-zk, for 5 s",
        ),
        (
            a_fault("slow", 0, late_ms=200, for_ms=500),
            "yak-zk: all to and from everybody else is 200 ms late, for 0.5 s",
        ),
    ],
)
def test_what_is_announced(fault: Fault, words: str) -> None:
    assert announced(fault, ALL) == words
