"""Simulated clients that read, without a group.

    Reader     fetches partitions from any replica, and never goes back
    Watcher    asks any broker for the latest offsets: who answers must know them

A reader asks any broker for its topics' ids and partitions, and its fetches name the ids.  A
topic's earlier incarnation it does not take up: the replica that still names it lags, which only
the judge can tell.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.sim.clients import GONE, Client
from tests.sim.judge import Moment
from yak import messages as m
from yak.model import TopicPartition

if TYPE_CHECKING:
    from tests.sim.net import Wire
    from tests.sim.world import World

#: A fetch waits this long for a record.
WAIT_MS: Final = 300
#: How often a reader looks for new partitions, at most, in seconds.
LOOK_S: Final = 0.5


class Asking:
    """How one client's fetches are asked: each whole, or (every other client) such that stand."""

    def __init__(self, rng: random.Random) -> None:
        self._stands = rng.random() < 0.5
        self._wire: Wire | None = None
        self._kept: dict[TopicPartition, int] = {}
        self._ids: dict[str, str] = {}

    def fetch(
        self, wire: Wire | None, positions: dict[TopicPartition, int], ids: dict[str, str]
    ) -> m.Fetch:
        """The next one on this connection, where the one before was answered."""
        same = wire is self._wire and (self._kept.keys(), self._ids) == (positions.keys(), ids)
        moved = {tp: at for tp, at in positions.items() if not same or self._kept[tp] != at}
        request = m.Fetch(
            id=0, partitions=tuple((*tp, at) for tp, at in moved.items()), wait_ms=WAIT_MS
        )
        if not same or not self._stands:
            request.partitions = tuple((*tp, at) for tp, at in positions.items())
            request.topic_ids = dict(ids)
        if self._stands:
            request.session = "same" if same else "new"
        self._wire, self._kept, self._ids = wire, dict(positions), dict(ids)
        return request

    def forget(self) -> None:
        """An answer failed to come: who knows what the broker keeps."""
        self._wire = None


class Reader(Client):
    """Reads all partitions of its topics, from whichever replica, onwards only."""

    def __init__(self, world: World, name: str, topics: Sequence[str]) -> None:
        super().__init__(world, name)
        self._topics = list(topics)
        self._ids: dict[str, str] = {}
        self.positions: dict[TopicPartition, int] = {}
        self._asking = False
        self._fetches = Asking(self.rng)
        self._look_at = 0.0
        self.after(0.3 + self.rng.random(), self.ready)

    @property
    def finished(self) -> bool:
        """It has read all there is of all that is there."""
        history = self.world.judge.history
        return all(
            self._ids.get(name) == topic.id
            and all(self.positions.get((name, p)) == s.end for p, s in enumerate(topic.shelves))
            for name in self._topics
            if (topic := history.topics.get(name))
        )

    def ready(self) -> None:
        if self._asking or not self.connected():
            return
        self._asking = True
        if self.scheduler.now >= self._look_at or not self.positions:
            self._look_at = self.scheduler.now + LOOK_S * self.rng.random()
            self.ask(m.Metadata(id=0, topics=self._topics), b"", self._told)
            return
        asked = dict(self.positions)
        ids = {topic: self._ids[topic] for topic, _ in asked}
        request = self._fetches.fetch(self.wire, asked, ids)
        request.max_bytes = self.rng.choice((100, 1000, 1 << 20))
        self.ask(request, b"", partial(self._fetched, asked, ids))

    def _told(self, answer: m.Answer | None, _: bytes) -> None:
        """Which topics there are, as far as some broker knows."""
        self._asking = False
        if not isinstance(answer, m.MetadataAnswer):
            self.misdirected(answer)
            return
        lives = self.world.judge.history.incarnations
        for name, entry in answer.topics.items():
            id_, known = entry.topic_id, self._ids.get(name)
            if not isinstance(id_, str) or not isinstance(entry.partitions, int):
                continue
            if known and lives[id_].created < lives[known].created:
                continue
            if id_ != known:
                self._ids[name] = id_
                self.positions = {tp: at for tp, at in self.positions.items() if tp[0] != name}
            for p in range(entry.partitions):
                self.positions.setdefault((name, p), 0)
        self.after(0.05 * self.rng.random(), self.ready)

    def _fetched(
        self,
        asked: dict[TopicPartition, int],
        ids: dict[str, str],
        answer: m.Answer | None,
        body: bytes,
    ) -> None:
        self._asking = False
        if not isinstance(answer, m.FetchAnswer):
            self._fetches.forget()
            self.misdirected(answer)
            return
        at = 0
        for entry in answer.partitions:
            data, at = body[at : at + entry.size], at + entry.size
            tp = (entry.topic, entry.partition)
            self.positions[tp] = self._take(entry, data, ids[entry.topic], asked[tp])
            if entry.error in GONE:
                self._look_at = 0.0
        if any(isinstance(e.error, str) for e in answer.partitions) or self.rng.random() < 0.05:
            self.go_elsewhere()
        else:
            self.after(0.1 * self.rng.random(), self.ready)

    def _take(self, entry: m.FetchEntry, data: bytes, id_: str, offset: int) -> int:
        """What was sent of a partition; where to go on."""
        judge = self.world.judge
        if entry.error == "OFFSET_OUT_OF_RANGE":
            judge.begins_at(self.name, (id_, entry.partition), offset, entry.start)
            return entry.start
        if not data:
            return offset
        judge.begins_before(self.name, (id_, entry.partition), offset, entry.start)
        return judge.shows(self.name, (entry.topic, entry.partition), id_, offset, data)[1]


class Watcher(Client):
    """Asks for the latest offsets; it believes whoever answers."""

    def __init__(self, world: World, name: str, topics: Sequence[str]) -> None:
        super().__init__(world, name)
        self._topics = topics
        self.after(0.5, self._look)

    def _look(self) -> None:
        if self.world.finishing:
            return
        self.after(0.05 + 0.4 * self.rng.random() ** 2, self._look)
        topic = self.world.judge.history.topics.get(self.rng.choice(self._topics))
        if topic is not None and self.connected():
            where = [(topic.name, p) for p in range(len(topic.shelves))]
            then = [self.world.judge.moment(tp) for tp in where]
            request = m.ListOffsets(
                id=0, partitions=where, at="latest", topic_ids={topic.name: topic.id}
            )
            self.ask(request, b"", partial(self._told, then))

    def _told(self, then: list[Moment], answer: m.Answer | None, _: bytes) -> None:
        if isinstance(answer, m.OffsetsAnswer):
            for (topic, p, told), moment in zip(answer.offsets, then, strict=True):
                self.world.judge.told_end(self.name, (topic, p), moment, told or 0)
        if not isinstance(answer, m.OffsetsAnswer) or self.rng.random() < 0.1:
            self.go_elsewhere()

    def move(self, broker: int) -> None:
        if broker != self.target and self.wire is not None:
            self.wire.forget()
            self.wire = None
        self.target = broker

    def ready(self) -> None:
        """It looks at times of its own."""

    def lost(self) -> None:
        self.wire = None
