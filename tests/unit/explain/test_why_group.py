"""Why a group is behind."""

from __future__ import annotations

import pytest

from tests.support.evidence import log_of, tick, told, whats
from tests.support.playbook import Scribe
from yak import messages as m
from yak.core import ops
from yak.explain.facts import Facts, Unexplained
from yak.explain.questions import Question, explain

GROUP = Question("group", "g")


@pytest.fixture
def scribe() -> Scribe:
    """Member c1 reads all of t, and has acknowledged 2 of 5."""
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic(partitions=2)
    scribe.append(5)
    tick(scribe).member("c1")
    scribe.owners(("t", 0, "c1", None, None), ("t", 1, "c1", None, None))
    tick(scribe).ack(2, member="c1")
    return scribe


def test_a_member_that_is_behind(scribe: Scribe) -> None:
    answer = told(GROUP, scribe.log)
    assert answer.answer == (
        "group g has 3 records yet to acknowledge, in 1 partition; its member is c1 (client c1)"
    )
    assert whats(answer) == [
        "t/0 was written up to offset 4",
        "c1 registered as a member of group g (client c1), for t",
        "generation 1 of group g: c1 reads t/0 and t/1",
        "t/0 was acknowledged up to 2 by c1 (client c1)",
        "t/0: acknowledged up to 2 of 5, so 3 records behind: c1 reads it",
    ]
    assert any("the leader knows that, in its memory" in text for text in answer.unknown)


def test_nobody_is_left(scribe: Scribe) -> None:
    tick(scribe).leaves("c1")
    scribe.owners()
    answer = told(GROUP, scribe.log)
    assert "no members since 2025-11-22 08:26:43.000Z, when c1 went: it left" in answer.answer
    assert "nobody is left to read anything" in whats(answer, "assign")[-1]
    assert whats(answer, "lag")[0].endswith("no member reads it")


def test_it_expired(scribe: Scribe) -> None:
    scribe.write(ops.Deregister, reason="expired", group="g", member="c1")
    answer = told(GROUP, scribe.log)
    assert "c1 was silent for longer than its session: it expired" in whats(answer)


def test_a_partition_waits_for_who_had_it(scribe: Scribe) -> None:
    scribe.member("c2")
    scribe.owners(("t", 0, "c2", "c1", 2), ("t", 1, "c1", None, None))
    answer = told(GROUP, scribe.log)
    assert "c2 reads it once c1 has let go of it" in whats(answer, "lag")[0]
    assert "t/0 once c1 lets go" in whats(answer, "assign")[-1]


def test_everything_is_acknowledged(scribe: Scribe) -> None:
    scribe.ack(5, member="c1")
    answer = told(GROUP, scribe.log)
    assert answer.answer.startswith("group g has acknowledged everything")
    assert "t/0: acknowledged up to 5, and that is all" in whats(answer, "lag")


@pytest.mark.parametrize(
    ("delivered", "words"),
    [
        (4, "2 records were delivered to c1, which has not acknowledged them yet"),
        (2, "c1 reads it, and has not been handed them yet"),
    ],
)
def test_what_the_leader_says_of_deliveries(scribe: Scribe, delivered: int, words: str) -> None:
    row = m.GroupPartition(
        topic="t", partition=0, acked=2, delivered=delivered, high_watermark=5, lag=3, member="c1"
    )
    member = m.MemberEntry(
        member="c1", client="c1", generation=1, assignment=[("t", 0)], topics=["t"]
    )
    groups = {"g": m.GroupAnswer(generation=1, members=[member], partitions=[row])}
    answer = told(GROUP, scribe.log, groups=groups)
    assert words in whats(answer, "lag")[0]
    assert ("2 records delivered and not acknowledged" in answer.answer) == (delivered == 4)
    alone = told(GROUP, groups=groups)
    assert words in whats(alone, "lag")[0]
    assert any("none is here" in text for text in alone.unknown)


def test_moved_back_from_outside(scribe: Scribe) -> None:
    scribe.leaves("c1")
    tick(scribe).ack(0, reset=True)
    answer = told(GROUP, scribe.log)
    assert whats(answer, "ack")[0].startswith("t/0 was acknowledged up to 0 from outside")


@pytest.mark.parametrize("deleted", [False, True])
def test_no_such_group(scribe: Scribe, *, deleted: bool) -> None:
    words = "there is no group g: there are no groups"
    if deleted:
        scribe.leaves("c1")
        scribe.write(ops.Deregister, reason="deleted", group="g")
        words = "there is no group g: operation 8 deleted it at"
    log = scribe.log if deleted else scribe.log[:3]
    with pytest.raises(Unexplained, match=words):
        told(GROUP, log)


def test_a_log_that_begins_later_says_so(scribe: Scribe) -> None:
    cut = log_of(GROUP, scribe.log, first=6, checkpoint=5)
    answer = explain(GROUP, Facts(logs=[cut]))
    assert "what was before operation 6: the log here begins with it" in answer.unknown
    assert "3 records yet to acknowledge" in answer.answer
    assert "by c1 (client c1)" in whats(answer, "ack")[0]
