"""Whether brokers' files agree: prefixes do, and tails that were never committed; nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.operations import TOPIC, append_op, body_of, create_topic, lead
from yak.core import ops
from yak.storage.agreement import compare
from yak.storage.audit import audit
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer, OsDisk
from yak.storage.store import Store

Written = list[tuple[ops.Op, Buffer | None]]


def batch(index: int, offset: int, epoch: int, text: str) -> tuple[ops.Op, Buffer]:
    body = body_of(2, text)
    op = append_op(index, offset, body)
    op.epoch = epoch
    return op, body


BEGUN: Written = [(lead(1), None), (create_topic(2), None), batch(3, 0, 1, "a")]


def broker(path: Path, operations: Written, applied: int) -> Path:
    """A directory with this log, of which so much was committed."""
    disk = OsDisk()
    directory = DataDir.open(disk, str(path), kind="broker", broker=1)
    store, _ = Store.recover(disk, directory, 10**6)
    store.append(operations)
    store.apply([op for op, _ in operations[:applied]])
    store.close()
    disk.close()
    return path


def leading(index: int, epoch: int, who: int) -> tuple[ops.Op, None]:
    return ops.Lead(index=index, epoch=epoch, time=index * 10, broker=who), None


def faults(*paths: Path) -> tuple[list[str], list[str]]:
    audits = [audit(path) for path in paths]
    assert [fault for one in audits for fault in one.faults] == []
    found, notes = compare(audits)
    return [fault.what for fault in found], notes


def test_one_log_that_is_the_beginning_of_another_agrees(tmp_path: Path) -> None:
    one = broker(tmp_path / "1", BEGUN, 3)
    other = broker(tmp_path / "2", [*BEGUN, batch(4, 2, 1, "b")], 4)
    assert faults(one, other, one) == ([], [])


def test_a_tail_of_an_older_epoch_that_nobody_has_seen_is_no_fault(tmp_path: Path) -> None:
    old = broker(tmp_path / "1", [*BEGUN, batch(4, 2, 1, "lost")], 3)
    new = broker(tmp_path / "2", [*BEGUN, leading(4, 2, 2), batch(5, 2, 2, "kept")], 5)
    found, notes = faults(old, new)
    assert found == []
    assert "operations 4 to 4, of epoch 1, were never committed" in notes[0]


def test_one_that_a_partition_file_holds_was_taken_for_committed(tmp_path: Path) -> None:
    old = broker(tmp_path / "1", [*BEGUN, batch(4, 2, 1, "lost")], 4)
    new = broker(tmp_path / "2", [*BEGUN, leading(4, 2, 2), batch(5, 2, 2, "kept")], 5)
    found, _ = faults(old, new)
    assert found == ["their logs part at operation 4", "these replicas are not the same"]


def test_one_epoch_has_one_leader_and_one_log(tmp_path: Path) -> None:
    one = broker(tmp_path / "1", [*BEGUN, leading(4, 2, 1)], 3)
    two = broker(tmp_path / "2", [*BEGUN, leading(4, 2, 2)], 3)
    audits = [audit(one), audit(two)]
    found, _ = compare(audits)
    assert [fault.what for fault in found] == [
        "epoch 2 had two leaders: broker 1 and broker 2",
        "their logs part at operation 4",
    ]
    assert '"broker":1' in found[1].lines[0]
    assert '"broker":2' in found[1].lines[1]


def test_partition_files_are_compared_where_the_logs_are_cut(tmp_path: Path) -> None:
    one = broker(tmp_path / "1", BEGUN, 3)
    other = tmp_path / "2"
    shutil.copytree(one, other)
    path = next((other / "topics" / TOPIC / "0").iterdir())
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"bbbb", 1))
    audits = [audit(one), audit(other)]
    found, _ = compare(audits)
    assert [fault.what for fault in found] == ["these replicas are not the same"]
    assert found[0].lines[0] != found[0].lines[1]
