"""`AsyncAdmin` and `Admin`: topics, groups, and how the cluster is.

    with Admin("127.0.0.1:9092") as admin:
        admin.create_topic("orders", partitions=3)
        print(admin.topics(), admin.group("billing").partitions)
        print(admin.status().leader)

Rules:

* What the leader alone knows is asked of the leader, through any number of elections, until
  `timeout_s` is over.  Making a topic that exists is `TOPIC_EXISTS`, also where the first answer
  was lost and the topic is one's own.
* `status` asks every broker for itself and never the leader for another: it works while there
  is no leader, and says of each broker that does not answer why not.
* `Admin` is `AsyncAdmin` on a thread with a loop of its own, for code that awaits nothing.

Not here: records, and anything that is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from yak import messages as m
from yak.config import DEFAULT_BOOTSTRAP
from yak.errors import RetriableError, YakError
from yak.model import Address, parse_address, parse_addresses
from yak.net.cluster import Cluster
from yak.net.connection import Connection
from yak.net.loop_thread import LoopThread

#: How long one broker may take to say how it is, in seconds.
PROBE_S: Final = 2.0

A = TypeVar("A", bound=m.Answer)


class BrokerReport(msgspec.Struct, kw_only=True, frozen=True):
    """One broker's own word.  Either `status` is there, or `error` says why it is not.

    id: None for an address of the bootstrap list that never answered and that no other broker
    has named.
    """

    id: int | None
    address: Address
    status: m.StatusAnswer | None = None
    error: str = ""


class ClusterReport(msgspec.Struct, kw_only=True, frozen=True):
    """What the brokers say, taken together: the word of those with the highest epoch counts."""

    cluster: str | None
    epoch: int
    leader: int | None
    isr: list[int]
    brokers: list[BrokerReport]

    def broker(self, broker_id: int | None) -> m.StatusAnswer | None:
        """That broker's status, if it answered."""
        for report in self.brokers:
            if report.id is not None and report.id == broker_id:
                return report.status
        return None


class PartitionReport(msgspec.Struct, kw_only=True, frozen=True):
    """start: the first offset that is still there.  high_watermark: the next one to be written."""

    partition: int
    start: int
    high_watermark: int


class TopicReport(msgspec.Struct, kw_only=True, frozen=True):
    """A topic, and how far each of its partitions reaches."""

    topic: str
    topic_id: str
    config: dict[str, Any]
    partitions: list[PartitionReport]


class AsyncAdmin:
    """See the module's text.  Use it in `async with`, or `close` it.

    bootstrap: HOST:PORT, several with commas between them.  client: the name in the brokers'
    logs.  timeout_s: how long a question is asked again while no leader answers.
    Everything raises YakError: with the wire's name where a broker refused.
    """

    def __init__(
        self,
        bootstrap: str = DEFAULT_BOOTSTRAP,
        *,
        client: str = "yak-admin",
        timeout_s: float = 30.0,
    ) -> None:
        self._addresses = parse_addresses(bootstrap)
        self._cluster = Cluster(self._addresses, client)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> AsyncAdmin:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection.  Idempotent."""
        await self._cluster.close()

    # -- topics -----------------------------------------------------------------------------------

    async def create_topic(
        self, topic: str, partitions: int | None = None, config: Mapping[str, Any] | None = None
    ) -> m.TopicAnswer:
        """Make a topic.  partitions: the broker's default where it is left out."""
        request = m.CreateTopic(
            id=0,
            topic=topic,
            partitions=UNSET if partitions is None else partitions,
            config=dict(config or {}),
        )
        return await self._ask_leader(request, m.TopicAnswer)

    async def topics(self) -> dict[str, m.TopicEntry]:
        """Every topic, by name."""
        answer = await self._metadata()
        return dict(sorted(answer.topics.items()))

    async def topic(self, topic: str) -> TopicReport:
        """One topic, with the offsets of its partitions."""
        answer = await self._metadata([topic])
        entry = answer.topics[topic]
        if isinstance(entry.partitions, msgspec.UnsetType):
            raise YakError(
                f"there is no topic {topic!r}",
                name="UNKNOWN_TOPIC",
                hint="`yak topic list` shows those that there are",
            )
        starts = await self.offsets(topic, entry.partitions, "earliest")
        ends = await self.offsets(topic, entry.partitions, "latest")
        return TopicReport(
            topic=topic,
            topic_id=entry.topic_id or "",
            config=entry.config or {},
            partitions=[
                PartitionReport(partition=n, start=starts[n] or 0, high_watermark=ends[n] or 0)
                for n in range(entry.partitions)
            ],
        )

    async def offsets(self, topic: str, partitions: int, at: str | int) -> list[int | None]:
        """Of partitions 0 up to `partitions`: the offset at "earliest", "latest", or a time in ms.

        None where no record has been written at that time or later.
        """
        request = msgspec.convert(
            {
                "type": "list_offsets",
                "id": 0,
                "partitions": [(topic, n) for n in range(partitions)],
                "at": at,
            },
            m.ListOffsets,
        )
        answer = await self._ask_leader(request, m.OffsetsAnswer)
        return [offset for _, _, offset in answer.offsets]

    # -- groups -----------------------------------------------------------------------------------

    async def groups(self) -> list[str]:
        """The names of all groups."""
        return sorted((await self._ask_leader(m.Groups(id=0), m.GroupsAnswer)).groups)

    async def group(self, group: str) -> m.GroupAnswer:
        """Who is in a group and what has reached whom; an unknown group is empty."""
        return await self._ask_leader(m.GroupInfo(id=0, group=group), m.GroupAnswer)

    # -- the cluster ------------------------------------------------------------------------------

    async def status(self) -> ClusterReport:
        """Every broker's own word.  Raises RetriableError if not a single one answers."""
        asked = dict.fromkeys(self._addresses)
        reports = await asyncio.gather(*(_probe(address) for address in asked))
        known = await self._registered(reports)
        more = [address for address in known if address not in asked]
        reports += await asyncio.gather(*(_probe(address) for address in more))
        if not any(report.status for report in reports):
            raise RetriableError(
                "no broker answers: " + "; ".join(report.error for report in reports),
                name="CONNECTION",
                hint="is the cluster running, and is --bootstrap its address?",
            )
        return _together(reports, known)

    async def brokers(self) -> list[m.BrokerEntry]:
        """Every broker that the cluster has known, as any one of them says."""
        return (await self._metadata([])).brokers

    async def coordinator(self, address: str) -> m.CoordinatorStatus:
        """What yak-zk says of itself: who lives, and the last elections with their reasons."""
        return await _ask_one(parse_address(address), m.Status(id=0), m.CoordinatorStatus)

    async def _registered(self, reports: Sequence[BrokerReport]) -> dict[Address, int]:
        """Every broker that the cluster has ever known, asked of one that answered just now."""
        for report in reports:
            if report.status is not None:
                try:
                    answer = await _ask_one(
                        report.address, m.Metadata(id=0, topics=[]), m.MetadataAnswer
                    )
                except YakError:
                    continue
                return {Address(b.host, b.port): b.id for b in answer.brokers}
        return {}

    async def _ask_leader(self, request: m.Request, answer_type: type[A]) -> A:
        answer, _ = await self._cluster.ask_leader(request, answer_type, timeout_s=self._timeout_s)
        return answer

    async def _metadata(self, topics: Sequence[str] | None = None) -> m.MetadataAnswer:
        return await self._cluster.metadata(topics, timeout_s=self._timeout_s)


async def _ask_one(address: Address, request: m.Request, answer_type: type[A]) -> A:
    """One question on a connection of its own, without a second try."""
    connection = await Connection.open(address, timeout_s=PROBE_S)
    try:
        answer, _ = await connection.ask(request, answer_type, timeout_s=PROBE_S)
    finally:
        connection.close()
    return answer


async def _probe(address: Address) -> BrokerReport:
    try:
        status = await _ask_one(address, m.Status(id=0), m.StatusAnswer)
    except YakError as e:
        return BrokerReport(id=None, address=address, error=str(e))
    return BrokerReport(id=status.broker, address=address, status=status)


def _together(reports: Sequence[BrokerReport], known: Mapping[Address, int]) -> ClusterReport:
    """One report of all: each broker once, and the word of the highest epoch on who leads.

    An address that nobody knows and that does not answer is none of the cluster's brokers: the
    default bootstrap list names three, and a cluster may have one.
    """
    brokers: dict[int, BrokerReport] = {}
    for report in reports:
        broker_id = report.id if report.id is not None else known.get(report.address)
        if broker_id is not None and (broker_id not in brokers or report.status is not None):
            brokers[broker_id] = msgspec.structs.replace(report, id=broker_id)
    words = [report.status for report in brokers.values() if report.status is not None]
    best = max(words, key=lambda word: (word.epoch, word.broker == word.leader))
    return ClusterReport(
        cluster=best.cluster,
        epoch=best.epoch,
        leader=best.leader,
        isr=best.isr,
        brokers=[brokers[broker_id] for broker_id in sorted(brokers)],
    )


class Admin:
    """`AsyncAdmin` for code that awaits nothing."""

    def __init__(
        self,
        bootstrap: str = DEFAULT_BOOTSTRAP,
        *,
        client: str = "yak-admin",
        timeout_s: float = 30.0,
    ) -> None:
        self._loop = LoopThread("yak-admin")
        self._admin = AsyncAdmin(bootstrap, client=client, timeout_s=timeout_s)

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection.  Idempotent."""
        if self._loop.alive:
            self._loop.call(self._admin.close())
            self._loop.stop()

    def create_topic(
        self, topic: str, partitions: int | None = None, config: Mapping[str, Any] | None = None
    ) -> m.TopicAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.create_topic(topic, partitions, config))

    def topics(self) -> dict[str, m.TopicEntry]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.topics())

    def topic(self, topic: str) -> TopicReport:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.topic(topic))

    def offsets(self, topic: str, partitions: int, at: str | int) -> list[int | None]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.offsets(topic, partitions, at))

    def groups(self) -> list[str]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.groups())

    def group(self, group: str) -> m.GroupAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.group(group))

    def status(self) -> ClusterReport:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.status())

    def brokers(self) -> list[m.BrokerEntry]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.brokers())

    def coordinator(self, address: str) -> m.CoordinatorStatus:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.coordinator(address))
