"""What all clients together leave unread: who has left its own unread longest is cut off.

One connection may hold max_unsent_bytes and an answer, which is little; ten thousand of them, all
stopped, would fill any memory.  So there is a limit for all, and beyond it nothing else helps:
a client that does not read cannot be told anything.  It connects anew when it goes on.

* Whoever had read everything when its last answer was written counts from then.
* The one that came last is never cut for the others: its own limit holds for it.
* One round of the loop makes MADE_AT_ONCE of large answers, the next ones make the rest, of each
  client one in turn: what a connection held is free only in the round after it was cut.
* A client whose last answers were all small does not wait for that.

What is written is only added up; how much of it is still here is looked at each time that the sum
reaches the limit.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from yak.config import KIB, MIB

#: Some 4 ms of reading; heartbeats are answered in between.
MADE_AT_ONCE: Final = 4 * MIB
#: So many small answers in a row make it likely that the next one is small as well.
SMALL_ANSWER: Final = 64 * KIB
SMALL_IN_A_ROW: Final = 4

_log = logging.getLogger(__name__)


class Client(Protocol):
    """unread_since: the loop's time of the last answer before which all had been read."""

    number: int
    unread_since: float

    @property
    def unsent_bytes(self) -> int: ...

    def abort(self) -> None: ...


class Unread:
    """See the module.  next_round: has a function called in the loop's next round."""

    def __init__(self, limit: int, next_round: Callable[[Callable[[], None]], object]) -> None:
        self._limit = limit
        self._call_soon = next_round
        #: Who was written to since the last look, or had not read everything then.
        self._clients: dict[Client, None] = {}
        #: Invariant: never below what they hold.
        self._bytes = 0
        #: Bytes that were written in this round of the loop.
        self._lately = 0
        #: Answers that are made in the next rounds, in the order of the clients' turns.
        #: Invariant: none is empty; a round is due unless there are none.
        self._later: dict[Client, deque[Callable[[], None]]] = {}

    @property
    def room_now(self) -> bool:
        """Whether one more large answer may be made in this round."""
        return self._lately < MADE_AT_ONCE

    def make_later(self, client: Client, make: Callable[[], None]) -> None:
        """Only where there is no `room_now`."""
        assert not self.room_now
        self._later.setdefault(client, deque()).append(make)

    def _next_round(self) -> None:
        self._lately = 0
        while self._later and self.room_now:
            client = next(iter(self._later))
            makes = self._later.pop(client)
            make = makes.popleft()
            if makes:
                self._later[client] = makes  # behind the others
            make()

    def wrote(self, client: Client, size: int) -> None:
        """An answer of this size was handed to a client's connection."""
        if not self._lately:
            self._call_soon(self._next_round)
        self._lately += size
        self._clients[client] = None
        self._bytes += size
        if self._bytes > self._limit:
            self._look()

    def _look(self) -> None:
        held = {client: size for client in self._clients if (size := client.unsent_bytes)}
        self._bytes = sum(held.values())
        longest_first = sorted(held, key=lambda client: client.unread_since)
        for client in longest_first[:-1]:
            if self._bytes <= self._limit:
                break
            self._bytes -= held.pop(client)
            _log.warning(
                "connection %d is cut off: clients leave more unread than max_unread_bytes (%d), "
                "and this one has not read for longest",
                client.number,
                self._limit,
            )
            client.abort()
        self._clients = dict.fromkeys(held)
