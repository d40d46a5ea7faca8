"""A broker's session with yak-zk.  What the broker asks of its coordinator is `Coordination`;
ZooKeeper or etcd could stand behind it as well.

    run()                 joins, beats and comes back after every loss, until `leave` or cancelled
    propose_isr, resign   fire and forget; the answer, if one comes, goes to a callback
    leave()               says goodbye

and what it hears, always from the event loop and never from within one of its own calls:

    on_view(view, joined)   the cluster document; joined: it is the answer to a join
    on_lease(sent)          yak-zk renewed the session on a heartbeat sent at that monotonic time
    on_lost(reason)         the session that stood is gone; run() is already looking for a new one

Rules:

* Until the first join succeeds, attempts end after `wait_s` (Fatal), and so they do at once when
  yak-zk refuses for a reason that waiting does not change.  After it they go on for ever:
  committed writes do not need yak-zk.
* A heartbeat goes out every heartbeat_ms while `may_beat()`, whether or not the last one was
  answered.  A broker that must not beat does not join either, as a join renews its lease.
* A lease counts from the *sending* of the heartbeat (or join) that yak-zk names as heard.
* A proposal whose answer never comes stays unknown, and nothing is called: not even a lost
  connection is a no.  It is decided by the next join: yak-zk takes nothing more from a session
  that was replaced, so the view that answers the join has it or never will.
* Views are handed on in yak-zk's order, the answer to the join first.

What it does not do: it judges nothing that it hears, and keeps no lease; the broker does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from yak import errors
from yak import messages as m
from yak.config import Settings
from yak.errors import Fatal, YakError
from yak.model import Address
from yak.net.connection import Connection, read_answer
from yak.protocol import Frame

#: How long one attempt to connect may take, in seconds.
OPEN_S: Final = 2.0
#: How long an answer to a join may take: yak-zk writes to its disk first.
JOIN_S: Final = 5.0
#: How long a goodbye may take; after it the session ends by itself.
LEAVE_S: Final = 1.0
#: Attempts are this far apart at first, then twice as far each time, up to the second.
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.5

#: What the callbacks' booleans mean.
_JOINED, _CHANGED = True, False
_GRANTED, _REFUSED = True, False

_log = logging.getLogger(__name__)
_views: Final = msgspec.json.Decoder(m.ClusterView)


class Coordination(Protocol):
    """What a broker asks of its coordinator."""

    async def run(self) -> None:
        """Keep a session until `leave`.  Raises Fatal if there never is one."""

    def propose_isr(
        self,
        epoch: int,
        version: int,
        isr: list[int],
        incs: dict[int, str],
        on_answer: Callable[[bool, str], None],
    ) -> None:
        """Ask for an ISR; on_answer(ok, message) with a definite answer, or never."""

    def resign(self, epoch: int, reason: str) -> None:
        """Give up the epoch."""

    async def leave(self) -> None:
        """End the session for good; `run` returns."""


class CoordinatorSession:
    """`Coordination` by yak-zk.  See the module's text.

    identity: the join's fields as they are now (`id` is set here); a heartbeat says some of them
    again.  clock: monotonic seconds,
    the same as the broker's.
    """

    def __init__(
        self,
        address: Address,
        *,
        identity: Callable[[], m.Join],
        may_beat: Callable[[], bool],
        on_view: Callable[[m.ClusterView, bool], None],
        on_lease: Callable[[float], None],
        on_lost: Callable[[str], None],
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._identity = identity
        self._may_beat = may_beat
        self._on_view = on_view
        self._on_lease = on_lease
        self._on_lost = on_lost
        self._wait_s = wait_s
        self._clock = clock
        self._leaving = asyncio.Event()
        self._settings = Settings()
        self._joined_once = False
        #: The session that stands, if one does.
        self._session: _Session | None = None

    async def run(self) -> None:
        give_up_at = self._clock() + self._wait_s
        pause, said = FIRST_PAUSE_S, ""
        while not self._leaving.is_set():
            try:
                session = await self._join(give_up_at)
            except YakError as error:
                self._check_hope(error, give_up_at)
                if str(error) != said:
                    said = str(error)
                    _log.warning("yak-zk at %s: %s; trying again", self.address, said)
                await self._wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            pause, said = FIRST_PAUSE_S, ""
            if self._leaving.is_set():
                session.connection.close("said goodbye")
            else:
                await self._keep(session)

    def propose_isr(
        self,
        epoch: int,
        version: int,
        isr: list[int],
        incs: dict[int, str],
        on_answer: Callable[[bool, str], None],
    ) -> None:
        session = self._session
        if session is None or session.connection.closed:
            asyncio.get_running_loop().call_soon(on_answer, _REFUSED, "no session with yak-zk")
            return
        named = {str(broker): inc for broker, inc in incs.items()}
        request = m.ProposeIsr(id=0, epoch=epoch, version=version, isr=isr, incs=named)
        session.connection.send(request).add_done_callback(
            partial(self._isr_answered, on_answer=on_answer)
        )

    def resign(self, epoch: int, reason: str) -> None:
        if self._session is not None:
            request = m.Resign(id=0, epoch=epoch, reason=reason)
            self._session.connection.send(request).add_done_callback(self._resigned)

    async def leave(self) -> None:
        self._leaving.set()
        if self._session is None:
            return
        connection = self._session.connection
        try:
            goodbye = m.Leave(id=0, mark=self._identity().mark)
            await connection.ask(goodbye, m.Done, timeout_s=LEAVE_S)
        except YakError as error:
            _log.info("yak-zk at %s did not hear the goodbye: %s", self.address, error)
        connection.close("said goodbye")

    # -- a session's beginning --------------------------------------------------------------------

    async def _join(self, give_up_at: float) -> _Session:
        """Open a session.  Raises YakError."""
        while not self._may_beat() and not self._leaving.is_set():
            await self._wait(self._settings.heartbeat_ms / 1000)
        session = _Session(self._viewed, self._on_lease, self._clock)
        session.connection = await Connection.open(
            self.address,
            timeout_s=self._patience(OPEN_S, give_up_at),
            on_push=session.pushed,
            on_closed=session.ended,
        )
        try:
            await session.join(self._identity(), self._patience(JOIN_S, give_up_at))
        except BaseException:
            session.connection.close("the join failed")
            raise
        self._joined_once = True
        return session

    def _patience(self, limit: float, give_up_at: float) -> float:
        if self._joined_once:
            return limit
        return max(FIRST_PAUSE_S, min(limit, give_up_at - self._clock()))

    def _check_hope(self, error: YakError, give_up_at: float) -> None:
        """Before the first join: is it worth another try?  Raises Fatal."""
        if self._joined_once:
            return
        if not error.retriable and not isinstance(error, errors.TimeoutError):
            raise Fatal(f"yak-zk at {self.address} refuses this broker: {error}") from error
        if self._clock() >= give_up_at:
            raise Fatal(
                f"no yak-zk answers at {self.address}, tried for {self._wait_s:g} s (--zk-wait): "
                f"{error}; start one with `yak-zk`, or name its address with --zk HOST:PORT"
            ) from error

    def _viewed(self, view: m.ClusterView, joined: bool) -> None:  # noqa: FBT001 -- as on_view
        self._settings = view.settings
        self._on_view(view, joined)

    # -- while it lasts ---------------------------------------------------------------------------

    async def _keep(self, session: _Session) -> None:
        """Tell of it, beat until it is gone; then say so, unless that was our wish."""
        self._session = session
        try:
            session.begin()
            self._beat_later(session)
            await session.over.wait()
        finally:
            self._session = None
            session.connection.close("the broker stops")
        if not self._leaving.is_set():
            self._on_lost(session.connection.reason)

    def _beat_later(self, session: _Session) -> None:
        """By a timer, which costs an idle broker less than a task that waits with a time-out."""
        pause = self._settings.heartbeat_ms / 1000
        asyncio.get_running_loop().call_later(pause, self._beat, session)

    def _beat(self, session: _Session) -> None:
        if session is not self._session or session.over.is_set():
            return
        if self._may_beat() and not self._leaving.is_set():
            session.beat(self._identity())
        session.check(self._settings.session_ms / 1000)
        self._beat_later(session)

    async def _wait(self, seconds: float) -> None:
        """Or until this broker leaves."""
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return

    def _resigned(self, future: asyncio.Future[Frame]) -> None:
        try:
            read_answer(future.result(), m.Done, self.address)
        except (YakError, asyncio.CancelledError) as error:
            _log.info("yak-zk at %s did not take the resignation: %s", self.address, error)

    def _isr_answered(
        self, future: asyncio.Future[Frame], on_answer: Callable[[bool, str], None]
    ) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        try:
            read_answer(future.result(), m.IsrAnswer, self.address)
        except YakError as error:
            # What broke in yak-zk may have broken after the change was made.
            if error.name not in ("INTERNAL", "PROTOCOL"):
                on_answer(_REFUSED, str(error))
            return
        on_answer(_GRANTED, "")


class _Session:
    """One connection's session: numbers to and fro."""

    connection: Connection
    _view: m.ClusterView

    def __init__(
        self,
        on_view: Callable[[m.ClusterView, bool], None],
        on_lease: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self.over = asyncio.Event()
        self._on_view = on_view
        self._on_lease = on_lease
        self._clock = clock
        #: Views that overtook the answer to the join on their way through the event loop.
        self._early: list[m.ClusterView] | None = []
        #: When each number was sent, from the last that renewed the session; 0 is the join.
        self._sent: dict[int, float] = {}
        self._number = 0
        #: The last of ours that was answered, and the last of yak-zk's that was heard.
        self._answered = 0
        self._heard = 0

    async def join(self, request: m.Join, timeout_s: float) -> None:
        """Raises YakError."""
        self._sent[0] = self._clock()
        answer, _ = await self.connection.ask(request, m.JoinAnswer, timeout_s=timeout_s)
        self._view = answer.view

    def begin(self) -> None:
        """Tell of the join, and of what came right behind it."""
        early, self._early = self._early or [], None
        self._on_view(self._view, _JOINED)
        self._on_lease(self._sent[0])
        for later in early:
            self._on_view(later, _CHANGED)

    def pushed(self, header: bytes) -> None:
        """By way of the loop's queue, as answers come: so they keep yak-zk's order."""
        asyncio.get_running_loop().call_soon(self._pushed, header)

    def _pushed(self, header: bytes) -> None:
        if self.over.is_set():
            return
        try:
            view = _views.decode(header)
        except msgspec.MsgspecError as e:
            self.connection.close(f"yak-zk pushed what is no cluster document: {e}")
            return
        if self._early is None:
            self._on_view(view, _CHANGED)
        else:
            self._early.append(view)

    def ended(self, _reason: str) -> None:
        self.over.set()

    def beat(self, identity: m.Join) -> None:
        if self.connection.closed:
            return
        self._number += 1
        self._sent[self._number] = self._clock()
        request = m.Beat(
            id=0, number=self._number, heard=self._heard, end=identity.end, seen=identity.seen
        )
        self.connection.send(request).add_done_callback(partial(self._beaten, self._number))

    def _beaten(self, number: int, future: asyncio.Future[Frame]) -> None:
        if self.over.is_set() or future.cancelled() or future.exception() is not None:
            return
        try:
            answer, _ = read_answer(future.result(), m.BeatAnswer, self.connection.address)
        except YakError as error:
            self.connection.close(str(error))
            return
        self._answered = max(self._answered, number)
        self._heard = max(self._heard, answer.number)
        renewed = self._sent.get(answer.heard)
        if renewed is None:
            return
        for older in [n for n in self._sent if n < answer.heard]:
            del self._sent[older]
        self._on_lease(renewed)

    def check(self, session_s: float) -> None:
        """A yak-zk that leaves heartbeats unanswered for a whole session does not hear us."""
        waiting_since = self._sent.get(self._answered + 1)
        if waiting_since is not None and self._clock() - waiting_since > session_s:
            self.connection.close(f"yak-zk has not answered for {session_s * 1000:.0f} ms")
