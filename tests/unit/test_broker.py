"""A broker's shell: what becomes of it where its core has a bug."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.memory_disk import MemoryDisk
from yak import messages as m
from yak.broker import Broker
from yak.carrier import Batch, batch_of
from yak.config import BrokerConfig, Settings
from yak.core import events as e
from yak.core import ops
from yak.errors import Fatal
from yak.messages import LogState
from yak.model import Now
from yak.storage.data_dir import DataDir
from yak.storage.faults import SyncFailed
from yak.storage.oplog import SyncJob
from yak.storage.store import Store
from yak.storage.story import Story


def new_broker(disk: MemoryDisk, *, fsync: str = "always", suspect: LogState = "whole") -> Broker:
    """One that has just started, in an empty directory.  suspect: how its disk is marked."""
    data_dir = DataDir.open(disk, "/b", kind="broker", broker=1)
    store, recovered = Store.recover(disk, data_dir, 1 << 20)
    data_dir.suspect(suspect)
    config = BrokerConfig(id=1, data_dir=Path("/b"), fsync=fsync)
    return Broker(config, data_dir, store, recovered, Story("broker-1", None, None), "i1")


@pytest.mark.asyncio
async def test_a_bug_in_a_turn_stops_the_broker() -> None:
    """Effects of that turn are lost: alive, it would hold up all who wait for them."""
    broker = new_broker(MemoryDisk())
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def act(now: Now) -> list[e.Effect]:
        raise AssertionError(f"operation 7 after 5, at {now.mono}")

    broker.node.act = act  # type: ignore[method-assign]  # the bug is planted
    broker._tell(e.Tick())
    async with asyncio.timeout(5):
        await broker.stopped.wait()
    assert broker.failure is not None
    assert "operation 7 after 5" in broker.failure.message
    assert isinstance(reported[0]["exception"], AssertionError), "its traceback is told"


@pytest.mark.asyncio
async def test_a_turn_whose_write_was_refused_does_not_go_on() -> None:
    """What it wrote before that counts as durable only once the core knows of what it did not."""
    disk = MemoryDisk()
    broker = new_broker(disk, fsync="never")
    one, two = (ops.Lead(index=n, epoch=1, time=1, broker=1) for n in (1, 2))
    turns: list[list[e.Effect]] = [
        [e.AppendOp(one), e.Tell("between", {}), e.AppendOp(two)],
    ]
    heard: list[e.Event] = []
    twice = asyncio.Event()

    def hear(event: e.Event, now: Now) -> None:
        heard.append(event)
        if len(heard) == 2:
            twice.set()

    def act(now: Now) -> list[e.Effect]:
        disk.space_left = 120  # for the first, not for the second
        return turns.pop() if turns else []

    broker.node.act = act  # type: ignore[method-assign]  # what the core decides is given
    broker.carrier.server = cast("Any", SimpleNamespace(flush=lambda: None))
    broker.node.hear = hear  # type: ignore[method-assign]  # likewise
    broker._tell(e.Tick())
    async with asyncio.timeout(5):
        await twice.wait()
    assert isinstance(heard[1], e.StorageFailed), heard
    assert heard[1].end == 1


@pytest.mark.asyncio
async def test_a_full_disk_keeps_the_mark_of_a_torn_log_and_does_not_stop_the_broker() -> None:
    disk = MemoryDisk()
    broker = new_broker(disk, suspect="torn")
    disk.space_left = 0
    broker._mark(broker.data_dir.recorded, "still_marked_suspect")
    assert broker.failure is None
    disk.close()
    assert DataDir.open(disk, "/b", kind="broker", broker=1).state == "torn"


@pytest.mark.asyncio
@pytest.mark.parametrize("fsync", ["always", "interval:20", "never"])
async def test_after_a_failed_sync_all_is_written_again_that_no_sync_had_reached(
    fsync: str,
) -> None:
    """Without fsync=always the core takes for durable what is only written."""
    disk = MemoryDisk()
    broker = new_broker(disk, fsync=fsync)
    for n in (1, 2, 3):
        broker.store.append([(ops.Lead(index=n, epoch=n, time=1, broker=1), None)])
        if n == 1:
            broker.store.begin_sync().run()
    broker.node.hear(e.Durable(1 if fsync == "always" else 3), Now(0.0, 0))
    job = broker.store.begin_sync()
    disk.sync_fails = True
    with pytest.raises(SyncFailed):
        job.run()
    disk.sync_fails = False
    broker.sync_failed(OSError(errno.EIO, "Input/output error"))
    assert broker.failure is not None
    assert (broker.data_dir.rewrite_from, broker.data_dir.state) == (2, "unclean")


@pytest.mark.asyncio
async def test_a_sync_that_cannot_begin_stops_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever for the end of one that never ran."""
    broker = new_broker(MemoryDisk())

    def none_left() -> SyncJob:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(broker.store, "begin_sync", none_left)
    broker.store.append([(ops.Lead(index=1, epoch=1, time=1, broker=1), None)])
    broker._begin_sync()
    assert broker.failure is not None
    assert "Too many open files" in broker.failure.message
    assert broker.may_beat(), "no sync runs"
    assert broker.data_dir.meta.suspect is None, "nothing that was written is in doubt"


@pytest.mark.asyncio
async def test_an_answer_to_a_join_leaves_a_mark_that_is_younger_than_the_join() -> None:
    """It begins anew without its log: joining as whole, it would be elected, and all be lost."""
    broker = new_broker(MemoryDisk())
    assert broker.data_dir.state == "whole", "so says the join that is under way"
    broker.carrier.carry_out([e.Rebuild("a partition file fails its check")])
    assert broker.begins_anew
    view = m.ClusterView(
        cluster="c", version=3, epoch=1, leader=2, isr=[1, 2], settings=Settings(), brokers=[]
    )
    broker._viewed(view, True)
    assert broker.data_dir.meta.suspect == "damaged"


@pytest.mark.asyncio
async def test_what_has_megabytes_is_described_to_one_after_the_other() -> None:
    """Who asks for little is not kept waiting until all have been told of everything."""
    broker = new_broker(MemoryDisk())
    told: list[m.RequestId] = []
    all_told = asyncio.Event()

    def hear(event: e.Event, now: Now) -> None:
        if isinstance(event, e.Asked):
            told.append(event.request.id)
            if len(told) == 5:
                all_told.set()

    broker.node.hear = hear  # type: ignore[method-assign]  # only what it is asked is of interest
    broker.node.act = lambda now: []  # type: ignore[method-assign]  # likewise
    here, gone = (
        cast("Any", SimpleNamespace(number=number, dialled="?", when_room=lambda make: make()))
        for number in (1, 2)
    )
    broker.carrier.server = cast("Any", SimpleNamespace(flush=lambda: None, connections={1: here}))
    for id_ in range(3):
        broker.received(here, m.Metadata(id=id_), b"")
        broker.received(gone, m.Metadata(id="gone"), b"")
    broker.received(here, m.Groups(id=3), b"")
    broker.received(here, m.Status(id="little"), b"")
    async with asyncio.timeout(5):
        await all_told.wait()
    assert told == ["little", 0, 1, 2, 3]


@pytest.mark.asyncio
async def test_what_must_stop_a_broker_does_so_from_a_timer_too() -> None:
    """As a partition's file that could neither be written nor be cut back: it was only logged."""
    broker = new_broker(MemoryDisk())
    reported: list[dict[str, Any]] = []
    loop = cast("Any", SimpleNamespace(default_exception_handler=reported.append))
    broker._uncaught(loop, {"exception": ValueError("a bug")})
    assert broker.failure is None
    assert len(reported) == 1
    broker._uncaught(loop, {"exception": Fatal("the disk is gone")})
    assert broker.failure is not None
    assert broker.failure.message == "the disk is gone"
    assert broker.stopped.is_set()


@pytest.mark.asyncio
async def test_a_deadline_that_was_put_off_has_its_alarm_and_no_turn_before_it() -> None:
    broker = new_broker(MemoryDisk())
    deadline = time.monotonic() + 0.05
    broker.node.next_deadline = lambda: deadline  # type: ignore[method-assign]  # it is given
    broker._set_deadline()
    deadline += 0.05
    turn = asyncio.Event()

    def act(now: Now) -> list[e.Effect]:
        assert now.mono >= deadline
        turn.set()
        return []

    broker.node.act = act  # type: ignore[method-assign]  # likewise
    async with asyncio.timeout(5):
        await turn.wait()
    assert broker.failure is None


@pytest.mark.asyncio
async def test_a_batch_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are as many as its bytes let be; but what was asked before may let it in."""
    broker = new_broker(MemoryDisk())
    read: list[int] = []
    monkeypatch.setattr("yak.carrier.validate_records", lambda body, count: read.append(len(body)))

    def batch() -> Batch:
        return batch_of(body, 100_000, broker._largest("t", len(body)))

    body = b'{"value":1}\n' * 100_000
    assert batch().size == len(body)
    assert not read
    monkeypatch.setattr(broker.node, "max_batch_bytes", lambda topic: len(body))
    assert batch().data == body
    monkeypatch.setattr(broker.node, "max_batch_bytes", lambda topic: len(body) - 1)
    assert batch().data == b""
    alter = m.AlterTopic(id=0, topic="t", config={"max_batch_bytes": 2_000_000})
    broker._tell(e.Asked(1, alter, None, None))
    assert batch().data == body
    assert read == [len(body)] * 2
