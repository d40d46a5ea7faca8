"""yak.net.tasks: what is spawned is held until it ends, and its failure is told."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from yak.net import tasks
from yak.net.tasks import spawn


@pytest.mark.asyncio
async def test_a_spawned_task_runs_though_nobody_holds_it() -> None:
    done = asyncio.Event()
    go = asyncio.Event()
    others = set(tasks._running)

    async def work() -> None:
        await go.wait()
        done.set()

    _ = spawn(work(), name="work")
    await asyncio.sleep(0)
    gc.collect()
    go.set()
    await done.wait()
    await asyncio.sleep(0)
    assert tasks._running <= others


@pytest.mark.asyncio
async def test_its_result_can_be_awaited() -> None:
    async def work() -> int:
        return 7

    assert await spawn(work(), name="work") == 7


@pytest.mark.asyncio
async def test_a_failure_is_told_at_once_and_a_cancellation_is_not() -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def fail() -> None:
        raise ZeroDivisionError

    task = spawn(fail(), name="to fail")
    waiting = spawn(asyncio.sleep(60), name="to be cancelled")
    await asyncio.wait([task])
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0)
    (context,) = told
    assert "to fail" in context["message"]
    assert isinstance(context["exception"], ZeroDivisionError)
