"""A client's view of the cluster: who leads, who lives, and how to reach them again.

    leader known ──connect──▶ ask ──▶ answer
       ▲   │ refused, lost, NO_LEADER    │ NOT_LEADER with a hint: ask there at once
       │   ▼                             ▼
       └── ask several brokers for metadata at once, pause (doubling, by chance shorter), again

Rules:

* What a higher epoch says wins.  NOT_LEADER's hint has no epoch: it is tried first, not believed.
* One connection a broker, opened when it is needed, shared by all requests.
* **A leader that hangs.**  A stopped process neither answers nor closes anything.  While a request
  to the leader waits longer than `SUSPECT_S`, other brokers are asked who leads, again and again;
  as soon as one names another, the old connection is closed, so that all that waited on it fails
  and is asked again of the new leader.  So a client follows a failover as fast as the cluster
  decides it, whatever its own time-outs are.
* What surely changed nothing is asked again until the deadline: NOT_LEADER, NO_LEADER,
  NOT_ENOUGH_REPLICAS, OVERLOADED, SHUTTING_DOWN, a connection that could not be opened.  What may
  have changed something (the connection ended, REQUEST_TIMED_OUT, STORAGE_ERROR) only where the
  caller says that the request is `repeatable`.

Errors that a repetition cannot heal are the caller's, as is UNKNOWN_TOPIC.  Nothing here knows
producers or groups, and it keeps no more of the metadata than was last told.  It has more than 400
lines because who leads, who is asked and who is left depend on each other at every line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from msgspec import UNSET

from yak import errors
from yak import messages as m
from yak.core.inflight import Backoff
from yak.errors import RetriableError, YakError
from yak.model import Address
from yak.net.connection import Connection, read_answer
from yak.net.tasks import spawn
from yak.protocol import Buffer, Frame

A = TypeVar("A", bound=m.Answer)
#: Is told why something is waited for.
OnWaiting: TypeAlias = Callable[[str], None]

#: A request to the leader that waits longer makes the others be asked who leads, in seconds.
#: Well below the brokers' session time-out, and far above a healthy answer.
SUSPECT_S: Final = 0.5
#: How often they are asked then.
PROBE_EVERY_S: Final = 0.2
#: How many brokers are asked for metadata at once: enough to find a live one among hung ones.
PROBE_WIDTH: Final = 5
#: How long one broker may take to say who leads, or to accept a connection.
PROBE_S: Final = 1.0
#: Whoever has asked for so long without an answer is told why (`on_waiting`), in seconds; so often
#: again.
WAITING_S: Final = 1.0
#: The same where a leader took the request, in seconds: one that hangs, or that waits for a
#: follower which hangs, is through with it by then.
SLOW_S: Final = 4.0
#: The longest pause between two searches for a leader: an election must not be waited past.
SEARCH_PAUSE_S: Final = 0.2
#: How many hints are followed without a pause: two stale ones may point at each other.
HINTS_TRUSTED: Final = 2
#: What a broker may take beyond a request's own `timeout_ms` before its connection is given up.
GRACE_S: Final = 5.0
#: How long a request is asked again where the caller does not say.
DEFAULT_DEADLINE_S: Final = 30.0

#: What is known before any request has failed.
_NO_TROUBLE: Final = "none; does one of them lead, and are enough in sync?"

#: After these the request was surely not carried out, and may be later.
_NOTHING_DONE: Final = frozenset(
    {"NOT_LEADER", "NO_LEADER", "NOT_ENOUGH_REPLICAS", "OVERLOADED", "SHUTTING_DOWN"}
)
#: After these it may have been carried out.
_UNKNOWN: Final = frozenset({"CONNECTION", "REQUEST_TIMED_OUT", "STORAGE_ERROR"})
#: After these another broker may be the leader.
_LOOK_AGAIN: Final = frozenset({"NOT_LEADER", "NO_LEADER", "SHUTTING_DOWN", "CONNECTION"})
#: After these another broker may answer what any broker can.
_ASK_ANOTHER: Final = _NOTHING_DONE | _UNKNOWN | {"TIMEOUT", "PROTOCOL", "INTERNAL"}


class _Waiting(NamedTuple):
    """A request to the leader that has no answer yet; times are the loop's."""

    connection: Connection
    sent_at: float
    give_up_at: float


class Cluster:
    """See the module's text.  Belongs to one event loop; `close` it.

    bootstrap: where to ask first.  client: a name for the brokers' logs.
    chance: numbers in [0, 1) for pauses and for who is asked first.
    """

    def __init__(
        self,
        bootstrap: Sequence[Address],
        client: str = "yak",
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        assert bootstrap, "at least one address"
        self.client = client
        #: The highest epoch heard of; 0 before any.
        self.epoch = 0
        #: Where the leader is thought to be; None while that is unknown.
        self.leader: Address | None = None
        self.isr: list[int] = []
        #: Every broker that was ever told, by id, and which of them live.
        self.brokers: dict[int, Address] = {}
        self.live: set[int] = set()
        self.topics: dict[str, m.TopicEntry] = {}
        #: Topics whose metadata is asked for whenever a broker is asked who leads.
        self.interest: set[str] = set()
        #: Called when another leader, or a higher epoch, was heard of.
        self.on_change: Callable[[], None] = lambda: None
        #: Called with the cause while a request has waited for WAITING_S and more, not for its
        #: answer but for somebody who gives one.
        self.on_waiting: OnWaiting = lambda _: None
        self._bootstrap = list(bootstrap)
        self._chance = chance
        self._connections: dict[Address, Connection] = {}
        self._opening: dict[Address, asyncio.Task[Connection]] = {}
        self._waiting: dict[asyncio.Future[Frame], _Waiting] = {}
        self._search: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        #: Why the last attempt to reach anybody failed, for the message of a time-out.
        self.trouble = _NO_TROUBLE
        #: How often a request to the leader has failed.
        self.refusals = 0

    # -- asking -----------------------------------------------------------------------------------

    async def ask_leader(
        self,
        request: m.Request,
        answer_type: type[A],
        buffers: Sequence[Buffer] = (),
        *,
        timeout_s: float = DEFAULT_DEADLINE_S,
        repeatable: bool = True,
    ) -> tuple[A, bytes | memoryview]:
        """Ask whoever leads, again as the module's rules allow, for at most `timeout_s`.

        repeatable: whether the request may be carried out twice.  Raises what was answered (its
        `in_doubt` says that an earlier try may have been carried out), or TimeoutError, after
        which the outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        backoff = Backoff(most=SEARCH_PAUSE_S)
        hints, in_doubt = 0, False
        try:
            async with self._telling(), asyncio.timeout_at(deadline):
                while True:
                    connection = await self.leader_connection()
                    if isinstance(request, m.Logged):
                        request.timeout_ms = max(1, int((deadline - loop.time()) * 1000))
                    try:
                        frame = await self.send_to(connection, request, buffers, timeout_s)
                        return read_answer(frame, answer_type, connection.address)
                    except YakError as e:
                        if not _may_repeat(e, repeatable=repeatable):
                            e.in_doubt = in_doubt
                            raise
                        in_doubt = in_doubt or e.name in _UNKNOWN
                        self.note(e, connection)
                        hints += e.leader is not None
                        if e.leader is None or hints > HINTS_TRUSTED:
                            await asyncio.sleep(backoff.pause(self._chance()))
        except TimeoutError as e:
            raise self._timed_out(request, timeout_s) from e

    async def ask_any(
        self,
        request: m.Request,
        answer_type: type[A],
        *,
        timeout_s: float = DEFAULT_DEADLINE_S,
    ) -> tuple[A, bytes | memoryview]:
        """Ask one broker after another until one answers, for at most `timeout_s`.

        Raises what was answered where no other broker would know better; else TimeoutError.
        """
        backoff = Backoff(most=SEARCH_PAUSE_S)
        try:
            async with self._telling(), asyncio.timeout(timeout_s):
                while True:
                    for address in self._candidates():
                        try:
                            connection = await self.connect(address)
                            return await connection.ask(request, answer_type, timeout_s=PROBE_S)
                        except YakError as e:
                            if e.name not in _ASK_ANOTHER:
                                raise
                            self.trouble = str(e)
                    await asyncio.sleep(backoff.pause(self._chance()))
        except TimeoutError as e:
            raise self._timed_out(request, timeout_s) from e

    async def metadata(
        self, topics: Sequence[str] | None = None, *, timeout_s: float = DEFAULT_DEADLINE_S
    ) -> m.MetadataAnswer:
        """What any broker knows; of these topics, or of all.  It is also remembered here."""
        request = m.Metadata(id=0, topics=UNSET if topics is None else list(topics))
        answer, _ = await self.ask_any(request, m.MetadataAnswer, timeout_s=timeout_s)
        self._learn(answer)
        return answer

    def send_to(
        self,
        connection: Connection,
        request: m.Request,
        buffers: Sequence[Buffer] = (),
        timeout_s: float = DEFAULT_DEADLINE_S,
    ) -> asyncio.Future[Frame]:
        """Send to the leader and watch over it: the future fails if another one takes over.

        The future fails as `Connection.send` says, also when there was no answer `GRACE_S`
        after `timeout_s`.  Repeating is the caller's.
        """
        future = connection.send(request, buffers)
        if not future.done():
            now = asyncio.get_running_loop().time()
            self._waiting[future] = _Waiting(connection, now, now + timeout_s + GRACE_S)
            future.add_done_callback(self._answered)
            if self._watch is None:
                self._watch_again()
        return future

    # -- reaching ---------------------------------------------------------------------------------

    async def leader_connection(self) -> Connection:
        """A connection to whoever leads, however long it takes: put a time-out around it."""
        backoff = Backoff(most=SEARCH_PAUSE_S)
        while True:
            address = self.leader
            if address is not None:
                try:
                    return await self.connect(address)
                except RetriableError as e:
                    self.trouble = str(e)
                    if self.leader == address:
                        self.leader = None
            await self.search()
            self._check_open()
            if self.leader is None or self.leader == address:
                await asyncio.sleep(backoff.pause(self._chance()))

    def open_connection(self, address: Address | None) -> Connection | None:
        """The connection to that broker, if one stands now."""
        connection = None if address is None else self._connections.get(address)
        return None if connection is None or connection.closed else connection

    async def connect(self, address: Address) -> Connection:
        """The connection to that broker, opened if need be.  Raises RetriableError CONNECTION."""
        self._check_open()
        connection = self.open_connection(address)
        if connection is not None:
            return connection
        task = self._opening.get(address)
        if task is None:
            task = asyncio.ensure_future(Connection.open(address, timeout_s=PROBE_S))
            self._opening[address] = task
            task.add_done_callback(lambda done: self._opened(address, done))
        return await asyncio.shield(task)

    async def search(self) -> None:
        """Ask several brokers at once who leads; ends when one said something new, or all spoke."""
        if self._search is None or self._search.done():
            self._search = spawn(self._ask_several(), name="search for the leader")
        await asyncio.shield(self._search)

    def tell(self, waited_s: float, refusals: int) -> None:
        """Say to `on_waiting` why something is waited for.

        refusals: as many as there were when that began.
        """
        if self.refusals == refusals and self.open_connection(self.leader) is not None:
            if waited_s >= SLOW_S:  # until then it works on it; who leads is looked at in any case
                self.on_waiting(f"{self.leader}, which leads, does not answer")
        elif self.refusals == refusals and self.leader is None and self.brokers:
            self.on_waiting("no broker leads: `yak status` says why")
        elif self.trouble == _NO_TROUBLE:
            self.on_waiting("no broker has answered yet")
        else:
            self.on_waiting(self.trouble)

    def hush(self) -> None:
        """Nobody waits for what is asked from now on: a goodbye, that silence says, too."""
        self.on_waiting = lambda _: None

    def note(self, error: YakError, connection: Connection) -> None:
        """Draw the conclusions of a failed request to the supposed leader."""
        self.trouble = str(error)
        self.refusals += 1
        if error.name not in _LOOK_AGAIN or self.leader not in (None, connection.address):
            return
        hint = error.leader
        self.leader = None if hint is None else Address(hint.host, hint.port)

    async def close(self) -> None:
        """Close every connection; what waits fails.  Idempotent."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        tasks = [*self._opening.values(), *([self._search] if self._search else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections.values()):
            connection.close("the client was closed")
        self._connections.clear()

    # -- inside -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _telling(self) -> AsyncIterator[None]:
        """As long as this lasts, somebody waits, and is told why."""
        loop = asyncio.get_running_loop()
        began, refusals = loop.time(), self.refusals

        def look() -> None:
            timers[0] = loop.call_later(WAITING_S, look)
            self.tell(loop.time() - began, refusals)

        timers = [loop.call_later(WAITING_S, look)]
        try:
            yield
        finally:
            timers[0].cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise YakError("this client was closed", name="CLOSED")

    def _candidates(self) -> list[Address]:
        """Whom to ask: who is connected and lives first, then the rest, each by chance."""
        known = dict.fromkeys([*self.brokers.values(), *self._bootstrap])
        live = {self.brokers[number] for number in self.live}

        def rank(address: Address) -> tuple[bool, float]:
            return (address not in live, self._chance())

        return sorted(known, key=rank)

    def _opened(self, address: Address, task: asyncio.Task[Connection]) -> None:
        self._opening.pop(address, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._connections[address] = task.result()
        if self._closed:
            task.result().close("the client was closed")

    async def _ask_several(self) -> None:
        asked = self._candidates()
        if self.leader in asked:  # the suspect last: it is the others' word that is wanted
            asked.remove(self.leader)
            asked.append(self.leader)
        before = (self.epoch, self.leader)
        rest = {asyncio.ensure_future(self._ask_one(one)) for one in asked[:PROBE_WIDTH]}
        timeout_s: float | None = None
        try:
            while rest:
                done, rest = await asyncio.wait(
                    rest, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
                )
                news = self.leader is not None and (self.epoch, self.leader) != before
                if news or not done:
                    return
                timeout_s = PROBE_EVERY_S  # one hung broker must not hold up what others know
        finally:
            for task in rest:
                task.cancel()

    async def _ask_one(self, address: Address) -> None:
        try:
            connection = await self.connect(address)
            request = m.Metadata(id=0, topics=sorted(self.interest))
            answer, _ = await connection.ask(request, m.MetadataAnswer, timeout_s=PROBE_S)
        except YakError as e:
            self.trouble = str(e)
            return
        self._learn(answer)

    def _learn(self, answer: m.MetadataAnswer) -> None:
        self.topics.update(answer.topics)
        if answer.epoch < self.epoch:
            return
        for broker in answer.brokers:
            self.brokers[broker.id] = Address(broker.host, broker.port)
        self.live = {broker.id for broker in answer.brokers if broker.live}
        self.isr = answer.isr
        before = (self.epoch, self.leader)
        if answer.epoch > self.epoch or self.leader is None:
            self.epoch = answer.epoch
            self.leader = None if answer.leader is None else self.brokers.get(answer.leader)
        if (self.epoch, self.leader) == before:
            return
        if self.leader is not None:
            self._supersede(self.leader)
        self.on_change()

    def _supersede(self, leader: Address) -> None:
        """What waits for an answer from an older leader is to be asked again of this one."""
        old = {w.connection for w in self._waiting.values() if w.connection.address != leader}
        for connection in old:
            connection.close(f"{leader} leads since epoch {self.epoch}")

    def _answered(self, future: asyncio.Future[Frame]) -> None:
        self._waiting.pop(future, None)

    def _watch_again(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(PROBE_EVERY_S, self._look)

    def _look(self) -> None:
        """While requests to the leader wait: is it still the leader?"""
        self._watch = None
        if not self._waiting or self._closed:
            return
        now = asyncio.get_running_loop().time()
        oldest = min(waiting.sent_at for waiting in self._waiting.values())
        searching = self._search is not None and not self._search.done()
        if now - oldest >= SUSPECT_S and not searching:
            self._search = spawn(self._ask_several(), name="is the leader still one?")
        for waiting in list(self._waiting.values()):
            if now >= waiting.give_up_at:
                waiting.connection.close(f"no answer within {now - waiting.sent_at:.1f} s")
        self._watch_again()

    def _timed_out(self, request: m.Request, timeout_s: float) -> errors.TimeoutError:
        return errors.TimeoutError(
            f"no answer to {request.__struct_config__.tag!r} within {timeout_s:.3g} s from "
            f"{', '.join(map(str, self._candidates()))}; last trouble: {self.trouble}",
            name="TIMEOUT",
            hint="`yak doctor` looks where the cause is; `yak status` shows who lives and leads",
        )


def _may_repeat(error: YakError, *, repeatable: bool) -> bool:
    return error.name in _NOTHING_DONE or (repeatable and error.name in _UNKNOWN)
