"""The roads between processes: TCP proxies that know who dials whom, and what may happen on them.

    door      where a process is reached by another one: it listens, and dials the real one
    post      a thread with a loop that keeps doors, in a network namespace of its own if need be
    effect    what happens to the bytes from one process to another: held, late, in small pieces

A broker's id names it, yak-zk is 0, all clients together are -1.  Rules:

* Each direction of each pair has its own effects; what several ask for adds up.
* Bytes that are held are not lost: TCP would send them again.  So is the end of a connection: who
  is cut off from a process that dies does not learn of it.
* A door to a process that is gone refuses connections, as the process's own port would.
* A door of a broker whom all others dial by one address learns who dials from the first frame: a
  follower's is `follow`, and names it.  Whoever sends another is a client.

It does not choose what happens, or when.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.support.wire import Address

T = TypeVar("T")
Pair = tuple[int, int]
Accepted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

#: yak-zk among the processes.
ZK: Final = 0
#: All clients, this run's own questions among them.
CLIENTS: Final = -1
#: Read at once from one side.
CHUNK: Final = 65536
#: A post's loop answers the run within this, on a machine that does other things too.
POST_S: Final = 20.0
#: Between two pieces of what comes in small ones.
PIECE_S: Final = 0.001
#: A first frame that is longer than this is no follower's.
SNIFFED: Final = 4096

#: close() sends a reset.
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_CLONE_NEWNET: Final = 0x40000000
_FOLLOW: Final = re.compile(rb'"type":"follow".*"broker":(\d+)')


@dataclass(eq=False, frozen=True)
class Effect:
    """hold: nothing comes through.  late_s: how much later.  piece: bytes at once, 0 being all."""

    hold: bool = False
    late_s: float = 0.0
    piece: int = 0


class Post(threading.Thread):
    """A loop that keeps doors; with `apart`, in a new network namespace, which ends with it."""

    def __init__(self, name: str, *, apart: bool = False) -> None:
        super().__init__(name=name, daemon=True)
        self.loop = asyncio.new_event_loop()
        self.changed = asyncio.Event()
        self.doors: list[Door] = []
        self._apart = apart
        self._ready = threading.Event()
        self._error: OSError | None = None
        self.start()
        self._ready.wait(POST_S)
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            if self._apart:
                unshare_net()
        except OSError as e:
            self._error = e
            return
        finally:
            self._ready.set()
        self.loop.run_forever()

    @property
    def net(self) -> str:
        """The file that is its network namespace."""
        return f"/proc/{os.getpid()}/task/{self.native_id}/ns/net"

    def call(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(POST_S)

    def command(self, *argv: str) -> str:
        """Run a command in its network namespace; what it says."""

        async def run() -> str:
            return run_command(*argv)

        return self.call(run())

    def wake(self) -> None:
        self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    def close(self) -> None:
        async def end() -> None:
            for door in self.doors:
                await door.close()
                door.reserved.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        if self.is_alive():
            self.call(end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.join(POST_S)
        self.loop.close()


class Door:
    """Open or closed, its port is its own."""

    def __init__(self, at: Address, accepted: Accepted) -> None:
        self.reserved = _bound(at)
        self.address: Address = self.reserved.getsockname()
        self._accepted = accepted
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        if self._server is None:
            listener = _bound(self.address)
            self._server = await asyncio.start_server(self._accepted, sock=listener)

    async def close(self) -> None:
        """Who dials is refused; connections that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _bound(at: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(at)
    return sock


def unshare_net() -> None:
    """The calling thread, and what it starts, has a network of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace of one's own: {os.strerror(number)}")


def run_command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=POST_S, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Roads:
    """All doors, and the effects on what goes through them."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        #: Connections that were ever made, by (who dialled, whom).
        self.dialled: dict[Pair, int] = {}
        self._posts: list[Post] = []
        self._doors: dict[int, list[tuple[Post, Door]]] = {}
        self._open: dict[int, bool] = {}
        self._effects: dict[Pair, tuple[Effect, ...]] = {}

    def post(self, name: str, *, apart: bool = False) -> Post:
        post = Post(name, apart=apart)
        self._posts.append(post)
        return post

    def close(self) -> None:
        for post in self._posts:
            post.close()
        self._posts.clear()

    def door(
        self,
        post: Post,
        at: Address,
        dialler: int | None,
        target: int,
        where: Callable[[], Address],
    ) -> Address:
        """Where it listens.  dialler: None where the first frame tells.  where: the real one."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await Connection(self, post, dialler, target).carry(reader, writer, where())

        async def make() -> Door:
            door = Door(at, accepted)
            await door.open()
            return door

        door = post.call(make())
        post.doors.append(door)
        self._doors.setdefault(target, []).append((post, door))
        return door.address

    def answers(self, target: int, *, whether: bool) -> None:
        """Whether its doors are open: those to a process that is gone refuse, as its port does."""
        if self._open.get(target, True) == whether:
            return
        self._open[target] = whether
        for post, door in self._doors.get(target, ()):
            post.call(door.open() if whether else door.close())

    # -- what happens on them ----------------------------------------------------------------------

    def begin(self, pairs: Iterable[Pair], effect: Effect) -> None:
        """From each pair's first to its second."""
        for pair in pairs:
            self._effects[pair] = (*self._effects.get(pair, ()), effect)
        self._wake()

    def end(self, effect: Effect) -> None:
        for pair, effects in list(self._effects.items()):
            self._effects[pair] = tuple(other for other in effects if other is not effect)
        self._wake()

    def effects(self, pair: Pair) -> tuple[Effect, ...]:
        return self._effects.get(pair, ())

    def between(self, a: int, b: int) -> list[Connection]:
        """Those that exist now, whoever dialled."""
        return [c for c in list(self.connections) if {c.dialler, c.target} == {a, b}]

    def reset(self, a: int, b: int) -> int:
        """Both ends learn at once that their connections are gone; how many there were."""
        found = self.between(a, b)
        for connection in found:
            connection.post.loop.call_soon_threadsafe(connection.reset)
        return len(found)

    def half_open(self, a: int, b: int) -> list[Connection]:
        """b's ends are gone, and a does not learn of it: it is open, and silent, until `abort`."""
        found = self.between(a, b)
        for connection in found:
            connection.post.loop.call_soon_threadsafe(connection.forget, b)
        return found

    def _wake(self) -> None:
        for post in self._posts:
            post.wake()


class Connection:
    """One that was dialled through a door: two pumps."""

    def __init__(self, roads: Roads, post: Post, dialler: int | None, target: int) -> None:
        self.post = post
        self.dialler = CLIENTS if dialler is None else dialler
        self.target = target
        self._sniffs = dialler is None
        self._roads = roads
        self._mute = False
        self._writers: dict[int, asyncio.StreamWriter] = {}

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
    ) -> None:
        try:
            first = await self._sniff(reader) if self._sniffs else b""
            pair = self.dialler, self.target
            self._roads.dialled[pair] = self._roads.dialled.get(pair, 0) + 1
            self._writers[self.dialler] = writer
            self._roads.connections.add(self)
            await self._passed(*pair)
            theirs, out = await asyncio.open_connection(*address)
            self._writers[self.target] = out
            async with asyncio.TaskGroup() as group:
                _ = group.create_task(self._pump(first, reader, out, *pair))
                _ = group.create_task(self._pump(b"", theirs, writer, *reversed(pair)))
        finally:
            self._roads.connections.discard(self)
            writer.transport.abort()
            self.abort()

    async def _sniff(self, reader: asyncio.StreamReader) -> bytes:
        """The first frame, or enough of it; who dials is known then."""
        data = await reader.read(CHUNK)
        while 4 <= len(data) < min(SNIFFED, 4 + int.from_bytes(data[:4])) or 0 < len(data) < 4:
            more = await reader.read(CHUNK)
            if not more:
                break
            data += more
        follower = _FOLLOW.search(data[:SNIFFED])
        if follower is not None:
            self.dialler = int(follower[1])
        return data

    async def _passed(self, a: int, b: int) -> int:
        """Bytes may go from a to b now; how many at once, 0 being all."""
        late = sum(effect.late_s for effect in self._roads.effects((a, b)))
        if late:
            await asyncio.sleep(late)
        while True:
            changed = self.post.changed
            effects = self._roads.effects((a, b))
            if not any(effect.hold for effect in effects):
                return min((effect.piece for effect in effects if effect.piece), default=0)
            await changed.wait()

    async def _pump(
        self,
        first: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        a: int,
        b: int,
    ) -> None:
        """Until a's side ends, in order or not, and b has learned of it."""
        data, broken = first, False
        while True:
            if not data:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    broken = True
            if self._mute:
                if not data:
                    return
                data = b""
                continue
            piece = await self._passed(a, b)
            if not data:
                break
            try:
                for part in _parts(data, piece):
                    writer.write(part)
                    await writer.drain()
                    if piece:
                        await asyncio.sleep(PIECE_S)
            except OSError:
                broken = True
                break
            data = b""
        if broken:
            self.abort()
        elif not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()

    def abort(self) -> None:
        """Both ends are closed, at once."""
        for writer in self._writers.values():
            writer.transport.abort()

    def reset(self) -> None:
        """The same, in the way that is no orderly end."""
        for writer in self._writers.values():
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.abort()

    def forget(self, side: int) -> None:
        """That side's end is closed; the other is read from, and hears nothing any more."""
        self._mute = True
        if side in self._writers:
            self._writers[side].transport.abort()


def _parts(data: bytes, piece: int) -> Iterable[bytes]:
    step = piece or len(data)
    return (data[at : at + step] for at in range(0, len(data), step))
