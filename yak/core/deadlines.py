"""Who waits, and until when.  Most are served long before, and must not stay for that.

A heap of deadlines, cleaned lazily: who waits no more leaves its entry behind, which goes when it
comes to the top, or when the heap has doubled since it was last cleaned.  So there are never more
than twice as many entries as there were waiting at once, however fast they come and go.

It does not know what becomes of whom.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: A heap of fewer entries is not worth cleaning.
SMALL: Final = 64


class Deadlines(Generic[T]):
    """waits: whether an item that was added is still to be looked after."""

    def __init__(self, waits: Callable[[T], bool]) -> None:
        self._waits = waits
        #: (deadline, tie-breaker, item): equal deadlines in the order of adding.
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        #: The heap is cleaned when it has as many entries.
        self._clean_at = SMALL

    def add(self, deadline: float, item: T) -> None:
        if len(self._heap) >= self._clean_at:
            self._heap = [entry for entry in self._heap if self._waits(entry[2])]
            heapq.heapify(self._heap)
            self._clean_at = max(SMALL, 2 * len(self._heap))
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, item))

    def due(self, now: float) -> Iterator[T]:
        """Take out whoever waits and has waited long enough, in order."""
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)[2]
            if self._waits(item):
                yield item

    def next_deadline(self) -> float:
        """Of whoever still waits."""
        while self._heap and not self._waits(self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def clear(self) -> None:
        self._heap.clear()

    def __len__(self) -> int:
        """Entries, those left behind included."""
        return len(self._heap)
