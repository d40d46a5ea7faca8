"""Who waits, and until when.  Most are served long before, and must not stay for that.

A heap of deadlines, cleaned lazily: who waits no more leaves its entry behind, which goes when it
comes to the top, or when the heap has doubled since it was last cleaned.  So there are never more
than twice as many entries as there were waiting at once, however fast they come and go.

Hundreds of thousands may wait, and nobody else is served while they are looked through.  So it is
done a few at a time: a heap that is to be cleaned becomes the `_old` one, from whose end MOVED
entries go over into a new one, or are gone, with each that is added.

It does not know what becomes of whom.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: A heap of fewer entries is not worth cleaning.
SMALL: Final = 64
#: Entries of the old heap that are looked at when one is added.
MOVED: Final = 8
#: Entries left behind that one call takes from the top at most: a millisecond's work.
AT_ONCE: Final = 1000


class Deadlines(Generic[T]):
    """waits: whether an item that was added is still to be looked after."""

    def __init__(self, waits: Callable[[T], bool]) -> None:
        self._waits = waits
        #: (deadline, tie-breaker, item): equal deadlines in the order of adding.
        self._heap: list[tuple[float, int, T]] = []
        #: What is left of one that is being cleaned; from its end, so that it stays a heap.
        self._old: list[tuple[float, int, T]] = []
        self._count = 0
        #: Entries that were moved from the old heap into the new one.
        self._moved = 0
        #: The heap is cleaned when it has as many entries.
        self._clean_at = SMALL

    def add(self, deadline: float, item: T) -> None:
        if self._old:
            self._move()
        elif len(self._heap) >= self._clean_at:
            self._old, self._heap, self._moved = self._heap, [], 0
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, item))

    def due(self, now: float) -> Iterator[T]:
        """Take out whoever waits and has waited long enough, in order."""
        while (heap := self._first()) and heap[0][0] <= now:
            item = heapq.heappop(heap)[2]
            if self._waits(item):
                yield item

    def next_deadline(self) -> float:
        """Of whoever still waits; or too early, where more than AT_ONCE have left lately."""
        heap = self._first()
        for _ in range(AT_ONCE):
            if not heap or self._waits(heap[0][2]):
                break
            heapq.heappop(heap)
            heap = self._first()
        return heap[0][0] if heap else float("inf")

    def clear(self) -> None:
        self._heap.clear()
        self._old.clear()

    def __len__(self) -> int:
        """Entries, those left behind included."""
        return len(self._heap) + len(self._old)

    def _first(self) -> list[tuple[float, int, T]]:
        """The heap with the next deadline; an empty one if there is none."""
        if not self._old or (self._heap and self._heap[0] < self._old[0]):
            return self._heap
        return self._old

    def _move(self) -> None:
        for _ in range(min(MOVED, len(self._old))):
            entry = self._old.pop()
            if self._waits(entry[2]):
                heapq.heappush(self._heap, entry)
                self._moved += 1
        if not self._old:
            self._clean_at = max(SMALL, 2 * self._moved)
