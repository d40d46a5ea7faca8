"""A leader's desk: where every request that only the leader answers goes, by its kind.

It exists from the barrier (this epoch's `lead` is applied) to stepping down, and everything that
a leader holds for its clients hangs on it: what is pending, who is here, who waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from msgspec import UNSET

from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import groups
from yak.core.counts import Counts
from yak.core.membership import Membership
from yak.core.pending import Pending
from yak.core.retention import Retention
from yak.core.service import Service, Standing
from yak.core.topics import Topics
from yak.model import Now


@dataclass(frozen=True)
class Identity:
    """What a node is told of itself when it starts.  inc: fresh at each start."""

    id: int
    inc: str
    version: str
    limits: Limits
    default_partitions: int
    auto_create: bool


@dataclass(slots=True)
class Desk:
    """What a leader serves clients with."""

    pending: Pending
    service: Service
    topics: Topics
    members: Membership
    retention: Retention
    #: What a leader before this one had not come to the end of is done.
    settled: bool = False

    @classmethod
    def open(
        cls,
        pending: Pending,
        me: Identity,
        standing: Callable[[Now], Standing],
        now: Now,
        counts: Counts | None = None,
    ) -> Desk:
        service = Service(pending, me.limits, standing, counts)
        topics = Topics(service, me.limits, me.default_partitions)
        members = Membership(service, topics, me.limits, auto_create=me.auto_create, now=now)
        retention = Retention(service, me.limits.retention_check_ms, now)
        return cls(pending, service, topics, members, retention)

    def tick(self, now: Now) -> None:
        """What depends on silence and age."""
        if not self.settled and self.service.can_write(now):
            self.settled = True
            self.members.share_out(groups.overdue(self.service.tail), now)
        self.members.tick(now)
        self.retention.tick(now)

    def answer(self, asked: e.Asked, request: m.ClientRequest, now: Now) -> None:
        """Decide a request.  Raises Refused; then nothing was written."""
        match request:
            case m.Produce():
                self.service.produce(asked, request, now)
                if request.producer is not UNSET:
                    self.members.producers.produced(request.producer, now)
            case m.Ack():
                self.service.ack(asked, request, now)
            case m.Heartbeat():
                self.members.heartbeat(asked, request, now)
            case m.Register():
                self.members.register(asked, request, now)
            case m.Deregister():
                self.members.deregister(asked, request, now)
            case m.ListOffsets():
                self.service.list_offsets(asked, request, now)
            case m.GroupInfo():
                self.service.group(asked, request, now)
            case m.Groups():
                self.service.groups(asked, now)
            case m.DeleteGroup():
                self.members.delete_group(asked, request, now)
            case _:
                self._answer_topics(asked, request, now)

    def _answer_topics(
        self,
        asked: e.Asked,
        request: m.CreateTopic
        | m.CreatePartitions
        | m.AlterTopic
        | m.DeleteTopic
        | m.Trim
        | m.Hello
        | m.Metadata
        | m.Fetch
        | m.Status,
        now: Now,
    ) -> None:
        match request:
            case m.CreateTopic():
                if not self.topics.create(asked, request, now):
                    return
                self.retention.look_at(request.topic)
            case m.CreatePartitions():
                self.topics.create_partitions(asked, request, now)
            case m.AlterTopic():
                self.topics.alter(asked, request, now)
                self.retention.look_at(request.topic)
                return
            case m.Trim():
                self.topics.trim(asked, request, now)
                return
            case m.DeleteTopic():
                self.topics.delete(asked, request, now)
            case m.Hello() | m.Metadata() | m.Fetch() | m.Status():
                raise AssertionError("any broker answers these")
            case _:
                assert_never(request)
        self.members.share_out_topics([request.topic], now)
