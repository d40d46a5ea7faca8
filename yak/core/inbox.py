"""A consumer's records between the cluster and the application.

    fetched ──put──▶ chunks ──take──▶ handed out ──(more is asked for)──▶ handled ──▶ acked

Rules:

* Only records at or after `next` are ever handed out, so a replica that lags never makes a
  consumer go back; only a `seek` does.
* Asking for more says that what was handed out before is handled (`commit="after"`); with
  `commit="manual"` only `handled_up_to` and `all_handled` say so.
* While there is something to tell the application, nothing is handed out: it hears of a partition
  before it sees a record of it, and that one goes before it sees any more of others.
* What is revoked or sought away from is dropped; what is paused is parked, as long as there is
  room, and handed out when it is resumed.
* An answer belongs to one stay of a partition at one offset; else it came too late and is dropped.
* A member whose session may have lapsed hands out nothing before it has heard that it still stands:
  what it holds may be another's by now.
* Records are decoded when they are taken, not before: what is dropped was not decoded in vain.

The application's thread takes while the fetching loop puts; one lock, which is given, is held
for every step.  How far each partition has got is positions.py's.  It knows no sockets and no
groups.

One file of more than 400 lines, since everything in it is done under that one lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from yak.core.positions import FetchPlan, Notice, Place, Position, Positions
from yak.core.records import Chunk, decode_chunk
from yak.errors import YakError
from yak.model import Record, TopicPartition


@dataclass(slots=True)
class _Open:
    """The chunk that is being handed out, decoded."""

    position: Position
    chunk: Chunk
    records: list[Record]
    taken: int = 0


class Inbox:
    """See the module's text.

    commit_after: whether asking for more means that what was handed out is handled.
    room_bytes: fetching pauses while this much waits to be taken.
    announces: whether the application wants to be told what comes and goes: see `notice`.
    on_progress: called, from the thread that takes, when the fetching loop has something to do:
    there is room again, something to acknowledge or release, or the session to be renewed.
    clock: that of `renewed`, in seconds.
    """

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        *,
        commit_after: bool,
        room_bytes: int,
        on_progress: Callable[[], None],
        announces: bool = False,
        clock: Callable[[], float] = lambda: 0.0,
        consumer: object = None,
    ) -> None:
        self.buffered = 0
        #: Raised to the application once all that was fetched has been taken.
        self.error: YakError | None = None
        #: Who is named by records, for their `ack`.
        self.consumer = consumer
        #: Something was asked for after the session may have lapsed.
        self.held_back = False
        self._lapses_at = float("inf")
        self._clock = clock
        self._lock = lock
        self._commit_after = commit_after
        self._room_bytes = room_bytes
        self._on_progress = on_progress
        self._held = Positions(announces=announces)
        #: In the order of arrival; None stands where the error of a stuck partition is raised.
        self._chunks: deque[tuple[Position, Chunk | None]] = deque()
        self._open: _Open | None = None
        #: Bytes that are parked.  Invariant: at most `room_bytes`.
        self._parked = 0
        #: Positions with `out` set.
        self._out: list[Position] = []
        #: Lost while the application had records of them, which it may want to acknowledge.
        self._lost_in_hand: list[TopicPartition] = []
        self._waiters: list[Callable[[], None]] = []
        self._disowned = self._leaving = False
        #: The loop was told that something is handled, and has not collected it since.
        self._told = False

    @property
    def positions(self) -> dict[TopicPartition, Position]:
        """What is held, also what is revoked and not yet released."""
        return self._held.held

    @property
    def news(self) -> bool:
        """Whether there may be a `notice`."""
        return self._held.news

    # -- what comes and goes ----------------------------------------------------------------------

    def assign(self, where: TopicPartition, offset: int, topic_id: str = "") -> Position:
        """Read this partition, which is not held, from `offset` on."""
        with self._lock:
            position = self._held.add(where, offset, topic_id)
            if self._leaving:
                self._held.revoke(position)
            waiters = self._take_waiters(any_news=self._held.news)
        _call(waiters)
        return position

    def keep(self, where: TopicPartition) -> None:
        """This one, if it was to go, stays, and goes on where it was."""
        with self._lock:
            if not self._leaving:
                self._held.keep(self._held.held[where])
            waiters = self._take_waiters(any_news=self._held.news)
        _call(waiters)

    def revoke(self, wheres: Iterable[TopicPartition]) -> None:
        """Hand out nothing more of these; see `release`."""
        with self._lock:
            positions = [self._held.held[where] for where in wheres]
            self._drop(positions)
            for position in positions:
                self._held.revoke(position)
            waiters = self._take_waiters(any_news=self._held.news)
        _call(waiters)

    def release(self) -> list[TopicPartition]:
        """Forget the partitions that are released now."""
        with self._lock:
            return self._held.release()

    def lose(self, wheres: Iterable[TopicPartition]) -> None:
        """These are not this consumer's any more, and nothing of them can be acknowledged."""
        with self._lock:
            positions = [self._held.held[where] for where in wheres]
            self._drop(positions)
            for position in positions:
                if position.done > position.handled:
                    self._lost_in_hand.append(position.where)
                self._held.lose(position)
            waiters = self._take_waiters(any_news=self._held.news)
        _call(waiters)

    def forget(self) -> None:
        """This member is not in its group any more: it holds nothing."""
        self.lose(list(self._held.held))

    def renewed(self, lapses_at: float) -> None:
        """What is held is this member's for sure until then, by the clock."""
        with self._lock:
            self._lapses_at = lapses_at
            waiters = self._take_waiters(any_news=self.held_back)
            self.held_back = False
        _call(waiters)

    def leave(self) -> None:
        """The application is about to close: it lets everything go, and takes nothing more."""
        self._leaving = True
        self.revoke(list(self._held.held))

    def disown(self) -> None:
        """The application failed: nobody knows what it has handled of what it was handed."""
        self._disowned = True

    def close(self, error: YakError) -> None:
        """Nothing is held, told or handed out any more; whoever asks is raised the error."""
        with self._lock:
            for position in list(self._held.held.values()):
                position.told = False
                self._held.lose(position)
            self._held = Positions(announces=False)
            self._chunks.clear()
            self._open = None
            self.buffered = self._parked = 0
        self.fail(error)

    # -- what the application is told -------------------------------------------------------------

    def notice(self) -> Notice | None:
        """What the application is to be told next; say `noted` when it has been."""
        with self._lock:
            return self._held.notice()

    def noted(self, notice: Notice) -> None:
        with self._lock:
            self._held.noted(notice)
            if notice.kind == "lost":
                self._lost_in_hand.clear()
        self._on_progress()  # what was revoked may be released

    # -- the fetching side ------------------------------------------------------------------------

    def hungry(self) -> bool:
        """Whether there is room, and a partition to fill it from."""
        with self._lock:
            return self.buffered < self._room_bytes and self._held.wants()

    def plan(self, version: int) -> FetchPlan | None:
        """What to fetch next; None where nobody is hungry.  version: as `Positions.plan`."""
        with self._lock:
            if self.buffered >= self._room_bytes or not self._held.wants():
                return None
            return self._held.plan(version)

    def put(self, position: Position, asked: int, chunks: Sequence[Chunk], end: int) -> None:
        """What a fetch from offset `asked` brought, and the high watermark told with it."""
        with self._lock:
            if not position.wanted or position.fetch_at != asked:
                return  # it was taken away, or moved, while the answer was on its way
            position.high_watermark = end
            for chunk in chunks:
                after = chunk.offset + chunk.span
                if after > position.fetch_at:
                    self._held.move(position, after)
                    self._chunks.append((position, chunk))
                    self.buffered += len(chunk.body or b"")
            waiters = self._take_waiters(any_news=bool(chunks))
        _call(waiters)

    def jump(self, position: Position, asked: int, offset: int) -> bool:
        """Go on from `offset`: what was asked for is not there any more.  False: it came late."""
        with self._lock:
            if not position.wanted or position.fetch_at != asked:
                return False
            assert offset >= asked, "a consumer never goes back"
            self._held.move(position, offset)
            if self._has_chunks(position):
                self._chunks.append((position, Chunk(asked, offset - asked, 0, 0, None)))
            else:
                position.next = offset
            return True

    def stick(self, position: Position, asked: int, error: YakError) -> None:
        """It cannot be read on: the application hears of it once it has what was fetched.

        It is raised again whenever there is nothing else to hand out, until it is sought
        elsewhere in that partition.
        """
        with self._lock:
            if not position.wanted or position.fetch_at != asked:
                return
            self._held.stick(position, error)
            self._chunks.append((position, None))
            waiters = self._take_waiters()
        _call(waiters)

    def suspect(self, position: Position) -> None:
        """The replicas do not know it: do not fetch it before that is cleared up."""
        with self._lock:
            if position.wanted:
                position.unknown = True
                self._held.changed_wants()

    def trust(self) -> list[TopicPartition]:
        """Those that were suspected are there all the same."""
        with self._lock:
            suspected = [one for one in self._held.held.values() if one.unknown]
            for position in suspected:
                position.unknown = False
                self._held.changed_wants()
            return [position.where for position in suspected]

    def fail(self, error: YakError) -> None:
        """Let the application know, once it has taken what is there."""
        with self._lock:
            self.error = error
            waiters = self._take_waiters()
        _call(waiters)

    # -- acknowledging ----------------------------------------------------------------------------

    def to_acknowledge(self) -> list[Place]:
        """What is handled and not acknowledged, with the next offset that is wanted.

        Whoever asks takes it on: `on_progress` is called again for what is handled from now on.
        """
        with self._lock:
            self._told = False
            return self._held.to_acknowledge()

    def acknowledged(self, places: Iterable[Place]) -> None:
        """The cluster has these."""
        with self._lock:
            for position, offset in places:
                position.acked = max(position.acked, offset)

    def refused(self, position: Position) -> None:
        """The cluster will not have it, now or later: it stays unacknowledged."""
        with self._lock:
            position.handled = position.acked

    def handled_up_to(self, where: TopicPartition, offset: int) -> bool:
        """The application has handled everything below `offset` there.  False: it is not held."""
        with self._lock:
            position = self._held.held.get(where)
            if position is None:
                return False
            self._held.handle(position, min(offset, position.handed))
            return True

    def all_handled(self) -> list[TopicPartition]:
        """The application has handled everything up to where it stands: what a seek skipped, too.

        Returns, once, the partitions of which it had records when they were lost.
        """
        with self._lock:
            for position in self._held.held.values() if not self._disowned else ():
                if position.handed < position.next <= (position.high_watermark or 0):
                    position.handed = position.next
                self._held.handle(position, position.done)
            lost, self._lost_in_hand = self._lost_in_hand, []
            return lost

    # -- the application's side -------------------------------------------------------------------

    def came_back(self) -> None:
        """The application asks for more: what it has, it has handled (or acknowledges itself)."""
        with self._lock:
            progress = self._settle()
        if progress:
            self._on_progress()

    def take(self, most: int) -> list[Record]:
        """Hand out up to `most` records, of those fetched; none: wait with `when_ready`.

        What was handed out before counts as `came_back`.  Raises what stands in the way.
        """
        records: list[Record] = []
        error: YakError | None = None
        with self._lock:
            progress = self._settle()
            before = self.buffered
            if self._may_be_anothers():
                progress = True
            elif not self._held.news:
                while len(records) < most and (self._open is not None or self._decode_next()):
                    records += self._take_open(most - len(records))
                error = self._in_the_way() if not records else None
            progress = progress or before >= self._room_bytes > self.buffered
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
                quick = self._told or not self._commit_after
                quick = quick and not self._held.news and self._clock() < self._lapses_at
                if quick and taken + 1 < len(records):
                    if self._commit_after and (done := position.done) > position.handled:
                        position.handled = done
                        self._held.dirty[position] = None
                    record = records[taken]
                    opened.taken = taken + 1
                    position.next = after = record.offset + 1
                    if after > position.handed:
                        position.handed = after
                    return record
        records = self.take(1)
        return records[0] if records else None

    def when_ready(self, waiter: Callable[[], None]) -> bool:
        """Call `waiter` when there is something to take or to tell; False: there is already."""
        with self._lock:
            if self._held.news:
                return False
            if self.held_back:
                self._waiters.append(waiter)
                return True
            if self._open is not None or self._chunks:
                return False
            if self.error is not None or self._held.stuck() is not None:
                return False
            self._waiters.append(waiter)
            return True

    def not_ready(self, waiter: Callable[[], None]) -> None:
        """Nobody waits any more."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def at_end(self) -> bool:
        """Everything up to the high watermarks last told has been handed out."""
        with self._lock:
            held = self._held.held
            return bool(held) and all(
                position.high_watermark is not None and position.next >= position.high_watermark
                for position in held.values()
                if not position.revoked
            )

    def seek(self, position: Position, offset: int, end: int | None = None) -> None:
        """Hand out from `offset` next; what was fetched is dropped.

        Acknowledges nothing.  What the application has, from `offset` on, it has not handled.

        end: the high watermark, where it is known.
        """
        with self._lock:
            if position.revoked:
                return  # nothing more of it is handed out anyway
            self._drop([position])
            position.next = offset
            if end is not None:
                position.high_watermark = max(end, position.high_watermark or 0)
            self._held.unstick(position)
            self._held.move(position, offset)
            self._held.changed_wants()

    def pause(self, position: Position) -> None:
        """Hand out and fetch nothing of it until `resume`."""
        with self._lock:
            if position.revoked or position.paused:
                return
            chunks = self._withdraw([position])
            size = sum(len(chunk.body or b"") for chunk in chunks)
            if self._parked + size <= self._room_bytes:
                position.parked = chunks
                self._parked += size
            else:
                position.fetch_at = position.next
            position.paused = True
            self._held.changed_wants()

    def resume(self, position: Position) -> None:
        """Go on where it was paused."""
        with self._lock:
            if not position.paused:
                return
            position.paused = False
            chunks = self._unpark(position)
            self._chunks.extend((position, chunk) for chunk in chunks)
            self.buffered += sum(len(chunk.body or b"") for chunk in chunks)
            if position.stuck is not None:
                self._chunks.append((position, None))
            self._held.changed_wants()

    # -- inside, under the lock -------------------------------------------------------------------

    def _may_be_anothers(self) -> bool:
        """Whether what is held may have been given away: see `renewed`.  Not what was lost."""
        self.held_back = bool(self._held.held) and self._clock() >= self._lapses_at
        return self.held_back

    def _settle(self) -> bool:
        """What is out is handled; whether the loop has to be told."""
        if self._commit_after:
            self._lost_in_hand.clear()
        if not self._out:
            return False
        news = self._commit_after and not self._told
        for position in self._out:
            position.out = False
            if self._commit_after:
                self._held.handle(position, position.done)
            news = news or position.revoked
        self._out.clear()
        self._told = self._told or news
        return news

    def _decode_next(self) -> bool:
        while self._chunks and self._chunks[0][1] is not None:
            position, chunk = self._chunks.popleft()
            assert chunk is not None
            self.buffered -= len(chunk.body or b"")
            topic, partition = position.where
            records = decode_chunk(chunk, topic, partition, position.next, self.consumer)
            if records:
                self._open = _Open(position, chunk, records)
                return True
            position.next = max(position.next, chunk.offset + chunk.span)  # nothing to hand out
        return False

    def _take_open(self, most: int) -> list[Record]:
        opened = self._open
        assert opened is not None
        position, start = opened.position, opened.taken
        left = len(opened.records) - start
        if left <= most:
            records = opened.records[start:] if start else opened.records
            self._open = None
            position.next = max(position.next, opened.chunk.offset + opened.chunk.span)
        else:
            records = opened.records[start : start + most]
            opened.taken = start + most
            position.next = records[-1].offset + 1
        position.handed = max(position.handed, position.next)
        if not position.out:
            position.out = True
            self._out.append(position)
        return records

    def _in_the_way(self) -> YakError | None:
        """Why nothing can be handed out, if there is more to say than that nothing came."""
        if self._chunks and self._chunks[0][1] is None:
            return self._chunks.popleft()[0].stuck
        return None if self._chunks else self.error or self._held.stuck()

    def _has_chunks(self, position: Position) -> bool:
        return (self._open is not None and self._open.position is position) or any(
            other is position for other, _ in self._chunks
        )

    def _withdraw(self, positions: Collection[Position]) -> list[Chunk]:
        """Take their chunks out, in order; also what is left of the one that is handed out."""
        taken: list[Chunk] = []
        if self._open is not None and self._open.position in positions:
            taken.append(self._open.chunk)
            self._open = None
        mine = [chunk for other, chunk in self._chunks if other in positions]
        if mine:
            self._chunks = deque(pair for pair in self._chunks if pair[0] not in positions)
            kept = [chunk for chunk in mine if chunk is not None]
            self.buffered -= sum(len(chunk.body or b"") for chunk in kept)
            taken += kept
        return taken

    def _drop(self, positions: Iterable[Position]) -> None:
        """Forget what was fetched of them."""
        positions = set(positions)
        self._withdraw(positions)
        for position in positions:
            self._unpark(position)

    def _unpark(self, position: Position) -> list[Chunk]:
        chunks, position.parked = position.parked, []
        self._parked -= sum(len(chunk.body or b"") for chunk in chunks)
        return chunks

    def _take_waiters(self, *, any_news: bool = True) -> list[Callable[[], None]]:
        if not any_news:
            return []
        taken, self._waiters = self._waiters, []
        return taken


def _call(waiters: list[Callable[[], None]]) -> None:
    for waiter in waiters:
        waiter()
