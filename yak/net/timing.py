"""What a process measures of itself, for whoever asks: cheap where it counts, read when asked.

    Histogram      counts by bucket; adding is one search in a short table
    RequestTimes   how long each request took, by its type, and which errors were answered
    LoopLag        how late the event loop is with what is due

Rules:

* Nothing of this runs unless somebody wants to read it (`Server.times` is None): a request then
  costs one look at a field.
* A request's time begins when its header was decoded, and ends when its answer was handed to the
  connection; so a long poll's is mostly waiting, as it asked for.
* The clock is the system's, not the loop's: uvloop's stands still within a round.

It prints nothing and knows no format (metrics/exposition.py does).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Final

from yak import messages as m

#: Upper bounds in seconds; what is above the last is counted by itself.
REQUEST_BOUNDS_S: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
)
LAG_BOUNDS_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
#: How often the loop's lag is looked at: ten timers a second cost nothing, and a stall of that
#: length is never missed.
LAG_EVERY_S: Final = 0.1


class Histogram:
    """How many fell into each bucket.  bounds: the buckets' upper ends, ascending, included."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulated(self) -> list[int]:
        """For each bound how many were at most that, and at last how many in all."""
        return list(accumulate(self._counts))


class RequestTimes:
    """How long the requests of all connections took.

    answered: by type.  refused: (type, error) -> how many.
    """

    def __init__(self) -> None:
        self.answered: dict[str, Histogram] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        #: By connection: its requests under way, when each began.
        self._under_way: dict[int, dict[m.RequestId, tuple[str, float]]] = {}

    def began(self, connection: int, request: m.Request) -> None:
        kind = request.__struct_config__.tag
        mine = self._under_way.setdefault(connection, {})
        mine[request.id] = (str(kind), time.monotonic())

    def ended(self, connection: int, id_: m.RequestId, answer: m.Answer | None) -> None:
        """answer: None where no answer is due.  Of two under one id only the last is known."""
        found = self._under_way.get(connection, {}).pop(id_, None)
        if found is None:
            return
        kind, began = found
        histogram = self.answered.get(kind)
        if histogram is None:
            histogram = self.answered[kind] = Histogram(REQUEST_BOUNDS_S)
        histogram.add(time.monotonic() - began)
        if isinstance(answer, m.ErrorAnswer):
            self.refused[kind, answer.error] += 1

    def forget(self, connection: int) -> None:
        """It is gone, and nobody hears its answers."""
        self._under_way.pop(connection, None)


class LoopLag:
    """A timer that looks how late it is.  Made on the loop that it measures; `close` it.

    looked_at: when it did so last, in monotonic time; any thread may read it.
    """

    def __init__(self) -> None:
        self.lag = Histogram(LAG_BOUNDS_S)
        self.looked_at = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LAG_EVERY_S, self._look)

    @classmethod
    async def begin(cls) -> LoopLag:
        """For a caller on another thread."""
        return cls()

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = time.monotonic()
        self.lag.add(max(0.0, now - self.looked_at - LAG_EVERY_S))
        self.looked_at = now
        self._timer = self._loop.call_later(LAG_EVERY_S, self._look)
