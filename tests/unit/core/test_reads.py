"""What any replica answers: fetches with their long polls, and metadata."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import Playbook, Scribe, a_view
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.reads import Reads, as_dialled, leader_hint, metadata

NOW = 100.0


class Stage:
    """Topic t has 10 records in partition 0, of which 3 are trimmed, and none in 1."""

    def __init__(self, **limits: int) -> None:
        self.scribe = Scribe()
        self.scribe.topic(partitions=2)
        self.scribe.append(10)
        self.scribe.write(ops.Trim, topic="t", partition=0, before=3)
        self.out: list[e.Effect] = []
        self.reads = Reads(self.scribe.state, Limits(**limits), self.out)

    def fetch(
        self, *partitions: m.At, id_: int = 1, conn: int = 7, cut_off: bool = False, **more: Any
    ) -> e.SendRecords | None:
        """Its answer, or None where it waits."""
        request = m.Fetch(id=id_, partitions=tuple(partitions), **more)
        self.reads.fetch(conn, request, NOW, cut_off=cut_off)
        return self.answer(id_)

    def answer(self, id_: int = 1) -> e.SendRecords | None:
        found = [x for x in self.out if isinstance(x, e.SendRecords) and x.id == id_]
        assert len(found) <= 1, "a fetch is answered once"
        return found[0] if found else None

    def append(self, partition: int = 0) -> None:
        self.scribe.append(1, partition=partition)
        self.reads.wake([("t", partition)])


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_fetch_names_what_the_shell_is_to_read(stage: Stage) -> None:
    answer = stage.fetch(("t", 0, 4), ("t", 1, 0), max_bytes=500)
    assert answer is not None
    assert (answer.conn, answer.offsets, answer.max_bytes) == (7, [4, None], 500)
    first, second = answer.entries
    assert (first.start, first.high_watermark) == (3, 10)
    assert (second.start, second.high_watermark) == (0, 0)


@pytest.mark.parametrize("offset", [10, 11, 1000])
def test_past_the_high_watermark_it_is_empty_and_no_error(stage: Stage, offset: int) -> None:
    answer = stage.fetch(("t", 0, offset))
    assert answer is not None
    assert answer.offsets == [None]
    assert not isinstance(answer.entries[0].error, str)


def test_before_the_log_start_it_is_out_of_range(stage: Stage) -> None:
    answer = stage.fetch(("t", 0, 2), ("t", 0, 3))
    assert answer is not None
    entry = answer.entries[0]
    assert (entry.error, entry.start, entry.high_watermark) == ("OFFSET_OUT_OF_RANGE", 3, 10)
    assert answer.offsets == [None, 3]


@pytest.mark.parametrize(
    ("where", "error"), [(("t", 2, 0), "UNKNOWN_PARTITION"), (("u", 0, 0), "UNKNOWN_TOPIC")]
)
def test_an_error_answers_at_once(stage: Stage, where: m.At, error: str) -> None:
    answer = stage.fetch(("t", 1, 0), where, wait_ms=500)
    assert answer is not None
    assert answer.entries[1].error == error
    assert answer.entries[1].retriable is True


def test_an_answer_has_a_most_of_bytes() -> None:
    answer = Stage(max_fetch_bytes=100).fetch(("t", 0, 4), max_bytes=500)
    assert answer is not None
    assert answer.max_bytes == 100


# -- long polls -----------------------------------------------------------------------------------


def test_a_long_poll_waits_for_a_first_record_of_any_partition(stage: Stage) -> None:
    assert stage.fetch(("t", 0, 10), ("t", 1, 0), wait_ms=500) is None
    stage.append(1)
    answer = stage.answer()
    assert answer is not None
    assert answer.offsets == [None, 0]
    stage.append(0)
    stage.reads.tick(NOW + 1, cut_off=False)


def test_what_another_partition_brings_does_not_wake_it(stage: Stage) -> None:
    stage.fetch(("t", 1, 0), wait_ms=500)
    stage.append(0)
    assert stage.answer() is None


def test_beyond_the_end_it_waits_for_the_record_that_was_asked_for(stage: Stage) -> None:
    """The client has read further elsewhere; what it knows already is no news."""
    assert stage.fetch(("t", 0, 11), wait_ms=500) is None
    stage.append()
    assert stage.answer() is None
    stage.append()
    assert stage.answer() is not None


def test_it_ends_after_wait_ms(stage: Stage) -> None:
    stage.fetch(("t", 1, 0), wait_ms=500)
    assert stage.reads.next_deadline() == NOW + 0.5
    stage.reads.tick(NOW + 0.4, cut_off=False)
    assert stage.answer() is None
    stage.reads.tick(NOW + 0.5, cut_off=False)
    answer = stage.answer()
    assert answer is not None
    assert answer.offsets == [None]
    assert stage.reads.next_deadline() == float("inf")


def test_it_does_not_wait_where_there_is_something_already(stage: Stage) -> None:
    assert stage.fetch(("t", 1, 0), ("t", 0, 4), wait_ms=500) is not None


def test_it_does_not_wait_for_nothing(stage: Stage) -> None:
    assert stage.fetch(wait_ms=500) is not None


def test_a_deleted_topic_answers_whoever_waits(stage: Stage) -> None:
    stage.fetch(("t", 1, 0), wait_ms=500)
    stage.scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    stage.reads.wake([("t", 0), ("t", 1)])
    answer = stage.answer()
    assert answer is not None
    assert answer.entries[0].error == "UNKNOWN_TOPIC"


def test_a_topic_made_again_is_not_the_one_that_was_meant(stage: Stage) -> None:
    meant = {"t": stage.scribe.state.topics["t"].topic_id}
    stage.fetch(("t", 1, 0), wait_ms=500, topic_ids=meant)
    stage.scribe.write(ops.DeleteTopic, topic="t", topic_id=meant["t"])
    stage.scribe.topic(partitions=2)
    stage.scribe.append(5, partition=1)
    stage.reads.wake([("t", 1)])
    answer = stage.answer()
    assert answer is not None
    assert (answer.entries[0].error, answer.offsets) == ("UNKNOWN_TOPIC", [None])
    now = {"t": stage.scribe.state.topics["t"].topic_id, "other": "t9"}
    answer = stage.fetch(("t", 1, 4), id_=2, topic_ids=now)
    assert answer is not None
    assert answer.offsets == [4]


def test_several_wait_and_each_is_answered(stage: Stage) -> None:
    for n in (1, 2, 3):
        stage.fetch(("t", 1, 0), ("t", 1, 0), id_=n, conn=n, wait_ms=500)
    stage.append(1)
    assert [x.id for x in stage.out if isinstance(x, e.SendRecords)] == [1, 2, 3]


def test_a_connection_that_ended_is_not_answered(stage: Stage) -> None:
    stage.fetch(("t", 1, 0), id_=1, conn=7, wait_ms=500)
    stage.fetch(("t", 1, 0), id_=2, conn=8, wait_ms=500)
    stage.reads.closed(7)
    stage.append(1)
    stage.reads.tick(NOW + 1, cut_off=False)
    assert stage.answer(1) is None
    assert stage.answer(2) is not None


def test_nothing_of_an_answered_fetch_is_kept(stage: Stage) -> None:
    stage.fetch(("t", 0, 10), ("t", 1, 0), wait_ms=500)
    stage.append(1)
    assert not stage.reads._by_partition
    assert not stage.reads._by_conn


def test_a_replica_that_is_cut_off_says_so_to_all(stage: Stage) -> None:
    stage.fetch(("t", 1, 0), id_=1, wait_ms=500)
    stage.reads.tick(NOW, cut_off=True)
    late = stage.fetch(("t", 0, 4), id_=2, wait_ms=500, cut_off=True)
    for answer in (stage.answer(1), late):
        assert answer is not None
        assert answer.entries[0].error == "NO_LEADER"
        assert answer.offsets == [None]


def test_only_what_is_committed_is_ever_sent() -> None:
    book, two, three = Playbook.of_three()
    book.ask(m.CreateTopic(id=1, topic="t", partitions=1))
    two.holds()
    three.holds()
    book.ask(m.Produce(id=2, topic="t", partition=0, count=1))
    two.holds()
    assert book.ask(m.Fetch(id=3, partitions=(("t", 0, 0),))).offsets == [None]
    assert book.ask(m.Fetch(id=4, partitions=(("t", 0, 0),), wait_ms=500)) is None
    three.holds()
    assert book.answer(4).offsets == [0]


# -- metadata -------------------------------------------------------------------------------------


def test_metadata_tells_all_that_this_replica_knows(stage: Stage) -> None:
    view = a_view(2, [2, 3], live=[2, 3])
    answer = metadata(stage.scribe.state, view, m.Metadata(id=1), None)
    assert (answer.cluster, answer.epoch, answer.leader, answer.isr) == ("C", 3, 2, [2, 3])
    assert [(b.id, b.live) for b in answer.brokers] == [(1, False), (2, True), (3, True)]
    assert answer.topics["t"].partitions == 2


def test_metadata_of_an_unknown_topic_creates_nothing(stage: Stage) -> None:
    request = m.Metadata(id=1, topics=["t", "u"])
    answer = metadata(stage.scribe.state, None, request, None)
    assert answer.leader is None
    assert answer.topics["t"].topic_id == "t1"
    assert answer.topics["u"].error == "UNKNOWN_TOPIC"
    assert "u" not in stage.scribe.state.topics


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "0.0.0.0", "::", ""]
)
def test_a_local_address_is_told_as_the_client_dialled_it(host: str) -> None:
    assert as_dialled(host, "10.0.0.7") == "10.0.0.7"
    assert as_dialled(host, None) == host


@pytest.mark.parametrize("host", ["10.1.2.3", "broker-1.example", "fe80::1"])
def test_any_other_address_is_told_as_it_is(host: str) -> None:
    assert as_dialled(host, "10.0.0.7") == host


def test_the_leader_s_address_if_one_is_known() -> None:
    assert leader_hint(None, None) is None
    assert leader_hint(a_view(None), None) is None
    assert leader_hint(a_view(2), "10.0.0.7") == m.LeaderHint(2, "10.0.0.7", 9093)
    assert leader_hint(a_view(9), None) is None
