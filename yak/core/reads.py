"""What any replica answers: fetches (with their long polls) and metadata.

Rules:

* Only committed and applied records are ever sent: the high watermark is State's `ends`.
* A fetch past the high watermark is empty, never an error, on leaders too: the client may have
  read further elsewhere.  Before the log start it is OFFSET_OUT_OF_RANGE.
* A long poll waits for the *first* record of any of its partitions, and wakes at the apply.
* An entry with an error answers at once, with `size` 0.
* A fetch that names a topic's id gets nothing of another topic under that name.
* What a connection asks for again and again may be kept: standing.py.

It never sees a record's bytes: it names ranges, and the shell reads them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core.deadlines import Deadlines
from yak.core.standing import Found, Standing, ids
from yak.core.state import State, Topic
from yak.errors import is_retriable
from yak.model import TopicPartition


class _Waiting(msgspec.Struct, eq=False, gc=False):
    """A fetch that waits for a first record.  There may be hundreds of thousands: no `gc`."""

    conn: int
    request: m.Fetch
    deadline: float
    done: bool = False


class Reads:
    """Fetches of this replica's committed records."""

    def __init__(self, state: State, limits: Limits, out: list[e.Effect]) -> None:
        self.state = state
        self.limits = limits
        self.out = out
        #: Invariant: a fetch stands under each of its partitions and under its connection.
        #: In the order of asking, so that the same events always give the same effects.
        self._by_partition: dict[TopicPartition, dict[_Waiting, None]] = {}
        self._by_conn: dict[int, dict[_Waiting, None]] = {}
        self._deadlines: Deadlines[_Waiting] = Deadlines(lambda waiting: not waiting.done)
        self._standing = Standing(self._look, self._send)

    def fetch(self, conn: int, request: m.Fetch, now: float, *, cut_off: bool) -> None:
        """Answer, or wait up to `wait_ms`.  cut_off: this replica must not speak any more.

        Raises Refused where the request goes on from what is not kept here.
        """
        if request.session is not UNSET:
            self._standing.fetch(conn, request, now, cut_off=cut_off)
            return
        found = self._evaluate(request, cut_off=cut_off)
        if request.wait_ms > 0 and request.partitions and not _has_news(found):
            self._wait(_Waiting(conn, request, now + request.wait_ms / 1000))
            return
        self._send(conn, request, found)

    def wake(self, partitions: Iterable[TopicPartition]) -> None:
        """Records of these partitions were applied, or the partitions are gone.

        A client that asked beyond them, since it has read further elsewhere, waits on.
        """
        partitions = list(partitions)
        for tp in partitions:
            for waiting in list(self._by_partition.get(tp, ())):
                found = self._evaluate(waiting.request, cut_off=False)
                if not waiting.done and _has_news(found):
                    self._remove(waiting)
                    self._send(waiting.conn, waiting.request, found)
        self._standing.wake(partitions)

    def tick(self, now: float, *, cut_off: bool) -> None:
        """Answer whatever has waited long enough; once cut off, everything."""
        for waiting in self._deadlines.due(float("inf") if cut_off else now):
            self._finish(waiting, cut_off=cut_off)
        self._standing.tick(now, cut_off=cut_off)

    def closed(self, conn: int) -> None:
        for waiting in list(self._by_conn.get(conn, ())):
            self._remove(waiting)
        self._standing.closed(conn)

    def next_deadline(self) -> float:
        return min(self._deadlines.next_deadline(), self._standing.next_deadline())

    def _wait(self, waiting: _Waiting) -> None:
        self._deadlines.add(waiting.deadline, waiting)
        self._by_conn.setdefault(waiting.conn, {})[waiting] = None
        for topic, partition, _ in waiting.request.partitions:
            self._by_partition.setdefault((topic, partition), {})[waiting] = None

    def _remove(self, waiting: _Waiting) -> None:
        waiting.done = True
        for topic, partition, _ in waiting.request.partitions:
            _discard(self._by_partition, (topic, partition), waiting)
        _discard(self._by_conn, waiting.conn, waiting)

    def _finish(self, waiting: _Waiting, *, cut_off: bool) -> None:
        self._remove(waiting)
        found = self._evaluate(waiting.request, cut_off=cut_off)
        self._send(waiting.conn, waiting.request, found)

    def _send(self, conn: int, request: m.Fetch, found: list[Found]) -> None:
        size = min(request.max_bytes, self.limits.max_fetch_bytes)
        entries, offsets = [one.entry for one in found], [one.offset for one in found]
        self.out.append(e.SendRecords(conn, request.id, entries, offsets, size))

    def _evaluate(self, request: m.Fetch, *, cut_off: bool) -> list[Found]:
        known = ids(request)
        return [self._look(*at, known, cut_off) for at in request.partitions]

    def _look(
        self,
        topic: str,
        partition: int,
        offset: int,
        known: m.TopicIds,
        cut_off: bool,  # noqa: FBT001 -- one of a row of arguments, for speed
    ) -> Found:
        """What a partition has to say at that offset.  known: topic ids that must be right."""
        tp = (topic, partition)
        end = self.state.ends.get(tp)
        if cut_off:
            why = "this broker has not heard its leader for longer than the session time-out"
            return _failed(tp, "NO_LEADER", f"{why}; read from another one")
        here = self.state.topics.get(topic)
        if here is None:
            return _failed(tp, "UNKNOWN_TOPIC", f"there is no topic '{topic}' here")
        if topic in known and known[topic] != here.topic_id:
            return _failed(tp, "UNKNOWN_TOPIC", another_id(topic, here.topic_id))
        if end is None:
            why = f"topic '{topic}' has {here.partitions} partitions, numbered from 0"
            return _failed(tp, "UNKNOWN_PARTITION", why)
        start = self.state.start(tp)
        entry = m.FetchEntry(topic=topic, partition=partition, start=start, high_watermark=end)
        if offset < start:
            entry.error = "OFFSET_OUT_OF_RANGE"
            entry.message = f"the log of {topic}[{partition}] begins at {start}, not {offset}"
            entry.retriable = False
            return Found(entry, None)
        return Found(entry, offset if offset < end else None)


def another_id(topic: str, topic_id: str) -> str:
    return (
        f"topic '{topic}' has topic_id {topic_id} here: it was deleted and made again (or this "
        "replica has not heard of that yet)"
    )


def _has_news(found: list[Found]) -> bool:
    """A record or an error in any entry."""
    return any(one.news for one in found)


def _failed(tp: TopicPartition, error: str, message: str) -> Found:
    entry = m.FetchEntry(
        topic=tp[0],
        partition=tp[1],
        error=error,
        message=message,
        retriable=is_retriable(error),
    )
    return Found(entry, None)


def _discard(index: dict[Any, dict[_Waiting, None]], key: object, waiting: _Waiting) -> None:
    waitings = index.get(key)
    if waitings is not None:
        waitings.pop(waiting, None)
        if not waitings:
            del index[key]


# -- metadata -------------------------------------------------------------------------------------


def metadata(
    state: State, view: m.ClusterView | None, request: m.Metadata, dialled: str | None
) -> m.MetadataAnswer:
    """What this replica knows of the cluster and of the topics; it creates nothing."""
    names = request.topics if isinstance(request.topics, list) else sorted(state.topics)
    return m.MetadataAnswer(
        cluster=view.cluster if view else None,
        epoch=view.epoch if view else 0,
        leader=view.leader if view else None,
        isr=list(view.isr) if view else [],
        brokers=[
            m.BrokerEntry(id=b.id, host=as_dialled(b.host, dialled), port=b.port, live=b.live)
            for b in (view.brokers if view else ())
        ],
        topics={name: _topic_entry(state.topics.get(name)) for name in names},
    )


def _topic_entry(topic: Topic | None) -> m.TopicEntry:
    if topic is None:
        return m.TopicEntry(error="UNKNOWN_TOPIC")
    return m.TopicEntry(
        topic_id=topic.topic_id, partitions=topic.partitions, config=dict(topic.config)
    )


def leader_hint(view: m.ClusterView | None, dialled: str | None) -> m.LeaderHint | None:
    """The leader's id and address, if one is known."""
    if view is None or view.leader is None:
        return None
    for b in view.brokers:
        if b.id == view.leader:
            return m.LeaderHint(b.id, as_dialled(b.host, dialled), b.port)
    return None


def as_dialled(host: str, dialled: str | None) -> str:
    """The host under which a client reaches a broker.

    Where a broker listens on loopback or on every address, its own word says nothing to a
    client on another host: there the host that the client itself dialled is the better guess.
    """
    if dialled is not None and _is_local(host):
        return dialled
    return host


def _is_local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
