"""What proves a loss, and what does not."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from yak.local.acked import UNSAID, Mark, Receipt, _compared, _lost, receipt_of
from yak.model import RecordMetadata
from yak.storage.audit import Audit

MARK = Mark(epoch=3, committed=7, when="before kill broker-1")


def a_log(first: int, *epochs: int) -> Audit:
    """Of a broker, from that index on."""
    there = SimpleNamespace(
        first=first, next=first + len(epochs), epochs=array("q", epochs), path=Path("d/broker-2")
    )
    return cast("Audit", there)


def test_what_was_committed_is_there() -> None:
    assert _lost(MARK, a_log(5, 2, 2, 3, 4)) == ""
    assert _lost(MARK, a_log(5, 2, 2, 2)) == "", "an older epoch's operation, which epoch 3 found"
    assert _lost(MARK, a_log(8, 4)) == "", "a checkpoint has it"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (a_log(5, 2, 2), "the log of broker-2 ends at 6"),
        (a_log(1), "the log of broker-2 ends at 0"),
        (a_log(5, 2, 2, 4), "another one is there, of epoch 4"),
    ],
)
def test_what_was_committed_is_gone(log: Audit, words: str) -> None:
    lost = _lost(MARK, log)
    assert words in lost
    assert "operation 7 was committed in epoch 3, before kill broker-1" in lost


@pytest.mark.parametrize(
    ("told", "receipt"),
    [
        (RecordMetadata("t", 1, 42, 1000), Receipt("t", 1, 42)),
        (("t", 1, 42), Receipt("t", 1, 42)),
        (["t", 1, 42, None], Receipt("t", 1, 42, None)),
        (Receipt("t", 1, 42, 5), Receipt("t", 1, 42, 5)),
    ],
)
def test_receipts_of_every_kind(told: Any, receipt: Receipt) -> None:
    assert receipt_of(told) == receipt


@pytest.mark.parametrize("told", ["abc", ("t", 1), 42, None])
def test_what_is_no_receipt(told: Any) -> None:
    with pytest.raises(TypeError, match="no receipt"):
        receipt_of(told)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (UNSAID, 1),
        ("a", "a"),
        (b"a", "a"),
        (b"\xff", b"\xff"),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
    ],
)
def test_the_same_record(sent: Any, read: Any) -> None:
    assert _compared(Receipt("t", 0, 1, sent), read) == []


@pytest.mark.parametrize(
    ("sent", "read", "words"),
    [
        ("a", "b", "as 'a', and is another one: 'b'"),
        (b"\xff", "b", "is another one"),
        ("a", UNSAID, "is not there: 'a'"),
        (UNSAID, UNSAID, "is not there"),
    ],
)
def test_another_record_or_none(sent: Any, read: Any, words: str) -> None:
    (line,) = _compared(Receipt("t", 0, 1, sent), read)
    assert line.startswith("t[0]@1 was acknowledged")
    assert words in line
