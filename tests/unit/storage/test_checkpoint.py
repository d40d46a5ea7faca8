"""A checkpoint: its file, and lives that are killed at every change that they make to the disk."""

from __future__ import annotations

import errno
import random
from contextlib import suppress

import msgspec
import pytest

from tests.support.annals import Written, annals
from tests.support.memory_disk import MemoryDisk
from tests.support.operations import TOPIC, create_topic, lead
from tests.support.store_life import (
    CHECKPOINTS,
    UPTO,
    Kind,
    Life,
    Pieces,
    killed_at,
    partition_files,
    steps_of,
    uninterrupted,
)
from yak.core import ops
from yak.core.snapshot import ProducerRow, TopicRow
from yak.errors import Fatal
from yak.storage import checkpoint as checkpoints
from yak.storage.checkpoint import Checkpoint
from yak.storage.faults import Damaged, StorageError

#: Of the history that is killed at every step.
SEED = 184
FILE = "/data/checkpoint.json"


def a_checkpoint(seed: int = 1) -> tuple[bytes, Checkpoint]:
    """As a life wrote it."""
    life = Life(MemoryDisk())
    life.run(annals(60, seed=seed), 60)
    life.checkpoint()
    data = life.disk.read_file(FILE)
    return data, checkpoints.decode(data, FILE)


def with_crc(fields: dict[str, object]) -> bytes:
    head = msgspec.json.encode(fields)[:-1]
    return b'%s,"crc":"%s"}\n' % (head, ops.crc_of(head).encode())


# -- The file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows", [0, 1, 2, *(checkpoints.ROWS_AT_ONCE + n for n in (-1, 0, 1, 999))]
)
def test_the_pieces_in_which_it_is_encoded_are_what_one_piece_would_be(rows: int) -> None:
    """However many of them there are: mappings, lists, and keys that are numbers."""
    _, found = a_checkpoint()
    found.state.topics = {f"t-{n}": TopicRow(f"id-{n}", n, {"a": n}, n) for n in range(rows)}
    found.state.producers = {n: ProducerRow(f"c-{n}", ("a", "b")[: n % 3]) for n in range(rows)}
    found.state.offsets = [("t", n, n + 1, n) for n in range(rows)]
    head = msgspec.json.encode(found)[:-1]
    data = checkpoints.encode(found)
    assert data == b'%s,"crc":"%s"}\n' % (head, ops.crc_of(head).encode())
    assert checkpoints.decode(data, FILE) == found


@pytest.mark.parametrize("seed", range(5))
def test_it_is_one_line_of_json_that_says_its_crc_and_reads_back(seed: int) -> None:
    data, found = a_checkpoint(seed)
    assert data.count(b"\n") == 1
    fields = msgspec.json.decode(data)
    assert next(iter(fields)) == "format"
    assert list(fields)[-1] == "crc"
    assert found.index == 60 == fields["state"]["index"]
    assert checkpoints.encode(found) == data
    assert with_crc({name: value for name, value in fields.items() if name != "crc"}) == data


def test_one_bit_flipped_at_every_byte_is_damage() -> None:
    data, _ = a_checkpoint()
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(Damaged):
            checkpoints.decode(bytes(flipped), FILE)


def test_cut_at_every_byte_is_damage() -> None:
    data, _ = a_checkpoint()
    for size in range(len(data)):
        with pytest.raises(Damaged):
            checkpoints.decode(data[:size], FILE)


def test_one_of_a_newer_yak_is_refused_and_not_called_damaged() -> None:
    data, _ = a_checkpoint()
    fields = msgspec.json.decode(data)
    del fields["crc"]
    with pytest.raises(Fatal, match="format 2, but this version of yak reads format 1"):
        checkpoints.decode(with_crc(fields | {"format": 2, "more": {}}), FILE)


def test_what_has_its_crc_and_is_none_is_damage() -> None:
    for fields in ({"format": 1}, {"format": 1, "state": 3}, {"other": 1}):
        with pytest.raises(Damaged, match="not a checkpoint"):
            checkpoints.decode(with_crc(dict(fields)), FILE)


# -- What it names ---------------------------------------------------------------------------------


def test_it_names_the_files_as_they_were_when_it_was_begun() -> None:
    """What is applied while it is being made is not in it."""
    history = annals(90, seed=2)
    life = Life(MemoryDisk())
    life.run(history, 60)
    before = partition_files(life.disk)
    job = life.store.begin_checkpoint(life.state)
    for step in job.steps():
        life.run(history, life.state.index + 10)
        step()
    life.store.end_checkpoint(job)
    found = checkpoints.read(life.disk, "/data")
    assert found is not None
    assert found.index == job.index == 60
    named = {
        f"{row.topic}/{row.partition}/{one.first:020}.jsonl": one.size
        for row in found.partitions
        for one in row.segments
    }
    assert named == {name: len(data) for name, data in before.items()}
    assert job.size == len(life.disk.read_file(FILE))


def test_a_restart_begins_with_it_though_the_log_before_it_is_gone() -> None:
    history = annals(90, seed=2)
    life = Life(MemoryDisk())
    life.run(history, 80)
    life.checkpoint()
    assert life.store.first_index > 60
    life.run(history, 90)
    life.disk.close()
    again = Life(life.disk)
    assert again.found.restored.index == 80
    assert again.store.checkpoint == 80
    assert again.found.next == 91
    again.run(history, 90)
    assert again.held() == uninterrupted(history)


@pytest.mark.parametrize("index", range(60, 75))
def test_the_log_keeps_every_operation_behind_it(index: int) -> None:
    """Appended, and not yet applied: wherever the files happen to end."""
    history = annals(90, seed=2)
    life = Life(MemoryDisk(), fsync="never")
    life.store.append(history)  # and nobody syncs it but the checkpoint
    life.apply(history, index)
    life.checkpoint()
    assert life.store.first_index <= index + 1
    found = checkpoints.read(life.disk, "/data")
    assert found is not None
    leads = [op for op, _ in history[:index] if isinstance(op, ops.Lead)]
    assert found.epochs == [(op.epoch, op.index) for op in leads]
    assert isinstance(life.disk, MemoryDisk)
    life.disk.crash("power", random.Random(index))
    again = Life(life.disk, boot="another", fsync="never")
    assert again.found.state == "unclean"
    # It did not begin anew; what was cut may have come back.
    assert again.store.first_index <= life.store.first_index
    again.run(history, 90)
    assert again.held() == uninterrupted(history)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_freed_while_it_is_made_is_durable_in_the_trash(seed: int) -> None:
    history = annals(UPTO, seed=SEED)
    disk = MemoryDisk()
    life = Life(disk, fsync="never")
    life.run(history, 70)
    job = life.store.begin_checkpoint(life.state)
    life.run(history, UPTO)
    for step in job.steps():
        step()
    life.store.end_checkpoint(job)
    assert life.store.has_trash
    disk.crash("power", random.Random(seed))
    again = Life(disk, boot="another", fsync="never")
    assert again.found.state == "unclean", again.found.message
    assert again.found.restored.index == 70
    again.run(history, UPTO)
    assert again.held() == uninterrupted(history)


def test_the_log_stays_as_far_as_it_is_retained_or_wanted() -> None:
    history = annals(110, seed=2)
    life = Life(MemoryDisk())
    life.run(history, 110)
    life.checkpoint(retain=5000)
    kept = life.store.log_bytes
    assert 5000 <= kept < 5000 + 2 * 2000
    life.tidy(retain=0, pinned=life.store.first_index + 3)  # a copy is read that begins there
    assert life.store.log_bytes == kept
    life.tidy(retain=0)
    assert life.store.log_bytes < 2000


def test_what_an_older_checkpoint_needs_stays_in_the_trash_while_it_is_read() -> None:
    life = Life(MemoryDisk())
    gone = ops.DeleteTopic(index=3, epoch=1, time=1003, topic=TOPIC, topic_id="t")
    history: Written = [(lead(1), None), (create_topic(2), None), (gone, None)]
    life.run(history, 2)
    life.checkpoint()
    life.run(history, 3)
    life.checkpoint(pinned=2)
    assert life.disk.listdir("/data/trash") == ["3"]
    life.tidy()
    assert life.disk.listdir("/data/trash") == []


# -- What fails ------------------------------------------------------------------------------------


class NoRoomForIt(MemoryDisk):
    """refuses: the checkpoint's file finds no room."""

    refuses = False

    def write_durably(self, path: str, data: bytes) -> None:
        if self.refuses and path == FILE:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().write_durably(path, data)


@pytest.mark.parametrize(("kind", "seed"), [("kill", 0), *(("power", seed) for seed in range(6))])
def test_one_that_fails_leaves_its_work_to_the_next(kind: Kind, seed: int) -> None:
    history = annals(90, seed=5)
    disk = NoRoomForIt()
    life = Life(disk)
    life.run(history, 40)
    life.checkpoint()
    life.run(history, 60)
    since = life.store.bytes_since, life.store.operations_since
    job = life.store.begin_checkpoint(life.state)
    assert (life.store.bytes_since, life.store.operations_since) == (0, 0)
    life.run(history, 65)
    life.store.end_checkpoint(job)  # not one of its steps has run
    assert life.store.checkpoint == 40
    assert life.store.bytes_since > since[0]
    assert life.store.operations_since == since[1] + 5
    disk.refuses = True
    with pytest.raises(OSError, match="No space left"):
        life.checkpoint()
    disk.refuses = False
    life.run(history, 70)
    life.checkpoint()  # syncs what the ones before should have synced
    disk.crash(kind, random.Random(seed))
    again = Life(disk, boot=kind)
    assert again.found.state == "whole", again.found.message
    assert again.found.restored.index == 70
    again.run(history, 90)
    assert again.held() == uninterrupted(history)


def test_no_checkpoint_is_begun_of_what_the_disk_does_not_take() -> None:
    history = annals(60, seed=5)
    disk = MemoryDisk()
    life = Life(disk)
    life.append(history, 60)
    disk.space_left = 0
    with suppress(StorageError):  # they are applied all the same
        life.apply(history, 60)
    with pytest.raises(StorageError):
        life.store.begin_checkpoint(life.state)
    disk.space_left = None
    life.checkpoint()
    assert life.store.checkpoint == 60


def test_more_files_than_it_pays_to_name_are_synced_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yak.storage.checkpoint.SYNC_ALL_ABOVE", 3)
    history = annals(60, seed=5)
    disk = MemoryDisk()
    life = Life(disk, fsync="never")
    life.run(history, 60)
    life.checkpoint()
    disk.crash("power", random.Random(0))
    again = Life(disk, boot="another", fsync="never")
    assert again.found.restored.index == 60
    again.run(history, 60)
    assert again.held() == uninterrupted(history)


# -- Killed at every change of the disk ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kill", "power"])
@pytest.mark.parametrize(("fsync", "retain", "stride"), [("always", 0, 1), ("never", 6000, 2)])
def test_killed_at_every_change_of_the_disk(
    fsync: str, retain: int, stride: int, kind: Kind
) -> None:
    """Appends, rolls, trims, deletions, two checkpoints, the cut of the log and of the trash."""
    pieces = Pieces(SEED, fsync=fsync, retain=retain)
    for step in range(0, steps_of(pieces.live), stride):
        disk, stopped = killed_at(pieces.live, step, kind, seed=step)
        assert stopped
        pieces.check_goes_on(pieces.restarted(disk, kind))


def test_the_life_that_is_killed_has_all_of_it() -> None:
    """Killing one in which nothing is freed would prove little."""
    history = annals(UPTO, seed=SEED)
    for first, last in (CHECKPOINTS, (CHECKPOINTS[1], UPTO)):
        kinds = {type(op) for op, _ in history[first:last]}
        files = {ops.Append, ops.CreateTopic, ops.CreatePartitions, ops.DeleteTopic, ops.Trim}
        assert files <= kinds, (first, last)
