"""The fuzzers' targets, on their seeds, and on a bug that was planted."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.fuzz.targets import TARGETS, seeds
from yak import protocol
from yak.storage import partition


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_passes_and_so_does_what_is_done_to_it(name: str) -> None:
    for data in seeds(name):
        TARGETS[name](data)
        for at in range(0, len(data), max(len(data) // 8, 1)):
            TARGETS[name](data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            TARGETS[name](data[:at])


def try_all(name: str, inputs: Iterable[bytes]) -> None:
    for data in inputs:
        TARGETS[name](data)


def test_a_reader_that_takes_anything_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_read_object", lambda header: ({}, ""))
    with pytest.raises(AssertionError, match="and no JSON"):
        try_all("frames", seeds("frames"))


def test_a_store_that_proves_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition.Partition, "_prove", lambda *_: None)
    flipped = (
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for data in seeds("recovery")
        for at in range(1, len(data), 7)
    )
    with pytest.raises(AssertionError):
        try_all("recovery", flipped)
