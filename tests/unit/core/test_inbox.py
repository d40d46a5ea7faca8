"""Between cluster and application: order, once, revoked and released, whatever comes when."""

from __future__ import annotations

import threading
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from yak.core.inbox import Inbox
from yak.core.records import Chunk, encode_values
from yak.errors import YakError
from yak.model import Record

T0, T1 = ("t", 0), ("t", 1)


def _chunk(offset: int, count: int = 3) -> Chunk:
    return Chunk(offset, count, 1, 1, encode_values(list(range(offset, offset + count))))


def _inbox(*, commit_after: bool = True, room: int = 1_000_000) -> tuple[Inbox, list[None]]:
    told: list[None] = []
    inbox = Inbox(
        threading.Lock(),
        commit_after=commit_after,
        room_bytes=room,
        on_progress=lambda: told.append(None),
    )
    return inbox, told


def _filled(*offsets: int, **options: Any) -> Inbox:
    inbox, _ = _inbox(**options)
    inbox.assign(T0, 0)
    inbox.put(T0, 0, [_chunk(offset) for offset in offsets], 100)
    return inbox


def _offsets(records: list[Record]) -> list[int]:
    return [record.offset for record in records]


def test_what_was_put_is_taken_in_order_and_once() -> None:
    inbox = _filled(0, 3)
    assert _offsets(inbox.take(2)) == [0, 1]
    assert _offsets(inbox.take(10)) == [2, 3, 4, 5]
    assert inbox.take(10) == []
    assert inbox.wanted() == [("t", 0, 6)]


def test_an_answer_to_an_older_question_is_dropped() -> None:
    inbox = _filled(0)
    inbox.put(T0, 0, [_chunk(0)], 100)
    inbox.put(("gone", 0), 0, [_chunk(0)], 100)
    assert _offsets(inbox.take(10)) == [0, 1, 2]


def test_operations_that_overlap_or_leave_gaps_are_read_from_where_it_stands() -> None:
    inbox, _ = _inbox()
    inbox.assign(T0, 2)
    inbox.put(T0, 2, [_chunk(0), _chunk(1, 1), _chunk(7), Chunk(10, 5, 1, 1, None)], 15)
    assert _offsets(inbox.take(10)) == [2, 7, 8, 9]
    assert inbox.take(10) == []
    assert inbox.positions[T0].next == 15
    assert inbox.at_end()


def test_fetching_pauses_without_room_and_is_told_when_there_is_some() -> None:
    inbox, told = _inbox(room=50)
    inbox.assign(T0, 0)
    inbox.put(T0, 0, [_chunk(0), _chunk(3)], 9)
    assert inbox.wanted() == []
    inbox.take(3)
    assert inbox.wanted() == [("t", 0, 6)]
    assert len(told) == 1


def test_asking_for_more_is_what_makes_records_handled() -> None:
    inbox = _filled(0)
    inbox.take(2)
    assert inbox.to_acknowledge() == []
    inbox.take(1)
    assert inbox.to_acknowledge() == [("t", 0, 2)]
    inbox.came_back()
    assert inbox.to_acknowledge() == [("t", 0, 3)]
    inbox.acknowledged([("t", 0, 3)])
    assert inbox.to_acknowledge() == []


def test_the_loop_is_told_once_until_it_has_looked() -> None:
    inbox, told = _inbox()
    inbox.assign(T0, 0)
    inbox.put(T0, 0, [_chunk(0, 100)], 100)
    assert [r.offset for _ in range(50) if (r := inbox.take_one())] == list(range(50))
    assert len(told) == 1
    assert inbox.to_acknowledge() == [("t", 0, 49)]
    inbox.take_one()
    inbox.take_one()
    assert len(told) == 2
    assert inbox.to_acknowledge() == [("t", 0, 51)]


def test_by_hand_nothing_is_handled_by_asking() -> None:
    inbox = _filled(0, commit_after=False)
    for _ in range(3):
        inbox.take_one()
    inbox.take(1)
    assert inbox.to_acknowledge() == []
    inbox.handled_up_to(T0, 2)
    assert inbox.to_acknowledge() == [("t", 0, 2)]
    inbox.handled_up_to(T0, 99)
    assert inbox.to_acknowledge() == [("t", 0, 3)], "never more than was handed out"


def test_a_revoked_partition_is_silent_at_once_and_released_when_all_is_done() -> None:
    inbox = _filled(0, 3)
    inbox.take(2)
    inbox.revoke([T0])
    assert inbox.release() == []
    assert inbox.wanted() == []
    assert inbox.take(5) == []
    assert inbox.release() == [], "not acknowledged yet"
    inbox.acknowledged(inbox.to_acknowledge())
    assert inbox.release() == [T0]
    assert inbox.positions == {}


def test_a_revoked_partition_that_nobody_has_records_of_is_released_at_once() -> None:
    inbox = _filled(0)
    inbox.revoke([T0])
    assert inbox.release() == [T0]


def test_revoking_leaves_other_partitions_alone() -> None:
    inbox = _filled(0)
    inbox.assign(T1, 5)
    inbox.put(T1, 5, [_chunk(5)], 8)
    inbox.revoke([T0])
    assert [(r.partition, r.offset) for r in inbox.take(10)] == [(1, 5), (1, 6), (1, 7)]
    assert inbox.buffered == 0


def test_a_partition_that_comes_back_before_its_release_goes_on_where_it_was() -> None:
    inbox = _filled(0, 3)
    inbox.take(2)
    inbox.revoke([T0])
    inbox.assign(T0, 0)
    assert inbox.wanted() == [("t", 0, 2)]
    inbox.put(T0, 2, [_chunk(0), _chunk(3)], 6)
    assert _offsets(inbox.take(10)) == [2, 3, 4, 5]


def test_a_jump_goes_over_what_is_gone_but_not_over_what_is_here() -> None:
    inbox = _filled(0)
    inbox.jump(T0, 10)
    assert _offsets(inbox.take(10)) == [0, 1, 2]
    inbox.put(T0, 10, [_chunk(10)], 13)
    assert _offsets(inbox.take(10)) == [10, 11, 12]
    inbox.jump(T0, 20)
    assert inbox.positions[T0].next == 20


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
    inbox.put(T0, 0, [], 0)
    assert called == []
    inbox.put(T0, 0, [_chunk(0)], 3)
    inbox.put(T0, 3, [_chunk(3)], 6)
    assert len(called) == 1
    assert not inbox.when_ready(lambda: called.append(None))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.sampled_from([T0, T1]), st.integers(1, 4)),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("take_one")),
        st.tuples(st.just("revoke"), st.sampled_from([T0, T1])),
        st.tuples(st.just("assign"), st.sampled_from([T0, T1])),
        st.tuples(st.just("acknowledge")),
        st.tuples(st.just("release")),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_handled_is_acknowledged_once_and_never_what_was_not_handed_out(
    steps: list[tuple[Any, ...]],
) -> None:
    inbox, _ = _inbox(room=200)
    group = {T0: 0, T1: 0}  # what the cluster has
    seen: dict[Any, int] = {}  # the last offset handed out since the partition last came
    for name, *arguments in steps:
        match name:
            case "fetch":
                where, count = arguments
                for topic, partition, offset in inbox.wanted():
                    if (topic, partition) == where:
                        first = max(0, offset - offset % 3)  # an operation that began before
                        chunk = _chunk(first, offset - first + count)
                        inbox.put(where, offset, [chunk], offset + count + 5)
            case "take" | "take_one":
                one = inbox.take_one() if name == "take_one" else None
                records = inbox.take(*arguments) if arguments else [one] if one else []
                for record in records:
                    where = (record.topic, record.partition)
                    assert not inbox.positions[where].revoked
                    assert record.offset == seen.get(where, group[where] - 1) + 1
                    assert record.value == record.offset
                    seen[where] = record.offset
            case "revoke":
                inbox.revoke([w for w in arguments if w in inbox.positions])
            case "assign":
                inbox.assign(arguments[0], group[arguments[0]])
            case "acknowledge":
                for topic, partition, offset in inbox.to_acknowledge():
                    assert offset <= seen[topic, partition] + 1
                    group[topic, partition] = offset
                    inbox.acknowledged([(topic, partition, offset)])
            case _:
                for where in inbox.release():
                    assert group[where] == seen.pop(where, group[where] - 1) + 1
        for position in inbox.positions.values():
            assert position.acked <= position.handled <= position.next <= position.fetch_at
