"""Consumer and AsyncConsumer: records in, acknowledgements out.

    with Consumer("orders", group="billing", start="beginning") as consumer:
        for record in consumer:         # acknowledged when the next is asked for
            handle(record)

* In a group the cluster shares the partitions out, and remembers how far each was acknowledged.
  A record is delivered at least once: what was handed out and not acknowledged is delivered
  again, to whoever then has the partition.  Without a group every partition is read, and nothing
  is remembered.
* `commit="after"`: asking for more (the loop's next turn, the next `poll`) acknowledges what was
  handed out before.  An exception in the loop acknowledges nothing that was not handled; leaving
  the `with` block normally acknowledges the last record, too.  `commit="manual"`: only
  `record.ack()` and `consumer.ack()` do.
* Acknowledgements travel behind; `ack`, `commit` and `close` wait for them.
* Records come in order within a partition, from any in-sync replica, and never go back.
* AsyncConsumer does the work on its loop; Consumer runs one on a thread of its own, and is used
  by one thread at a time.

Fetching is `net.fetcher`'s, the group `net.membership`'s, what lies between `core.inbox`'s.  There
is no seeking.

One file of more than 400 lines, since the two say the same words, and are read side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, TypedDict, Unpack

from msgspec import UnsetType

from yak.config import DEFAULT_BOOTSTRAP, MAX_WAIT_MS, MIB
from yak.core.inbox import Inbox
from yak.errors import YakError
from yak.model import Record, TopicPartition, parse_addresses
from yak.net.cluster import Cluster
from yak.net.fetcher import Fetcher, ReadFrom, Start, starting_offsets
from yak.net.loop_thread import LoopThread
from yak.net.membership import Membership
from yak.net.tasks import spawn

#: How many fetches' worth of bytes may wait for the application.
_ROOM_FETCHES: Final = 2
#: How long starting may take: finding the cluster, registering, asking for offsets, in seconds.
_START_S: Final = 30.0
#: How soon a topic that does not exist is asked for again, in seconds.
_AWAIT_TOPIC_S: Final = 0.5

_log = logging.getLogger(__name__)


class ConsumerOptions(TypedDict, total=False):
    """The options of Consumer and AsyncConsumer; `Settings` has their meanings and defaults."""

    bootstrap: str
    group: str | None
    start: Start
    partitions: Collection[int] | None
    read_from: ReadFrom
    commit: Literal["after", "manual"]
    max_records: int
    session_ms: int
    client: str
    max_bytes: int
    wait_ms: int
    metadata_max_age_ms: float
    verify: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A consumer's options."""

    #: HOST:PORT, several with commas between them.
    bootstrap: str = DEFAULT_BOOTSTRAP
    #: The group whose partitions are shared and whose progress is remembered.
    group: str | None = None
    #: Where to begin: "end", "beginning", "stored", an offset, -N for the last N records, or
    #: {(topic, partition): offset}.  In a group only where it never acknowledged anything.
    start: Start = "end"
    #: Only these partitions of each topic; not in a group.
    partitions: Collection[int] | None = None
    #: "any" in-sync replica, the "leader", or the broker with this id while it answers.
    read_from: ReadFrom = "any"
    #: When records are acknowledged: "after" they were handled, or by hand.
    commit: Literal["after", "manual"] = "after"
    #: The most that one `poll` returns, where it does not say.
    max_records: int = 500
    #: Silence after which the group takes a member for gone.
    session_ms: int = 10_000
    #: This consumer's name, in the group and in the brokers' logs.
    client: str = "yak-consumer"
    #: Bytes that one fetch asks for.
    max_bytes: int = MIB
    #: How long a broker may hold a fetch for which it has nothing.
    wait_ms: int = 500
    #: How soon new partitions are found.
    metadata_max_age_ms: float = 5000
    #: Compare records with their checksums.
    verify: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        words = ("end", "beginning", "stored")
        if isinstance(self.start, str) and self.start not in words:
            raise ValueError(f"start is one of {', '.join(words)} or an offset, not {self.start!r}")
        if self.group is None and self.start == "stored":
            raise ValueError('start="stored" needs a group, which is what is stored')
        if self.group is not None and self.partitions is not None:
            raise ValueError("partitions cannot be chosen in a group: it shares them out")
        if self.commit not in ("after", "manual"):
            raise ValueError(f'commit is "after" or "manual", not {self.commit!r}')
        if isinstance(self.read_from, str) and self.read_from not in ("any", "leader"):
            raise ValueError(f'read_from is "any", "leader" or a broker\'s id: {self.read_from!r}')
        if not 1000 <= self.session_ms <= 300_000:
            raise ValueError(f"session_ms is 1000 to 300000, not {self.session_ms}")
        if not 0 <= self.wait_ms <= MAX_WAIT_MS:
            raise ValueError(f"wait_ms is 0 to {MAX_WAIT_MS}, not {self.wait_ms}")
        for name in ("max_records", "max_bytes", "metadata_max_age_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)!r}")


class AsyncConsumer:
    """See the module's text.  Made, used and closed on one event loop.

    Use it in `async with`, or `await start()` and `await close()`.
    """

    def __init__(self, *topics: str, **options: Unpack[ConsumerOptions]) -> None:
        if not topics:
            raise ValueError("at least one topic")
        self._settings = settings = Settings(**options)
        self._topics = list(dict.fromkeys(topics))
        self._loop = asyncio.get_running_loop()
        self._cluster = Cluster(parse_addresses(settings.bootstrap), settings.client)
        self._cluster.interest.update(topics)
        self._inbox = Inbox(
            threading.Lock(),
            commit_after=settings.commit == "after",
            room_bytes=_ROOM_FETCHES * settings.max_bytes,
            on_progress=self._on_progress,
            consumer=self,
        )
        self._fetcher = Fetcher(
            self._cluster,
            self._inbox,
            name=f"{settings.client}/{uuid.uuid4()}",
            start=settings.start,
            read_from=settings.read_from,
            max_bytes=settings.max_bytes,
            wait_ms=settings.wait_ms,
            verify=settings.verify,
        )
        self._membership: Membership | None = None
        if settings.group is not None:
            self._membership = Membership(
                self._cluster,
                self._inbox,
                group=settings.group,
                topics=self._topics,
                client=settings.client,
                session_ms=settings.session_ms,
                start=settings.start,
                on_change=self._fetcher.change,
            )
        self._tasks: list[asyncio.Task[None]] = []
        self._started: asyncio.Task[None] | None = None
        self._nudged = False
        self._closed = False
        #: Topics that were not there when this began: theirs is read from the first record on.
        self._awaited: set[str] = set()

    # -- what it is at ----------------------------------------------------------------------------

    @property
    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read now."""
        return sorted(w for w, p in list(self._inbox.positions.items()) if not p.revoked)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to hand out, for each partition."""
        return {w: p.next for w, p in list(self._inbox.positions.items()) if not p.revoked}

    @property
    def high_watermarks(self) -> dict[TopicPartition, int | None]:
        """Each partition's high watermark as last told; None before the first answer."""
        positions = list(self._inbox.positions.items())
        return {where: p.high_watermark for where, p in positions if not p.revoked}

    @property
    def at_end(self) -> bool:
        """Everything up to the high watermarks last told was handed out."""
        return self._inbox.at_end()

    @property
    def missed(self) -> int:
        """Records that were trimmed away before they could be read."""
        return self._fetcher.missed

    @property
    def source(self) -> str | None:
        """The broker (HOST:PORT) that was asked last."""
        return None if self._fetcher.source is None else str(self._fetcher.source)

    @property
    def member(self) -> str | None:
        """This member's id in its group."""
        return None if self._membership is None else self._membership.member

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, or find the partitions, and begin to fetch; where it begins is settled.

        Idempotent.  Raises YakError (UNKNOWN_TOPIC where topics are not made by themselves,
        INVALID_TOPIC, …) and TimeoutError.
        """
        if self._closed:
            raise _closed()
        if self._started is None or (self._started.done() and self._started.exception()):
            self._started = asyncio.ensure_future(self._start())
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        if self._membership is not None:
            await self._membership.join(_START_S)
            self._run(self._membership.run(), name="group member")
        else:
            await self._find_partitions(self._settings.start, _START_S)
        self._run(self._fetcher.run(), name="fetch")
        self._run(self._refresh(), name="look for new partitions")

    def _run(self, coro: Coroutine[None, None, None], *, name: str) -> None:
        """A task without which reading cannot go on: the application hears of its end."""
        task = spawn(coro, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            what = f"{task.get_name()}: {task.exception()!r}"
            self._inbox.fail(YakError(f"reading ended by a fault of its own: {what}"))

    async def close(self) -> None:
        """Wait until what is handled is acknowledged, leave the group, close.  Idempotent.

        What was handed out and not handled stays unacknowledged.  Raises CommitFailedError or
        another YakError where an acknowledgement failed; it is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        started = self._started
        try:
            if started is not None and not started.done():
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)
            if self._membership is not None and self._membership.member:
                await self._membership.acknowledge()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._membership is not None and self._membership.member:
                await self._membership.leave()
            self._inbox.forget()
            self._inbox.fail(_closed())
            await self._cluster.close()

    async def __aenter__(self) -> AsyncConsumer:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._inbox.came_back()
            await self.close()
            return
        try:
            await self.close()
        except YakError as e:
            error.add_note(str(e))  # the block's own error matters more

    # -- records ----------------------------------------------------------------------------------

    async def poll(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 -- as in Consumer
        max_records: int | None = None,
    ) -> list[Record]:
        """Up to `max_records`, as soon as there is one; empty after `timeout` seconds.

        timeout: None waits for ever.  With `commit="after"` it acknowledges what the last poll
        returned.  Raises YakError where reading cannot go on.
        """
        await self.start()
        most = self._settings.max_records if max_records is None else max_records
        records = self._inbox.take(most)
        if records or timeout == 0:
            return records
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not records:
                    event = asyncio.Event()
                    if self._inbox.when_ready(event.set):  # by the fetcher, on this very loop
                        await event.wait()
                    records = self._inbox.take(most)
        return records

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Records for ever, one by one."""
        await self.start()
        while True:
            record = self._inbox.take_one()
            if record is not None:
                yield record
                continue
            for first in await self.poll(max_records=1):
                yield first

    async def ack(self, record: Record | None = None) -> None:
        """Acknowledge this record and all before it in its partition; None: all handed out.

        Waits until the cluster has it.  Without a group there is nothing to do.  Raises
        CommitFailedError where this member no longer belongs to the group.
        """
        if record is None:
            self._inbox.all_handled()
        else:
            self._inbox.handled_up_to((record.topic, record.partition), record.offset + 1)
        await self.commit()

    async def commit(self) -> None:
        """Wait until the cluster has acknowledged all that is handled."""
        if self._membership is not None:
            await self._membership.acknowledge()

    # -- inside -----------------------------------------------------------------------------------

    async def _find_partitions(self, start: Start, timeout_s: float) -> None:
        """Without a group: every partition that is not read yet, from `start` on."""
        answer = await self._cluster.metadata(self._topics, timeout_s=timeout_s)
        chosen = self._settings.partitions
        found: list[TopicPartition] = []
        for name in self._topics:
            entry = answer.topics.get(name)
            if entry is None or isinstance(entry.partitions, UnsetType):
                if name not in self._awaited:
                    self._awaited.add(name)
                    _log.warning("topic %s does not exist yet: waiting for it", name)
                continue
            if start == self._settings.start:
                self._check_partitions(name, entry.partitions)
            numbers = range(entry.partitions) if chosen is None else chosen
            found += [(name, n) for n in numbers if (name, n) not in self._inbox.positions]
        fresh = [where for where in found if where[0] in self._awaited]
        known = [where for where in found if where[0] not in self._awaited]
        offsets = await starting_offsets(self._cluster, known, start, timeout_s)
        offsets |= await starting_offsets(self._cluster, fresh, "beginning", timeout_s)
        for where, offset in offsets.items():
            self._inbox.assign(where, offset)
        if found:
            self._fetcher.change()

    def _check_partitions(self, topic: str, partitions: int) -> None:
        wrong = [n for n in self._settings.partitions or () if not 0 <= n < partitions]
        if wrong:
            raise YakError(
                f"{topic} has partitions 0 to {partitions - 1}, not {wrong[0]}",
                name="UNKNOWN_PARTITION",
            )

    async def _refresh(self) -> None:
        """Learn now and then which brokers are in sync, and of new partitions."""
        while True:
            age_s = self._settings.metadata_max_age_ms / 1000
            missing = self._awaited.difference(topic for topic, _ in self._inbox.positions)
            await asyncio.sleep(min(age_s, _AWAIT_TOPIC_S) if missing else age_s)
            try:
                if self._membership is None:
                    await self._find_partitions("beginning", _START_S)
                else:
                    await self._cluster.metadata(self._topics)
            except YakError as e:
                _log.info("metadata: %s", e)

    def _on_progress(self) -> None:
        """From the thread that takes: wake the loop, once for all that it has not seen."""
        if not self._nudged:
            self._nudged = True
            try:
                self._loop.call_soon_threadsafe(self._progress)
            except BaseException:  # a Ctrl-C just here must not leave the loop asleep
                self._nudged = False
                raise

    def _progress(self) -> None:
        self._nudged = False
        self._fetcher.wake()
        if self._membership is not None:
            self._membership.nudge()


class Consumer:
    """See the module's text.  Used by one thread at a time; `close` it, or use it in `with`."""

    def __init__(self, *topics: str, **options: Unpack[ConsumerOptions]) -> None:
        self._max_records = Settings(**options).max_records
        thread = LoopThread("yak-consumer")
        self._thread = thread
        try:
            self._consumer = thread.call(_made(topics, options))
        except BaseException:
            thread.stop()
            raise
        self._inbox = self._consumer._inbox
        self._inbox.consumer = weakref.proxy(self)
        self._is_started = False
        self._finalizer = weakref.finalize(self, thread.stop)

    @property
    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read now."""
        return self._consumer.assignment

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to hand out, for each partition."""
        return self._consumer.positions

    @property
    def high_watermarks(self) -> Mapping[TopicPartition, int | None]:
        """Each partition's high watermark as last told; None before the first answer."""
        return self._consumer.high_watermarks

    @property
    def at_end(self) -> bool:
        """Everything up to the high watermarks last told was handed out."""
        return self._consumer.at_end

    @property
    def missed(self) -> int:
        """Records that were trimmed away before they could be read."""
        return self._consumer.missed

    @property
    def source(self) -> str | None:
        """The broker (HOST:PORT) that was asked last."""
        return self._consumer.source

    @property
    def member(self) -> str | None:
        """This member's id in its group."""
        return self._consumer.member

    def start(self) -> None:
        """Register, or find the partitions; where it begins is settled.  Idempotent."""
        if not self._is_started:
            self._thread.call(self._consumer.start())
            self._is_started = True

    def poll(self, timeout: float | None = None, max_records: int | None = None) -> list[Record]:
        """Up to `max_records`, as soon as there is one; empty after `timeout` seconds.

        timeout: None waits for ever.  With `commit="after"` it acknowledges what the last poll
        returned.  Raises YakError where reading cannot go on.
        """
        self.start()
        most = self._max_records if max_records is None else max_records
        records = self._inbox.take(most)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not records:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            event = threading.Event()
            if self._inbox.when_ready(event.set) and not event.wait(left):
                break
            records = self._inbox.take(most)
        return records

    def __iter__(self) -> Iterator[Record]:
        """Records for ever, one by one."""
        self.start()
        take_one = self._inbox.take_one
        while True:
            record = take_one()
            if record is not None:
                yield record
            else:
                yield from self.poll(max_records=1)

    def ack(self, record: Record | None = None) -> None:
        """Acknowledge this record and all before it in its partition; None: all handed out."""
        self._thread.call(self._consumer.ack(record))

    def commit(self) -> None:
        """Wait until the cluster has acknowledged all that is handled."""
        self._thread.call(self._consumer.commit())

    def close(self) -> None:
        """Wait until what is handled is acknowledged, leave the group, close; as AsyncConsumer."""
        if not self._thread.alive:
            return
        try:
            self._thread.call(self._consumer.close())
        finally:
            self._finalizer.detach()
            self._thread.stop()

    def __enter__(self) -> Consumer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            if self._thread.alive:
                self._inbox.came_back()
            self.close()
            return
        try:
            self.close()
        except YakError as e:
            error.add_note(str(e))  # the block's own error matters more


async def _made(topics: tuple[str, ...], options: ConsumerOptions) -> AsyncConsumer:
    return AsyncConsumer(*topics, **options)


def _closed() -> YakError:
    return YakError("this consumer was closed", name="CLOSED", hint="make a new one")
