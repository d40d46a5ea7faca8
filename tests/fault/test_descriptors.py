"""No file descriptor is left: clients wait at the door, and nothing else notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.descriptors import Crowd
from tests.support.cluster import FAST, Cluster
from tests.support.history import Reader, Writer, closing_read, judge

#: Small enough that segments roll and checkpoints are made all the while.
BUSY = ("--checkpoint-operations", "100")
#: Descriptors that a broker may take beyond those that it has.  40: clients come in, and the last
#: are put by.  5: fewer than that are left, so that none comes in at all.
ROOM = (40, 5)


@pytest.mark.parametrize(("whose", "fsync"), [("leader", "always"), ("follower", "never")])
def test_clients_wait_and_nothing_else_notices(tmp_path: Path, whose: str, fsync: str) -> None:
    with Cluster(
        tmp_path,
        fsync=fsync,
        broker_options=BUSY,
        zk_options=(*FAST, "--oplog-segment-bytes", "20000"),
    ) as cluster:
        leader = cluster.wait_leader()
        with cluster.connect(leader) as wire:
            wire.ok("create_topic", topic="t", partitions=1)
        writers = [Writer(cluster, f"w{n}", "t", 0, batch=n) for n in (1, 3)]
        readers = [Reader(cluster, "r", "t", 0)]
        for client in (*writers, *readers):
            client.start()
            client.wait_progress(20)
        victim = leader if whose == "leader" else next(b for b in cluster.ids if b != leader)
        process = cluster.brokers[victim]
        status = cluster.status(leader)
        assert status is not None
        for room in ROOM:
            with Crowd(process.pid, cluster.addresses[victim], room=room):
                for writer in writers:
                    writer.wait_progress(60)  # 120 operations: a checkpoint at least is made
            assert process.running
        assert "accepting waits" in process.stderr()
        for client in (*writers, *readers):
            client.wait_progress(20)
            client.finish()
        with Crowd(process.pid, cluster.addresses[victim], room=ROOM[0]) as crowd:
            share = crowd.load(1.0)
            assert share < 0.3, f"nobody asks for anything, and it takes {share:.0%} of a processor"
        cluster.wait_isr(cluster.ids)
        cluster.wait_level()
        after = cluster.status(victim)
        assert after is not None
        assert after["epoch"] == status["epoch"], "it kept its session and its followers"
        for broker in cluster.ids:
            with cluster.connect(broker) as wire:
                judge(closing_read(wire, "t", 0), writers, readers)
