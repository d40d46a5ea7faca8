"""The carrier with a real store: what the disk refuses in the midst of a turn's effects."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.support.memory_disk import MemoryDisk
from tests.support.playbook import CRC, WALL_MS, a_lead, a_topic
from yak import messages as m
from yak.carrier import FIND_AT_ONCE, Batch, Carrier
from yak.core import events as e
from yak.core import ops
from yak.core.state import State
from yak.errors import Fatal
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.faults import StorageError
from yak.storage.store import Store
from yak.storage.story import Story

SEGMENT_BYTES = 1 << 20


class SmallDisk(MemoryDisk):
    """Has no room for a new file either."""

    def write_file(self, path: str, data: bytes) -> None:
        if self.space_left is not None and self.space_left < len(data):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().write_file(path, data)


class Stage:
    """A carrier, the memory disk below it, and what it told the core."""

    def __init__(self, **limits: int) -> None:
        self.disk = SmallDisk()
        self.told: list[e.Event] = []
        self.finished = 0
        data_dir = DataDir.open(self.disk, "/b", kind="broker", broker=1)
        self.store, _ = Store.recover(self.disk, data_dir, SEGMENT_BYTES)
        self.restarts: list[str] = []
        self.carrier = Carrier(
            broker=1,
            fsync="never",
            store=self.store,
            data_dir=data_dir,
            story=Story("broker-1", None, None),
            link=cast("Any", None),
            tell=self.told.append,
            finished=self._finish,
            restart=self.restarts.append,
            **limits,
        )

    def _finish(self) -> None:
        self.finished += 1


def a_batch(index: int, size: int) -> e.AppendOp:
    data = b"x" * size
    op = ops.Append(
        index=index,
        epoch=1,
        time=WALL_MS,
        topic="t",
        partition=0,
        offset=index,
        count=1,
        size=size,
        crc=CRC,
    )
    return e.AppendOp(op, Batch(size, CRC, data))


@pytest.mark.asyncio
async def test_after_a_refused_append_nothing_more_is_appended_in_that_turn() -> None:
    """The operations behind it would leave a gap; everything else of the turn still happens."""
    stage = Stage()
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    stage.disk.space_left = 3000
    between = e.Tell("producer_expired", {"producer": 1})
    turn: list[e.Effect] = [
        *(a_batch(3, 100), between),
        *(a_batch(4, 5000), between),
        *(a_batch(5, 100), between),
        *(a_batch(6, 100), e.Finished()),
        a_batch(7, 100),
    ]
    assert not stage.carrier.carry_out(turn), "the core must hear of it first"
    (failed,) = stage.told
    assert isinstance(failed, e.StorageFailed)
    assert failed.end == stage.store.next_index - 1 == 3
    assert stage.finished == 1
    stage.disk.space_left = None
    assert stage.carrier.carry_out([a_batch(4, 10)])
    assert stage.store.next_index == 5


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_read_back_stops_the_broker() -> None:
    """Else it would wait for ever for what it asked to be loaded, and beat as if it were well.

    One that is not what was written ends this life only: the next one begins without it, and
    cannot come this far and no further again.
    """
    stage = Stage()
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    data_dir = DataDir(stage.disk, "/b", stage.carrier.data_dir.meta)
    again, _ = Store.recover(stage.disk, data_dir, SEGMENT_BYTES)
    stage.carrier.store = again
    (path,) = [f"/b/oplog/{name}" for name in stage.disk.listdir("/b/oplog")]
    stage.disk.flip(path, stage.disk.size(path) - 20)
    stage.carrier.carry_out([e.Load(1, 2)])
    assert stage.restarts
    assert "its log is damaged" in stage.restarts[0]
    assert data_dir.meta.set_aside
    stage.disk.unlink(path)
    with pytest.raises(Fatal, match="cannot be read back"):
        stage.carrier.carry_out([e.Load(1, 2)])


@pytest.mark.asyncio
async def test_a_follower_that_agreed_on_what_was_cut_just_now_is_hung_up_on() -> None:
    """It follows anew, and is offered a full copy."""
    stage = Stage()
    stage.store.segment_bytes = 2000
    turn: list[e.Effect] = [e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))]
    turn += [a_batch(index, 900) for index in range(3, 9)]
    for number, effect in enumerate(turn[2:]):
        assert isinstance(effect, e.AppendOp)
        assert isinstance(effect.op, ops.Append)
        effect.op.offset = number
    stage.carrier.carry_out(turn)
    state = State()
    applied = [effect.op for effect in turn if isinstance(effect, e.AppendOp)]
    for op in applied:
        state.apply(op)
    stage.carrier.carry_out([e.Apply(applied)])
    job = stage.store.begin_checkpoint(state)
    for step in job.steps():
        step()
    stage.store.end_checkpoint(job)
    stage.store.tidy(0, 9, job.index)
    assert stage.store.first_index > 3
    said: list[str] = []
    connection = SimpleNamespace(close=said.append)
    stage.carrier.server = cast("Any", SimpleNamespace(connections={7: connection}))
    stage.carrier.carry_out([e.SendFollowAnswer(7, 0, 1, 3), e.SendOps(7, 1, 1, 3, 8, 8, 1000)])
    assert said == ["operation 3 is no longer in the log"] * 2


@pytest.mark.asyncio
async def test_a_full_disk_does_not_stop_a_broker_that_enters_an_epoch() -> None:
    """It does not lead then, and tries again; a full disk is recovered from without a restart."""
    stage = Stage()
    stage.disk.space_left = 0
    stage.carrier.carry_out([e.SaveEpoch(3), e.AppendOp(a_lead(1, epoch=3)), e.Finished()])
    (failed,) = stage.told
    assert isinstance(failed, e.StorageFailed)
    assert (failed.end, stage.store.next_index, stage.finished) == (0, 1, 1)
    assert stage.carrier.data_dir.meta.epoch == 0
    stage.disk.space_left = None
    stage.carrier.carry_out([e.SaveEpoch(3)])
    assert len(stage.told) == 1
    stage.disk.close()
    assert DataDir.open(stage.disk, "/b", kind="broker", broker=1).meta.epoch == 3


class _Answers:
    """The broker's port: what connection 9 was answered."""

    def __init__(self) -> None:
        self.connections = {9: self}
        self.answers: list[Any] = []

    def answer(self, _: m.RequestId, answer: m.Answer, __: object) -> None:
        self.answers.append(answer)


@pytest.mark.asyncio
async def test_an_offset_at_a_time_is_never_one_that_is_forgotten() -> None:
    """A trim frees whole files: the first one may begin with what is forgotten."""
    stage, port = Stage(), _Answers()
    stage.carrier.server = cast("Any", port)
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    batches = [replace(a_batch(3 + n, 10).op, offset=n) for n in range(3)]
    stage.carrier.carry_out([e.AppendOp(op, Batch(10, CRC, b"x" * 10)) for op in batches])
    stage.carrier.carry_out([e.Apply([a_lead(1), a_topic(2), *batches])])
    for bounds in ((0, 3), (2, 3), (3, 3)):
        find = e.FindOffsets(9, 1, [("t", 0)], [bounds], WALL_MS, time.monotonic() + 60)
        stage.carrier.carry_out([find])
    assert [answer.offsets[0][2] for answer in port.answers] == [0, 2, None]
    port.answers.clear()
    count = 3 * FIND_AT_ONCE
    until = time.monotonic() + 60
    find = e.FindOffsets(9, 1, [("t", 0)] * count, [(0, 3)] * count, WALL_MS, until)
    stage.carrier.carry_out([find])
    assert not port.answers, "the others of this round are not kept waiting"
    for _ in range(3):
        await asyncio.sleep(0)
    assert [answer.offsets for answer in port.answers] == [[("t", 0, 0)] * count]


class _Reader:
    """A connection that takes its answers when it likes."""

    def __init__(self) -> None:
        self.connections = {9: self}
        self.held: list[Callable[[], None]] = []
        self.answers: list[Any] = []

    def when_room(self, make: Callable[[], None], size: int) -> None:
        self.held.append(make)

    def answer(self, _: m.RequestId, answer: m.Answer, __: object) -> None:
        self.answers.append(answer)


@pytest.mark.asyncio
async def test_what_is_trimmed_while_a_slow_client_waits_is_told_and_not_passed_over() -> None:
    stage, reader = Stage(), _Reader()
    stage.carrier.server = cast("Any", reader)
    batches = [replace(a_batch(3 + n, 10).op, offset=n) for n in range(2)]
    trim = ops.Trim(index=5, epoch=1, time=WALL_MS, topic="t", partition=0, before=2)
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    stage.carrier.carry_out([e.AppendOp(op, Batch(10, CRC, b"x" * 10)) for op in batches])
    entry = m.FetchEntry(topic="t", partition=0, start=0, high_watermark=2)
    stage.carrier.carry_out(
        [
            e.AppendOp(trim),
            e.Apply([a_lead(1), a_topic(2), *batches]),
            e.SendRecords(9, 1, [entry], [0], 1000),
            e.Apply([trim]),
        ]
    )
    (make,) = reader.held
    make()
    ((sent,),) = [answer.partitions for answer in reader.answers]
    assert (sent.error, sent.start, sent.size) == ("OFFSET_OUT_OF_RANGE", 2, 0)
    assert sent.retriable is False


@pytest.mark.asyncio
async def test_nothing_is_read_behind_what_the_answer_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a client of a thousand partitions costs a thousand reads for each answer."""
    stage, reader = Stage(), _Reader()
    stage.carrier.server = cast("Any", reader)
    entries = [m.FetchEntry(topic="t", partition=n, start=0, high_watermark=1) for n in range(5)]
    sizes, asked = [400, 0, 600, 700, 100], []

    def read(_: str, partition: int, __: int, most: int, *, at_least_one: bool) -> list[bytes]:
        asked.append(partition)
        fits = at_least_one or sizes[partition] <= most
        return [b"x" * sizes[partition]] if fits and sizes[partition] else []

    monkeypatch.setattr(stage.store, "read_records", read)
    effect = e.SendRecords(9, 1, entries, [0, None, 0, 0, 0], 1000)
    stage.carrier.carry_out([effect])
    reader.held.pop()()
    assert (asked, [entry.size for entry in entries]) == ([0, 2], [400, 0, 600, 0, 0]), "it is full"
    asked.clear()
    stage.carrier.carry_out([e.SendRecords(9, 2, entries, [0, None, None, 0, 0], 1000)])
    reader.held.pop()()
    assert (asked, entries[4].size) == ([0, 3], 0), (
        "partition 3 does not fit, and has the next turn"
    )
    asked.clear()
    stage.carrier.carry_out([e.SendRecords(9, 3, entries[3:], [0, 0], 10)])
    reader.held.pop()()
    assert (asked, entries[3].size) == ([3], 700), "one comes, however large"


@pytest.mark.asyncio
async def test_find_trims_is_answered_in_a_later_turn() -> None:
    stage = Stage()
    stage.carrier.carry_out([e.FindTrims([("t", 0, None, 1)])])
    assert stage.told == [e.TrimsFound([])]


@pytest.mark.asyncio
async def test_files_that_take_nothing_stop_the_applying_at_max_unflushed_bytes() -> None:
    stage = Stage(max_unflushed_bytes=2000)
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    batches = [replace(a_batch(3 + n, 800).op, offset=n) for n in range(4)]
    stage.carrier.carry_out([e.AppendOp(op, Batch(800, CRC, b"x" * 800)) for op in batches])
    stage.carrier.carry_out([e.Apply([a_lead(1), a_topic(2), *batches[:2]])])
    stage.disk.space_left = 0
    stage.carrier._flush()
    assert stage.told == [], "so much may wait"
    stage.carrier.carry_out([e.Apply(batches[2:])])
    stage.carrier._flush()
    stage.carrier._flush()
    (stuck,) = stage.told
    assert isinstance(stuck, e.FilesStuck)
    assert "max_unflushed_bytes is 2000" in str(stuck.reason)
    assert stage.store.unflushed_bytes > 3200
    stage.disk.space_left = None
    stage.carrier._flush()
    assert stage.told[1:] == [e.FilesStuck(None)]
    assert stage.store.unflushed_bytes == 0
    stage.carrier._flush()
    assert len(stage.told) == 2, "said once"


@pytest.mark.asyncio
async def test_other_files_that_are_written_do_not_let_the_applying_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are written a few at a time: one good turn says nothing of the refused ones."""
    stage = Stage(max_unflushed_bytes=500)
    topic = replace(a_topic(2), partitions=2)
    batches = [replace(a_batch(3 + n, 800).op, partition=n) for n in range(2)]
    stage.carrier.carry_out([e.AppendOp(op) for op in (a_lead(1), topic)])
    stage.carrier.carry_out([e.AppendOp(op, Batch(800, CRC, b"x" * 800)) for op in batches])
    stage.carrier.carry_out([e.Apply([a_lead(1), topic, *batches])])
    append = stage.disk.append

    def refuse(path: str, buffers: Sequence[Buffer]) -> int:
        if "/topics/t/0/" in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return append(path, buffers)

    monkeypatch.setattr(stage.disk, "append", refuse)
    monkeypatch.setattr("yak.carrier.FLUSH_AT_ONCE", 1)
    for _ in range(6):
        stage.carrier._flush()
        assert len(stage.told) == 1
    monkeypatch.setattr(stage.disk, "append", append)
    stage.carrier._flush()
    assert stage.told[1:] == [e.FilesStuck(None)]


@pytest.mark.asyncio
async def test_a_follower_that_asks_for_the_sum_of_what_is_damaged_is_hung_up_on() -> None:
    """The core hears of it, and has the broker filled anew."""
    stage = Stage()
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    data_dir = DataDir(stage.disk, "/b", stage.carrier.data_dir.meta)
    again, _ = Store.recover(stage.disk, data_dir, SEGMENT_BYTES)
    stage.carrier.store = again
    (path,) = [f"/b/oplog/{name}" for name in stage.disk.listdir("/b/oplog")]
    stage.disk.flip(path, stage.disk.read_file(path).index(b'{"index":1'))
    said: list[str] = []
    connection = SimpleNamespace(close=said.append)
    stage.carrier.server = cast("Any", SimpleNamespace(connections={7: connection}))
    stage.carrier.carry_out([e.SendFollowAnswer(7, 0, 1, 2)])
    (damaged,) = stage.told
    assert isinstance(damaged, e.FileDamaged)
    assert said == [damaged.message]
    assert "operation 1 cannot be read" in damaged.message


@pytest.mark.asyncio
async def test_a_life_that_is_over_writes_no_more() -> None:
    """The next one has other files of the same names: a timer of the old one wrote into them."""
    stage = Stage()
    lead, topic = a_lead(1), a_topic(2)
    stage.carrier.carry_out([e.AppendOp(lead), e.AppendOp(topic), a_batch(3, 100)])
    batch = a_batch(3, 100).op
    stage.carrier.carry_out([e.Apply([lead, topic, batch])])
    due = stage.carrier._flush_due
    assert due is not None
    stage.carrier.close()
    assert due.cancelled()
    stage.carrier._flush_due = None
    stage.carrier._flush_soon()
    assert stage.carrier._flush_due is None


@pytest.mark.asyncio
async def test_a_file_that_the_disk_does_not_give_is_told_once() -> None:
    """Each reader is answered STORAGE_ERROR, and comes again."""
    stage = Stage()
    for _ in range(3):
        error = StorageError("t/0 cannot be read at 7: Input/output error")
        error.__cause__ = OSError(errno.EIO, "Input/output error")
        stage.carrier._unreadable(error)
    stage.carrier._unreadable(StorageError("t/0 was deleted before it was read"))
    (found,) = stage.carrier.story.found.listed
    assert (found.kind, found.times) == ("unreadable", 1)
    assert "Input/output error" in found.what
    assert stage.told == []
