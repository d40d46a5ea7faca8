"""Seek, pause, what is told and what stands in the way: in an inbox, step by step."""

from __future__ import annotations

import threading

import pytest

from yak.core.inbox import Inbox
from yak.core.positions import Notice, Position
from yak.core.records import Chunk, encode_values
from yak.errors import YakError
from yak.model import Record, TopicPartition

T0, T1 = ("t", 0), ("t", 1)


def _chunk(offset: int, count: int = 3) -> Chunk:
    return Chunk(offset, count, 1, 1, encode_values(list(range(offset, offset + count))))


def _inbox(
    *wheres: TopicPartition,
    room: int = 1_000_000,
    announces: bool = False,
    commit_after: bool = True,
) -> Inbox:
    inbox = Inbox(
        threading.Lock(),
        commit_after=commit_after,
        room_bytes=room,
        on_progress=lambda: None,
        announces=announces,
    )
    for where in wheres:
        inbox.assign(where, 0)
    return inbox


def _put(inbox: Inbox, where: TopicPartition, *offsets: int) -> Position:
    position = inbox.positions[where]
    inbox.put(position, offsets[0], [_chunk(offset) for offset in offsets], 100)
    return position


def _offsets(records: list[Record]) -> list[int]:
    return [record.offset for record in records]


def _wanted(inbox: Inbox) -> list[tuple[str, int, int]]:
    plan = inbox.plan(-1)
    return [] if plan is None else [(*position.where, at) for position, at in plan.places]


def _acknowledge(inbox: Inbox) -> list[int]:
    places = inbox.to_acknowledge()
    inbox.acknowledged(places)
    return [offset for _, offset in places]


def _tell(inbox: Inbox) -> list[tuple[str, list[TopicPartition]]]:
    told: list[tuple[str, list[TopicPartition]]] = []
    while (notice := inbox.notice()) is not None:
        told.append((notice.kind, notice.partitions))
        inbox.noted(notice)
    return told


# -- seek ------------------------------------------------------------------------------------------


def test_a_seek_drops_what_was_fetched_and_what_is_on_its_way() -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0, 3)
    assert _offsets(inbox.take(2)) == [0, 1]
    inbox.seek(position, 50)
    inbox.put(position, 6, [_chunk(6)], 100)  # the answer to what was asked before
    assert inbox.take(10) == []
    assert inbox.buffered == 0
    assert _wanted(inbox) == [("t", 0, 50)]
    _put(inbox, T0, 50)
    assert _offsets(inbox.take(10)) == [50, 51, 52]


def test_an_answer_of_before_a_seek_to_the_same_offset_is_as_good_as_a_new_one() -> None:
    inbox = _inbox(T0)
    position = inbox.positions[T0]
    inbox.seek(position, 0)
    _put(inbox, T0, 0)
    assert _offsets(inbox.take(10)) == [0, 1, 2]


def test_a_seek_back_takes_no_acknowledgement_back_and_makes_none() -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0, 3)
    inbox.take(6)
    inbox.came_back()
    assert _acknowledge(inbox) == [6]
    inbox.seek(position, 1)
    inbox.put(position, 1, [_chunk(0)], 100)
    assert _offsets(inbox.take(10)) == [1, 2]
    inbox.came_back()
    assert _acknowledge(inbox) == []
    inbox.put(position, 3, [_chunk(3), _chunk(6)], 100)
    inbox.take(10)
    inbox.came_back()
    assert _acknowledge(inbox) == [9]


@pytest.mark.parametrize("singly", [False, True])
def test_what_is_sought_back_to_is_not_handled_by_asking_for_it_again(singly: bool) -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0)
    inbox.take(3)
    inbox.seek(position, 2)  # the last one could not be handled
    inbox.put(position, 2, [_chunk(2)], 100)
    record = inbox.take_one() if singly else inbox.take(1)[0]
    assert record is not None
    assert record.offset == 2
    assert _acknowledge(inbox) == [2]
    inbox.all_handled()
    assert _acknowledge(inbox) == [3]


def test_a_seek_in_the_middle_of_what_is_worked_on_does_not_acknowledge_it() -> None:
    inbox = _inbox(T0, commit_after=False)
    position = _put(inbox, T0, 0, 3)
    inbox.take(4)
    inbox.handled_up_to(T0, 2)
    inbox.seek(position, 40)
    assert _acknowledge(inbox) == [2]
    inbox.handled_up_to(T0, 40)
    assert _acknowledge(inbox) == [4], "never more than was handed out"


def test_what_a_seek_forward_passed_over_is_acknowledged_with_what_comes_behind_it() -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0)
    inbox.seek(position, 30)
    inbox.came_back()
    assert _acknowledge(inbox) == []
    _put(inbox, T0, 30)
    inbox.take(1)
    inbox.came_back()
    assert _acknowledge(inbox) == [31]
    inbox.seek(position, 60)
    inbox.all_handled()  # `ack()` says that all before this place is done
    assert _acknowledge(inbox) == [60]


def test_a_seek_in_a_partition_that_goes_does_nothing() -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0)
    inbox.take(1)
    inbox.revoke([T0])
    inbox.seek(position, 30)
    assert inbox.take(10) == []
    _acknowledge(inbox)
    assert inbox.release() == [T0]


# -- pause -----------------------------------------------------------------------------------------


def test_what_is_paused_is_kept_and_others_go_on() -> None:
    inbox = _inbox(T0, T1)
    first = _put(inbox, T0, 0, 3)
    assert _offsets(inbox.take(1)) == [0]
    _put(inbox, T1, 0)
    inbox.pause(first)
    assert [(r.partition, r.offset) for r in inbox.take(10)] == [(1, 0), (1, 1), (1, 2)]
    assert _wanted(inbox) == [("t", 1, 3)]
    inbox.resume(first)
    assert _offsets(inbox.take(10)) == [1, 2, 3, 4, 5]
    assert _wanted(inbox) == [("t", 0, 6), ("t", 1, 3)]


def test_what_there_is_no_room_for_is_fetched_again() -> None:
    inbox = _inbox(T0, room=20)
    position = _put(inbox, T0, 0, 3)
    inbox.pause(position)
    assert inbox.buffered == 0
    inbox.resume(position)
    assert _wanted(inbox) == [("t", 0, 0)]


def test_an_answer_for_a_paused_partition_is_dropped_and_asked_for_again() -> None:
    inbox = _inbox(T0)
    position = inbox.positions[T0]
    inbox.pause(position)
    _put(inbox, T0, 0)
    assert inbox.take(10) == []
    inbox.resume(position)
    assert _wanted(inbox) == [("t", 0, 0)]


def test_a_seek_while_paused_stays_paused_and_drops_what_was_parked() -> None:
    inbox = _inbox(T0)
    position = _put(inbox, T0, 0)
    inbox.pause(position)
    inbox.seek(position, 9)
    assert inbox.take(10) == []
    assert not inbox.hungry()
    inbox.resume(position)
    assert _wanted(inbox) == [("t", 0, 9)]


# -- what is told ----------------------------------------------------------------------------------


def test_what_came_is_told_before_anything_of_it_is_handed_out() -> None:
    inbox = _inbox(T0, announces=True)
    _put(inbox, T0, 0)
    assert inbox.news
    assert inbox.take(10) == []
    assert _tell(inbox) == [("assigned", [T0])]
    assert not inbox.news
    assert _offsets(inbox.take(10)) == [0, 1, 2]


def test_a_partition_is_not_released_before_that_was_told() -> None:
    inbox = _inbox(T0, announces=True)
    _tell(inbox)
    inbox.revoke([T0])
    assert inbox.release() == []
    notice = inbox.notice()
    assert notice is not None
    assert (notice.kind, notice.partitions) == ("revoked", [T0])
    assert inbox.release() == [], "the callback has not returned"
    assert inbox.notice() == notice, "one that failed is called again"
    inbox.noted(notice)
    assert inbox.release() == [T0]
    assert _tell(inbox) == []


def test_a_partition_that_came_and_went_unheard_is_not_spoken_of() -> None:
    inbox = _inbox(T0, announces=True)
    inbox.revoke([T0])
    assert inbox.release() == [T0]
    assert _tell(inbox) == []
    inbox.assign(T0, 0)
    _tell(inbox)
    inbox.revoke([T0])
    inbox.keep(T0)
    assert _tell(inbox) == []


def test_one_that_is_kept_after_it_was_told_to_go_comes_again() -> None:
    inbox = _inbox(T0, announces=True)
    _put(inbox, T0, 0)
    _tell(inbox)
    inbox.take(1)
    inbox.revoke([T0])
    assert _tell(inbox) == [("revoked", [T0])]
    inbox.keep(T0)
    assert _tell(inbox) == [("assigned", [T0])]


def test_what_is_lost_is_told_and_nothing_of_it_is_acknowledged() -> None:
    inbox = _inbox(T0, announces=True)
    _put(inbox, T0, 0)
    _tell(inbox)
    inbox.take(2)
    inbox.lose([T0])
    inbox.assign(T0, 0)
    assert _tell(inbox) == [("lost", [T0]), ("assigned", [T0])]
    assert inbox.all_handled() == [], "on_lost has said it"
    assert _acknowledge(inbox) == []


def test_what_is_lost_while_it_is_being_told_of_is_told_next() -> None:
    inbox = _inbox(T0, announces=True)
    notice = inbox.notice()
    assert isinstance(notice, Notice)
    inbox.lose([T0])  # while on_assigned runs
    inbox.noted(notice)
    assert _tell(inbox) == [("lost", [T0])]


def test_who_leaves_takes_nothing_more() -> None:
    inbox = _inbox(T0, announces=True)
    _tell(inbox)
    inbox.leave()
    inbox.keep(T0)
    inbox.assign(T1, 0)
    assert _tell(inbox) == [("revoked", [T0])]
    assert sorted(inbox.release()) == [T0, T1]


# -- what stands in the way ------------------------------------------------------------------------


def test_a_partition_that_is_stuck_says_so_after_what_was_fetched_and_others_go_on() -> None:
    inbox = _inbox(T0, T1)
    position = _put(inbox, T0, 0)
    inbox.stick(position, 3, YakError("gone"))
    _put(inbox, T1, 0)
    assert _offsets(inbox.take(10)) == [0, 1, 2]
    with pytest.raises(YakError, match="gone"):
        inbox.take(10)
    assert _wanted(inbox) == [("t", 1, 3)]
    assert _offsets(inbox.take(10)) == [0, 1, 2]
    with pytest.raises(YakError, match="gone"):
        inbox.take(10)
    inbox.seek(position, 50)
    assert inbox.take(10) == []
    assert _wanted(inbox) == [("t", 0, 50), ("t", 1, 3)]


def test_what_is_stuck_and_paused_says_nothing_until_it_is_resumed() -> None:
    inbox = _inbox(T0)
    position = inbox.positions[T0]
    inbox.stick(position, 0, YakError("gone"))
    inbox.pause(position)
    assert inbox.take(10) == []
    inbox.resume(position)
    with pytest.raises(YakError, match="gone"):
        inbox.take(10)


def test_a_plan_names_only_what_has_moved_until_another_set_is_wanted() -> None:
    inbox = _inbox(T0, T1)
    plan = inbox.plan(-1)
    assert plan is not None
    assert plan.whole
    assert len(plan.places) == 2
    _put(inbox, T1, 0)
    second = inbox.plan(plan.version)
    assert second is not None
    assert not second.whole
    assert [(position.where, at) for position, at in second.places] == [(T1, 3)]
    inbox.pause(inbox.positions[T0])
    third = inbox.plan(second.version)
    assert third is not None
    assert third.whole
    assert [position.where for position, _ in third.places] == [T1]
