"""The form of an explanation: in the order of time, each thing once."""

from __future__ import annotations

import pytest

from tests.support.evidence import event
from yak.explain.facts import Cause, Facts, counted, explanation, joined, moment, named


def _cause(what: str, time: int | None = None) -> Cause:
    return Cause(time=time, kind="k", source="log", what=what)


def test_causes_stand_in_the_order_of_time() -> None:
    chain = [_cause("b", 2), _cause("after b"), _cause("a", 1), _cause("a too", 1), _cause("c", 3)]
    told = explanation("x", "y", chain, Facts(unknown=["u"]), ["v", "u"])
    assert [one.what for one in told.chain] == ["a", "a too", "b", "after b", "c"]
    chain = [_cause("late", 9), _cause("early", 1), _cause("now")]
    assert [one.what for one in explanation("x", "y", chain, Facts()).chain][-1] == "now"
    assert told.unknown == ["v", "u"]


def test_events_are_found_by_name_process_and_broker() -> None:
    facts = Facts(
        events=[
            event("yak-zk", "died", 1, broker=2),
            event("broker-2", "serving", 2),
            event("yak-zk", "died", 3, broker=1),
        ]
    )
    assert [one.time for one in facts.of("died", broker=2)] == [event("", "", 1).time]
    assert facts.of("serving", broker=2, process="broker-")[0].teller == 2
    assert facts.last("died").broker == 1
    assert facts.last("died", before=event("", "", 2).time).broker == 2
    assert facts.last("left") is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (named([]), "nobody"),
        (named([3]), "broker 3"),
        (named([3, 1, 2]), "brokers 1, 2 and 3"),
        (counted(1, "record"), "1 record"),
        (counted(2000, "record"), "2,000 records"),
        (joined(["a"]), "a"),
        (joined(["a", "b", "c"], 2), "a, b and 1 more"),
        (moment(1_763_800_000_007), "2025-11-22 08:26:40.007Z"),
    ],
)
def test_words(said: str, words: str) -> None:
    assert said == words
