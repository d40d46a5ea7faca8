"""Partition files are put back to a checkpoint: what is cut, removed, moved back, and missed."""

from __future__ import annotations

import contextlib
import copy
import random

import pytest

from tests.support.annals import annals
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.store_life import Kind, Life, partition_files
from yak.storage import checkpoint as checkpoints
from yak.storage.checkpoint import Checkpoint
from yak.storage.chunk import walk
from yak.storage.restore import Restoration, discard

SEED = 184
#: A checkpoint was made here, and the life went on to there.
AT, END = 75, 110


def lived(seed: int = SEED) -> tuple[MemoryDisk, dict[str, bytes], Checkpoint]:
    """A data directory after its end; its partition files as they were at the checkpoint."""
    history = annals(END, seed=seed)
    disk = MemoryDisk()
    life = Life(disk)
    life.run(history, AT)
    life.checkpoint()
    before = partition_files(disk)
    life.run(history, END)
    disk.sync_all()
    found = checkpoints.read(disk, "/data")
    assert found is not None
    return disk, before, found


def restored(disk: MemoryDisk, checkpoint: Checkpoint | None) -> Restoration:
    found = Restoration.look(disk, "/data", checkpoint)
    found.carry_out()
    return found


def test_the_files_are_what_they_were() -> None:
    disk, before, checkpoint = lived()
    assert partition_files(disk) != before
    found = restored(disk, checkpoint)
    assert found.damage == ""
    assert partition_files(disk) == before
    assert disk.listdir("/data/trash") == []
    again = restored(disk, checkpoint)
    assert again.damage == ""
    assert partition_files(disk) == before


def test_looking_changes_nothing_and_says_how_far_the_log_reached() -> None:
    disk, _, checkpoint = lived()
    now, trash = partition_files(disk), disk.listdir("/data/trash")
    disk.stop_after = 0
    found = Restoration.look(disk, "/data", checkpoint)
    assert END - 5 <= found.last_index <= END
    assert f"operation {found.last_index}" in found.evidence
    assert (partition_files(disk), disk.listdir("/data/trash")) == (now, trash)


def test_where_nothing_came_after_it_the_checkpoint_itself_is_the_evidence() -> None:
    disk, _, checkpoint = lived()
    restored(disk, checkpoint)
    found = Restoration.look(disk, "/data", checkpoint)
    assert (found.last_index, found.evidence) == (AT, f"checkpoint.json is at operation {AT}")


def test_what_was_freed_is_evidence_where_nothing_was_written_since() -> None:
    disk, _, checkpoint = lived()
    restored(disk, checkpoint)
    disk.mkdir("/data/trash/999/topic")
    found = Restoration.look(disk, "/data", checkpoint)
    assert found.last_index == 999
    assert found.evidence == "the trash holds what was freed by operation 999"


def test_without_a_checkpoint_nothing_is_kept() -> None:
    disk, _, _ = lived()
    found = restored(disk, None)
    assert found.damage == ""
    assert partition_files(disk) == {}
    assert disk.listdir("/data/topics") == []
    assert disk.listdir("/data/trash") == []


def test_what_the_checkpoint_does_not_name_goes() -> None:
    disk, before, checkpoint = lived()
    restored(disk, checkpoint)
    topic = next(iter(checkpoint.state.topics))
    number = checkpoint.state.topics[topic].partitions
    for name in ("nobody/0", f"{topic}/{number + 1}", f"{topic}/x"):
        disk.mkdir(f"/data/topics/{name}")
        disk.write_file(f"/data/topics/{name}/{0:020}.jsonl", b'{"format":1,"first":0}\n')
    disk.mkdir(f"/data/topics/{topic}/{number}")  # without a file as yet
    row = next(row for row in checkpoint.partitions if row.segments)
    disk.write_file(f"/data/topics/{row.topic}/{row.partition}/{10**6:020}.jsonl", b"later")
    assert restored(disk, checkpoint).damage == ""
    assert partition_files(disk) == before
    assert str(number + 1) not in disk.listdir(f"/data/topics/{topic}")
    assert "nobody" not in disk.listdir("/data/topics")
    assert str(number) not in disk.listdir(f"/data/topics/{topic}")


@pytest.mark.parametrize("harm", ["gone", "shorter", "empty"])
def test_each_file_that_lacks_something_is_damage_and_named(harm: str) -> None:
    whole, before, checkpoint = lived()
    restored(whole, checkpoint)
    for name in before:
        disk = copy.deepcopy(whole)
        path = f"/data/topics/{name}"
        if harm == "gone":
            disk.unlink(path)
        else:
            disk.truncate(path, 0 if harm == "empty" else disk.size(path) - 1)
        found = restored(disk, checkpoint)
        assert path in found.damage
        assert "the checkpoint names" in found.damage.replace("which the", "the")


def test_a_partition_that_is_gone_whole_is_damage() -> None:
    disk, before, checkpoint = lived()
    restored(disk, checkpoint)
    directory = next(iter(before)).rpartition("/")[0]
    disk.rmtree(f"/data/topics/{directory}")
    assert directory in restored(disk, checkpoint).damage


def gaps(disk: MemoryDisk, before: dict[str, bytes]) -> list[str]:
    """Files that do not begin where the one before them in their partition ends.

    After one that is as at the checkpoint a newer one may: what came between is the log's alone.
    """
    found, ends = [], dict[str, int | None]()
    for name, data in sorted(partition_files(disk).items()):
        directory, _, file = name.rpartition("/")
        first = int(file.removesuffix(".jsonl"))
        if ends.get(directory) not in (None, first):
            found.append(name)
        steps = list(walk(data, data.find(b"\n") + 1))
        end = steps[-1].head.offset + steps[-1].head.count if steps else first
        ends[directory] = None if before.get(name) == data else end
    return found


@pytest.mark.parametrize("seed", [2, 7, 59, SEED])
def test_a_look_meanwhile_finds_no_gap_wherever_it_stopped(seed: int) -> None:
    """Else `yak verify` would take what a killed restart leaves for damage."""
    leftover, before, checkpoint = lived(seed)
    steps = 0
    while True:
        disk = copy.deepcopy(leftover)
        disk.stop_after = steps
        with contextlib.suppress(Stopped):
            restored(disk, checkpoint)
            break
        assert gaps(disk, before) == [], steps
        steps += 1
    assert steps > 15


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_killed_at_every_change_it_is_begun_again(kind: Kind) -> None:
    leftover, before, checkpoint = lived()
    steps = 0
    while True:
        disk = copy.deepcopy(leftover)
        disk.stop_after = steps
        try:
            restored(disk, checkpoint)
        except Stopped:
            disk.crash(kind, random.Random(steps))
        else:
            break
        for name in ("topics", "trash"):
            disk.mkdir(f"/data/{name}")  # as a start does before it looks
        assert Restoration.look(disk, "/data", checkpoint).last_index >= AT
        assert restored(disk, checkpoint).damage == ""
        assert partition_files(disk) == before, steps
        steps += 1
    assert steps > 15


def test_what_is_discarded_gets_numbers_of_its_own() -> None:
    disk = MemoryDisk()
    for name in ("a", "b", "c"):
        disk.mkdir(f"/data/{name}/in")
    disk.mkdir("/data/removed/41")
    discard(disk, "/data", "a", "b")
    discard(disk, "/data", "c")
    discard(disk, "/data")
    assert disk.listdir("/data/removed") == ["41", "42", "43", "44"]
    assert disk.listdir("/data") == ["removed"]
