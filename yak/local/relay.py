"""Between the processes of a cluster: doors that pass everything on, until two are cut apart.

    python -m yak.local.relay '[{"port":4001,"dialler":null,"target":1,"to":40123}, …]'
    listening on 127.0.0.1:4001
    < [[1,2]]                  a line on stdin: who is cut from whom; 0 is yak-zk
    > cut [[1,2]]              from now on

A process of its own, so that a test that computes holds up no heartbeat.  It ends with its stdin.

Rules:

* What is held is not lost: TCP would send it again.  So is the end of a connection: who is cut off
  does not learn that the other one died.
* A door whose target refuses is closed, so that it refuses as well; it opens when the target does.
* Who dials a broker's door is told by the first frame: a follower's is `follow`, and names it.
  Whoever sends another is a client, or yak-zk that looks whether somebody lives: never cut off.
  The doors to yak-zk are each one broker's.

It delays nothing, drops nothing, and does not choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
from typing import Any, Final

HOST: Final = "127.0.0.1"
#: Read at once from one side.
_CHUNK: Final = 256 * 1024
#: A target that refused is tried again this often, in seconds.
_AGAIN_S: Final = 0.02
#: A first frame that is longer is no follower's.
_SNIFFED: Final = 4096
_PREFIX: Final = 4
_FOLLOW: Final = re.compile(rb'"type":"follow".*?"broker":(\d+)')
#: Of those who are nobody's peer.
_CLIENT: Final = -1
#: close() sends a reset.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Relay:
    """All doors, and who is cut from whom."""

    def __init__(self) -> None:
        self._cut: set[frozenset[int]] = set()
        self._changed = asyncio.Event()

    def cut(self, pairs: list[list[int]]) -> None:
        """These, and no others."""
        self._cut = {frozenset(pair) for pair in pairs}
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def passed(self, one: int, other: int) -> None:
        """Until bytes may go between them."""
        while frozenset((one, other)) in self._cut:
            await self._changed.wait()


class Door:
    """Listens on `port` while `to` does."""

    def __init__(
        self, relay: Relay, *, port: int, dialler: int | None, target: int, to: int
    ) -> None:
        self._relay = relay
        self._port = port
        self._dialler = dialler
        self._target = target
        self._to = to
        self._refused = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self) -> None:
        """Open and close it, for ever."""
        while True:
            await self._until_it_answers()
            self._refused.clear()
            server = await asyncio.start_server(self._accepted, HOST, self._port)
            await self._refused.wait()
            server.close()

    async def _until_it_answers(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, self._to)
            except OSError:
                await asyncio.sleep(_AGAIN_S)
            else:
                writer.transport.abort()
                return

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out: asyncio.StreamWriter | None = None
        try:
            theirs, out = await asyncio.open_connection(HOST, self._to)
            await self._carry(reader, writer, theirs, out)
        except OSError:
            if out is None:
                self._refused.set()
                _reset(writer)
        finally:
            writer.transport.abort()
            if out is not None:
                out.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        theirs: asyncio.StreamReader,
        out: asyncio.StreamWriter,
    ) -> None:
        first, dialler = b"", self._dialler
        if dialler is None:
            first = await _first(reader)
            found = _FOLLOW.search(first)
            dialler = int(found[1]) if found else _CLIENT
        await asyncio.gather(
            self._pump(first, reader, out, dialler), self._pump(b"", theirs, writer, dialler)
        )

    async def _pump(
        self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialler: int
    ) -> None:
        """Until that side ends, and the other one has learned of it."""
        while True:
            if not data:
                data = await reader.read(_CHUNK)
            await self._relay.passed(dialler, self._target)
            if not data:
                if not writer.is_closing():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            data = b""


async def _first(reader: asyncio.StreamReader) -> bytes:
    """The first frame, or enough of it."""
    data = await reader.read(_CHUNK)
    while data and len(data) < min(_SNIFFED, _PREFIX + int.from_bytes(data[:_PREFIX])):
        more = await reader.read(_CHUNK)
        if not more:
            break
        data += more
    return data


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


async def serve(doors: list[dict[str, Any]]) -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    relay = Relay()
    keepers = [loop.create_task(Door(relay, **door).keep()) for door in doors]
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(f"listening on {HOST}:{doors[0]['port']}", flush=True)  # noqa: T201 -- its one output
    while line := await orders.readline():
        relay.cut(json.loads(line))
        print(f"cut {line.decode().strip()}", flush=True)  # noqa: T201 -- the same
    for keeper in keepers:
        keeper.cancel()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
