"""The log's end in memory."""

from __future__ import annotations

import random

from yak.storage.tail import ENTRY_OVERHEAD_BYTES, Tail


def line(index: int) -> bytes:
    return b"%04d\n" % index


COST = len(line(0)) + ENTRY_OVERHEAD_BYTES


def test_it_gives_what_it_was_given() -> None:
    tail = Tail(7)
    assert tail.next_index == 7
    for index in range(7, 20):
        tail.add(line(index), b"body" if index % 2 else b"")
    assert tail.get(7) == (line(7), b"body")
    assert tail.get(6) is None
    assert tail.take(8, 9, 100) == (2, [line(8), line(9), b"body"])
    assert tail.next_index == 20


def test_a_read_takes_what_fits_and_at_least_one() -> None:
    tail = Tail(1)
    for index in range(1, 10):
        tail.add(line(index), b"")
    assert tail.take(1, 9, 14) == (2, [line(1), line(2)])
    assert tail.take(3, 9, 15) == (3, [line(3), line(4), line(5)])
    assert tail.take(3, 9, 0) == (1, [line(3)])
    assert tail.take(9, 9, 1000) == (1, [line(9)])


def test_the_oldest_go_when_there_is_too_much() -> None:
    tail = Tail(1, max_bytes=10 * COST)
    for index in range(1, 1000):
        tail.add(line(index), b"")
        assert tail.next_index == index + 1
        assert tail.next_index - tail.first <= 10
        assert tail.get(index) == (line(index), b"")
    assert tail.first == 990
    tail.add(b"x" * 100 * COST, b"")
    assert tail.first == 1000


def test_what_the_log_does_not_have_any_more_is_let_go() -> None:
    tail = Tail(1, max_bytes=20 * COST)
    for index in range(1, 16):
        tail.add(line(index), b"")
    tail.forget(6)
    assert (tail.first, tail.get(5), tail.get(6)) == (6, None, (line(6), b""))
    for index in range(16, 26):
        tail.add(line(index), b"")
    assert tail.first == 6, "its bytes are not counted any more"
    tail.forget(4)
    assert tail.take(6, 25, 15) == (3, [line(6), line(7), line(8)])
    tail.forget(99)
    assert (tail.first, tail.next_index) == (26, 26)


def test_cut_and_appended_to_it_is_as_if_nothing_had_been() -> None:
    rng = random.Random(3)
    tail, model = Tail(1, max_bytes=50 * COST), {0: b""}
    for _ in range(3000):
        if rng.random() < 0.1:
            at = rng.randint(1, tail.next_index)
            tail.cut(at)
            model = {index: held for index, held in model.items() if index < at}
        else:
            model[tail.next_index] = line(rng.randint(0, 999))
            tail.add(model[tail.next_index], b"")
        assert tail.next_index == max(model) + 1
        for index in range(max(1, tail.next_index - 60), tail.next_index):
            held = tail.get(index)
            assert held is None or held == (model[index], b"")
    assert tail.next_index - tail.first <= 50
