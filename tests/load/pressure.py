"""Followers and disks that are slow, under a producer that writes as fast as it may.

    one that is slow     a follower that runs a tenth of the time, and stays in the ISR
    one that stands      the same, but not at all
    a slow disk          the leader's syncs take SYNC_S longer each (strace)

The producer is slowed down, and nobody's memory filled: what the leader holds is bounded by
max_uncommitted_bytes and what it keeps of its log for followers.  In the end all is well again,
and every record is there once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import yak
from tests.fault import strace
from tests.load.drive import CALM, MIB, Memory
from tests.support.cluster import Cluster

TOPIC: Final = "load"
VALUE: Final = "x" * 1000
AT_A_TIME: Final = 5_000
#: What a sync takes longer on a slow disk.
SYNC_S: Final = 0.2
#: A slow follower's life: so long it stands, and so long it runs.
STANDS_S: Final = 0.9
RUNS_S: Final = 0.1
#: What a leader may hold.
UNCOMMITTED: Final = 64 * MIB
#: Beside that: the log that it keeps for followers, in both of its forms, the answers under way to
#: them, and what the memory's manager keeps.
ROOM_MIB: Final = 160


@contextlib.contextmanager
def _standing(cluster: Cluster, _: int, follower: int) -> Iterator[None]:
    cluster.pause(follower)
    try:
        yield
    finally:
        cluster.resume(follower)


@contextlib.contextmanager
def _crawling(cluster: Cluster, _: int, follower: int) -> Iterator[None]:
    pid, over = cluster.brokers[follower].pid, threading.Event()

    def crawl() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(STANDS_S)
            os.kill(pid, signal.SIGCONT)
            over.wait(RUNS_S)

    thread = threading.Thread(target=crawl)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _slow_disk(cluster: Cluster, leader: int, _: int) -> AbstractContextManager[object]:
    delay = f"delay_enter={int(SYNC_S * 1e6)}"
    return strace.Injected(cluster.brokers[leader].pid, strace.SYNCS, delay)


Pressing = Callable[[Cluster, int, int], AbstractContextManager[object]]
#: name -> (what is done, the brokers' --fsync).
PRESSURES: Final[dict[str, tuple[Pressing, str]]] = {
    "slow_follower": (_crawling, "never"),
    "stopped_follower": (_standing, "never"),
    "slow_disk": (_slow_disk, "always"),
}
#: Those that need strace.
TRACED: Final = frozenset({"slow_disk"})


@dataclass
class Pressed:
    """calm, pressed: MB of values committed a second.  rest, peak: MiB, by broker."""

    name: str
    calm: float
    pressed: float
    rest_mib: dict[int, int]
    peak_mib: dict[int, int]
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        memory = ", ".join(f"{self.rest_mib[n]} > {self.peak_mib[n]}" for n in self.rest_mib)
        faults = "; ".join(self.faults) or "nothing lost, nothing twice"
        return (
            f"{self.name:22}       | calm {self.calm:6.1f} MB/s | "
            f"pressed {self.pressed:6.1f} MB/s | {memory} MiB | {faults}"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Writer:
    """A producer in a thread, which writes until it is left."""

    def __init__(self, cluster: Cluster) -> None:
        self.sent = 0
        self._producer = yak.Producer(
            bootstrap=cluster.bootstrap(), buffer_bytes=16 * MIB, delivery_timeout=300
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._producer.close()

    def _write(self) -> None:
        while not self._over.is_set():
            self._producer.send_many(TOPIC, [VALUE] * AT_A_TIME)
            self.sent += AT_A_TIME


def committed(cluster: Cluster, leader: int) -> int:
    with cluster.connect(leader) as wire:
        return wire.high_watermark(TOPIC, 0)


def rate(cluster: Cluster, leader: int, seconds: float) -> float:
    """MB a second."""
    before, began = committed(cluster, leader), time.monotonic()
    time.sleep(seconds)
    records = committed(cluster, leader) - before
    return records * len(VALUE) / 1e6 / (time.monotonic() - began)


def press(name: str, directory: Path, *, seconds: float) -> Pressed:
    """One of PRESSURES, for so long; before it, the same without it."""
    pressing, fsync = PRESSURES[name]
    directory.mkdir(parents=True, exist_ok=True)
    limits = ("--max-uncommitted-bytes", str(UNCOMMITTED), "--default-partitions", "1")
    slow = ("--replica-lag-ms", "120000", "--resign-ms", "240000")
    zk_options = (*CALM, "--min-insync-replicas", "2", *slow)
    with Cluster(directory, zk_options=zk_options, broker_options=limits, fsync=fsync) as cluster:
        leader = cluster.wait_leader()
        follower = next(broker for broker in cluster.ids if broker != leader)
        with cluster.connect(leader) as wire:
            wire.ok("create_topic", topic=TOPIC, partitions=1)
        memory = {number: Memory(cluster.brokers[number].pid) for number in cluster.ids}
        rest = {number: one.now() for number, one in memory.items()}
        with Writer(cluster) as writer:
            calm = rate(cluster, leader, seconds)
            for one in memory.values():
                one.reset()
            with pressing(cluster, leader, follower):
                pressed = rate(cluster, leader, seconds)
        found = Pressed(name, calm, pressed, rest, {n: one.peak() for n, one in memory.items()})
        found.faults += _judge(cluster, leader, found, writer.sent)
    shutil.rmtree(directory)
    return found


def _judge(cluster: Cluster, leader: int, found: Pressed, sent: int) -> list[str]:
    faults = []
    bound = UNCOMMITTED // MIB + ROOM_MIB
    for number, peak in found.peak_mib.items():
        if peak - found.rest_mib[number] > bound:
            faults.append(f"broker {number} grew by more than {bound} MiB")
    if cluster.wait_leader() != leader:
        faults.append("another leads")
    elif (there := committed(cluster, leader)) != sent:
        faults.append(f"{sent} records were acknowledged, {there} are there")
    return faults
