"""Names that only a cluster knows: those that begin so, soon or not at all, and never a word."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import click
import pytest

from yak import admin as admin_module
from yak.commands import completing
from yak.commands.completing import complete_broker, complete_group, complete_topic
from yak.config import DEFAULT_BOOTSTRAP
from yak.errors import YakError
from yak.messages import BrokerEntry


class _Admin:
    """Knows a few names; `does` comes before each answer."""

    bootstrap = ""
    does: Any = None

    def __init__(self, bootstrap: str, *, timeout_s: float) -> None:
        _Admin.bootstrap = bootstrap

    async def __aenter__(self) -> _Admin:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def _before(self) -> None:
        if isinstance(self.does, Exception):
            raise self.does
        if self.does is not None:
            logging.getLogger("yak").warning("a word that nobody may see")
            print("nor this", file=sys.stderr)  # noqa: T201 -- what must not come through
            await asyncio.sleep(self.does)

    async def topics(self) -> dict[str, Any]:
        await self._before()
        return {"orders": 1, "clicks": 2, "others": 3}

    async def groups(self) -> list[str]:
        return ["billing", "audit"]

    async def brokers(self) -> list[BrokerEntry]:
        return [BrokerEntry(id=n, host="h", port=n, live=True) for n in (1, 12, 2)]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "AsyncAdmin", _Admin)
    monkeypatch.setattr(_Admin, "does", None)


_TOPIC = click.Argument(["topic"])


def _context(**said: Any) -> click.Context:
    context = click.Context(click.Command("c"))
    context.params = said
    return context


def test_those_that_begin_so() -> None:
    context = _context(bootstrap="h:7")
    assert complete_topic(context, _TOPIC, "o") == ["orders", "others"]
    assert _Admin.bootstrap == "h:7"
    assert complete_group(context, _TOPIC, "") == ["audit", "billing"]
    assert complete_broker(context, _TOPIC, "1") == ["1", "12"]


def test_without_a_word_the_default_is_asked() -> None:
    assert complete_topic(_context(), _TOPIC, "c") == ["clicks"]
    assert _Admin.bootstrap == DEFAULT_BOOTSTRAP


@pytest.mark.parametrize("error", [YakError("nobody"), OSError("no"), ValueError("no address")])
def test_whatever_goes_wrong_is_silent(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_Admin, "does", error)
    assert complete_topic(_context(), _TOPIC, "") == []
    assert capsys.readouterr() == ("", "")


def test_a_cluster_that_is_slow_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completing, "ASK_S", 0.05)
    monkeypatch.setattr(_Admin, "does", 60)
    begun = time.monotonic()
    assert complete_topic(_context(), _TOPIC, "") == []
    assert time.monotonic() - begun < 30
    assert capsys.readouterr() == ("", "")
