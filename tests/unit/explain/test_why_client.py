"""What a client has done."""

from __future__ import annotations

import pytest

from tests.support.evidence import log_of, tick, told, whats
from tests.support.playbook import Scribe
from yak import messages as m
from yak.core import ops
from yak.explain.facts import Facts, Unexplained
from yak.explain.questions import Question, explain


@pytest.fixture
def scribe() -> Scribe:
    """Producers 1 and 2 of "app", 3 of another; member c1 of group g."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.producer(1, "app")
    scribe.append(3, producer=1, sequence=0)
    scribe.write(ops.Deregister, reason="asked", producer=1)
    tick(scribe).producer(2, "app")
    scribe.append(1, producer=2, sequence=0)
    scribe.append(1, partition=1, producer=2, sequence=0)
    scribe.producer(3, "another")
    scribe.append(9, producer=3, sequence=0)
    scribe.member("c1")
    scribe.ack(2, member="c1")
    return scribe


def test_a_producer_by_its_client_s_name(scribe: Scribe) -> None:
    answer = told(Question("client", "app"), scribe.log)
    assert answer.answer == "client app wrote 5 records; it is producer 2"
    assert whats(answer) == [
        "producer 1 registered as client app, for t",
        "producer 1 left, as it said",
        "producer 2 registered as client app, for t",
        "it wrote 4 records to t/0 from operation 3 to 6, the last at offset 3",
        "it wrote 1 record to t/1 from operation 7 to 7, the last at offset 0",
    ]


def test_one_producer_by_its_number(scribe: Scribe) -> None:
    answer = told(Question("client", "producer 3"), scribe.log)
    assert answer.answer == "client producer 3 wrote 9 records; it is producer 3"


def test_a_member_of_a_group(scribe: Scribe) -> None:
    answer = told(Question("client", "c1"), scribe.log)
    assert answer.answer.startswith("client c1 acknowledged in group g")
    assert "it acknowledged t/0 up to 2 in group g" in whats(answer)


def test_who_has_gone(scribe: Scribe) -> None:
    tick(scribe).write(ops.Deregister, reason="expired", producer=2)
    answer = told(Question("client", "app"), scribe.log)
    assert "producer 2, silent since 2025-11-22 08:26:42.000Z" in answer.answer
    scribe.write(ops.Deregister, reason="forgotten", producer=2)
    answer = told(Question("client", "app"), scribe.log)
    assert "it went (forgotten) at" in answer.answer


def test_a_registration_before_the_log_is_known_from_the_checkpoint(scribe: Scribe) -> None:
    question = Question("client", "app")
    cut = log_of(question, scribe.log, first=7, checkpoint=6)
    answer = explain(question, Facts(logs=[cut]))
    assert answer.answer == "client app wrote 1 record; it is producer 2"
    assert "what it did before operation 7: the log here begins there" in answer.unknown


def test_a_running_cluster_knows_members_only(scribe: Scribe) -> None:
    member = m.MemberEntry(
        member="c1-9", client="c1", generation=1, assignment=[("t", 0)], topics=["t"]
    )
    groups = {"g": m.GroupAnswer(generation=1, members=[member], partitions=[])}
    answer = told(Question("client", "c1"), groups=groups)
    assert answer.answer == "client c1 is known; it is a member of group g"
    assert whats(answer) == ["c1-9 is a member of group g now, and reads t/0"]
    with pytest.raises(Unexplained, match="no log is here"):
        told(Question("client", "app"), groups=groups)


def test_nobody_of_that_name(scribe: Scribe) -> None:
    with pytest.raises(Unexplained, match="clients that are: another, app and c1"):
        told(Question("client", "nobody"), scribe.log)
