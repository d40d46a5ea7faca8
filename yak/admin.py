"""`AsyncAdmin` and `Admin`: topics, groups, and how the cluster is.

    with Admin("127.0.0.1:9092") as admin:
        admin.create_topic("orders", partitions=3)
        admin.create_partitions("orders", 6)
        admin.seek_group("billing", admin.find_offsets("orders", "beginning"))
        print(admin.topics(), admin.group("billing").partitions)
        print(admin.status().leader)

Rules:

* What the leader alone knows is asked of the leader, through any number of elections, until
  `timeout_s` is over.  What topics there are is asked of it, too, since it knows what was just
  made; without a leader anybody's word is taken.
* A change is answered once it is committed.  Its first answer may be lost, and it is asked for
  again: making a topic that exists is `TOPIC_EXISTS`, also where it is one's own; then the
  error's `in_doubt` is true.  Deleting has succeeded when it is gone.
* A request that names a `topic_id` means that topic, and none that was made under its name since.
* `status` asks every broker for itself and never the leader for another: it works while there
  is no leader, and says of each broker that does not answer why not.
* `coordinator`, `elect` and `adopt` ask yak-zk, whose address is theirs to name: they work while
  no broker does.
* `Admin` is `AsyncAdmin` on a thread with a loop of its own, for code that awaits nothing.

Not here: records, and anything that is shown.

One file of more than 400 lines, since the two say the same words, and are read side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET

from yak import errors
from yak import messages as m
from yak.config import DEFAULT_BOOTSTRAP
from yak.errors import RetriableError, YakError
from yak.model import TopicPartition, parse_address, parse_addresses
from yak.net.cluster import Cluster, OnWaiting
from yak.net.loop_thread import LoopThread, told_by
from yak.net.reports import ClusterReport, ask_one, order, survey, together

#: How long the leader is waited for where another broker's word will do, in seconds.
LEADER_S: Final = 2.0

#: A place in every partition: the "beginning" of what is still there, the "end", an offset, -N
#: for N records before the end, or the first record logged at that time or later (a naive
#: datetime is local time).
Place: TypeAlias = Literal["beginning", "end"] | int | datetime

A = TypeVar("A", bound=m.Answer)


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
    on_waiting: is told why, each time that one has been asked for WAITING_S without an answer;
    it runs in the event loop, and must not block.
    Everything raises YakError: with the wire's name where a broker refused.
    """

    def __init__(
        self,
        bootstrap: str = DEFAULT_BOOTSTRAP,
        *,
        client: str = "yak-admin",
        timeout_s: float = 30.0,
        on_waiting: OnWaiting | None = None,
    ) -> None:
        self._addresses = parse_addresses(bootstrap)
        self._cluster = Cluster(self._addresses, client)
        if on_waiting is not None:
            self._cluster.on_waiting = on_waiting
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
        """Make a topic.  partitions: the broker's default where it is left out.

        Raises TOPIC_EXISTS, INVALID_TOPIC (its name), INVALID_CONFIG (a setting, or the number
        of partitions), OVERLOADED (max_topics, max_total_partitions).
        """
        request = m.CreateTopic(
            id=0,
            topic=topic,
            partitions=UNSET if partitions is None else partitions,
            config=dict(config or {}),
        )
        return await self._make(request)

    async def alter_topic(
        self,
        topic: str,
        config: Mapping[str, Any] | None = None,
        *,
        unset: Collection[str] = (),
        topic_id: str | None = None,
    ) -> m.TopicAnswer:
        """Set what `config` names, and put the settings in `unset` back to their defaults.

        The answer's `config` is all that is set then.  Raises UNKNOWN_TOPIC, INVALID_CONFIG.
        """
        request = m.AlterTopic(
            id=0,
            topic=topic,
            config=dict(config or {}),
            unset=list(unset),
            topic_id=_or_unset(topic_id),
        )
        return await self._ask_leader(request, m.TopicAnswer)

    async def create_partitions(
        self, topic: str, partitions: int, *, topic_id: str | None = None
    ) -> m.TopicAnswer:
        """Let a topic have `partitions` in all.

        Records with a key go by the new number once a producer has heard of it, so a key's
        records may lie in two partitions from then on.  Raises UNKNOWN_TOPIC; INVALID_CONFIG
        where it is not more than now, or more than max_partitions.
        """
        request = m.CreatePartitions(
            id=0, topic=topic, partitions=partitions, topic_id=_or_unset(topic_id)
        )
        return await self._make(request)

    async def _make(self, request: m.CreateTopic | m.CreatePartitions) -> m.TopicAnswer:
        """What can be done once only: a second try may be refused for the first one's work."""
        try:
            return await self._ask_leader(request, m.TopicAnswer)
        except YakError as e:
            if e.in_doubt:
                e.hint = "an earlier try of the same had no answer, and may have done it: look"
            raise

    async def delete_topic(self, topic: str, *, topic_id: str | None = None) -> None:
        """Delete a topic: its records, and what groups acknowledged of it.

        Raises UNKNOWN_TOPIC.  Whoever produces to it with auto-creation makes another one.
        """
        if topic_id is None:  # so that a second try does not delete what was made meanwhile
            known = (await self._metadata([topic])).topics[topic].topic_id
            topic_id = known if isinstance(known, str) else None
        request = m.DeleteTopic(id=0, topic=topic, topic_id=_or_unset(topic_id))
        try:
            await self._ask_leader(request, m.Done)
        except YakError as e:
            if e.name != "UNKNOWN_TOPIC" or not e.in_doubt:
                raise

    async def trim(
        self, topic: str, before: Mapping[int, int], *, topic_id: str | None = None
    ) -> dict[int, int]:
        """Forget what lies below an offset: {partition: offset}.  Returns where each begins now.

        A partition that begins there or later already stays as it is.  Raises UNKNOWN_TOPIC,
        UNKNOWN_PARTITION, and OFFSET_OUT_OF_RANGE above a partition's end; the others are trimmed
        all the same.
        """
        requests = [
            m.Trim(id=0, topic=topic, partition=number, before=offset, topic_id=_or_unset(topic_id))
            for number, offset in sorted(before.items())
        ]
        asked = [self._ask_leader(request, m.TrimAnswer) for request in requests]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return {a.partition: a.start for a in answers if isinstance(a, m.TrimAnswer)}

    async def topics(self) -> dict[str, m.TopicEntry]:
        """Every topic, by name."""
        answer = await self._metadata()
        return dict(sorted(answer.topics.items()))

    async def topic(self, topic: str) -> TopicReport:
        """One topic, with the offsets of its partitions.  Raises UNKNOWN_TOPIC."""
        entry = await self._entry(topic)
        assert isinstance(entry.partitions, int)
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
        return await self._offsets([(topic, n) for n in range(partitions)], at)

    async def find_offsets(
        self, topic: str, to: Place, partitions: Collection[int] | None = None
    ) -> dict[TopicPartition, int]:
        """The offset of a place in each partition (by default in all of them).

        -N is the beginning where there are fewer records; a time after the last record is the
        end.  Raises UNKNOWN_TOPIC, UNKNOWN_PARTITION.
        """
        if partitions is None:
            total = (await self._entry(topic)).partitions
            assert isinstance(total, int)
            partitions = range(total)
        wheres = [(topic, number) for number in sorted(set(partitions))]
        if isinstance(to, int) and to >= 0:
            return dict.fromkeys(wheres, to)
        if to == "beginning":
            found = await self._offsets(wheres, "earliest")
        elif isinstance(to, datetime):
            found = await self._offsets(wheres, max(0, round(to.timestamp() * 1000)))
        elif isinstance(to, int):
            starts = await self._offsets(wheres, "earliest")
            ends = await self._offsets(wheres, "latest")
            found = [max(a or 0, (b or 0) + to) for a, b in zip(starts, ends, strict=True)]
        else:
            found = [None] * len(wheres)
        if None in found:
            ends = await self._offsets(wheres, "latest")
            found = [b if a is None else a for a, b in zip(found, ends, strict=True)]
        return {where: offset or 0 for where, offset in zip(wheres, found, strict=True)}

    async def bounds(self, wheres: Sequence[TopicPartition]) -> list[tuple[int, int]]:
        """(start, high watermark) of these partitions, in their order.

        Raises UNKNOWN_TOPIC, UNKNOWN_PARTITION for any of them.
        """
        starts = await self._offsets(list(wheres), "earliest")
        ends = await self._offsets(list(wheres), "latest")
        return [(start or 0, end or 0) for start, end in zip(starts, ends, strict=True)]

    async def _offsets(self, wheres: list[TopicPartition], at: str | int) -> list[int | None]:
        fields = {"type": "list_offsets", "id": 0, "partitions": wheres, "at": at}
        request = msgspec.convert(fields, m.ListOffsets)
        answer = await self._ask_leader(request, m.OffsetsAnswer)
        return [offset for _, _, offset in answer.offsets]

    async def _entry(self, topic: str) -> m.TopicEntry:
        entry = (await self._metadata([topic])).topics[topic]
        if isinstance(entry.partitions, msgspec.UnsetType):
            raise YakError(
                f"there is no topic {topic!r}",
                name="UNKNOWN_TOPIC",
                hint="`yak topic list` shows those that there are",
            )
        return entry

    # -- groups -----------------------------------------------------------------------------------

    async def groups(self) -> list[str]:
        """The names of all groups."""
        return sorted((await self._ask_leader(m.Groups(id=0), m.GroupsAnswer)).groups)

    async def group(self, group: str) -> m.GroupAnswer:
        """Who is in a group and what has reached whom; an unknown group is empty."""
        return await self._ask_leader(m.GroupInfo(id=0, group=group), m.GroupAnswer)

    async def seek_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Let a group without members go on at these offsets, forward or back.

        Other partitions stay as they are; an unknown group is made.  Raises GROUP_NOT_EMPTY while
        the group has members (stop them first), OFFSET_OUT_OF_RANGE above a partition's end,
        UNKNOWN_TOPIC, UNKNOWN_PARTITION; then nothing was changed.
        """
        rows = [(topic, number, offset) for (topic, number), offset in sorted(offsets.items())]
        await self._ask_leader(m.Ack(id=0, group=group, offsets=rows, reset=True), m.Done)

    async def delete_group(self, group: str) -> None:
        """Forget a group and what it acknowledged; an unknown one is forgotten already.

        Raises GROUP_NOT_EMPTY while it has members.
        """
        await self._ask_leader(m.DeleteGroup(id=0, group=group), m.Done)

    # -- the cluster ------------------------------------------------------------------------------

    async def status(self) -> ClusterReport:
        """Every broker's own word.  Raises RetriableError if not a single one answers."""
        addresses = list(dict.fromkeys(self._addresses))
        reports, known = await survey(addresses, self._cluster.on_waiting)
        if not any(report.status for report in reports):
            raise RetriableError(
                "no broker answers: " + "; ".join(report.error for report in reports),
                name="CONNECTION",
                hint="is it running (`yak up` starts one), and is --bootstrap its address?",
            )
        return together(reports, known)

    async def metadata(self, topics: Sequence[str] | None = None) -> m.MetadataAnswer:
        """Who leads, who is in sync, every broker, and these topics (all, if left out).

        As the leader says it; without one, anybody.
        """
        return await self._metadata(topics)

    async def brokers(self) -> list[m.BrokerEntry]:
        """Every broker that the cluster has known, as any one of them says."""
        answer = await self._cluster.metadata([], timeout_s=self._timeout_s)
        return answer.brokers

    async def coordinator(self, address: str) -> m.CoordinatorStatus:
        """What yak-zk says of itself: who lives, and the last elections with their reasons."""
        return await ask_one(parse_address(address), m.Status(id=0), m.CoordinatorStatus)

    async def elect(self, address: str, broker: int, *, plan: str | None = None) -> m.OrderAnswer:
        """Order, of yak-zk at this address, that a broker leads.

        plan: that of an answer to this very call without one, which changes nothing and says
        what would be done, and what may be lost.
        """
        request = m.Elect(id=0, broker=broker, plan=_or_unset(plan))
        return await order(parse_address(address), request, timeout_s=self._timeout_s)

    async def adopt(
        self,
        address: str,
        cluster: str | None = None,
        isr: Collection[int] | None = None,
        *,
        plan: str | None = None,
    ) -> m.OrderAnswer:
        """Order that the yak-zk at this address takes over a cluster whose brokers it refused.

        cluster: the only one, if left out.  isr: which of its brokers must have come before one
        is elected; all, if left out.  plan: as in `elect`.
        """
        request = m.Adopt(
            id=0,
            cluster=_or_unset(cluster),
            isr=UNSET if isr is None else sorted(isr),
            plan=_or_unset(plan),
        )
        return await order(parse_address(address), request, timeout_s=self._timeout_s)

    async def _ask_leader(self, request: m.Request, answer_type: type[A]) -> A:
        answer, _ = await self._cluster.ask_leader(request, answer_type, timeout_s=self._timeout_s)
        return answer

    async def _metadata(self, topics: Sequence[str] | None = None) -> m.MetadataAnswer:
        """The leader's word, which has all that was answered before; else anybody's."""
        request = m.Metadata(id=0, topics=UNSET if topics is None else list(topics))
        timeout_s = min(LEADER_S, self._timeout_s)
        try:
            answer, _ = await self._cluster.ask_leader(
                request, m.MetadataAnswer, timeout_s=timeout_s
            )
        except errors.TimeoutError:
            return await self._cluster.metadata(topics, timeout_s=self._timeout_s)
        return answer


def _or_unset(name: str | None) -> str | msgspec.UnsetType:
    return UNSET if name is None else name


@told_by(AsyncAdmin)
class Admin:
    """`AsyncAdmin` for code that awaits nothing."""

    def __init__(
        self,
        bootstrap: str = DEFAULT_BOOTSTRAP,
        *,
        client: str = "yak-admin",
        timeout_s: float = 30.0,
        on_waiting: OnWaiting | None = None,
    ) -> None:
        self._loop = LoopThread("yak-admin")
        self._admin = AsyncAdmin(
            bootstrap, client=client, timeout_s=timeout_s, on_waiting=on_waiting
        )

    def __enter__(self) -> Self:
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

    def alter_topic(
        self,
        topic: str,
        config: Mapping[str, Any] | None = None,
        *,
        unset: Collection[str] = (),
        topic_id: str | None = None,
    ) -> m.TopicAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(
            self._admin.alter_topic(topic, config, unset=unset, topic_id=topic_id)
        )

    def create_partitions(
        self, topic: str, partitions: int, *, topic_id: str | None = None
    ) -> m.TopicAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.create_partitions(topic, partitions, topic_id=topic_id))

    def delete_topic(self, topic: str, *, topic_id: str | None = None) -> None:
        """As AsyncAdmin's."""
        self._loop.call(self._admin.delete_topic(topic, topic_id=topic_id))

    def trim(
        self, topic: str, before: Mapping[int, int], *, topic_id: str | None = None
    ) -> dict[int, int]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.trim(topic, before, topic_id=topic_id))

    def topics(self) -> dict[str, m.TopicEntry]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.topics())

    def topic(self, topic: str) -> TopicReport:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.topic(topic))

    def offsets(self, topic: str, partitions: int, at: str | int) -> list[int | None]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.offsets(topic, partitions, at))

    def find_offsets(
        self, topic: str, to: Place, partitions: Collection[int] | None = None
    ) -> dict[TopicPartition, int]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.find_offsets(topic, to, partitions))

    def groups(self) -> list[str]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.groups())

    def group(self, group: str) -> m.GroupAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.group(group))

    def seek_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """As AsyncAdmin's."""
        self._loop.call(self._admin.seek_group(group, offsets))

    def delete_group(self, group: str) -> None:
        """As AsyncAdmin's."""
        self._loop.call(self._admin.delete_group(group))

    def status(self) -> ClusterReport:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.status())

    def metadata(self, topics: Sequence[str] | None = None) -> m.MetadataAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.metadata(topics))

    def brokers(self) -> list[m.BrokerEntry]:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.brokers())

    def coordinator(self, address: str) -> m.CoordinatorStatus:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.coordinator(address))

    def elect(self, address: str, broker: int, *, plan: str | None = None) -> m.OrderAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.elect(address, broker, plan=plan))

    def adopt(
        self,
        address: str,
        cluster: str | None = None,
        isr: Collection[int] | None = None,
        *,
        plan: str | None = None,
    ) -> m.OrderAnswer:
        """As AsyncAdmin's."""
        return self._loop.call(self._admin.adopt(address, cluster, isr, plan=plan))
