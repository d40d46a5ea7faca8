"""The topics of a long run: made, grown, trimmed, deleted, made again under the same name.

*Steady* topics live through the whole run, and grow in its first part only; *passing* ones come
and go.  Either may forget (house.py).  All requests are raw, repeated until their outcome is
known, and noted with the times around them, so that the judge knows which life of a name a record
can have reached.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from tests.soak.house import House
from tests.soak.judge import Life
from tests.soak.raw import Asker, RefusedError
from tests.support.cluster import Cluster
from tests.support.wire import Fields

#: Partitions that a topic may grow to.
MOST_PARTITIONS = 8


@dataclass
class Topic:
    life: Life
    partitions: int
    steady: bool
    groups: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.life.name


class Topics:
    """See the module's text."""

    def __init__(self, cluster: Cluster, chance: random.Random, house: House) -> None:
        self.living: dict[str, Topic] = {}
        self.lives: list[Life] = []
        self.counts = {
            "created": 0,
            "deleted": 0,
            "grown": 0,
            "altered": 0,
            "trims": 0,
            "groups deleted": 0,
        }
        self._cluster = cluster
        self._chance = chance
        self._house = house
        self._asker = Asker(cluster.bootstrap())
        #: group -> generations seen, in all its lives.
        self.generations: dict[str, int] = {}

    def close(self) -> None:
        self._asker.close()

    def ask(self, kind: str, **fields: Any) -> Fields:
        answer, _ = self._asker.insist(kind, **fields)
        return answer

    # -- topics ------------------------------------------------------------------------------------

    def make(
        self, name: str, partitions: int, *, steady: bool = False, forgets: bool = False
    ) -> Topic:
        t0 = time.monotonic()
        config = self._house.config(steady=steady and not forgets, forgets=forgets)
        try:
            answer = self.ask("create_topic", topic=name, partitions=partitions, config=config)
            topic_id = answer["topic_id"]
        except RefusedError as e:
            if e.name != "TOPIC_EXISTS":
                raise
            # The first answer was lost: it is this one's own.
            topic_id = self.ask("metadata", topics=[name])["topics"][name]["topic_id"]
        life = Life(name, topic_id, (t0, time.monotonic()), forgets=forgets)
        topic = Topic(life, partitions, steady)
        self.living[name] = topic
        self.lives.append(topic.life)
        self.counts["created"] += 1
        self._cluster.tell(f"topic {name} is made: {topic_id}, {partitions} partitions")
        return topic

    def delete(self, topic: Topic) -> None:
        t0 = time.monotonic()
        try:
            self.ask("delete_topic", topic=topic.name)
        except RefusedError as e:
            if e.name != "UNKNOWN_TOPIC":
                raise
        topic.life.deleted = t0, time.monotonic()
        del self.living[topic.name]
        self.counts["deleted"] += 1
        self._cluster.tell(f"topic {topic.name} is deleted: {topic.life.topic_id}")

    def grow(self, topic: Topic) -> None:
        if topic.partitions >= MOST_PARTITIONS:
            return
        more = topic.partitions + self._chance.randint(1, 2)
        try:
            self.ask("create_partitions", topic=topic.name, partitions=more)
        except RefusedError as e:
            if e.name != "INVALID_CONFIG":  # the first answer was lost
                raise
        topic.partitions = more
        self.counts["grown"] += 1
        self._cluster.tell(f"topic {topic.name} has {more} partitions")

    def trim(self, topic: Topic) -> None:
        """Forget a part of what every group has acknowledged."""
        standing = [self.ask("group", group=group)["partitions"] for group in topic.groups]
        acked: dict[int, list[int]] = {}
        for entries in standing:
            for entry in entries:
                if entry["topic"] == topic.name:
                    acked.setdefault(entry["partition"], []).append(entry["acked"] or 0)
        for partition, offsets in acked.items():
            if len(offsets) == len(topic.groups) and min(offsets) > 0:
                self._trim(topic.name, partition, min(offsets))

    def _trim(self, name: str, partition: int, before: int) -> None:
        self.ask("trim", topic=name, partition=partition, before=before)
        self.counts["trims"] += 1

    def keep_all(self) -> None:
        """From here on nothing goes by itself: the closing reads take their time."""
        for topic in self.living.values():
            unset = ["retention_ms", "retention_bytes"]
            self.ask("alter_topic", topic=topic.name, config={}, unset=unset)
            self.counts["altered"] += 1

    # -- groups ------------------------------------------------------------------------------------

    def look_at_groups(self) -> None:
        """Count generations, which grow by one with every rebalance."""
        for name in {group for topic in self.living.values() for group in topic.groups}:
            generation = self.ask("group", group=name)["generation"]
            self.generations[name] = max(generation, self.generations.get(name, 0))

    def delete_group(self, name: str) -> None:
        """A group whose members are gone, or will be as soon as their silence is over."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("delete_group", group=name)
            except RefusedError as e:
                if e.name != "GROUP_NOT_EMPTY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                self.counts["groups deleted"] += 1
                return

    def lag(self, group: str, names: list[str]) -> int:
        """How much the group has not acknowledged in these topics."""
        entries = self.ask("group", group=group)["partitions"]
        return sum(entry["lag"] for entry in entries if entry["topic"] in names)
