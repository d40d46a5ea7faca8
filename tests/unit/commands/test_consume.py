"""yak-consume's options: what contradicts what, and what reaches the reading."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from yak.commands import consume as consume_module
from yak.commands.consume import consume
from yak.commands.drain import Until
from yak.commands.reaching import Waiting
from yak.commands.starts import Last
from yak.model import Address


class _Drain:
    """Keeps what it is made of, and run with."""

    made: _Drain

    def __init__(self, *args: Any, **options: Any) -> None:
        _Drain.made = self
        self.args = args
        self.options = options
        self.ran: tuple[Any, dict[str, Any]] | None = None

    def run(self, start: Any, **reading: Any) -> int:
        self.ran = (start, reading)
        return 0


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """`-q` is the process's, and here the process goes on."""
    logger = logging.getLogger("yak")
    level = logger.level
    yield
    logger.setLevel(level)


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> _Drain:
    monkeypatch.setattr(consume_module, "Drain", _Drain)
    CliRunner().invoke(consume, args, standalone_mode=False, catch_exceptions=False)
    return _Drain.made


def test_every_option_reaches_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = _run(
        monkeypatch,
        *("orders", "-b", "h:1", "-g", "g", "-o", "-3", "-p", "1", "-p", "2", "-n", "5", "-e"),
        *("--timeout", "500ms", "--expect", "4", "--read-from", "2", "--client", "me", "-q"),
        *("--metrics-port", "9308"),
    )
    topic, group, _, until, _ = drain.args
    assert (topic, group) == ("orders", "g")
    assert until == Until(records=5, end=True, idle_s=0.5, expected=4)
    said = dict(drain.options)
    assert isinstance(said.pop("on_waiting"), Waiting)
    assert said == {"quiet": True, "verbose": False}
    assert drain.ran == (
        Last(3),
        {
            "bootstrap": "h:1",
            "client": "me",
            "partitions": (1, 2),
            "read_from": 2,
            "metrics": Address("127.0.0.1", 9308),
        },
    )


def test_nothing_said_is_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    drain = _run(monkeypatch, "orders")
    assert drain.args[3] == Until()
    assert drain.ran is not None
    assert drain.ran[0] is None
    assert drain.ran[1]["read_from"] == "any"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["bad/name"], "topic name"),
        (["t", "-f", "%s", "-J"], "contradict"),
        (["t", "-f", "%q"], "%q stands for nothing"),
        (["t", "--from-beginning", "-o", "end"], "contradict"),
        (["t", "-o", "5", "--since", "1h"], "contradict"),
        (["t", "-n", "3", "--expect", "4"], "--expect 4"),
        (["t", "-n", "0"], "whole number"),
        (["t", "-o", "somewhere"], "beginning, end"),
        (["t", "--read-from", "0"], "broker's id"),
        (["t", "-g", "g", "-p", "1"], "group"),
        (["t", "-o", "stored"], "group"),
    ],
)
def test_contradictions(args: list[str], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        CliRunner().invoke(consume, args, standalone_mode=False, catch_exceptions=False)
