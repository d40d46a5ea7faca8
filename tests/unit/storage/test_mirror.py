"""What is the log's in a partition's file is found without a look at its lines; no more than it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.annals import Written
from tests.support.operations import append_op, body_of, create_topic, lead
from tests.support.store_life import Life
from tests.unit.storage.test_audit import OPERATIONS, files, lived
from yak.storage import audit as audits
from yak.storage import mirror
from yak.storage.audit import Fault, audit
from yak.storage.chunk import walk
from yak.storage.disk import OsDisk
from yak.storage.mirror import Mirror, Stretch


class Seen:
    """What an audit takes for alike, and how many lines of partition files it looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines = 0
        self.stretches: dict[Path, list[Stretch]] = {}
        unlike, compare = audits._unlike_the_log, Mirror.compare

        def looked_at(*argv: object) -> Fault | None:
            self.lines += 1
            return unlike(*argv)  # type: ignore[arg-type]  # handed through

        def compared(mirror: Mirror, data: bytes) -> None:
            compare(mirror, data)
            self.stretches = {path: [*of.values()] for path, of in mirror.stretches.items()}

        monkeypatch.setattr(audits, "_unlike_the_log", looked_at)
        monkeypatch.setattr(Mirror, "compare", compared)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def begins(data: bytes) -> int:
    """Where a file's first batch does."""
    return data.index(b"\n") + 1


def partition_files(home: Path) -> dict[Path, bytes]:
    """Those that hold a batch."""
    found = {path: path.read_bytes() for path in files(home / "topics")}
    return {path: data for path, data in found.items() if begins(data) < len(data)}


@pytest.mark.parametrize("run_bytes", [1, 300, mirror.RUN_BYTES])
def test_of_a_whole_file_one_line_is_looked_at(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, run_bytes: int
) -> None:
    """However its batches were taken together, and whatever lies between them in the log."""
    monkeypatch.setattr(mirror, "RUN_BYTES", run_bytes)
    home = lived(tmp_path / "b")
    assert audit(home).faults == []
    there = partition_files(home)
    assert len(there) > 2
    assert len({path.parent for path in there}) < len(there), "some partition has two files"
    for path, data in there.items():
        ((start, end),) = [(one.start, one.end) for one in seen.stretches[path]]
        assert (start, end) == (begins(data), len(data)), path
    assert seen.lines == len(there)


def steady(path: Path, *, segment_bytes: int = 4000) -> Path:
    """Two partitions of a topic, filled by turns; a checkpoint took the log's first file."""
    history: Written = [
        (lead(1), None),
        (create_topic(2, partitions=2, segment_bytes=segment_bytes), None),
    ]
    ends = [0, 0]
    for index in range(3, OPERATIONS + 1):
        partition, body = index % 3 % 2, body_of(1 + index % 4)
        op = append_op(index, ends[partition], body, partition=partition)
        ends[partition] += op.count
        history.append((op, body))
    disk = OsDisk()
    life = Life(disk, path=str(path))
    life.run(history, OPERATIONS // 2)
    life.checkpoint()
    life.run(history, OPERATIONS)
    life.store.close()
    disk.close()
    return path


@pytest.mark.parametrize("segment_bytes", [1500, 4000, 100_000])
def test_a_file_that_begins_before_the_log_is_found_in_its_middle(
    tmp_path: Path, seen: Seen, segment_bytes: int
) -> None:
    """What only the partitions have is walked, and the first batch that the log has."""
    home = steady(tmp_path / "b", segment_bytes=segment_bytes)
    found = audit(home)
    assert (found.faults, found.next) == ([], OPERATIONS + 1)
    assert found.first > 2, "the log begins with the first batch"
    only_theirs = within = 0
    for path, data in partition_files(home).items():
        steps = list(walk(data, begins(data)))
        ours = [step for step in steps if step.head.index >= found.first]
        only_theirs += len(steps) - len(ours)
        within += 0 < len(ours) < len(steps)
        stretches = seen.stretches.get(path, [])
        assert [one.start for one in stretches] == [step.start for step in ours[:1]]
        assert [(one.end, one.last) for one in stretches] == [
            (step.end, step.start) for step in ours[-1:]
        ]
    assert within, "no file begins before the log, and goes on in it"
    assert seen.lines == only_theirs + sum(map(bool, seen.stretches.values()))


def test_what_differs_is_walked_up_to_the_fault(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch in its turn, and one more behind the last that the log has."""
    monkeypatch.setattr(mirror, "RUN_BYTES", 300)
    home = steady(tmp_path / "b", segment_bytes=100_000)
    path, data = max(partition_files(home).items(), key=lambda found: len(found[1]))
    steps = list(walk(data, begins(data)))
    assert len(steps) > 20
    for step in steps:
        damaged = bytearray(data)
        damaged[step.end - 4] ^= 1  # of its body
        path.write_bytes(damaged)
        seen.stretches.clear()
        faults = audit(home).faults
        assert [fault.where for fault in faults] == [f"{path}, byte {step.start}"]
        assert all(
            step.end <= one.start or one.end <= step.start for one in seen.stretches[path]
        ), "what is damaged was taken for alike"
    path.write_bytes(data + data[steps[-1].start :])
    assert [fault.where for fault in audit(home).faults] == [f"{path}, byte {len(data)}"]


def test_a_file_that_is_another_one_by_now_is_not_compared(tmp_path: Path) -> None:
    """And one that is gone is passed over."""
    home = lived(tmp_path / "b")
    there = audits._partition_files(home / "topics")
    for path, data in partition_files(home).items():
        path.rename(path.with_suffix(".old"))
        path.write_bytes(data)
    found, ours = audits.Audit(home), Mirror(there)
    audits._audit_log(found, ours)
    assert len(found.sums) == OPERATIONS
    assert not ours.stretches
    for path in partition_files(home):
        path.unlink()
    audits._audit_log(audits.Audit(home), Mirror(there))


def test_a_topic_of_the_same_name_is_another_one(tmp_path: Path, seen: Seen) -> None:
    """The annals delete topics and make them again: of the first one no batch is taken for it."""
    deleted = 0
    for operations in range(20, OPERATIONS, 5):
        home = lived(tmp_path / str(operations), operations=operations)
        assert audit(home).faults == []
        log = b"".join(path.read_bytes() for path in files(home / "oplog"))
        deleted += log.count(b'"op":"delete_topic"')
        for path, data in partition_files(home).items():
            assert [one.end for one in seen.stretches[path]] == [len(data)]
    assert deleted, "nothing was deleted"
