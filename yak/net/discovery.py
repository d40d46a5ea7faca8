"""The partitions that a consumer without a group reads: all of its topics', or the chosen ones.

    topic not there ──made──▶ read from its first record ──deleted──▶ lost, and waited for again
    there at the start ─▶ read from `start` ──┘

Rules:

* What was there when the consumer started is read from `start`; what came to be since (a topic, a
  partition, a topic made again under its name) from its beginning: all of it is news.
* Looked for is every `max_age_s`, a topic that is not there more often.
* Any broker tells which topics there are, and may lag.  What replicas do not know is asked of the
  leader: if it says that the topic is still the same one, they lag; if not, what was held of it is
  lost, and the topic of that name, if there is one, is another.

What a group's members read is membership.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from msgspec import UnsetType

from yak.core.inbox import Inbox
from yak.errors import YakError
from yak.net.cluster import SEARCH_PAUSE_S, Cluster
from yak.net.places import Places, Start

#: How soon a topic that does not exist is looked for again, in seconds.
_AWAIT_TOPIC_S: Final = 0.5
#: How long one request may be asked again.
_REQUEST_S: Final = 30.0

_log = logging.getLogger(__name__)


class Discovery:
    """See the module's text.  `join` first, then `run` is its task.

    chosen: the numbers of the partitions; None: all.  on_change: what is wanted has changed.
    on_lagging: a replica did not know what is there.
    """

    def __init__(
        self,
        cluster: Cluster,
        inbox: Inbox,
        *,
        topics: Sequence[str],
        chosen: Collection[int] | None,
        start: Start,
        max_age_s: float,
        on_change: Callable[[], None],
        on_lagging: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._inbox = inbox
        self._topics = list(topics)
        self._chosen = chosen
        self._start = start
        self._max_age_s = max_age_s
        self._on_change = on_change
        self._on_lagging = on_lagging
        self._places = Places(cluster, _REQUEST_S)
        self._joined = False
        #: Topics that are not there, and of which that was said.
        self._awaited: set[str] = set()
        self._look_now = asyncio.Event()

    async def join(self, timeout_s: float = _REQUEST_S) -> None:
        """Find what there is; where it begins is settled.  Raises YakError and TimeoutError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                await self._find(timeout_s)
            except YakError as e:
                # A broker that lags told of a topic that was deleted just now.
                late = asyncio.get_running_loop().time() >= deadline
                if e.name != "UNKNOWN_TOPIC" or late:
                    raise
                await asyncio.sleep(SEARCH_PAUSE_S)
            else:
                self._joined = True
                return

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            age_s = min(self._max_age_s, _AWAIT_TOPIC_S) if self._missing() else self._max_age_s
            try:
                async with asyncio.timeout(age_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            try:
                await self._verify()
                await self._find(_REQUEST_S)
            except YakError as e:
                _log.info("looking for partitions: %s", e)

    def check(self) -> None:
        """Replicas do not know a partition: find out."""
        self._look_now.set()

    # -- inside -----------------------------------------------------------------------------------

    def _missing(self) -> set[str]:
        """The topics of which nothing is read."""
        return set(self._topics).difference(topic for topic, _ in self._inbox.positions)

    async def _find(self, timeout_s: float) -> None:
        """Every partition that is not read yet."""
        answer = await self._cluster.metadata(self._topics, timeout_s=timeout_s)
        missing = self._missing()
        for topic in self._topics:
            entry = answer.topics.get(topic)
            if entry is None or isinstance(entry.partitions, UnsetType):
                if topic in missing:
                    self._await(topic, "does not exist yet")
                continue
            ids = {topic: entry.topic_id if isinstance(entry.topic_id, str) else ""}
            held = [one for (name, _), one in self._inbox.positions.items() if name == topic]
            if any(position.topic_id != ids[topic] for position in held):
                continue  # it was made again, or this broker lags: the replicas will say
            numbers = self._numbers(topic, entry.partitions)
            found = [(topic, n) for n in numbers if (topic, n) not in self._inbox.positions]
            start = "beginning" if self._joined else self._start
            for where, offset in (await self._places.offsets(found, start, ids)).items():
                self._inbox.assign(where, offset, ids[topic])
            if found:
                self._awaited.discard(topic)
                self._on_change()

    def _numbers(self, topic: str, partitions: int) -> Sequence[int]:
        """Those to be read.  Raises YakError, at the start, where there is none of that number."""
        if self._chosen is None:
            return range(partitions)
        wrong = [number for number in self._chosen if not 0 <= number < partitions]
        if wrong and not self._joined:
            raise YakError(
                f"{topic} has partitions 0 to {partitions - 1}, not {wrong[0]}",
                name="UNKNOWN_PARTITION",
            )
        return [number for number in self._chosen if number not in wrong]

    async def _verify(self) -> None:
        """What the replicas do not know: is it gone, or do they lag?"""
        inbox = self._inbox
        suspected = [where for where, position in inbox.positions.items() if position.unknown]
        for topic in sorted({topic for topic, _ in suspected}):
            held = [where for where in inbox.positions if where[0] == topic]
            ids = {topic: inbox.positions[held[0]].topic_id}
            if not await self._places.exist([w for w in suspected if w[0] == topic], ids):
                inbox.lose(held)
                self._await(topic, "was deleted")
                self._on_change()
        if inbox.trust():
            self._on_lagging()
            self._on_change()

    def _await(self, topic: str, why: str) -> None:
        if topic not in self._awaited:
            self._awaited.add(topic)
            _log.warning("topic %s %s: waiting for it", topic, why)
