"""yak.net.server on real loopback sockets and both event loops: requests, answers, limits."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from tests.support.server_stage import Recorder, Run, poll, stage
from yak import messages as m
from yak import protocol
from yak.net.server import ServerConnection

# -- Requests and answers -------------------------------------------------------------------------


def test_a_request_reaches_the_handler_and_its_answer_the_client(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            client.ask("é", body=b"x\ny\n")
            assert await client.receive() == ({"id": "é", "ok": True}, b"x\ny\n")
            ((connection, request, body),) = on.handler.taken
            assert (request, body) == (m.Status(id="é"), b"x\ny\n")
            assert on.server.connections == {connection.number: connection}
            assert connection.dialled == "127.0.0.1"
            assert connection.peer == client.writer.get_extra_info("sockname")
            assert connection.unanswered == 0

    run(play())


def test_answers_of_one_turn_leave_in_one_write(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False)) as on:
            client = await on.dial()
            client.ask(*range(50))
            await on.handler.until(lambda: len(on.handler.taken) == 50)
            (connection,) = on.handler.open
            writes: list[int] = []
            transport = connection._transport
            writelines = transport.writelines
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    connection, "_transport", _Spy(transport, writes, writelines), raising=True
                )
                for _ in range(50):
                    on.handler.answer_first()
                assert await client.answers(50) == list(range(50))
            assert writes == [50]

    run(play())


class _Spy:
    """A transport that counts the frames of each write."""

    def __init__(self, transport: Any, writes: list[int], writelines: Any) -> None:
        self._transport, self._writes, self._writelines = transport, writes, writelines

    def writelines(self, buffers: list[bytes]) -> None:
        self._writes.append(sum(len(buffer) > 0 for buffer in buffers))
        self._writelines(buffers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_malformed_requests_are_answered_here_and_the_connection_lives(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            for payload in (b"", b"[]", b'{"type":"status","id":1,"id":1}', b"\0\x12\0\x03rest"):
                client.send(payload)
                assert await client.refused("INVALID_REQUEST")
            client.send(b'{"type":"fetch","id":"f"}')
            answer, _ = await client.receive()
            assert answer["id"] == "f"
            assert "partitions" in answer["message"]
            assert on.handler.taken == []
            client.ask(1)
            assert await client.answers(1) == [1]

    run(play())


def test_a_push_comes_without_being_asked(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            await on.handler.until(lambda: bool(on.handler.open))
            on.handler.open[0].push(m.Status(id=0))
            assert (await client.receive())[0]["type"] == "status"

    run(play())


def test_numbers_are_never_used_twice(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            for _ in range(3):
                client = await on.dial()
                client.ask(1)
                assert await client.answers(1) == [1]
                client.writer.close()
                await on.handler.until(lambda: len(on.handler.gone) == len(on.handler.open) > 0)
            assert len({connection.number for connection in on.handler.open}) == 3

    run(play())


def test_a_request_without_an_answer_is_done(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), max_inflight_requests=1) as on:
            client = await on.dial()
            client.ask(*range(5))
            for id_ in range(5):
                await on.handler.until(lambda: bool(on.handler.taken))
                assert on.handler.ids() == [id_]
                taken = on.handler.taken.pop()
                taken.connection.done(taken.request.id)
            assert on.handler.open[0].unanswered == 0

    run(play())


def test_a_bug_of_the_handler_costs_one_request(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(Recorder):
        def received(
            self, connection: ServerConnection, request: m.Request, body: bytes, /
        ) -> None:
            if request.id == "bug":
                raise ZeroDivisionError
            super().received(connection, request, body)

    async def play() -> None:
        async with stage(Buggy()) as on:
            client = await on.dial()
            client.ask("bug", 2)
            answer, _ = await client.receive()
            assert (answer["id"], answer["error"]) == ("bug", "INTERNAL")
            assert await client.answers(1) == [2]
            incident = answer["message"].split("incident ")[1].split()[0]
            assert incident in caplog.text

    run(play())


# -- Limits ---------------------------------------------------------------------------------------


def test_requests_beyond_the_limit_wait_in_order(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), max_inflight_requests=3) as on:
            client = await on.dial()
            client.ask(*range(10))
            answered: list[int] = []
            while len(answered) < 10:
                await on.handler.until(lambda: bool(on.handler.taken))
                (connection,) = on.handler.open
                assert connection.unanswered == len(on.handler.taken) <= 3
                on.handler.answer_first()
                answered += await client.answers(1)
            assert answered == list(range(10))

    run(play())


def test_requests_in_flight_stop_the_reading(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), max_inflight_requests=1) as on:
            client = await on.dial()
            client.ask(1)
            await on.handler.until(lambda: bool(on.handler.taken))
            (connection,) = on.handler.open
            assert not connection.reading
            client.ask(2, body=b"x" * 1000)
            on.handler.answer_first()
            await on.handler.until(lambda: on.handler.ids() == [2])
            on.handler.answer_first()
            assert await client.answers(2) == [1, 2]
            assert connection.reading

    run(play())


def test_a_client_that_does_not_read_is_not_read(run: Run) -> None:
    async def play() -> None:
        body = b"x" * 100_000
        async with stage(max_unsent_bytes=200_000) as on:
            client = await on.dial_slow()
            client.ask(*range(200), body=body)
            await on.handler.until(lambda: bool(on.handler.open))
            (connection,) = on.handler.open
            await poll(lambda: not connection.reading)
            assert len(on.handler.taken) < 150, "the rest is still the client's"
            assert connection.unsent_bytes < 2_000_000
            for id_ in range(200):
                assert await client.receive() == ({"id": id_, "ok": True}, body)
            assert connection.unsent_bytes == 0

    run(play())


def test_requests_that_are_here_wait_for_a_client_to_read(run: Run) -> None:
    async def play() -> None:
        extra = b"x" * 500_000
        async with stage(Recorder(extra=extra), max_unsent_bytes=200_000) as on:
            client = await on.dial_slow()
            client.ask(*range(100))
            await poll(lambda: bool(on.handler.open and not on.handler.open[0].reading))
            assert len(on.handler.taken) < 50
            for id_ in range(100):
                assert await client.receive() == ({"id": id_, "ok": True}, extra)

    run(play())


def test_large_answers_are_made_as_the_client_reads(run: Run) -> None:
    async def play() -> None:
        body = b"x" * 500_000
        made: list[m.RequestId] = []

        def answer(connection: ServerConnection, id_: m.RequestId) -> None:
            made.append(id_)
            connection.answer(id_, m.Done(), [body])

        async with stage(Recorder(answering=False), max_unsent_bytes=200_000) as on:
            client = await on.dial_slow()
            client.ask(*range(60))
            await on.handler.until(lambda: len(on.handler.taken) == 60)
            for connection, request, _ in on.handler.taken:
                connection.when_room(functools.partial(answer, connection, request.id))
            assert 0 < len(made) < 30, "they were all taken before the first was answered"
            for id_ in range(60):
                assert await client.receive() == ({"id": id_, "ok": True}, body)
            assert made == list(range(60))

    run(play())


def test_clients_over_the_limit_are_told_so(run: Run) -> None:
    async def play() -> None:
        async with stage(max_connections=3) as on:
            inside = [await on.dial() for _ in range(3)]
            await on.handler.until(lambda: len(on.handler.open) == 3)
            outside = await on.dial()
            outside.ask(1)
            assert "max_connections" in await outside.refused("OVERLOADED")
            await outside.end()
            assert len(on.handler.open) == 3
            inside[0].writer.close()
            await on.handler.until(lambda: len(on.handler.gone) == 1)
            later = await on.dial()
            later.ask(1)
            assert await later.answers(1) == [1]

    run(play())


def test_unfinished_frames_share_one_limit(run: Run) -> None:
    async def play() -> None:
        async with stage(max_partial_bytes=100_000) as on:
            patient, greedy = await on.dial(), await on.dial()
            patient.writer.write((500_000).to_bytes(4) + b"x" * 60_000)
            await poll(lambda: on.server.partial_bytes >= 60_004)
            greedy.writer.write((500_000).to_bytes(4) + b"x" * 60_000)
            assert "max_partial_bytes" in await greedy.refused("OVERLOADED")
            await greedy.end()
            assert on.server.partial_bytes == 60_004
            patient.writer.write(b"x" * 10_000)
            await poll(lambda: on.server.partial_bytes >= 70_004)

    run(play())


def test_frames_that_wait_behind_too_many_unanswered_share_it_too(run: Run) -> None:
    """They have arrived, but nobody has taken them."""

    async def play() -> None:
        async with stage(
            Recorder(answering=False), max_partial_bytes=100_000, max_inflight_requests=2
        ) as on:
            busy, greedy = await on.dial(), await on.dial()
            busy.ask(*range(2_000))
            await poll(lambda: on.server.partial_bytes > 20_000)
            greedy.ask(*range(10_000))
            assert "max_partial_bytes" in await greedy.refused("OVERLOADED")
            await greedy.end()
            assert on.server.partial_bytes <= 100_000
            while on.server.partial_bytes:
                on.handler.answer_first()
                await asyncio.sleep(0)
            assert len(on.handler.taken) <= 4, "nearly all of them are served"

    run(play())


def test_a_frame_that_began_must_end(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), frame_timeout_ms=200) as on:
            idle, slow = await on.dial(), await on.dial()
            slow.ask(1)
            await on.handler.until(lambda: bool(on.handler.taken))
            slow.writer.write(b"\0\0")
            await poll(lambda: bool(on.server.partial_bytes))
            connection = on.handler.taken[0][0]
            await poll(lambda: bool(connection._ending))
            on.handler.answer_first()
            assert await slow.answers(1) == [1], "what was asked before is still answered"
            assert "frame_timeout_ms" in await slow.refused("INVALID_REQUEST")
            await slow.end()
            on.handler.answering = True
            idle.ask(2)
            assert await idle.answers(1) == [2], "one that only waits may wait"

    run(play())


def test_a_frame_that_we_do_not_read_is_not_late(run: Run) -> None:
    async def play() -> None:
        limits = {"frame_timeout_ms": 100, "max_inflight_requests": 1}
        async with stage(Recorder(answering=False), **limits) as on:
            client = await on.dial()
            client.ask(1)
            second = b"".join(protocol.frame(protocol.encode_request(m.Status(id=2))))
            client.writer.write(second[:7])
            await poll(lambda: on.server.partial_bytes == 7)
            (connection,) = on.handler.open
            assert not connection.reading
            client.writer.write(second[7:])
            # Three times the limit, which is what is tested.
            await asyncio.sleep(0.3)
            on.handler.answer_first()
            await on.handler.until(lambda: on.handler.ids() == [2])
            on.handler.answer_first()
            assert await client.answers(2) == [1, 2]

    run(play())


def test_each_frame_has_its_own_deadline(run: Run) -> None:
    async def play() -> None:
        async with stage(frame_timeout_ms=400) as on:
            client = await on.dial()
            for number in range(6):
                half = b"".join(protocol.frame(protocol.encode_request(m.Status(id=number))))
                client.writer.write(half[5:] if number else half)
                client.writer.write(half[:5])
                assert await client.answers(1) == [number]
                await asyncio.sleep(0.15)

    run(play())
