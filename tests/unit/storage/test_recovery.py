"""Restarts that are killed themselves, at every change that they make to the disk.

The leftovers that they begin from: lives that were killed in the midst of freeing, checkpoints and
cuts; damage; and a power cut that came while a restart was putting files back.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable

import pytest

from tests.support.annals import annals, content
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.store_life import (
    UPTO,
    Kind,
    Life,
    Pieces,
    killed_at,
    partition_files,
    state_of,
    steps_of,
    uninterrupted,
)
from yak.core.state import State
from yak.storage.checkpoint import FILE_NAME
from yak.storage.data_dir import DataDir

SEED = 184
#: Where a checkpoint is made; of the files that it names some are still there at the end.
MIDDLE = 95
BOOTS: dict[Kind, str] = {"kill": "boot", "power": "another"}


def killed_restart(leftover: MemoryDisk, step: int, kind: Kind, seed: int) -> MemoryDisk | None:
    """What it leaves when it is killed at this step; None where it has fewer."""
    disk = copy.deepcopy(leftover)
    disk.stop_after = step
    try:
        Life(disk, boot=BOOTS[kind])
    except Stopped:
        disk.crash(kind, random.Random(seed))
        return disk
    return None


def each_killed_restart(leftover: MemoryDisk, kind: Kind) -> list[MemoryDisk]:
    found: list[MemoryDisk] = []
    for step in itertools.count():
        disk = killed_restart(leftover, step, kind, step)
        if disk is None:
            return found
        found.append(disk)
    raise AssertionError("not reached")


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_a_restart_killed_at_every_change_of_the_disk(kind: Kind) -> None:
    """From every eleventh leftover of a life: nothing that was durable is lost in any of them."""
    pieces = Pieces(SEED)
    restarts = 0
    for step in range(3, steps_of(pieces.live), 11):
        leftover, _ = killed_at(pieces.live, step, kind, seed=step)
        for disk in each_killed_restart(leftover, kind)[:: 2 if step % 2 else 3]:
            pieces.check_goes_on(pieces.restarted(disk, kind))
            restarts += 1
    assert restarts > 150


@pytest.mark.parametrize("seed", range(12))
def test_restarts_killed_again_and_again(seed: int) -> None:
    """By turns killed and cut off from power, with some progress between."""
    rng = random.Random(seed)
    pieces = Pieces(seed)
    disk = MemoryDisk()
    durable = checkpoint = 0
    for number in range(60):
        kind: Kind = rng.choice(("kill", "power"))
        disk.stop_after = rng.choice((rng.randint(0, 25), rng.randint(0, 120)))
        life = None
        try:
            life = Life(disk, boot=f"boot {number}")
            assert life.found.next > durable
            assert life.found.restored.index >= checkpoint
            upto = rng.randint(life.state.index, UPTO)
            life.run(pieces.history, max(upto, life.found.next - 1))
            life.checkpoint()
        except Stopped:
            pass
        if life is not None:
            durable, checkpoint = max(durable, life.durable), life.store.checkpoint
        disk.crash(kind, rng)
    disk.crash("power", rng)
    again = Life(disk, boot="last")
    assert again.found.next > durable
    pieces.check_goes_on(again)


def test_what_was_applied_is_in_the_files_before_the_log_is_applied_again() -> None:
    """A restart puts them back to the checkpoint and not a byte further."""
    history = annals(UPTO, seed=SEED)
    life = Life(MemoryDisk())
    life.run(history, MIDDLE)
    life.checkpoint()
    at_checkpoint = partition_files(life.disk)
    life.run(history, UPTO)
    assert partition_files(life.disk) != at_checkpoint
    life.disk.close()
    again = Life(life.disk)
    assert partition_files(life.disk) == at_checkpoint
    assert content(again.state) == content(state_of(history, MIDDLE))


# -- Damage ----------------------------------------------------------------------------------------


def a_disk(upto: int = UPTO) -> MemoryDisk:
    history = annals(UPTO, seed=SEED)
    life = Life(MemoryDisk())
    life.run(history, MIDDLE)
    life.checkpoint()
    life.run(history, upto)
    life.disk.close()
    assert isinstance(life.disk, MemoryDisk)
    return life.disk


def flip_the_checkpoint(disk: MemoryDisk) -> None:
    disk.flip(f"/data/{FILE_NAME}", 100)


def lose_the_checkpoint(disk: MemoryDisk) -> None:
    disk.unlink(f"/data/{FILE_NAME}")


def lose_a_file(disk: MemoryDisk) -> None:
    disk.unlink(f"/data/topics/{some_file(disk)}")


def shorten_a_file(disk: MemoryDisk) -> None:
    disk.truncate(f"/data/topics/{some_file(disk)}", 50)


def flip_the_log(disk: MemoryDisk) -> None:
    names = disk.listdir("/data/oplog")
    disk.flip(f"/data/oplog/{names[-2]}", 150)


def lose_a_log_file(disk: MemoryDisk) -> None:
    names = disk.listdir("/data/oplog")
    disk.unlink(f"/data/oplog/{names[-2]}")


def some_file(disk: MemoryDisk) -> str:
    """One that the checkpoint names, and nothing freed since."""
    before = a_disk(upto=MIDDLE)
    named, now = partition_files(before), partition_files(disk)
    return next(name for name, data in named.items() if now.get(name, b"").startswith(data))


def files_in(disk: MemoryDisk, directory: str) -> dict[str, bytes]:
    names = disk.listdir(directory) if disk.exists(directory) else []
    return {name: disk.read_file(f"{directory}/{name}") for name in names}


DAMAGES = [
    flip_the_checkpoint,
    lose_the_checkpoint,
    lose_a_file,
    shorten_a_file,
    flip_the_log,
    lose_a_log_file,
]


@pytest.mark.parametrize("harm", DAMAGES)
def test_what_is_damaged_is_kept_aside_and_the_broker_begins_empty(
    harm: Callable[[MemoryDisk], None],
) -> None:
    disk = a_disk()
    harm(disk)
    before = {name: disk.listdir(f"/data/{name}") for name in ("oplog", "topics")}
    has_checkpoint = disk.exists(f"/data/{FILE_NAME}")
    found = Life(disk).found
    assert found.state == "damaged"
    assert "kept in /data/damaged/1" in found.message
    assert found.next == 1
    assert content(found.restored) == content(State())
    assert partition_files(disk) == {}
    assert disk.listdir("/data/damaged/1/oplog") == before["oplog"]
    if harm in (flip_the_log, lose_a_log_file):  # else they were put back before it was seen
        assert disk.listdir("/data/damaged/1/topics") == before["topics"]
    assert disk.exists(f"/data/damaged/1/{FILE_NAME}") == has_checkpoint
    assert not disk.exists(f"/data/{FILE_NAME}")


@pytest.mark.parametrize("kind", ["kill", "power"])
@pytest.mark.parametrize("harm", DAMAGES)
def test_killed_at_every_change_while_it_is_set_aside(
    harm: Callable[[MemoryDisk], None], kind: Kind
) -> None:
    """No start makes a whole broker of it, nothing of it is lost, and it can be filled again."""
    leftover = a_disk()
    harm(leftover)
    leftover.sync_all()
    log = files_in(leftover, "/data/oplog")
    expected = uninterrupted(annals(UPTO, seed=SEED))
    for number, disk in enumerate(each_killed_restart(leftover, kind)):
        again = Life(disk, boot=BOOTS[kind])
        assert again.found.state == "damaged"
        assert again.found.next == 1
        kept = {}
        for number_kept in disk.listdir("/data/damaged"):  # a kill between two moves makes two
            assert disk.listdir(f"/data/damaged/{number_kept}")
            kept.update(files_in(disk, f"/data/damaged/{number_kept}/oplog"))
        assert kept == log
        if number % 5 == 0:
            again.run(annals(UPTO, seed=SEED), UPTO)
            assert again.held() == expected


def test_what_is_damaged_twice_is_kept_twice() -> None:
    disk = a_disk()
    flip_the_log(disk)
    life = Life(disk)
    life.run(annals(UPTO, seed=SEED), UPTO)
    disk.close()
    flip_the_log(disk)
    assert "damaged/2" in Life(disk).found.message
    assert disk.listdir("/data/damaged") == ["1", "2"]


def test_the_suspicion_stays_until_it_is_recorded() -> None:
    disk = a_disk()
    flip_the_log(disk)
    Life(disk)
    disk.close()
    life = Life(disk)
    assert life.found.state == "damaged"
    assert "yak-zk has not recorded it" in life.found.message
    life.directory.recorded()
    disk.close()
    assert Life(disk).found.state == "whole"


def test_a_checkpoint_that_was_not_finished_does_not_lie_about() -> None:
    disk = a_disk()
    disk.write_file("/data/checkpoint.json.tmp", b'{"format"')
    assert Life(disk).found.state == "whole"
    assert not disk.exists("/data/checkpoint.json.tmp")


def test_a_log_that_ends_before_its_checkpoint_begins_anew_after_it() -> None:
    """A power cut without fsync: the checkpoint is durable with all that it names."""
    history = annals(UPTO, seed=SEED)
    disk = a_disk()
    names = disk.listdir("/data/oplog")
    for name in names[1:]:
        disk.unlink(f"/data/oplog/{name}")
    disk.truncate(f"/data/oplog/{names[0]}", 60)
    again = Life(disk)
    assert again.found.state == "torn"
    assert again.found.next == MIDDLE + 1
    again.run(history, UPTO)
    assert again.held() == uninterrupted(history)


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_what_the_log_lacks_is_remembered_before_the_proof_of_it_goes(kind: Kind) -> None:
    """Partition files show that the log once went on; putting them back takes that away."""
    leftover = a_disk()
    names = leftover.listdir("/data/oplog")
    leftover.unlink(f"/data/oplog/{names[-1]}")
    leftover.sync_all()
    for disk in each_killed_restart(leftover, kind):
        found = Life(disk, boot=BOOTS[kind]).found
        assert found.state == "torn", found.message
        assert MIDDLE < found.next <= UPTO


def test_what_a_failed_sync_may_have_lost_is_written_again_behind_a_checkpoint() -> None:
    history = annals(UPTO, seed=SEED)
    disk = a_disk(upto=MIDDLE + 5)
    life = Life(disk)
    life.run(history, UPTO)
    directory: DataDir = life.directory
    directory.sync_failed(MIDDLE + 2)
    disk.close()
    again = Life(disk)
    assert again.found.state == "unclean"
    assert again.directory.rewrite_from is None
    again.run(history, UPTO)
    assert again.held() == uninterrupted(history)


def test_log_files_that_a_power_cut_brings_back_are_no_damage() -> None:
    """They were cut from the log before a checkpoint with which the log begins."""
    history = annals(UPTO, seed=SEED)
    disk = MemoryDisk()
    life = Life(disk)
    life.append(history, UPTO)
    files = [int(name.partition(".")[0]) for name in disk.listdir("/data/oplog")]
    first = files[-2]
    life.apply(history, first - 1)
    disk.sync_dir("/data/oplog")
    life.checkpoint()
    assert life.store.first_index == first
    life.checkpoint()  # as when the first is read by a copy, and the trash waits too long
    names = disk.listdir("/data/oplog")
    disk.crash("power", NothingKept())
    assert len(disk.listdir("/data/oplog")) > len(names)
    again = Life(disk, boot="another")
    assert again.found.state == "whole", again.found.message
    assert again.found.next == UPTO + 1
    assert disk.listdir("/data/oplog") == names
    again.run(history, UPTO)
    assert again.held() == uninterrupted(history)


class NothingKept(random.Random):
    """Of what was not synced."""

    def randint(self, a: int, b: int) -> int:
        return a
