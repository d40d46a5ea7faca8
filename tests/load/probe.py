"""A well-behaved producer and a consumer: how long does a record take from the one to the other?

It is sent at its time whether or not the ones before have come (else a broker that stands still
would be asked nothing, and seem fast), and counts from then until its value is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.wire import Address, Wire, record

TOPIC: Final = "probe"
#: A record that has not come by then is lost.
PATIENCE_S: Final = 30.0
#: In real time, before all who are not.
_AT_ONCE: Final = os.sched_param(1)


def runs_at_once() -> None:
    """From here on this process runs whenever it is woken, if we may say so; no child does."""
    with contextlib.suppress(PermissionError):
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(
                int(thread.name), os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, _AT_ONCE
            )


class Latency(NamedTuple):
    """In milliseconds."""

    records: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        ordered = sorted(seconds)
        at = [ordered[min(int(len(ordered) * q), len(ordered) - 1)] for q in (0.5, 0.99, 1)]
        return cls(len(ordered), *(round(1000 * value, 2) for value in at))


class Probe:
    """Both of them, on connections of their own that stand all the time."""

    def __init__(self, address: Address, rate: float = 100.0) -> None:
        self._rate = rate
        self._producer = Wire(address, PATIENCE_S)
        self._consumer = Wire(address, PATIENCE_S)
        self._producer.ask("create_topic", topic=TOPIC, partitions=1)
        self._next = self._consumer.high_watermark(TOPIC, 0)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close()
        self._consumer.close()

    def measure(self, seconds: float) -> list[float]:
        """The seconds that each record took.  Fails where one does not come."""
        count = int(seconds * self._rate)
        began = time.monotonic() + 0.05
        sending = threading.Thread(target=self._send, args=(began, count))
        sending.start()
        runs_at_once()
        try:
            return self._receive(count)
        finally:
            sending.join()

    def _send(self, began: float, count: int) -> None:
        asked = []
        for number in range(count):
            due = began + number / self._rate
            time.sleep(max(due - time.monotonic(), 0))
            body = record({"due": due, "text": "x" * 200})
            asked.append(
                self._producer.post("produce", body, topic=TOPIC, partition=0, count=1, acks="all")
            )
        for request_id in asked:
            answer, _ = self._producer.answer_to(request_id)
            assert answer["ok"] is True, answer

    def _receive(self, count: int) -> list[float]:
        took: list[float] = []
        while len(took) < count:
            answer, body = self._consumer.ask(
                "fetch", partitions=[[TOPIC, 0, self._next]], wait_ms=10_000
            )
            now = time.monotonic()
            assert answer["ok"] is True, answer
            for line in body.splitlines():
                found = json.loads(line)
                if "value" in found:
                    took.append(now - found["value"]["due"])
                    self._next += 1
        return took
