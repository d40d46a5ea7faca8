"""A consumer's fetches: one long poll after another, from one replica, into the inbox.

* Any in-sync replica will do; which one is spread over the consumers by their names.  When it
  dies, hangs, or says that it is cut off (NO_LEADER), the next one is asked from the same
  offsets.  Only records at or after an offset once reached are taken, so nothing goes back.
* The next fetch is sent as soon as an answer is in, while the application still works on the
  one before; it pauses when the inbox has no more room.
* The replica keeps what is fetched, and is told only what has moved since (`session`): so a
  hundred partitions in which little happens cost no more than one.  After anything but an answer
  it is told all again.
* A change of what is wanted (partitions came or went) ends the wait for an answer.
* OFFSET_OUT_OF_RANGE: what was wanted has been trimmed away.  It goes on where `on_gap` says, and
  says how many records were missed.
* UNKNOWN_TOPIC: a replica that lags may not have heard of a topic.  After `_UNKNOWN_S` it is asked
  no more for that one, so that the others do not suffer, and whoever knows better is told.
* Damaged bytes are dropped and fetched again from another replica.  If `_DAMAGE_TRIES` answers in
  a row are damaged, the application is told.

It does not acknowledge, and knows no groups: what is wanted is the inbox's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from msgspec import UNSET

from yak import messages as m
from yak.core.inbox import Inbox
from yak.core.inflight import Backoff
from yak.core.partitioner import murmur2
from yak.core.positions import FetchPlan, Place
from yak.core.records import split_operations
from yak.errors import ProtocolError, RetriableError, YakError
from yak.model import Address, TopicPartition
from yak.net.cluster import SEARCH_PAUSE_S, Cluster
from yak.net.connection import Connection, read_answer
from yak.protocol import Frame

#: How long an answer may take beyond `wait_ms` before another replica is asked, in seconds.
_PATIENCE_S: Final = 1.0
#: Answers in a row whose records do not match their checksums.
_DAMAGE_TRIES: Final = 6
#: How long a replica that failed is not asked again while there are others, in seconds.
_AVOID_S: Final = 5.0
#: How long a replica may not know a topic before it is looked into, in seconds: one that lags
#: hears of it sooner.
_UNKNOWN_S: Final = 0.3
#: No replica keeps a plan of this version.
_NOTHING: Final = -1

#: "any" in-sync replica, the "leader", or a broker's id.
ReadFrom: TypeAlias = Literal["any", "leader"] | int
#: Where to go on when what was wanted is gone.
OnGap: TypeAlias = Literal["beginning", "end", "error"]

#: The inbox is looked at again after this, in seconds, even if a Ctrl-C ate the word of it.
_LOOK_AGAIN_S: Final = 1.0

_log = logging.getLogger(__name__)


class Fetcher:
    """See the module's text.  `run` is its task.

    name: spreads consumers over replicas.  on_unknown: a partition is not known to the replicas.
    """

    def __init__(
        self,
        cluster: Cluster,
        inbox: Inbox,
        *,
        name: str,
        on_gap: OnGap,
        read_from: ReadFrom,
        max_bytes: int,
        wait_ms: int,
        verify: bool,
        on_unknown: Callable[[], None],
    ) -> None:
        #: Records that were passed over, since they were gone before they were fetched.
        self.missed = 0
        #: The broker that was asked last.
        self.source: Address | None = None
        self._cluster = cluster
        self._inbox = inbox
        self._turn = murmur2(name.encode())
        self._on_gap = on_gap
        self._read_from = read_from
        self._max_bytes = max_bytes
        self._wait_ms = wait_ms
        self._verify = verify
        self._on_unknown = on_unknown
        self._changed = asyncio.Event()
        self._asking: asyncio.Future[Frame] | None = None
        #: Replicas that failed, and until when they are not asked (loop time).
        self._avoided: dict[Address, float] = {}
        self._damaged = 0
        #: Who keeps the plan of which version, by the last answer.
        self._kept_by: Connection | None = None
        self._version = _NOTHING
        #: What is asked for: each partition's stay, and the offset.
        self._asked: dict[TopicPartition, Place] = {}
        #: Since when (loop time) replicas do not know a partition.
        self._unknown: dict[TopicPartition, float] = {}

    def wake(self) -> None:
        """There may be room again."""
        self._changed.set()

    def change(self) -> None:
        """What is wanted has changed: an answer that is waited for is no longer the right one."""
        self._changed.set()
        if self._asking is not None:
            self._asking.cancel()

    def distrust(self) -> None:
        """The replica that was asked lags: read from another one for a while."""
        if self.source is not None:
            self._avoid(self.source)

    async def run(self) -> None:
        """Fetch until cancelled."""
        backoff = Backoff(most=SEARCH_PAUSE_S)
        while True:
            self._changed.clear()
            if not self._inbox.hungry():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._changed.wait()
                continue
            try:
                connection = await self._replica()
                if await self._fetch(connection):
                    backoff.reset()
                    continue
            except YakError as e:
                self._version = _NOTHING
                _log.info("fetch failed, another replica is next: %s", e)
                if self.source is not None:
                    self._avoid(self.source)
            await asyncio.sleep(backoff.pause(random.random()))

    # -- whom to ask ------------------------------------------------------------------------------

    async def _replica(self) -> Connection:
        cluster = self._cluster
        if not cluster.isr:
            await cluster.leader_connection()
        candidates = self._candidates()
        if not candidates:
            await cluster.search()
            candidates = self._candidates() or list(cluster.brokers.values())
            self._avoided.clear()
        if not candidates:
            raise RetriableError("no broker is known", name="NO_LEADER")
        self.source = candidates[self._turn % len(candidates)]
        return await cluster.connect(self.source)

    def _candidates(self) -> list[Address]:
        """Whom to choose from: as `read_from` says, without those that failed lately."""
        cluster, now = self._cluster, asyncio.get_running_loop().time()
        self._avoided = {at: until for at, until in self._avoided.items() if until > now}
        brokers = cluster.brokers
        if isinstance(self._read_from, int):
            wanted = brokers.get(self._read_from)
            if wanted is not None and wanted not in self._avoided:
                return [wanted]
        elif self._read_from == "leader" and cluster.leader is not None:
            return [] if cluster.leader in self._avoided else [cluster.leader]
        live = [brokers[number] for number in sorted(cluster.isr) if number in brokers]
        return [address for address in live if address not in self._avoided]

    def _avoid(self, address: Address) -> None:
        self._avoided[address] = asyncio.get_running_loop().time() + _AVOID_S
        if self._read_from == "leader" and self._cluster.leader == address:
            self._cluster.leader = None

    # -- asking -----------------------------------------------------------------------------------

    async def _fetch(self, connection: Connection) -> bool:
        """One fetch; False: nothing was learnt, pause before the next.  Raises YakError."""
        kept = self._version if self._kept_by is connection else _NOTHING
        self._version = _NOTHING  # until it is answered
        plan = self._inbox.plan(kept)
        if plan is None:
            return True
        self._asking = connection.send(self._request(plan))
        try:
            async with asyncio.timeout(self._wait_ms / 1000 + _PATIENCE_S):
                frame = await self._asking
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return True  # `change`
        except TimeoutError as e:
            connection.close("it did not answer a fetch")
            raise RetriableError(f"{connection.address} does not answer", name="CONNECTION") from e
        finally:
            self._asking = None
        try:
            answer, body = read_answer(frame, m.FetchAnswer, connection.address)
        except YakError as e:
            if not plan.whole and e.name == "INVALID_REQUEST":
                return True  # it does not keep what it kept: it is told all again
            raise
        self._kept_by, self._version = connection, plan.version
        return self._sort(answer, body, connection.address)

    def _request(self, plan: FetchPlan) -> m.Fetch:
        if plan.whole:
            self._asked.clear()
        for position, offset in plan.places:
            self._asked[position.where] = (position, offset)
        request = m.Fetch(
            id=0,
            session="new" if plan.whole else "same",
            partitions=tuple([(*position.where, offset) for position, offset in plan.places]),
            max_bytes=self._max_bytes,
            wait_ms=self._wait_ms,
        )
        if plan.whole:
            request.topic_ids = {one.where[0]: one.topic_id for one, _ in plan.places}
        return request

    def _sort(self, answer: m.FetchAnswer, body: bytes | memoryview, source: Address) -> bool:
        """Every entry to its partition.  False: some had errors.  Raises YakError."""
        good = True
        start = 0
        for entry in answer.partitions:
            place = self._asked.get((entry.topic, entry.partition))
            if place is None or start + entry.size > len(body):
                raise ProtocolError(f"{source} answered what was not asked for", name="PROTOCOL")
            piece = bytes(body[start : start + entry.size])
            start += entry.size
            if entry.error is not UNSET:
                good = self._refused(entry, place, source) and good
                continue
            if self._unknown:
                self._unknown.pop(place[0].where, None)
            try:
                chunks = split_operations(piece, verify=self._verify) if piece else []
            except ProtocolError as e:
                self._damage(e)
                raise
            if chunks:
                self._damaged = 0
            self._inbox.put(*place, chunks, entry.high_watermark)
        return good

    # -- errors of one partition: False says that it is to be asked again after a pause -----------

    def _refused(self, entry: m.FetchEntry, place: Place, source: Address) -> bool:
        match entry.error:
            case "OFFSET_OUT_OF_RANGE":
                return self._gone(entry, place, source)
            case "UNKNOWN_TOPIC" | "UNKNOWN_PARTITION":
                return self._not_known(place)
            case "NO_LEADER" | "STORAGE_ERROR" | "NOT_LEADER":
                self._avoid(source)
            case _:
                pass
        return False

    def _gone(self, entry: m.FetchEntry, place: Place, source: Address) -> bool:
        """What was wanted has been trimmed away."""
        (position, asked), where = place, place[0].where
        if self._on_gap == "error":
            self._inbox.stick(position, asked, _gap(entry, asked, str(source)))
            return True
        offset = entry.high_watermark if self._on_gap == "end" else entry.start
        if offset <= asked:
            return False  # this replica lags behind what trimmed it elsewhere
        if self._inbox.jump(position, asked, offset):
            self.missed += offset - asked
            _log.warning(
                "%s[%d]: %d records are missed: it stood at offset %d, the log begins at %d "
                "(what lay before was trimmed away); on from offset %d",
                *where, offset - asked, asked, entry.start, offset,
            )  # fmt: skip
        return True

    def _not_known(self, place: Place) -> bool:
        now = asyncio.get_running_loop().time()
        since = self._unknown.setdefault(place[0].where, now)
        if now - since < _UNKNOWN_S:
            return False
        del self._unknown[place[0].where]
        self._inbox.suspect(place[0])
        self._on_unknown()
        return True

    def _damage(self, error: ProtocolError) -> None:
        self._damaged += 1
        _log.warning("%s from %s", error, self.source)
        if self._damaged >= _DAMAGE_TRIES:
            self._inbox.fail(error)


def _gap(entry: m.FetchEntry, asked: int, source: str) -> YakError:
    error = YakError(
        f"{entry.topic}[{entry.partition}]: offset {asked} is gone: the log begins at "
        f"{entry.start} (what lay before was trimmed away), so {entry.start - asked} records are "
        "missed",
        name="OFFSET_OUT_OF_RANGE",
        broker=source,
        hint='seek elsewhere, or say on_gap="beginning" or "end"',
    )
    error.details = {"start": entry.start, "high_watermark": entry.high_watermark}
    return error
