"""Fetches that stand: the same as plain ones, for the price of what has changed."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.support.playbook import Scribe
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.reads import Reads
from yak.core.standing import ANSWERED_AT_ONCE, LOOK_AGAIN_S
from yak.errors import Refused
from yak.model import TopicPartition

NOW = 100.0
CONN = 7


class Stage:
    """Topic t with empty partitions, and one client that asks on one connection."""

    def __init__(self, partitions: int = 3) -> None:
        self.scribe = Scribe()
        self.scribe.topic(partitions=partitions)
        self.out: list[e.Effect] = []
        self.reads = Reads(self.scribe.state, Limits(), self.out)
        self.now = NOW
        self.asked = 0

    def ask(
        self, session: Any, *partitions: m.At, wait_ms: int = 500, **more: Any
    ) -> e.SendRecords | None:
        """Its answer, or None where it waits."""
        self.asked += 1
        request = m.Fetch(
            id=self.asked, session=session, partitions=tuple(partitions), wait_ms=wait_ms,
            topic_ids=more.pop("topic_ids", {}),
        )  # fmt: skip
        self.reads.fetch(CONN, request, self.now, cut_off=more.pop("cut_off", False))
        return self.answer(self.asked)

    def answer(self, number: int) -> e.SendRecords | None:
        found = [x for x in self.out if isinstance(x, e.SendRecords) and x.id == number]
        assert len(found) <= 1, "a fetch is answered once"
        return found[0] if found else None

    def append(self, *partitions: int) -> None:
        for partition in partitions:
            self.scribe.append(1, partition=partition)
        self.reads.wake([("t", partition) for partition in partitions])


def at(*offsets: int) -> list[m.At]:
    return [("t", partition, offset) for partition, offset in enumerate(offsets)]


def told(answer: e.SendRecords | None) -> list[tuple[int, int | None]]:
    """[(partition, the offset that is read from)]"""
    assert answer is not None
    return [(entry.partition, at) for entry, at in zip(answer.entries, answer.offsets, strict=True)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_new_set_is_answered_as_any_fetch_and_the_same_with_its_news_alone(stage: Stage) -> None:
    assert stage.ask("new", *at(0, 0, 0)) is None
    stage.append(1)
    assert told(stage.answer(1)) == [(1, 0), (0, None), (2, None)]
    assert stage.ask("same", ("t", 1, 1)) is None
    stage.append(2)
    assert told(stage.answer(2)) == [(2, 0)]


def test_what_was_not_taken_is_offered_again(stage: Stage) -> None:
    stage.ask("new", *at(0, 0, 0), wait_ms=0)
    stage.append(0)
    assert told(stage.ask("same")) == [(0, 0)]
    assert told(stage.ask("same")) == [(0, 0)]
    assert stage.ask("same", ("t", 0, 1)) is None


def test_partitions_take_turns(stage: Stage) -> None:
    for _ in range(5):
        stage.append(0, 1, 2)
    stage.ask("new", *at(0, 0, 0), wait_ms=0)
    served: list[int] = []
    offsets = [0, 0, 0]
    moved: list[m.At] = []
    for _ in range(6):  # each answer has room for one partition
        first = told(stage.ask("same", *moved))[0][0]
        served.append(first)
        offsets[first] += 1
        moved = [("t", first, offsets[first])]
    assert served == [0, 1, 2, 0, 1, 2]


def test_an_answer_speaks_of_a_hundred_and_all_have_their_turn() -> None:
    many = 2 * ANSWERED_AT_ONCE + 50
    stage = Stage(partitions=many)
    stage.append(*range(many))
    assert len(told(stage.ask("new", *at(*[0] * many)))) == many, "a new set: all of it"
    served: list[int] = []
    moved: list[m.At] = []
    sizes = []
    while len(served) < many:
        answer = told(stage.ask("same", *moved))
        sizes.append(len(answer))
        served += [partition for partition, _ in answer]
        moved = [("t", partition, 1) for partition, _ in answer]
    assert served == list(range(many))
    assert sizes == [ANSWERED_AT_ONCE, ANSWERED_AT_ONCE, 50]


def test_errors_do_not_keep_the_others_from_their_turn() -> None:
    many = ANSWERED_AT_ONCE + 1
    stage = Stage(partitions=1)
    gone = [("gone", partition, 0) for partition in range(many)]
    stage.ask("new", *gone, ("t", 0, 0), wait_ms=0)
    stage.append(0)
    told_of = [
        (entry.topic, entry.partition)
        for answer in (stage.ask("same"), stage.ask("same"))
        if answer is not None
        for entry in answer.entries
    ]
    assert set(told_of) == {("t", 0), *(("gone", partition) for partition in range(many))}
    assert len(told_of) == 2 * ANSWERED_AT_ONCE


def test_a_wait_ends_with_nothing(stage: Stage) -> None:
    assert stage.ask("new", *at(0, 0)) is None
    assert stage.reads.next_deadline() == NOW + 0.5
    stage.reads.tick(NOW + 0.5, cut_off=False)
    assert told(stage.answer(1)) == [(0, None), (1, None)], "a new set: the high watermarks"
    assert stage.ask("same") is None
    stage.reads.tick(NOW + 0.6, cut_off=False)
    assert told(stage.answer(2)) == []
    assert stage.reads.next_deadline() == float("inf")


def test_one_waits_at_a_time(stage: Stage) -> None:
    stage.ask("new", *at(0, 0))
    assert stage.ask("same") is None
    assert told(stage.answer(1)) == [], "the second ends the wait of the first"
    assert stage.ask("new", *at(0)) is None
    assert told(stage.answer(2)) == []
    stage.append(0)
    assert told(stage.answer(3)) == [(0, 0)]


def test_without_a_set_there_is_no_same(stage: Stage) -> None:
    with pytest.raises(Refused, match="this connection has none"):
        stage.ask("same")
    stage.ask("new", *at(0))
    with pytest.raises(Refused, match=r"t\[1\] is not in the session"):
        stage.ask("same", ("t", 1, 0))
    stage.reads.closed(CONN)
    with pytest.raises(Refused):
        stage.ask("same")


def test_a_connection_that_ended_is_not_answered_and_nothing_is_kept(stage: Stage) -> None:
    stage.ask("new", *at(0, 0))
    stage.reads.closed(CONN)
    stage.append(0)
    stage.reads.tick(NOW + 1, cut_off=False)
    assert stage.answer(1) is None
    assert not stage.reads._standing._by_partition
    assert not stage.reads._standing._by_conn


def test_beyond_the_end_it_waits_for_the_record_that_was_asked_for(stage: Stage) -> None:
    assert stage.ask("new", ("t", 0, 1)) is None
    stage.append(0)
    assert stage.answer(1) is None
    stage.append(0)
    assert told(stage.answer(1)) == [(0, 1)]


def test_a_replica_that_is_cut_off_says_so_of_every_partition(stage: Stage) -> None:
    stage.ask("new", *at(0, 0))
    stage.reads.tick(NOW, cut_off=True)
    late = stage.ask("same", cut_off=True)
    for answer in (stage.answer(1), late):
        assert answer is not None
        assert [entry.error for entry in answer.entries] == ["NO_LEADER"] * 2


def test_a_topic_that_is_made_again_is_another(stage: Stage) -> None:
    """Also for a plain fetch; the offsets were those of the one before."""
    stage.append(0)
    known = {"t": "t1"}
    assert stage.ask("new", *at(1, 0), topic_ids=known) is None
    stage.scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    stage.scribe.write(ops.CreateTopic, topic="t", topic_id="t9", partitions=2, config={})
    stage.reads.wake([("t", 0), ("t", 1)])
    answer = stage.answer(1)
    assert answer is not None
    assert [entry.error for entry in answer.entries] == ["UNKNOWN_TOPIC"] * 2
    plain = m.Fetch(id=99, partitions=tuple(at(0, 0)), topic_ids=known, wait_ms=500)
    stage.reads.fetch(CONN, plain, NOW, cut_off=False)
    assert stage.answer(99) is not None
    assert stage.ask("new", *at(0, 0), topic_ids={"t": "t9"}) is None


def test_a_partition_that_comes_to_be_is_an_error_no_longer(stage: Stage) -> None:
    assert told(stage.ask("new", ("t", 3, 0))) == [(3, None)]
    stage.scribe.write(ops.CreatePartitions, topic="t", partitions=4)
    assert stage.ask("same") is None
    stage.append(3)
    assert told(stage.answer(2)) == [(3, 0)]


def test_a_record_that_nobody_told_of_is_found_all_the_same(stage: Stage) -> None:
    """The set is looked at whole now and then, also while there is always something to say."""
    stage.ask("new", *at(0, 0), wait_ms=0)
    stage.scribe.append(1, partition=1)
    assert stage.ask("same") is None
    stage.reads.tick(NOW + 0.5, cut_off=False)
    assert told(stage.answer(2)) == [(1, 0)]
    stage.ask("same", ("t", 1, 1), wait_ms=0)
    stage.scribe.append(1, partition=1)
    stage.append(0)
    stage.now = NOW + 0.5 + LOOK_AGAIN_S
    assert told(stage.ask("same")) == [(0, 0), (1, 1)]


PARTITIONS = 4
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sets(st.integers(0, PARTITIONS - 1), min_size=1)),
        st.tuples(st.just("ask"), st.integers(0, PARTITIONS)),
        st.tuples(st.just("seek"), st.integers(0, PARTITIONS - 1), st.integers(0, 3)),
        st.tuples(st.just("trim"), st.integers(0, PARTITIONS - 1)),
    ),
    max_size=80,
)


class Client:
    """It takes the first few entries of each answer, and asks again at once."""

    def __init__(self) -> None:
        self.stage = Stage(PARTITIONS)
        self.state = self.stage.scribe.state
        self.reading = {("t", p): 0 for p in range(PARTITIONS)}
        #: What has moved since the last request; None: the next one is for a new set.
        self.moved: dict[TopicPartition, None] | None = None
        self.room = PARTITIONS
        self.ask()

    def ask(self) -> None:
        wanted = [(*tp, self.reading[tp]) for tp in self.reading if tp in (self.moved or ())]
        if self.moved is None:
            self.stage.ask("new", *[(*tp, at) for tp, at in self.reading.items()])
        else:
            self.stage.ask("same", *wanted)
        self.moved = {}

    def take(self) -> None:
        answer = self.stage.answer(self.stage.asked)
        if answer is None:
            return
        assert self.moved is not None
        left = self.room
        for entry, offset in zip(answer.entries, answer.offsets, strict=True):
            tp = (entry.topic, entry.partition)
            assert entry.high_watermark <= self.state.ends[tp]
            if entry.error == "OFFSET_OUT_OF_RANGE":
                self.reading[tp] = entry.start
                self.moved[tp] = None
            elif offset is not None and left > 0:
                left -= 1
                assert offset == self.reading[tp], "from where the client stands"
                self.reading[tp] += 1
                self.moved[tp] = None
        self.ask()

    def seek(self, partition: int, offset: int) -> None:
        tp = ("t", partition)
        self.reading[tp] = max(self.state.start(tp), offset)
        self.moved = None
        self.ask()

    def check(self) -> None:
        if self.stage.answer(self.stage.asked) is None:
            for (topic, partition), offset in self.reading.items():
                assert not self.stage.reads._look(topic, partition, offset, {}, False).news


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_it_never_waits_while_there_is_something_and_answers_from_where_the_client_stands(
    steps: list[tuple[Any, ...]],
) -> None:
    client = Client()
    for name, *arguments in steps:
        match name:
            case "append":
                client.stage.append(*arguments[0])
            case "ask":
                client.room = arguments[0]
                client.take()
            case "seek":
                client.seek(*arguments)
            case _:
                end = client.state.ends["t", arguments[0]]
                client.stage.scribe.write(ops.Trim, topic="t", partition=arguments[0], before=end)
        client.check()
