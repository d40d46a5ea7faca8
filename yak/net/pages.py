"""A few pages over HTTP, for those who only look: a scraper, a probe, a person with curl.

    GET /metrics HTTP/1.1 ──▶ the page's function, on the process's own loop ──▶ 200, and the end

Rules:

* It runs on the loop whose process it speaks of: that it answers shows that the loop turns.  So a
  page is made in small steps (`Page` functions are coroutines that give way).
* GET and HEAD of a page that there is; everything else is refused.  One answer a connection.
* What a guest may take is little: MAX_GUESTS at a time, MAX_HEAD_BYTES to ask with, GUEST_S in
  all.  A guest who reads slowly or not at all is cut off then.
* It listens where its caller says, and never anywhere else.

It knows nothing of what the pages say, and has neither bodies, cookies, ranges nor TLS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

from yak.errors import Fatal
from yak.model import Address
from yak.net.listener import Listener
from yak.net.serving import stream
from yak.net.tasks import spawn

#: Connections at a time: two Prometheus servers, probes, some people.
MAX_GUESTS: Final = 16
#: A request's first line and headers; browsers and scrapers send below 2 KiB.
MAX_HEAD_BYTES: Final = 8 * 1024
#: From the connection to the last byte read: what Prometheus waits for by default.
GUEST_S: Final = 10.0

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """What a guest is answered.  kind: its media type."""

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


#: Makes a page anew for each guest, on the loop.
Make: TypeAlias = Callable[[], Awaitable[Page]]


class Pages:
    """An open port with pages.  `close` it."""

    def __init__(self, pages: Mapping[str, Make]) -> None:
        self.pages = pages
        self.guests: set[_Guest] = set()
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None

    @classmethod
    async def open(cls, where: Address, pages: Mapping[str, Make]) -> Pages:
        """Listen; port 0 takes any free one.  Raises Fatal."""
        opened = cls(pages)
        try:
            opened._listener = await Listener.open(*where, opened._accepted)
        except Fatal as refused:
            raise Fatal(f"--metrics-port: {refused.message}") from refused
        return opened

    @property
    def address(self) -> Address:
        """Where it listens, with the real port."""
        assert self._listener is not None
        return self._listener.address

    def close(self) -> None:
        """At once; whoever is being answered is cut off."""
        if self._listener is not None:
            self._listener.close()
        for guest in list(self.guests):
            guest.transport.abort()

    def _accepted(self, sock: socket.socket) -> None:
        if len(self.guests) >= MAX_GUESTS:
            sock.close()
            return
        _ = spawn(self._adopt(sock), name="a guest of the pages")

    async def _adopt(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: _Guest(self), sock)
        except OSError as e:
            _log.info("a guest was lost while it was accepted: %s", e)
            sock.close()


class _Guest(asyncio.Protocol):
    """One connection: a question, an answer, the end."""

    transport: asyncio.Transport

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._head = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = stream(transport)
        self._timer = asyncio.get_running_loop().call_later(GUEST_S, self.transport.abort)
        self._pages.guests.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._pages.guests.discard(self)
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._answering = spawn(self._answer(), name="a page")
        elif len(self._head) > MAX_HEAD_BYTES:
            self._send("GET", _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    async def _answer(self) -> None:
        words = self._head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._send("GET", _plain(HTTPStatus.BAD_REQUEST))
            return
        method, target, _ = words
        self._send(method, await self._page(method, target.partition("?")[0]))

    async def _page(self, method: str, path: str) -> Page:
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        make = self._pages.pages.get(path)
        if make is None:
            there = "\n".join(self._pages.pages)
            return Page(f"here are only\n{there}\n".encode(), status=HTTPStatus.NOT_FOUND)
        try:
            return await make()
        except Exception:  # noqa: BLE001 -- a bug in a page must not reach what it speaks of
            _log.exception("the page %s failed", path)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, method: str, page: Page) -> None:
        status = page.status
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {page.kind}\r\n"
            f"Content-Length: {len(page.body)}\r\nConnection: close\r\n"
            f"X-Content-Type-Options: nosniff\r\n\r\n"
        ).encode()
        self.transport.write(head if method == "HEAD" else head + page.body)
        self.transport.close()  # once it is read, or after GUEST_S


def _plain(status: HTTPStatus) -> Page:
    return Page(f"{status.phrase}\n".encode(), status=status)
