"""kafka_exporter's names, from what a leader has applied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.playbook import Scribe, a_view
from yak.metrics import of_kafka

Told = dict[tuple[str, ...], float]


@pytest.fixture
def scribe() -> Scribe:
    """t has 10 and 4 records, of which 3 were trimmed; member a of g holds both partitions."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.append(10)
    scribe.append(4, partition=1)
    scribe.trim(3)
    scribe.member("a")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "a", None, None))
    return scribe


def told(scribe: Scribe) -> dict[str, Told]:
    """name -> labels' values in the order of their names -> value"""
    found: dict[str, Told] = {}
    for family in of_kafka.families(scribe.state, a_view()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def labels(scribe: Scribe, name: str) -> Iterator[tuple[str, ...]]:
    for family in of_kafka.families(scribe.state, a_view()):
        if family.name == name:
            yield from (tuple(sample.labels) for sample in family.samples)


def test_partitions(scribe: Scribe) -> None:
    found = told(scribe)
    assert found["kafka_topic_partitions"] == {("t",): 2}
    assert found["kafka_topic_partition_current_offset"] == {("0", "t"): 10, ("1", "t"): 4}
    assert found["kafka_topic_partition_oldest_offset"] == {("0", "t"): 3, ("1", "t"): 0}
    view = a_view()
    for name, value in (
        ("leader", view.leader),
        ("replicas", len(view.brokers)),
        ("in_sync_replica", len(view.isr)),
        ("under_replicated_partition", int(len(view.isr) < len(view.brokers))),
    ):
        told_of = found[f"kafka_topic_partition_{name}"]
        assert told_of == {("0", "t"): value, ("1", "t"): value}, name
    assert set(labels(scribe, "kafka_topic_partition_leader")) == {("topic", "partition")}


def test_brokers_are_those_that_live(scribe: Scribe) -> None:
    view = a_view()
    found = told(scribe)
    assert found["kafka_brokers"] == {(): sum(broker.live for broker in view.brokers)}
    assert {id_ for _, id_ in found["kafka_broker_info"]} == {
        str(broker.id) for broker in view.brokers if broker.live
    }


def test_a_group_that_acknowledged_nothing_is_only_its_members(scribe: Scribe) -> None:
    found = told(scribe)
    assert found["kafka_consumergroup_members"] == {("g",): 1}
    assert "kafka_consumergroup_lag" not in found


def test_where_a_group_stands(scribe: Scribe) -> None:
    scribe.ack(7)
    found = told(scribe)
    # -1: it reads the topic, and never acknowledged there; as kafka_exporter has it.
    assert found["kafka_consumergroup_current_offset"] == {("g", "0", "t"): 7, ("g", "1", "t"): -1}
    assert found["kafka_consumergroup_lag"] == {("g", "0", "t"): 3, ("g", "1", "t"): -1}
    assert found["kafka_consumergroup_current_offset_sum"] == {("g", "t"): 7}
    assert found["kafka_consumergroup_lag_sum"] == {("g", "t"): 3}


def test_lag_counts_what_is_there(scribe: Scribe) -> None:
    scribe.ack(1)
    assert told(scribe)["kafka_consumergroup_lag"]["g", "0", "t"] == 7, "from the log's start"


def test_what_would_be_too_much_is_counted(scribe: Scribe, monkeypatch: pytest.MonkeyPatch) -> None:
    scribe.topic("wide", partitions=6)
    scribe.topic("u", partitions=3)
    scribe.topic("v", partitions=1)
    for group in ("g", "h", "i"):
        scribe.ack(1, group=group)
        scribe.ack(1, partition=1, group=group)
    monkeypatch.setattr(of_kafka, "METRICS_MAX_PARTITIONS", 5)
    monkeypatch.setattr(of_kafka, "METRICS_MAX_GROUP_ROWS", 2)
    found = told(scribe)
    assert list(found["kafka_topic_partitions"]) == [("t",), ("u",)], "whole topics that fit"
    assert len(found["kafka_topic_partition_leader"]) == 5
    assert len(found["kafka_consumergroup_lag"]) == 2
    assert len(found["kafka_consumergroup_members"]) == 2
    assert "kafka_consumergroup_lag_sum" not in found, "a sum of some would be wrong"
    assert found["yak_metrics_left_out"] == {
        ("partitions",): 7,
        ("groups",): 1,
        ("group_partitions",): 1,
    }


def test_nothing_is_left_out_as_a_rule(scribe: Scribe) -> None:
    assert set(told(scribe)["yak_metrics_left_out"].values()) == {0}


def test_it_is_one_moment(scribe: Scribe) -> None:
    """What is applied while it is written down is the next scrape's."""
    scribe.ack(7)
    families = of_kafka.families(scribe.state, a_view())
    next(families)
    scribe.append(5)
    scribe.ack(15)
    found = {
        s.name: s.value for f in families for s in f.samples if s.labels.get("partition") == "0"
    }
    assert found["kafka_topic_partition_current_offset"] == 10
    assert found["kafka_consumergroup_lag"] == 3
