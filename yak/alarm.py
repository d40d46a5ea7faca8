"""One timer of a loop, for a deadline that moves with every event.

A loop counts in whole milliseconds (uvloop rounds to the nearest), so that a timer may go off
before its time; who then finds nothing due must not believe that it is still set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

#: So much more than asked for, and no timer goes off too soon.
ROUNDED_S: Final = 0.0005


class Timer(Protocol):
    """What a loop returns of `call_later`."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What is wanted of an event loop."""

    def call_later(self, seconds: float, call: Callable[[], None], /) -> Timer: ...


class Alarm:
    """Calls `ring` at the earliest of the times that were set since it last did.

    A deadline that was put off rings as it was set: an alarm more is cheaper than a timer that is
    made anew at each event.
    """

    def __init__(self, loop: Loop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: Timer | None = None
        #: When it goes off, in monotonic seconds; never, while there is no timer.
        self._at = float("inf")

    def set(self, at: float, now: float) -> None:
        """Ring at `at`, if not before.  Both in monotonic seconds."""
        if at < self._at:
            if self._timer is not None:
                self._timer.cancel()
            self._at = at
            self._timer = self._loop.call_later(at - now + ROUNDED_S, self._rings)

    def _rings(self) -> None:
        self._timer, self._at = None, float("inf")
        self._ring()
