"""Topics created, grown, altered and deleted; all that can be wrong is refused before a write."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.playbook import Playbook
from yak import messages as m
from yak.config import FRAME_OVERHEAD_BYTES, Limits
from yak.core import events as e
from yak.core import ops


@pytest.fixture
def book() -> Playbook:
    return Playbook.alone()


def create(id_: m.RequestId, topic: str = "t", **more: Any) -> m.CreateTopic:
    return m.CreateTopic(id=id_, topic=topic, **more)


def test_a_topic_is_created_and_answered_when_it_is_committed(book: Playbook) -> None:
    book.disk.slow = True
    assert book.ask(create(1, partitions=2, config={"retention_ms": 5})) is None
    book.sync()
    topic = book.state.topics["t"]
    assert (topic.partitions, topic.config) == (2, {"retention_ms": 5})
    answer = book.answer(1)
    assert (answer.topic, answer.topic_id, answer.partitions) == ("t", topic.topic_id, 2)


def test_without_partitions_it_has_the_broker_s_default(book: Playbook) -> None:
    assert book.ask(create(1)).partitions == 3


def test_a_topic_made_again_is_another_one(book: Playbook) -> None:
    first = book.ask(create(1)).topic_id
    assert book.ask(m.DeleteTopic(id=2, topic="t")).ok
    assert book.ask(create(3)).topic_id != first


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc/passwd", "a" * 250, "ä", "a\n"])
def test_a_name_that_is_no_safe_directory_is_refused(book: Playbook, name: str) -> None:
    assert book.ask(create(1, name)).error == "INVALID_TOPIC"
    assert book.written() == []


@pytest.mark.parametrize("partitions", [0, -1, 10_001])
def test_a_number_of_partitions_out_of_range_is_refused(book: Playbook, partitions: int) -> None:
    assert book.ask(create(1, partitions=partitions)).error == "INVALID_CONFIG"
    assert book.written() == []


@pytest.mark.parametrize(
    "config",
    [
        {"colour": 1},
        {"retention_ms": -2},
        {"retention_ms": 1.5},
        {"retention_ms": True},
        {"retention_ms": "5"},
        {"retention_ms": None},
        {"segment_bytes": 1023},
        {"max_batch_bytes": 0},
        {"max_batch_bytes": Limits().max_frame_bytes - FRAME_OVERHEAD_BYTES + 1},
    ],
)
def test_a_config_that_says_nothing_sensible_is_refused(
    book: Playbook, config: dict[str, Any]
) -> None:
    refusal = book.ask(create(1, config=config))
    assert refusal.error == "INVALID_CONFIG"
    assert next(iter(config)) in refusal.message
    assert book.written() == []
    assert book.ask(create(2)).ok
    assert book.ask(m.AlterTopic(id=3, topic="t", config=config)).error == "INVALID_CONFIG"


def test_a_topic_that_exists_is_not_created_again(book: Playbook) -> None:
    book.ask(create(1))
    assert book.ask(create(2)).error == "TOPIC_EXISTS"
    assert book.written() == []


def test_that_it_exists_is_said_once_it_is_sure(book: Playbook) -> None:
    """The other creation may yet be lost with its leader."""
    book.disk.slow = True
    book.ask(create(1))
    assert book.ask(create(2)) is None
    book.sync()
    assert book.answer(1).ok
    assert book.answer(2).error == "TOPIC_EXISTS"


def test_a_topic_grows_and_never_shrinks(book: Playbook) -> None:
    book.ask(create(1, partitions=2))
    assert book.ask(m.CreatePartitions(id=2, topic="t", partitions=4)).partitions == 4
    for id_, total in ((3, 4), (4, 1), (5, 10_001)):
        answer = book.ask(m.CreatePartitions(id=id_, topic="t", partitions=total))
        assert answer.error == "INVALID_CONFIG"
    assert book.ask(m.CreatePartitions(id=6, topic="u", partitions=4)).error == "UNKNOWN_TOPIC"


def test_altering_sets_what_is_named_and_keeps_the_rest(book: Playbook) -> None:
    book.ask(create(1, config={"retention_ms": 5, "segment_bytes": 2048}))
    assert book.ask(m.AlterTopic(id=2, topic="t", config={"retention_ms": 7})).ok
    assert book.state.topics["t"].config == {"retention_ms": 7, "segment_bytes": 2048}
    assert book.ask(m.AlterTopic(id=3, topic="u", config={})).error == "UNKNOWN_TOPIC"


def test_a_topic_is_deleted_once(book: Playbook) -> None:
    made = book.ask(create(1))
    assert book.ask(m.DeleteTopic(id=2, topic="t")).ok
    (effect,) = book.seen(e.AppendOp)
    assert isinstance(effect.op, ops.DeleteTopic)
    assert effect.op.topic_id == made.topic_id
    assert book.ask(m.DeleteTopic(id=3, topic="t")).error == "UNKNOWN_TOPIC"


def test_unsetting_goes_back_to_the_default(book: Playbook) -> None:
    book.ask(create(1, config={"retention_ms": 5, "segment_bytes": 2048}))
    alter = m.AlterTopic(
        id=2, topic="t", config={"max_batch_bytes": 9}, unset=["retention_ms", "retention_bytes"]
    )
    answer = book.ask(alter)
    assert answer.config == {"segment_bytes": 2048, "max_batch_bytes": 9}
    assert book.state.topics["t"].config == answer.config


@pytest.mark.parametrize(
    ("config", "unset"),
    [
        ({}, ["colour"]),
        ({"retention_ms": 7}, ["segment_bytes", "colour"]),
        ({"retention_ms": 7}, ["retention_ms"]),
    ],
)
def test_what_cannot_be_unset_changes_nothing(
    book: Playbook, config: dict[str, Any], unset: list[str]
) -> None:
    book.ask(create(1, config={"segment_bytes": 2048}))
    refusal = book.ask(m.AlterTopic(id=2, topic="t", config=config, unset=unset))
    assert refusal.error == "INVALID_CONFIG"
    assert book.written() == []


@pytest.mark.parametrize(
    "request_",
    [
        m.DeleteTopic(id=3, topic="t", topic_id="t1"),
        m.CreatePartitions(id=3, topic="t", partitions=9, topic_id="t1"),
        m.AlterTopic(id=3, topic="t", config={}, topic_id="t1"),
        m.Trim(id=3, topic="t", partition=0, before=0, topic_id="t1"),
    ],
)
def test_another_topic_of_that_name_is_left_alone(book: Playbook, request_: Any) -> None:
    made = book.ask(create(1))
    assert made.topic_id != "t1"
    assert book.ask(request_).error == "UNKNOWN_TOPIC"
    assert book.written() == []
    assert book.ask(replace(request_, id=4, topic_id=made.topic_id)).ok


# -- trim -----------------------------------------------------------------------------------------


def trim(id_: int, before: int, **more: Any) -> m.Trim:
    return m.Trim(id=id_, before=before, **{"topic": "t", "partition": 0, **more})


@pytest.fixture
def ten(book: Playbook) -> Playbook:
    """Topic t has ten records in partition 0, and none in 1."""
    book.ask(create("ten", partitions=2))
    book.ask(m.Produce(id="ten records", topic="t", partition=0, count=10))
    return book


def test_a_trim_is_answered_with_the_new_start_when_it_is_committed(ten: Playbook) -> None:
    ten.disk.slow = True
    assert ten.ask(trim(1, 4)) is None
    ten.sync()
    answer = ten.answer(1)
    assert (answer.topic, answer.partition, answer.start) == ("t", 0, 4)
    assert ten.state.start(("t", 0)) == 4
    assert ten.state.start(("t", 1)) == 0
    ten.disk.slow = False
    assert ten.ask(trim(2, 10)).start == 10


def test_a_trim_at_or_below_the_start_writes_nothing(ten: Playbook) -> None:
    ten.ask(trim(1, 4))
    for id_, before in ((2, 4), (3, 3), (4, 0)):
        assert ten.ask(trim(id_, before)).start == 4
        assert ten.written() == []
    assert ten.ask(trim(5, 0, partition=1)).start == 0


def test_a_trim_that_repeats_one_under_way_is_answered_with_that(ten: Playbook) -> None:
    ten.disk.slow = True
    ten.ask(trim(1, 4))
    assert ten.ask(trim(2, 3)) is None
    assert ten.written() == []
    ten.sync()
    assert ten.answer(2).start == 4


def test_a_trim_that_changes_nothing_needs_the_lease() -> None:
    """Where nothing is committed, only the lease says that nobody else trimmed further."""
    book = Playbook.alone(lease_s=1)
    book.ask(create(1))
    end = book.now.mono + 1
    book.ask(trim(2, 0))
    (answer,) = book.seen(e.ReplyLeased)
    assert answer.until == pytest.approx(end)
    book.jump(1)
    assert book.ask(trim(3, 0)).error == "NO_LEADER"


def test_a_trim_above_the_high_watermark_is_refused(ten: Playbook) -> None:
    ten.ask(trim(1, 4))
    refusal = ten.ask(trim(2, 11))
    assert (refusal.error, refusal.start, refusal.high_watermark) == ("OFFSET_OUT_OF_RANGE", 4, 10)
    ten.disk.slow = True
    ten.ask(m.Produce(id=3, topic="t", partition=0, count=5))
    assert ten.ask(trim(4, 11)).high_watermark == 10  # what is not committed cannot be forgotten
    assert ten.written() == []


def test_a_trim_of_what_does_not_exist_is_refused(ten: Playbook) -> None:
    assert ten.ask(trim(1, 0, topic="u")).error == "UNKNOWN_TOPIC"
    assert ten.ask(trim(2, 0, partition=2)).error == "UNKNOWN_PARTITION"


def test_a_topic_made_again_cannot_be_trimmed_by_what_the_old_one_held(ten: Playbook) -> None:
    ten.disk.slow = True
    ten.ask(m.DeleteTopic(id=1, topic="t"))
    ten.ask(create(2))
    refusal = ten.ask(trim(3, 4))
    assert (refusal.error, refusal.high_watermark) == ("OFFSET_OUT_OF_RANGE", 0)
    ten.sync()
    assert ten.answer(2).ok


def test_there_is_a_most_of_topics_those_under_way_included() -> None:
    book = Playbook.alone(limits=Limits(max_topics=2))
    book.disk.slow = True
    book.ask(create(1, "a"))
    book.ask(create(2, "b"))
    assert book.ask(create(3, "c")).error == "OVERLOADED"
    book.sync()
    refusal = book.ask(create(4, "c"))
    assert refusal.error == "OVERLOADED"
    assert "max_topics is 2" in refusal.message
    register = m.Register(id=5, role="producer", topics=["a", "c"])
    assert book.ask(register).error == "OVERLOADED"
    assert book.written() == []


def test_there_is_a_most_of_partitions_in_all_those_under_way_included() -> None:
    book = Playbook.alone(limits=Limits(max_total_partitions=5))
    book.disk.slow = True
    book.ask(create(1, "a", partitions=2))
    book.ask(create(2, "b", partitions=2))
    refusal = book.ask(create(3, "c", partitions=2))
    assert refusal.error == "OVERLOADED"
    assert "there are 4 partitions, and 2 more are wanted" in refusal.message
    assert "max_total_partitions is 5" in refusal.message
    book.ask(create(4, "c", partitions=1))
    register = m.Register(id=5, role="producer", topics=["a", "d"])
    assert book.ask(register).error == "OVERLOADED"
    more = m.CreatePartitions(id=6, topic="a", partitions=3)
    assert book.ask(more).error == "OVERLOADED"
    book.sync()
    book.ask(m.DeleteTopic(id=7, topic="b"))
    book.ask(m.CreatePartitions(id=8, topic="a", partitions=4))
    book.sync()
    assert book.answer(8).partitions == 4
