"""yak.net.server on real loopback sockets and both event loops: ends, and the door.

However a connection ends, what was answered arrives, and nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct

import pytest

from tests.support.server_stage import Recorder, Run, poll, stage
from yak import messages as m
from yak.config import Limits
from yak.errors import Fatal
from yak.net import listener, server
from yak.net.listener import Listener
from yak.net.rounds import LIGHT
from yak.net.server import Server
from yak.protocol import RequestDecoder

# -- Ends -----------------------------------------------------------------------------------------


def test_too_long_a_frame_is_the_last(run: Run) -> None:
    async def play() -> None:
        async with stage(max_frame_bytes=1000) as on:
            client = await on.dial()
            client.ask(1)
            client.writer.write(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 300_000)
            assert await client.answers(1) == [1]
            message = await client.refused("FRAME_TOO_LARGE")
            assert "HTTP" in message
            assert "1000" in message
            await client.end()

    run(play())


def test_a_client_that_ignores_the_end_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_S", 0.1)

    async def play() -> None:
        async with stage(Recorder(answering=False), max_frame_bytes=1000) as on:
            client = await on.dial()
            client.ask("never answered")
            client.writer.write(b"\xff" * 8)
            assert "max_frame_bytes" in await client.refused("FRAME_TOO_LARGE")
            await client.end()
            await on.handler.until(lambda: bool(on.handler.gone))
            connection, request, _ = on.handler.taken[0]
            connection.answer(request.id, m.Done())
            assert connection.closed

    run(play())


def test_a_client_that_ends_first_still_gets_its_answers(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False), max_inflight_requests=2) as on:
            client = await on.dial()
            client.ask(1, 2, 3)
            client.writer.write(b"\0\0\0\x09{half")
            client.writer.write_eof()
            for id_ in (1, 2, 3):
                await on.handler.until(lambda: bool(on.handler.taken))
                on.handler.answer_first()
                assert await client.answers(1) == [id_]
            await client.end()
            await on.handler.until(lambda: bool(on.handler.gone))

    run(play())


def test_who_goes_and_waited_for_much_is_forgotten_in_its_turn(run: Run) -> None:
    """A thousand may go at once, each with a thousand answers that nobody wants any more."""

    async def play() -> None:
        async with stage(Recorder(answering=False)) as on:
            much = [await on.dial() for _ in range(20)]
            for client in much:
                client.ask(*range(10 * LIGHT))
            await on.handler.until(lambda: len(on.handler.taken) == 20 * 10 * LIGHT)
            for client in much:
                reset = struct.pack("ii", 1, 0)
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                client.writer.transport.abort()
            most = told = 0
            while told < 20:
                before = told
                await asyncio.sleep(0)
                told = len(on.handler.gone)
                most = max(most, told - before)
            assert most <= 3, "they were all forgotten in one round of the loop"
            assert on.server.room.bytes == 0

    run(play())


def test_a_slow_client_that_ends_first_gets_them_too(run: Run) -> None:
    async def play() -> None:
        extra = b"x" * 6_000_000
        limits = {"max_inflight_requests": 1, "max_unsent_bytes": 100_000}
        async with stage(Recorder(answering=False, extra=extra), **limits) as on:
            client = await on.dial_slow()
            client.ask(1, 2, 3)
            client.writer.write_eof()
            await on.handler.until(lambda: bool(on.handler.taken))
            (connection,) = on.handler.open
            on.handler.answer_first()
            await poll(lambda: connection.choked)
            for id_ in (1, 2, 3):
                assert await client.receive() == ({"id": id_, "ok": True}, extra)
                if id_ < 3:
                    await on.handler.until(lambda: bool(on.handler.taken))
                    on.handler.answer_first()
            await client.end()

    run(play())


def test_a_client_that_ends_with_nothing_due_is_gone(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            client = await on.dial()
            client.writer.write(b"\0\0\0\x09{half")
            client.writer.write_eof()
            await client.end()
            await on.handler.until(lambda: bool(on.handler.gone))

    run(play())


def test_answers_after_the_end_are_dropped(run: Run) -> None:
    async def play() -> None:
        async with stage(Recorder(answering=False)) as on:
            client = await on.dial()
            client.ask(1, 2)
            await on.handler.until(lambda: len(on.handler.taken) == 2)
            client.writer.transport.abort()
            (connection,) = on.handler.open
            on.handler.answer_first()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await on.handler.until(lambda: bool(on.handler.gone))
            on.handler.answer_first()
            connection.push(m.Status(id=1))
            connection.close("twice is once")
            assert connection.unanswered == 0

    run(play())


def test_closing_a_connection_sends_what_is_answered(run: Run) -> None:
    async def play() -> None:
        body = b"x" * 3_000_000
        async with stage(Recorder(answering=False)) as on:
            client = await on.dial()
            client.ask(1, 2, body=body)
            await on.handler.until(lambda: len(on.handler.taken) == 2)
            on.handler.answer_first()
            on.handler.open[0].close("enough")
            on.handler.answer_first()
            assert await client.receive() == ({"id": 1, "ok": True}, body)
            await client.end()

    run(play())


def test_closing_the_server_is_orderly_and_bounded(run: Run) -> None:
    async def play() -> None:
        handler = Recorder(answering=False)
        async with stage(handler) as on:
            client, deaf = await on.dial(), await on.dial_slow()
            client.ask(1)
            deaf.ask(2, body=b"x" * 5_000_000)
            await handler.until(lambda: len(handler.taken) == 2)
            handler.answer_first()
            handler.answer_first()
            closing = asyncio.ensure_future(on.server.close(0.3))
            assert await client.answers(1) == [1]
            await client.end()
            await closing
            assert not on.server.connections
            with pytest.raises(OSError, match=r"."):
                await on.dial()

    run(play())


def test_a_reset_in_the_middle_of_a_frame_does_no_harm(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            sock = socket.create_connection(on.server.address)
            sock.sendall(b"\0\0\0\x09{half")
            await poll(lambda: bool(on.server.partial_bytes))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            await on.handler.until(lambda: bool(on.handler.gone))
            assert on.server.partial_bytes == 0

    run(play())


# -- Listening ------------------------------------------------------------------------------------


def test_a_busy_port_is_one_clear_line(run: Run) -> None:
    async def play() -> None:
        async with stage() as on:
            with pytest.raises(Fatal, match=r"the port is in use") as caught:
                await Server.start(
                    *on.server.address, RequestDecoder(m.BrokerRequest), Recorder(), Limits()
                )
            assert str(on.server.address) in caught.value.message
            assert "\n" not in caught.value.message

    run(play())


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_a_wrong_host_is_one_clear_line(run: Run, host: str) -> None:
    async def play() -> None:
        with pytest.raises(Fatal, match=r"cannot listen on"):
            await Server.start(host, 0, RequestDecoder(m.BrokerRequest), Recorder(), Limits())

    run(play())


def test_a_name_with_two_addresses_has_one_port(run: Run) -> None:
    async def play() -> None:
        server_ = await Server.start(
            "localhost", 0, RequestDecoder(m.BrokerRequest), Recorder(), Limits()
        )
        assert server_.address.host in ("127.0.0.1", "::1")
        assert server_.address.port > 0
        await server_.close(1.0)

    run(play())


def test_out_of_file_descriptors_the_accept_waits(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clients wait too, and are served when there is room; the loop does not spin."""
    monkeypatch.setattr(listener, "ACCEPT_PAUSE_S", 0.05)
    waits: list[OSError] = []
    run_short = Listener._run_short

    def counted(self: Listener, error: OSError) -> None:
        waits.append(error)
        run_short(self, error)

    monkeypatch.setattr(Listener, "_run_short", counted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def play() -> None:
        async with stage() as on:
            inside = await on.dial()
            sock = socket.socket()
            sock.settimeout(0)
            # A duplicate takes the lowest free number.
            lowest = os.dup(sock.fileno())
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                await asyncio.get_running_loop().sock_connect(sock, on.server.address)
                turns = 0
                while "accepting waits" not in caplog.text or turns < 10:
                    inside.ask(turns)
                    assert await inside.answers(1) == [turns]
                    await asyncio.sleep(0.02)
                    turns += 1
                tries = caplog.text.count("accepting waits")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert tries == 1, "said once, not at every try"
            assert len(waits) <= turns, "the loop spins"
            client = await on.dial_on(sock)
            client.ask(1)
            assert await client.answers(1) == [1]

    with caplog.at_level(logging.WARNING):
        run(play())
