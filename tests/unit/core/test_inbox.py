"""Between cluster and application: order, once, revoked and released, whatever comes when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from yak.core.inbox import Inbox
from yak.core.positions import Position
from yak.core.records import Chunk, encode_values
from yak.errors import YakError
from yak.model import Record, TopicPartition

T0, T1 = ("t", 0), ("t", 1)


def _chunk(offset: int, count: int = 3) -> Chunk:
    return Chunk(offset, count, 1, 1, encode_values(list(range(offset, offset + count))))


def _inbox(
    *, commit_after: bool = True, room: int = 1_000_000, announces: bool = False
) -> tuple[Inbox, list[None]]:
    told: list[None] = []
    inbox = Inbox(
        threading.Lock(),
        commit_after=commit_after,
        room_bytes=room,
        on_progress=lambda: told.append(None),
        announces=announces,
    )
    return inbox, told


def _filled(*offsets: int, **options: Any) -> Inbox:
    inbox, _ = _inbox(**options)
    inbox.assign(T0, 0)
    _put(inbox, T0, 0, [_chunk(offset) for offset in offsets], 100)
    return inbox


def _put(
    inbox: Inbox, where: TopicPartition, asked: int, chunks: Sequence[Chunk], end: int
) -> None:
    inbox.put(inbox.positions[where], asked, chunks, end)


def _wanted(inbox: Inbox) -> list[tuple[str, int, int]]:
    """What a fetch would ask for, if it had to say all."""
    plan = inbox.plan(-1)
    return [] if plan is None else [(*position.where, at) for position, at in plan.places]


def _to_acknowledge(inbox: Inbox) -> list[tuple[str, int, int]]:
    return [(*position.where, offset) for position, offset in inbox.to_acknowledge()]


def _acknowledge(inbox: Inbox) -> None:
    inbox.acknowledged(inbox.to_acknowledge())


def _offsets(records: list[Record]) -> list[int]:
    return [record.offset for record in records]


def test_what_was_put_is_taken_in_order_and_once() -> None:
    inbox = _filled(0, 3)
    assert _offsets(inbox.take(2)) == [0, 1]
    assert _offsets(inbox.take(10)) == [2, 3, 4, 5]
    assert inbox.take(10) == []
    assert _wanted(inbox) == [("t", 0, 6)]


def test_an_answer_to_an_older_question_is_dropped() -> None:
    inbox = _filled(0)
    _put(inbox, T0, 0, [_chunk(0)], 100)
    assert _offsets(inbox.take(10)) == [0, 1, 2]


def test_an_answer_for_an_earlier_stay_of_a_partition_is_dropped() -> None:
    inbox, _ = _inbox()
    before = inbox.assign(T0, 0)
    inbox.lose([T0])
    inbox.assign(T0, 0)
    inbox.put(before, 0, [_chunk(0)], 100)
    assert inbox.take(10) == []
    _put(inbox, T0, 0, [_chunk(0, 1)], 100)
    assert _offsets(inbox.take(10)) == [0]


def test_operations_that_overlap_or_leave_gaps_are_read_from_where_it_stands() -> None:
    inbox, _ = _inbox()
    inbox.assign(T0, 2)
    _put(inbox, T0, 2, [_chunk(0), _chunk(1, 1), _chunk(7), Chunk(10, 5, 1, 1, None)], 15)
    assert _offsets(inbox.take(10)) == [2, 7, 8, 9]
    assert inbox.take(10) == []
    assert inbox.positions[T0].next == 15
    assert inbox.at_end()


def test_fetching_pauses_without_room_and_is_told_when_there_is_some() -> None:
    inbox, told = _inbox(room=50)
    inbox.assign(T0, 0)
    _put(inbox, T0, 0, [_chunk(0), _chunk(3)], 9)
    assert _wanted(inbox) == []
    inbox.take(3)
    assert _wanted(inbox) == [("t", 0, 6)]
    assert len(told) == 1


def test_asking_for_more_is_what_makes_records_handled() -> None:
    inbox = _filled(0)
    inbox.take(2)
    assert _to_acknowledge(inbox) == []
    inbox.take(1)
    assert _to_acknowledge(inbox) == [("t", 0, 2)]
    inbox.came_back()
    assert _to_acknowledge(inbox) == [("t", 0, 3)]
    _acknowledge(inbox)
    assert _to_acknowledge(inbox) == []


def test_the_loop_is_told_once_until_it_has_looked() -> None:
    inbox, told = _inbox()
    inbox.assign(T0, 0)
    _put(inbox, T0, 0, [_chunk(0, 100)], 100)
    assert [r.offset for _ in range(50) if (r := inbox.take_one())] == list(range(50))
    assert len(told) == 1
    assert _to_acknowledge(inbox) == [("t", 0, 49)]
    inbox.take_one()
    inbox.take_one()
    assert len(told) == 2
    assert _to_acknowledge(inbox) == [("t", 0, 51)]


def test_by_hand_nothing_is_handled_by_asking() -> None:
    inbox = _filled(0, commit_after=False)
    for _ in range(3):
        inbox.take_one()
    inbox.take(1)
    assert _to_acknowledge(inbox) == []
    inbox.handled_up_to(T0, 2)
    assert _to_acknowledge(inbox) == [("t", 0, 2)]
    inbox.handled_up_to(T0, 99)
    assert _to_acknowledge(inbox) == [("t", 0, 3)], "never more than was handed out"


def test_a_revoked_partition_is_silent_at_once_and_released_when_all_is_done() -> None:
    inbox = _filled(0, 3)
    inbox.take(2)
    inbox.revoke([T0])
    assert inbox.release() == []
    assert _wanted(inbox) == []
    assert inbox.take(5) == []
    assert inbox.release() == [], "not acknowledged yet"
    _acknowledge(inbox)
    assert inbox.release() == [T0]
    assert inbox.positions == {}


def test_a_revoked_partition_that_nobody_has_records_of_is_released_at_once() -> None:
    inbox = _filled(0)
    inbox.revoke([T0])
    assert inbox.release() == [T0]


def test_revoking_leaves_other_partitions_alone() -> None:
    inbox = _filled(0)
    inbox.assign(T1, 5)
    _put(inbox, T1, 5, [_chunk(5)], 8)
    inbox.revoke([T0])
    assert [(r.partition, r.offset) for r in inbox.take(10)] == [(1, 5), (1, 6), (1, 7)]
    assert inbox.buffered == 0


def test_a_partition_that_comes_back_before_its_release_goes_on_where_it_was() -> None:
    inbox = _filled(0, 3)
    inbox.take(2)
    inbox.revoke([T0])
    inbox.keep(T0)
    assert _wanted(inbox) == [("t", 0, 2)]
    _put(inbox, T0, 2, [_chunk(0), _chunk(3)], 6)
    assert _offsets(inbox.take(10)) == [2, 3, 4, 5]


def test_a_jump_goes_over_what_is_gone_but_not_over_what_is_here() -> None:
    inbox = _filled(0)
    position = inbox.positions[T0]
    assert inbox.jump(position, 3, 10)
    assert not inbox.jump(position, 3, 20), "it came late"
    assert _offsets(inbox.take(10)) == [0, 1, 2]
    _put(inbox, T0, 10, [_chunk(10)], 13)
    assert _offsets(inbox.take(10)) == [10, 11, 12]
    assert inbox.jump(position, 13, 20)
    assert position.next == 20


def test_an_error_is_raised_after_what_was_fetched() -> None:
    inbox = _filled(0)
    inbox.fail(YakError("broken"))
    assert len(inbox.take(10)) == 3
    with pytest.raises(YakError, match="broken"):
        inbox.take(10)


def test_who_waits_is_called_once() -> None:
    inbox, _ = _inbox()
    called: list[None] = []
    inbox.assign(T0, 0)
    assert inbox.when_ready(lambda: called.append(None))
    _put(inbox, T0, 0, [], 0)
    assert called == []
    _put(inbox, T0, 0, [_chunk(0)], 3)
    _put(inbox, T0, 3, [_chunk(3)], 6)
    assert len(called) == 1
    assert not inbox.when_ready(lambda: called.append(None))


_PARTITION = st.sampled_from([T0, T1])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), _PARTITION, st.integers(1, 4)),
        st.tuples(st.just("answer"), _PARTITION),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("take_one")),
        st.tuples(st.just("tell")),
        st.tuples(st.sampled_from(["revoke", "assign", "lose", "pause", "resume"]), _PARTITION),
        st.tuples(st.just("seek"), _PARTITION, st.integers(0, 12)),
        st.tuples(st.sampled_from(["acknowledge", "release"])),
    ),
    max_size=80,
)


class _World:
    """One inbox, the group, an answer on its way for each partition, and what must hold."""

    def __init__(self, *, announces: bool) -> None:
        self.inbox, _ = _inbox(room=200, announces=announces)
        self.announces = announces
        self.group = {T0: 0, T1: 0}  # what the cluster has
        self.next: dict[TopicPartition, int] = {}  # the next offset that may be handed out
        self.handed: dict[TopicPartition, int] = {}  # the furthest, in this stay
        self.told: set[TopicPartition] = set()
        self.under_way: dict[TopicPartition, tuple[Position, int, int]] = {}

    def step(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)
        for position in self.inbox.positions.values():
            assert position.acked <= position.handled <= position.handed
            assert position.next <= position.fetch_at

    def ask(self, where: TopicPartition, count: int) -> None:
        for topic, partition, offset in _wanted(self.inbox):
            if (topic, partition) == where:
                self.under_way[where] = (self.inbox.positions[where], offset, count)

    def answer(self, where: TopicPartition) -> None:
        if where in self.under_way:
            position, offset, count = self.under_way.pop(where)
            first = max(0, offset - offset % 3)  # an operation that began before
            chunk = _chunk(first, offset - first + count)
            self.inbox.put(position, offset, [chunk], offset + count + 5)

    def take(self, most: int) -> None:
        self._look_at(self.inbox.take(most))

    def take_one(self) -> None:
        record = self.inbox.take_one()
        self._look_at([] if record is None else [record])

    def _look_at(self, records: list[Record]) -> None:
        for record in records:
            where = (record.topic, record.partition)
            position = self.inbox.positions[where]
            assert not position.revoked
            assert not position.paused
            assert where in self.told or not self.announces
            assert record.offset == record.value == self.next[where]
            self.next[where] += 1
            self.handed[where] = max(self.handed[where], self.next[where])

    def tell(self) -> None:
        self.inbox.came_back()
        while (notice := self.inbox.notice()) is not None:
            for where in notice.partitions:
                assert (where in self.told) == (notice.kind != "assigned")
                self.told.symmetric_difference_update([where])
            self.inbox.noted(notice)

    def assign(self, where: TopicPartition) -> None:
        if where in self.inbox.positions:
            self.inbox.keep(where)
        else:
            self.inbox.assign(where, self.group[where])
            self.next[where] = self.handed[where] = self.group[where]

    def revoke(self, where: TopicPartition) -> None:
        self.inbox.revoke([where] if where in self.inbox.positions else [])

    def lose(self, where: TopicPartition) -> None:
        self.inbox.lose([where] if where in self.inbox.positions else [])

    def pause(self, where: TopicPartition) -> None:
        if position := self.inbox.positions.get(where):
            self.inbox.pause(position)

    def resume(self, where: TopicPartition) -> None:
        if position := self.inbox.positions.get(where):
            self.inbox.resume(position)

    def seek(self, where: TopicPartition, offset: int) -> None:
        position = self.inbox.positions.get(where)
        if position is not None and not position.revoked:
            self.inbox.seek(position, offset)
            self.next[where] = offset

    def acknowledge(self) -> None:
        places = self.inbox.to_acknowledge()
        for position, offset in places:
            assert offset <= self.handed[position.where], "more than was handed out"
            self.group[position.where] = max(self.group[position.where], offset)
        self.inbox.acknowledged(places)

    def release(self) -> None:
        for where in self.inbox.release():
            done = min(self.handed[where], self.next[where])
            assert self.group[where] >= done, "what was handed out is acknowledged"
            assert where not in self.told, "it went before that was said"


@settings(max_examples=300, deadline=None)
@given(_STEPS, st.booleans())
def test_each_once_in_order_acknowledged_and_told_whatever_comes_when(
    steps: list[tuple[Any, ...]], announces: bool
) -> None:
    world = _World(announces=announces)
    for step in steps:
        world.step(*step)
    # In the end everything goes on from where it stands.
    world.tell()
    for where in list(world.inbox.positions):
        world.resume(where)
        world.assign(where)
    world.tell()
    while world.inbox.take(100):
        pass
    for where, position in world.inbox.positions.items():
        at = position.next
        world.ask(where, 3)
        world.answer(where)
        assert _offsets(world.inbox.take(100))[:1] == [at]
