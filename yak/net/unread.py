"""What all clients together leave unread, and so whose large answers are made, and when.

One connection may hold max_unsent_bytes and an answer, which is little; ten thousand of them, all
stopped, would fill any memory.  So there is a limit for all, and a large answer counts before it
is made:

    while all leave unread        | whose is made
    ------------------------------+------------------------------------------------------------
    less than half of the limit   | everybody's, up to max_unsent_bytes of each
    more                          | that of clients who have read all they were sent, and much

* The others wait, and ask for nothing more meanwhile.  Where one waits that has read what it was
  sent, whoever has left its own unread longest is cut off, if that is PATIENCE_S or more, and one
  in a LOOK_S: whoever comes back at once only to be cut again takes little of the others' time.
  A client that does not read cannot be told anything; it connects anew when it goes on.
* Answers that nobody waits to make, since they are small, may exceed the limit all the same: then
  who has not read for longest is cut off at once, but never the one that came last.
* One round of the loop makes MADE_AT_ONCE of large answers, the next ones make the rest, of each
  client one in turn.
* A client whose last answers were all small waits for none of that.

What is written is only added up; how much of it is still here is looked at where the sum says
that it is too much.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from yak.config import KIB, MIB
from yak.model import MAX_INT
from yak.net.rounds import Loop

#: What an answer is taken for where nobody knows.
ANSWER_BYTES: Final = 1 * MIB
#: One such answer: it takes a millisecond to read, and several to hand to the kernel where that
#: must find memory for it; heartbeats, and others' records, are answered in between.
MADE_AT_ONCE: Final = ANSWER_BYTES
#: So many small answers in a row make it likely that the next one is small as well.
SMALL_ANSWER: Final = 64 * KIB
SMALL_IN_A_ROW: Final = 4
#: More than a kernel takes for a client who reads nothing.
MUCH: Final = 8 * MIB
#: How long a client may leave its own unread while others wait for the room.
PATIENCE_S: Final = 2.0
#: How often it is looked whether there is room, for so many of those who wait.
LOOK_S: Final = 0.02
LOOK_AT: Final = 500

_log = logging.getLogger(__name__)


class Client(Protocol):
    """unread_since: the loop's time of the last answer before which all had been read.

    choked: it leaves more than max_unsent_bytes.  read_bytes: that its kernel has ever taken.
    """

    number: int
    unread_since: float
    choked: bool

    @property
    def unsent_bytes(self) -> int: ...

    @property
    def read_bytes(self) -> int: ...

    def abort(self) -> None: ...


class _Answer(NamedTuple):
    """size: what it may be at most."""

    size: int
    make: Callable[[], None]


class Unread:
    """See the module.  clock: the loop's time."""

    def __init__(self, limit: int, loop: Loop, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._loop = loop
        self._clock = clock
        #: Who was written to since the last look, or had not read everything then.
        self._clients: dict[Client, None] = {}
        #: Invariant: never below what they hold.  As it is: `_counted` in this round.
        self._bytes = 0
        self._counted = False
        #: Bytes that were written in this round of the loop.
        self._lately = 0
        #: The next round is due; so it is where something was written in this one.
        self._due = False
        #: Answers that wait, in the order of the clients' turns (the first of a plain dict is found
        #: ever more slowly, the more were taken before it).  Invariant: none is empty; a
        #: round or a look is due unless there are none.
        self._later: OrderedDict[Client, deque[_Answer]] = OrderedDict()
        self._look_due = False

    def waits(self, client: Client) -> bool:
        """Whether answers to it wait."""
        return client in self._later

    def when_room(self, client: Client, size: int, make: Callable[[], None]) -> None:
        """Have a large answer made, now or later; not at all after `forget`."""
        if client not in self._later and self._lately < MADE_AT_ONCE and self._may(client, size):
            make()
            return
        self._later.setdefault(client, deque()).append(_Answer(size, make))
        self._come_round()

    def reads_on(self, client: Client) -> None:
        """It is not choked any more."""
        if client in self._later:
            self._come_round()

    def forget(self, client: Client) -> None:
        """It is gone."""
        self._later.pop(client, None)
        self._clients.pop(client, None)

    def wrote(self, client: Client, size: int) -> None:
        """An answer of this size was handed to a client's connection."""
        self._come_round()
        self._lately += size
        self._clients[client] = None
        self._bytes += size
        if self._bytes > self._limit:
            self._count()
            self._cut(self._limit)

    # -- inside -----------------------------------------------------------------------------------

    def _may(self, client: Client, size: int) -> bool:
        """Whether there is room for one more large answer to this client."""
        if client.choked:
            return False
        if self._bytes + size > self._limit // 2 and not self._counted:
            self._count()
        if self._bytes + size <= self._limit // 2 or not self._bytes:
            return True
        reader = not client.unsent_bytes and client.read_bytes >= MUCH
        return reader and self._bytes + size <= self._limit

    def _come_round(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        self._due, self._counted, self._lately = False, False, 0
        left, made, wanted = min(len(self._later), LOOK_AT), False, 0
        while self._later and left:
            if self._lately >= MADE_AT_ONCE:
                self._come_round()
                return
            client = next(iter(self._later))
            answers = self._later[client]
            self._later.move_to_end(client)  # behind the others
            size, make = answers[0]
            may = self._may(client, size)
            if may:
                answers.popleft()
            else:
                left -= 1
                wanted = wanted or (0 if client.unsent_bytes else size)
            if not answers:
                del self._later[client]
            if may:
                made = True
                self._make(size, make)
        if made:
            self._come_round()
        elif self._later:
            self._wait(wanted)

    def _make(self, size: int, make: Callable[[], None]) -> None:
        before = self._lately
        make()
        if self._lately == before:  # it is being made
            self._lately += size

    def _wait(self, wanted: int) -> None:
        """Nothing can be made.  wanted: the size of what one waits for who has read all."""
        if not self._look_due:
            self._look_due = True
            self._loop.call_later(LOOK_S, self._look)
            if wanted:
                self._cut(max(self._limit // 2 - wanted, 0), patience_s=PATIENCE_S, most=1)

    def _look(self) -> None:
        self._look_due = False
        self._come_round()

    def _count(self) -> None:
        """How much is still here."""
        held = {client: size for client in self._clients if (size := client.unsent_bytes)}
        self._clients = dict.fromkeys(held)
        self._bytes = sum(held.values())
        self._counted = True

    def _cut(self, room: int, *, patience_s: float = 0.0, most: int = MAX_INT) -> None:
        """Cut off whoever has not read for longest, until no more than `room` is unread."""
        longest_first = sorted(self._clients, key=lambda client: client.unread_since)
        latest = self._clock() - patience_s
        for client in longest_first[:-1][:most]:
            if self._bytes <= room or client.unread_since > latest:
                break
            self._bytes -= client.unsent_bytes
            del self._clients[client]
            _log.warning(
                "connection %d is cut off: clients leave more unread than max_unread_bytes (%d) "
                "lets them, and this one has not read for longest",
                client.number,
                self._limit,
            )
            client.abort()
