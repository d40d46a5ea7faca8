"""A producer's records before they are acknowledged: batches, queued by partition.

    topic ─┬─ partition 0: queue [sealed][sealed] + open batch ◀── records are added here
           ├─ partition 1: queue                  + open batch
           └─ …

Rules:

* A record is added, already encoded, to its partition's open batch.  A batch is sealed when the
  next record does not fit, and goes out in order; an open one goes out once it is `linger` old.
* A batch has one outcome, once: acknowledged (with the offset of its first record) or an error.
  Then its bytes are let go, and those who wait for it are told.
* The bytes of all batches without an outcome are bounded; a record that does not fit is not
  taken (`Full`), and whoever adds it decides how to wait.
* Records without a key stay with one partition until its batch is sealed or sent.

Threads add while the sender's loop takes: everything here that changes is done under one lock.
The lock and the clock are given.  A Ctrl-C may end the adding thread's call at any call that it
makes itself: what belongs together is changed without one in between.  It sends nothing and
waits for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from yak.core.partitioner import Sticky
from yak.core.records import Chunk, decode_chunk
from yak.errors import YakError
from yak.model import Record


class Unlearned(Exception):  # noqa: N818 -- it says what is the case
    """Nothing is known of this topic yet: how many partitions it has must be asked first."""


class Full(Exception):  # noqa: N818 -- it says what is the case
    """The buffer has no room for this now."""


class Batch:
    """Records of one partition that are sent, stored and acknowledged together.

    count: of records.  size: of their lines, in bytes.  made_at: when the first was added.
    done: it has its outcome: `error`, or else `offset` and `timestamp` (None with acks 0).
    Invariant: once `done`, nothing changes any more.
    """

    __slots__ = (
        "_body",
        "accumulator",
        "count",
        "done",
        "error",
        "made_at",
        "offset",
        "partition",
        "parts",
        "size",
        "timestamp",
        "topic",
        "waiters",
    )

    def __init__(
        self, accumulator: Accumulator, topic: str, partition: int, made_at: float
    ) -> None:
        #: Whose it is; there one waits for its outcome.
        self.accumulator = accumulator
        self.topic = topic
        self.partition = partition
        self.made_at = made_at
        self.count = 0
        self.size = 0
        self.done = False
        self.error: YakError | None = None
        self.offset: int | None = None
        self.timestamp: int | None = None
        #: Called once, by whoever gives it its outcome.
        self.waiters: list[Callable[[], None]] = []
        #: The lines so far; empty once `body` was asked for.
        self.parts: list[bytes] = []
        self._body: bytes | None = None

    @property
    def body(self) -> bytes:
        """All lines; nothing is added after this was asked for."""
        if self._body is None:
            self._body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            self.parts = []
        return self._body

    def release(self) -> None:
        """Let the bytes go."""
        self.parts = []
        self._body = b""

    def records(self) -> list[Record]:
        """Its records, decoded again, with offset -1."""
        records = decode_chunk(Chunk(0, self.count, 0, 0, self.body), self.topic, self.partition)
        for record in records:
            record.offset = -1
        return records


class Queue:
    """One partition's batches that were never sent: `sealed` ones, then the open one."""

    __slots__ = ("open", "partition", "sealed", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.sealed: deque[Batch] = deque()
        self.open: Batch | None = None


class Topic:
    """A topic as a producer sees it: a queue for each partition.

    topic_id: which topic of that name it is.  partitions: how many it has.
    Invariant: there are at least as many queues; those beyond belonged to a topic of that name
    that was deleted, and had more.  A thread that adds may still be about to use one.
    """

    __slots__ = ("name", "partitions", "queues", "sticky", "topic_id")

    def __init__(self, name: str, partitions: int, first: int, topic_id: str = "") -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions
        self.queues = [Queue(name, number) for number in range(partitions)]
        self.sticky = Sticky(first)

    def grow(self, partitions: int) -> None:
        """It has more partitions now; never fewer."""
        for number in range(len(self.queues), partitions):
            self.queues.append(Queue(self.name, number))
        self.partitions = max(self.partitions, partitions)

    def made_again(self, topic_id: str, partitions: int) -> None:
        """It was deleted, and this is the topic that has its name now."""
        self.topic_id = topic_id
        self.grow(partitions)
        self.partitions = partitions
        self.sticky = Sticky(self.sticky.partition % partitions)


class Accumulator:
    """See the module's text.

    lock: held by every method while it changes anything.  clock: seconds, monotonic.
    batch_bytes, batch_records: where a batch is sealed; a single larger record has a batch of
    its own.  buffer_bytes: of all batches without an outcome.
    Invariant: `buffered` is the sum of the sizes in `unfinished`.
    """

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        clock: Callable[[], float],
        *,
        batch_bytes: int,
        batch_records: int,
        buffer_bytes: int,
    ) -> None:
        self.topics: dict[str, Topic] = {}
        self.buffered = 0
        #: Records that were ever added.
        self.taken = 0
        #: Batches without an outcome, in order of making.
        self.unfinished: dict[Batch, None] = {}
        #: Batches that failed since they were last asked for, up to buffer_bytes, and how many
        #: records more.
        self.failed: list[Batch] = []
        self.failed_unlisted = 0
        #: Whether more may be added: `add_to_open` asks, and whoever calls `add` has asked.
        self.accepting = True
        #: Open batches go out whatever their age while this is above zero.
        self.flushing = 0
        #: Queues that have something new, for the sender to look at.
        self.dirty: set[Queue] = set()
        self._lock = lock
        self._clock = clock
        self._batch_bytes = batch_bytes
        self._batch_records = batch_records
        self._buffer_bytes = buffer_bytes
        self._failed_bytes = 0

    def topic(self, name: str) -> Topic:
        """Raises Unlearned."""
        topic = self.topics.get(name)
        if topic is None:
            raise Unlearned(name)
        return topic

    def add(
        self, topic: Topic, partition: int, lines: bytes, count: int, since: float | None = None
    ) -> tuple[Batch, int]:
        """Queue records that fit into one batch: that batch, and the place of the first in it.

        since: their time runs since then; now, if left out.  Raises Full.  `dirty` is not empty
        afterwards if the sender has to be woken.
        """
        size = len(lines)
        with self._lock:
            if self.buffered + size > self._buffer_bytes and self.buffered:
                raise Full
            queue = topic.queues[partition]
            batch = queue.open
            if batch is None or (
                batch.size + size > self._batch_bytes or batch.count + count > self._batch_records
            ):
                batch = self._begin(topic, queue, since)
            place = batch.count
            batch.count = place + count
            batch.size += size
            self.buffered += size
            self.taken += count
            batch.parts.append(lines)
            return batch, place

    def add_to_open(self, name: str, line: bytes) -> tuple[Batch, int] | None:
        """As `add`, for a record without a key or partition, where its topic is known and a batch
        is open there and has room.  None otherwise; then nothing was done.

        Nearly every record that is sent alone goes this way.  It says again what `add` does, since
        each call costs as much as all that is counted here.
        """
        topic = self.topics.get(name)
        if topic is None:
            return None
        size = len(line)
        with self._lock:
            batch = topic.queues[topic.sticky.partition].open
            if batch is None or not self.accepting:
                return None
            place, filled, buffered = batch.count, batch.size + size, self.buffered + size
            if (
                place >= self._batch_records
                or filled > self._batch_bytes
                or buffered > self._buffer_bytes
            ):
                return None
            batch.count = place + 1
            batch.size = filled
            self.buffered = buffered
            self.taken += 1
            batch.parts.append(line)
            return batch, place

    def _begin(self, topic: Topic, queue: Queue, since: float | None) -> Batch:
        full = queue.open
        made_at = self._clock() if since is None else since
        batch = Batch(self, queue.topic, queue.partition, made_at)
        self.unfinished[batch] = None
        self.dirty |= {queue}
        queue.open = batch
        if full is not None:
            queue.sealed += (full,)
            topic.sticky.move_on(topic.partitions, queue.partition)
        return batch

    def take(self, queue: Queue, now: float, linger: float) -> Batch | None:
        """The next batch to send, if one is ready."""
        with self._lock:
            if queue.sealed:
                return queue.sealed.popleft()
            batch = queue.open
            if batch is None or (not self.flushing and now - batch.made_at < linger):
                return None
            queue.open = None
            topic = self.topics[queue.topic]
            topic.sticky.move_on(topic.partitions, queue.partition)
            return batch

    def take_expired(self, queue: Queue, made_before: float) -> list[Batch]:
        """Batches made before that time which were never sent: they are no longer queued."""
        expired: list[Batch] = []
        with self._lock:
            while queue.sealed and queue.sealed[0].made_at <= made_before:
                expired.append(queue.sealed.popleft())
            if not queue.sealed and queue.open and queue.open.made_at <= made_before:
                expired.append(queue.open)
                queue.open = None
        return expired

    def take_dirty(self) -> set[Queue]:
        """The queues that have something new since the last time."""
        with self._lock:
            dirty, self.dirty = self.dirty, set()
        return dirty

    def oldest(self, queue: Queue) -> float | None:
        """When the oldest batch that was never sent was made."""
        if queue.sealed:
            return queue.sealed[0].made_at
        return None if queue.open is None else queue.open.made_at

    def finish(
        self,
        batch: Batch,
        *,
        offset: int | None = None,
        timestamp: int | None = None,
        error: YakError | None = None,
    ) -> None:
        """Give a batch its outcome, and tell those who wait for it."""
        with self._lock:
            assert not batch.done, "one outcome, once"
            batch.offset, batch.timestamp, batch.error = offset, timestamp, error
            batch.done = True
            waiters, batch.waiters = batch.waiters, []
            del self.unfinished[batch]
            self.buffered -= batch.size
            if error is None:
                batch.release()
            else:
                self._keep(batch)
        for waiter in waiters:
            waiter()

    def when_done(self, batch: Batch, waiter: Callable[[], None]) -> bool:
        """Call `waiter` at the outcome; False: there is one already, it is not called."""
        with self._lock:
            if batch.done:
                return False
            batch.waiters.append(waiter)
            return True

    def take_failed(self) -> tuple[list[Record], int]:
        """Records that failed since the last time, and how many more are not kept."""
        with self._lock:
            failed, self.failed = self.failed, []
            unlisted, self.failed_unlisted = self.failed_unlisted, 0
            self._failed_bytes = 0
        return [record for batch in failed for record in batch.records()], unlisted

    def _keep(self, batch: Batch) -> None:
        if self._failed_bytes + batch.size > self._buffer_bytes:
            self.failed_unlisted += batch.count
            batch.release()
        else:
            self._failed_bytes += batch.size
            self.failed.append(batch)
