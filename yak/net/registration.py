"""Who a producer is to the cluster: its ids, its topics, the heartbeats that keep it known.

* One id is registered, with the first topic, where batches are numbered.  Where they are not, none
  is needed, and nothing has to be committed before the first batch goes. A topic that does not
  exist is made by registering again, which gives a newer id: there is no request that only makes
  it, where that is allowed.
* `newest` is the id for whoever begins; all ids given stay in use by whoever began with them.
* A heartbeat keeps ids registered while nothing is sent; those that nobody uses any more are
  deregistered.  Metadata is asked for now and then, so that an idle producer learns of new
  partitions, of a new leader, and of a topic that was deleted and made again.
* Which topic has a name now is the leader's word alone: any other broker may still speak of one
  that was deleted.  A topic that is gone is made again only for
  whoever has records for it.

It sends no records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UnsetType

from yak import errors
from yak import messages as m
from yak.core.batches import Accumulator, Topic
from yak.errors import YakError
from yak.net.cluster import Cluster

#: What is known of a topic that nobody names.
_NO_TOPIC: Final = m.TopicEntry()
#: A session of which nothing was told yet, in seconds.
_SESSION_S: Final = 30.0


class Registration:
    """See the module's text.  `run` is its task.

    client: the producer's name in the brokers' logs.  numbers: batches are numbered, under an id.
    chance: numbers in [0, 1).
    in_use: the ids that somebody sends under.  on_another: called with the name of a topic that
    seems to be another one by now.
    """

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        *,
        client: str,
        numbers: bool,
        metadata_max_age_s: float,
        chance: Callable[[], float],
        in_use: Callable[[], set[int | None]],
        on_another: Callable[[str], None],
    ) -> None:
        #: The id that was given last; None before any.
        self.newest: int | None = None
        self._cluster = cluster
        self._accumulator = accumulator
        self._client = client
        self._numbers = numbers
        self._metadata_max_age_s = metadata_max_age_s
        self._chance = chance
        self._in_use = in_use
        self._on_another = on_another
        self._ids: set[int] = set()
        self._session_s = _SESSION_S
        self._lock = asyncio.Lock()

    async def topic(self, name: str, timeout_s: float) -> Topic:
        """The topic with its partitions; made by the cluster if need be.

        Raises UNKNOWN_TOPIC (auto-creation is off), INVALID_TOPIC, TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        async with self._lock:
            topic = self._accumulator.topics.get(name)
            if topic is not None:
                return topic
            self._cluster.interest.add(name)
            try:
                size = await self._size_of(name, deadline)
            except BaseException:
                self._cluster.interest.discard(name)
                raise
            first = int(self._chance() * size.partitions)
            topic = Topic(name, size.partitions, first, size.topic_id)
            self._accumulator.topics[name] = topic
            return topic

    async def renew(self, old: int | None, timeout_s: float) -> None:
        """See to it that `newest` is another id than `old`.  Raises YakError."""
        async with self._lock:
            if self.newest == old:
                await self._register([], timeout_s)

    async def make_again(self, topic: str, timeout_s: float) -> None:
        """Register for a topic that is not there any more, which makes it.  Raises YakError."""
        async with self._lock:
            size = (await self._register([topic], timeout_s)).topic(topic)
            known = self._accumulator.topics[topic]
            if size.topic_id != known.topic_id:
                known.made_again(size.topic_id, size.partitions)
            else:
                known.grow(size.partitions)

    async def run(self) -> None:
        """Keep the ids known, and the partitions, until cancelled."""
        beaten_at = time.monotonic()
        while True:
            await asyncio.sleep(min(self._metadata_max_age_s, self._session_s / 3))
            try:
                await self._ask_partitions()
                if time.monotonic() - beaten_at >= self._session_s / 4:
                    await self._retire()
                    for producer in list(self._ids):
                        await self._beat(producer)
                    beaten_at = time.monotonic()
            except YakError:
                continue  # what is sent meets the same trouble, and reports it

    async def goodbye(self, timeout_s: float) -> None:
        """Deregister every id, within `timeout_s`."""
        await asyncio.gather(*(self._deregister(one, timeout_s) for one in self._ids))

    # -- inside -----------------------------------------------------------------------------------

    async def _size_of(self, name: str, deadline: float) -> m.KnownTopic:
        if self.newest is not None or not self._numbers:
            request = m.Metadata(id=0, topics=[name])
            answer, _ = await self._cluster.ask_leader(
                request, m.MetadataAnswer, timeout_s=_left(deadline)
            )
            known = answer.topics.get(name, _NO_TOPIC)
            if isinstance(known.partitions, int):
                return m.KnownTopic(partitions=known.partitions, topic_id=known.topic_id or "")
        return (await self._register([name], _left(deadline))).topic(name)

    async def _register(self, topics: Sequence[str], timeout_s: float) -> m.ProducerAnswer:
        request = m.Register(id=0, role="producer", client=self._client, topics=list(topics))
        answer, _ = await self._cluster.ask_leader(request, m.ProducerAnswer, timeout_s=timeout_s)
        self.newest = answer.producer
        self._ids.add(answer.producer)
        self._session_s = answer.session_ms / 1000
        return answer

    async def _ask_partitions(self) -> None:
        if not self._accumulator.topics:
            return
        answer = await self._cluster.metadata(
            list(self._accumulator.topics), timeout_s=self._metadata_max_age_s
        )
        for name, entry in answer.topics.items():
            topic = self._accumulator.topics.get(name)
            if topic is None or isinstance(entry.partitions, UnsetType):
                continue
            if topic.topic_id in ("", entry.topic_id):
                topic.grow(entry.partitions)
            else:
                self._on_another(name)

    async def _retire(self) -> None:
        """Say goodbye for the ids under which nothing is sent any more."""
        idle = self._ids - self._in_use() - {self.newest}
        self._ids -= idle
        await asyncio.gather(*(self._deregister(one, self._session_s / 3) for one in idle))

    async def _beat(self, producer: int) -> None:
        try:
            await self._cluster.ask_leader(
                m.Heartbeat(id=0, producer=producer),
                m.HeartbeatAnswer,
                timeout_s=self._session_s / 3,
            )
        except errors.TimeoutError:
            raise
        except YakError:  # it is forgotten: whoever uses it finds out, and renews
            self._ids.discard(producer)

    async def _deregister(self, producer: int, timeout_s: float) -> None:
        try:
            await self._cluster.ask_leader(
                m.Deregister(id=0, producer=producer), m.Done, timeout_s=timeout_s
            )
        except YakError:
            return  # its silence says the same, later


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
