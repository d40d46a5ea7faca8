"""What clients do that mean harm, or are only broken.

`python -m tests.load.attacks NAME HOST:PORT [--count COUNT]` is a process of its own, so that its
work is not the judge's.  Each attack is one coroutine, lived by COUNT connections at a time; one
that ends is begun again.  It prints `ready` once all have begun, goes on until SIGTERM, and then
prints what it met, as one JSON object:

    opened    connections that were made         answers   good answers read
    orderly   the broker's end came as an end    errors    answers that refuse, by name
    reset     it came as a reset                 refused   connections that the kernel refused

It is written from the protocol's text alone, and knows nothing of yak's code.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.support.malformed import FRAMES, TOO_LONG
from tests.support.wire import frame_of, payload_of, record

#: Connections of one attack come from so many addresses: one has ports for 28,000.
SOURCES: Final = 50
#: So many are being made at a time.
AT_ONCE: Final = 100
#: A connection that was cut is made again after this.
AGAIN_S: Final = 0.05
#: Between two bytes of a slow client.
SLOW_S: Final = 1.0
MIB: Final = 1 << 20
#: Who was refused so often has learnt that there is a limit.
ENOUGH: Final = 200


class Met:
    """What all connections of an attack met."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def frames(self, data: bytearray) -> int:
        """Count, and drop, the whole answers at the beginning of `data`; how many they were."""
        for number in itertools.count():
            size = int.from_bytes(data[:4])
            if len(data) < 4 + size:
                return number
            header = json.loads(bytes(data[4 : 4 + size]).partition(b"\n")[0])
            del data[: 4 + size]
            if header["ok"]:
                self.counts["answers"] += 1
            else:
                self.errors[header["error"]] += 1
        raise AssertionError("it counts for ever")

    def report(self) -> dict[str, Any]:
        return {**self.counts, "errors": dict(self.errors)}


class Peer:
    """One connection.  Every method that waits may raise OSError; then it is made anew."""

    _numbers = itertools.count()

    def __init__(self, address: tuple[str, int], met: Met, number: int, small: bool) -> None:
        """small: its kernel takes little, so that what it does not read stays with the broker."""
        self.number = number
        self.met = met
        self.chance = random.Random(number)
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._sock = socket.socket()
        if small:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock.setsockopt(socket.SOL_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        self._sock.bind((f"127.0.1.{next(self._numbers) % SOURCES + 1}", 0))
        self._sock.setblocking(False)

    async def open(self) -> None:
        await self._loop.sock_connect(self._sock, self._address)
        self.met.counts["opened"] += 1

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)
        await asyncio.sleep(0)  # what the kernel takes at once never waits

    async def ask(self, **header: Any) -> None:
        await self.send(frame_of(payload_of({"id": 1, **header})))

    async def read(self, size: int = 65536) -> bytes:
        """What there is next; ConnectionError at the end."""
        data = await self._loop.sock_recv(self._sock, size)
        if not data:
            self.met.counts["orderly"] += 1
            raise ConnectionError("the broker ended it")
        return data

    async def answers(self, count: int = 1) -> None:
        """Read until so many more have come, at least."""
        while count > 0:
            self._data += await self.read()
            count -= self.met.frames(self._data)

    async def until_the_end(self) -> None:
        while True:
            await self.answers()

    def close(self, *, rudely: bool = False) -> None:
        if rudely:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


Attack = Callable[[Peer], Awaitable[None]]
FETCH: Final[dict[str, Any]] = {
    "type": "fetch",
    "partitions": [["load", 0, 0]],
    "max_bytes": MIB,
}

# -- connections that hold a place -----------------------------------------------------------------


async def silent(peer: Peer) -> None:
    """Says nothing."""
    await peer.until_the_end()


async def half_open(peer: Peer) -> None:
    """Sends half a frame, and no more."""
    whole = frame_of(payload_of({"type": "status", "id": 1, "x": "y" * 1000}))
    await peer.send(whole[: len(whole) // 2])
    await peer.until_the_end()


async def slow_writer(peer: Peer) -> None:
    """A byte a second."""
    for byte in frame_of(payload_of({"type": "status", "id": 1})):
        await peer.send(bytes([byte]))
        await asyncio.sleep(SLOW_S)
    await peer.answers()


async def long_polls(peer: Peer) -> None:
    """Asks for what will never come, as many times as it may."""
    fetch = {"type": "fetch", "partitions": [["quiet", 0, 0]], "wait_ms": 60_000}
    for number in range(1000):
        await peer.ask(**{**fetch, "id": number})
    await peer.until_the_end()


async def wide_polls(peer: Peer) -> None:
    """The same for thousands of partitions at once."""
    partitions = [["quiet", 0, offset] for offset in range(20_000)]
    for number in range(100):
        await peer.ask(type="fetch", id=number, partitions=partitions, wait_ms=60_000)
    await peer.until_the_end()


# -- clients that do not read ----------------------------------------------------------------------


async def slow_reader(peer: Peer) -> None:
    """Asks for megabytes, and reads a byte a second."""
    for number in range(16):
        await peer.ask(**{**FETCH, "id": number})
    while True:
        await peer.read(1)
        await asyncio.sleep(SLOW_S)


async def never_reads(peer: Peer) -> None:
    """Asks on and on."""
    for number in itertools.count():
        await peer.ask(**{**FETCH, "id": number})


async def never_reads_metadata(peer: Peer) -> None:
    """Asks for everything that there is, on and on."""
    for number in itertools.count():
        await peer.ask(type=("metadata", "groups")[number % 2], id=number)


async def never_reads_produce(peer: Peer) -> None:
    """Writes on and on, and does not look at what becomes of it."""
    body = record("x" * 1000) * 10
    for number in itertools.count():
        header = {"type": "produce", "id": number, "topic": "junk", "partition": 0, "count": 10}
        await peer.send(frame_of(payload_of(header, body)))


# -- floods ----------------------------------------------------------------------------------------


async def _flood(peer: Peer, data: bytes) -> None:
    """The same bytes again and again; the answers are read, but not waited for."""

    async def send() -> None:
        while True:
            await peer.send(data)

    await asyncio.gather(send(), peer.until_the_end())


async def malformed(peer: Peer) -> None:
    """Every frame that is malformed, by chance, in a stream."""
    while True:
        await peer.send(b"".join(peer.chance.choices(FRAMES, k=50)))
        await peer.answers()


async def empty(peer: Peer) -> None:
    """Frames of no byte: the most refusals for the least effort."""
    await _flood(peer, bytes(4) * 5000)


async def requests(peer: Peer) -> None:
    """Good requests that cost little, as many as may be."""
    frame = frame_of(payload_of({"type": "status", "id": 1}))
    await _flood(peer, frame * 500)


async def fetches(peer: Peer) -> None:
    """The same for what only the core can answer."""
    fetch = {"type": "fetch", "id": 1, "partitions": [["quiet", 0, 0]]}
    await _flood(peer, frame_of(payload_of(fetch)) * 500)


async def reads(peer: Peer) -> None:
    """The same for what lies in files: a record each time."""
    fetch = {"type": "fetch", "id": 1, "partitions": [["load", 0, 0]], "max_bytes": 1}
    await _flood(peer, frame_of(payload_of(fetch)) * 500)


async def heavy_headers(peer: Peer) -> None:
    """The largest frames, all header: numbers that fit, and numbers that do not."""
    number = peer.chance.choice((b"1." + b"9" * 155, b"9" * 155))
    await peer.send(frame_of(b'{"type":"status","id":1,"x":[%b]}' % b",".join([number] * 99_000)))
    await peer.answers()


async def acks_0(peer: Peer) -> None:
    """Records that want no answer, as many as may be."""
    header = {"type": "produce", "id": 1, "topic": "junk", "partition": 0, "count": 1, "acks": 0}
    frame = frame_of(payload_of(header, record("x")))
    while True:
        await peer.send(frame * 500)


async def churn(peer: Peer) -> None:
    """Comes and goes, politely or not."""
    if peer.chance.random() < 0.5:
        await peer.ask(type="hello", protocol=1)
        await peer.answers()
    peer.close(rudely=peer.chance.random() < 0.5)


async def too_long(peer: Peer) -> None:
    """Lengths beyond all limits, HTTP, TLS."""
    await peer.send(peer.chance.choice(TOO_LONG) + b"x" * 1000)
    await peer.until_the_end()


# -- wants that have no end ------------------------------------------------------------------------


async def _wants(peer: Peer, **header: Any) -> None:
    """`{n}` in the header becomes a number that is never used twice.  50 at a time."""
    text = json.dumps({"id": 1, **header})
    met = peer.met
    while met.errors["OVERLOADED"] < ENOUGH:
        first = met.counts["wanted"]
        met.counts["wanted"] += 50
        texts = (text.replace("{n}", str(n)) for n in range(first, first + 50))
        await peer.send(b"".join(frame_of(text.encode()) for text in texts))
        await peer.answers(50)
    await peer.until_the_end()


async def topics(peer: Peer) -> None:
    await _wants(peer, type="create_topic", topic="topic-{n}", partitions=1)


async def groups(peer: Peer) -> None:
    await _wants(peer, type="ack", group="group-{n}", offsets=[["load", 0, 0]])


async def members(peer: Peer) -> None:
    wants = {"type": "register", "role": "consumer", "topics": ["load"], "session_ms": 300_000}
    await _wants(peer, **wants, group=f"group-{peer.number}")


async def producers(peer: Peer) -> None:
    await _wants(peer, type="register", role="producer", topics=["load"], client="load-{n}")


#: name -> what each connection does.
ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        silent, half_open, slow_writer, long_polls, wide_polls,
        slow_reader, never_reads, never_reads_metadata, never_reads_produce,
        malformed, empty, requests, fetches, reads, heavy_headers, acks_0, churn, too_long,
        topics, groups, members, producers,
    )
}  # fmt: skip
#: Those whose kernel takes as little as it can.
SMALL: Final = frozenset(name for name in ATTACKS if "read" in name)


class Swarm:
    """COUNT lives of one attack."""

    def __init__(self, name: str, address: tuple[str, int], count: int) -> None:
        self.met = Met()
        self._name = name
        self._attack = ATTACKS[name]
        self._address = address
        self._count = count
        self._begun = 0
        self._ready = asyncio.Event()
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._live(number)) for number in range(self._count)]
            await self._ready.wait()
            _say("ready")
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _live(self, number: int) -> None:
        begun = False
        while True:
            peer = Peer(self._address, self.met, number, small=self._name in SMALL)
            try:
                async with self._gate:
                    await peer.open()
                if not begun:
                    begun = True
                    self._begun += 1
                    if self._begun == self._count:
                        self._ready.set()
                await self._attack(peer)
            except ConnectionRefusedError:
                self.met.counts["refused"] += 1
            except ConnectionResetError:
                self.met.counts["reset"] += 1
            except OSError:
                pass
            finally:
                peer.close()
            await asyncio.sleep(AGAIN_S if self._name != "churn" else 0)


async def _main(name: str, address: tuple[str, int], count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    swarm = Swarm(name, address, count)
    await swarm.run(stop)
    _say(json.dumps(swarm.met.report()))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.attacks")
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host, _, port = options.address.rpartition(":")
    asyncio.run(_main(options.name, (host, int(port)), options.count))


if __name__ == "__main__":
    main()
