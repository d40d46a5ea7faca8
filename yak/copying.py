"""Full copies, as a broker's shell carries them out: a leader gives, a follower fetches.

    leader    OfferCopy, SendCopy   Giving: one Outgoing for each broker that was offered one
    follower  FetchCopy             Fetching: piece after piece into one Incoming, then syncs

Rules:

* A checkpoint that is being copied is pinned: what it names is not let go (`pinned`).  It stays so
  for PIN_S after the connection's end, so that the follower still finds the log behind it.
* One piece is asked for at a time, over the link on which the copy was offered; where it ends its
  file, it brings the small ones that come next: a round trip for each of thousands would be most
  of the time that a copy takes.
* What comes over another link than the present one is dropped; a copy of the same checkpoint goes
  on where it was, whatever link it comes over.  One of another begins with nothing, and only once
  no thread makes files of the one before durable: they have the same names.
* Only the bytes' arrival is carried here.  Whether the copy may be installed is the core's word.

It does not decide who needs a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from msgspec import UNSET

from yak import messages as m
from yak.core import events as e
from yak.core import ops
from yak.storage.copy import Incoming, Offer, Outgoing
from yak.storage.disk import Buffer
from yak.storage.faults import StorageError
from yak.storage.store import Store

#: How long a copy's follower has to come back and ask for the log.
PIN_S: Final = 30.0
#: The size of a piece: large enough that questions do not count, small enough that reading one
#: does not hold up the loop.
PIECE_BYTES: Final = 1024 * 1024
#: Files in a piece: each is opened, proved or made within one turn, which takes 50 to 100 µs, and
#: a heartbeat must not wait for a thousand of them.
PIECE_FILES: Final = 64


class _Given(NamedTuple):
    """What one broker is given, over which connection."""

    conn: int
    outgoing: Outgoing


class Giving:
    """The leader's side."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._to: dict[int, _Given] = {}

    @property
    def pinned(self) -> int:
        """The index of the oldest checkpoint that is still read, or of the last one."""
        copies = (given.outgoing.offer.at for given in self._to.values())
        return min(copies, default=self._store.checkpoint)

    def offer(self, effect: e.OfferCopy) -> m.FollowAnswer:
        """The one that it was given before, if that is still pinned.  Raises StorageError."""
        before = self._to.get(effect.broker)
        outgoing = before.outgoing if before else self._store.outgoing()
        self._to[effect.broker] = _Given(effect.conn, outgoing)
        at, size, crc = outgoing.offer
        return m.FollowAnswer(epoch=effect.epoch, copy=m.CopyOffer(index=at, size=size, crc=crc))

    def piece(self, effect: e.SendCopy) -> tuple[m.CopyAnswer, bytes]:
        """Raises StorageError."""
        request = effect.request
        given = self._to.get(request.broker)
        if given is None or given.conn != effect.conn or given.outgoing.offer.at != request.index:
            raise StorageError(f"no copy of checkpoint {request.index} was offered here")
        file = None if request.file is UNSET else request.file
        most = min(request.max_bytes, PIECE_BYTES)
        files = min(request.files, PIECE_FILES)
        data = given.outgoing.read(file, request.position, most, files)
        answer = m.CopyAnswer(epoch=request.epoch, index=request.index, crc=ops.crc_of(data))
        return answer, data

    def closed(self, conn: int) -> None:
        if any(given.conn == conn for given in self._to.values()):
            self._loop.call_later(PIN_S, self._unpin, conn)

    def _unpin(self, conn: int) -> None:
        self._to = {broker: given for broker, given in self._to.items() if given.conn != conn}


class AsksForPieces(Protocol):
    """The part of the link to the leader that a copy needs."""

    def copy(
        self, link: int, request: m.Copy, received: Callable[[m.CopyAnswer, Buffer], None]
    ) -> None:
        """Ask; `received` hears the answer, unless the link is lost first."""

    def fail(self, link: int, reason: str) -> None:
        """Give the link up, and say so."""


class Fetching:
    """The follower's side.

    link: the present link to the leader.  tell: an event for the core.
    """

    def __init__(
        self,
        broker: int,
        store: Store,
        link: Callable[[], AsksForPieces],
        tell: Callable[[e.Event], None],
    ) -> None:
        self._broker = broker
        self._store = store
        self._link = link
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._incoming: Incoming = store.incoming()
        self._effect: e.FetchCopy | None = None
        #: What remains to be made durable, and of which copy; None before all of it is here.
        self._syncs: Iterator[Callable[[], None]] | None = None
        self._syncs_of: m.CopyOffer | None = None
        #: A thread makes something durable.
        self._syncing = False

    def begin(self, effect: e.FetchCopy) -> None:
        self._effect = effect
        if not self._syncing:
            self._begin()

    def _begin(self) -> None:
        assert self._effect is not None
        offer = self._effect.offer
        if offer != self._syncs_of:
            self._syncs = None
        try:
            self._incoming.begin(Offer(offer.index, offer.size, offer.crc))
        except OSError as error:
            self._refused(error)
            return
        self._go_on()

    def _go_on(self) -> None:
        effect = self._effect
        assert effect is not None
        wanted = self._incoming.wanted()
        if wanted is None:
            if self._syncs is None:
                self._syncs, self._syncs_of = self._incoming.syncs(), effect.offer
            self._sync()
            return
        file, position = wanted
        request = m.Copy(
            id=0,
            broker=self._broker,
            epoch=effect.epoch,
            index=effect.offer.index,
            file=UNSET if file is None else file,
            position=position,
            max_bytes=PIECE_BYTES,
            files=PIECE_FILES,
        )
        self._link().copy(
            effect.link, request, lambda answer, body: self._received(effect, answer, body)
        )

    def _received(self, effect: e.FetchCopy, answer: m.CopyAnswer, body: Buffer) -> None:
        if effect is not self._effect:
            return
        if ops.crc_of(body) != answer.crc or answer.index != effect.offer.index:
            self._link().fail(effect.link, "a piece of the copy is not what the leader read")
            return
        try:
            self._incoming.take(body)
        except StorageError as error:
            self._link().fail(effect.link, f"the copy cannot be right: {error.message}")
            return
        except OSError as error:
            self._refused(error)
            return
        self._tell(e.CopyHeard(effect.link))
        self._go_on()

    def _refused(self, error: OSError) -> None:
        what = f"a full copy cannot be written: {error.strerror or error}"
        self._tell(e.StorageFailed(what, self._store.next_index - 1))

    # -- everything is here ----------------------------------------------------------------------

    def _sync(self) -> None:
        assert self._syncs is not None
        assert self._effect is not None
        step = next(self._syncs, None)
        if step is None:
            self._syncs = None
            self._tell(e.CopyDone(self._effect.link, self._effect.offer.index))
            return
        self._syncing = True
        self._loop.run_in_executor(None, step).add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[Any]) -> None:
        assert self._effect is not None
        self._syncing = False
        error = done.exception()
        if self._effect.offer != self._syncs_of and isinstance(error, OSError | None):
            self._begin()  # another checkpoint was offered meanwhile: what was synced is nothing
        elif error is None:
            self._tell(e.CopyHeard(self._effect.link))
            self._sync()
        elif isinstance(error, OSError):
            # What a failed sync did not take must be written again, under other names.
            self._syncs = None
            self._incoming = self._store.incoming()
            self._refused(error)
        else:
            raise error

    def install(self, effect: e.Install) -> None:
        """Raises OSError."""
        assert self._effect is not None
        assert self._effect.offer.index == effect.index
        self._incoming.install()
