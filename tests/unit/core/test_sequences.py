"""A batch is new, known, forgotten or out of order: the table, and a model of a whole history."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak.core import sequences
from yak.core.sequences import FORGOTTEN
from yak.core.state import Batch
from yak.errors import Refused
from yak.model import BATCHES_REMEMBERED, SEQUENCE_SPAN


def a_batch(sequence: int, count: int, offset: int = 0) -> Batch:
    return Batch(sequence=sequence, count=count, offset=offset, time=0, index=offset + 1)


REMEMBERED = [a_batch(s, c) for s, c in ((4, 2), (6, 1), (7, 3), (10, 2), (12, 2))]


def test_the_next_one_is_new() -> None:
    assert sequences.find(REMEMBERED, 14, 3) is None


def test_a_producer_s_first_batch_begins_at_zero() -> None:
    assert sequences.find([], 0, 3) is None
    with pytest.raises(Refused) as refused:
        sequences.find([], 1, 3)
    assert refused.value.name == "OUT_OF_ORDER_SEQUENCE"
    assert refused.value.details == {"expected": 0}


@pytest.mark.parametrize("known", REMEMBERED)
def test_each_of_five_is_known(known: Batch) -> None:
    assert sequences.find(REMEMBERED, known.sequence, known.count) is known


@pytest.mark.parametrize("count", [2, 4])
def test_a_known_sequence_with_another_count_is_refused(count: int) -> None:
    with pytest.raises(Refused, match="had 3") as refused:
        sequences.find(REMEMBERED, 7, count)
    assert refused.value.name == "INVALID_REQUEST"


@pytest.mark.parametrize("sequence", [5, 8, 9, 11, 13])
def test_the_middle_of_a_batch_is_refused(sequence: int) -> None:
    with pytest.raises(Refused, match="inside a batch") as refused:
        sequences.find(REMEMBERED, sequence, 1)
    assert refused.value.name == "INVALID_REQUEST"


@pytest.mark.parametrize("sequence", [0, 2, 3])
def test_what_came_before_the_five_is_forgotten_and_yet_stored(sequence: int) -> None:
    assert sequences.find(REMEMBERED, sequence, 2) is FORGOTTEN


@pytest.mark.parametrize("sequence", [15, 1000, SEQUENCE_SPAN // 2])
def test_a_gap_is_refused_and_says_what_is_expected(sequence: int) -> None:
    with pytest.raises(Refused, match="expected 14") as refused:
        sequences.find(REMEMBERED, sequence, 1)
    assert refused.value.name == "OUT_OF_ORDER_SEQUENCE"
    assert refused.value.details == {"expected": 14}


def test_nothing_came_before_the_first_of_fewer_than_five() -> None:
    with pytest.raises(Refused) as refused:
        sequences.find([a_batch(0, 2), a_batch(2, 1)], SEQUENCE_SPAN - 1, 1)
    assert refused.value.name == "OUT_OF_ORDER_SEQUENCE"


def test_sequences_begin_again_at_zero() -> None:
    last = SEQUENCE_SPAN - 2
    five = [a_batch(last - 3, 1), a_batch(last - 2, 1), a_batch(last - 1, 1), a_batch(last, 4)]
    five.append(a_batch(2, 1))
    assert sequences.find(five, 3, 1) is None
    assert sequences.find(five, last, 4) is five[3]
    assert sequences.find(five, last - 9, 1) is FORGOTTEN
    with pytest.raises(Refused, match="inside"):
        sequences.find(five, 0, 1)


def test_a_batch_that_ends_the_circle_is_followed_by_zero() -> None:
    last = [a_batch(SEQUENCE_SPAN - 3, 3)]
    assert sequences.find(last, 0, 1) is None
    with pytest.raises(Refused, match="expected 0"):
        sequences.find(last, 1, 1)


@given(
    counts=st.lists(st.integers(1, 20), max_size=8),
    first=st.just(0) | st.integers(SEQUENCE_SPAN - 60, SEQUENCE_SPAN + 60),
    away=st.integers(-100, 100) | st.integers(-(2**29), 2**29),
    count=st.integers(1, 20),
)
def test_beside_a_producer_s_whole_history(
    counts: list[int], first: int, away: int, count: int
) -> None:
    """The model counts on without end; `find` sees the last five, modulo 2**31.

    first: where the history begins; where that is not 0, more than five came before.
    """
    if first and len(counts) < BATCHES_REMEMBERED:
        counts = [*counts, 1, 1, 1, 1, 1]
    begins = list(accumulate(counts, initial=first))
    end = begins.pop()
    history = list(zip(begins, counts, strict=True))[-BATCHES_REMEMBERED:]
    remembered = [a_batch(begin % SEQUENCE_SPAN, n, begin) for begin, n in history]
    asked = end + away
    verdict, known = judged(remembered, asked % SEQUENCE_SPAN, count)
    assert verdict == expected(history, end, asked, count, forgets=len(counts) > 4)
    if known is not None:
        assert (known.offset, known.count) == (asked, count)


def judged(remembered: list[Batch], sequence: int, count: int) -> tuple[str, Batch | None]:
    try:
        found = sequences.find(remembered, sequence, count)
    except Refused as refused:
        return refused.name, None
    if isinstance(found, Batch):
        return "known", found
    return ("new" if found is None else "forgotten"), None


def expected(
    history: list[tuple[int, int]], end: int, asked: int, count: int, *, forgets: bool
) -> str:
    oldest = history[0][0] if history else end
    if asked == end:
        return "new"
    if asked > end or (asked < oldest and not forgets):
        return "OUT_OF_ORDER_SEQUENCE"
    if asked < oldest:
        return "forgotten"
    return "known" if (asked, count) in history else "INVALID_REQUEST"
