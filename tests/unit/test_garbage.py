"""Full garbage collections look at what was made since the last one, and forget no cycle."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from yak import garbage
from yak.garbage import Garbage


class Node:
    """Refers to itself: nothing but a collection frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LEAST", 1000)


@pytest.fixture
def collected() -> Iterator[Garbage]:
    collected = Garbage()
    collected.look_through()
    yield collected
    collected.close()
    assert gc.get_freeze_count() == 0


def some(count: int) -> list[list[int]]:
    return [[number] for number in range(count)]


def looked_at() -> int:
    """How many objects a full collection would go through."""
    return sum(len(gc.get_objects(generation=number)) for number in range(3))


@pytest.mark.usefixtures("collected")
def test_what_was_found_alive_is_not_looked_at_again() -> None:
    kept = some(50_000)
    assert looked_at() >= 50_000
    gc.collect()
    assert looked_at() < 1000
    kept += some(10)
    assert gc.get_freeze_count() > 50_000


@pytest.mark.usefixtures("collected")
def test_a_cycle_dies_at_once_or_when_what_is_kept_has_doubled() -> None:
    young, old = Node(), Node()
    refs = weakref.ref(young), weakref.ref(old)
    del young
    gc.collect()
    assert refs[0]() is None
    assert refs[1]() is not None
    del old
    gc.collect()
    assert refs[1]() is not None, "it was set aside"
    kept = []
    for _ in range(4):
        kept.append(some(gc.get_freeze_count()))
        gc.collect()
    assert refs[1]() is None


@pytest.mark.usefixtures("collected")
def test_what_comes_and_goes_does_not_count_as_growth() -> None:
    old = Node()
    ref = weakref.ref(old)
    gc.collect()
    del old
    kept = gc.get_freeze_count()
    for _ in range(8):
        passing = some(kept // 2)
        gc.collect()
        del passing
    assert ref() is not None, "everything was looked through, and had not grown"


def test_anew_looks_through_everything(collected: Garbage) -> None:
    old = Node()
    ref = weakref.ref(old)
    gc.collect()
    del old
    collected.look_through()
    assert ref() is None
    assert len(gc.callbacks) == len(set(map(id, gc.callbacks)))
