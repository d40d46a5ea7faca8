"""Whose turn it is: nobody keeps the others waiting, whatever he sends.

    what arrives ──▶ taken at once: all of it up to a round's work of all connections in one round
          │          of the loop; then, and where somebody waits, SHARE of each that is light, and
          │          after a whole round so much less of it as requests cost more than they may
          ▼ more
      in turns: SHARE of each connection, a round's work of all, in one round of the loop

What arrives meanwhile from others comes between two rounds, so that a client who asks for little
waits for one round at most.  Whoever has more than LIGHT requests unanswered asks for much, however
slowly they come: thousands of such clients may be heard in one round of the loop.  What is taken in
one round is one turn of the core, and is written and sent to followers together: smaller rounds
would cost everybody more.

* Work is counted by what reading a request costs (`work`), and what it costs in time is measured:
  from one round to the next, with all that came of it.  A round is as much work as took ROUND_S
  lately, and never more than ROUND.  Where that is less than SHARE, it is each one's share, too: a
  request may cost a thousand times what reading it does (the next member of a group of thousands).
* Whoever sends what is refused waits before his next frame is looked at (`pause_s`), the longer
  the more of them there are: a flood of such frames costs the others little, and a developer who
  tries things out does not notice it.

* What is more work than HUGE (a header of a megabyte) holds everybody up while it is read: all
  those together are taken so seldom (HUGE_S) that it is a hundredth of the time.

It knows no sockets and no requests: who takes turns says what it took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from yak.config import KIB
from yak.protocol import Frame, Part

#: Work of one connection, and of all that have more, that is taken in one round of the loop.
SHARE: Final = 8
ROUND: Final = 128
#: Where so many wait, a share is half of that, where twice as many, a third: a thousand connections
#: may be read in one round of the loop, and of each a share is taken at once.
CROWD: Final = 64
#: Requests of one client without an answer that are few.
LIGHT: Final = 32
#: How long a round should take: a record passes through some five of them until it is read.  With
#: 2 ms others waited two to three times as long, and whoever sent much got a twentieth more done.
ROUND_S: Final = 0.0005
#: Of how much work the time is measured at least; of less it says little.
MEASURED: Final = SHARE
#: What is as much work as one small request: bytes of a header, of a body, and of what is read
#: and not looked at yet.
HEADER_WORK: Final = 256
BODY_WORK: Final = 8 * KIB
READ_WORK: Final = 32 * KIB
#: More work than this at once, and how long nobody else's such may follow, for each unit of it: a
#: hundred times what reading 256 bytes takes.
HUGE: Final = 1024 * KIB // HEADER_WORK
HUGE_S: Final = 0.000_1
#: The pause after a refusal, and what each unit of its work adds.
REFUSED_PAUSE_S: Final = 0.02
REFUSED_WORK_PAUSE_S: Final = 0.0005
#: So many may pause at a time before each pauses for longer: 500 frames a second, of all of them.
PAUSING: Final = 10


def work(part: Part) -> int:
    """What a frame costs, by its size."""
    if isinstance(part, Frame):
        return 1 + len(part.header) // HEADER_WORK + len(part.body) // BODY_WORK
    return 1


def reading(size: int) -> int:
    """What has to be counted of reading so many bytes at once; 0 if no more than a share."""
    return size // READ_WORK if size > SHARE * BODY_WORK else 0


class Guest(Protocol):
    """Who takes turns."""

    def its_turn(self) -> int:
        """Take a share; how much work that was.  Who wants more joins again."""


class Loop(Protocol):
    """What is wanted of an event loop."""

    def call_soon(self, call: Callable[[], None], /) -> object: ...

    def call_later(self, seconds: float, call: Callable[[], None], /) -> object: ...


class Rounds:
    """See the module.  clock: in seconds, exactly, since no round takes long."""

    def __init__(self, loop: Loop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        #: In the order of their turns.
        self._waiting: deque[Guest] = deque()
        #: Who pauses, and will wait then.
        self._pausing = 0
        #: When the next huge part may be taken.
        self._huge_at = 0.0
        #: The next round is due.  Invariant: so it is if somebody waits, or work was taken.
        self._due = False
        #: Work that was taken in this round, and when it began.
        self._taken = 0
        self._began = 0.0
        #: Work of past rounds that was not much enough to be measured, and how long it took.
        self._small = 0
        self._small_s = 0.0
        #: What one unit of work took lately, in seconds, and how much a round is therefore.
        self._price_s = ROUND_S / ROUND
        self._most = ROUND

    def at_once(self, unanswered: int) -> int:
        """How much of what has just arrived may be taken before its turn.

        unanswered: requests that its sender waits for.
        """
        left = self._most - self._taken
        if left > 0 and not self._waiting:
            return max(self.share, left)
        if unanswered > LIGHT:
            return 0
        return self.share if left > 0 else max(self.share * self._most // ROUND, 1)

    @property
    def share(self) -> int:
        """How much of one connection's is taken in its turn."""
        crowd = len(self._waiting) // CROWD
        return min(SHARE // (1 + crowd) or 1, self._most)

    @property
    def largest(self) -> int:
        """How much work the first of that may be: a large batch is one whatever a round is."""
        return SHARE if self._waiting else max(SHARE, ROUND - self._taken)

    def took(self, work: int) -> None:
        """So much was taken at once."""
        self._taken += work
        self._come_round()

    def join(self, guest: Guest) -> None:
        """Whose turn comes; whoever waits already must not join again."""
        self._waiting.append(guest)
        self._come_round()

    def join_huge(self, guest: Guest, work: int) -> None:
        """The same, for so much work, once it is time."""
        now = self._clock()
        at, self._huge_at = self._huge_at, max(self._huge_at, now) + HUGE_S * work
        if at <= now:
            self.join(guest)
        else:
            self._loop.call_later(at - now, lambda: self.join(guest))

    def pause(self, guest: Guest, header_bytes: int) -> None:
        """The same, after a while: a frame of his was refused.  header_bytes: of that frame."""
        self._pausing += 1
        crowd = max(self._pausing / PAUSING, 1.0)
        self._loop.call_later(crowd * pause_s(header_bytes), lambda: self._paused(guest))

    def _paused(self, guest: Guest) -> None:
        self._pausing -= 1
        self.join(guest)

    def _come_round(self) -> None:
        if not self._due:
            self._due = True
            self._began = self._clock()
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        now = self._clock()
        self._small += self._taken
        self._small_s += now - self._began
        if self._small >= MEASURED:
            self._measure(self._small_s / self._small)
            self._small, self._small_s = 0, 0.0
        self._due, self._taken = False, 0
        while self._waiting and self._taken < self._most:
            self._taken += 1 + self._waiting.popleft().its_turn()
        if self._taken:
            self._come_round()
            self._began = now

    def _measure(self, price_s: float) -> None:
        """A round is over, and all that came of it: the loop has done nothing else since."""
        self._price_s += (price_s - self._price_s) / 4
        self._most = max(1, min(int(ROUND_S / self._price_s), ROUND))


def pause_s(header_bytes: int) -> float:
    """How long a client alone waits after a frame that was refused."""
    return REFUSED_PAUSE_S + REFUSED_WORK_PAUSE_S * (header_bytes // HEADER_WORK)
