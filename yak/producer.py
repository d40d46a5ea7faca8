"""Producer and AsyncProducer: records in, acknowledged offsets out.

    with Producer(bootstrap="127.0.0.1:9092") as producer:
        sent = producer.send("orders", {"id": 1}, key="user-7")
        print(sent.result())            # RecordMetadata(topic, partition, offset, timestamp)
        producer.send_many("orders", values)
        producer.flush()

* `send` encodes the record, queues it and returns; a `Sent` is its receipt.  `send_many` encodes
  a whole list at once and gives one receipt for all: the fast way.
* A full buffer makes `send` wait (`max_block_ms`); nothing is ever dropped.
* With acks "all" every record is stored once and in the order of sending within its partition,
  through any number of leader changes, for `delivery_timeout` seconds.
* `flush` and `close` wait until everything has its outcome, and raise UndeliveredError with the
  records that were not acknowledged since the last of them.
* AsyncProducer does the work on the loop that it was made on.  Producer runs one on a thread of
  its own; any thread may use it.

What becomes of a batch on its way is `net.sender`'s; how batches are made, `core.batches`'.
There are no transactions and no compression.

One file of more than 400 lines, since the two say the same words, and are read side by side.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
import warnings
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack

from yak import errors
from yak.config import DEFAULT_BOOTSTRAP, FRAME_OVERHEAD_BYTES, Limits
from yak.core.batches import Accumulator, Batch, Full, Topic, Unlearned
from yak.core.partitioner import Partitioner, partition_of
from yak.core.pieces import Many, Piece, cut
from yak.core.records import Key, encode_record, key_bytes
from yak.core.serializers import Serializer, Serializers, check_form
from yak.errors import UndeliveredError, YakError
from yak.model import Headers, RecordMetadata, parse_addresses
from yak.net.cluster import Cluster, OnWaiting
from yak.net.loop_thread import LoopThread, told_by
from yak.net.receipts import AsyncSent, AsyncSentMany, Sent, SentMany, until_done
from yak.net.sender import Sender, SendingRules, Statistics

T = TypeVar("T")

#: No broker reads a larger frame, whatever its topics allow.
_MAX_RECORD_BYTES: Final = Limits().max_frame_bytes - FRAME_OVERHEAD_BYTES
#: How long `close` may take to say goodbye to the cluster, in seconds.
_GOODBYE_S: Final = 2.0


class ProducerOptions(TypedDict, total=False):
    """The options of Producer and AsyncProducer; `Settings` has their meanings and defaults."""

    bootstrap: str
    acks: Literal["all", 0, 1]
    linger_ms: float
    batch_bytes: int
    batch_records: int
    idempotent: bool | None
    delivery_timeout: float
    max_block_ms: float
    buffer_bytes: int
    client: str
    partitioner: Partitioner
    value_serializer: Serializer
    key_serializer: Serializer
    metadata_max_age_ms: float
    on_waiting: OnWaiting | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A producer's options."""

    #: HOST:PORT, several with commas between them.
    bootstrap: str = DEFAULT_BOOTSTRAP
    #: "all": every in-sync replica has it.  1: the leader has.  0: sent, and no more is known.
    acks: Literal["all", 0, 1] = "all"
    #: How long a batch that is not full waits for more records.
    linger_ms: float = 0
    #: A batch is sealed at these; keep it below the topic's `max_batch_bytes`.
    batch_bytes: int = 256 * 1024
    batch_records: int = 10_000
    #: Each record stored once, whatever is sent again.  None: yes with acks "all".
    idempotent: bool | None = None
    #: Seconds after which a record that was not acknowledged fails; registering counts, too.
    delivery_timeout: float = 120.0
    #: How long `send` may wait for room in the buffer, or for a topic's metadata.
    max_block_ms: float = 60_000
    #: Bytes of records that were sent and have no outcome.
    buffer_bytes: int = 64 * 1024 * 1024
    #: This producer's name in the brokers' logs.
    client: str = "yak-producer"
    #: (key bytes, partitions) -> partition, for records with a key.
    partitioner: Partitioner = partition_of
    #: "json", "str", "bytes", or a function of the value (the key) that returns JSON or bytes:
    #: core/serializers.py.  None is never given to it.
    value_serializer: Serializer = None
    key_serializer: Serializer = None
    #: How old an idle producer's knowledge of partitions may be.
    metadata_max_age_ms: float = 5000
    #: Told why, each second in which nobody acknowledges what waits to be: no broker answers, none
    #: leads, too few are in sync.  Called on the producer's loop, and must not block.
    on_waiting: OnWaiting | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_form("value_serializer", self.value_serializer)
        check_form("key_serializer", self.key_serializer)
        if self.acks not in ("all", 0, 1) or isinstance(self.acks, bool):
            raise ValueError(f'acks is "all", 1 or 0, not {self.acks!r}')
        if self.idempotent and self.acks != "all":
            raise ValueError(f'idempotent=True needs acks="all", not {self.acks!r}')
        for name in ("batch_bytes", "batch_records", "delivery_timeout", "buffer_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is above 0, not {getattr(self, name)!r}")
        if self.batch_bytes > _MAX_RECORD_BYTES:
            raise ValueError(
                f"batch_bytes is at most {_MAX_RECORD_BYTES}, since no frame is larger, "
                f"not {self.batch_bytes!r}"
            )
        for name in ("linger_ms", "max_block_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0, not {getattr(self, name)!r}")
        if self.metadata_max_age_ms < 1:
            raise ValueError("metadata_max_age_ms is at least 1")


class AsyncProducer:
    """As Producer, awaited, with the same options.  Made, used and closed on one event loop.

    `await send(…)` returns a receipt once the record is queued; `await sent.result()` says where
    it is.
    """

    def __init__(self, **options: Unpack[ProducerOptions]) -> None:
        self._settings = Settings(**options)
        settings = self._settings
        forms = Serializers(settings.value_serializer, settings.key_serializer)
        self._forms = forms if forms.any else None
        self._loop = asyncio.get_running_loop()
        self._accumulator = Accumulator(
            threading.Lock(),
            time.monotonic,
            batch_bytes=settings.batch_bytes,
            batch_records=settings.batch_records,
            buffer_bytes=settings.buffer_bytes,
        )
        self._cluster = Cluster(parse_addresses(settings.bootstrap), settings.client)
        idempotent = settings.acks == "all" and settings.idempotent is not False
        if settings.on_waiting is not None:
            self._cluster.on_waiting = settings.on_waiting
        self._sender = Sender(
            self._cluster,
            self._accumulator,
            SendingRules(
                acks=settings.acks,
                idempotent=idempotent,
                linger_s=settings.linger_ms / 1000,
                delivery_timeout_s=settings.delivery_timeout,
                metadata_max_age_s=settings.metadata_max_age_ms / 1000,
                client=settings.client,
            ),
        )
        self._woken = False
        self._closed = False

    @property
    def statistics(self) -> Statistics:
        """Records sent, acknowledged, retransmitted and lost so far."""
        statistics = self._sender.statistics
        statistics.sent = self._accumulator.taken
        return statistics

    @property
    def buffered_bytes(self) -> int:
        """Bytes of records that have no outcome yet; `buffer_bytes` bounds them."""
        return self._accumulator.buffered

    @property
    def leader(self) -> str | None:
        """The broker (HOST:PORT) that is believed to lead; None while nobody is."""
        leader = self._cluster.leader
        return None if leader is None else str(leader)

    async def send(
        self,
        topic: str,
        value: Any,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> AsyncSent:
        """Queue one record.  value: any JSON, or bytes; key: a string or bytes; both, with a
        serializer, what that takes.  timestamp: ms since 1970.

        Raises YakError INVALID_RECORD, UNKNOWN_TOPIC, INVALID_TOPIC, UNKNOWN_PARTITION, CLOSED;
        TimeoutError after `max_block_ms`.
        """
        if self._forms is not None:
            value, key = self._forms.value(value), self._forms.key(key)
        line = encode_record(value, key, headers, timestamp)
        if key is None and partition is None:
            placed = self._accumulator.add_to_open(topic, line)
            if placed is not None:
                return AsyncSent(placed[0], placed[1])
        since: float | None = None
        while True:
            try:
                return AsyncSent(*self._add(topic, line, key, partition, since))
            except Unlearned:
                since = await self._learn(topic)
            except Full:
                await self._room()

    async def send_and_wait(
        self,
        topic: str,
        value: Any,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> RecordMetadata:
        """Send one record and wait until it is acknowledged.  Raises the record's error."""
        sent = await self.send(topic, value, key, headers, partition, timestamp)
        return await sent.result()

    async def send_many(
        self,
        topic: str,
        values: Sequence[Any],
        key: Any = None,
        *,
        keys: Sequence[Any] | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> AsyncSentMany:
        """Queue many records: the fast way.  key: of all; keys: one for each.

        Raises as `send` does; what was queued before an error is on its way.
        """
        since = await self._learn(topic) if topic not in self._accumulator.topics else None
        sent = AsyncSentMany()
        for piece in self._cut(topic, Many(values, key, keys, headers, partition)):
            while True:
                try:
                    self._add_piece(sent, topic, piece, since)
                    break
                except Full:
                    await self._room()
        return sent

    async def flush(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as in Producer
        """Wait until all that was sent has its outcome, for at most `timeout` seconds.

        Raises UndeliveredError with what was not acknowledged since the last flush, also with
        what has no outcome yet when the time is over (that stays on its way).
        """
        waiting = list(self._accumulator.unfinished)
        self._accumulator.flushing += 1
        try:
            self._sender.pump_all()
            async with asyncio.timeout(timeout):
                for batch in waiting:
                    await until_done(batch)
        except TimeoutError:
            pending = [batch for batch in waiting if not batch.done]
        else:
            pending = []
        finally:
            self._accumulator.flushing -= 1
        self._raise_undelivered(pending)

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as in Producer
        """Flush, say goodbye to the cluster, close every connection.  Idempotent.

        Raises UndeliveredError as `flush` does; it is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        self._accumulator.accepting = False
        try:
            await self.flush(timeout)
        finally:
            await self._sender.close(_GOODBYE_S)
            self._accumulator.take_failed()
            await self._cluster.close()

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except UndeliveredError as e:
            if error is None:
                raise
            error.add_note(str(e))  # the block's own error matters more

    # -- shared with Producer, which calls these from other threads -------------------------------

    def _add(
        self, topic: str, line: bytes, key: Key, partition: int | None, since: float | None
    ) -> tuple[Batch, int]:
        """Queue one record now: its batch, and its place there.  Raises Unlearned and Full.

        since: when `_learn` began for it.
        """
        accumulator = self._accumulator
        known = accumulator.topics.get(topic)
        if known is None:
            raise Unlearned(topic)
        if partition is None and key is None and len(line) <= _MAX_RECORD_BYTES:
            number = known.sticky.partition
        else:
            number = self._partition(known, key, partition, len(line))
        if not accumulator.accepting:
            raise self._ended()
        place = accumulator.add(known, number, line, 1, since)
        if accumulator.dirty and not self._woken:
            self._wake()
        return place

    def _partition(self, topic: Topic, key: Key, partition: int | None, size: int) -> int:
        if size > _MAX_RECORD_BYTES:
            raise YakError(
                f"a record of {size} bytes fits into no frame (at most {_MAX_RECORD_BYTES})",
                name="BATCH_TOO_LARGE",
                hint="send a reference to large things, not the things",
            )
        partitions = topic.partitions
        if partition is None:
            if key is None:
                return topic.sticky.partition
            partition = self._settings.partitioner(key_bytes(key), partitions)
        if not 0 <= partition < partitions:
            raise YakError(
                f"{topic.name} has partitions 0 to {partitions - 1}, not {partition}",
                name="UNKNOWN_PARTITION",
            )
        return partition

    def _cut(self, topic: str, many: Many) -> Iterator[Piece]:
        known = self._accumulator.topic(topic)
        settings, forms = self._settings, self._forms
        if forms is not None:
            keys = None if many.keys is None else [forms.key(key) for key in many.keys]
            values = [forms.value(value) for value in many.values]
            many = many._replace(values=values, key=forms.key(many.key), keys=keys)
        return cut(
            many,
            lambda key: self._partition(known, key, None, 0),
            settings.batch_bytes,
            settings.batch_records,
        )

    def _add_piece(
        self, sent: SentMany | AsyncSentMany, topic: str, piece: Piece, since: float | None
    ) -> None:
        """Queue a piece now.  Raises Full."""
        partition, lines, places = piece
        known = self._accumulator.topic(topic)
        size = len(lines) if len(places) == 1 else 0
        number = self._partition(known, None, partition, size)
        if not self._accumulator.accepting:
            raise self._ended()
        sent.took(*self._accumulator.add(known, number, lines, len(places), since), places)
        if self._accumulator.dirty and not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._awake)
        except BaseException:  # a Ctrl-C just here must not leave the loop asleep
            self._woken = False
            raise

    def _awake(self) -> None:
        self._woken = False
        self._sender.pump_dirty()

    def _ended(self) -> YakError:
        if self._sender.fatal is not None:
            return copy.copy(self._sender.fatal)
        return YakError("this producer was closed", name="CLOSED", hint="make a new one")

    # -- waiting ----------------------------------------------------------------------------------

    async def _learn(self, topic: str) -> float:
        """Find out what there is to know of a topic, within the time of what waits for it.

        Returns when it began, since that time runs.
        """
        if not self._accumulator.accepting:
            raise self._ended()
        began = time.monotonic()
        timeout_s = min(self._settings.max_block_ms / 1000, self._settings.delivery_timeout)
        await self._sender.registration.topic(topic, timeout_s)
        return began

    async def _room(self) -> None:
        """Wait until the oldest batch has its outcome."""
        try:
            async with asyncio.timeout(self._settings.max_block_ms / 1000):
                for batch in list(self._accumulator.unfinished)[:1]:
                    self._sender.pump_all()
                    await until_done(batch)
        except TimeoutError as e:
            raise self._blocked() from e

    def _blocked(self) -> errors.TimeoutError:
        return errors.TimeoutError(
            f"the buffer of {self._settings.buffer_bytes} bytes was full for "
            f"{self._settings.max_block_ms:g} ms; last trouble: {self._cluster.trouble}",
            name="TIMEOUT",
            hint="the cluster does not keep up: `yak status`; or raise buffer_bytes, max_block_ms",
        )

    def _raise_undelivered(self, pending: list[Batch]) -> None:
        error = next((b.error for b in self._accumulator.failed if b.error is not None), None)
        records, unlisted = self._accumulator.take_failed()
        records += [record for batch in pending for record in batch.records()]
        if not records and not unlisted:
            return
        count = len(records) + unlisted
        more = f" ({unlisted} of them are not listed: too many)" if unlisted else ""
        why = error if error is not None else "no answer yet"
        raise UndeliveredError(f"{count} records were not acknowledged{more}: {why}", records)


@told_by(AsyncProducer)
class Producer:
    """Records out, sent again until acknowledged.  `close` it, or use it in `with`; any thread may.

    bootstrap: HOST:PORT,… of brokers.  client: its name in lists and logs.
    acks: "all" (every in-sync broker has it), 1 (the leader), 0 (nobody says).
    idempotent: each record is stored once, whatever is sent again; on with acks "all".
    linger_ms: how long a batch that is not full waits (0).  batch_bytes, batch_records: when it
    is full (256 KiB, 10,000).  buffer_bytes: what may wait for its outcome (64 MiB).
    max_block_ms: how long `send` waits for room, or for a topic (60,000).
    delivery_timeout: seconds after which a record that is not acknowledged fails (120).
    partitioner: (the key's bytes, how many partitions) -> partition, for records with a key.
    value_serializer, key_serializer: "json", "str", "bytes", or a function to JSON or bytes.
    metadata_max_age_ms: how soon it knows of new partitions (5,000).
    on_waiting: told each second why nobody acknowledges.

    Raises ValueError for an option that makes no sense.
    """

    def __init__(self, **options: Unpack[ProducerOptions]) -> None:
        Settings(**options)  # a bad option is an error before there is a thread
        thread = LoopThread("yak-producer")
        self._thread = thread
        try:
            self._producer = thread.call(_made(options))
        except BaseException:
            thread.stop()
            raise
        self._finalizer = weakref.finalize(self, _abandoned, thread, self._producer)

    @property
    def statistics(self) -> Statistics:
        """Records sent, acknowledged, retransmitted and lost so far."""
        return self._producer.statistics

    @property
    def buffered_bytes(self) -> int:
        """Bytes of records that have no outcome yet; `buffer_bytes` bounds them."""
        return self._producer.buffered_bytes

    @property
    def leader(self) -> str | None:
        """The broker (HOST:PORT) that is believed to lead; None while nobody is."""
        return self._producer.leader

    def on_loop(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop that does its work, and wait for it: to look how that is."""
        return self._thread.call(coro)

    def send(
        self,
        topic: str,
        value: Any,
        key: Any = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Sent:
        """Queue one record and return at once; as AsyncProducer.send, which says what it raises."""
        twin = self._producer
        if twin._forms is not None:
            value, key = twin._forms.value(value), twin._forms.key(key)
        line = encode_record(value, key, headers, timestamp)
        if key is None and partition is None:
            placed = twin._accumulator.add_to_open(topic, line)
            if placed is not None:
                return Sent(placed[0], placed[1])
        since: float | None = None
        while True:
            try:
                return Sent(*twin._add(topic, line, key, partition, since))
            except Unlearned:
                since = self._thread.call(twin._learn(topic))
            except Full:
                self._thread.call(twin._room())

    def send_many(
        self,
        topic: str,
        values: Sequence[Any],
        key: Any = None,
        *,
        keys: Sequence[Any] | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> SentMany:
        """Queue many records: the fast way.  key: of all; keys: one for each."""
        twin = self._producer
        learnt = topic in twin._accumulator.topics
        since = None if learnt else self._thread.call(twin._learn(topic))
        sent = SentMany()
        for piece in twin._cut(topic, Many(values, key, keys, headers, partition)):
            while True:
                try:
                    twin._add_piece(sent, topic, piece, since)
                    break
                except Full:
                    self._thread.call(twin._room())
        return sent

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent has its outcome; as AsyncProducer.flush."""
        self._thread.call(self._producer.flush(timeout))

    def close(self, timeout: float | None = None) -> None:
        """Flush, say goodbye, end the thread.  Idempotent.  Raises UndeliveredError."""
        if not self._thread.alive:
            return
        try:
            self._thread.call(self._producer.close(timeout))
        finally:
            self._finalizer.detach()
            self._thread.stop()

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except UndeliveredError as e:
            if error is None:
                raise
            error.add_note(str(e))  # the block's own error matters more


async def _made(options: ProducerOptions) -> AsyncProducer:
    return AsyncProducer(**options)


def _abandoned(thread: LoopThread, producer: AsyncProducer) -> None:
    unfinished = len(producer._accumulator.unfinished)
    if unfinished:
        warnings.warn(
            f"a Producer was not closed: {unfinished} batches may be lost; use it in `with`",
            ResourceWarning,
            stacklevel=2,
        )
    thread.stop()
