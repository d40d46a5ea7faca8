"""What became of a topic."""

from __future__ import annotations

import pytest

from tests.support.evidence import log_of, tick, told, whats
from tests.support.playbook import Scribe
from yak import messages as m
from yak.core import ops
from yak.explain.facts import Facts, Unexplained
from yak.explain.questions import Question, explain

TOPIC = Question("topic", "t")


@pytest.fixture
def scribe() -> Scribe:
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic(partitions=2)
    scribe.topic("other")
    tick(scribe).producer(1, "app")
    scribe.append(3, producer=1, sequence=0)
    scribe.append(1)
    scribe.append(7, topic="other")
    scribe.ack(1)
    return scribe


def test_what_it_holds_and_who_reads_it(scribe: Scribe) -> None:
    answer = told(TOPIC, scribe.log)
    assert answer.answer == (
        "topic t has 2 partitions and 4 records; it was made by operation 2; the log here has "
        "3 records by app (the last at 2025-11-22 08:26:41.000Z) and 1 record by clients without a "
        "name (the last at 2025-11-22 08:26:41.000Z)"
    )
    assert whats(answer) == [
        "topic t was made, with 2 partitions; the log does not say who asked",
        "t/0 begins at 0, and the next offset is 4: operation 6 wrote the last 1 record",
        "t/1 begins at 0, and the next offset is 0",
        "group g has 3 records yet to acknowledge; no member reads it now",
    ]


def test_every_change(scribe: Scribe) -> None:
    tick(scribe).write(ops.CreatePartitions, topic="t", partitions=3)
    scribe.write(ops.AlterTopic, topic="t", config={"retention_ms": 5})
    scribe.write(ops.AlterTopic, topic="t", config={})
    scribe.write(ops.Trim, topic="t", partition=0, before=2)
    answer = told(TOPIC, scribe.log)
    assert whats(answer, "create_partitions", "alter_topic", "trim") == [
        "it has 3 partitions from then on",
        "its settings are retention_ms=5 from then on",
        "its settings are the defaults from then on",
        "t/0 begins at 2 from then on",
    ]
    assert "3 partitions and 2 records" in answer.answer


def test_a_deleted_one_is_said_by_whom(scribe: Scribe) -> None:
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t2")
    with pytest.raises(
        Unexplained, match=r"operation 9 deleted it at .*topics that there are: other"
    ):
        told(TOPIC, scribe.log)


def test_none_of_that_name(scribe: Scribe) -> None:
    with pytest.raises(Unexplained, match="no topic x: topics that there are: other and t"):
        told(Question("topic", "x"), scribe.log)


def test_a_log_that_begins_later(scribe: Scribe) -> None:
    cut = log_of(TOPIC, scribe.log, first=6, checkpoint=5)
    answer = explain(TOPIC, Facts(logs=[cut]))
    assert any("that was operation 2, and the log here begins with 6" in u for u in answer.unknown)
    assert "the log here has 1 record by clients without a name" in answer.answer


def test_a_running_cluster_is_enough() -> None:
    answer = told(
        TOPIC, ends=[(0, 4), (1, 3)], topics={"t": m.TopicEntry(partitions=2, topic_id="t2")}
    )
    assert answer.answer == "topic t has 2 partitions and 6 records; no group reads it"
    assert {one.source for one in answer.chain} == {"leader"}


def test_many_partitions_are_not_all_told() -> None:
    scribe = Scribe()
    scribe.topic(partitions=40)
    answer = told(TOPIC, scribe.log)
    assert len(whats(answer, "partition")) == 12
    assert any(text.startswith("28 further partitions") for text in answer.unknown)
