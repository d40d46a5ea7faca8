"""Slow followers, slow readers, full disks: they slow others down, and fill nobody's memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import yak
from tests.integration.conftest import CALM
from tests.support.cluster import Cluster, MakeCluster
from tests.support.mounts import Mount, missing, mounted
from tests.support.process import Process, wait_until
from tests.support.wire import Wire, frame_of, payload_of, record

MIB = 1024 * 1024
VALUE = "x" * 2000


class Most:
    """The most that a broker holds in memory, looked at again and again from another thread."""

    def __init__(self, cluster: Cluster, broker: int) -> None:
        self._process = cluster.brokers[broker]
        self.before = self.bytes = self._process.rss_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, self._process.rss_bytes)

    def stays_below(self, growth: int) -> None:
        assert self.bytes - self.before < growth, f"it grew by {self.bytes - self.before} bytes"


def overloaded(cluster: Cluster, broker: int) -> str:
    """The message of the OVERLOADED that a producer is answered; "" while it is taken."""
    with cluster.connect(broker) as wire:
        body = record("probe")
        answer, _ = wire.ask(
            "produce", body, topic="probe", partition=0, count=1, acks="all", timeout_ms=100
        )
    return str(answer["message"]) if answer.get("error") == "OVERLOADED" else ""


def check_stands_still(cluster: Cluster, leader: int) -> None:
    """The producer tries again and again, and nothing more is taken."""
    before = cluster.status(leader)
    time.sleep(1.0)
    after = cluster.status(leader)
    assert before is not None
    assert after is not None
    assert after["log_end"] - before["log_end"] < 100


@pytest.mark.parametrize("returns", [True, False])
def test_a_stopped_follower_slows_producers_down_and_fills_nobody(
    make_cluster: MakeCluster, *, returns: bool
) -> None:
    """While it is in the ISR all that is written waits for it, until it returns or is expelled."""
    limit = MIB // 4  # a producer has five batches on their way
    cluster = make_cluster(
        zk_options=CALM if returns else (*CALM, "--replica-lag-ms", "6000"),
        broker_options=("--max-uncommitted-bytes", str(limit), "--default-partitions", "1"),
    )
    leader = cluster.wait_leader()
    stopped = next(broker for broker in cluster.ids if broker != leader)
    with cluster.connect(leader) as wire:
        for topic in ("orders", "probe"):
            wire.ok("create_topic", topic=topic, partitions=1)
    count = 20_000  # 40 MB
    values = [{"n": n, "text": VALUE} for n in range(count)]
    with (
        Most(cluster, leader) as most,
        yak.Producer(
            bootstrap=cluster.bootstrap([leader]), buffer_bytes=8 * MIB, delivery_timeout=60
        ) as producer,
    ):
        # Its registration is an operation too, and would wait before anything is sent.
        producer.send("orders", values[0])
        producer.flush()
        cluster.pause(stopped)
        sending = threading.Thread(
            target=producer.send_many,
            args=("orders", values[1:]),
        )
        sending.start()
        message = wait_until(lambda: overloaded(cluster, leader), "OVERLOADED is answered")
        assert f"max_uncommitted_bytes is {limit}" in message
        if returns:
            check_stands_still(cluster, leader)
            assert sending.is_alive(), "its own buffer is full: the application waits"
            cluster.resume(stopped)
        most.stays_below(24 * MIB)
        sending.join(60)
        assert not sending.is_alive()
        producer.flush()
    with cluster.connect_leader() as wire:
        found = [value["n"] for op in wire.read_all("orders", 0) for value in op.values]
    assert found == list(range(count)), "all were acknowledged, each once, in order"
    # The log's recent operations are held up to 32 MiB, for followers.
    most.stays_below(56 * MIB)


def test_readers_that_stop_reading_hold_little_and_others_read_on(
    make_cluster: MakeCluster,
) -> None:
    limit = 16 * MIB
    cluster = make_cluster(
        ids=[1],
        zk_options=(*CALM, "--min-insync-replicas", "1"),
        broker_options=("--max-unread-bytes", str(limit)),
    )
    with cluster.connect(1) as wire:
        wire.ok("create_topic", topic="orders", partitions=1)
        for _ in range(40):
            body = record(VALUE) * 250
            wire.ok("produce", body, topic="orders", partition=0, count=250)
        count = 40 * 250
        read(wire, count)
        with Most(cluster, 1) as most, contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(stopped_reader(cluster))
            for _ in range(3):  # who reads has its half of the room, whoever else does not
                read(wire, count)
        # Each of them would take 8 MiB and an answer: 180 in all.  What is in the making, and what
        # the memory's manager has not given back, comes on top of the limit.
        most.stays_below(limit + 48 * MIB)


def read(wire: Wire, count: int) -> None:
    found = sum(len(op.values) for op in wire.read_all("orders", 0))
    assert found == count


def stopped_reader(cluster: Cluster) -> socket.socket:
    """It asks for everything, many times over, and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(cluster.addresses[1])
    fetch = {"type": "fetch", "partitions": [["orders", 0, 0]], "wait_ms": 0, "max_bytes": MIB}
    for number in range(16):
        sock.sendall(frame_of(payload_of({**fetch, "id": number})))
    return sock


# -- a disk that refuses ---------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], Mount]]:
    """Makes file systems of a few megabytes, in memory, that can be filled and emptied."""
    if reason := missing("tmpfs"):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield lambda path, size: stack.enter_context(mounted(path, size, "tmpfs"))


def test_full_disks_stop_producers_and_with_room_they_go_on(
    tmp_path: Path, small_disk: Callable[[Path, int], Mount]
) -> None:
    """All three brokers', so that no leader could be found that has room; nobody is restarted."""
    disks = [small_disk(tmp_path / f"broker-{broker}", 64 * MIB) for broker in (1, 2, 3)]
    count = 5_000  # 10 MB, twice on each disk: in the log and in the partition
    values = [{"n": n, "text": VALUE} for n in range(count)]
    with Cluster(tmp_path, broker_options=("--default-partitions", "1")) as cluster:
        pids = {broker: cluster.brokers[broker].pid for broker in cluster.ids}
        with yak.Producer(
            bootstrap=cluster.bootstrap(), buffer_bytes=MIB, delivery_timeout=60
        ) as producer:
            producer.send("orders", values[0])
            producer.flush()
            for disk in disks:
                disk.fill(but=4 * MIB)
            with contextlib.ExitStack() as stack:
                looks = [stack.enter_context(Most(cluster, broker)) for broker in cluster.ids]
                sending = threading.Thread(target=producer.send_many, args=("orders", values[1:]))
                sending.start()
                wait_until(lambda: all(map(refuses, cluster.brokers.values())), "all are full")
                time.sleep(1.0)  # they try again and again
                assert sending.is_alive()
                for look in looks:
                    look.stays_below(32 * MIB)
            for disk in disks:
                disk.make_room()
            sending.join(60)
            assert not sending.is_alive()
            producer.flush()
        with cluster.connect_leader() as wire:
            found = [value["n"] for op in wire.read_all("orders", 0) for value in op.values]
        assert found == list(range(count)), "all were acknowledged, each once, in order"
        cluster.wait_isr(cluster.ids)
        assert pids == {broker: cluster.brokers[broker].pid for broker in cluster.ids}
        assert all(process.running for process in cluster.brokers.values())


def refuses(process: Process) -> bool:
    return "No space left" in process.stderr()


def test_files_that_are_refused_stop_producers_before_they_fill_the_memory(
    tmp_path: Path, small_disk: Callable[[Path, int], Mount]
) -> None:
    """The log has room and the partitions have none: what is applied waits in memory.

    What the producer may have on its way is more than may wait there.
    """
    limits = ("--max-unflushed-bytes", str(MIB // 2), "--max-uncommitted-bytes", str(MIB))
    count = 10_000  # 20 MB
    values = [{"n": n, "text": VALUE} for n in range(count)]
    with (
        Cluster(
            tmp_path,
            ids=[1],
            zk_options=(*CALM, "--min-insync-replicas", "1"),
            broker_options=(*limits, "--default-partitions", "1"),
        ) as cluster,
        yak.Producer(
            bootstrap=cluster.bootstrap(), buffer_bytes=MIB, delivery_timeout=60
        ) as producer,
    ):
        disk = small_disk(cluster.data_dir(1) / "topics", 64 * MIB)  # nothing is in it yet
        with cluster.connect(1) as wire:
            for topic in ("orders", "probe"):
                wire.ok("create_topic", topic=topic, partitions=1)
        producer.send("orders", values[0])
        producer.flush()
        disk.fill(but=MIB)
        with Most(cluster, 1) as most:
            sending = threading.Thread(target=producer.send_many, args=("orders", values[1:]))
            sending.start()
            wait_until(lambda: overloaded(cluster, 1), "OVERLOADED is answered")
            assert f"max_unflushed_bytes is {MIB // 2}" in cluster.brokers[1].stderr()
            check_stands_still(cluster, 1)
            assert sending.is_alive()
            most.stays_below(24 * MIB)
        disk.make_room()
        sending.join(60)
        assert not sending.is_alive()
        producer.flush()
        with cluster.connect(1) as wire:
            found = [value["n"] for op in wire.read_all("orders", 0) for value in op.values]
        assert found == list(range(count)), "all were acknowledged, each once, in order"
