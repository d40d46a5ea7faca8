"""A loop on a thread: calls wait for it, interruptions leave it usable, an end is an end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from yak.errors import YakError
from yak.net.loop_thread import LoopThread


def test_calls_return_raise_and_time_out_and_it_goes_on() -> None:
    thread = LoopThread("test")
    try:
        assert thread.call(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(TimeoutError):
            thread.call(asyncio.sleep(60), timeout_s=0.01)
        with pytest.raises(ZeroDivisionError):
            thread.call(_fail())
        assert thread.call(asyncio.sleep(0, "still")) == "still"
        assert thread.alive
    finally:
        thread.stop()


async def _fail() -> None:
    raise ZeroDivisionError


def test_after_its_end_every_call_says_so() -> None:
    thread = LoopThread("test")
    thread.stop()
    thread.stop()
    assert not thread.alive
    with pytest.raises(YakError) as caught:
        thread.call(asyncio.sleep(0))
    assert caught.value.name == "CLOSED"


def test_what_still_runs_is_cancelled_at_the_end_and_its_caller_told() -> None:
    thread = LoopThread("test")
    begun = threading.Event()
    ended: list[str] = []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    def call() -> None:
        with pytest.raises(YakError) as caught:
            thread.call(work())
        ended.append(caught.value.name)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(5)
    thread.stop()
    caller.join(5)
    assert ended == ["cancelled", "CLOSED"]
