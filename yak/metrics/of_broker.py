"""What a broker tells: its role and epoch, how far its log reaches, who follows it, what it holds.

It outlives a broker's lives (broker.py): counters go on, and between two lives it is not ready.
Memory, CPU and descriptors are told as `process_…`, by the names that every exporter has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from prometheus_client.metrics_core import Metric

from yak import messages as m
from yak.config import Settings
from yak.core.node import Node
from yak.metrics import of_kafka
from yak.metrics.exposition import Row, counted, gauge, single
from yak.metrics.of_port import Events, now, of_port, of_requests
from yak.metrics.station import Word
from yak.model import Now
from yak.net.server import Server
from yak.net.timing import RequestTimes
from yak.storage.store import Store

#: Every role that a broker says of itself.
ROLES: Final = ("starting", "leaderless", "follower", "taking the lead", "leader", "stopping")


@dataclass(frozen=True)
class Life:
    """What one life of a broker is read from.  may_beat: no sync hangs."""

    node: Node
    server: Server
    store: Store
    may_beat: Callable[[], bool]


class BrokerFigures:
    """See the module.  life: None before and between lives."""

    def __init__(self, times: RequestTimes) -> None:
        self.events = Events()
        self.times = times
        self.life: Life | None = None

    def begin(self, node: Node, server: Server, store: Store, may_beat: Callable[[], bool]) -> None:
        """It listens, and tells of itself from now on."""
        server.times = self.times
        self.life = Life(node, server, store, may_beat)

    def health(self) -> Word:
        if self.life is not None and not self.life.may_beat():
            return Word(well=False, reason="a sync of the log hangs: look at the disk")
        return Word(well=True)

    def readiness(self) -> Word:
        if self.life is None:
            return Word(well=False, reason="it starts: what is on the disk is read")
        status = self.life.node.status(now())
        facts = {name: getattr(status, name) for name in ("role", "epoch", "leader", "isr")}
        reason = why_not_ready(status, joined=self.life.node.joined)
        return Word(well=not reason, reason=reason, facts=facts)

    def families(self) -> Iterator[Metric]:
        told = chain(self.events.families(), of_requests(self.times))
        if self.life is None:
            return told
        node, at = self.life.node, now()
        status = node.status(at)
        parts = [told, of_port(self.life.server), _of_itself(status), _of_log(status, self.life)]
        parts += [_of_session(node, at), _of_followers(status)]
        if status.role == "leader" and status.lease_ms > 0 and node.view is not None:
            parts.append(of_kafka.families(node.state, node.view))
        return chain.from_iterable(parts)


def why_not_ready(status: m.StatusAnswer, *, joined: bool) -> str:
    """ "" where it may serve: it leads, or is in sync with who does."""
    if status.role == "leader":
        return ""
    if status.role != "follower":
        return f"it is {status.role}"
    if status.broker not in status.isr:
        return f"it is not in sync: it copies from broker {status.leader}"
    # What it serves is committed, and it would say NO_LEADER when it is cut off from the leader.
    return "" if joined else "it has no session with yak-zk"


def _of_itself(status: m.StatusAnswer) -> Iterator[Metric]:
    roles: list[Row] = [((role,), int(role == status.role)) for role in ROLES]
    yield from gauge("yak_broker_role", "1 for the role that it has.", ("role",), roles)
    yield from single(
        yak_epoch=("The epoch that it knows.", status.epoch),
        yak_leader_id=("Who leads, as it knows; 0: nobody.", status.leader or 0),
        yak_isr_size=("Brokers in sync, as it knows.", len(status.isr)),
        yak_in_sync=("1 if it is in sync itself.", int(status.broker in status.isr)),
        yak_topics=("Topics.", status.topics),
        yak_partitions=("Partitions of all topics.", status.partitions),
        yak_groups=("Consumer groups.", status.groups),
        yak_producers=("Producers known.", status.producers),
    )


def _of_log(status: m.StatusAnswer, life: Life) -> Iterator[Metric]:
    node, store = life.node, life.store
    yield from single(
        yak_log_start_index=("The first operation that its log holds.", status.log_start),
        yak_log_end_index=("The next operation of its log.", status.log_end),
        yak_committed_index=("The last operation that it knows as committed.", status.committed),
        yak_applied_index=("The last operation that it has applied.", status.applied),
        yak_uncommitted_bytes=("Bytes a leader waits for: max_uncommitted_bytes.", _pending(node)),
        yak_unflushed_bytes=("Bytes not yet in partition files.", store.unflushed_bytes),
    )
    yield from counted(
        yak_duplicate_batches=("Batches that came again and were stored once.", _duplicates(node)),
        yak_redeliveries=(
            "Records that a member was handed and did not acknowledge before it was gone.",
            node.counts.redelivered,
        ),
        yak_dropped_batches=("Batches with acks=0 that were refused.", node.dropped),
    )


def _pending(node: Node) -> int:
    return node.uncommitted_bytes


def _duplicates(node: Node) -> int:
    return node.counts.duplicates


def _of_session(node: Node, at: Now) -> Iterator[Metric]:
    lease_s = (node.view.settings if node.view else Settings()).lease_ms / 1000
    yield from single(yak_session=("1 with a session with yak-zk.", int(node.joined)))
    if node.lease_until > float("-inf"):
        age = at.mono - (node.lease_until - lease_s)
        meaning = "Since yak-zk last answered a heartbeat, counted from its sending."
        yield from single(yak_heartbeat_age_seconds=(meaning, max(0.0, age)))
        left = max(0.0, node.lease_until - at.mono)
        yield from single(yak_lease_seconds=("How long its lease lasts yet.", left))


def _of_followers(status: m.StatusAnswer) -> Iterator[Metric]:
    followers = [(str(one.id), one) for one in status.followers]
    yield from gauge(
        "yak_follower_lag_operations",
        "How many operations a follower lacks, as the leader knows.",
        ("follower",),
        [((name,), max(0, status.log_end - 1 - one.matched)) for name, one in followers],
    )
    yield from gauge(
        "yak_follower_lag_seconds",
        "Since a follower had all that the leader had; 0 while it has.",
        ("follower",),
        [((name,), one.lag_ms / 1000) for name, one in followers],
    )
