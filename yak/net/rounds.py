"""Whose turn it is: nobody keeps the others waiting, whatever he sends.

    what arrives ──▶ taken at once: all of it up to ROUND of all connections in one round of the
          │          loop; where somebody waits, SHARE of each
          ▼ more
      in turns: SHARE of each connection, ROUND of all, in one round of the loop

What arrives meanwhile from others comes between two rounds, so that a client who asks for little
waits for one round at most.  What is taken in one round is one turn of the core, and is written
and sent to followers together: smaller rounds would cost everybody more.  Work is counted by what
reading a request costs.  Whoever sends what is refused waits before his next frame is looked at
(`pause_s`): a flood of such frames costs the others little, and a developer who tries things out
does not notice it.

It knows no sockets and no requests: who takes turns says what it took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from yak.config import KIB
from yak.protocol import Frame, Part

#: Work of one connection, and of all that have more, that is taken in one round of the loop: some
#: 4 ms of small requests.
SHARE: Final = 8
ROUND: Final = 128
#: What is as much work as one small request: bytes of a header, and of a body.
HEADER_WORK: Final = 256
BODY_WORK: Final = 8 * KIB
#: The pause after a refusal, and what each unit of its work adds.
REFUSED_PAUSE_S: Final = 0.02
REFUSED_WORK_PAUSE_S: Final = 0.0005


def work(part: Part) -> int:
    """What a frame costs, by its size."""
    if isinstance(part, Frame):
        return 1 + len(part.header) // HEADER_WORK + len(part.body) // BODY_WORK
    return 1


def reading(size: int) -> int:
    """What has to be counted of reading so many bytes at once; 0 if no more than a share."""
    return size // BODY_WORK if size > SHARE * BODY_WORK else 0


def pause_s(header_bytes: int) -> float:
    """How long a client waits after a frame that was refused."""
    return REFUSED_PAUSE_S + REFUSED_WORK_PAUSE_S * (header_bytes // HEADER_WORK)


class Guest(Protocol):
    """Who takes turns."""

    def its_turn(self) -> int:
        """Take a share; how much work that was.  Who wants more joins again."""


class Rounds:
    """See the module.  next_round: has a function called in the loop's next round."""

    def __init__(self, next_round: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = next_round
        #: In the order of their turns.
        self._waiting: deque[Guest] = deque()
        #: The next round is due.  Invariant: so it is if somebody waits, or work was taken.
        self._due = False
        #: Work that was taken in this round.
        self._taken = 0

    @property
    def at_once(self) -> int:
        """How much of what has just arrived may be taken before its turn."""
        return SHARE if self._waiting else max(SHARE, ROUND - self._taken)

    def took(self, work: int) -> None:
        """So much was taken at once."""
        self._taken += work
        self._come_round()

    def join(self, guest: Guest) -> None:
        """Whose turn comes; whoever waits already must not join again."""
        self._waiting.append(guest)
        self._come_round()

    def _come_round(self) -> None:
        if not self._due:
            self._due = True
            self._call_soon(self._round)

    def _round(self) -> None:
        self._due, self._taken = False, 0
        while self._waiting and self._taken < ROUND:
            self._taken += 1 + self._waiting.popleft().its_turn()
        if self._taken:
            self._come_round()
