"""A follower's side of full copies: what is offered while an earlier copy is made durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.memory_disk import MemoryDisk
from tests.support.operations import body_of
from yak import messages as m
from yak.copying import Fetching
from yak.core import events as e
from yak.core import ops
from yak.core.state import State
from yak.storage import checkpoint as checkpoints
from yak.storage.copy import Outgoing
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.store import Store


def opened(disk: MemoryDisk, path: str) -> Store:
    directory = DataDir.open(disk, path, kind="broker", broker=1)
    return Store.recover(disk, directory, 1 << 20)[0]


class Leader:
    """A store that grows; its last checkpoint is handed out at once."""

    def __init__(self) -> None:
        self.store, self.state = opened(MemoryDisk(), "/l"), State()
        self._carry(
            ops.CreateTopic(
                index=1, epoch=1, time=1, topic="t", topic_id="t1", partitions=9, config={}
            )
        )
        self.given: Outgoing

    def _carry(self, op: ops.Op, body: Buffer | None = None) -> None:
        self.store.append([(op, body)])
        self.state.apply(op)
        self.store.apply([op])

    def write(self, partition: int) -> None:
        body, index = body_of(1), self.store.next_index
        op = ops.Append(
            index=index,
            epoch=1,
            time=1,
            topic="t",
            partition=partition,
            offset=self.state.ends["t", partition],
            count=1,
            size=len(body),
            crc=ops.crc_of(body),
        )
        self._carry(op, body)

    def offer(self, link: int) -> e.FetchCopy:
        job = self.store.begin_checkpoint(self.state)
        for step in job.steps():
            step()
        self.store.end_checkpoint(job)
        self.given = self.store.outgoing()
        at, size, crc = self.given.offer
        return e.FetchCopy(link, 1, m.CopyOffer(index=at, size=size, crc=crc))

    # -- the link to it ---------------------------------------------------------------------------

    def copy(
        self, link: int, request: m.Copy, received: Callable[[m.CopyAnswer, Buffer], None]
    ) -> None:
        file = request.file if isinstance(request.file, tuple) else None
        data = self.given.read(file, request.position, request.max_bytes)
        answer = m.CopyAnswer(epoch=1, index=request.index, crc=ops.crc_of(data))
        received(answer, data)

    def fail(self, link: int, reason: str) -> None:
        raise AssertionError(reason)


class Told:
    """What the core hears."""

    def __init__(self) -> None:
        self.events: list[e.Event] = []
        self.done = asyncio.Event()
        self._enough = asyncio.Event()
        self._wanted = 0

    def tell(self, event: e.Event) -> None:
        self.events.append(event)
        if len(self.events) == self._wanted:
            self._enough.set()
        if isinstance(event, e.CopyDone):
            self.done.set()

    async def until(self, count: int) -> None:
        """So many events."""
        assert len(self.events) < count
        self._wanted = count
        await self._enough.wait()


@pytest.mark.asyncio
async def test_a_copy_that_takes_another_ones_place_is_made_durable_from_its_beginning() -> None:
    """Of the one before the first files were; those of this one have the same names."""
    leader, disk, told = Leader(), MemoryDisk(), Told()
    fetching = Fetching(1, opened(disk, "/f"), lambda: leader, told.tell)
    for partition in (0, 1, 2):
        leader.write(partition)
    fetching.begin(leader.offer(1))
    await told.until(4 + 2)  # four pieces came, and two files are durable
    leader.write(0)
    second = leader.offer(2)
    fetching.begin(second)
    async with asyncio.timeout(5):
        await told.done.wait()
    assert told.events[-1] == e.CopyDone(2, second.offer.index)
    fetching.install(e.Install(second.offer.index))
    platter = disk.durable("/f/installing")
    assert platter == disk.tree("/f/installing"), "something of the copy is not durable"
    checkpoint = checkpoints.decode(platter["/f/installing/checkpoint.json"], "")
    assert checkpoint.index == second.offer.index
    for row in checkpoint.partitions:
        (segment,) = row.segments
        name = f"/f/installing/topics/t/{row.partition}/{0:020}.jsonl"
        assert len(platter[name]) == segment.size
