"""Ten thousand topics and ten thousand partitions in one cluster: bounded, and none forgotten.

A broker's descriptors do not grow with them; its memory does, by a few kilobytes each; and no turn
takes so long that yak-zk would take a broker for dead.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.process import wait_until
from yak import AsyncAdmin, AsyncProducer, Consumer
from yak.storage.disk import MAX_OPEN_FILES

MANY: Final = 10_000
#: A hundred thousand files are made and removed on two busy cores: minutes, where the disk is slow.
PATIENCE_S: Final = 240
#: So many requests under way at a time.
AT_ONCE: Final = 500
#: Beside its segments: the log, connections, the event loop.
OTHER_FILES: Final = 100
#: Some 5 KB for each of the 20,000 partitions, beside what a broker needs anyway.
MAX_RSS_BYTES: Final = 250 * 1024 * 1024


def topic(number: int) -> str:
    return f"t{number:05}"


async def make_all(bootstrap: str) -> None:
    async with AsyncAdmin(bootstrap=bootstrap) as admin:
        for first in range(0, MANY, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            await asyncio.gather(*(admin.create_topic(topic(n), partitions=1) for n in numbers))
        await admin.create_topic("wide", partitions=MANY)


async def fill_all(bootstrap: str) -> None:
    """A record in each partition of all topics."""
    async with AsyncProducer(bootstrap=bootstrap) as producer:
        for number in range(MANY):
            await producer.send("wide", number, partition=number)
        await producer.flush()
        for first in range(0, MANY, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            await asyncio.gather(*(producer.send(topic(n), n) for n in numbers))
        await producer.flush()


async def delete_all(bootstrap: str) -> None:
    async with AsyncAdmin(bootstrap=bootstrap) as admin:
        await admin.delete_topic("wide")
        for first in range(0, MANY, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            await asyncio.gather(*(admin.delete_topic(topic(n)) for n in numbers))


def check_bounds(cluster: Cluster) -> None:
    for broker in cluster.ids:
        process = cluster.brokers[broker]
        files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        assert files < MAX_OPEN_FILES + OTHER_FILES, broker
        assert process.rss_bytes < MAX_RSS_BYTES, broker


def left(home: Path) -> list[Path]:
    """What lies in a broker's topics and trash."""
    return [one for name in ("topics", "trash") for one in (home / name).iterdir()]


def read_wide(bootstrap: str) -> set[int]:
    got: set[int] = set()
    with Consumer("wide", bootstrap=bootstrap, start="beginning") as consumer:

        def look() -> bool:
            got.update(int(str(record.value)) for record in consumer.poll(1.0, MANY))
            return len(got) == MANY

        wait_until(look, f"a record of each of {MANY} partitions is read", timeout_s=PATIENCE_S)
    return got


def read_one(bootstrap: str, number: int) -> list[object]:
    with Consumer(topic(number), bootstrap=bootstrap, start="beginning") as consumer:
        return [record.value for record in consumer.poll(10.0)]


@pytest.mark.timeout(4 * PATIENCE_S)
def test_ten_thousand_topics_and_ten_thousand_partitions(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        zk_options=(),
        broker_options=("--checkpoint-operations", "15000", "--trash-ms", "500"),
    )
    bootstrap = cluster.bootstrap()
    asyncio.run(make_all(bootstrap))
    asyncio.run(fill_all(bootstrap))
    check_bounds(cluster)
    assert read_wide(bootstrap) == set(range(MANY))

    cluster.kill(*cluster.ids)
    cluster.start(*cluster.ids)
    cluster.wait_isr(cluster.ids, timeout_s=PATIENCE_S)
    cluster.kill(cluster.wait_leader())
    cluster.wait_leader(timeout_s=PATIENCE_S)
    assert read_wide(bootstrap) == set(range(MANY))
    assert read_one(bootstrap, 0) == [0]
    assert read_one(bootstrap, MANY - 1) == [MANY - 1]

    cluster.start(*(broker for broker in cluster.ids if broker not in cluster.live))
    cluster.wait_isr(cluster.ids, timeout_s=PATIENCE_S)
    check_bounds(cluster)
    asyncio.run(delete_all(bootstrap))
    wait_until(
        lambda: not any(map(left, map(cluster.data_dir, cluster.ids))),
        "the files of what was deleted are removed",
        timeout_s=PATIENCE_S,
    )
