"""Each fault of a disk by itself, on a cluster that is written to and read all the while.

What each must come to is replication.md's table: refuse and go on with room; stop at once where a
sync fails; look dead where it hangs; be filled where bytes are not what was written.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.fault.damage import flip, flip_record, tear
from tests.fault.life import Life, Whose
from tests.fault.strace import SYNCS, Injected
from tests.fault.strace import missing as missing_strace
from tests.support.logfiles import segments
from tests.support.mounts import missing as missing_mount
from tests.support.process import wait_until

VICTIMS: tuple[Whose, ...] = ("leader", "follower")
both = pytest.mark.parametrize("whose", VICTIMS)
needs_ext4 = pytest.mark.skipif(bool(missing_mount("ext4")), reason=missing_mount("ext4") or "-")
needs_tmpfs = pytest.mark.skipif(bool(missing_mount("tmpfs")), reason=missing_mount("tmpfs") or "-")
needs_strace = pytest.mark.skipif(bool(missing_strace()), reason=missing_strace() or "-")


@needs_tmpfs
@both
def test_a_full_disk_of_one_broker(tmp_path: Path, whose: Whose) -> None:
    """It refuses, another leads, all go on; with room it is in sync again, by itself."""
    with Life(tmp_path, fsync="never", disks="tmpfs") as life:
        victim = life.victim(whose)
        pid = life.cluster.brokers[victim].pid
        life.disks[victim].fill()
        life.says(victim, "No space left")
        if whose == "leader":
            life.cluster.wait_leader(other_than=victim)
        life.cluster.wait_isr([broker for broker in life.cluster.ids if broker != victim])
        life.progress(20)
        life.disks[victim].make_room()
        life.check()
        assert life.cluster.brokers[victim].pid == pid
        assert life.cluster.brokers[victim].running
        assert "No space left" in life.found(victim, "refused")["what"]
        assert any(one["event"] == "storage_goes_on" for one in life.events(victim))


@needs_strace
@both
def test_a_sync_that_fails_ends_the_broker(tmp_path: Path, whose: Whose) -> None:
    """At once and marked; it joins as unclean, and is whole when it has matched the leader."""
    with Life(tmp_path) as life:
        victim = life.victim(whose)
        process = life.cluster.brokers[victim]
        with Injected(process.pid, SYNCS, "error=EIO"):
            assert process.wait() != 0
        assert "refused to sync" in process.stderr()
        last = life.events(victim)[-1]
        assert (last["event"], "refused to sync" in last["reason"]) == ("failed", True), last
        meta = json.loads((life.cluster.data_dir(victim) / "meta.json").read_text())
        assert meta["suspect"] == "unclean", meta
        assert meta["rewrite_from"], meta
        life.progress(20)
        life.cluster.start(victim)
        life.whole()
        assert "state=unclean" in life.cluster.brokers[victim].stderr()
        assert "a sync failed before" in life.found(victim, "unclean")["what"]
        life.check()


@needs_strace
@pytest.mark.parametrize("whose", VICTIMS[:1])
def test_a_sync_that_hangs_makes_the_broker_look_dead(tmp_path: Path, whose: Whose) -> None:
    """It beats no more; when the disk moves again it follows, by itself."""
    with Life(tmp_path) as life:
        victim = life.victim(whose)
        process = life.cluster.brokers[victim]
        with Injected(process.pid, SYNCS, "delay_enter=60000000"):
            if whose == "leader":
                life.cluster.wait_leader(other_than=victim)
            life.cluster.wait_isr([broker for broker in life.cluster.ids if broker != victim])
            life.progress(20)
        life.check()
        assert process.running, "it was slow, not broken"


@needs_ext4
@pytest.mark.parametrize("whose", VICTIMS[1:])
def test_a_disk_that_stands_still(tmp_path: Path, whose: Whose) -> None:
    """Frozen: writes wait as well as syncs, and with them the whole process."""
    with Life(tmp_path, disks="ext4") as life:
        victim = life.victim(whose)
        life.disks[victim].freeze()
        try:
            if whose == "leader":
                life.cluster.wait_leader(other_than=victim)
            life.cluster.wait_isr([broker for broker in life.cluster.ids if broker != victim])
            life.progress(20)
        finally:
            life.disks[victim].thaw()
        life.check()
        assert life.cluster.brokers[victim].running


# -- power ----------------------------------------------------------------------------------------


def cut_power(life: Life, brokers: list[int]) -> None:
    """At once for all of these; the machines are started again."""
    for broker in brokers:
        life.cluster.pause(broker)  # a machine without power says nothing of its disk
    for broker in brokers:
        life.disks[broker].cut_power()
    life.cluster.kill(*brokers)
    for broker in brokers:
        life.disks[broker].power_again()
        life.new_boot(broker)
    life.cluster.start(*brokers)


@needs_ext4
@pytest.mark.parametrize("seed", [1])
def test_the_power_of_all_is_cut_again_and_again(tmp_path: Path, seed: int) -> None:
    """With fsync=always nothing that was acknowledged is lost, though all lose it at once."""
    chance = random.Random(seed)
    with Life(tmp_path, disks="ext4") as life:
        for _ in range(4):
            cut_power(life, life.cluster.ids)
            life.progress(5)
            time.sleep(chance.uniform(0.0, 1.5))  # somewhere in the work, not before it
        life.check()


@needs_ext4
@pytest.mark.parametrize("fsync", ["always", "never"])
def test_the_power_of_one_after_the_other_is_cut(tmp_path: Path, fsync: str) -> None:
    """Without syncs, too: min_insync_replicas - 1 power cuts cost nothing."""
    with Life(tmp_path, fsync=fsync, disks="ext4") as life:
        for whose in VICTIMS:
            victim = life.victim(whose)
            cut_power(life, [victim])
            life.whole()
            said = life.cluster.brokers[victim].stderr()
            assert ("state=unclean" in said) is (fsync == "never") or "state=torn" in said, said
            if "state=unclean" in said:
                what = life.found(victim, "unclean")["what"]
                assert "fsync=never" in what or "bytes were cut from the log's end" in what, what
        life.check()


# -- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1])
def test_one_broker_after_the_other_is_damaged_while_it_is_down(tmp_path: Path, seed: int) -> None:
    """A torn log; a bit in the log, in a partition's file, in the checkpoint: each is noticed."""
    chance = random.Random(seed)
    with Life(tmp_path, fsync="never") as life:
        for number, what in enumerate(("torn", "log", "partition", "checkpoint")):
            victim = life.victim(VICTIMS[(number + seed) % 2])
            directory = life.cluster.data_dir(victim)
            wait_until((directory / "checkpoint.json").exists, "a checkpoint is made")
            life.cluster.kill(victim)
            if what == "torn":
                did = tear(directory, chance)
            elif what == "log":
                did = flip(segments(directory / "oplog")[-1], chance)
            elif what == "partition":
                did = flip_record(directory, "t", 0, chance)
            else:
                did = flip(directory / "checkpoint.json", chance)
            life.cluster.tell(f"broker {victim}: {what}, {did}")
            life.progress(10)
            life.cluster.start(victim)
            life.whole()
            scrub(life, victim)
        life.check()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_bit_of_a_partition_is_flipped_under_a_running_broker(tmp_path: Path, seed: int) -> None:
    """Never sent; the broker says so and is filled from the leader, or makes way and is then."""
    chance = random.Random(seed)
    with Life(tmp_path, fsync="never") as life:
        life.progress(200)
        victim = life.victim(VICTIMS[seed % 2])
        life.cluster.tell(flip_record(life.cluster.data_dir(victim), "t", 0, chance))
        scrub(life, victim)
        assert "begins_anew" in life.cluster.brokers[victim].stderr()
        life.check()


def scrub(life: Life, broker: int) -> None:
    """Read a partition from its beginning, as often as it takes its broker to be rid of damage."""

    def look() -> bool:
        try:
            with life.cluster.connect(broker, 5.0) as wire:
                return bool(wire.read_all("t", 0))
        except (OSError, AssertionError):  # STORAGE_ERROR, or it begins anew
            return False

    wait_until(look, f"all can be read at broker {broker}")
