"""Wall clocks jump by hours: no time-out notices, and the log's times never go back."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fault.clocks import ClockedCluster
from tests.fault.life import Life
from tests.support.logfiles import read_oplog

HOUR_S = 3600


def test_jumps_of_hours_are_not_noticed(tmp_path: Path) -> None:
    chance = random.Random(1)
    with Life(tmp_path, fsync="never", cluster=ClockedCluster) as life:
        cluster = life.cluster
        assert isinstance(cluster, ClockedCluster)
        epoch = cluster.epoch()
        for hours in (-5, 30, -30, 5):
            for clock in cluster.clocks.values():
                clock.set((hours + chance.uniform(-1, 1)) * HOUR_S)
                life.progress(10)
        assert cluster.epoch() == epoch, "somebody timed out"
        life.check()
        times = [op.fields["time"] for op in read_oplog(cluster.data_dir(1))]
        assert times == sorted(times)
        assert times[-1] - times[0] > 24 * HOUR_S * 1000, "the clocks did not jump"


def test_a_leader_whose_clock_is_behind_the_log_goes_on_from_there(tmp_path: Path) -> None:
    """The one before it was hours ahead; so is the log from now on, and it does not go back."""
    with Life(tmp_path, fsync="never", cluster=ClockedCluster) as life:
        cluster = life.cluster
        assert isinstance(cluster, ClockedCluster)
        old = cluster.wait_leader()
        cluster.clocks[old].set(9 * HOUR_S)
        life.progress(20)
        cluster.kill(old)
        new = cluster.wait_leader(other_than=old)
        cluster.clocks[new].set(-9 * HOUR_S)
        life.progress(20)
        cluster.start(old)
        life.check()
