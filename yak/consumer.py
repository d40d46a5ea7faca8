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
* Records come in order within a partition, from any in-sync replica, and never go back but by a
  `seek`.
* `on_assigned`, `on_revoked` and `on_lost` are called by whoever asks for records, and by `close`:
  in the application's own thread or task, between two records.  Until on_revoked has returned the
  partition is nobody else's.  What a callback raises, `poll` raises, and the next poll calls it
  again: nothing is handed out and nothing let go in between.  They may call everything but `poll`.
* What was trimmed away before it was read is passed over as `on_gap` says, counted in `missed`, and
  said in a warning.
* A topic that is deleted and made again is another one, and is read from its beginning; so is a
  partition that is added.
* AsyncConsumer does the work on its loop; Consumer runs one on a thread of its own, and is used
  by one thread at a time.

What the options are is net/consumer_options.py's to say, what places there are net/places.py's.
The work is done in net/reading.py; here is what an application calls.

One file of more than 400 lines, since the two say the same words, and are read side by side.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, Unpack

from yak.core.positions import Notice
from yak.core.serializers import Deserializers
from yak.errors import YakError
from yak.model import Record, TopicPartition
from yak.net.consumer_options import Callbacks, ConsumerOptions, Settings, parse_options
from yak.net.loop_thread import LoopThread, told_by
from yak.net.places import milliseconds
from yak.net.reading import Reading

T = TypeVar("T")


class _Words:
    """What both say, and nobody has to wait for."""

    _reading: Reading
    _callbacks: Callbacks
    #: None where records are handed out as they are.
    _forms: Deserializers | None

    @property
    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read now, also those that are paused."""
        return sorted(position.where for position in self._reading.held(None))

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to hand out, for each partition."""
        return {position.where: position.next for position in self._reading.held(None)}

    @property
    def high_watermarks(self) -> Mapping[TopicPartition, int | None]:
        """Each partition's high watermark as last told; None before the first answer."""
        return {position.where: position.high_watermark for position in self._reading.held(None)}

    @property
    def paused(self) -> list[TopicPartition]:
        """The partitions that are paused."""
        return sorted(position.where for position in self._reading.held(None) if position.paused)

    @property
    def at_end(self) -> bool:
        """Everything up to the high watermarks last told was handed out."""
        return self._reading.inbox.at_end()

    @property
    def missed(self) -> int:
        """Records that were passed over, since they were trimmed away before they were read.

        With `on_gap="end"` also those between the log's start and the end, where it went on.
        """
        return self._reading.fetcher.missed

    @property
    def source(self) -> str | None:
        """The broker (HOST:PORT) that was asked last."""
        source = self._reading.fetcher.source
        return None if source is None else str(source)

    @property
    def member(self) -> str | None:
        """This member's id in its group."""
        membership = self._reading.membership
        return None if membership is None else membership.member

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Hand out and fetch nothing of these until `resume`.

        They stay this member's, and others go on.  A partition that is taken away and comes again
        is not paused any more.  Raises YakError NOT_ASSIGNED.
        """
        self._reading.pause(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on with these where they were paused.  Raises YakError NOT_ASSIGNED."""
        self._reading.resume(partitions)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Hand out from `offset` next: back, or over what lies between.

        What was fetched is dropped.  In a group it acknowledges nothing.  What was handed out, is
        at `offset` or behind it, and not handled yet, is not handled by asking for more: a loop
        that seeks back to the record at which it failed is given it again, and so is another
        member if this one dies.  What is acknowledged stays so: an acknowledgement never goes
        back.  What a seek forward passed over is acknowledged with the first record handled
        behind it, or by `ack()`.  To move a group for good, stop its members and use `yak group
        seek`.  Raises YakError NOT_ASSIGNED.
        """
        self._reading.seek((topic, partition), offset)

    def _formed(self, records: list[Record]) -> list[Record]:
        """Deserialized; up to the first that cannot be, which is raised when it is the first.

        What is behind it is handed out later: by the next that asks.
        """
        forms = self._forms
        if forms is None:
            return records
        for at, record in enumerate(records):
            try:
                forms.apply(record)
            except YakError:
                self._hand_back(records[at:] if at else records[1:])
                if at:
                    return records[:at]
                raise
        return records

    def _hand_back(self, records: list[Record]) -> None:
        first: dict[TopicPartition, int] = {}
        for record in records:
            first.setdefault((record.topic, record.partition), record.offset)
        for where, offset in first.items():
            with suppress(YakError):  # another's by now
                self._reading.seek(where, offset)

    def _callback(self, notice: Notice) -> Any:
        """Call what is called for this; what it returned."""
        callback = getattr(self._callbacks, notice.kind)
        return None if callback is None else callback(notice.partitions)


class AsyncConsumer(_Words):
    """As Consumer, awaited, with the same options.

    Made, used and closed on one event loop, by one task at a time.  Use it in `async with`, or
    `await start()` and `await close()`.  Callbacks are plain functions or coroutine functions.
    """

    def __init__(self, *topics: str, **options: Unpack[ConsumerOptions]) -> None:
        settings, self._callbacks = parse_options(options)
        forms = Deserializers(settings.value_deserializer, settings.key_deserializer)
        self._forms = forms if forms.any else None
        self._reading = Reading(topics, settings, announces=self._callbacks.any())
        self._inbox = self._reading.inbox
        self._inbox.consumer = self
        self._telling = False

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, or find the partitions, and begin to fetch; where it begins is settled.

        Idempotent.  Raises YakError (UNKNOWN_TOPIC where topics are not made by themselves,
        INVALID_TOPIC, …) and TimeoutError.
        """
        await self._reading.start()

    async def close(self) -> None:
        """Let all partitions go (`on_revoked`), wait until what is handled is acknowledged, leave.

        Idempotent.  What was handed out and not handled stays unacknowledged.  Raises what
        on_revoked raised, CommitFailedError or another YakError where an acknowledgement failed;
        it is closed all the same.
        """
        try:
            if not (self._telling or self._reading.closed):
                self._inbox.leave()
                await self._tell(leaving=True)
        finally:
            await self._reading.close()

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
        self._inbox.disown()
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
        returned.  Raises YakError where reading cannot go on, and what a callback raised.
        """
        await self.start()
        most = self._reading.settings.max_records if max_records is None else max_records
        inbox, loop = self._inbox, asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            if inbox.news:
                inbox.came_back()
                await self._tell()
            records = self._formed(inbox.take(most))
            if records or (deadline is not None and loop.time() >= deadline and not inbox.news):
                return records
            event = asyncio.Event()
            if inbox.when_ready(event.set):  # by the fetcher, on this very loop
                try:
                    async with asyncio.timeout_at(deadline):
                        await event.wait()
                except TimeoutError:
                    return []
                finally:
                    inbox.not_ready(event.set)

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Records for ever, one by one."""
        await self.start()
        while True:
            record = self._inbox.take_one()
            if record is not None:
                yield record if self._forms is None else self._formed([record])[0]
                continue
            for first in await self.poll(max_records=1):
                yield first

    async def ack(self, record: Record | None = None) -> None:
        """Acknowledge this record and all before it in its partition; None: all handed out.

        Waits until the cluster has it.  Without a group there is nothing to do.  Raises
        CommitFailedError where this member, or the partition, no longer belongs to the group.
        """
        await self._reading.ack(record)

    async def commit(self) -> None:
        """Wait until the cluster has acknowledged all that is handled."""
        await self._reading.commit()

    # -- where to read ----------------------------------------------------------------------------

    async def seek_to_beginning(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to the first record that is still there in each of these (all); to where."""
        return await self._reading.seek_to("beginning", partitions)

    async def seek_to_end(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to what comes from now on in each of these (all); to where."""
        return await self._reading.seek_to("end", partitions)

    async def seek_to_time(
        self, when: int | datetime, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to the first record logged then or later, else the end, in each of these (all).

        when: milliseconds since 1970, or a datetime.  Returns the offsets that it went to.
        """
        return await self._reading.seek_to(f"@{milliseconds(when)}", partitions)

    # -- inside -----------------------------------------------------------------------------------

    async def _tell(self, *, leaving: bool = False) -> None:
        """Call back for all that has changed.  leaving: what comes now is not spoken of."""
        if self._telling:
            raise _in_a_callback()
        while (notice := self._inbox.notice()) is not None:
            if leaving and notice.kind == "assigned":
                return
            self._telling = True
            try:
                result = self._callback(notice)
                if inspect.isawaitable(result):
                    await result
            finally:
                self._telling = False
            self._inbox.noted(notice)


@told_by(AsyncConsumer)
class Consumer(_Words):
    """Records in, acknowledgements out.  `close` it, or use it in `with`; one thread at a time.

    bootstrap: HOST:PORT,… of brokers.  group: shares the partitions, and remembers.
    start: "beginning", "end" (the default), "stored", "error", an offset, -N (the last N records),
    a datetime, or {(topic, partition): offset}; in a group, only where it never acknowledged.
    on_gap: "beginning", "end" or "error", where what it wants was trimmed away.
    partitions: only these numbers; not in a group.  read_from: "any", "leader", a broker's id.
    commit: "after" (asking for the next acknowledges) or "manual" (`ack` does).
    on_assigned, on_revoked, on_lost: plain functions, called with [(topic, partition)] by `poll`.
    value_deserializer, key_deserializer: "json", "str", "bytes", or a function of the bytes.
    max_records: the most that a `poll` returns (500).  session_ms: silence after which the group
    takes this member for gone (10,000).  client: its name in lists and logs.
    max_bytes: of one fetch (1 MiB).  wait_ms: how long a broker holds one (500).
    metadata_max_age_ms: how soon new partitions are found (5,000).  verify: checksums, too.
    on_waiting: told each second why nothing can come.

    Raises ValueError for an option that makes no sense, YakError where it cannot begin.
    """

    def __init__(self, *topics: str, **options: Unpack[ConsumerOptions]) -> None:
        settings, self._callbacks = parse_options(options)
        forms = Deserializers(settings.value_deserializer, settings.key_deserializer)
        self._forms = forms if forms.any else None
        for name, callback in zip(Callbacks._fields, self._callbacks, strict=True):
            if inspect.iscoroutinefunction(callback):
                raise ValueError(f"on_{name} of a Consumer is a plain function: nothing awaits it")
        thread = LoopThread("yak-consumer")
        self._thread = thread
        try:
            self._reading = thread.call(_made(topics, settings, announces=self._callbacks.any()))
        except BaseException:
            thread.stop()
            raise
        self._inbox = self._reading.inbox
        self._inbox.consumer = weakref.proxy(self)
        self._is_started = False
        #: Held while callbacks are called: a `close` from another thread waits for them.
        self._calling = threading.RLock()
        self._telling = False
        self._finalizer = weakref.finalize(self, thread.stop)

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Register, or find the partitions, and begin to fetch; as AsyncConsumer."""
        if not self._is_started:
            self._thread.call(self._reading.start())
            self._is_started = True

    def close(self) -> None:
        """Let all partitions go, wait until what is handled is acknowledged, leave, close.

        As AsyncConsumer.
        """
        if not self._thread.alive:
            return
        try:
            with self._calling:
                if not (self._telling or self._reading.closed):
                    self._inbox.leave()
                    self._tell(leaving=True)
        finally:
            try:
                self._thread.call(self._reading.close())
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
        self._inbox.disown()
        try:
            self.close()
        except YakError as e:
            error.add_note(str(e))  # the block's own error matters more

    def on_loop(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop that does its work, and wait for it: to look how that is."""
        return self._thread.call(coro)

    # -- records ----------------------------------------------------------------------------------

    def poll(self, timeout: float | None = None, max_records: int | None = None) -> list[Record]:
        """Up to `max_records`, as soon as there is one; empty after `timeout` seconds.

        timeout: None waits for ever.  With `commit="after"` it acknowledges what the last poll
        returned.  Raises YakError where reading cannot go on, and what a callback raised.
        """
        self.start()
        most = self._reading.settings.max_records if max_records is None else max_records
        inbox = self._inbox
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if inbox.news:
                inbox.came_back()
                self._tell()
            records = self._formed(inbox.take(most))
            left = None if deadline is None else deadline - time.monotonic()
            if records or (left is not None and left <= 0 and not inbox.news):
                return records
            event = threading.Event()
            if inbox.when_ready(event.set) and not event.wait(left):
                inbox.not_ready(event.set)
                return []

    def __iter__(self) -> Iterator[Record]:
        """Records for ever, one by one."""
        self.start()
        take_one = self._inbox.take_one
        while True:
            record = take_one()
            if record is not None:
                yield record if self._forms is None else self._formed([record])[0]
            else:
                yield from self.poll(max_records=1)

    def ack(self, record: Record | None = None) -> None:
        """Acknowledge this record and all before it in its partition; None: all handed out.

        As AsyncConsumer.
        """
        self._call(self._reading.ack(record))

    def commit(self) -> None:
        """Wait until the cluster has acknowledged all that is handled."""
        self._call(self._reading.commit())

    # -- where to read ----------------------------------------------------------------------------

    def seek_to_beginning(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to the first record that is still there in each of these (all); to where."""
        return self._call(self._reading.seek_to("beginning", partitions))

    def seek_to_end(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to what comes from now on in each of these (all); to where."""
        return self._call(self._reading.seek_to("end", partitions))

    def seek_to_time(
        self, when: int | datetime, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """`seek` to the first record logged then or later, else the end, in each of these (all).

        when: milliseconds since 1970, or a datetime.  Returns the offsets that it went to.
        """
        return self._call(self._reading.seek_to(f"@{milliseconds(when)}", partitions))

    # -- inside -----------------------------------------------------------------------------------

    def _call(self, coro: Coroutine[Any, Any, T]) -> T:
        return self._thread.call(coro)

    def _tell(self, *, leaving: bool = False) -> None:
        """Call back for all that has changed.  leaving: what comes now is not spoken of."""
        with self._calling:
            if self._telling:
                raise _in_a_callback()
            while (notice := self._inbox.notice()) is not None:
                if leaving and notice.kind == "assigned":
                    return
                self._telling = True
                try:
                    self._callback(notice)
                finally:
                    self._telling = False
                self._inbox.noted(notice)


async def _made(topics: tuple[str, ...], settings: Settings, *, announces: bool) -> Reading:
    return Reading(topics, settings, announces=announces)


def _in_a_callback() -> RuntimeError:
    return RuntimeError("a callback of a consumer cannot poll it: return first")
