"""Slow followers and slow readers: they slow others down, and fill nobody's memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import yak
from tests.integration.conftest import CALM
from tests.support.cluster import Cluster, MakeCluster
from tests.support.process import wait_until
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

    @property
    def growth(self) -> int:
        return self.bytes - self.before


def overloaded(cluster: Cluster, broker: int) -> str:
    """The message of the OVERLOADED that a producer is answered; "" while it is taken."""
    with cluster.connect(broker) as wire:
        body = record("probe")
        answer, _ = wire.ask(
            "produce", body, topic="probe", partition=0, count=1, acks="all", timeout_ms=100
        )
    return str(answer["message"]) if answer.get("error") == "OVERLOADED" else ""


def test_a_stopped_follower_slows_producers_down_and_fills_nobody(
    make_cluster: MakeCluster,
) -> None:
    """With a lag that is long, it stays in the ISR: all that is written waits for it."""
    limit = MIB // 4  # a producer has five batches on their way
    cluster = make_cluster(
        zk_options=CALM,
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
        yak.Producer(bootstrap=cluster.bootstrap([leader]), buffer_bytes=8 * MIB) as producer,
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
        behind = cluster.status(leader)
        assert behind is not None
        time.sleep(1.0)  # the producer tries again and again, and nothing more is taken
        after = cluster.status(leader)
        assert after is not None
        assert after["log_end"] - behind["log_end"] < 100
        assert sending.is_alive(), "its own buffer is full: the application waits"
        assert most.growth < 24 * MIB, f"{most.growth} bytes for a limit of {limit}"
        cluster.resume(stopped)
        sending.join(60)
        assert not sending.is_alive()
        producer.flush()
    with cluster.connect_leader() as wire:
        found = [value["n"] for op in wire.read_all("orders", 0) for value in op.values]
    assert found == list(range(count)), "all were acknowledged, each once, in order"
    # The log's recent operations are held up to 32 MiB, for followers.
    assert most.growth < 56 * MIB


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
            wait_until(
                lambda: "max_unread_bytes" in cluster.brokers[1].stderr(), "one of them is cut off"
            )
            for _ in range(3):
                read(wire, count)
        # Each of them would take 8 MiB and an answer: 180 in all.  What is in the making, and what
        # the memory's manager has not given back, comes on top of the limit.
        assert most.growth < limit + 48 * MIB, f"{most.growth} bytes for a limit of {limit}"


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
