"""What kafka_exporter tells of a cluster, under its names and labels, so that its dashboards work.

    kafka_brokers, kafka_broker_info{id,address}
    kafka_topic_partitions{topic}, kafka_topic_partition_…{topic,partition}
    kafka_consumergroup_members{consumergroup}, …_current_offset and …_lag{consumergroup,topic,
    partition}, …_current_offset_sum and …_lag_sum{consumergroup,topic}

Rules:

* The leader alone tells it, while it has its lease: what dashboards add up over all targets counts
  once.
* Every broker has every partition, so replicas are the brokers that the cluster has known, and the
  in-sync ones the ISR.
* lag is as `yak group describe` has it: records that are there and not acknowledged.  As in
  kafka_exporter an offset of -1, and a lag of -1, say that the group reads a topic and has
  acknowledged nothing of that partition.
* At most METRICS_MAX_PARTITIONS partitions, in whole topics, the oldest first; and as many rows of
  groups.  What is left out is counted, and a sum that would not be whole is not told.

`kafka_topic_partition_leader_is_preferred` is not told: no broker is preferred here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric

from yak import messages as m
from yak.config import METRICS_MAX_GROUP_ROWS, METRICS_MAX_PARTITIONS
from yak.core.state import State
from yak.metrics.exposition import Row, gauge, single
from yak.model import Address, TopicPartition

_PARTITION: Final = ("topic", "partition")
_GROUP_PARTITION: Final = ("consumergroup", "topic", "partition")
_GROUP_TOPIC: Final = ("consumergroup", "topic")


class _Partition(NamedTuple):
    topic: str
    partition: int
    start: int
    end: int


class _Place(NamedTuple):
    """Where a group stands in a partition; acked: -1 where it never acknowledged."""

    group: str
    topic: str
    partition: int
    acked: int
    lag: int


def families(state: State, view: m.ClusterView) -> Iterator[Metric]:
    """All of it is read before the first is yielded."""
    topics, partitions = _partitions(state)
    places, whole = _places(state)
    members: list[Row] = [
        ((name,), len(group.members))
        for name, group in islice(state.groups.items(), METRICS_MAX_GROUP_ROWS)
    ]
    left_out: list[Row] = [
        (("partitions",), len(state.ends) - len(partitions)),
        (("groups",), len(state.groups) - len(members)),
        (("group_partitions",), 0 if whole else 1),
    ]
    return chain(
        _of_brokers(view),
        gauge("kafka_topic_partitions", "Number of partitions for this topic.", ("topic",), topics),
        _of_partitions(partitions, view),
        gauge("kafka_consumergroup_members", "Members of a group.", ("consumergroup",), members),
        _of_places(places, whole=whole),
        gauge(
            "yak_metrics_left_out",
            "What is not told since it would be too much; group_partitions: 1 where some are not.",
            ("what",),
            left_out,
        ),
    )


# -- reading --------------------------------------------------------------------------------------


def _partitions(state: State) -> tuple[list[Row], list[_Partition]]:
    """Of the oldest topics that fit: how many partitions each has, and those."""
    topics: list[Row] = []
    partitions: list[_Partition] = []
    for name, topic in state.topics.items():
        if topic.partitions > METRICS_MAX_PARTITIONS:
            continue  # it alone is too much; those after it need not suffer
        if len(partitions) + topic.partitions > METRICS_MAX_PARTITIONS:
            break
        topics.append(((name,), topic.partitions))
        partitions += [
            _Partition(*tp, state.start(tp), state.ends[tp]) for tp in state.topic_partitions(name)
        ]
    return topics, partitions


def _places(state: State) -> tuple[list[_Place], bool]:
    """Where groups stand, and whether that is all of them."""
    found = list(islice(_all_places(state), METRICS_MAX_GROUP_ROWS + 1))
    return found[:METRICS_MAX_GROUP_ROWS], len(found) <= METRICS_MAX_GROUP_ROWS


def _all_places(state: State) -> Iterator[_Place]:
    reads: set[tuple[str, str]] = set()
    for tp, by in state.acked.items():
        for group, acked in by.items():
            reads.add((group, tp[0]))
            yield _place(state, group, tp, acked)
    for name, members in state.groups.items():
        for tp in members.owners:
            if tp in state.ends and (name, tp[0]) in reads and state.acked_by(name, tp) is None:
                yield _Place(name, *tp, -1, -1)


def _place(state: State, group: str, tp: TopicPartition, acked: int) -> _Place:
    return _Place(group, *tp, acked, state.ends[tp] - max(state.start(tp), acked))


# -- telling --------------------------------------------------------------------------------------


def _of_brokers(view: m.ClusterView) -> Iterator[Metric]:
    live = [broker for broker in view.brokers if broker.live]
    yield from single(kafka_brokers=("Number of brokers in the cluster that live.", len(live)))
    rows: list[Row] = [((str(one.id), str(Address(one.host, one.port))), 1) for one in live]
    yield from gauge("kafka_broker_info", "A broker that lives.", ("id", "address"), rows)


def _of_partitions(partitions: list[_Partition], view: m.ClusterView) -> Iterator[Metric]:
    replicas, in_sync = len(view.brokers), len(view.isr)
    same = {
        "leader": ("Leader broker ID of this topic/partition.", view.leader or 0),
        "replicas": ("Number of replicas for this topic/partition.", replicas),
        "in_sync_replica": ("Number of in-sync replicas for this topic/partition.", in_sync),
        "under_replicated_partition": (
            "1 if topic/partition is under-replicated.",
            int(in_sync < replicas),
        ),
    }
    prefix = "kafka_topic_partition_"
    rows: list[Row] = [((one.topic, str(one.partition)), one.end) for one in partitions]
    meaning = "The next offset of a topic/partition: its high watermark."
    yield from gauge(prefix + "current_offset", meaning, _PARTITION, rows)
    rows = [((one.topic, str(one.partition)), one.start) for one in partitions]
    meaning = "The first offset of a topic/partition that is still there."
    yield from gauge(prefix + "oldest_offset", meaning, _PARTITION, rows)
    for name, (meaning, value) in same.items():
        rows = [((one.topic, str(one.partition)), value) for one in partitions]
        yield from gauge(prefix + name, meaning, _PARTITION, rows)


def _of_places(places: list[_Place], *, whole: bool) -> Iterator[Metric]:
    prefix = "kafka_consumergroup_"
    offsets: list[Row] = [((p.group, p.topic, str(p.partition)), p.acked) for p in places]
    meaning = "The next offset that a group wants of a topic/partition."
    yield from gauge(prefix + "current_offset", meaning, _GROUP_PARTITION, offsets)
    lags: list[Row] = [((p.group, p.topic, str(p.partition)), p.lag) for p in places]
    meaning = "Records of a topic/partition that are there and not acknowledged by a group."
    yield from gauge(prefix + "lag", meaning, _GROUP_PARTITION, lags)
    if not whole:
        return
    acked: dict[tuple[str, ...], float] = {}
    lag: dict[tuple[str, ...], float] = {}
    for place in places:
        key = (place.group, place.topic)
        acked[key] = acked.get(key, 0) + max(0, place.acked)
        lag[key] = lag.get(key, 0) + max(0, place.lag)
    meaning = "The same for all partitions of a topic."
    yield from gauge(prefix + "current_offset_sum", meaning, _GROUP_TOPIC, list(acked.items()))
    yield from gauge(prefix + "lag_sum", meaning, _GROUP_TOPIC, list(lag.items()))
