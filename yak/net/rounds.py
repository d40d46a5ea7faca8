"""Whose turn it is: nobody keeps the others waiting, whatever he sends.

    what arrives ──▶ taken at once: all of it up to a round's work of all connections in one round
          │          of the loop; where somebody waits, SHARE of each that is light; after a whole
          │          round a part of that
          ▼ more
      in turns: SHARE of each; first the light who have little, then at least one of the others; a
                round's work of all, in one round of the loop

What arrives meanwhile from others comes between two rounds, so that a client who asks for little
waits for one round at most.

* Light is who has no more than LIGHT requests unanswered, and no more than he ever had answers.
  Whoever has more asks for much, however slowly they come: thousands of such clients may be heard
  in one round of the loop.
* Among the light, and among the others, turns go to who would be done first with all that has come
  of him, and all that he waits for, if each had an equal part: fair queueing, by virtual time.  So
  whoever sends much gets as much as each other such, and a light client for whom something gathered
  while the broker stood still catches up at once.
* What is taken in one round is one turn of the core, and is written and sent to followers together:
  smaller rounds would cost everybody more.
* Work is counted by what reading a request costs (`work`), and what it costs in time is measured:
  from one round to the next, with all that came of it.  A round is as much work as took ROUND_S
  lately, and never more than ROUND.  Where that is less than SHARE, it is each one's share, too: a
  request may cost a thousand times what reading it does (the next member of a group of thousands).
* Whoever sends what is refused waits before his next frame is looked at (`pause_s`), the longer
  the more of them there are: a flood of such frames costs the others little, and a developer who
  tries things out does not notice it.
* What is more work than HUGE (a header of a megabyte) holds everybody up while it is read: all
  those together are taken so seldom (HUGE_S) that it is a two-hundredth of the time.

It knows no sockets and no requests: who takes turns says what it took.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Protocol

from yak.config import KIB
from yak.protocol import Frame, Part

#: Work of one connection, and of all that have more, that is taken in one round of the loop.
SHARE: Final = 8
ROUND: Final = 128
#: Where so many wait, a share is half of that, where twice as many, a third: a thousand connections
#: may be read in one round of the loop, and of each a share is taken at once.
CROWD: Final = 64
#: Requests of one client without an answer that are few; and what is little, in work.
LIGHT: Final = 32
#: How long a round should take: a record passes through some five of them until it is read.  With
#: 0.5 ms others waited twice as long, and whoever sent much got a fifth more done.
ROUND_S: Final = 0.0001
#: As much as so many rounds may be taken at once where nobody waits: with one, what comes together
#: on an idle broker took turns, and a record came a fifth of a millisecond later.
ALONE: Final = 5
#: Of how much work the time is measured at least; of less it says little.
MEASURED: Final = SHARE
#: What is as much work as one small request: bytes of a header, of a body, and of what is read
#: and not looked at yet.
HEADER_WORK: Final = 256
BODY_WORK: Final = 8 * KIB
READ_WORK: Final = 32 * KIB
#: The same of what is read and not cut into frames, which may be small.
UNCUT_WORK: Final = 64
#: More work than this at once, and how long nobody else's such may follow, for each unit of it: two
#: hundred times what reading 256 bytes takes, so that fewer than one in a hundred feel it.
HUGE: Final = 1024 * KIB // HEADER_WORK
HUGE_S: Final = 0.000_2
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


def is_light(unanswered: int, answered: int) -> bool:
    """Whether a client asks for little.  Both in requests; answered: ever."""
    return unanswered <= min(LIGHT, 1 + answered)


class Guest(Protocol):
    """Who takes turns."""

    @property
    def light(self) -> bool:
        """See `is_light`."""

    @property
    def backlog(self) -> int:
        """What has come of him and is not taken, in work, and what he waits for, in requests."""

    def its_turn(self) -> int:
        """Take a share; how much work that was.  Who wants more joins again."""


class _Queue:
    """Who waits.  See the module."""

    def __init__(self) -> None:
        #: A heap, by the virtual time at which each would be done; of equals the first that came.
        self._waiting: list[tuple[float, int, Guest]] = []
        self._numbers = itertools.count()
        #: Virtual time: what each of those who wait would have had by now.
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, guest: Guest) -> None:
        self._wait(guest, self._now + guest.backlog)

    def _wait(self, guest: Guest, done: float) -> None:
        heappush(self._waiting, (done, next(self._numbers), guest))

    def have_turn(self, turn: Callable[[Guest], tuple[int, bool]]) -> int:
        """The first has a turn, which gives its work and whether he wants another; that work."""
        active = len(self._waiting)
        done, _, guest = heappop(self._waiting)
        work, again = turn(guest)
        self._now += work / active
        if again:  # that he had a part of it already does not make him done any later
            self._wait(guest, done)
        return work


class Loop(Protocol):
    """What is wanted of an event loop."""

    def call_soon(self, call: Callable[[], None], /) -> object: ...

    def call_later(self, seconds: float, call: Callable[[], None], /) -> object: ...


class Rounds:
    """See the module.  clock: in seconds, exactly, since no round takes long."""

    def __init__(self, loop: Loop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        #: Who waits: the light who have little, and the others.
        self._light = _Queue()
        self._heavy = _Queue()
        #: Whose turn it is, and whether he wants another.
        self._guest: Guest | None = None
        self._again = False
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

    def at_once(self, *, light: bool) -> int:
        """How much of what has just arrived may be taken before its turn.  light: its sender."""
        alone = not self._crowd
        left = (min(ALONE * self._most, ROUND) if alone else self._most) - self._taken
        if left > 0 and alone:
            return max(self.share, left)
        if not light:
            return 0
        # After a whole round each is one too many; none would let the lightest wait for the next.
        return self.share if left > 0 else max(self.share * self._most // ROUND, 1)

    @property
    def share(self) -> int:
        """How much of one connection's is taken in its turn."""
        return min(SHARE // (1 + self._crowd // CROWD) or 1, self._most)

    @property
    def largest(self) -> int:
        """How much work the first of that may be: a large batch is one whatever a round is."""
        return SHARE if self._crowd else max(SHARE, ROUND - self._taken)

    def took(self, work: int) -> None:
        """So much was taken at once."""
        self._taken += work
        self._come_round()

    def join(self, guest: Guest) -> None:
        """Whose turn comes; whoever waits already must not join again."""
        if guest is self._guest:
            self._again = True
            return
        little = guest.light and guest.backlog <= LIGHT
        (self._light if little else self._heavy).add(guest)
        self._come_round()

    @property
    def _crowd(self) -> int:
        """How many wait."""
        return len(self._light) + len(self._heavy)

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
        while self._light and self._taken < self._most:
            self._taken += self._light.have_turn(self._turn)
        one = bool(self._heavy)
        while one or (self._heavy and self._taken < self._most):
            one = False
            self._taken += self._heavy.have_turn(self._turn)
        if self._taken:
            self._come_round()
            self._began = now

    def _turn(self, guest: Guest) -> tuple[int, bool]:
        self._guest, self._again = guest, False
        try:
            return 1 + guest.its_turn(), self._again
        finally:
            self._guest = None

    def _measure(self, price_s: float) -> None:
        """A round is over, and all that came of it: the loop has done nothing else since."""
        self._price_s += (price_s - self._price_s) / 4
        self._most = max(1, min(int(ROUND_S / self._price_s), ROUND))


def pause_s(header_bytes: int) -> float:
    """How long a client alone waits after a frame that was refused."""
    return REFUSED_PAUSE_S + REFUSED_WORK_PAUSE_S * (header_bytes // HEADER_WORK)
