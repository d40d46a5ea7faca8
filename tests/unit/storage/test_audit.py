"""What one broker's files prove: nothing is wrong with what was written, and every bit counts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.annals import annals
from tests.support.store_life import Life
from yak.storage import audit as audits
from yak.storage.audit import SHORT, audit
from yak.storage.checkpoint import FILE_NAME, decode, encode
from yak.storage.chunk import walk
from yak.storage.disk import OsDisk

OPERATIONS = 60


def lived(path: Path, *, operations: int = OPERATIONS, checkpoint_at: int = 0) -> Path:
    """A broker's directory after a life with topics that come, change and go."""
    disk = OsDisk()
    life = Life(disk, path=str(path))
    history = annals(OPERATIONS, seed=3)
    if checkpoint_at:
        life.run(history, checkpoint_at)
        life.checkpoint()
    life.run(history, operations)
    life.store.close()
    disk.close()
    return path


def files(path: Path) -> list[Path]:
    homes = [path / "oplog", path / "topics"] if (path / "oplog").exists() else [path]
    return sorted(file for home in homes for file in home.rglob("*.jsonl"))


@pytest.mark.parametrize("checkpoint_at", [0, 20, OPERATIONS])
def test_what_a_broker_wrote_is_proved(tmp_path: Path, checkpoint_at: int) -> None:
    found = audit(lived(tmp_path / "b", checkpoint_at=checkpoint_at))
    assert found.faults == []
    assert (found.next, found.torn) == (OPERATIONS + 1, "")
    assert found.size >= sum(path.stat().st_size for path in files(tmp_path / "b"))
    assert len(found.files) > 2


def test_a_torn_end_of_the_log_is_no_fault_and_a_hole_is_one(tmp_path: Path) -> None:
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    last = files(home / "oplog")[-1]
    with last.open("ab") as file:
        file.write(b'{"index":61,"epo')
    found = audit(home)
    assert found.faults == []
    assert f"{last}, byte" in found.torn
    assert "the line is cut off; 16 bytes at the end" in found.torn


def test_a_missing_file_of_the_log_is_a_fault(tmp_path: Path) -> None:
    home = lived(tmp_path / "b")
    files(home / "oplog")[1].unlink()
    (fault, *_) = audit(home).faults
    assert "it begins with" in fault.what


def test_a_log_without_its_beginning_needs_a_checkpoint(tmp_path: Path) -> None:
    home = lived(tmp_path / "b")
    files(home / "oplog")[0].unlink()
    assert any("there is no checkpoint before it" in f.what for f in audit(home).faults)


def test_a_checkpoint_that_the_log_does_not_know_is_a_fault(tmp_path: Path) -> None:
    home = lived(tmp_path / "b", checkpoint_at=20)
    checkpoint = home / "checkpoint.json"
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    assert [f.what for f in audit(home).faults] == ["it does not have the crc that it states"]


def test_a_log_that_begins_behind_a_full_copy_is_empty_and_no_fault(tmp_path: Path) -> None:
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    for path in files(home / "oplog"):
        path.unlink()
    assert audit(home).faults, "the checkpoint names a file of the log"
    checkpoint = decode((home / FILE_NAME).read_bytes(), FILE_NAME)
    copied = msgspec.structs.replace(checkpoint, log_file=None, log_position=0)
    (home / FILE_NAME).write_bytes(encode(copied))
    found = audit(home)
    assert found.faults == []
    assert found.next == OPERATIONS + 1


def test_what_a_full_copy_is_about_to_replace_may_be_half_gone(tmp_path: Path) -> None:
    """Killed between the copy's last byte and the start that puts it in its place."""
    home = lived(tmp_path / "b", checkpoint_at=20)
    (home / "oplog").rename(home / "removed")
    assert audit(home).faults
    (home / "installing").mkdir()
    found = audit(home)
    assert found.faults == []
    assert "installing: a full copy" in found.torn


def test_a_partition_file_ahead_of_the_log_is_a_fault_and_one_behind_it_is_none(
    tmp_path: Path,
) -> None:
    home = lived(tmp_path / "b")
    shorter = lived(tmp_path / "shorter", operations=OPERATIONS - 30)
    ahead = audit(home)
    assert ahead.faults == []
    for path in files(home / "oplog"):
        path.unlink()
    for path in files(shorter / "oplog"):
        (home / "oplog" / path.name).write_bytes(path.read_bytes())
    assert any("but the log ends at 30" in f.what for f in audit(home).faults)


def test_a_partition_that_was_being_written_is_no_fault_but_for_what_comes_behind(
    tmp_path: Path,
) -> None:
    """At every byte: the last file may end anywhere, another one nowhere."""
    home = lived(tmp_path / "b")
    several = next(
        found
        for found in map(files, (home / "topics").glob("*/*"))
        if len(found) > 1 and found[0].parent.parent.name in ("o", "order", "orders")
    )
    first, last = several[0], several[-1]
    for path, is_last in ((first, False), (last, True)):
        good = path.read_bytes()
        for size in range(1, len(good)):
            path.write_bytes(good[:size])
            assert bool(audit(home).faults) is not is_last, (path, size)
        path.write_bytes(good)


def a_named_file(home: Path) -> tuple[Path, int]:
    """A partition's file that the checkpoint names, and its size there."""
    data = (home / FILE_NAME).read_bytes()
    rows = decode(data, FILE_NAME).partitions
    named = [
        (home / "topics" / row.topic / str(row.partition) / f"{one.first:020}.jsonl", one.size)
        for row in rows
        for one in row.segments
    ]
    return max(named, key=lambda found: found[1])


def test_a_file_that_the_checkpoint_names_is_there_as_long_as_it_says(tmp_path: Path) -> None:
    """Also where it ends between two batches, and would be whole by itself."""
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    path, size = a_named_file(home)
    whole = path.read_bytes()
    *_, last = (step.start for step in walk(whole, whole.index(b"\n") + 1))  # a batch begins here
    for kept in (0, last):
        path.write_bytes(whole[:kept])
        whats = [fault.what for fault in audit(home).faults if str(path) in fault.where]
        assert len(whats) == 1, (kept, whats)
        expected = f"fewer than the {size} of the checkpoint" if kept else SHORT
        assert expected in whats[0]
    path.unlink()
    (fault,) = audit(home).faults
    assert (fault.where, fault.what.partition(";")[0]) == (str(path), "it is not there")


def test_a_file_that_was_freed_since_the_checkpoint_is_in_the_trash(tmp_path: Path) -> None:
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    path, _ = a_named_file(home)
    for kind in ("segment", "topic"):
        freed = home / "trash" / "61" / kind / path.relative_to(home / "topics")
        freed.parent.mkdir(parents=True)
        path.rename(freed)
        assert audit(home).faults == []
        path.write_bytes(freed.read_bytes()[:24])  # of a topic of that name, made again
        assert audit(home).faults == []
        freed.rename(path)


def test_a_gap_is_a_fault_unless_a_restart_was_cut_short_that_put_files_back(
    tmp_path: Path,
) -> None:
    """What was trimmed is there again, as at the checkpoint; what came later is not gone yet."""
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    path, _ = a_named_file(home)
    later = path.with_name(f"{10**6:020}.jsonl")
    later.write_bytes(b'{"format":1,"first":1000000}\n')
    (fault,) = audit(home).faults
    assert (fault.where, fault.what.partition("where")[0]) == (
        str(later),
        "it begins with offset 1000000 ",
    )
    trash = home / "trash" / "61" / "segment" / path.parent.relative_to(home / "topics")
    trash.mkdir(parents=True)
    assert audit(home).faults == []
    with path.open("ab") as file:  # written since: not as the restart would leave it
        file.write(b"x")
    assert str(later) in {fault.where for fault in audit(home).faults}


def test_a_file_that_goes_while_a_checkpoint_is_made_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    a_named_file(home)[0].unlink()
    assert audit(home).faults
    reads = audits._read

    def read(found: audits.Audit, path: Path, *more: int | None) -> bytes | None:
        data = reads(found, path, *more)  # type: ignore[arg-type]  # handed through
        if path.name == FILE_NAME:
            path.write_bytes((data or b"") + b" ")  # another one each time
        return data

    monkeypatch.setattr(audits, "_read", read)
    assert not any("it is not there" in fault.what for fault in audit(home).faults)


def test_a_meta_json_that_is_gone_is_a_fault_but_not_among_what_was_set_aside(
    tmp_path: Path,
) -> None:
    home = lived(tmp_path / "b", checkpoint_at=OPERATIONS)
    (home / "meta.json").unlink()
    (fault,) = audit(home).faults
    assert fault.where == str(home / "meta.json")
    aside = tmp_path / "damaged" / "1"
    aside.parent.mkdir()
    home.rename(aside)
    assert audit(aside).faults == []
