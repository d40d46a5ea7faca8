"""Records on their way to acknowledgement: batches that seal, wait, finish and are counted."""

from __future__ import annotations

import threading

import pytest

from yak.core.batches import Accumulator, Full, Topic, Unlearned
from yak.core.records import encode_record
from yak.errors import YakError

LINE = encode_record("x")


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _accumulator(
    *, batch_bytes: int = 1000, batch_records: int = 3, buffer_bytes: int = 10_000
) -> tuple[Accumulator, Topic, _Clock]:
    clock = _Clock()
    accumulator = Accumulator(
        threading.Lock(),
        clock,
        batch_bytes=batch_bytes,
        batch_records=batch_records,
        buffer_bytes=buffer_bytes,
    )
    topic = accumulator.topics["t"] = Topic("t", 2, 0)
    return accumulator, topic, clock


def test_batches_are_sealed_by_count_and_by_size_and_leave_in_order() -> None:
    accumulator, topic, _ = _accumulator()
    placed = [accumulator.add(topic, 0, LINE, 1) for _ in range(7)]
    assert [place for _, place in placed] == [0, 1, 2, 0, 1, 2, 0]
    queue = topic.queues[0]
    taken = [accumulator.take(queue, 0.0, 0.0) for _ in range(4)]
    assert [batch.count if batch else None for batch in taken] == [3, 3, 1, None]
    assert [batch.body for batch in taken if batch] == [LINE * 3, LINE * 3, LINE]
    sized, topic, _ = _accumulator(batch_bytes=2 * len(LINE))
    for _ in range(5):
        sized.add(topic, 0, LINE, 1)
    assert [batch.count for batch in sized.unfinished] == [2, 2, 1]


def test_the_short_way_adds_where_an_open_batch_has_room_and_nowhere_else() -> None:
    accumulator, topic, _ = _accumulator(batch_bytes=3 * len(LINE), buffer_bytes=5 * len(LINE))
    assert accumulator.add_to_open("other", LINE) is None, "nothing is known of it"
    assert accumulator.add_to_open("t", LINE) is None, "no batch is open"
    first, _ = accumulator.add(topic, 0, LINE, 1)
    assert accumulator.add_to_open("t", LINE) == (first, 1)
    assert (first.count, first.size, first.parts) == (2, 2 * len(LINE), [LINE, LINE])
    assert (accumulator.buffered, accumulator.taken) == (2 * len(LINE), 2)
    assert accumulator.add_to_open("t", LINE + LINE) is None, "too many bytes for the batch"
    accumulator.accepting = False
    assert accumulator.add_to_open("t", LINE) is None, "no more may come"
    accumulator.accepting = True
    accumulator.add(topic, 1, LINE + LINE, 1)
    assert accumulator.add_to_open("t", LINE) == (first, 2), "where the sticky one is"
    assert accumulator.add_to_open("t", LINE) is None, "the batch has all its records"
    assert (first.count, accumulator.buffered) == (3, 5 * len(LINE))
    full, topic, _ = _accumulator(buffer_bytes=2 * len(LINE))
    full.add(topic, 0, LINE + LINE, 1)
    assert full.add_to_open("t", LINE) is None, "the buffer is full"


def test_an_open_batch_lingers_unless_it_is_flushed() -> None:
    accumulator, topic, clock = _accumulator()
    accumulator.add(topic, 0, LINE, 1)
    queue = topic.queues[0]
    assert accumulator.take(queue, 0.5, linger=1.0) is None
    assert accumulator.oldest(queue) == 0.0
    accumulator.flushing += 1
    assert accumulator.take(queue, 0.5, linger=1.0) is not None
    accumulator.flushing -= 1
    clock.now = 2.0
    accumulator.add(topic, 0, LINE, 1)
    assert accumulator.take(queue, 2.5, linger=1.0) is None
    assert accumulator.take(queue, 3.0, linger=1.0) is not None
    assert accumulator.oldest(queue) is None


def test_records_without_a_key_move_on_when_a_batch_is_sealed_or_taken() -> None:
    accumulator, topic, _ = _accumulator(batch_records=1)
    accumulator.add(topic, topic.sticky.partition, LINE, 1)
    assert topic.sticky.partition == 0
    accumulator.add(topic, 0, LINE, 1)
    assert topic.sticky.partition == 1
    accumulator.add(topic, 1, LINE, 1)
    accumulator.take(topic.queues[1], 0.0, 0.0)
    assert topic.sticky.partition == 0


def test_a_full_buffer_takes_nothing_until_there_is_an_outcome() -> None:
    accumulator, topic, _ = _accumulator(buffer_bytes=2 * len(LINE), batch_records=1)
    first, _ = accumulator.add(topic, 0, LINE, 1)
    accumulator.add(topic, 0, LINE, 1)
    with pytest.raises(Full):
        accumulator.add(topic, 0, LINE, 1)
    accumulator.finish(first, offset=7, timestamp=1)
    accumulator.add(topic, 0, LINE, 1)
    assert accumulator.buffered == 2 * len(LINE)
    assert accumulator.taken == 3


def test_a_record_larger_than_the_buffer_goes_when_it_is_alone() -> None:
    accumulator, topic, _ = _accumulator(buffer_bytes=1)
    batch, _ = accumulator.add(topic, 0, LINE, 1)
    with pytest.raises(Full):
        accumulator.add(topic, 0, LINE, 1)
    accumulator.finish(batch)
    assert accumulator.buffered == 0


def test_an_outcome_is_told_once_to_all_who_wait() -> None:
    accumulator, topic, _ = _accumulator()
    batch, _ = accumulator.add(topic, 0, LINE, 1)
    told: list[int] = []
    assert accumulator.when_done(batch, lambda: told.append(1))
    assert accumulator.when_done(batch, lambda: told.append(2))
    accumulator.finish(batch, offset=3, timestamp=4)
    assert told == [1, 2]
    assert (batch.offset, batch.timestamp, batch.error, batch.body) == (3, 4, None, b"")
    assert not accumulator.when_done(batch, lambda: told.append(3))
    with pytest.raises(AssertionError):
        accumulator.finish(batch)


def test_failed_records_are_kept_for_the_list_up_to_a_limit() -> None:
    accumulator, topic, _ = _accumulator(buffer_bytes=2 * len(LINE), batch_records=1)
    for _ in range(3):
        batch, _ = accumulator.add(topic, 0, LINE, 1)
        accumulator.finish(batch, error=YakError("no"))
    records, unlisted = accumulator.take_failed()
    assert [(r.topic, r.partition, r.value, r.offset) for r in records] == [("t", 0, "x", -1)] * 2
    assert unlisted == 1
    assert accumulator.take_failed() == ([], 0)


def test_what_was_never_sent_expires_in_order() -> None:
    accumulator, topic, clock = _accumulator(batch_records=1)
    for now in range(4):
        clock.now = now
        accumulator.add(topic, 0, LINE, 1)
    queue = topic.queues[0]
    assert [batch.made_at for batch in accumulator.take_expired(queue, 1.0)] == [0, 1]
    assert [batch.made_at for batch in accumulator.take_expired(queue, 9.0)] == [2, 3]
    assert accumulator.take(queue, 9.0, 0.0) is None


def test_dirty_queues_are_named_once() -> None:
    accumulator, topic, _ = _accumulator()
    for partition in (0, 0, 1):
        accumulator.add(topic, partition, LINE, 1)
    assert accumulator.take_dirty() == set(topic.queues)
    accumulator.add(topic, 0, LINE, 1)
    assert accumulator.take_dirty() == set(), "its open batch is known of"


def test_unknown_topics_and_growing_ones() -> None:
    accumulator, topic, _ = _accumulator()
    with pytest.raises(Unlearned):
        accumulator.topic("other")
    topic.grow(4)
    topic.grow(2)
    assert [queue.partition for queue in topic.queues] == [0, 1, 2, 3]


def test_a_topic_made_again_may_have_fewer_partitions_and_grow_again() -> None:
    _, topic, _ = _accumulator()
    topic.grow(4)
    topic.sticky.partition = 3
    queues = list(topic.queues)
    topic.made_again("t2", 2)
    assert (topic.topic_id, topic.partitions, topic.sticky.partition) == ("t2", 2, 1)
    assert topic.queues == queues, "a thread may be about to use one"
    topic.grow(1)
    assert topic.partitions == 2
    topic.grow(5)
    assert (topic.partitions, topic.queues[:4]) == (5, queues)
    assert [queue.partition for queue in topic.queues] == [0, 1, 2, 3, 4]
