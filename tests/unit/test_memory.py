"""How much memory a process says that it takes up."""

from __future__ import annotations

from pathlib import Path

import pytest

from yak import memory
from yak.config import MIB
from yak.memory import FRESH_S, Memory


def test_it_is_what_the_system_says() -> None:
    before = Memory().resident_bytes(0.0)
    if not before:
        pytest.skip("this system does not tell")
    held = b"x" * (64 * MIB)
    assert Memory().resident_bytes(0.0) - before > 32 * MIB, len(held)


def test_it_is_read_ten_times_a_second_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = iter(range(1, 100))
    monkeypatch.setattr(memory, "_read", lambda: next(reads))
    mine = Memory()
    assert [mine.resident_bytes(number * FRESH_S / 8) for number in range(17)] == [
        *[1] * 8,
        *[2] * 8,
        3,
    ]


def test_a_system_that_does_not_tell_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATM", Path("/there/is/no/such/file"))
    assert Memory().resident_bytes(0.0) == 0
