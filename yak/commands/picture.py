"""The cluster at one moment, for whoever shows it: `yak status`, and `yak top` again and again.

    picture = await Sketch(admin, zk).take()

Rules:

* Every process is asked for itself, and what does not answer is part of the picture.
* What only the leader knows (how far topics reach, what groups have received) is left out where
  nobody leads, or where it takes too long: how the brokers are matters more.
* A picture has a bounded size: of many topics and groups it has the first ones, and says how many
  more there are.
* yak-zk counts only if it keeps the very cluster that the brokers belong to: the default address
  may be another one's.

Not here: what it looks like (view.py, status.py), and what it means (yak/explain/health.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from yak.admin import AsyncAdmin
from yak.errors import YakError
from yak.explain.facts import Event
from yak.explain.health import Health, Standing, health
from yak.explain.sentences import said
from yak.local import faults
from yak.local.faults import Fault
from yak.messages import CoordinatorStatus, GroupAnswer
from yak.model import TopicPartition
from yak.net.reports import ClusterReport

#: How long the leader may take to say how far everything reaches: a picture is taken each second.
LEADER_S: Final = 2.0
#: Asked for in one picture; a request for each group, and two for all partitions (200 KB).
GROUPS_ASKED: Final = 50
PARTITIONS_ASKED: Final = 5_000
#: With more topics than this their names alone are megabytes: they are counted only.
TOPICS_ASKED: Final = 2_000


class TopicNow(msgspec.Struct, kw_only=True, frozen=True):
    """start, high_watermark: of each partition, in order."""

    topic: str
    partitions: list[tuple[int, int]]

    @property
    def records(self) -> int:
        return sum(end - start for start, end in self.partitions)

    @property
    def end(self) -> int:
        """All that was ever written to it."""
        return sum(end for _, end in self.partitions)


class Picture(msgspec.Struct, kw_only=True):
    """time: ms since 1970.  at: on a monotonic clock, for rates.

    error: no broker answers, and why.  zk_error: why yak-zk does not; "" also where it was not
    found at an address that nobody named.  leader_error: why topics and groups are not here.
    topics, groups: the first ones; so many more there are.
    faults: of `yak chaos`, in force now; chaos: what it did last.
    """

    time: int
    at: float
    report: ClusterReport | None = None
    error: str = ""
    coordinator: CoordinatorStatus | None = None
    zk_error: str = ""
    leader_error: str = ""
    topics: list[TopicNow] = []
    more_topics: int = 0
    groups: dict[str, GroupAnswer] = {}
    more_groups: int = 0
    faults: list[Fault] = []
    chaos: list[Event] = []

    def health(self) -> Health:
        report = self.report
        if report is None:
            return Health("bad", self.error)
        known = [one for one in report.brokers if one.id is not None]
        return health(
            Standing(
                leader=report.leader,
                epoch=report.epoch,
                isr=report.isr,
                statuses={one.id or 0: one.status for one in known if one.status is not None},
                down={one.id or 0: one.error for one in known if one.status is None},
                coordinator=self.coordinator,
                silent=self.zk_error,
            )
        )

    def heartbeat_ms(self, broker: int | None) -> int | None:
        """How long ago yak-zk last heard of it."""
        sessions = self.coordinator.sessions if self.coordinator is not None else []
        return next((one.heartbeat_age_ms for one in sessions if one.broker == broker), None)

    def behind(self, broker: int | None) -> tuple[int, int] | None:
        """(operations, ms) that a follower is behind its leader, as the leader sees it."""
        report = self.report
        leader = report.broker(report.leader) if report is not None else None
        for one in leader.followers if leader is not None else []:
            if one.id == broker and leader is not None:
                return max(0, leader.log_end - 1 - one.matched), one.lag_ms
        return None

    def readers(self, topic: str) -> list[Reader]:
        """The groups that read a topic, each with what it has received of it."""
        found = []
        for name, answer in self.groups.items():
            rows = [row for row in answer.partitions if row.topic == topic]
            if not rows:
                continue
            clients = {one.member: one.client for one in answer.members}
            members: dict[str, int] = {}
            for row in rows:
                if row.member is not None:
                    members[row.member] = members.get(row.member, 0) + 1
            found.append(
                Reader(
                    group=name,
                    lag=sum(row.lag for row in rows),
                    unacknowledged=sum(_unacknowledged(row.acked, row.delivered) for row in rows),
                    acked=sum(row.acked or 0 for row in rows),
                    members={
                        member: Member(client=clients.get(member, ""), partitions=count)
                        for member, count in sorted(members.items())
                    },
                )
            )
        return found

    def happened(self, most: int) -> list[tuple[int, str]]:
        """(ms, sentence) of what yak-zk last decided and saw, and `yak chaos` did; oldest first."""
        hurt = [(one.time, said(one)) for one in self.chaos]
        told = self.coordinator
        if told is None:
            return hurt[-most:]
        events = [Event(one.time, "yak-zk", one.event, one.fields) for one in told.events]
        since = events[0].time if events else self.time
        past = [
            (one.time, said(Event(one.time, "yak-zk", "elected", _of_election(one))))
            for one in told.elections
            if one.time < since and one.leader is not None
        ]
        if past or events:  # what was done to it before is as old as what it has forgotten
            oldest = min(time for time, _ in [*past, *((one.time, "") for one in events)])
            hurt = [one for one in hurt if one[0] >= oldest]
        found = [*past, *((one.time, said(one)) for one in events), *hurt]
        return sorted(found, key=lambda one: one[0])[-most:]


class Member(msgspec.Struct, kw_only=True, frozen=True):
    client: str
    partitions: int


class Reader(msgspec.Struct, kw_only=True, frozen=True):
    """A group, as far as one topic is concerned.

    unacknowledged: delivered to its members, who have not said yet that they are done with it.
    members: those that have a partition of the topic.
    """

    group: str
    lag: int
    unacknowledged: int
    acked: int
    members: dict[str, Member]


def _unacknowledged(acked: int | None, delivered: int | None) -> int:
    return max(0, (delivered or 0) - (acked or 0))


def _of_election(one: object) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(one)
    return {**fields, "isr": []}


class Rates:
    """How much each topic was written and each group read, from one picture to the next."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._counts: dict[tuple[str, str], int] = {}
        self._rates: dict[tuple[str, str], float] = {}

    def take(self, picture: Picture) -> None:
        """The next picture; one without topics (nobody leads) changes nothing."""
        if picture.report is None or picture.leader_error:
            return
        counts = {(one.topic, ""): one.end for one in picture.topics}
        for one in picture.topics:
            counts |= {(one.topic, r.group): r.acked for r in picture.readers(one.topic)}
        if self._at is not None and picture.at > self._at:
            passed = picture.at - self._at
            # Below zero: the topic was made again, or the group moved back.
            self._rates = {
                key: max(0.0, (count - self._counts[key]) / passed)
                for key, count in counts.items()
                if key in self._counts
            }
        self._at, self._counts = picture.at, counts

    def of(self, topic: str, group: str = "") -> float | None:
        """Records a second; None before there are two pictures of it."""
        return self._rates.get((topic, group))


class Sketch:
    """Takes one picture after the other.

    zk_named: the user named yak-zk's address, so that its silence is worth a word; it is, too,
    once it has answered, and in a cluster of `yak up`, whose yak.json names it.  home: the data
    directory of that one.
    """

    def __init__(
        self, admin: AsyncAdmin, zk: str, *, zk_named: bool, home: Path | None = None
    ) -> None:
        self._admin = admin
        self._zk = zk
        self._zk_known = zk_named or home is not None
        self._home = home

    async def take(self) -> Picture:
        """Never raises for what does not answer."""
        picture = Picture(time=int(time.time() * 1000), at=time.monotonic())
        if self._home is not None:
            picture.faults = faults.in_force(self._home)
            picture.chaos = faults.recent(self._home)
        await asyncio.gather(self._ask_brokers(picture), self._ask_zk(picture))
        told, report = picture.coordinator, picture.report
        if told is not None and report is not None:
            if report.cluster not in (None, told.cluster):
                picture.coordinator = None
                if self._zk_known:
                    picture.zk_error = f"at {self._zk} is the yak-zk of another cluster"
            else:
                self._zk_known = True
        if report is None or report.leader is None:
            return picture
        if report.broker(report.leader) is None:  # it would be waited for once more
            picture.leader_error = f"broker {report.leader}, which leads, does not answer"
        else:
            await self._ask_leader(picture)
        return picture

    async def _ask_brokers(self, picture: Picture) -> None:
        try:
            picture.report = await self._admin.status()
        except YakError as e:
            picture.error = str(e)

    async def _ask_zk(self, picture: Picture) -> None:
        try:
            picture.coordinator = await self._admin.coordinator(self._zk)
        except YakError as e:
            if self._zk_known:
                picture.zk_error = str(e)

    async def _ask_leader(self, picture: Picture) -> None:
        try:
            async with asyncio.timeout(LEADER_S):
                await self._ask_topics(picture)
                await self._ask_groups(picture)
        except TimeoutError:
            picture.leader_error = f"the leader did not say within {LEADER_S:g} s"
        except YakError as e:
            picture.leader_error = str(e)

    async def _ask_topics(self, picture: Picture) -> None:
        report = picture.report
        leader = report.broker(report.leader) if report is not None else None
        if leader is not None and leader.topics > TOPICS_ASKED:
            picture.more_topics = leader.topics
            return
        asked = _asked({name: _count(one) for name, one in (await self._admin.topics()).items()})
        picture.more_topics = (leader.topics if leader is not None else 0) - len(asked)
        picture.more_topics = max(0, picture.more_topics)
        wheres: list[TopicPartition] = [(t, n) for t, total in asked.items() for n in range(total)]
        bounds = iter(await self._admin.bounds(wheres) if wheres else [])
        picture.topics = [
            TopicNow(topic=topic, partitions=[next(bounds) for _ in range(total)])
            for topic, total in asked.items()
        ]

    async def _ask_groups(self, picture: Picture) -> None:
        names = await self._admin.groups()
        asked = names[:GROUPS_ASKED]
        answers = await asyncio.gather(*(self._admin.group(name) for name in asked))
        picture.groups = dict(zip(asked, answers, strict=True))
        picture.more_groups = len(names) - len(asked)


def _count(entry: object) -> int:
    partitions = getattr(entry, "partitions", 0)
    return partitions if isinstance(partitions, int) else 0


def _asked(topics: Mapping[str, int]) -> dict[str, int]:
    """The first ones, as far as PARTITIONS_ASKED reaches."""
    found: dict[str, int] = {}
    left = PARTITIONS_ASKED
    for name, partitions in topics.items():
        if partitions > left:
            break
        found[name] = partitions
        left -= partitions
    return found
