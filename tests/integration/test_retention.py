"""Retention on a real cluster: whole segments go, the same ones on every replica, and stay gone."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import partition_dir, segments, topic_bytes
from tests.support.process import wait_until
from tests.support.wire import Wire, records

SEGMENT_BYTES = 2048
#: How much a producer sends at a time: ten records, some 500 bytes.
BATCH = 10


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(broker_options=("--retention-check-ms", "100"))


def produce(wire: Wire, batches: int, topic: str = "t") -> int:
    """So many batches; the offset after the last one."""
    end = 0
    for _ in range(batches):
        body = records(f"value {number:020}" for number in range(BATCH))
        end = wire.ok("produce", body, topic=topic, partition=0, count=BATCH)["offset"] + BATCH
    return end


def bounds(cluster: Cluster, broker: int, topic: str = "t") -> tuple[int, int]:
    """A replica's log start and high watermark."""
    with cluster.connect(broker) as wire:
        entry, _ = wire.fetch(topic, 0, 2**53 - 1)
        return entry["start"], entry["high_watermark"]


def file_sizes(cluster: Cluster, broker: int, topic: str = "t") -> list[int]:
    """Of a replica's segments, oldest first."""
    return [
        len(data)
        for name, data in topic_bytes(cluster.data_dir(broker)).items()
        if name.startswith(f"{topic}/")
    ]


def wait_trimmed(cluster: Cluster, broker: int, end: int, kept: int) -> None:
    """Until all is in the files, and without the oldest there would be less than is to be kept."""

    def look() -> bool:
        sizes = file_sizes(cluster, broker)
        return bounds(cluster, broker)[0] > 0 and kept <= sum(sizes) < kept + sizes[0]

    assert bounds(cluster, broker)[1] == end
    wait_until(look, f"'t' is trimmed to {kept} bytes")


def wait_same(cluster: Cluster, ids: list[int], topic: str = "t") -> tuple[int, int]:
    """Until these replicas agree on the log's bounds, and their files are the same bytes."""

    def look() -> tuple[int, int] | None:
        seen = {bounds(cluster, broker, topic) for broker in ids}
        files = [topic_bytes(cluster.data_dir(broker)) for broker in ids]
        same = len(seen) == 1 and all(one == files[0] for one in files)
        return seen.pop() if same else None

    found = wait_until(look, f"brokers {ids} have the same files of '{topic}'")
    assert found is not None
    return found


def first_file(cluster: Cluster, broker: int, topic: str = "t") -> int:
    return int(segments(partition_dir(cluster.data_dir(broker), topic, 0))[0].stem)


def test_by_size_the_oldest_segments_go_on_every_replica_across_a_failover(
    cluster: Cluster,
) -> None:
    kept = 10_000
    config = {"segment_bytes": SEGMENT_BYTES, "retention_bytes": kept}
    leader = cluster.wait_leader()
    with cluster.connect(leader) as wire:
        wire.ok("create_topic", topic="t", partitions=1, config=config)
        wire.ok("create_topic", topic="all", partitions=1, config={"segment_bytes": SEGMENT_BYTES})
        end = produce(wire, 100)
        everything = produce(wire, 100, "all")
    wait_trimmed(cluster, leader, end, kept)
    start, _ = wait_same(cluster, cluster.ids)
    for broker in cluster.ids:
        assert first_file(cluster, broker) == start, "whole segments"
        assert kept <= sum(file_sizes(cluster, broker)) < kept + SEGMENT_BYTES
    cluster.kill(leader)
    other = cluster.wait_leader(other_than=leader)
    with cluster.connect(other) as wire:
        refusal, _ = wire.fetch("t", 0, start - 1)
        assert (refusal["error"], refusal["start"]) == ("OFFSET_OUT_OF_RANGE", start)
        more = produce(wire, 50)
        assert more == end + 50 * BATCH, "offsets go on"
        wait_trimmed(cluster, other, more, kept)
        assert len(wire.read_all("t", 0, bounds(cluster, other)[0])) > kept // SEGMENT_BYTES
    cluster.start(leader)
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    again, _ = wait_same(cluster, cluster.ids)
    assert again > start
    assert bounds(cluster, leader, "all") == (0, everything), "without a limit all stays"
    cluster.restart(*cluster.ids)
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    assert wait_same(cluster, cluster.ids)[0] >= again, "what is gone stays gone"


def test_by_age_all_of_it_goes_and_the_next_file_begins_at_the_end(cluster: Cluster) -> None:
    config = {"segment_bytes": SEGMENT_BYTES, "retention_ms": 3_600_000}
    leader = cluster.wait_leader()
    with cluster.connect(leader) as wire:
        wire.ok("create_topic", topic="t", partitions=1, config=config)
        end = produce(wire, 30)
        assert bounds(cluster, leader) == (0, end), "all of it is young"
        wire.ok("alter_topic", topic="t", config={"retention_ms": 200})
        wait_until(lambda: bounds(cluster, leader)[0] == end, "all of it is too old")
    assert wait_same(cluster, cluster.ids) == (end, end)
    for broker in cluster.ids:
        assert file_sizes(cluster, broker) == []
    cluster.kill(leader)
    other = cluster.wait_leader(other_than=leader)
    with cluster.connect(other) as wire:
        wire.ok("alter_topic", topic="t", config={"retention_ms": -1})
        assert produce(wire, 1) == end + BATCH
        assert [op.fields["offset"] for op in wire.read_all("t", 0, end)] == [end]
    cluster.start(leader)
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    assert wait_same(cluster, cluster.ids) == (end, end + BATCH)
    assert {first_file(cluster, broker) for broker in cluster.ids} == {end}
