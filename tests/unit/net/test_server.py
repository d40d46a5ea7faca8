"""yak.net.server against real loopback sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import pytest
import uvloop

from yak import messages as m
from yak import protocol
from yak.config import Limits
from yak.errors import Fatal
from yak.net import listener, server
from yak.net.listener import Listener
from yak.net.server import Server, ServerConnection
from yak.protocol import RequestDecoder

PATIENCE_S = 15.0
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


class Taken(NamedTuple):
    connection: ServerConnection
    request: m.Request
    body: bytes


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


async def poll(condition: Callable[[], bool]) -> None:
    """For what no event tells; the test's own time limit ends it."""
    while not condition():  # noqa: ASYNC110 -- a transport's state has no event
        await asyncio.sleep(0.01)


@dataclass
class Recorder:
    """A handler that keeps what it is told; `answering` answers at once, in the same call.

    extra: what every answer's body has beside the request's.
    """

    answering: bool = True
    extra: bytes = b""
    open: list[ServerConnection] = field(default_factory=list)
    gone: list[ServerConnection] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    #: Set at every event, for `until`.
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def opened(self, connection: ServerConnection, /) -> None:
        self.open.append(connection)
        self.news.set()

    def received(self, connection: ServerConnection, request: m.Request, body: bytes, /) -> None:
        self.taken.append(Taken(connection, request, body))
        self.news.set()
        if self.answering:
            connection.answer(request.id, m.Done(), [body, self.extra])

    def closed(self, connection: ServerConnection, /) -> None:
        self.gone.append(connection)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    def ids(self) -> list[m.RequestId]:
        return [request.id for _, request, _ in self.taken]

    def answer_first(self) -> None:
        connection, request, body = self.taken.pop(0)
        connection.answer(request.id, m.Done(), [body, self.extra])


class Client:
    """Bytes out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, *ids: m.RequestId, body: bytes = b"") -> None:
        frames = [protocol.frame(protocol.encode_request(m.Status(id=id_)), [body]) for id_ in ids]
        self.writer.write(b"".join(b"".join(frame) for frame in frames))

    def send(self, payload: bytes) -> None:
        self.writer.write(len(payload).to_bytes(4) + payload)

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        size = int.from_bytes(await self.reader.readexactly(4))
        header, _, body = (await self.reader.readexactly(size)).partition(b"\n")
        return json.loads(header), body

    async def answers(self, count: int) -> list[Any]:
        return [(await self.receive())[0]["id"] for _ in range(count)]

    async def refused(self, name: str) -> str:
        answer, _ = await self.receive()
        assert (answer["id"], answer["ok"], answer["error"]) == (None, False, name)
        return str(answer["message"])

    async def end(self) -> None:
        assert await self.reader.read() == b""


class Stage:
    """A server with a recorder behind it, and clients that are closed at the end."""

    def __init__(self, server_: Server, handler: Recorder) -> None:
        self.server = server_
        self.handler = handler
        self.clients: list[Client] = []

    async def dial(self, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection(*self.server.address, **options))
        self.clients.append(client)
        return client

    async def dial_slow(self) -> Client:
        """A client whose kernel takes little and who has not begun to read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, self.server.address)
        return await self.dial_on(sock)

    async def dial_on(self, sock: socket.socket) -> Client:
        client = Client(*await asyncio.open_connection(sock=sock, limit=1024))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def stage(handler: Recorder | None = None, **limits: int) -> AsyncIterator[Stage]:
    handler = handler or Recorder()
    decoder = RequestDecoder(m.BrokerRequest)
    server_ = await Server.start("127.0.0.1", 0, decoder, handler, Limits(**limits))
    play = Stage(server_, handler)
    try:
        yield play
    finally:
        for client in play.clients:
            client.writer.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        await server_.close(1.0)
        assert server_.partial_bytes == 0
        assert not server_.connections
        assert len(handler.gone) == len(handler.open)


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
                on.handler.taken.pop().connection.done()
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


# -- Ends -----------------------------------------------------------------------------------------


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
            await poll(lambda: connection._choked)
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
    wait = Listener._wait

    def counted(self: Listener, error: OSError) -> None:
        waits.append(error)
        wait(self, error)

    monkeypatch.setattr(Listener, "_wait", counted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def play() -> None:
        async with stage() as on:
            inside = await on.dial()
            sock = socket.socket()
            sock.settimeout(0)
            with open("/dev/null", "rb") as probe:  # noqa: ASYNC230, PTH123 -- finds the next free one
                lowest = probe.fileno()
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
