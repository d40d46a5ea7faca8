"""A consumer's records between the cluster and the application.

    fetched ──put──▶ chunks ──take──▶ handed out ──(more is asked for)──▶ handled ──▶ acked

    one partition:     acked      handled     next          fetch_at
    ───────────────────┼──────────┼───────────┼─────────────┼──────────▶ offsets
      the group knows  │ told the │ with the  │ fetched     │ not yet
                       │ leader   │ application             │ fetched

Rules:

* Invariant: acked ≤ handled ≤ next ≤ fetch_at; only records at or after `next` are ever handed
  out, so a replica that lags never makes a consumer go back.
* Asking for more says that what was handed out before is handled (`commit="after"`); with
  `commit="manual"` only `handled_up_to` says so.
* A partition that is taken away is *revoked*: its chunks are dropped, nothing more of it is
  handed out, and it is *released* once the application has come back for more and all that is
  handled has been acknowledged.  Only then may the group be told that it is not held any more.
* Records are decoded when they are taken, not before: what is revoked was not decoded in vain.

The application's thread takes while the fetching loop puts; one lock, which is given, is held
for every step.  It knows no sockets and no groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from yak.core.records import Chunk, decode_chunk
from yak.errors import YakError
from yak.model import Record, TopicPartition


@dataclass(eq=False, slots=True)
class Position:
    """One partition that this consumer reads; offsets as the module's drawing names them.

    out: the application has records of it and has not asked for more since.
    high_watermark: as last told by a broker; None before.
    """

    where: TopicPartition
    next: int
    handled: int
    acked: int
    fetch_at: int
    out: bool = False
    revoked: bool = False
    high_watermark: int | None = None

    @property
    def released(self) -> bool:
        """Revoked, and nothing of it is left to do."""
        return self.revoked and not self.out and self.acked >= self.handled


@dataclass(slots=True)
class _Open:
    """The chunk that is being handed out, decoded."""

    position: Position
    records: list[Record]
    end: int
    taken: int = 0


@dataclass(slots=True)
class _Waiters:
    ready: list[Callable[[], None]] = field(default_factory=list)

    def take(self) -> list[Callable[[], None]]:
        taken, self.ready = self.ready, []
        return taken


class Inbox:
    """See the module's text.

    commit_after: whether asking for more means that what was handed out is handled.
    room_bytes: fetching pauses while this much waits to be taken.
    on_progress: called, from the thread that takes, when the fetching loop has something to do:
    there is room again, or something to acknowledge or release.
    """

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        *,
        commit_after: bool,
        room_bytes: int,
        on_progress: Callable[[], None],
        consumer: object = None,
    ) -> None:
        self.positions: dict[TopicPartition, Position] = {}
        self.buffered = 0
        #: Raised to the application once all that was fetched has been taken.
        self.error: YakError | None = None
        #: Who is named by records, for their `ack`.
        self.consumer = consumer
        self._lock = lock
        self._commit_after = commit_after
        self._room_bytes = room_bytes
        self._on_progress = on_progress
        self._chunks: deque[tuple[Position, Chunk]] = deque()
        self._open: _Open | None = None
        #: Positions with `out` set.
        self._out: list[Position] = []
        self._waiters = _Waiters()
        #: The loop was told that something is handled, and has not collected it since.
        self._told = False

    # -- the fetching side ------------------------------------------------------------------------

    def assign(self, where: TopicPartition, offset: int) -> None:
        """Read this partition from `offset` on; one that is still held goes on where it was."""
        with self._lock:
            position = self.positions.get(where)
            if position is None:
                self.positions[where] = Position(where, offset, offset, offset, offset)
            else:
                position.revoked = False

    def revoke(self, wheres: Iterable[TopicPartition]) -> None:
        """Hand out nothing more of these; see `release`."""
        with self._lock:
            for where in wheres:
                position = self.positions[where]
                position.revoked = True
                position.fetch_at = position.next
            self._chunks = deque(
                (position, chunk) for position, chunk in self._chunks if not position.revoked
            )
            self.buffered = sum(len(chunk.body or b"") for _, chunk in self._chunks)
            if self._open is not None and self._open.position.revoked:
                self._open = None

    def release(self) -> list[TopicPartition]:
        """Forget the partitions that are released now."""
        with self._lock:
            gone = [where for where, position in self.positions.items() if position.released]
            for where in gone:
                del self.positions[where]
        return gone

    def forget(self) -> None:
        """This member is not in its group any more: it holds nothing."""
        with self._lock:
            for position in self.positions.values():
                position.revoked = True
            self.positions.clear()
            self._chunks.clear()
            self.buffered = 0
            self._open = None

    def wanted(self) -> list[tuple[str, int, int]]:
        """What to fetch next: [topic, partition, offset]; nothing while there is no room."""
        with self._lock:
            if self.buffered >= self._room_bytes:
                return []
            return [
                (*where, position.fetch_at)
                for where, position in self.positions.items()
                if not position.revoked
            ]

    def put(self, where: TopicPartition, asked: int, chunks: list[Chunk], end: int) -> None:
        """What a fetch from offset `asked` brought, and the high watermark told with it."""
        with self._lock:
            position = self.positions.get(where)
            if position is None or position.revoked or position.fetch_at != asked:
                return  # it was taken away, or moved, while the answer was on its way
            position.high_watermark = end
            for chunk in chunks:
                after = chunk.offset + chunk.span
                if after > position.fetch_at:
                    position.fetch_at = after
                    self._chunks.append((position, chunk))
                    self.buffered += len(chunk.body or b"")
            waiters = self._waiters.take() if chunks else []
        for waiter in waiters:
            waiter()

    def jump(self, where: TopicPartition, offset: int) -> None:
        """Go on from `offset`: what was asked for is not there any more."""
        with self._lock:
            position = self.positions.get(where)
            if position is not None and not position.revoked:
                assert offset >= position.fetch_at, "a consumer never goes back"
                position.fetch_at = offset
                waiting = any(other is position for other, _ in self._chunks)
                if not waiting and (self._open is None or self._open.position is not position):
                    position.next = offset

    def fail(self, error: YakError) -> None:
        """Let the application know, once it has taken what is there."""
        with self._lock:
            self.error = error
            waiters = self._waiters.take()
        for waiter in waiters:
            waiter()

    # -- acknowledging ----------------------------------------------------------------------------

    def to_acknowledge(self) -> list[tuple[str, int, int]]:
        """What is handled and not acknowledged: [topic, partition, next offset wanted].

        Whoever asks takes it on: `on_progress` is called again for what is handled from now on.
        """
        with self._lock:
            self._told = False
            return [
                (*where, position.handled)
                for where, position in self.positions.items()
                if position.handled > position.acked
            ]

    def acknowledged(self, offsets: Iterable[tuple[str, int, int]]) -> None:
        """The cluster has these."""
        with self._lock:
            for topic, partition, offset in offsets:
                position = self.positions.get((topic, partition))
                if position is not None:
                    position.acked = max(position.acked, offset)

    def handled_up_to(self, where: TopicPartition, offset: int) -> None:
        """The application has handled everything below `offset` in that partition."""
        with self._lock:
            position = self.positions.get(where)
            if position is not None:
                position.handled = max(position.handled, min(offset, position.next))

    def all_handled(self) -> None:
        """The application has handled everything that it was handed."""
        with self._lock:
            for position in self.positions.values():
                position.handled = position.next

    # -- the application's side -------------------------------------------------------------------

    def came_back(self) -> None:
        """The application asks for more: what it has, it has handled (or acknowledges itself)."""
        with self._lock:
            progress = self._settle()
        if progress:
            self._on_progress()

    def take(self, most: int) -> list[Record]:
        """Hand out up to `most` records, of those fetched; none: wait with `when_ready`.

        What was handed out before counts as `came_back`.  Raises `error` when nothing is left.
        """
        records: list[Record] = []
        with self._lock:
            progress = self._settle()
            before = self.buffered
            while len(records) < most and (self._open is not None or self._decode_next()):
                records += self._take_open(most - len(records))
            progress = progress or before >= self._room_bytes > self.buffered
            error = self.error if not records else None
        if progress:
            self._on_progress()
        if error is not None:
            raise error
        return records

    def take_one(self) -> Record | None:
        """As `take(1)`, for a loop over records: the common case costs next to nothing."""
        with self._lock:
            opened = self._open
            if opened is not None and opened.position.out and len(self._out) == 1:
                position, records, taken = opened.position, opened.records, opened.taken
                if taken + 1 < len(records) and (self._told or not self._commit_after):
                    if self._commit_after:
                        position.handled = position.next
                    record = records[taken]
                    opened.taken = taken + 1
                    position.next = record.offset + 1
                    return record
        records = self.take(1)
        return records[0] if records else None

    def when_ready(self, waiter: Callable[[], None]) -> bool:
        """Call `waiter` when there is something to take; False: there is already."""
        with self._lock:
            if self._open is not None or self._chunks or self.error is not None:
                return False
            self._waiters.ready.append(waiter)
            return True

    def at_end(self) -> bool:
        """Everything up to the high watermarks last told has been handed out."""
        with self._lock:
            return bool(self.positions) and all(
                position.high_watermark is not None and position.next >= position.high_watermark
                for position in self.positions.values()
                if not position.revoked
            )

    # -- inside, under the lock -------------------------------------------------------------------

    def _settle(self) -> bool:
        """What is out is handled; whether the loop has to be told."""
        if not self._out:
            return False
        news = self._commit_after and not self._told
        for position in self._out:
            position.out = False
            if self._commit_after:
                position.handled = position.next
            news = news or position.revoked
        self._out.clear()
        self._told = self._told or news
        return news

    def _decode_next(self) -> bool:
        while self._chunks:
            position, chunk = self._chunks.popleft()
            self.buffered -= len(chunk.body or b"")
            end = chunk.offset + chunk.span
            topic, partition = position.where
            records = decode_chunk(chunk, topic, partition, position.next, self.consumer)
            if records:
                self._open = _Open(position, records, end)
                return True
            position.next = max(position.next, end)  # nothing in it for the application
        return False

    def _take_open(self, most: int) -> list[Record]:
        opened = self._open
        assert opened is not None
        position, start = opened.position, opened.taken
        left = len(opened.records) - start
        if left <= most:
            records = opened.records[start:] if start else opened.records
            self._open = None
            position.next = max(position.next, opened.end)
        else:
            records = opened.records[start : start + most]
            opened.taken = start + most
            position.next = records[-1].offset + 1
        if not position.out:
            position.out = True
            self._out.append(position)
        return records
