"""What was freed: moved in order, found where it is, put back by a restart that may be killed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random

import pytest

from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.store_life import Kind, partition_files
from yak.storage.trash import Trash, freed_since, undo

T0 = "/data/topics/t/0"


def write(disk: MemoryDisk, path: str, data: bytes) -> None:
    disk.mkdir(path.rpartition("/")[0])
    disk.write_file(path, data)


def a_topic(disk: MemoryDisk, word: str, topic: str = "t", files: int = 3) -> None:
    for number in range(files):
        write(disk, f"/data/topics/{topic}/0/{number}", f"{word} {number}".encode())


def freed(disk: MemoryDisk) -> Trash:
    """A segment; the topic; one of its name again, a segment of that, and that as well."""
    disk.mkdir("/data/topics")
    disk.mkdir("/data/trash")
    trash = Trash(disk, "/data")
    a_topic(disk, "first")
    a_topic(disk, "stays", "s")
    trash.free_segment(5, f"{T0}/0")
    trash.free_segment(6, "/data/topics/s/0/0")
    trash.carry_out()
    trash.free_topic(7, "t")
    trash.carry_out()
    a_topic(disk, "second", files=2)
    trash.free_segment(9, f"{T0}/0")
    trash.free_topic(10, "t")
    trash.carry_out()
    a_topic(disk, "third", files=1)
    return trash


def test_the_newest_is_put_back_first_down_to_the_checkpoint() -> None:
    expected = {
        4: {"t/0/0": b"first 0", "t/0/1": b"first 1", "t/0/2": b"first 2", "s/0/0": b"stays 0"},
        5: {"t/0/1": b"first 1", "t/0/2": b"first 2", "s/0/0": b"stays 0"},
        6: {"t/0/1": b"first 1", "t/0/2": b"first 2"},
        8: {"t/0/0": b"second 0", "t/0/1": b"second 1"},
        9: {"t/0/1": b"second 1"},
        10: {"t/0/0": b"third 0"},
    }
    for index, files in expected.items():
        disk = MemoryDisk()
        freed(disk)
        undo(disk, "/data", index)
        always = {"s/0/1": b"stays 1", "s/0/2": b"stays 2"}
        assert partition_files(disk) == files | always, index


def test_where_names_the_place_in_which_a_checkpoints_file_is_now() -> None:
    """The first move after it is the one of the file that it means."""
    disk = MemoryDisk()
    trash = freed(disk)
    words = {4: "first", 6: "first", 7: "second", 8: "second", 10: "third"}
    for since, word in words.items():
        path = trash.where(f"{T0}/0" if since in (4, 7, 8, 10) else f"{T0}/1", since)
        assert disk.read_file(path).startswith(word.encode()), since
    assert trash.where("/data/topics/s/0/1", 0) == "/data/topics/s/0/1"
    assert trash.where("/data/topics/t", 0) == "/data/trash/7/topic/t"
    assert trash.where("/data/topics", 0) == "/data/topics"


def test_a_topic_whose_name_begins_anothers_is_another() -> None:
    disk = MemoryDisk()
    a_topic(disk, "one", "order")
    a_topic(disk, "two", "orders")
    trash = Trash(disk, "/data")
    trash.free_topic(3, "order")
    trash.carry_out()
    assert trash.where("/data/topics/orders/0/0", 0) == "/data/topics/orders/0/0"
    assert disk.read_file(trash.where("/data/topics/order/0/0", 0)) == b"one 0"


def test_what_is_covered_may_go_and_is_no_longer_found() -> None:
    disk = MemoryDisk()
    trash = freed(disk)
    assert trash.holds
    assert trash.covered(4) == []
    assert trash.covered(7) == ["/data/trash/5", "/data/trash/6", "/data/trash/7"]
    assert trash.where("/data/topics/s/0/0", 5) == "/data/topics/s/0/0"
    assert trash.where(f"{T0}/1", 7) == "/data/trash/10/topic/t/0/1"
    assert trash.covered(10) == ["/data/trash/9", "/data/trash/10"]
    assert not trash.holds
    assert trash.covered(99) == []


def test_freed_since_is_newest_first_and_by_number() -> None:
    disk = MemoryDisk()
    for number in ("9", "10", "100", "x"):
        disk.mkdir(f"/data/trash/{number}")
    assert freed_since(disk, "/data", 9) == [100, 10]


class NoRoom(MemoryDisk):
    """full: no name fits."""

    full = False

    def mkdir(self, path: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().mkdir(path)


def test_where_the_disk_refuses_a_move_all_behind_it_wait() -> None:
    disk = NoRoom()
    a_topic(disk, "first")
    trash = Trash(disk, "/data")
    trash.free_segment(5, f"{T0}/0")
    trash.free_topic(7, "t")
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        trash.carry_out()
    assert trash.waits
    assert not trash.holds
    assert trash.where(f"{T0}/0", 0) == f"{T0}/0"
    disk.full = False
    trash.carry_out()
    assert not trash.waits
    assert disk.listdir("/data/trash") == ["5", "7"]
    assert disk.listdir("/data/trash/7/topic/t/0") == ["1", "2"]


def test_what_has_no_file_yet_is_freed_without_a_trace() -> None:
    disk = MemoryDisk()
    trash = Trash(disk, "/data")
    trash.free_topic(3, "t")
    trash.carry_out()
    assert not trash.waits
    assert not trash.holds


@pytest.mark.parametrize("kind", ["kill", "power"])
@pytest.mark.parametrize("index", [4, 6, 8])
def test_put_back_though_killed_at_every_change_and_again(index: int, kind: Kind) -> None:
    whole = MemoryDisk()
    freed(whole)
    undo(whole, "/data", index)
    expected = partition_files(whole)
    for step, again in itertools.product(range(60), range(0, 40, 3)):
        disk = MemoryDisk()
        freed(disk)
        disk.sync_all()
        for stop, seed in ((step, step), (again, 100 + again)):
            disk.stop_after = stop
            with contextlib.suppress(Stopped):
                undo(disk, "/data", index)
            disk.crash(kind, random.Random(seed))
        undo(disk, "/data", index)
        assert partition_files(disk) == expected, (step, again)


@pytest.mark.parametrize("index", [4, 6, 8])
@pytest.mark.parametrize("seed", range(10))
def test_what_was_put_back_stays_so_though_the_trash_goes_next(index: int, seed: int) -> None:
    """A power cut may keep the trash's end, which comes last, and must not without the rest."""
    disk = MemoryDisk()
    freed(disk)
    disk.sync_all()
    undo(disk, "/data", index)
    expected = partition_files(disk)
    disk.rmtree("/data/trash")
    disk.sync_dir("/data")
    disk.crash("power", random.Random(seed))
    assert partition_files(disk) == expected
