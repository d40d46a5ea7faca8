"""yak.net.serving on real loopback sockets and both event loops: turns, weights and pauses.

What else a connection promises is in test_server.py and test_server_ends.py.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.server_stage import Recorder, Run, poll, stage
from yak import messages as m
from yak import protocol
from yak.net import rounds
from yak.net.weights import HEAVY_BYTES, REQUEST_BYTES, weight_of


def test_a_flood_keeps_nobody_waiting(run: Run) -> None:
    """One request, sent after ten thousand of somebody else's, is served long before the last."""

    async def play() -> None:
        async with stage(max_inflight_requests=100_000) as on:
            flood, modest = await on.dial(), await on.dial()
            flood.ask(*range(10_000))
            await on.handler.until(lambda: len(on.handler.taken) > 100)
            modest.ask("modest")
            assert await modest.answers(1) == ["modest"]
            assert len(on.handler.taken) < 8_000
            assert await flood.answers(10_000) == list(range(10_000))
            ids = on.handler.ids()
            assert [id_ for id_ in ids if id_ != "modest"] == list(range(10_000))

    run(play())


def test_a_request_of_more_work_than_a_share_is_taken_in_its_turn(run: Run) -> None:
    """However large: and what comes behind it stays behind it."""

    async def play() -> None:
        large = b"x" * (rounds.SHARE * rounds.BODY_WORK * 20)
        async with stage() as on:
            client = await on.dial()
            for number in range(5):
                client.ask(2 * number, body=large)
                client.ask(2 * number + 1)
            for id_ in range(10):
                body = b"" if id_ % 2 else large
                assert await client.receive() == ({"id": id_, "ok": True}, body)

    run(play())


def test_who_is_refused_pauses_and_nobody_else_does(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "REFUSED_PAUSE_S", 0.2)

    async def play() -> None:
        async with stage() as on:
            rude, modest = await on.dial(), await on.dial()
            for _ in range(3):
                rude.send(b"")
            rude.ask("good")
            began = on.server.loop.time()
            await rude.refused("INVALID_REQUEST")
            for number in range(100):
                modest.ask(number)
                assert await modest.answers(1) == [number]
            assert on.handler.ids()[-1] == 99, "its good request waits behind the pauses"
            for _ in range(2):
                await rude.refused("INVALID_REQUEST")
            assert await rude.answers(1) == ["good"]
            assert on.server.loop.time() - began > 0.5

    run(play())


def test_what_holds_everybody_up_is_taken_seldom(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge header, of whomever; whoever sends others is served meanwhile, and all in order."""
    monkeypatch.setattr(rounds, "HUGE", 300)
    monkeypatch.setattr(rounds, "HUGE_S", 0.001)

    async def play() -> None:
        async with stage() as on:
            one, other, modest = [await on.dial() for _ in range(3)]
            began = on.server.loop.time()
            for client in (one, other):
                client.send(b'{"type":"status","id":"huge","x":"%b"}' % (b"x" * 100_000))
                client.ask("behind")
            assert await one.answers(2) == ["huge", "behind"]
            assert on.server.loop.time() - began < 0.3, "the first one waits for nobody"
            for number in range(50):
                modest.ask(number)
                assert await modest.answers(1) == [number]
            assert on.server.loop.time() - began < 0.3
            assert await other.answers(2) == ["huge", "behind"]
            assert on.server.loop.time() - began > 0.3

    run(play())


def test_a_pause_does_not_hold_up_an_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "REFUSED_PAUSE_S", 0.05)

    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            for _ in range(3):
                client.send(b"")
            client.writer.write_eof()
            for _ in range(3):
                await client.refused("INVALID_REQUEST")
            await client.end()

    run(play())


def test_what_is_unanswered_has_a_weight_and_there_is_room_for_so_much(run: Run) -> None:
    limits = {"max_inflight_bytes": 20 * REQUEST_BYTES, "max_connections": 5}

    async def play() -> None:
        async with stage(Recorder(answering=False), **limits) as on:
            greedy, modest = await on.dial(), await on.dial()
            greedy.ask(*range(12))
            for id_ in (10, 11):
                answer, _ = await greedy.receive()
                assert (answer["id"], answer["error"]) == (id_, "OVERLOADED")
                assert "max_inflight_bytes" in answer["message"]
            modest.ask(1, 2)
            await on.handler.until(lambda: len(on.handler.taken) == 12)
            on.handler.answer_first()
            assert await greedy.answers(1) == [0]
            greedy.ask(12)
            assert (await greedy.receive())[0]["id"] == 12, "the modest ones' part is not for all"
            on.handler.open[0].abort()
            await poll(lambda: len(on.handler.gone) == 1)
            assert on.server.room.bytes == 2 * REQUEST_BYTES

    run(play())


def test_what_is_too_heavy_is_refused_by_its_id_before_it_is_looked_into(run: Run) -> None:
    async def play() -> None:
        fetch = {"type": "fetch", "id": "wide", "partitions": [["t", 0, 0]] * 20_000}
        header = json.dumps({**fetch, "max_bytes": "wrong, which is not seen"}).encode()
        assert weight_of(len(header)) > HEAVY_BYTES
        async with stage(max_inflight_bytes=HEAVY_BYTES) as on:
            client = await on.dial()
            client.send(header)
            answer, _ = await client.receive()
            assert (answer["id"], answer["error"]) == ("wide", "OVERLOADED")
            client.send(b"[" * len(header))
            assert (await client.receive())[0]["id"] is None, "it has no id"
            assert not on.handler.taken

    run(play())


def test_followers_are_never_refused_for_want_of_room(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), max_inflight_bytes=0) as on:
            client = await on.dial()
            client.ask(1)
            assert (await client.receive())[0]["error"] == "OVERLOADED"
            client.send(protocol.encode_request(m.Replicate(id=2, broker=2, epoch=1, from_=1)))
            await on.handler.until(lambda: bool(on.handler.taken))
            assert isinstance(on.handler.taken[0].request, m.PeerRequest)

    run(play())


def test_what_a_client_that_is_gone_had_sent_is_forgotten(run: Run) -> None:
    async def play() -> None:
        async with stage(max_inflight_requests=1) as on:
            client = await on.dial()
            client.ask(*range(10_000))
            await on.handler.until(lambda: bool(on.handler.taken))
            on.handler.open[0].abort()
            await on.handler.until(lambda: bool(on.handler.gone))
            taken = len(on.handler.taken)
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(on.handler.taken) == taken
            assert on.server.partial_bytes == 0

    run(play())
