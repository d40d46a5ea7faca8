"""An overlay reads like the dict that it will have been: beside that dict, whatever is written."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak.core.overlay import Overlay

KEYS = "abcd"
#: (key, value; None deletes): what one operation writes.
WRITE = st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 9))
#: An operation writes; or the base has applied the oldest few.
STEP = st.lists(WRITE, min_size=1, max_size=3) | st.integers(1, 3)


@dataclass
class Writer:
    """The operation that writes now."""

    index: int = 0


def write(into: dict[str, int] | Overlay[str, int], key: str, value: int | None) -> None:
    if value is not None:
        into[key] = value
    elif key in into:
        del into[key]


def assert_same(overlay: Overlay[str, int], model: dict[str, int]) -> None:
    assert dict(overlay) == model
    assert len(overlay) == len(model)
    assert sorted(overlay) == sorted(model)
    for key in KEYS:
        assert (key in overlay) == (key in model)
        assert overlay.get(key) == model.get(key)
        assert overlay.get(key, -1) == model.get(key, -1)


@given(
    base=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9)),
    steps=st.lists(STEP, max_size=12),
)
def test_it_reads_like_a_dict_that_had_every_write(
    base: dict[str, int], steps: list[list[tuple[str, int | None]] | int]
) -> None:
    clock = Writer(10)
    overlay = Overlay(base, clock)
    model = dict(base)
    unsettled: deque[tuple[int, list[tuple[str, int | None]]]] = deque()
    for step in steps:
        if isinstance(step, list):
            clock.index += 1
            for key, value in step:
                write(overlay, key, value)
                write(model, key, value)
            unsettled.append((clock.index, step))
        else:
            applied = [unsettled.popleft() for _ in range(min(step, len(unsettled)))]
            for _, writes in applied:
                for key, value in writes:
                    write(base, key, value)
            for settled, _ in applied:
                assert_same(overlay, model)  # between the base's apply and `settle`
                overlay.settle(settled)
        assert_same(overlay, model)
        assert overlay.unsettled <= len({key for _, ws in unsettled for key, _ in ws})


def test_a_write_covers_the_base_until_it_settles() -> None:
    base = {"a": 1}
    clock = Writer(5)
    overlay = Overlay(base, clock)
    overlay["a"] = 2
    assert (overlay["a"], base["a"], overlay.unsettled) == (2, 1, 1)
    base["a"] = 2
    overlay.settle(5)
    assert (overlay["a"], overlay.unsettled) == (2, 0)


def test_an_entry_written_again_stays_until_its_last_write_settles() -> None:
    base: dict[str, int] = {}
    clock = Writer(5)
    overlay = Overlay(base, clock)
    overlay["a"] = 1
    clock.index = 6
    overlay["a"] = 2
    base["a"] = 1
    overlay.settle(5)
    assert overlay["a"] == 2


def test_what_is_deleted_hides_the_base() -> None:
    overlay = Overlay({"a": 1}, Writer(5))
    del overlay["a"]
    assert "a" not in overlay
    assert overlay.get("a") is None
    assert list(overlay) == []
    with pytest.raises(KeyError):
        overlay["a"]
    with pytest.raises(KeyError):
        del overlay["a"]


def test_writes_come_in_the_order_of_the_log() -> None:
    clock = Writer(6)
    overlay = Overlay[str, int]({}, clock)
    overlay["a"] = 1
    clock.index = 5
    with pytest.raises(AssertionError):
        overlay["b"] = 2


def test_its_size_is_known_without_a_look_at_every_entry() -> None:
    """Limits are looked up at each request, over up to a million entries in either layer."""

    class Large(dict[int, int]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("it was iterated")

        def items(self) -> NoReturn:
            raise AssertionError("it was iterated")

    base = Large({n: n for n in range(1000)})
    overlay = Overlay[int, int](base, Writer(1))
    overlay._top = Large()
    overlay[1000] = 0
    overlay[7] = 0
    del overlay[8]
    overlay[1001] = 0
    del overlay[1001]
    assert len(overlay) == 1000
