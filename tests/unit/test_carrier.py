"""The carrier with a real store: what the disk refuses in the midst of a turn's effects."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from tests.support.memory_disk import MemoryDisk
from tests.support.playbook import CRC, WALL_MS, a_lead, a_topic
from yak.carrier import Batch, Carrier
from yak.core import events as e
from yak.core import ops
from yak.errors import Fatal
from yak.storage.data_dir import DataDir
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

    def __init__(self) -> None:
        self.disk = SmallDisk()
        self.told: list[e.Event] = []
        self.finished = 0
        data_dir = DataDir.open(self.disk, "/b", kind="broker", broker=1)
        self.store, _ = Store.recover(self.disk, data_dir, SEGMENT_BYTES)
        self.carrier = Carrier(
            broker=1,
            fsync="never",
            store=self.store,
            data_dir=data_dir,
            story=Story("broker-1", None, None),
            link=cast("Any", None),
            tell=self.told.append,
            finished=self._finish,
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
    stage.carrier.carry_out(turn)
    (failed,) = stage.told
    assert isinstance(failed, e.StorageFailed)
    assert failed.end == stage.store.next_index - 1 == 3
    assert stage.finished == 1
    stage.disk.space_left = None
    stage.carrier.carry_out([a_batch(4, 10)])
    assert stage.store.next_index == 5


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_read_back_stops_the_broker() -> None:
    """Else it would wait for ever for what it asked to be loaded, and beat as if it were well."""
    stage = Stage()
    stage.carrier.carry_out([e.AppendOp(a_lead(1)), e.AppendOp(a_topic(2))])
    data_dir = DataDir(stage.disk, "/b", stage.carrier.data_dir.meta)
    again, _ = Store.recover(stage.disk, data_dir, SEGMENT_BYTES)
    stage.carrier.store = again
    (path,) = [f"/b/oplog/{name}" for name in stage.disk.listdir("/b/oplog")]
    stage.disk.truncate(path, 60)
    with pytest.raises(Fatal, match="cannot be read back"):
        stage.carrier.carry_out([e.Load(1, 2)])


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
