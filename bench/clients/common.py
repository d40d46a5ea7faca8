"""What every peer's client shares: its options, its clock, and the document that it prints.

    python -m bench.clients.NAME produce|consume|e2e --address … --topic … --records N

Time runs from the first record to the last acknowledgement, or the last record read; connecting and
one record that makes everything known are not in it: as `yak bench` has it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from yak.commands.measuring import quantiles

#: Of a value of e2e: when it was sent, in ns.
STAMP_DIGITS = 20
#: The first records of e2e find caches cold, in seconds of its rate.
WARM_S = 0.5


class Options(argparse.Namespace):
    kind: str
    address: str
    topic: str
    records: int
    size: int
    partitions: int
    rate: int
    group: str
    way: str


def parse() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["produce", "consume", "e2e", "gap"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--group", default="")
    parser.add_argument("--way", default="")
    return parser.parse_args(namespace=Options())


class Gaps:
    """The longest time without an acknowledgement, from the first to the last."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0
        self.failed = 0
        self._last = 0.0

    def acknowledged(self) -> None:
        now = time.perf_counter()
        if self.count:
            self.longest = max(self.longest, now - self._last)
        self.count += 1
        self._last = now

    def report(self) -> None:
        print(
            json.dumps(
                {"records": self.count, "failed": self.failed, "gap_ms": self.longest * 1000}
            )
        )


class Clock:
    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began


def report(records: int, seconds: float, took: Sequence[float] = (), **more: Any) -> None:
    """took: latencies in seconds."""
    found = {"records": records, "seconds": seconds, "latency_ms": quantiles(took), **more}
    print(json.dumps(found))


def stamped(size: int) -> bytes:
    return b"%020d" % time.perf_counter_ns() + b"x" * (size - STAMP_DIGITS)


def age(value: bytes) -> float:
    """Seconds since it was sent."""
    return (time.perf_counter_ns() - int(value[:STAMP_DIGITS])) / 1e9


async def send_at_rate(options: Options, send: Callable[[bytes], Awaitable[Any]]) -> None:
    """Each alone.  send: hands it over, and does not wait until it is acknowledged."""
    import asyncio

    began = time.perf_counter()
    for number in range(options.records):
        pause = began + number / options.rate - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        await send(stamped(options.size))


def measured(options: Options, took: Sequence[float]) -> Sequence[float]:
    """Without the first ones."""
    return took[int(options.rate * WARM_S) :]
