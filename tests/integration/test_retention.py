"""Retention on a real cluster: whole segments go, the same ones on every replica, and stay gone."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import yak
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


# -- the disk, together with checkpoints and the log's cuts ----------------------------------------

MIB = 1024 * 1024
#: Everything that keeps something on the disk, small.
SMALL = (
    *("--retention-check-ms", "100", "--trash-ms", "500"),
    *("--checkpoint-bytes", str(MIB // 2), "--oplog-retain-bytes", str(MIB // 4)),
    *("--default-partitions", "1"),
)


def disk_bytes(cluster: Cluster, broker: int) -> int:
    """Of all under its data directory, of which files may vanish meanwhile."""
    total = 0
    for directory, _, names in os.walk(cluster.data_dir(broker)):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(directory) / name).stat().st_size
    return total


@contextlib.contextmanager
def producing(cluster: Cluster, *topics: str) -> Iterator[Callable[[], int]]:
    """A producer in the background, some 4 MB/s; tells how many bytes are acknowledged."""
    over = threading.Event()
    value = "x" * 1000
    sent = 0

    def go_on() -> None:
        nonlocal sent
        with yak.Producer(bootstrap=cluster.bootstrap()) as producer:
            while not over.wait(0.05):
                for topic in topics:
                    producer.send_many(topic, [value] * 100)
                producer.flush()
                sent += 100 * len(value) * len(topics)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(go_on)
        try:
            yield lambda: sent
        finally:
            over.set()
            running.result()


def wait_sent(sent: Callable[[], int], more: int) -> None:
    enough = sent() + more
    wait_until(lambda: sent() > enough, f"{more} more bytes are acknowledged")


def wait_small(cluster: Cluster, broker: int, limit: int) -> None:
    wait_until(
        lambda: disk_bytes(cluster, broker) < limit, f"broker {broker} holds less than {limit}"
    )


def test_with_retention_the_disk_shrinks_while_producers_run_and_stays_small(
    make_cluster: MakeCluster,
) -> None:
    """By size and by age; consumers that were overtaken go on where their `start` says."""
    cluster = make_cluster(
        zk_options=("--oplog-segment-bytes", str(MIB // 4)), broker_options=SMALL
    )
    config = {"segment_bytes": MIB // 8}
    limited = {"sized": {"retention_bytes": MIB // 2}, "aged": {"retention_ms": 500}}
    with cluster.connect_leader() as wire:
        for topic in limited:
            wire.ok("create_topic", topic=topic, partitions=1, config=config)
    with producing(cluster, *limited) as sent, contextlib.ExitStack() as stack:
        behind = {
            (start, topic): stack.enter_context(consumer_behind(cluster, start, topic))
            for start in ("beginning", "end", "error")
            for topic in limited
        }
        wait_sent(sent, 8 * MIB)
        for broker in cluster.ids:
            assert disk_bytes(cluster, broker) > 8 * MIB, "all of it stays"
        with cluster.connect_leader() as wire:
            for topic, limit in limited.items():
                wire.ok("alter_topic", topic=topic, config=limit)
        # The partitions' 1 MB and a few segments, two checkpoints' worth of log, what is freed.
        small = 6 * MIB
        for _ in range(3):
            wait_sent(sent, 2 * MIB)
            for broker in cluster.ids:
                wait_small(cluster, broker, small)
        for (start, topic), (consumer, position) in behind.items():
            check_goes_on(cluster, consumer, position, start, topic)


@contextlib.contextmanager
def consumer_behind(cluster: Cluster, start: str, topic: str) -> Iterator[tuple[yak.Consumer, int]]:
    """One whose group has acknowledged a little, and who comes back later; where it goes on."""
    options: yak.ConsumerOptions = {"bootstrap": cluster.bootstrap(), "group": f"{topic}-{start}"}
    with yak.Consumer(topic, **options, start="beginning") as early:
        position = 0
        while not position:
            for record in early.poll(1.0, 10):
                position = record.offset + 1
        early.commit()
    yield yak.Consumer(topic, **options, start=start), position


def check_goes_on(
    cluster: Cluster, consumer: yak.Consumer, position: int, start: str, topic: str
) -> None:
    oldest, end = bounds(cluster, cluster.wait_leader(), topic)
    assert oldest > position
    if start == "error":
        with consumer, pytest.raises(yak.YakError) as refused:
            wait_until(lambda: consumer.poll(1.0), "a consumer is told")
        assert refused.value.name == "OFFSET_OUT_OF_RANGE"
        assert refused.value.details["start"] >= oldest
        return
    with consumer:
        records = wait_until(lambda: consumer.poll(1.0), f"a consumer from the {start} goes on")
        assert records[0].offset >= (end if start == "end" else oldest)
        assert consumer.missed >= oldest - position
