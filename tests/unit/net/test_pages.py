"""A few pages over HTTP, on real loopback sockets and both event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from tests.support.server_stage import Run, poll
from yak.errors import Fatal
from yak.model import Address
from yak.net import pages as module
from yak.net.pages import Page, Pages


async def hello() -> Page:
    return Page(b"hello\n")


async def broken() -> Page:
    raise RuntimeError("a bug")


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Pages]:
    pages = await Pages.open(Address("127.0.0.1", 0), {"/hello": hello, "/broken": broken})
    try:
        yield pages
    finally:
        pages.close()
        await poll(lambda: not pages.guests)


async def ask(pages: Pages, question: bytes) -> tuple[int, bytes]:
    """The status and the body; to the connection's end."""
    reader, writer = await asyncio.open_connection(*pages.address)
    writer.write(question)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(h for h in head.split(b"\r\n") if h.startswith(b"Content-Length: "))
    if not question.startswith(b"HEAD"):
        assert int(length.split()[1]) == len(body)
    return int(head.split(b" ")[1]), body


@pytest.mark.parametrize(
    ("question", "status", "body"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"hello\n"),
        (b"GET /hello?a=b HTTP/1.0\r\n\r\n", 200, b"hello\n"),
        (b"HEAD /hello HTTP/1.1\r\n\r\n", 200, b""),
        (b"GET / HTTP/1.1\r\n\r\n", 404, b"here are only\n/hello\n/broken\n"),
        (b"POST /hello HTTP/1.1\r\n\r\nbody", 405, b"Method Not Allowed\n"),
        (b"\x16\x03\x01 a hello of TLS\r\n\r\n", 400, b"Bad Request\n"),
        (b"GET  HTTP/1.1 more words\r\n\r\n", 400, b"Bad Request\n"),
        (b"GET /hello HTTP/1.1\r\n" + b"x" * 10_000, 431, b"Request Header Fields Too Large\n"),
    ],
)
def test_one_question_one_answer(run: Run, question: bytes, status: int, body: bytes) -> None:
    async def play() -> None:
        async with opened() as pages:
            assert await ask(pages, question) == (status, body)

    run(play())


def test_a_question_may_come_in_pieces(run: Run) -> None:
    async def play() -> None:
        async with opened() as pages:
            reader, writer = await asyncio.open_connection(*pages.address)
            for byte in b"GET /hello HTTP/1.1\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
            assert (await reader.read()).endswith(b"\r\n\r\nhello\n")
            writer.close()

    run(play())


def test_a_page_that_fails_fails_alone(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with opened() as pages:
            status, _ = await ask(pages, b"GET /broken HTTP/1.1\r\n\r\n")
            assert status == HTTPStatus.INTERNAL_SERVER_ERROR
            assert await ask(pages, b"GET /hello HTTP/1.1\r\n\r\n") == (200, b"hello\n")

    run(play())
    assert "the page /broken failed" in caplog.text
    assert "a bug" in caplog.text


def test_a_guest_who_takes_too_long_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUEST_S", 0.05)

    async def play() -> None:
        async with opened() as pages:
            reader, writer = await asyncio.open_connection(*pages.address)
            writer.write(b"GET /hel")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            await poll(lambda: not pages.guests)

    run(play())


def test_only_so_many_guests_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GUESTS", 2)

    async def play() -> None:
        async with opened() as pages:
            silent = [await asyncio.open_connection(*pages.address) for _ in range(2)]
            await poll(lambda: len(pages.guests) == 2)
            reader, writer = await asyncio.open_connection(*pages.address)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b"", "the third is cut"
            writer.close()
            silent[0][1].close()
            await poll(lambda: len(pages.guests) == 1)
            assert await ask(pages, b"GET /hello HTTP/1.1\r\n\r\n") == (200, b"hello\n")
            silent[1][1].close()

    run(play())


def test_a_port_in_use_is_told(run: Run) -> None:
    async def play() -> None:
        async with opened() as pages:
            with pytest.raises(Fatal, match=r"--metrics-port: cannot listen on .*in use"):
                await Pages.open(pages.address, {})

    run(play())


def test_it_listens_on_its_host_alone(run: Run) -> None:
    async def play() -> None:
        async with opened() as pages:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", pages.address.port)

    run(play())
