"""All brokers are asked at once, and who hangs holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.support.fake_broker import Ask, FakeBroker, Result
from tests.support.pictures import a_status
from yak import errors
from yak import messages as m
from yak.net import reports
from yak.net.reports import ask_one, survey

pytestmark = pytest.mark.asyncio


def status(ask: Ask) -> Result:
    return {
        name: value
        for name, value in msgspec.to_builtins(a_status(ask.broker.id)).items()
        if name not in ("id", "ok")
    }


@asynccontextmanager
async def brokers(count: int) -> AsyncIterator[list[FakeBroker]]:
    """That know each other."""
    async with FakeBroker(1) as one, FakeBroker(2) as two, FakeBroker(3) as three:
        found = [one, two, three][:count]
        entries = [
            {"id": b.id, "host": b.address.host, "port": b.address.port, "live": True}
            for b in found
        ]
        for broker in found:
            broker.on("status", status)
            broker.on(
                "metadata",
                lambda _: {
                    "cluster": "c", "epoch": 1, "leader": 1, "isr": [1], "brokers": entries,
                    "topics": {},
                },
            )  # fmt: skip
        yield found


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PROBE_S", 0.6)
    monkeypatch.setattr(reports, "WAITING_S", 0.2)


async def test_those_that_hang_are_waited_for_once_and_at_the_same_time(soon: None) -> None:
    async with brokers(3) as found:
        found[1].hung = found[2].hung = True
        told: list[str] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        # The third is known by the first one's word only.
        said, known = await survey([one.address for one in found[:2]], told.append)
        assert 0.5 <= loop.time() - began < 1.1
        assert {one.address: one.status is not None for one in said} == {
            found[0].address: True,
            found[1].address: False,
            found[2].address: False,
        }
        assert "did not answer a status within 0.6 s" in said[1].error
        assert known == {one.address: one.id for one in found}
        assert told == [], "somebody has answered"


async def test_that_nobody_answers_is_told(soon: None) -> None:
    async with brokers(2) as found:
        found[0].hung = found[1].hung = True
        told: list[str] = []
        said, known = await survey([one.address for one in found], told.append)
        assert told == [f"no answer yet from {found[0].address}, {found[1].address}"]
        assert [one.status for one in said] == [None, None]
        assert known == {}


async def test_a_question_s_time_is_that_of_connecting_and_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with brokers(1) as (broker,):
        broker.hung = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(errors.TimeoutError, match=r"did not answer a status within 0\.3 s"):
            await ask_one(broker.address, m.Status(id=0), m.StatusAnswer, timeout_s=0.3)
        assert loop.time() - began < 0.6
