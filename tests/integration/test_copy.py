"""A log that is bounded: restarts from a checkpoint, and full copies for who lacks too much.

The clusters here make a checkpoint every few operations and keep nothing of the log before it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import segments, topic_bytes
from tests.support.process import wait_until
from tests.support.wire import Wire

SMALL = ("--checkpoint-operations", "40", "--oplog-retain-bytes", "0")
VICTIM = 3


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    cluster = make_cluster(
        zk_options=("--oplog-segment-bytes", "5000"), broker_options=SMALL, fsync="always"
    )
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=2, config={"segment_bytes": 4000})
    return cluster


def produce(cluster: Cluster, batches: int, name: str = "v") -> None:
    with cluster.connect_leader() as wire:
        for number in range(batches):
            wire.produce("t", number % 2, [f"{name} {number} {x}" for x in range(10)])


def log_start(cluster: Cluster, broker: int) -> int:
    status = cluster.status(broker)
    assert status is not None
    return int(status["log_start"])


def wait_cut(cluster: Cluster, beyond: int = 1) -> None:
    """Until the leader's log no longer has what the victim needs."""
    wait_until(
        lambda: log_start(cluster, cluster.wait_leader()) > beyond, "the leader's log is cut"
    )


def values(cluster: Cluster, broker: int) -> list[list[object]]:
    with cluster.connect(broker) as wire:
        return [
            [value for op in wire.read_all("t", partition) for value in op.values]
            for partition in (0, 1)
        ]


def check_same(cluster: Cluster) -> None:
    """All are in sync, and hold the same records in the same files."""
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    expected = values(cluster, cluster.ids[0])
    for broker in cluster.ids[1:]:
        assert values(cluster, broker) == expected
    wait_until(
        lambda: len({tuple(topic_bytes(cluster.data_dir(b)).items()) for b in cluster.ids}) == 1,
        "the partition files are the same everywhere",
    )


@contextmanager
def producing(cluster: Cluster) -> Iterator[list[str]]:
    """A producer in the background; what it was told is stored."""
    stored: list[str] = []
    over = threading.Event()
    addresses = dict(cluster.addresses)

    def connect() -> Wire:
        """To the leader, as any broker that answers names it."""
        for address in addresses.values():
            try:
                with Wire(address, 2.0) as wire:
                    leader = wire.ok("metadata", topics=[])["leader"]
                if leader is not None:
                    return Wire(addresses[leader], 5.0)
            except OSError:
                continue
        raise ConnectionError("nobody leads at present")

    def go_on() -> None:
        wire: Wire | None = None
        number = 0
        while not over.is_set():
            try:
                wire = wire or connect()
                wire.produce("t", number % 2, [f"while {number}"])
            except (OSError, AssertionError):  # the leader died: this one's fate is not known
                if wire is not None:
                    wire.close()
                wire = None
            else:
                stored.append(f"while {number}")
            number += 1
        if wire is not None:
            wire.close()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield stored
    finally:
        over.set()
        thread.join()


def check_stored(cluster: Cluster, stored: list[str]) -> None:
    for broker in cluster.ids:
        found = {value for partition in values(cluster, broker) for value in partition}
        assert found.issuperset(stored)


def test_the_log_is_cut_and_a_restart_begins_with_the_checkpoint(cluster: Cluster) -> None:
    produce(cluster, 120)
    for broker in cluster.ids:
        wait_short_log(cluster, broker)
    cluster.wait_level()
    held = values(cluster, 1)
    cluster.kill(*cluster.ids)
    before = {b: topic_bytes(cluster.data_dir(b)) for b in cluster.ids}
    cluster.start(*cluster.ids)
    check_same(cluster)
    assert [partition[:600] for partition in values(cluster, 2)] == held
    for broker in cluster.ids:
        wait_files_as_before(cluster, broker, before[broker])


def wait_short_log(cluster: Cluster, broker: int) -> None:
    """Until it is cut as far as it will be; a broker that is behind comes to it a moment later."""

    def files() -> list[str]:
        # One may go between the listing and a look at it, so only the names count here.
        return [path.name for path in segments(cluster.data_dir(broker) / "oplog")]

    wait_until(
        lambda: log_start(cluster, broker) > 1 and len(files()) < 10,
        lambda: (
            f"broker {broker}'s log is cut to less than 10 files; its log_start is "
            f"{log_start(cluster, broker)}, its files are {files()}"
        ),
    )


def wait_files_as_before(cluster: Cluster, broker: int, before: dict[str, bytes]) -> None:
    """Written lazily: what is served already may not have come to the files again."""

    def lacking() -> dict[str, str]:
        after = topic_bytes(cluster.data_dir(broker))
        return {
            name: f"{len(data)} bytes before, now {len(now)}, alike up to {alike(data, now)}"
            for name, data in before.items()
            if not (now := after.get(name, b"")).startswith(data)
        }

    wait_until(
        lambda: not lacking(),
        lambda: f"broker {broker}'s partition files begin with what they were: {lacking()}",
    )


def alike(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(one), len(other)))


def test_a_follower_behind_the_logs_start_gets_a_full_copy(cluster: Cluster) -> None:
    produce(cluster, 20)
    cluster.wait_level()
    cluster.kill(VICTIM)
    produce(cluster, 200)
    wait_cut(cluster, 40)
    with producing(cluster) as stored:
        cluster.start(VICTIM)
        cluster.wait_isr(cluster.ids)
        wait_until(lambda: len(stored) > 20, "the producer went on")
    check_same(cluster)
    check_stored(cluster, stored)
    assert "begins_anew" in cluster.brokers[VICTIM].stderr()
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    produce(cluster, 10, "after")
    cluster.start(1)
    check_same(cluster)


def test_a_wiped_follower_gets_a_full_copy(cluster: Cluster) -> None:
    produce(cluster, 120)
    wait_cut(cluster)
    cluster.kill(VICTIM)
    shutil.rmtree(cluster.data_dir(VICTIM))
    cluster.start(VICTIM)
    check_same(cluster)
    assert log_start(cluster, VICTIM) > 1


def cut_short(directory: Path) -> None:
    """The oldest segment: whole long before the last checkpoint, so no replay brings it back."""
    path = min(directory.rglob("*.jsonl"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 7)


def flip(path: Path) -> None:
    """A bit in the middle; in a record, where the file has any."""
    data = bytearray(path.read_bytes())
    record = data.rfind(b'{"value":', 0, len(data) // 2)
    data[record + len(b'{"value":') if record >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["partition", "checkpoint", "gone"])
def test_a_damaged_follower_gets_a_full_copy(cluster: Cluster, what: str) -> None:
    produce(cluster, 120)
    wait_cut(cluster)
    cluster.wait_level()
    wait_until(lambda: log_start(cluster, VICTIM) > 1, "the victim has made a checkpoint")
    cluster.kill(VICTIM)
    home = cluster.data_dir(VICTIM)
    if what == "partition":
        cut_short(home / "topics")
    elif what == "checkpoint":
        flip(home / "checkpoint.json")
    else:
        (home / "checkpoint.json").unlink()
    cluster.start(VICTIM)
    check_same(cluster)
    assert "state=damaged" in cluster.brokers[VICTIM].stderr()
    assert (home / "damaged" / "1" / "oplog").is_dir()


def test_a_follower_killed_again_and_again_while_it_copies(cluster: Cluster) -> None:
    produce(cluster, 300)
    wait_cut(cluster)
    cluster.kill(VICTIM)
    with producing(cluster) as stored:
        for word in ("copying", "begins_anew", "following", "copying", "begins_anew"):
            shutil.rmtree(cluster.data_dir(VICTIM))
            cluster.start(VICTIM)
            seen = cluster.brokers[VICTIM]
            wait_until(lambda w=word, s=seen: w in s.stderr(), f"it says {word}")  # type: ignore[misc]  # bound now
            cluster.kill(VICTIM)
        cluster.start(VICTIM)
        cluster.wait_isr(cluster.ids)
    check_same(cluster)
    check_stored(cluster, stored)


def test_a_leader_killed_while_it_is_copied_from(cluster: Cluster) -> None:
    produce(cluster, 300)
    wait_cut(cluster)
    cluster.kill(VICTIM)
    shutil.rmtree(cluster.data_dir(VICTIM))
    with producing(cluster) as stored:
        cluster.start(VICTIM)
        wait_until(lambda: "copying" in cluster.brokers[VICTIM].stderr(), "it copies")
        cluster.kill(1)
        cluster.start(1)
        cluster.wait_isr(cluster.ids)
    check_same(cluster)
    check_stored(cluster, stored)


def test_a_partition_file_that_is_damaged_is_never_sent(cluster: Cluster) -> None:
    """A leader finds it while it is copied from: another one leads, and it is filled itself."""
    produce(cluster, 200)
    wait_cut(cluster)
    cluster.wait_level()
    cluster.kill(VICTIM)
    shutil.rmtree(cluster.data_dir(VICTIM))
    flip(segments(cluster.data_dir(1) / "topics" / "t" / "0")[1])
    cluster.start(VICTIM)
    cluster.wait_leader(other_than=1)
    check_same(cluster)
    said = cluster.brokers[1].stderr()
    assert "file_damaged" in said
    assert "state=damaged" in said


def test_a_bit_that_flips_in_a_file_while_it_is_served_is_never_sent(cluster: Cluster) -> None:
    """In the middle of what a fetch would take: the broker that served it is filled anew."""
    produce(cluster, 100)
    wait_cut(cluster)
    cluster.wait_level()
    with cluster.connect(VICTIM) as wire:
        good = wire.read_all("t", 0)
        flip(segments(cluster.data_dir(VICTIM) / "topics" / "t" / "0")[1])
        with pytest.raises(AssertionError, match="STORAGE_ERROR"):
            wire.read_all("t", 0)
    wait_until(lambda: "file_damaged" in cluster.brokers[VICTIM].stderr(), "it notices")
    cluster.wait_isr(cluster.ids)
    check_same(cluster)
    with cluster.connect(VICTIM) as wire:
        assert wire.read_all("t", 0) == good
