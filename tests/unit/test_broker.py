"""A broker's shell: what becomes of it where its core has a bug."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory_disk import MemoryDisk
from yak.broker import Broker
from yak.config import BrokerConfig
from yak.core import events as e
from yak.model import Now
from yak.storage.data_dir import DataDir
from yak.storage.store import Store
from yak.storage.story import Story


@pytest.mark.asyncio
async def test_a_bug_in_a_turn_stops_the_broker() -> None:
    """Effects of that turn are lost: alive, it would hold up all who wait for them."""
    disk = MemoryDisk()
    data_dir = DataDir.open(disk, "/b", kind="broker", broker=1)
    store, recovered = Store.recover(disk, data_dir, 1 << 20)
    config = BrokerConfig(id=1, data_dir=Path("/b"))
    broker = Broker(config, data_dir, store, recovered, Story("broker-1", None, None), "i1")
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def act(now: Now) -> list[e.Effect]:
        raise AssertionError(f"operation 7 after 5, at {now.mono}")

    broker.node.act = act  # type: ignore[method-assign]  # the bug is planted
    broker._tell(e.Tick())
    async with asyncio.timeout(5):
        await broker.stopped.wait()
    assert broker.failure is not None
    assert "operation 7 after 5" in broker.failure.message
    assert isinstance(reported[0]["exception"], AssertionError), "its traceback is told"
