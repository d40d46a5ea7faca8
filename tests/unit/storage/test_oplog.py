"""The log: append, read, truncate, sync; against plain lists, and against itself."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.operations import append_op, body_of, encoded, lead, mixed
from yak.core.ops import NO_SUM, Op
from yak.errors import Fatal
from yak.storage.chunk import parse_chunk, sum_of
from yak.storage.disk import Buffer, Disk
from yak.storage.faults import Damaged, StorageError, SumMismatch, SyncFailed
from yak.storage.oplog import OpLog
from yak.storage.scan import scan

SMALL = 700


def open_log(
    disk: Disk, path: str = "/log", segment_bytes: int = SMALL, tail_bytes: int = 10**6
) -> OpLog:
    disk.mkdir(path)
    found = scan(disk, path)
    found.cut(disk)
    return OpLog(disk, found, segment_bytes, tail_bytes=tail_bytes)


def files(disk: Disk, path: str = "/log") -> dict[str, bytes]:
    return {name: disk.read_file(f"{path}/{name}") for name in disk.listdir(path)}


def joined(log: OpLog, first: int, last: int, max_bytes: int = 10**9) -> bytes:
    """All of a range, in as many reads as it takes."""
    found = b""
    while first <= last:
        count, buffers = log.read(first, last, max_bytes)
        assert count >= 1
        found += b"".join(buffers)
        first += count
    return found


def test_what_was_appended_is_read(disk: Disk, root: str) -> None:
    operations = mixed(30)
    pieces = encoded(operations)
    log = open_log(disk, f"{root}/log")
    log.append(operations[:10])
    for entry in operations[10:]:
        log.append([entry])
    assert log.next_index == 31
    assert log.epochs == [(1, 1)]
    for again in (log, open_log(disk, f"{root}/log")):
        assert joined(again, 1, 30) == b"".join(pieces)
        assert joined(again, 7, 19, 1) == b"".join(pieces[6:19])
        assert [entry.op for entry in again.load(3, 3, 1)] == [operations[2][0]]
        assert again.sum_before(1) == NO_SUM
        for index in range(2, 32):
            assert again.sum_before(index) == sum_of(pieces[index - 2].partition(b"\n")[0] + b"\n")
        assert again.read(5, 4, 100) == (0, [])
    assert log.size_bytes == sum(map(len, files(disk, f"{root}/log").values()))


def test_files_roll_by_size_and_a_long_operation_has_one_alone() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    long = body_of(100)
    log.append(
        [
            (lead(1), None),
            (append_op(2, 0, long), long),
            (lead(3), None),
            (lead(4), None),
        ]
    )
    assert [name[:20].lstrip("0") for name in files(disk)] == ["1", "2", "3"]
    for name, data in files(disk).items():
        assert len(data) <= SMALL or name.startswith("00000000000000000002")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.lists(st.integers(1, 12), max_size=8))
def test_files_are_the_same_however_the_operations_came(
    seed: int, count: int, sizes: list[int]
) -> None:
    operations = mixed(count, seed=seed)
    at_once, in_parts, copied = MemoryDisk(), MemoryDisk(), MemoryDisk()
    open_log(at_once).append(operations)
    log, start = open_log(in_parts), 0
    for size in [*sizes, count]:
        log.append(operations[start : start + size])
        start += size
    follower, next_index = open_log(copied), 1
    while next_index <= count:
        number, buffers = log.read(next_index, count, 400)
        follower.append_copied(
            parse_chunk(
                b"".join(buffers),
                previous_sum=follower.sum,
                next_index=follower.next_index,
                previous_epoch=1,
            )
        )
        next_index += number
    assert files(at_once) == files(in_parts) == files(copied)
    assert follower.epochs == log.epochs
    assert follower.sum == log.sum


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.data())
def test_cut_and_appended_to_is_as_if_appended_directly(
    seed: int, count: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(0, count))
    first = mixed(count, seed=seed)
    second = mixed(10, seed=seed + 1, first=keep + 1, epoch=2)
    cut, direct = MemoryDisk(), MemoryDisk()
    log = open_log(cut, tail_bytes=data.draw(st.sampled_from([0, 10**6])))
    log.append(first)
    if data.draw(st.booleans()):
        log = open_log(cut)
    expected = open_log(direct)
    expected.append(first[:keep])
    log.truncate(keep + 1, expected.sum)
    assert files(cut) == files(direct)
    for one in (log, expected):
        one.append(second)
    assert files(cut) == files(direct)
    assert (log.sum, log.epochs, log.next_index) == (
        expected.sum,
        expected.epochs,
        expected.next_index,
    )
    assert joined(log, 1, log.next_index - 1, 300) == joined(expected, 1, log.next_index - 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_a_range_is_whole_operations_that_fit(seed: int, data: st.DataObject) -> None:
    """From memory and from files alike; large files, so that marks lie in them."""
    operations = mixed(60, seed=seed, width=1000)
    pieces = encoded(operations)
    disk = MemoryDisk()
    log = open_log(disk, segment_bytes=60_000, tail_bytes=data.draw(st.sampled_from([0, 10**6])))
    log.append(operations)
    for _ in range(20):
        first = data.draw(st.integers(1, 60))
        last = data.draw(st.integers(first, 60))
        max_bytes = data.draw(st.integers(0, 80_000))
        count, buffers = log.read(first, last, max_bytes)
        got = b"".join(buffers)
        assert got == b"".join(pieces[first - 1 : first - 1 + count])
        assert 1 <= count <= last - first + 1
        assert len(got) <= max_bytes or count == 1


def test_a_large_read_of_small_operations_ends_at_a_mark_and_is_not_small() -> None:
    disk = MemoryDisk()
    log = open_log(disk, segment_bytes=10**7, tail_bytes=0)
    log.append(mixed(5000))
    count, buffers = log.read(2000, 4999, 200_000)
    assert 200_000 - 20_000 < sum(map(len, buffers)) <= 200_000
    assert count > 500


def test_the_leaders_sum_must_be_ours() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    log.append(mixed(20))
    before = files(disk)
    with pytest.raises(SumMismatch, match="disagree below operation 11"):
        log.truncate(11, "12345678")
    assert files(disk) == before
    log.truncate(21, log.sum)
    assert files(disk) == before


def test_a_full_disk_refuses_and_goes_on_when_there_is_room() -> None:
    operations = mixed(60)
    whole = MemoryDisk()
    open_log(whole).append(operations)
    total = sum(map(len, files(whole).values()))
    for space in range(0, total, 37):
        disk = MemoryDisk()
        log = open_log(disk)
        disk.space_left = space
        with pytest.raises(StorageError, match="No space") as refused:
            log.append(operations)
        assert refused.value.next_index == log.next_index
        found = scan(disk, "/log")
        assert (found.state, found.next_index, found.sum) == ("whole", log.next_index, log.sum)
        disk.space_left = None
        log.append(operations[log.next_index - 1 :])
        assert files(disk) == files(whole)


def test_a_cut_that_cannot_be_made_durable_stops_the_process() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    log.append(mixed(20))
    disk.sync_fails = True
    with pytest.raises(SyncFailed):
        log.truncate(10, log.sum_before(10))


def test_a_file_that_cannot_be_cut_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    log.append(mixed(20))

    def refuse(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(disk, "unlink", refuse)
    with pytest.raises(Fatal, match="cutting the log to operation 9"):
        log.truncate(10, log.sum_before(10))


def test_an_empty_log_is_durable() -> None:
    """As when a broker is asked to stop before it has heard of anything."""
    log = open_log(MemoryDisk())
    log.sync_now()
    assert log.durable_index == 0


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    disk = MemoryDisk()
    disk.mkdir("/log")
    disk.sync_dir("/")
    log = open_log(disk)
    log.append(mixed(20))
    job = log.begin_sync()
    assert job.index == 20
    log.append(mixed(20, first=21, epoch=2))
    job.run()
    assert log.begin_sync().index == 40
    for seed in range(20):
        again = MemoryDisk()
        again.mkdir("/log")
        again.sync_dir("/")
        log = open_log(again)
        log.append(mixed(20))
        job = log.begin_sync()
        log.append(mixed(20, first=21, epoch=2))
        job.run()
        again.crash("power", random.Random(seed))
        found = scan(again, "/log")
        assert found.next_index > job.index


@pytest.mark.parametrize("seed", range(20))
def test_a_roll_while_a_sync_runs_leaves_no_hole(seed: int) -> None:
    """The job has not run yet, and may never: the new file must not outlive the old one's end."""
    disk = MemoryDisk()
    disk.mkdir("/log")
    disk.sync_dir("/")
    log = open_log(disk)
    operations = mixed(40)
    log.append(operations[:4])
    log.begin_sync()
    for entry in operations[4:]:
        log.append([entry])
    disk.crash("power", random.Random(seed))
    assert scan(disk, "/log").next_index >= 1


def test_what_is_cut_while_a_sync_runs_is_not_durable() -> None:
    log = open_log(MemoryDisk())
    log.append(mixed(20))
    job = log.begin_sync()
    log.truncate(11, log.sum_before(11))
    log.append(mixed(20, first=11, epoch=2))
    job.run()
    assert job.index == 10


@pytest.mark.parametrize("seed", range(25))
def test_synced_operations_survive_power_cuts(seed: int) -> None:
    """Append, sync, cut, crash, recover: what a sync covered, and was not cut, is there."""
    rng = random.Random(seed)
    disk = MemoryDisk()
    disk.mkdir("/log")
    disk.sync_dir("/")
    log = open_log(disk)
    held: list[tuple[Op, Buffer | None]] = []
    durable, epoch = 0, 0
    for _ in range(60):
        step = rng.random()
        if step < 0.5:
            epoch += 1
            more = mixed(rng.randint(1, 6), seed=rng.random().__hash__(), first=len(held) + 1)
            for op, _ in more:
                op.epoch = epoch
            log.append(more)
            held += more
        elif step < 0.7:
            job = log.begin_sync()
            job.run()
            durable = job.index
        elif step < 0.8 and held:
            keep = rng.randint(durable, len(held))
            log.truncate(keep + 1, log.sum_before(keep + 1))
            del held[keep:]
        elif step < 0.9:
            disk.crash("power", rng)
            log = open_log(disk)
            assert durable < log.next_index <= len(held) + 1
            del held[log.next_index - 1 :]
            durable = len(held)
        expected = encoded(held)
        assert log.next_index == len(held) + 1
        if held:
            assert joined(log, 1, len(held), 500) == b"".join(expected)


@pytest.mark.parametrize("kind", ["kill", "power"])
@pytest.mark.parametrize("seed", range(3))
def test_stopped_at_every_step_of_a_truncation(kind: Literal["kill", "power"], seed: int) -> None:
    """The log is then cut where it should be, or further behind; there is never a gap."""
    operations = mixed(40)
    stopped = True
    steps = 0
    while stopped:
        disk = MemoryDisk()
        disk.mkdir("/log")
        disk.sync_dir("/")
        log = open_log(disk)
        log.append(operations)
        log.begin_sync().run()
        expected = log.sum_before(8)
        disk.stop_after = steps
        stopped = False
        try:
            log.truncate(8, expected)
        except Stopped:
            stopped = True
        disk.crash(kind, random.Random(seed))
        found = scan(disk, "/log")
        assert found.state == "whole" or stopped
        assert 8 <= found.next_index <= (41 if stopped else 8)
        again = open_log(disk)
        assert again.sum_before(8) == expected
        steps += 1
    assert steps > 5


def test_an_operation_that_is_damaged_under_way_is_said_so() -> None:
    disk = MemoryDisk()
    log = open_log(disk, tail_bytes=0, segment_bytes=10**6)
    log.append(mixed(20))
    path = "/log/" + disk.listdir("/log")[0]
    disk.write_file(path, bytes(disk.size(path)))
    with pytest.raises(Damaged):
        log.read(3, 9, 10)


def test_no_read_gives_anything_of_which_a_bit_has_flipped() -> None:
    """At every byte: a follower that were sent it would refuse it, and ask again, for ever."""
    disk = MemoryDisk()
    log = open_log(disk, tail_bytes=0, segment_bytes=10**6)
    log.append(mixed(8))
    path = "/log/" + disk.listdir("/log")[0]
    whole = disk.read_file(path)
    pieces = {(i, j): joined(log, i, j) for i in range(1, 8) for j in (i, 7)}
    sums = {i: log.sum_before(i) for i in range(1, 9)}
    for place in range(whole.index(b"\n") + 1, len(whole)):
        disk.flip(path, place)
        for (i, j), piece in pieces.items():
            with suppress(Damaged):
                assert joined(log, i, j) == piece, place
        for i, running in sums.items():
            with suppress(Damaged):
                assert log.sum_before(i) == running, place
        disk.flip(path, place)
    assert joined(log, 1, 8) == whole[whole.index(b"\n") + 1 :]
