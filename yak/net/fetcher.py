"""A consumer's fetches: one long poll after another, from one replica, into the inbox.

* Any in-sync replica will do; which one is spread over the consumers by their names.  When it
  dies, hangs, or says that it is cut off (NO_LEADER), the next one is asked from the same
  offsets.  Only records at or after an offset once reached are taken, so nothing goes back.
* The next fetch is sent as soon as an answer is in, while the application still works on the
  one before; it pauses when the inbox has no more room.
* A change of what is wanted (partitions came or went) ends the wait for an answer.
* OFFSET_OUT_OF_RANGE: what was wanted has been trimmed away.  It goes on where `start` says, and
  says how many records were missed.
* Damaged bytes are dropped and fetched again from another replica.  If `_DAMAGE_TRIES` answers in
  a row are damaged, the application is told.

It does not acknowledge, and knows no groups: what is wanted is the inbox's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import UNSET

from yak import messages as m
from yak.core.inbox import Inbox
from yak.core.inflight import Backoff
from yak.core.partitioner import murmur2
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

#: "beginning", "end", "stored" (where the group stands, else the beginning), an offset of every
#: partition, a negative number (the last so many records), or an offset for each partition.
Start: TypeAlias = str | int | Mapping[TopicPartition, int]
#: "any" in-sync replica, the "leader", or a broker's id.
ReadFrom: TypeAlias = Literal["any", "leader"] | int

#: The inbox is looked at again after this, in seconds, even if a Ctrl-C ate the word of it.
_LOOK_AGAIN_S: Final = 1.0

_log = logging.getLogger(__name__)


async def starting_offsets(
    cluster: Cluster, wheres: Sequence[TopicPartition], start: Start, timeout_s: float
) -> dict[TopicPartition, int]:
    """Where to begin with partitions of which nothing is known but `start`.

    Raises YakError, as UNKNOWN_TOPIC, and TimeoutError.
    """
    if isinstance(start, Mapping):
        known = {where: start[where] for where in wheres if where in start}
        rest = [where for where in wheres if where not in start]
        return known | (await starting_offsets(cluster, rest, "beginning", timeout_s))
    if isinstance(start, int) and start >= 0:
        return dict.fromkeys(wheres, start)
    if not wheres:
        return {}
    if start == "end":
        return await _listed(cluster, wheres, "latest", timeout_s)
    earliest = await _listed(cluster, wheres, "earliest", timeout_s)
    if not isinstance(start, int):
        return earliest
    latest = await _listed(cluster, wheres, "latest", timeout_s)
    return {where: max(earliest[where], latest[where] + start) for where in wheres}


async def _listed(
    cluster: Cluster,
    wheres: Sequence[TopicPartition],
    at: Literal["earliest", "latest"],
    timeout_s: float,
) -> dict[TopicPartition, int]:
    request = m.ListOffsets(id=0, partitions=list(wheres), at=at)
    answer, _ = await cluster.ask_leader(request, m.OffsetsAnswer, timeout_s=timeout_s)
    return {(topic, partition): offset or 0 for topic, partition, offset in answer.offsets}


class Fetcher:
    """See the module's text.  `run` is its task.

    name: spreads consumers over replicas.  start: for what has been trimmed away.
    """

    def __init__(
        self,
        cluster: Cluster,
        inbox: Inbox,
        *,
        name: str,
        start: Start,
        read_from: ReadFrom,
        max_bytes: int,
        wait_ms: int,
        verify: bool,
    ) -> None:
        #: Records that were trimmed away before they were fetched.
        self.missed = 0
        #: The broker that was asked last.
        self.source: Address | None = None
        self._cluster = cluster
        self._inbox = inbox
        self._turn = murmur2(name.encode())
        self._start = start
        self._read_from = read_from
        self._max_bytes = max_bytes
        self._wait_ms = wait_ms
        self._verify = verify
        self._changed = asyncio.Event()
        self._asking: asyncio.Future[Frame] | None = None
        #: Replicas that failed, and until when they are not asked (loop time).
        self._avoided: dict[Address, float] = {}
        self._damaged = 0

    def wake(self) -> None:
        """There may be room again."""
        self._changed.set()

    def change(self) -> None:
        """What is wanted has changed: an answer that is waited for is no longer the right one."""
        self._changed.set()
        if self._asking is not None:
            self._asking.cancel()

    async def run(self) -> None:
        """Fetch until cancelled."""
        backoff = Backoff(most=SEARCH_PAUSE_S)
        while True:
            self._changed.clear()
            wanted = self._inbox.wanted()
            if not wanted:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._changed.wait()
                continue
            try:
                connection = await self._replica()
                if await self._fetch(connection, wanted):
                    backoff.reset()
                    continue
            except YakError as e:
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

    async def _fetch(self, connection: Connection, wanted: list[m.At]) -> bool:
        """One fetch; False: nothing was learnt, pause before the next.  Raises YakError."""
        request = m.Fetch(id=0, partitions=wanted, max_bytes=self._max_bytes, wait_ms=self._wait_ms)
        self._asking = connection.send(request)
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
        answer, body = read_answer(frame, m.FetchAnswer, connection.address)
        return self._sort(answer, body, wanted, connection.address)

    def _sort(
        self, answer: m.FetchAnswer, body: bytes | memoryview, wanted: list[m.At], source: Address
    ) -> bool:
        """Every entry to its partition.  False: some had errors.  Raises YakError."""
        asked = {(topic, partition): offset for topic, partition, offset in wanted}
        good = True
        start = 0
        for entry in answer.partitions:
            where = (entry.topic, entry.partition)
            if where not in asked or start + entry.size > len(body):
                raise ProtocolError(f"{source} answered what was not asked for", name="PROTOCOL")
            piece = bytes(body[start : start + entry.size])
            start += entry.size
            if entry.error is not UNSET:
                good = self._refused(entry, asked[where], source) and good
                continue
            try:
                chunks = split_operations(piece, verify=self._verify) if piece else []
            except ProtocolError as e:
                self._damage(e)
                raise
            if chunks:
                self._damaged = 0
            self._inbox.put(where, asked[where], chunks, entry.high_watermark)
        return good

    def _refused(self, entry: m.FetchEntry, asked: int, source: Address) -> bool:
        """What to do about one partition's error; False: pause before asking again."""
        where = (entry.topic, entry.partition)
        if entry.error == "OFFSET_OUT_OF_RANGE":
            offset = entry.high_watermark if self._start == "end" else entry.start
            if offset <= asked:
                return False  # this replica lags behind what trimmed it elsewhere
            self.missed += max(0, entry.start - asked)
            _log.warning(
                "%s[%d]: offsets %d to %d are gone (trimmed before they were read); on from %d",
                *where, asked, entry.start - 1, offset,
            )  # fmt: skip
            self._inbox.jump(where, offset)
            return True
        if entry.error in ("NO_LEADER", "STORAGE_ERROR", "NOT_LEADER"):
            self._avoid(source)
        return False

    def _damage(self, error: ProtocolError) -> None:
        self._damaged += 1
        _log.warning("%s from %s", error, self.source)
        if self._damaged >= _DAMAGE_TRIES:
            self._inbox.fail(error)
