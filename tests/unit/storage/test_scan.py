"""Recovery's first phase: what is whole, what is torn, what is damaged; and the cut."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from tests.support.memory_disk import MemoryDisk, Stopped
from tests.support.operations import append_op, body_of, encoded, lead, mixed
from yak.core import ops
from yak.errors import Fatal
from yak.storage.disk import Disk
from yak.storage.faults import Damaged, SyncFailed
from yak.storage.oplog import OpLog
from yak.storage.scan import Scan, scan
from yak.storage.segment import file_name

LOG = "/log"
SMALL = 700


def write_log(disk: Disk, count: int = 12, segment_bytes: int = SMALL, width: int = 8) -> OpLog:
    disk.mkdir(LOG)
    log = OpLog(disk, scan(disk, LOG), segment_bytes)
    log.append(mixed(count, width=width))
    log.begin_sync().run()
    return log


def contents(disk: Disk) -> dict[str, bytes]:
    return {name: disk.read_file(f"{LOG}/{name}") for name in disk.listdir(LOG)}


def recover(disk: Disk) -> Scan:
    """Both phases; after them the log is whole, and going on is possible."""
    found = scan(disk, LOG)
    found.cut(disk)
    again = scan(disk, LOG)
    assert again.state == "whole"
    assert (again.next_index, again.sum, again.epochs) == (
        found.next_index,
        found.sum,
        found.epochs,
    )
    log = OpLog(disk, found, SMALL)
    log.append([(lead(found.next_index, epoch=9), None)])
    last = scan(disk, LOG)
    assert (last.state, last.next_index) == ("whole", found.next_index + 1)
    return found


def test_an_empty_directory_is_an_empty_log(disk: Disk, root: str) -> None:
    found = scan(disk, root)
    found.cut(disk)
    assert (found.state, found.first_index, found.next_index) == ("whole", 1, 1)


@pytest.mark.parametrize("segment_bytes", [1, 300, SMALL, 10**6])
def test_a_whole_log_is_found_whole(segment_bytes: int) -> None:
    disk = MemoryDisk()
    log = write_log(disk, segment_bytes=segment_bytes)
    before = contents(disk)
    found = scan(disk, LOG)
    assert found.state == "whole"
    assert (found.next_index, found.sum, found.epochs) == (13, log.sum, [(1, 1)])
    found.cut(disk)
    assert contents(disk) == before


@pytest.mark.parametrize("segment_bytes", [300, 10**6])
@pytest.mark.parametrize("tail", ["body", "line"])
def test_torn_at_every_byte_of_the_last_operation(segment_bytes: int, tail: str) -> None:
    operations = mixed(7)
    if tail == "line":
        operations.append((lead(8), None))
    else:
        body = body_of(3)
        size, crc = len(body), ops.crc_of(body)
        last = ops.Append(
            index=8, epoch=1, time=1, topic="t", partition=0, offset=9, count=3, size=size, crc=crc
        )
        operations.append((last, body))
    for cut in range(1, len(encoded(operations)[-1])):
        disk = MemoryDisk()
        disk.mkdir(LOG)
        log = OpLog(disk, scan(disk, LOG), segment_bytes)
        log.append(operations)
        path = f"{LOG}/{disk.listdir(LOG)[-1]}"
        disk.truncate(path, disk.size(path) - cut)
        found = scan(disk, LOG)
        assert (found.state, found.next_index) == ("torn", 8)
        assert found.cut_bytes > 0
        assert found.why.startswith(path)
        recover(disk)


@pytest.mark.parametrize("segment_bytes", [300, 10**6])
def test_one_bit_flipped_at_every_byte(segment_bytes: int) -> None:
    """Damaged, if anything valid follows; else nothing before the damaged operation is lost."""
    seen = set()
    source = MemoryDisk()
    write_log(source, 7, segment_bytes)
    files = contents(source)
    starts = _starts(files)
    last_start = max(starts)
    for name, data in files.items():
        for position in range(len(data)):
            disk = MemoryDisk()
            disk.mkdir(LOG)
            for other, content in files.items():
                disk.write_file(f"{LOG}/{other}", content)
            disk.flip(f"{LOG}/{name}", position, 1 << (position % 8))
            seen.add(_judge(disk, (name, position), last_start, len(starts)))
    assert seen == {"torn", "damaged"}


def test_one_bit_flipped_where_no_operation_has_a_body() -> None:
    """Only the sums can prove what follows."""
    source = MemoryDisk()
    source.mkdir(LOG)
    OpLog(source, scan(source, LOG), 10**6).append([(lead(n, epoch=n), None) for n in range(1, 4)])
    (name, data), *_ = contents(source).items()
    last = _starts({name: data})[-1]
    for position in range(len(data)):
        disk = MemoryDisk()
        disk.mkdir(LOG)
        disk.write_file(f"{LOG}/{name}", data)
        disk.flip(f"{LOG}/{name}", position, 1 << (position % 8))
        _judge(disk, (name, position), last, 3)


def test_a_line_of_which_nothing_is_left_and_a_body_after_it_is_damage() -> None:
    """Only the body's crc can prove what follows."""
    source = MemoryDisk()
    source.mkdir(LOG)
    body = body_of(2)
    log = OpLog(source, scan(source, LOG), 10**6)
    log.append([(lead(1), None), (lead(2), None), (append_op(3, 0, body), body)])
    path = f"{LOG}/{file_name(1)}"
    data = source.read_file(path)
    start, end = (at for _, at in _starts({path: data})[1:])
    source.write_file(path, data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(Damaged, match="operation, 3, follows"):
        scan(source, LOG)


@pytest.mark.parametrize("kind", ["kill", "power"])
def test_stopped_at_every_step_of_the_cut(kind: Literal["kill", "power"]) -> None:
    stopped, steps = True, 0
    while stopped:
        disk = MemoryDisk()
        disk.mkdir(LOG)
        disk.sync_dir("/")
        log = write_log(disk, 30)
        names = disk.listdir(LOG)
        disk.truncate(f"{LOG}/{names[1]}", disk.size(f"{LOG}/{names[1]}") - 3)
        disk.sync(f"{LOG}/{names[1]}")
        found = scan(disk, LOG, after_power_cut=True)
        assert len(found.dropped) > 3
        disk.stop_after = steps
        stopped = False
        try:
            found.cut(disk)
        except Stopped:
            stopped = True
        disk.crash(kind, random.Random(steps))
        again = scan(disk, LOG, after_power_cut=True)
        assert again.next_index == found.next_index < log.next_index
        files = [segment.path for segment in again.segments] + again.dropped[::-1]
        assert files == [f"{LOG}/{name}" for name in names[: len(files)]], "there is no gap"
        steps += 1
    assert steps > 5


def _starts(files: dict[str, bytes]) -> list[tuple[str, int]]:
    """(file, position) of every operation."""
    found = []
    for name, data in files.items():
        at = 0
        while (at := data.find(b'{"index":', at)) >= 0:
            found.append((name, at))
            at += 1
    return found


def _judge(
    disk: MemoryDisk, where: tuple[str, int], last_start: tuple[str, int], count: int
) -> str:
    before = contents(disk)
    try:
        found = scan(disk, LOG)
    except (Damaged, Fatal):
        assert contents(disk) == before
        return "damaged"
    assert found.state == "torn", where
    assert contents(disk) == before
    # Torn is right only where nothing valid follows: in the last operation, or in the header
    # right before it.
    header_of_last = where[0] == last_start[0] and len(_starts({"": before[where[0]]})) <= 1
    assert where >= last_start or header_of_last, where
    assert found.next_index == count, where
    recover(disk)
    return "torn"


def test_a_missing_file_is_damage() -> None:
    for number in range(3):
        disk = MemoryDisk()
        write_log(disk)
        names = disk.listdir(LOG)
        assert len(names) > 3
        if number == 0:
            disk.unlink(f"{LOG}/{names[0]}")
            assert scan(disk, LOG).first_index > 1  # whoever knows that it must be 1 says so
            continue
        disk.unlink(f"{LOG}/{names[number]}")
        with pytest.raises(Damaged, match="begins with operation"):
            scan(disk, LOG)


def test_a_format_of_the_future_is_refused_and_kept() -> None:
    disk = MemoryDisk()
    disk.mkdir(LOG)
    disk.write_file(f"{LOG}/{file_name(1)}", b'{"format":2,"first":1,"magic":true}\n???')
    with pytest.raises(Fatal, match="format 2"):
        scan(disk, LOG)


@pytest.mark.parametrize("content", [b"", b'{"format":1,"fir', b"\0" * 5000, b"\n", b"{}\n"])
def test_a_last_file_that_a_roll_began_goes(content: bytes) -> None:
    disk = MemoryDisk()
    log = write_log(disk)
    disk.write_file(f"{LOG}/{file_name(log.next_index)}", content)
    found = recover(disk)
    assert found.next_index == log.next_index
    assert found.state == ("torn" if content else "whole")


def test_a_last_file_with_only_its_first_line_goes_unnoticed() -> None:
    disk = MemoryDisk()
    log = write_log(disk)
    header = b'{"format":1,"first":13,"sum":"%s"}\n' % log.sum.encode()
    disk.write_file(f"{LOG}/{file_name(13)}", header)
    assert recover(disk).state == "whole"


def test_a_torn_file_with_an_empty_one_behind_it_is_torn() -> None:
    disk = MemoryDisk()
    log = write_log(disk)
    last = f"{LOG}/{disk.listdir(LOG)[-1]}"
    disk.truncate(last, disk.size(last) - 3)
    disk.write_file(f"{LOG}/{file_name(log.next_index)}", b"")
    assert recover(disk).next_index == log.next_index - 1


def test_pages_of_zeros_in_the_middle_and_valid_ones_after_are_damage() -> None:
    disk = MemoryDisk()
    write_log(disk, 40, 10**6, width=300)
    path = f"{LOG}/{file_name(1)}"
    data = disk.read_file(path)
    for start, size in ((0, 4096), (1000, 100), (4096, 4096)):
        disk.write_file(path, data[:start] + bytes(size) + data[start + size :])
        with pytest.raises(Damaged, match="follows"):
            scan(disk, LOG)
    disk.write_file(path, data[:4096] + bytes(len(data) - 4096))
    assert scan(disk, LOG).state == "torn"


def test_records_that_look_like_operations_do_not_hide_a_torn_end() -> None:
    """A body cut short is the end of the file: what lies in it proves nothing."""
    fake = encoded([(lead(9), None)])[0]
    body = fake * 3
    disk = MemoryDisk()
    disk.mkdir(LOG)
    log = OpLog(disk, scan(disk, LOG), 10**6)
    op = ops.Append(
        index=2,
        epoch=1,
        time=1,
        topic="t",
        partition=0,
        offset=0,
        count=3,
        size=len(body),
        crc=ops.crc_of(body),
    )
    log.append([(lead(1), None), (op, body)])
    path = f"{LOG}/{file_name(1)}"
    disk.truncate(path, disk.size(path) - 5)
    assert recover(disk).next_index == 2


def test_an_operation_longer_than_the_window_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.storage.scan.WINDOW_BYTES", 64)
    disk = MemoryDisk()
    log = write_log(disk, 20, 10**6)
    found = scan(disk, LOG)
    assert (found.state, found.next_index, found.sum) == ("whole", 21, log.sum)
    path = f"{LOG}/{file_name(1)}"
    disk.truncate(path, disk.size(path) - 1)
    assert recover(disk).next_index == 20


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_in_the_middle_of_the_cut_changes_nothing(seed: int) -> None:
    """Whatever of the cut is kept, the next recovery ends at the same operation."""
    rng = random.Random(seed)
    disk = MemoryDisk()
    disk.mkdir(LOG)
    disk.sync_dir("/")
    log = write_log(disk)
    victim = f"{LOG}/{rng.choice(disk.listdir(LOG))}"
    disk.truncate(victim, disk.size(victim) - 3)
    disk.sync(victim)
    for name in disk.listdir(LOG):
        if f"{LOG}/{name}" > victim:
            disk.write_file(f"{LOG}/{name}", b"\0" * 9)
            disk.sync(f"{LOG}/{name}")
    expected = scan(disk, LOG)
    assert expected.next_index < log.next_index
    for path in expected.dropped[: rng.randint(0, len(expected.dropped))]:
        disk.unlink(path)
    disk.crash("power", rng)
    assert scan(disk, LOG).next_index == expected.next_index
    recover(disk)


def test_what_a_failed_sync_may_have_lost_is_written_again() -> None:
    disk = MemoryDisk()
    disk.mkdir(LOG)
    disk.sync_dir("/")
    log = write_log(disk)
    durable = log.next_index - 1
    log.append([(lead(durable + 1, epoch=2), None)])
    disk.sync_fails = True
    with pytest.raises(SyncFailed, match="Input/output"):
        log.begin_sync().run()
    disk.sync_fails = False
    found = scan(disk, LOG)
    found.cut(disk, rewrite_from=durable + 1)
    disk.crash("power", random.Random(1))
    assert scan(disk, LOG).next_index == durable + 2
    assert scan(disk, LOG).state == "whole"
