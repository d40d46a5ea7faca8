"""What a process measures of itself: requests, and its loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.server_stage import Recorder, Run, poll, stage
from yak import messages as m
from yak import protocol
from yak.errors import Refused
from yak.net.timing import LAG_EVERY_S, Histogram, LoopLag, RequestTimes


def test_a_histogram_counts_by_upper_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    assert histogram.cumulated() == [2, 4, 5]
    assert histogram.sum == pytest.approx(14.0)


def test_requests_are_timed_by_their_type(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False)) as on:
            times = on.server.times = RequestTimes()
            client = await on.dial()
            client.ask(1, 2)
            await on.handler.until(lambda: len(on.handler.taken) == 2)
            assert times.answered == {}
            await asyncio.sleep(0.02)
            on.handler.answer_first()
            on.handler.answer_first()
            await client.answers(2)
            (histogram,) = [times.answered["status"]]
            assert histogram.cumulated()[-1] == 2
            assert histogram.sum >= 2 * 0.018

    run(play())


def test_refusals_are_counted_by_their_error() -> None:
    times = RequestTimes()
    for id_ in (1, 2):
        times.began(7, m.Status(id=id_))
        error = protocol.error_answer(Refused("OVERLOADED", "later"))
        times.ended(7, id_, error)
    times.began(7, m.Groups(id=3))
    times.ended(7, 3, m.GroupsAnswer(groups=[]))
    assert times.refused == {("status", "OVERLOADED"): 2}
    assert times.answered["status"].cumulated()[-1] == 2


def test_what_is_never_answered_is_forgotten_with_its_connection(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False)) as on:
            times = on.server.times = RequestTimes()
            client = await on.dial()
            client.ask(1)
            await on.handler.until(lambda: len(on.handler.taken) == 1)
            assert times._under_way
            on.handler.taken[0].connection.abort()
            await on.handler.until(lambda: bool(on.handler.gone))
            assert not times._under_way
            assert not times.answered

    run(play())


def test_bytes_and_connections_are_counted(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            client.ask(1)
            await client.answers(1)
            assert on.server.opened == 1
            assert on.server.bytes_in == 4 + len(protocol.encode_request(m.Status(id=1)) + b"\n")
            assert on.server.bytes_out > 4

    run(play())


def test_a_loop_that_is_held_up_is_seen(run: Run) -> None:
    async def play() -> None:
        lag = LoopLag()
        await poll(lambda: lag.lag.cumulated()[-1] > 0)
        calm, looked_at = lag.lag.sum, lag.looked_at
        time.sleep(3 * LAG_EVERY_S)  # noqa: ASYNC251 -- to hold the loop up is the test
        await poll(lambda: lag.looked_at > looked_at)
        assert lag.lag.sum - calm >= 1.9 * LAG_EVERY_S
        lag.close()

    run(play())
