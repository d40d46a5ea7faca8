"""Who a producer is to the cluster: its ids, its topics, the heartbeats that keep it known.

* One id is registered, with the first topic.  A topic that does not exist is made by registering
  again, which gives a newer id: there is no request that only makes it, where that is allowed.
* `newest` is the id for whoever begins; all ids given stay in use by whoever began with them.
* A heartbeat keeps ids registered while nothing is sent; metadata is asked for now and then, so
  that an idle producer learns of new partitions and of a new leader.

It sends no records, and does not know what the ids are used for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, UnsetType

from yak import errors
from yak import messages as m
from yak.core.batches import Accumulator, Topic
from yak.errors import YakError
from yak.net.cluster import Cluster

#: A session of which nothing was told yet, in seconds.
_SESSION_S: Final = 30.0


class Registration:
    """See the module's text.  `run` is its task.

    client: the producer's name in the brokers' logs.  chance: numbers in [0, 1).
    """

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        *,
        client: str,
        metadata_max_age_s: float,
        chance: Callable[[], float],
    ) -> None:
        #: The id that was given last; None before any.
        self.newest: int | None = None
        self._cluster = cluster
        self._accumulator = accumulator
        self._client = client
        self._metadata_max_age_s = metadata_max_age_s
        self._chance = chance
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
                partitions = await self._partitions_of(name, deadline)
            except BaseException:
                self._cluster.interest.discard(name)
                raise
            topic = Topic(name, partitions, int(self._chance() * partitions))
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
            await self._register([topic], timeout_s)

    async def run(self) -> None:
        """Keep the ids known, and the partitions, until cancelled."""
        beaten_at = time.monotonic()
        while True:
            await asyncio.sleep(min(self._metadata_max_age_s, self._session_s / 3))
            try:
                await self._ask_partitions()
                if time.monotonic() - beaten_at >= self._session_s / 4:
                    for producer in list(self._ids):
                        await self._beat(producer)
                    beaten_at = time.monotonic()
            except YakError:
                continue  # what is sent meets the same trouble, and reports it

    async def goodbye(self, timeout_s: float) -> None:
        """Deregister every id, within `timeout_s`."""
        await asyncio.gather(*(self._deregister(one, timeout_s) for one in self._ids))

    # -- inside -----------------------------------------------------------------------------------

    async def _partitions_of(self, name: str, deadline: float) -> int:
        if self.newest is not None:
            answer = await self._cluster.metadata([name], timeout_s=_left(deadline))
            known = answer.topics[name].partitions if name in answer.topics else UNSET
            if not isinstance(known, UnsetType):
                return known
        return (await self._register([name], _left(deadline))).topics[name].partitions

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
            if topic is not None and not isinstance(entry.partitions, UnsetType):
                topic.grow(entry.partitions)

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
