"""Every byte of a small data directory: cut off there, or with one bit flipped.

Whatever becomes of it, a start ends in one of these ways, and never in another:

    the same      State, files and what readers get are those of a life that nothing disturbed
    torn          something was cut from the log's end, and the broker joins as torn
    damaged       all was set aside, and the broker begins empty
    refused       one line says what is wrong with which file, and nothing was changed
    unreadable    a partition that is not what was written is never sent

`yak verify` is asked about each leftover as well.  What flips in the lines of a partition file,
where nothing can prove it, is `LINE_ONLY`: bodies, offsets and indexes are right even so.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.annals import Written, annals
from tests.support.memory_disk import MemoryDisk
from tests.support.operations import encoded
from tests.support.store_life import Held, Life, uninterrupted
from yak.core import ops
from yak.core.ops import Append
from yak.errors import Fatal
from yak.storage.audit import audit
from yak.storage.chunk import split, walk
from yak.storage.disk import OsDisk
from yak.storage.faults import StorageError

SEED = 334
UPTO = 20
CHECKPOINT = 12
META, CHECKPOINT_FILE = "/data/meta.json", "/data/checkpoint.json"
LINE_ONLY = "line only"
SOUND = {"the same", "torn", "damaged", "refused", "unreadable"}


class Lived(NamedTuple):
    """A broker's disk, after a checkpoint and some more; what it should come to."""

    history: Written
    disk: MemoryDisk
    files: dict[str, bytes]
    expected: Held


@pytest.fixture(scope="module")
def lived() -> Lived:
    return live_once()


def live_once() -> Lived:
    history = annals(UPTO, seed=SEED, appends=16)
    life = Life(MemoryDisk())
    life.run(history, CHECKPOINT)
    life.checkpoint(retain=10**6)
    life.run(history, UPTO)
    life.disk.close()
    assert isinstance(life.disk, MemoryDisk)
    files = {path: data for path, data in life.disk.tree("/data").items() if data}
    assert {path.split("/")[2] for path in files} >= {"oplog", "topics"}
    return Lived(history, life.disk, files, uninterrupted(history))


def outcome(lived: Lived, disk: MemoryDisk) -> str:
    """How a start from it ends, and what readers get after it."""
    before = disk.tree("/data")
    try:
        life = Life(disk)
    except Fatal as fatal:
        says = fatal.message
    else:
        return came_up(lived, life)
    assert "\n" not in says
    assert any(path.split("/data/")[1] in says for path in before)
    assert {p: d for p, d in disk.tree("/data").items() if p in before} == before
    return "refused"


def came_up(lived: Lived, life: Life) -> str:
    assert life.found.state in ("whole", "torn", "damaged")
    assert (life.found.state == "whole") is (life.found.message == "")
    if life.found.state == "damaged":
        assert "kept in /data/damaged/" in life.found.message
        assert life.found.next == 1
        return "damaged"
    life.run(lived.history, UPTO)
    try:
        held = life.held()
    except StorageError as error:
        return "unreadable" if error.damaged else "refused by a disk that did not"
    except ops.BrokenLine:  # this test reads whole operations, where consumers do not
        return LINE_ONLY
    assert held.state == lived.expected.state
    if held.records == lived.expected.records:
        return "torn" if life.found.state == "torn" else "the same"
    assert proved(held) == proved(lived.expected)
    return LINE_ONLY


def proved(held: Held) -> dict[tuple[str, int], list[tuple[int, int, bytes]]]:
    """What protocol.md says is checked in a partition file, and what consumers live on."""
    found: dict[tuple[str, int], list[tuple[int, int, bytes]]] = {}
    for where, (_, data) in held.records.items():
        found[where] = [
            (op.offset, op.count, bytes(body))
            for op, _, body in split(data)
            if isinstance(op, Append)
        ]
    return found


def written_to(home: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        place(home, path).parent.mkdir(parents=True, exist_ok=True)
        place(home, path).write_bytes(data)
    return home


def place(home: Path, path: str) -> Path:
    return home / path.removeprefix("/data/")


def each_flip(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Position, bit and bytes: one seeded bit of each byte."""
    for position in range(len(data)):
        bit = 1 << random.Random(position).randrange(8)
        flipped = bytearray(data)
        flipped[position] ^= bit
        yield position, bit, bytes(flipped)


def is_ours(path: str) -> bool:
    return path in (META, CHECKPOINT_FILE) or path.startswith(("/data/oplog/", "/data/topics/"))


def test_one_bit_flipped_at_every_byte_is_never_taken_for_what_was_written(lived: Lived) -> None:
    seen: dict[str, Counter[str]] = {}
    for path, data in lived.files.items():
        kind = path.split("/")[2]
        for position, bit, _ in each_flip(data):
            disk = copy.deepcopy(lived.disk)
            disk.flip(path, position, bit)
            end = outcome(lived, disk)
            assert end in SOUND or (kind == "topics" and end == LINE_ONLY), (path, position, end)
            seen.setdefault(kind, Counter())[end] += 1
    assert set(seen["meta.json"]) == {"refused"}
    assert set(seen["checkpoint.json"]) == {"damaged"}
    assert set(seen["oplog"]) >= {"the same", "torn", "damaged"}
    assert set(seen["topics"]) >= {"the same", "unreadable"}
    # The first lines of reads, which nothing before them proves: no more than these.
    assert seen["topics"][LINE_ONLY] < seen["topics"].total() / 5


def test_yak_verify_sees_every_flip_and_shows_the_lines(lived: Lived, tmp_path: Path) -> None:
    home = written_to(tmp_path, lived.files)
    assert audit(home).faults == []
    for path in filter(is_ours, lived.files):
        for position, _, flipped in each_flip(lived.files[path]):
            place(home, path).write_bytes(flipped)
            found = audit(home)
            assert found.faults, (path, position)
            assert any(str(place(home, path)) in fault.where for fault in found.faults)
            assert any(fault.lines for fault in found.faults) or path == CHECKPOINT_FILE
        place(home, path).write_bytes(lived.files[path])
    assert audit(home).faults == []


def test_all_bits_of_every_byte_of_the_end_of_a_log(lived: Lived) -> None:
    """Its last two operations: there torn and damaged meet."""
    path = max(path for path in lived.files if path.startswith("/data/oplog/"))
    *_, before, _ = (
        step.start for step in walk(lived.files[path], lived.files[path].index(b"\n") + 1)
    )
    for position in range(before, len(lived.files[path])):
        for bit in range(8):
            disk = copy.deepcopy(lived.disk)
            disk.flip(path, position, 1 << bit)
            assert outcome(lived, disk) in ("torn", "damaged"), (position, bit)


# -- torn ------------------------------------------------------------------------------------------


class Torn(NamedTuple):
    """A life that ends with a batch, in the log and in its partition's file.

    size: of the batch in both.
    """

    history: Written
    disk: MemoryDisk
    log: str
    partition: str
    size: int


@pytest.fixture(scope="module", params=["behind a checkpoint", "without one"])
def ends_with_a_batch(request: pytest.FixtureRequest) -> Torn:
    whole = annals(60, seed=SEED)
    last = max(op.index for op, _ in whole if isinstance(op, Append))
    history = whole[:last]
    life = Life(MemoryDisk())
    life.run(history, last - 9)
    if request.param == "behind a checkpoint":
        life.checkpoint(retain=10**6)
    life.run(history, last)
    life.disk.close()
    disk = life.disk
    assert isinstance(disk, MemoryDisk)
    op = history[-1][0]
    assert isinstance(op, Append)
    home = f"/data/topics/{op.topic}/{op.partition}"
    log, partition = (f"{at}/{disk.listdir(at)[-1]}" for at in ("/data/oplog", home))
    return Torn(history, disk, log, partition, len(encoded(history)[-1]))


def check_goes_on(life: Life, history: Written) -> None:
    life.run(history, len(history))
    assert life.held() == uninterrupted(history)


def test_the_log_torn_at_every_byte_of_its_last_operation(
    ends_with_a_batch: Torn, tmp_path: Path
) -> None:
    """Cut to the last whole one, and said; on its boundary the partition file gives it away."""
    history, source, path, partition, size = ends_with_a_batch
    last = len(history)
    for cut in range(1, size + 1):
        disk = copy.deepcopy(source)
        disk.truncate(path, disk.size(path) - cut)
        home = written_to(tmp_path / str(cut), disk.tree("/data"))
        found = audit(home)
        assert f"operation {last}, but the log ends at {last - 1}" in found.faults[0].what
        assert bool(found.torn) is (cut < size)
        life = Life(disk)
        assert (life.found.state, life.found.next) == ("torn", last), cut
        if cut < size:
            assert f"{size - cut} bytes were cut" in life.found.message
        else:
            assert f"holds operation {last}, the log ends at {last - 1}" in life.found.message
        if cut in (1, size // 2, size):
            check_goes_on(life, history)
    # Without what the partition file knows it is an end like any other, and no fault.
    for cut in (1, size // 2, size):
        disk = copy.deepcopy(source)
        disk.truncate(path, disk.size(path) - cut)
        disk.truncate(partition, disk.size(partition) - size)
        found = audit(written_to(tmp_path / f"both-{cut}", disk.tree("/data")))
        assert not found.faults
        assert bool(found.torn) is (cut < size)
        life = Life(disk)
        assert life.found.state == ("torn" if cut < size else "whole")
        check_goes_on(life, history)


def test_a_partition_file_torn_at_every_byte_of_its_last_batch(
    ends_with_a_batch: Torn, tmp_path: Path
) -> None:
    """The log has it, and writes it again: nobody has lost anything, and nobody says so."""
    history, source, _, path, size = ends_with_a_batch
    for cut in range(1, size + 1):
        disk = copy.deepcopy(source)
        disk.truncate(path, disk.size(path) - cut)
        if cut % 10 == 0 or cut == size:
            assert not audit(written_to(tmp_path / str(cut), disk.tree("/data"))).faults
        life = Life(disk)
        assert (life.found.state, life.found.message) == ("whole", "")
        if cut % 10 == 0 or cut == size:
            check_goes_on(life, history)


def test_a_partition_file_torn_at_every_byte_that_a_checkpoint_names(
    lived: Lived, tmp_path: Path
) -> None:
    """It was durable before the checkpoint was: its end is lost, and only the leader has it."""
    life = Life(MemoryDisk())
    life.run(lived.history, CHECKPOINT)
    life.checkpoint(retain=0)
    life.disk.close()
    disk = life.disk
    assert isinstance(disk, MemoryDisk)
    path, data = max((p, d) for p, d in disk.tree("/data").items() if p.startswith("/data/topics/"))
    home = written_to(tmp_path, disk.tree("/data"))
    start = data.index(b"\n") + 1
    last = max(step.start for step in walk(data, start))
    for position in range(last + 1, len(data)):
        place(home, path).write_bytes(data[:position])
        assert any("the checkpoint names" in fault.what for fault in audit(home).faults), position
        shorter = copy.deepcopy(disk)
        shorter.truncate(path, position)
        found = Life(shorter).found
        assert found.state == "damaged"
        assert "fewer than the checkpoint names" in found.message


def test_a_real_disk_is_put_in_order_like_the_one_in_memory(
    ends_with_a_batch: Torn, tmp_path: Path
) -> None:
    history, source, path, _, size = ends_with_a_batch
    for cut in (1, size // 3, size - 1, size):
        disk = copy.deepcopy(source)
        disk.truncate(path, disk.size(path) - cut)
        home = written_to(tmp_path / str(cut), disk.tree("/data"))
        real = OsDisk()
        life = Life(real, path=str(home))
        assert (life.found.state, life.found.next) == ("torn", len(history))
        life.run(history, len(history))
        assert life.held() == uninterrupted(history)
        life.disk.close()
        assert audit(home).faults == []
