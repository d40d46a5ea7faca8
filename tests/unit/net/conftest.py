"""What the tests of the net share: both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from tests.support.server_stage import Run

PATIENCE_S = 15.0


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine to its end, within PATIENCE_S."""

    def runner(coro: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await coro

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner
