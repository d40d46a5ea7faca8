"""A broker's session, and how it ages: numbers go to and fro.

Every heartbeat is answered with a number of ours, and echoes the last one that it heard.  A
session is as old as the newest number that came back: it counts from when that number was
*sent*.  So it ends session_ms after either direction fell silent.

**Why no lease outlives its session.**  A leader's lease is lease_ms from its *sending* the
heartbeat that we say we have heard (`heard` in the answer).  We say so only of heartbeats whose
echo was at most session_ms - lease_ms old when they came.  Such a session lives for lease_ms
more at least, and the heartbeat was sent before it came.  One with an older echo (a late one, or
one from a broker that does not hear us) is answered too, with a number for the next one to
echo, but that answer renews nothing.

What it does not do: it ends no session; core/coordinator.py looks at `seen`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import UNSET

from yak import messages as m
from yak.core.document import Present
from yak.errors import Refused
from yak.model import Address

#: Numbers sent to one broker that it may still echo.  A flood of heartbeats pushes out the
#: oldest, whose echo then renews nothing.
NUMBERS_REMEMBERED: Final = 1024


class Session:
    """A broker that joined, as the process that it was then.

    conn: None while its connection is closed and the process not known to be dead.
    present: what it said of itself last.
    seen: monotonic time at which the newest number that came back was sent.
    """

    __slots__ = ("_number", "_renewed_by", "_sent", "address", "conn", "present", "seen")

    def __init__(self, conn: int, address: Address, present: Present, now: float) -> None:
        self.conn: int | None = conn
        self.address = address
        self.present = present
        self.seen = now
        #: The last number sent; 0 is the answer to the join.
        self._number = 0
        #: The number of its last heartbeat that renewed the session; 0 is the join.
        self._renewed_by = 0
        #: (number, when it was sent), ascending, from the newest that came back.
        self._sent = deque([(0, now)], maxlen=NUMBERS_REMEMBERED)

    def beat(self, beat: m.Beat, now: float, window: float) -> m.BeatAnswer:
        """Answer a heartbeat; its echo renews the session if it is at most `window` seconds old."""
        if beat.heard > self._number:
            raise Refused("INVALID_REQUEST", f"heard: {beat.heard} was never sent")
        if beat.end is not UNSET and beat.seen is not UNSET:
            self.present = self.present._replace(end=beat.end, seen=beat.seen)
        while self._sent and self._sent[0][0] < beat.heard:
            self._sent.popleft()
        if self._sent and self._sent[0][0] == beat.heard:
            self.seen = max(self.seen, self._sent[0][1])
            if now - self._sent[0][1] <= window:
                self._renewed_by = beat.number
        self._number += 1
        self._sent.append((self._number, now))
        return m.BeatAnswer(number=self._number, heard=self._renewed_by)

    def give_back(self, lost: float) -> None:
        """The last `lost` seconds were no silence of this broker's."""
        self.seen += lost
        self._sent = deque(
            ((number, at + lost) for number, at in self._sent), maxlen=NUMBERS_REMEMBERED
        )
