"""A partition: reads against a plain list of operations, flushed or not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_disk import MemoryDisk
from tests.support.operations import TOPIC, append_op, body_of, encoded
from yak.core.ops import Append
from yak.storage.disk import Disk
from yak.storage.faults import Damaged, StorageError, Trimmed
from yak.storage.partition import REMEMBERED_ENDS, Partition, last_index_on_disk
from yak.storage.segment import file_name

HOME = f"/topics/{TOPIC}/0"


class Model:
    """The partition, and beside it what it should hold."""

    def __init__(self, disk: Disk, directory: str = HOME, segment_bytes: int = 5000) -> None:
        self.partition = Partition(disk, directory, segment_bytes)
        self.held: list[tuple[Append, bytes]] = []
        self.index = 0

    def append(self, count: int, width: int = 8, *, time: int = 0) -> None:
        self.index += 2
        body = body_of(count, "abc"[self.index % 3], width)
        op = append_op(self.index, self.partition.next_offset, body, time=time or self.index * 10)
        piece = encoded([(op, body)])[0]
        line = piece[: len(piece) - len(body)]
        self.partition.append(op, line, body)
        self.held.append((op, piece))

    def check_read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> bytes:
        got = b"".join(self.partition.read(offset, max_bytes, at_least_one=at_least_one))
        wanted = [piece for op, piece in self.held if op.offset + op.count > offset]
        whole = [b"".join(wanted[:count]) for count in range(len(wanted) + 1)]
        assert got in whole
        first = len(wanted[0]) if wanted else 0
        assert len(got) <= max_bytes or (at_least_one and got == wanted[0])
        if wanted and (at_least_one or first <= max_bytes):
            assert got
        return got

    def naive_time(self, at_ms: int) -> int | None:
        return next((op.offset for op, _ in self.held if op.time >= at_ms), None)


def test_nothing_is_sent_of_which_a_bit_has_flipped() -> None:
    """At every byte but those that are a line's digits, of which its file alone cannot tell."""
    disk = MemoryDisk()
    model = Model(disk)
    for count in (2, 1, 3):
        model.append(count)
    model.partition.flush()
    path = f"{HOME}/{file_name(0)}"
    header = disk.size(path) - sum(len(piece) for _, piece in model.held)
    position = header
    for op, piece in model.held:
        line = len(piece) - op.size
        digits = {at for at, byte in enumerate(piece[:line]) if chr(byte).isdigit()}
        digits -= set(
            range(piece.index(b'"crc":'), piece.index(b'"crc":') + len('"crc":"00000000"'))
        )
        digits.update(range(line - len('00000000"}\n'), line - len('"}\n')))  # the sum's
        for place in sorted(set(range(len(piece))) - digits):
            disk.flip(path, position + place)
            with pytest.raises(Damaged):
                model.partition.read(0, 10**6)
            disk.flip(path, position + place)
        position += len(piece)
    model.check_read(0, 10**6)


def test_what_was_appended_is_read_before_and_after_a_flush(disk: Disk, root: str) -> None:
    model = Model(disk, f"{root}/topics/orders/0", segment_bytes=700)
    assert model.partition.read(0, 1000) == []
    for count in (3, 1, 5, 2, 7, 1, 1):
        model.append(count)
    everything = b"".join(piece for _, piece in model.held)
    for _ in range(2):
        got, offset = b"", 0
        while offset < model.partition.next_offset:
            part = model.check_read(offset, 300)
            got += part
            offset = next(op.offset for op, piece in model.held if part.endswith(piece)) + next(
                op.count for op, piece in model.held if part.endswith(piece)
            )
        assert got == everything
        model.partition.flush()
        assert model.partition.waiting_bytes == 0
    names = disk.listdir(f"{root}/topics/orders/0")
    assert len(names) > 2
    files = [disk.read_file(f"{root}/topics/orders/0/{name}") for name in names]
    assert all(len(data) <= 700 for data in files)
    assert files[0].startswith(b'{"format":1,"first":0}\n')
    assert b"".join(data.partition(b"\n")[2] for data in files) == everything


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_reads_are_as_from_a_list(seed: int) -> None:
    rng = random.Random(seed)
    model = Model(MemoryDisk(), segment_bytes=rng.choice([500, 40_000, 10**6]))
    for _ in range(rng.randint(1, 60)):
        model.append(rng.randint(1, 30), rng.choice([8, 8, 1000]))
        if rng.random() < 0.2:
            model.partition.flush()
        for _ in range(3):
            offset = rng.randint(0, model.partition.next_offset + 1)
            max_bytes = rng.choice([0, 50, 700, 20_000, 60_000, 10**7])
            model.check_read(offset, max_bytes, at_least_one=rng.random() < 0.7)
        at_ms = rng.randint(0, model.index * 10 + 20)
        assert model.partition.find_time(at_ms) == model.naive_time(at_ms)


def test_many_operations_may_have_one_time() -> None:
    model = Model(MemoryDisk(), segment_bytes=3000)
    for number in range(200):
        model.append(1, time=1000 + number // 50)
    for flushed in (False, True):
        for at_ms in range(998, 1007):
            assert model.partition.find_time(at_ms) == model.naive_time(at_ms), flushed
        model.partition.flush()


def test_a_reader_that_goes_on_where_it_stopped_does_not_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(MemoryDisk(), segment_bytes=10**7)
    for _ in range(2000):
        model.append(1)
    model.partition.flush()
    got = model.check_read(0, 50_000)
    offset = sum(1 for _, piece in model.held if piece in got)
    monkeypatch.setattr("yak.storage.segment.walk", lambda *_: pytest.fail("it searched"))
    assert model.check_read(offset, 50_000)


def test_a_reader_that_begins_at_a_mark_does_not_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large batches are all marked: to search would be to read each of them twice."""
    model = Model(MemoryDisk(), segment_bytes=10**7)
    for _ in range(20):
        model.append(100, 300)
    model.partition.flush()
    model.check_read(0, 10**7)  # the marks are complete now
    monkeypatch.setattr("yak.storage.segment.walk", lambda *_: pytest.fail("it searched"))
    for op, _ in model.held:
        assert model.check_read(op.offset, 10**7)


def test_few_ends_are_remembered() -> None:
    model = Model(MemoryDisk(), segment_bytes=10**7)
    for _ in range(500):
        model.append(1)
    model.partition.flush()
    for offset in range(400):
        model.check_read(offset, 1000)
    assert len(model.partition._ends) <= REMEMBERED_ENDS


def test_a_full_disk_loses_nothing_and_is_tried_again() -> None:
    disk = MemoryDisk()
    model = Model(disk, segment_bytes=600)
    for _ in range(3):
        model.append(2)
    model.partition.flush()
    disk.space_left = 250
    for _ in range(10):
        model.append(2)
    with pytest.raises(StorageError, match="No space"):
        model.partition.flush()
    everything = b"".join(piece for _, piece in model.held)
    assert b"".join(_all(model)) == everything
    model.append(1)
    disk.space_left = None
    model.partition.flush()
    everything = b"".join(piece for _, piece in model.held)
    assert b"".join(_all(model)) == everything
    files = [disk.read_file(f"{HOME}/{name}") for name in disk.listdir(HOME)]
    assert b"".join(data.partition(b"\n")[2] for data in files) == everything


def _all(model: Model) -> list[bytes]:
    found, offset = [], 0
    for op, piece in model.held:
        if op.offset >= offset:
            found.append(model.check_read(offset, len(piece)))
            offset = op.offset + op.count
    return found


def test_trim_removes_whole_files_below_an_offset() -> None:
    disk = MemoryDisk()
    model = Model(disk, segment_bytes=600)
    for number in range(30):
        model.append(2)
        if number % 7 == 0:
            model.partition.flush()
    firsts = [segment.first for segment in model.partition._segments]
    freed = model.partition.trim(firsts[2] + 1)
    assert [path.rpartition("/")[2] for path in freed] == [file_name(n) for n in firsts[:2]]
    assert model.partition.start_offset == firsts[2]
    model.partition.trim(model.partition.next_offset - 1)
    assert model.partition.start_offset == firsts[-1]
    model.partition.flush()
    model.held = [(op, piece) for op, piece in model.held if op.offset >= firsts[-1]]
    model.check_read(firsts[-1], 10**6)
    with pytest.raises(Trimmed) as gone:
        model.partition.read(firsts[-1] - 1, 10**6)
    assert gone.value.start == firsts[-1]


def test_a_trim_needs_no_room_on_the_disk() -> None:
    """What waits for room is given up with its file, and what is left goes on waiting."""
    disk = MemoryDisk()
    model = Model(disk, segment_bytes=600)
    for number in range(20):
        model.append(2)
        if number == 10:
            model.partition.flush()
    disk.space_left = 0
    last = model.partition._segments[-1].first
    freed = model.partition.trim(last)
    assert freed == [f"{HOME}/{name}" for name in disk.listdir(HOME)]
    model.held = [(op, piece) for op, piece in model.held if op.offset >= last]
    assert model.partition.waiting_bytes == sum(len(piece) for _, piece in model.held)
    model.check_read(last, 10**6)
    disk.space_left = None
    model.partition.flush()
    model.check_read(last, 10**6)


def test_what_is_too_old_may_go_by_whole_segments() -> None:
    """One operation that is young enough keeps its segment; the last one may go as well."""
    model = Model(MemoryDisk(), segment_bytes=600)
    for number in range(30):
        model.append(2, time=1000 + number)
        if number == 17:
            model.partition.flush()
    segments = model.partition._segments
    assert len(segments) > 3
    newest = [
        max(op.time for op, _ in model.held if op.offset < end)
        for end in [*(one.first for one in segments[1:]), model.partition.next_offset]
    ]
    for number, time in enumerate(newest):
        assert model.partition.trim_point(time, None) == segments[number].first
        following = segments[number + 1].first if number + 1 < len(segments) else 60
        assert model.partition.trim_point(time + 1, None) == following
    assert model.partition.trim_point(0, None) == 0
    assert model.partition.trim_point(None, None) == 0
    model.partition.flush()
    restored = Partition(MemoryDisk(), HOME)
    restored.restore(model.partition.row(TOPIC, 0))
    for at_ms in range(999, 1032):
        assert restored.trim_point(at_ms, None) == model.partition.trim_point(at_ms, None)


def test_what_is_too_much_may_go_while_enough_is_left() -> None:
    """Counted with what waits in memory."""
    model = Model(MemoryDisk(), segment_bytes=600)
    for number in range(30):
        model.append(2)
        if number == 17:
            model.partition.flush()
    segments = model.partition._segments
    sizes = [segment.size for segment in segments]
    for number in range(1, len(sizes)):
        left = sum(sizes[number:])
        assert model.partition.trim_point(None, left) == segments[number].first
        assert model.partition.trim_point(None, left + 1) == segments[number - 1].first
    assert model.partition.trim_point(None, sum(sizes)) == 0
    assert model.partition.trim_point(None, 1) == segments[-1].first, "the last one stays"
    assert model.partition.trim_point(None, 0) == model.partition.next_offset
    assert Partition(MemoryDisk(), HOME).trim_point(0, 0) == 0


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=30),
    st.none() | st.integers(0, 120),
    st.none() | st.integers(0, 3000),
)
def test_a_trim_point_keeps_what_is_to_be_kept_and_no_segment_more(
    appends: list[tuple[int, int]], older_than: int | None, more_than: int | None
) -> None:
    model = Model(MemoryDisk(), segment_bytes=400)
    time = 1
    for count, step in appends:
        time += step
        model.append(count, time=time)
    segments = list(model.partition._segments)
    before = model.partition.trim_point(older_than, more_than)
    gone = [one for one in segments if one.first < before]
    kept = segments[len(gone) :]
    for number, one in enumerate(gone):
        too_old = older_than is not None and one.last_time < older_than
        rest = sum(other.size for other in segments[number + 1 :])
        assert too_old or (more_than is not None and rest >= more_than)
    if kept:
        assert before == kept[0].first
        assert older_than is None or kept[0].last_time >= older_than
        assert more_than is None or sum(other.size for other in kept[1:]) < more_than
    else:
        assert before == model.partition.next_offset
    model.partition.trim(before)
    assert model.partition.start_offset == before
    assert model.partition._segments == kept


def test_a_trim_up_to_the_end_leaves_no_file_and_no_gap() -> None:
    disk = MemoryDisk()
    model = Model(disk, segment_bytes=600)
    for number in range(30):
        model.append(2)
        if number == 20:
            model.partition.flush()
    end = model.partition.next_offset
    freed = model.partition.trim(end)
    assert freed == [f"{HOME}/{name}" for name in disk.listdir(HOME)]
    assert (model.partition.start_offset, model.partition.waiting_bytes) == (end, 0)
    assert model.partition.read(end, 10**6) == []
    assert model.partition.find_time(0) is None
    with pytest.raises(Trimmed):
        model.partition.read(end - 1, 10**6)
    model.held.clear()
    model.append(2)
    model.partition.flush()
    assert disk.listdir(HOME)[-1] == file_name(end)
    model.check_read(end, 10**6)


def test_a_file_that_was_changed_is_not_sent() -> None:
    disk = MemoryDisk()
    model = Model(disk, segment_bytes=10**6)
    for _ in range(20):
        model.append(2)
    model.partition.flush()
    path = f"{HOME}/{disk.listdir(HOME)[0]}"
    disk.write_file(path, bytes(disk.size(path)))
    for offset in (0, 7, 38):
        with pytest.raises(Damaged):
            model.partition.read(offset, 1000)


@pytest.mark.parametrize("segment_bytes", [400, 10**6])
def test_the_last_index_is_found_in_torn_files_too(segment_bytes: int) -> None:
    disk = MemoryDisk()
    disk.mkdir(HOME)
    assert last_index_on_disk(disk, HOME) == 0
    model = Model(disk, segment_bytes=segment_bytes)
    for count in (1, 500, 2, 3000, 1):
        model.append(count)
    model.partition.flush()
    assert last_index_on_disk(disk, HOME) == 10
    last = len(model.held[-1][1])
    path = f"{HOME}/{disk.listdir(HOME)[-1]}"
    body = model.held[-1][0].size
    disk.truncate(path, disk.size(path) - body + 1)
    assert last_index_on_disk(disk, HOME) == 10
    disk.truncate(path, disk.size(path) - (last - body) + 1)
    assert last_index_on_disk(disk, HOME) == 8


def test_a_record_that_looks_like_an_operation_is_none() -> None:
    disk = MemoryDisk()
    partition = Partition(disk, HOME)
    body = b'{"index":999,"epoch":1,"time":1,"op":"append","value":1}\n'
    op = append_op(4, 0, body)
    line = encoded([(op, b"")])[0]
    partition.append(op, line, body)
    partition.flush()
    assert last_index_on_disk(disk, HOME) == 4
