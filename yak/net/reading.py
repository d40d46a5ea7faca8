"""What Consumer and AsyncConsumer do: reading, on one loop, for an application anywhere.

    Membership or Discovery ──which partitions──▶ Inbox ◀──records── Fetcher
                                                    │
                                     the application takes, and is told

* It starts and ends the tasks, and an end of one that nobody wished is the application's to hear.
* `seek`, `pause`, `resume`: of partitions that are held; another one is an error, but one that is
  about to go is none.
* A seek moves what is handed out next.  What was fetched is dropped, and so is an answer that is
  on its way; what is acknowledged stays acknowledged.

Here are no callbacks, and nothing waits for records: that is what the two classes differ in.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from typing import Final

from yak.core.inbox import Inbox
from yak.core.positions import Position
from yak.errors import CommitFailedError, YakError
from yak.model import Record, TopicPartition, parse_addresses
from yak.net.cluster import Cluster
from yak.net.consumer_options import Settings
from yak.net.discovery import Discovery
from yak.net.fetcher import Fetcher
from yak.net.membership import Membership
from yak.net.places import Places, Start, is_unknown
from yak.net.tasks import spawn

#: How many fetches' worth of bytes may wait for the application.
_ROOM_FETCHES: Final = 2
#: How long starting may take: finding the cluster, registering, asking for offsets, in seconds.
_START_S: Final = 30.0

_log = logging.getLogger(__name__)


class Reading:
    """See the module's text.  Made, started and closed on one event loop.

    announces: whether the application wants to be told what comes and goes.
    """

    def __init__(self, topics: Sequence[str], settings: Settings, *, announces: bool) -> None:
        if not topics:
            raise ValueError("at least one topic")
        self.settings = settings
        self._topics = list(dict.fromkeys(topics))
        self._loop = asyncio.get_running_loop()
        self._cluster = Cluster(parse_addresses(settings.bootstrap), settings.client)
        self._cluster.interest.update(topics)
        if settings.on_waiting is not None:
            self._cluster.on_waiting = settings.on_waiting
        self.inbox = Inbox(
            threading.Lock(),
            commit_after=settings.commit == "after",
            room_bytes=_ROOM_FETCHES * settings.max_bytes,
            on_progress=self._on_progress,
            announces=announces,
            clock=time.monotonic,
        )
        self.fetcher = Fetcher(
            self._cluster,
            self.inbox,
            name=f"{settings.client}/{uuid.uuid4()}",
            on_gap=settings.gap,
            read_from=settings.read_from,
            max_bytes=settings.max_bytes,
            wait_ms=settings.wait_ms,
            verify=settings.verify,
            on_unknown=lambda: self._source.check(),
        )
        self.membership: Membership | None = None
        self._source = self._make_source()
        self._places = Places(self._cluster, _START_S)
        self._tasks: list[asyncio.Task[None]] = []
        self._started: asyncio.Task[None] | None = None
        self._nudged = False
        self.closed = False

    def _make_source(self) -> Membership | Discovery:
        """Where the partitions come from."""
        settings = self.settings
        if settings.group is None:
            return Discovery(
                self._cluster,
                self.inbox,
                topics=self._topics,
                chosen=settings.partitions,
                start=settings.start,
                max_age_s=settings.metadata_max_age_ms / 1000,
                on_change=self.fetcher.change,
                on_lagging=self.fetcher.distrust,
            )
        self.membership = Membership(
            self._cluster,
            self.inbox,
            group=settings.group,
            topics=self._topics,
            client=settings.client,
            session_ms=settings.session_ms,
            start=settings.start,
            on_change=self.fetcher.change,
            on_lagging=self.fetcher.distrust,
        )
        return self.membership

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, or find the partitions, and begin to fetch.  Idempotent.  Raises YakError."""
        if self.closed:
            raise closed_error()
        if self._started is None or (self._started.done() and self._started.exception()):
            self._started = asyncio.ensure_future(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        await self._source.join(_START_S)
        self._run(self._source.run(), name="which partitions")
        self._run(self.fetcher.run(), name="fetch")
        if self.membership is not None:
            self._run(self._refresh(), name="which brokers are in sync")

    def _run(self, coro: Coroutine[None, None, None], *, name: str) -> None:
        """A task without which reading cannot go on: the application hears of its end."""
        task = spawn(coro, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            what = f"{task.get_name()}: {task.exception()!r}"
            self.inbox.fail(YakError(f"reading ended by a fault of its own: {what}"))

    async def _refresh(self) -> None:
        """Learn now and then which brokers are in sync; Discovery asks anyway."""
        while True:
            await asyncio.sleep(self.settings.metadata_max_age_ms / 1000)
            try:
                await self._cluster.metadata(self._topics)
            except YakError as e:
                _log.info("metadata: %s", e)

    async def close(self) -> None:
        """Wait until what is handled is acknowledged, leave the group, close.  Idempotent.

        Raises CommitFailedError or another YakError where an acknowledgement failed, but not where
        its topic was deleted; it is closed all the same.
        """
        if self.closed:
            return
        self.closed = True
        started = self._started
        try:
            if started is not None and not started.done():
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)
            if self.membership is not None and self.membership.member:
                try:
                    await self.membership.acknowledge()
                except YakError as e:
                    if not is_unknown(e):
                        raise
                    _log.info("closing: %s; what was handled of it comes to nobody again", e)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._cluster.hush()
            if self.membership is not None and self.membership.member:
                await self.membership.leave()
            self.inbox.close(closed_error())
            await self._cluster.close()

    # -- acknowledging ----------------------------------------------------------------------------

    async def ack(self, record: Record | None) -> None:
        """This record and all before it in its partition; None: all handed out.

        Raises CommitFailedError where that is not this member's any more, and YakError.
        """
        if self.membership is None:
            return
        if record is not None:
            where = (record.topic, record.partition)
            if not self.inbox.handled_up_to(where, record.offset + 1):
                raise closed_error() if self.closed else _not_its_own([where])
        lost = self.inbox.all_handled() if record is None else []
        await self.commit()
        if lost:
            raise _not_its_own(lost)

    async def commit(self) -> None:
        """Wait until the cluster has acknowledged all that is handled."""
        if self.membership is not None:
            await self.membership.acknowledge()

    # -- where to read ----------------------------------------------------------------------------

    async def seek_to(
        self, start: Start, partitions: Iterable[TopicPartition] | None
    ) -> dict[TopicPartition, int]:
        """Ask the leader what that place is in each of these (all), and go there."""
        positions = self.held(partitions)
        ids = {position.where[0]: position.topic_id for position in positions}
        found = await self._places.offsets([one.where for one in positions], start, ids)
        for position in positions:
            offset = found[position.where]
            self.inbox.seek(position, offset, offset if start == "end" else None)
        self.fetcher.change()
        return found

    def seek(self, where: TopicPartition, offset: int) -> None:
        """From any thread.  Raises YakError NOT_ASSIGNED."""
        if type(offset) is not int or offset < 0:
            raise ValueError(f"an offset is a whole number from 0, not {offset!r}")
        for position in self.held([where]):
            self.inbox.seek(position, offset)
        self._loop.call_soon_threadsafe(self.fetcher.change)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """From any thread.  Raises YakError NOT_ASSIGNED."""
        for position in self.held(partitions):
            self.inbox.pause(position)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """From any thread.  Raises YakError NOT_ASSIGNED."""
        for position in self.held(partitions):
            self.inbox.resume(position)
        self._loop.call_soon_threadsafe(self.fetcher.change)

    def held(self, partitions: Iterable[TopicPartition] | None) -> list[Position]:
        """Those of these partitions (all).  Raises YakError NOT_ASSIGNED where one is not held."""
        held = self.inbox.positions
        if partitions is None:
            return [position for position in list(held.values()) if not position.revoked]
        found: list[Position] = []
        for topic, number in partitions:
            position = held.get((topic, number))
            if position is None:
                raise YakError(
                    f"{topic}[{number}] is not assigned to this consumer",
                    name="NOT_ASSIGNED",
                    hint="`assignment` says what is; on_assigned and on_revoked when that changes",
                )
            found.append(position)
        return found

    # -- between the threads ----------------------------------------------------------------------

    def _on_progress(self) -> None:
        """From the thread that takes: wake the loop, once for all that it has not seen."""
        if not self._nudged:
            self._nudged = True
            try:
                self._loop.call_soon_threadsafe(self._progress)
            except RuntimeError:
                if not self.closed:  # else a callback has closed it, and the loop has ended
                    raise
            except BaseException:  # a Ctrl-C just here must not leave the loop asleep
                self._nudged = False
                raise

    def _progress(self) -> None:
        self._nudged = False
        self.fetcher.wake()
        if self.membership is not None:
            if self.inbox.held_back:
                self.membership.check()
            self.membership.nudge()


def closed_error() -> YakError:
    return YakError("this consumer was closed", name="CLOSED", hint="make a new one")


def _not_its_own(partitions: Iterable[TopicPartition]) -> CommitFailedError:
    names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(set(partitions)))
    return CommitFailedError(
        f"not acknowledged: {names} is not this member's any more (it was silent for too long, or "
        "the partition moved, or its topic was deleted); its records are delivered again",
        name="NOT_ASSIGNED",
        hint="on_revoked is the last moment to acknowledge what a partition brought",
    )
