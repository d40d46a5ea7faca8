"""A server of yak.net on a real loopback port: a handler that records, clients that speak bytes.

    async with stage(Recorder(answering=False), max_connections=3) as on:
        client = await on.dial()
        client.ask(1)
        await on.handler.until(lambda: len(on.handler.taken) == 1)

At its end a stage closes everything, and checks that nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from yak import messages as m
from yak import protocol
from yak.config import Limits
from yak.net.server import Server, ServerConnection
from yak.protocol import RequestDecoder

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


class Taken(NamedTuple):
    connection: ServerConnection
    request: m.Request
    body: bytes


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
