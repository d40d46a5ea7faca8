"""Retention: what a topic keeps, by age and by size.  The rest is trimmed, segment by segment.

    a topic's config | a partition's oldest segment goes
    -----------------+---------------------------------------------------------------------
    retention_ms     | once the newest operation in it is older than this
    retention_bytes  | while the partition still has at least this much without it

Left out, or -1: no limit of that kind.

Rules:

* The leader decides, and logs a `trim`: so every replica frees the same files, and a new leader
  begins where the old one stood.  What was read and not acknowledged is trimmed all the same.
* Only the shell knows where segments begin.  It is asked (FindTrims), a bounded number of
  partitions a turn, and its answer (TrimsFound) is looked at once more: the topic may have
  changed meanwhile.
* Age is the wall clock's `now` against the operations' own times.  A clock that jumps forward
  lets records go early; one that jumps back keeps them longer.
* As all that a leader decides by itself, it waits where a client's request would be refused.

It does not know sizes, times of records, or files.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from yak.core import events as e
from yak.core import ops
from yak.core.service import Service
from yak.core.state import Topic
from yak.model import Now

#: Partitions that one turn asks for, and so trims at most: some milliseconds.
ASK_AT_ONCE: Final = 1000
#: Topics that one entry of the broker's story names.
TOPICS_TOLD: Final = 5


class Retention:
    """The leader's rounds over the partitions that are to keep only so much."""

    def __init__(self, service: Service, check_ms: int, now: Now) -> None:
        self.service = service
        self.pending = service.pending
        self.state = service.state
        self.tail = service.tail
        self.out = service.out
        self._check_s = check_ms / 1000
        #: Topics that may have a limit, so that a round does not look at the others.
        self._topics = {name: None for name, topic in self.state.topics.items() if limited(topic)}
        self._next_round = now.mono
        #: (topic, first partition) of what this round has still to ask for.
        self._left: deque[tuple[str, int]] = deque()
        #: Of the question that is out: each topic as it was asked for.
        self._asked: dict[str, Topic] = {}

    def look_at(self, name: str) -> None:
        """This topic was created or altered."""
        topic = self.tail.topics.get(name)
        if topic is not None and limited(topic):
            self._topics[name] = None

    def tick(self, now: Now) -> None:
        """Ask for the next few partitions, once it is time and the last answer is here."""
        if self._asked or not self._topics or not self._may_trim(now):
            return
        if not self._left:
            if now.mono < self._next_round:
                return
            self._next_round = now.mono + self._check_s
            self._left.extend((name, 0) for name in self._topics)
        queries = self._next_queries(now)
        if queries:
            self.out.append(e.FindTrims(queries))

    def _may_trim(self, now: Now) -> bool:
        standing = self.service.standing(now)
        return (
            now.mono < standing.lease_until
            and not standing.stopping
            and self.service.can_write(now)
        )

    def _next_queries(self, now: Now) -> list[e.TrimQuery]:
        """What the next partitions of this round may lose; those without records may nothing."""
        queries: list[e.TrimQuery] = []
        room = ASK_AT_ONCE
        while self._left and room:
            name, first = self._left.popleft()
            topic = self.tail.topics.get(name)
            if topic is None or not limited(topic):
                self._topics.pop(name, None)
                continue
            if self.state.topics.get(name) != topic:
                continue  # not committed yet: the next round sees it
            end = min(first + room, topic.partitions)
            room -= end - first
            age, size = _limit(topic, "retention_ms"), _limit(topic, "retention_bytes")
            older_than = None if age is None else now.wall_ms - age
            for partition in range(first, end):
                tp = (name, partition)
                if self.state.start(tp) < self.state.ends[tp]:
                    queries.append((name, partition, older_than, size))
                    self._asked[name] = topic
            if end < topic.partitions:
                self._left.appendleft((name, end))
        return queries

    def found(self, event: e.TrimsFound, now: Now) -> None:
        """Trim what the shell found, where that is still what the topic wants."""
        asked, self._asked = self._asked, {}
        if not self._may_trim(now):
            return
        freed: dict[str, int] = {}
        for name, partition, before in event.found:
            tp = (name, partition)
            topic = self.tail.topics.get(name)
            if topic is None or topic != asked.get(name):
                continue
            start = self.tail.start(tp)
            if start < before <= self.state.ends[tp]:
                self.pending.append(ops.Trim, now, topic=name, partition=partition, before=before)
                freed[name] = freed.get(name, 0) + before - start
        if freed:
            told = {name: freed[name] for name in list(freed)[:TOPICS_TOLD]}
            rest = len(freed) - len(told)
            self.out.append(e.Tell("retention", {"offsets": told, "further_topics": rest}))


def limited(topic: Topic) -> bool:
    """Whether it is to keep only so much."""
    return _limit(topic, "retention_ms") is not None or _limit(topic, "retention_bytes") is not None


def _limit(topic: Topic, key: str) -> Any:
    value = topic.config.get(key, -1)
    return None if value == -1 else value
