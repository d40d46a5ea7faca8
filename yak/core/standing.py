"""Fetches that stand: what a connection reads is kept here, so that asking again is one word.

    session "new"     the partitions and offsets of any fetch; from now on they are kept
    session "same"    only the partitions whose offset has moved since; the others go on as kept
                      ── answered with those alone that have something to say

Without it a reader of a hundred partitions in which little happens would name all hundred, and be
answered about all hundred, for each single record.

Rules:

* `ready` holds every kept partition that has a record at or after its offset, or an error, and
  perhaps some that have nothing any more: each is looked at again before it is answered.  So
  neither a request nor a record costs more for the partitions in which nothing happens.
* Partitions take turns: one whose offset moved goes behind those that are ready already, and so
  does one whose error was told.  What an answer had no room for is the first of the next.
* An answer to "same" speaks of a hundred partitions (`ANSWERED_AT_ONCE`): more would have no room
  for their records, and cost both sides the more, the more there are.
* One request at a time: a further one, or a new set, ends the wait of the one before, empty.
* A set is looked at whole now and then (`LOOK_AGAIN_S`), and before an answer that says nothing.
  What the rule of `ready` might miss would cost that long, and no record.

What one partition has to say is judged by `Reads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from msgspec import UNSET

from yak import messages as m
from yak.core.deadlines import Deadlines
from yak.errors import Refused
from yak.model import TopicPartition

#: How long a set may go without being looked at whole, in seconds.
LOOK_AGAIN_S: Final = 1.0
#: Partitions in one answer to "same".
ANSWERED_AT_ONCE: Final = 100


_NO_IDS: Final[m.TopicIds] = {}


class Found(NamedTuple):
    """What a partition has to say to a fetch.  offset: where there are records, else None."""

    entry: m.FetchEntry
    offset: int | None

    @property
    def news(self) -> bool:
        return self.offset is not None or self.entry.error is not UNSET


#: (topic, partition, offset, the topic ids that the client knows, cut off) -> what there is.
Look: TypeAlias = Callable[[str, int, int, m.TopicIds, bool], Found]
#: Answer (connection, request) with these.
Send: TypeAlias = Callable[[int, m.Fetch, "list[Found]"], None]


class _Set:
    """What one connection reads.

    request: the one that waits, if one does.  whole: it is answered with every partition.
    """

    def __init__(self, conn: int, request: m.Fetch, now: float) -> None:
        self.conn = conn
        self.offsets: dict[TopicPartition, int] = {
            (topic, partition): offset for topic, partition, offset in request.partitions
        }
        self.topic_ids = ids(request)
        #: In the order in which they take turns.
        self.ready: dict[TopicPartition, None] = {}
        self.request: m.Fetch | None = None
        self.whole = True
        self.looked_at = now


class Standing:
    """The sets of all connections."""

    def __init__(self, look: Look, send: Send) -> None:
        self._look = look
        self._send = send
        self._by_conn: dict[int, _Set] = {}
        #: Invariant: a set stands under its connection and under each of its partitions.
        self._by_partition: dict[TopicPartition, dict[_Set, None]] = {}
        #: (set, the request that waited when this was noted)
        self._deadlines: Deadlines[tuple[_Set, m.Fetch]] = Deadlines(
            lambda waiting: waiting[0].request is waiting[1]
        )

    def fetch(self, conn: int, request: m.Fetch, now: float, *, cut_off: bool) -> None:
        """Answer, or wait up to `wait_ms`.  Raises Refused where "same" has nothing to go on."""
        if request.session == "new":
            kept = self._keep(conn, request, now)
            kept.whole = True
        else:
            kept = self._kept(conn, request)
            self._end_wait(kept)
            for topic, partition, offset in request.partitions:
                self._move(kept, (topic, partition), offset)
            kept.whole = False
            if now - kept.looked_at >= LOOK_AGAIN_S:
                self._look_at_all(kept, now)
        kept.request = request
        if cut_off:
            self._answer_all(kept, cut_off=True)
        elif request.wait_ms == 0 or not kept.offsets:
            self._answer(kept)
        elif not self._answer_news(kept):
            self._deadlines.add(now + request.wait_ms / 1000, (kept, request))

    def wake(self, partitions: Iterable[TopicPartition]) -> None:
        """Records of these partitions were applied, or the partitions are gone."""
        touched: dict[_Set, None] = {}
        for tp in partitions:
            for kept in self._by_partition.get(tp, ()):
                if tp not in kept.ready and self._found(kept, tp).news:
                    kept.ready[tp] = None
                    touched[kept] = None
        for kept in touched:
            if kept.request is not None:
                self._answer_news(kept)

    def tick(self, now: float, *, cut_off: bool) -> None:
        """Answer whoever has waited long enough; once cut off, everybody."""
        for kept, _ in self._deadlines.due(float("inf") if cut_off else now):
            if cut_off:
                self._answer_all(kept, cut_off=True)
            else:
                self._look_at_all(kept, now)
                self._answer(kept)

    def closed(self, conn: int) -> None:
        kept = self._by_conn.pop(conn, None)
        if kept is None:
            return
        kept.request = None
        for tp in kept.offsets:
            standing = self._by_partition[tp]
            del standing[kept]
            if not standing:
                del self._by_partition[tp]

    def next_deadline(self) -> float:
        return self._deadlines.next_deadline()

    # -- inside -----------------------------------------------------------------------------------

    def _keep(self, conn: int, request: m.Fetch, now: float) -> _Set:
        """A new set, in place of the one before."""
        old = self._by_conn.get(conn)
        if old is not None:
            self._end_wait(old)
            self.closed(conn)
        kept = self._by_conn[conn] = _Set(conn, request, now)
        for tp in kept.offsets:
            self._by_partition.setdefault(tp, {})[kept] = None
        self._look_at_all(kept, now)
        return kept

    def _kept(self, conn: int, request: m.Fetch) -> _Set:
        kept = self._by_conn.get(conn)
        if kept is None:
            raise Refused(
                "INVALID_REQUEST", '`session` "same": this connection has none; say "new"'
            )
        for topic, partition, _ in request.partitions:
            if (topic, partition) not in kept.offsets:
                raise Refused(
                    "INVALID_REQUEST", f'{topic}[{partition}] is not in the session; say "new"'
                )
        return kept

    def _end_wait(self, kept: _Set) -> None:
        if kept.request is not None:
            self._send(kept.conn, kept.request, [])
            kept.request = None

    def _move(self, kept: _Set, tp: TopicPartition, offset: int) -> None:
        kept.offsets[tp] = offset
        kept.ready.pop(tp, None)
        if self._found(kept, tp).news:
            kept.ready[tp] = None

    def _look_at_all(self, kept: _Set, now: float) -> None:
        kept.looked_at = now
        for tp in kept.offsets:
            if tp not in kept.ready and self._found(kept, tp).news:
                kept.ready[tp] = None

    def _found(self, kept: _Set, tp: TopicPartition, *, cut_off: bool = False) -> Found:
        return self._look(*tp, kept.offsets[tp], kept.topic_ids, cut_off)

    def _answer_news(self, kept: _Set) -> bool:
        """Answer, if there is something to say."""
        found = self._news(kept, len(kept.ready) if kept.whole else ANSWERED_AT_ONCE)
        if not found:
            return False
        if kept.whole:
            self._answer_all(kept)
        else:
            self._reply(kept, found)
        return True

    def _news(self, kept: _Set, most: int) -> list[Found]:
        """What the next so many have to say."""
        found: list[Found] = []
        for tp in list(kept.ready):
            if len(found) == most:
                break
            one = self._found(kept, tp)
            if one.news:
                found.append(one)
            if one.offset is None:
                del kept.ready[tp]
                if one.news:
                    kept.ready[tp] = None
        return found

    def _answer(self, kept: _Set) -> None:
        """Answer, whatever there is."""
        if not self._answer_news(kept):
            self._answer_all(kept) if kept.whole else self._reply(kept, [])

    def _answer_all(self, kept: _Set, *, cut_off: bool = False) -> None:
        """Of every partition, those that are ready first: they have the room."""
        order = {**kept.ready, **dict.fromkeys(kept.offsets)}
        self._reply(kept, [self._found(kept, tp, cut_off=cut_off) for tp in order])

    def _reply(self, kept: _Set, found: list[Found]) -> None:
        assert kept.request is not None
        request, kept.request = kept.request, None
        self._send(kept.conn, request, found)


def ids(request: m.Fetch) -> m.TopicIds:
    """The topic ids that a fetch goes by; none where it does not say."""
    return request.topic_ids if isinstance(request.topic_ids, dict) else _NO_IDS
