"""Sizes, durations, addresses: what is understood, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import click
import pytest

from yak.commands.options import (
    ADDRESS,
    BOOTSTRAP,
    COUNT,
    DURATION,
    FSYNC,
    PAIR,
    SIZE,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64k", 65536),
        ("1.5MiB", 1_572_864),
        ("64 MiB", 67_108_864),
        ("1GB", 1_000_000_000),
        ("12B", 12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5s", 5.0), ("500ms", 0.5), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


def test_addresses_stay_as_they_were_typed() -> None:
    assert ADDRESS.convert(" [::1]:9092 ", None, None) == "[::1]:9092"
    assert BOOTSTRAP.convert("a:1, b:2", None, None) == "a:1, b:2"


@pytest.mark.parametrize("text", ["always", "never", "interval:50"])
def test_fsync(text: str) -> None:
    assert FSYNC.convert(text, None, None) == text


def test_a_pair_may_hold_more_equal_signs() -> None:
    assert PAIR.convert("a=b=c", None, None) == ("a", "b=c")
    assert PAIR.convert("a=", None, None) == ("a", "")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SIZE, "64XB"),
        (SIZE, "-1"),
        (SIZE, ""),
        (DURATION, "soon"),
        (DURATION, "-5s"),
        (ADDRESS, "nowhere"),
        (BOOTSTRAP, ""),
        (BOOTSTRAP, "a:1,b"),
        (FSYNC, "sometimes"),
        (FSYNC, "interval:0"),
        (FSYNC, "interval:"),
        (PAIR, "a"),
        (PAIR, "=b"),
        (COUNT, "0"),
        (COUNT, "1.0"),
        (COUNT, str(2**53)),
    ],
)
def test_what_is_refused_says_what_would_do(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter, match="say"):
        kind.convert(text, None, None)
