"""Everything at once: a seeded quarter of a minute of faults under writers and readers.

Processes are killed, hung, ended in order and started again, the leader more often than others,
yak-zk too; now and then all of them.  At the end everything is started, and the history is
judged by tests/support/history.py on every replica.  The seed is in the test's name, and what
was done when is in the report of a failed test; the order of events between processes is the
machine's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.history import Reader, Writer, closing_read, judge
from tests.support.logfiles import oplog_bytes, read_oplog

FAULTS_S = 10.0
PAUSES_S = (0.02, 0.1, 0.3, 0.8)


class Faults:
    """Does harm to a cluster, step by step, and heals it in the end."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.paused: set[int] = set()
        self.dead: set[int] = set()
        self._steps: list[tuple[int, Callable[[int], None]]] = [
            (4, self.kill),
            (2, self.pause),
            (2, self.resume),
            (5, self.start),
            (1, self.terminate),
            (1, self.restart_zk),
            (1, self.kill_all),
        ]

    def step(self) -> None:
        """One fault, or the end of one; for the leader in half of all cases."""
        leader = self.cluster.leader() if self.chance.random() < 0.5 else None
        broker = leader or self.chance.choice(self.cluster.ids)
        weights, steps = zip(*self._steps, strict=True)
        self.chance.choices(steps, weights)[0](broker)

    def heal(self) -> None:
        for broker in sorted(self.paused):
            self.cluster.resume(broker)
        self.cluster.start(*sorted(self.dead))

    def kill(self, broker: int) -> None:
        if broker not in self.dead:
            self.cluster.kill(broker)
            self.dead.add(broker)
            self.paused.discard(broker)

    def pause(self, broker: int) -> None:
        if broker not in self.dead | self.paused:
            self.cluster.pause(broker)
            self.paused.add(broker)

    def resume(self, _: int) -> None:
        for broker in sorted(self.paused)[:1]:
            self.cluster.resume(broker)
            self.paused.discard(broker)

    def start(self, _: int) -> None:
        for broker in sorted(self.dead)[-1:]:
            self.cluster.start(broker)
            self.dead.discard(broker)

    def terminate(self, broker: int) -> None:
        if broker not in self.dead | self.paused:
            assert self.cluster.terminate(broker) == 0
            self.dead.add(broker)

    def restart_zk(self, _: int) -> None:
        self.cluster.restart_zk()

    def kill_all(self, _: int) -> None:
        self.cluster.kill(*self.cluster.ids)
        self.dead = set(self.cluster.ids)
        self.paused = set()


@pytest.mark.timeout(110)
@pytest.mark.parametrize(("seed", "fsync"), [(1, "never"), (2, "always")])
def test_nothing_acknowledged_is_lost(make_cluster: MakeCluster, seed: int, fsync: str) -> None:
    cluster = make_cluster(fsync=fsync)
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
    writers = [Writer(cluster, f"w{n}", "t", 0, batch=n) for n in (1, 3, 10)]
    readers = [Reader(cluster, f"r{n}", "t", 0) for n in (1, 2)]
    clients = [*writers, *readers]
    for client in clients:
        client.start()
        client.wait_progress(5)
    faults = Faults(cluster, seed)
    until = time.monotonic() + FAULTS_S
    while time.monotonic() < until:
        faults.step()
        time.sleep(faults.chance.choice(PAUSES_S))
    faults.heal()
    cluster.wait_isr(cluster.ids)
    for client in clients:
        client.wait_progress(5)
    for client in clients:
        client.finish()
    cluster.wait_level()
    for broker in cluster.ids:
        with cluster.connect(broker) as wire:
            judge(closing_read(wire, "t", 0), writers, readers)
    first, *others = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert all(other == first for other in others)
    read_oplog(cluster.data_dir(1))
