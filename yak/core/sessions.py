"""Silence: when did a producer or a member last let hear of itself?

Liveness is the leader's memory, never the log's: a new leader, and one whose lease came back,
gives everybody a full session (`restart`).  What follows from a silence is logged.

The heap is lazy: a touch only moves the deadline, and a popped entry that is early goes back.
Whoever is closed leaves an entry behind; once most entries are such, the heap is made anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K")

#: The heap may have this many entries besides one for each key: a small one is not worth it.
SPARE_ENTRIES: Final = 64


class Sessions(Generic[K]):
    """Deadlines by key, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        #: key -> (session in seconds, deadline)
        self._known: dict[K, tuple[float, float]] = {}
        #: (when to look, tie-breaker, key).  Invariant: each known key stands here at or
        #: before its deadline.
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def open(self, key: K, session_s: float, now: float) -> None:
        deadline = now + session_s
        old = self._known.get(key)
        self._known[key] = (session_s, deadline)
        if old is None or deadline < old[1]:
            self._push(deadline, key)

    def touch(self, key: K, now: float) -> None:
        """Heard of; one that is not known stays unknown."""
        known = self._known.get(key)
        if known is not None:
            self._known[key] = (known[0], now + known[0])

    def close(self, key: K) -> None:
        self._known.pop(key, None)

    def __contains__(self, key: K) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    def restart(self, now: float) -> None:
        """Everybody gets a full session from now on."""
        for key, (session_s, _) in self._known.items():
            self._known[key] = (session_s, now + session_s)
        self._rebuild()

    def expired(self, now: float) -> Iterator[K]:
        """Take out whoever has been silent for a whole session, the longest silence first."""
        while self._settle_first(now):
            yield self._take_out()

    def take_first(self) -> K | None:
        """Take out whoever would expire first, early; None where there is nobody."""
        return self._take_out() if self._settle_first(float("inf")) else None

    def _settle_first(self, until: float) -> bool:
        """Whether anybody's deadline is up to then; then the heap's first entry is the first's."""
        while self._heap and self._heap[0][0] <= until:
            when, _, key = self._heap[0]
            known = self._known.get(key)
            if known is not None and known[1] <= when:
                return True
            heapq.heappop(self._heap)
            if known is not None:
                self._push(known[1], key)
        return False

    def _take_out(self) -> K:
        key = heapq.heappop(self._heap)[2]
        del self._known[key]
        return key

    def next_deadline(self) -> float:
        """When to look again, at the earliest."""
        return self._heap[0][0] if self._heap else float("inf")

    def _push(self, when: float, key: K) -> None:
        if len(self._heap) >= 2 * len(self._known) + SPARE_ENTRIES:
            self._rebuild()
            return
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))

    def _rebuild(self) -> None:
        """One entry for each known key, whatever was left behind."""
        self._heap = [(known[1], n, key) for n, (key, known) in enumerate(self._known.items(), 1)]
        self._count = len(self._heap)
        heapq.heapify(self._heap)
