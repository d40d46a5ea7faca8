"""Deadlines: in order, and never many more than wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yak.core.deadlines import MOVED, SMALL, Deadlines


class One:
    """Somebody who waits until it is served."""

    def __init__(self) -> None:
        self.waits = True


def test_whoever_waits_is_due_in_order_and_once() -> None:
    deadlines: Deadlines[str] = Deadlines(lambda _: True)
    for when, name in ((3.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "d")):
        deadlines.add(when, name)
    assert deadlines.next_deadline() == 1
    assert list(deadlines.due(0.9)) == []
    assert list(deadlines.due(3)) == ["a", "b", "c"]
    assert list(deadlines.due(3)) == []
    assert deadlines.next_deadline() == 9
    deadlines.clear()
    assert deadlines.next_deadline() == float("inf")


def test_whoever_is_served_is_not_due_and_has_no_deadline() -> None:
    deadlines: Deadlines[One] = Deadlines(lambda one: one.waits)
    first, second = One(), One()
    deadlines.add(1, first)
    deadlines.add(2, second)
    first.waits = False
    assert deadlines.next_deadline() == 2
    assert list(deadlines.due(5)) == [second]


def test_ten_thousand_that_are_served_at_once_leave_nothing() -> None:
    """Behind one that waits: without a look at them they would stay until their own time."""
    deadlines: Deadlines[One] = Deadlines(lambda one: one.waits)
    deadlines.add(1, One())
    for n in range(10_000):
        one = One()
        deadlines.add(100 + n, one)
        one.waits = False
    assert len(deadlines) <= SMALL + 2


def test_nobody_looks_through_all_of_many_at_once() -> None:
    """A quarter of a million long polls: all others would wait while they are."""
    looks = 0

    def waits(one: One) -> bool:
        nonlocal looks
        looks += 1
        return one.waits

    deadlines, many, most = Deadlines(waits), [], 0
    for n in range(20_000):
        many.append(One())
        looks = 0
        deadlines.add(float(n), many[-1])
        most = max(most, looks)
    assert most <= MOVED
    for one in many:
        one.waits = False
    last = One()
    deadlines.add(1e6, last)
    calls = 0
    while deadlines.next_deadline() != 1e6:
        calls += 1
    assert 10 < calls <= 40
    assert deadlines.next_deadline() == 1e6
    assert len(deadlines) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=300))
def test_beside_a_plain_list(steps: list[tuple[int, int, bool]]) -> None:
    deadlines: Deadlines[One] = Deadlines(lambda one: one.waits)
    model: list[tuple[int, One]] = []
    most = now = 0
    for later, which, serve in steps:
        one = One()
        deadlines.add(now + later * 50, one)
        model.append((now + later * 50, one))
        most = max(most, len(model))
        if serve:
            model.pop(which % len(model))[1].waits = False
        now += which
        due = sorted((pair for pair in model if pair[0] <= now), key=lambda pair: pair[0])
        assert list(deadlines.due(now)) == [one for _, one in due]
        model = [pair for pair in model if pair not in due]
        assert deadlines.next_deadline() == min((when for when, _ in model), default=float("inf"))
        assert len(deadlines) <= 2 * most + SMALL
