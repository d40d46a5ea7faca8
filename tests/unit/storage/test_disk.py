"""The file system's contract, the same on both disks; and what only one of them can show."""

from __future__ import annotations

import ctypes
import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.memory_disk import MemoryDisk
from yak.errors import Fatal
from yak.storage.disk import MAX_BUFFERS, Buffer, Disk, OsDisk, append_all, append_whole


def test_a_file_is_appended_to_read_and_cut(disk: Disk, root: str) -> None:
    path = f"{root}/a"
    disk.create(path)
    assert disk.append(path, [b"one", memoryview(b"two")]) == 6
    assert disk.append(path, [b"three"]) == 5
    assert disk.size(path) == 11
    assert disk.pread(path, 3, 3) == b"two"
    assert disk.pread(path, 100, 6) == b"three"
    assert disk.pread(path, 1, 11) == b""
    disk.truncate(path, 3)
    disk.append(path, [b"!"])
    assert disk.read_file(path) == b"one!"
    disk.sync(path)
    disk.sync_later(path).run()
    disk.sync_dir(root)


def test_a_name_is_taken_moved_and_removed(disk: Disk, root: str) -> None:
    disk.create(f"{root}/a")
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/a")
    disk.append(f"{root}/a", [b"A"])
    disk.write_file(f"{root}/b", b"older and longer")
    disk.rename(f"{root}/a", f"{root}/b")
    assert disk.listdir(root) == ["b"]
    assert disk.read_file(f"{root}/b") == b"A"
    disk.append(f"{root}/b", [b"B"])
    assert disk.read_file(f"{root}/b") == b"AB"
    disk.unlink(f"{root}/b")
    assert not disk.exists(f"{root}/b")
    with pytest.raises(FileNotFoundError):
        disk.size(f"{root}/b")


def test_directories_move_with_all_that_is_in_them(disk: Disk, root: str) -> None:
    disk.mkdir(f"{root}/t/0")
    disk.mkdir(f"{root}/t/0")
    disk.create(f"{root}/t/0/a")
    disk.append(f"{root}/t/0/a", [b"x"])
    disk.rename(f"{root}/t", f"{root}/u")
    assert not disk.is_dir(f"{root}/t")
    disk.mkdir(f"{root}/t/0")
    disk.create(f"{root}/t/0/a")
    assert disk.size(f"{root}/t/0/a") == 0
    assert disk.pread(f"{root}/u/0/a", 9, 0) == b"x"
    disk.rmtree(f"{root}/u")
    disk.rmtree(f"{root}/u")
    assert disk.listdir(root) == ["t"]


def test_a_file_in_the_way_of_a_directory_is_an_error(disk: Disk, root: str) -> None:
    disk.create(f"{root}/a")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        disk.mkdir(f"{root}/a/b")
    with pytest.raises(FileExistsError):
        disk.mkdir(f"{root}/a")


def test_more_files_than_may_be_open(disk: Disk, root: str) -> None:
    for number in range(10):
        disk.create(f"{root}/{number}")
        disk.append(f"{root}/{number}", [b"a"])
    for number in range(10):
        disk.append(f"{root}/{number}", [b"b"])
        assert disk.pread(f"{root}/{number}", 9, 0) == b"ab"


def test_a_lock_is_held_until_the_disk_is_closed(tmp_path: Path) -> None:
    first, second = OsDisk(), OsDisk()
    first.lock(f"{tmp_path}/lock")
    with pytest.raises(BlockingIOError):
        second.lock(f"{tmp_path}/lock")
    first.close()
    second.lock(f"{tmp_path}/lock")
    second.close()


def test_more_buffers_than_one_call_takes(disk: Disk, root: str) -> None:
    disk.create(f"{root}/a")
    buffers = [b"%d," % number for number in range(2 * MAX_BUFFERS + 7)]
    append_all(disk, f"{root}/a", buffers)
    assert disk.read_file(f"{root}/a") == b"".join(buffers)


def test_descriptors_are_few_and_a_sync_outlives_an_eviction(tmp_path: Path) -> None:
    disk = OsDisk(max_open_files=1)
    disk.create(f"{tmp_path}/a")
    job = disk.sync_later(f"{tmp_path}/a")
    disk.create(f"{tmp_path}/b")
    disk.unlink(f"{tmp_path}/a")
    job.run()
    disk.close()


def test_what_is_removed_later_is_not_held_open(tmp_path: Path) -> None:
    disk = OsDisk()
    for name in ("a/b", "c"):
        disk.mkdir(f"{tmp_path}/{name}")
        disk.create(f"{tmp_path}/{name}/file")
    remove = disk.remove_later([f"{tmp_path}/a", f"{tmp_path}/nothing"])
    assert list(disk._open) == [f"{tmp_path}/c/file"]
    remove()
    assert disk.listdir(str(tmp_path)) == ["c"]
    disk.close()


def test_all_is_synced_through_what_was_opened_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = OsDisk()
    disk.lock(f"{tmp_path}/lock")
    disk.create(f"{tmp_path}/file")
    disk.sync_all()
    asked = []

    class Failing:
        def syncfs(self, fd: int) -> int:
            asked.append(fd)
            ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr("yak.storage.disk._libc", Failing())
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync_all()
    assert asked == disk._locks
    monkeypatch.setattr("yak.storage.disk._libc", object())
    disk.sync_all()
    disk.close()


def test_all_is_durable_after_sync_all() -> None:
    disk = MemoryDisk()
    disk.mkdir("/d/e")
    disk.create("/d/e/f")
    disk.append("/d/e/f", [b"abc"])
    disk.sync_all()
    disk.append("/d/e/f", [b"d"])
    disk.crash("power", random.Random(1))
    assert disk.read_file("/d/e/f")[:3] == b"abc"


def test_when_descriptors_run_out_an_older_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = OsDisk()
    disk.create(f"{tmp_path}/a")
    real, refusals = os.open, [errno.EMFILE]

    def scarce(path: str, flags: int, mode: int = 0o777) -> int:
        if refusals:
            raise OSError(refusals.pop(), "Too many open files", path)
        return int(real(path, flags, mode))

    monkeypatch.setattr("yak.storage.disk.os.open", scarce)
    disk.create(f"{tmp_path}/b")
    assert disk.append(f"{tmp_path}/a", [b"x"]) == 1
    disk.close()


def test_held_files_leave_the_last_descriptors_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections have taken all others: an older file is closed for each that is opened."""
    disk = OsDisk()
    disk.create(f"{tmp_path}/0")
    lowest = os.dup(0)
    os.close(lowest)
    monkeypatch.setattr("yak.storage.disk.is_reserved", lambda fd: fd >= lowest)
    for number in range(1, 5):
        disk.create(f"{tmp_path}/{number}")
        disk.append(f"{tmp_path}/{number}", [b"x"])
    after = os.dup(0)
    os.close(after)
    disk.close()
    assert after == lowest, "files took what is put by"


def test_a_sync_without_a_free_descriptor_takes_that_of_an_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = OsDisk()
    disk.create(f"{tmp_path}/a")
    disk.create(f"{tmp_path}/b")
    real, refusals = os.dup, [errno.EMFILE]

    def scarce(fd: int) -> int:
        if refusals:
            raise OSError(refusals.pop(), "Too many open files")
        return real(fd)

    monkeypatch.setattr("yak.storage.disk.os.dup", scarce)
    disk.sync_later(f"{tmp_path}/b").run()
    assert not refusals
    disk.close()


def test_short_writes_are_gone_on_with() -> None:
    disk = MemoryDisk()
    disk.short_write_bytes = 3
    disk.create("/a")
    append_all(disk, "/a", [b"one", b"two", b"three"])
    assert disk.read_file("/a") == b"onetwothree"


@pytest.mark.parametrize("write", ["write_file", "write_durably"])
def test_a_file_is_replaced_by_as_many_writes_as_it_takes(
    write: str, disk: Disk, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = os.write, []

    def short(fd: int, data: memoryview) -> int:
        sizes.append(len(data))
        return real(fd, data[: len(data) // 2 + 1])

    monkeypatch.setattr("yak.storage.disk.os.write", short)
    if isinstance(disk, MemoryDisk):
        disk.short_write_bytes = 4
    disk.write_file(f"{root}/a", b"the one before, which is longer")
    sizes.clear()
    getattr(disk, write)(f"{root}/a", b"0123456789")
    assert disk.read_file(f"{root}/a") == b"0123456789"
    assert isinstance(disk, MemoryDisk) or sizes == [10, 4, 1]


@pytest.mark.parametrize("write", ["write_file", "write_durably"])
def test_a_disk_that_writes_nothing_is_not_asked_for_ever(
    write: str, disk: Disk, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write_file(f"{root}/a", b"before")
    monkeypatch.setattr("yak.storage.disk.os.write", lambda fd, data: 0)
    if isinstance(disk, MemoryDisk):
        disk.short_write_bytes = 0
    with pytest.raises(OSError, match="wrote nothing"):
        getattr(disk, write)(f"{root}/a", b"after")
    if write == "write_durably":
        assert disk.read_file(f"{root}/a") == b"before"


@pytest.mark.parametrize("takes", [0, 4])
def test_a_log_is_appended_to_by_as_many_writes_as_it_takes(
    takes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, path, real = OsDisk(), f"{tmp_path}/a", os.writev
    append_whole(disk, path, [b"one", b"two"], 0)

    def short(fd: int, buffers: Sequence[Buffer]) -> int:
        data = b"".join(buffers)[:takes]
        return real(fd, [data]) if data else 0

    monkeypatch.setattr("yak.storage.disk.os.writev", short)
    if takes:
        append_whole(disk, path, [b"three", b"four"], 6)
        assert disk.read_file(path) == b"onetwothreefour"
    else:
        with pytest.raises(OSError, match="wrote nothing"):
            append_whole(disk, path, [b"three", b"four"], 6)
        assert disk.read_file(path) == b"onetwo"
    disk.close()


def test_a_full_disk_leaves_a_file_as_it_was() -> None:
    disk = MemoryDisk()
    disk.space_left = 8
    append_whole(disk, "/a", [b"12345"], 0)
    with pytest.raises(OSError, match="No space"):
        append_whole(disk, "/a", [b"67", b"89"], 5)
    assert disk.read_file("/a") == b"12345"
    with pytest.raises(OSError, match="No space"):
        append_whole(disk, "/b", [b"6789"], 0)
    assert not disk.exists("/b")
    append_whole(disk, "/a", [b"678"], 5)
    assert disk.read_file("/a") == b"12345678"


def test_a_file_that_cannot_be_cut_back_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    append_whole(disk, "/a", [b"12345"], 0)
    disk.space_left = 1

    def refuse(path: str, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(disk, "truncate", refuse)
    with pytest.raises(Fatal, match="cutting it back"):
        append_whole(disk, "/a", [b"67"], 5)


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_keeps_what_was_synced_and_a_prefix_of_the_rest(seed: int) -> None:
    disk = MemoryDisk()
    disk.mkdir("/d")
    disk.sync_dir("/")
    disk.create("/d/a")
    disk.append("/d/a", [b"synced"])
    disk.sync("/d/a")
    disk.sync_dir("/d")
    disk.append("/d/a", [b"written"])
    disk.create("/d/b")
    disk.append("/d/b", [b"name and bytes unsynced"])
    disk.crash("power", random.Random(seed))
    data = disk.read_file("/d/a")
    assert data.startswith(b"synced")
    assert b"syncedwritten".startswith(data)
    if disk.exists("/d/b"):
        assert b"name and bytes unsynced".startswith(disk.read_file("/d/b"))


def test_a_power_cut_shows_both_worlds() -> None:
    """Over the seeds: the unsynced name is there and is not; the bytes are whole, part, none."""
    names, sizes = set(), set()
    for seed in range(60):
        disk = MemoryDisk()
        disk.create("/a")
        disk.sync_dir("/")
        disk.append("/a", [b"12345678"])
        disk.create("/b")
        disk.crash("power", random.Random(seed))
        names.add(disk.exists("/b"))
        sizes.add(len(disk.read_file("/a")))
    assert names == {True, False}
    assert {0, 8} < sizes


def test_a_kill_keeps_all_that_was_written() -> None:
    disk = MemoryDisk()
    disk.lock("/lock")
    disk.create("/a")
    disk.append("/a", [b"x"])
    disk.crash("kill", random.Random(0))
    assert disk.read_file("/a") == b"x"
    disk.lock("/lock")


def test_a_failed_sync_is_not_made_good_by_the_next_one() -> None:
    disk = MemoryDisk()
    disk.create("/a")
    disk.sync_dir("/")
    disk.append("/a", [b"lost"])
    disk.sync_fails = True
    with pytest.raises(OSError, match="Input/output"):
        disk.sync("/a")
    disk.sync_fails = False
    disk.sync("/a")
    assert disk.read_file("/a") == b"lost"
    disk.crash("power", random.Random(0))
    assert disk.read_file("/a") == bytes(4)
