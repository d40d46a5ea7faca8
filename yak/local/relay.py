"""Between the processes of a cluster: doors that pass everything on, until two are cut apart.

    python -m yak.local.relay '[{"port":4001,"dialler":null,"target":1,"to":40123}, …]' 4000
    listening on 127.0.0.1:4000
    < [[1,2,null],[2,1,200]]   a line on a connection there: what 1 sends to 2 is held, what 2 sends
    > [[1,2,null],[2,1,200]]   to 1 is late by 200 ms, from now on; 0 is yak-zk.  [] ends it

A process of its own, so that a test that computes holds up no heartbeat.  With --until-eof it ends
with its stdin.

Rules:

* What somebody ordered holds as long as their connection: whoever is killed leaves nothing cut.
  Where several have ordered, all of it holds, and of two delays the longer one.
* What is held is not lost: TCP would send it again.  So is the end of a connection: who is cut off
  does not learn that the other one died.
* A door whose target refuses is closed, so that it refuses as well; it opens when the target does.
* Who dials a broker's door is told by the first frame: a follower's is `follow`, and names it.
  Whoever sends another is a client, or yak-zk that looks whether somebody lives: never cut off.
  The doors to yak-zk are each one broker's.

It drops nothing, and does not choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import socket
import struct
import sys
from typing import Any, Final, TypeAlias

HOST: Final = "127.0.0.1"
#: Read at once from one side.
_CHUNK: Final = 256 * 1024
#: So many of them may be under way: more wait with whoever sends them.
_UNDER_WAY: Final = 64
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

#: From whom, to whom, and so many ms late; None: not at all.
Rule: TypeAlias = tuple[int, int, float | None]


class Relay:
    """Who is cut from whom, or slow to whom, by the orders of everybody who is connected."""

    def __init__(self) -> None:
        self._orders: dict[object, list[Rule]] = {}
        self._late: dict[tuple[int, int], float] = {}
        self._changed = asyncio.Event()

    def order(self, who: object, rules: list[Rule]) -> None:
        """These of theirs, and no others."""
        self._orders[who] = rules
        if not rules:
            del self._orders[who]
        self._late = {}
        for one, other, ms in (rule for told in self._orders.values() for rule in told):
            late_s = math.inf if ms is None else ms / 1000
            self._late[one, other] = max(late_s, self._late.get((one, other), 0.0))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def late_s(self, one: int, other: int) -> float:
        """How late `other` gets what `one` sends; infinity while it is cut off."""
        return self._late.get((one, other), 0.0)

    async def passed(self, one: int, other: int, sent: float) -> None:
        """Until what was sent then has come from one to the other."""
        now = asyncio.get_running_loop().time
        while (left := sent + self.late_s(one, other) - now()) > 0:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await changed.wait()


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

    async def keep(self) -> None:
        """Open and close it, for ever."""
        while True:
            await self._until_it_answers()
            self._refused.clear()
            try:
                server = await asyncio.start_server(self._accepted, HOST, self._port)
            except OSError:  # somebody has taken the port meanwhile
                await asyncio.sleep(_AGAIN_S)
                continue
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
        except* OSError:
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
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(first, reader, out, dialler, self._target))
            both.create_task(self._pump(b"", theirs, writer, self._target, dialler))

    async def _pump(
        self,
        data: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        one: int,
        other: int,
    ) -> None:
        """What one sends to the other, until that side ends, and the other one has learned of it.

        It is read while what came before is still under way: late is not slow.
        """
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

        async def take() -> None:
            now, read = asyncio.get_running_loop().time, data
            while True:
                read = read or await _read(reader)
                await under_way.put((now(), read))
                if not read:
                    return
                read = b""

        async def give() -> None:
            while True:
                sent, read = await under_way.get()
                await self._relay.passed(one, other, sent)
                if not read:
                    if not writer.is_closing():
                        writer.write_eof()
                    return
                writer.write(read)
                await writer.drain()

        async with asyncio.TaskGroup() as ends:
            ends.create_task(take())
            ends.create_task(give())


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What came; b"" at the end, a reset too: who is cut off shall not learn of it."""
    try:
        return await reader.read(_CHUNK)
    except ConnectionError:
        return b""


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


async def _obey(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One who gives orders, until they leave."""
    try:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                relay.order(writer, json.loads(line))
                writer.write(line)
    finally:
        relay.order(writer, [])
        writer.close()


async def serve(doors: list[dict[str, Any]], port: int, *, until_eof: bool = False) -> None:
    """Until stdin ends, or for ever."""
    loop = asyncio.get_running_loop()
    relay = Relay()
    keepers = [loop.create_task(Door(relay, **door).keep()) for door in doors]
    server = await asyncio.start_server(lambda r, w: _obey(relay, r, w), HOST, port)
    print(f"listening on {HOST}:{port}", flush=True)  # noqa: T201 -- its one output
    stdin = asyncio.StreamReader()
    if until_eof:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    await stdin.read()
    server.close()
    for keeper in keepers:
        keeper.cancel()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1]), int(sys.argv[2]), until_eof=len(sys.argv) > 3))
