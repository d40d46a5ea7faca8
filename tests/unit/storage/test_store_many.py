"""Topics of very many partitions: nothing that they need must take longer than a lease lasts."""

from __future__ import annotations

import random

import pytest

from tests.support.memory_disk import MemoryDisk
from tests.support.operations import body_of
from yak.core import ops
from yak.core.state import State
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.store import (
    EAGER_DIRECTORIES,
    MAX_WAITING_PARTITIONS,
    REMOVED_AT_ONCE,
    Store,
)

MANY = 10_000


def created(disk: MemoryDisk, partitions: int) -> Store:
    directory = DataDir.open(disk, "/b", kind="broker", broker=1)
    store, _ = Store.recover(disk, directory, 1 << 20)
    op = ops.CreateTopic(
        index=1, epoch=1, time=1, topic="t", topic_id="t1", partitions=partitions, config={}
    )
    carry(store, op)
    return store


def carry(store: Store, op: ops.Op, body: Buffer | None = None) -> None:
    store.append([(op, body)])
    store.apply([op])
    store.flush()


def batch(index: int, partition: int) -> tuple[ops.Append, bytes]:
    body = body_of(1)
    op = ops.Append(
        index=index,
        epoch=1,
        time=1,
        topic="t",
        partition=partition,
        offset=0,
        count=1,
        size=len(body),
        crc=ops.crc_of(body),
    )
    return op, body


def test_few_partitions_are_seen_at_once() -> None:
    disk = MemoryDisk()
    created(disk, 3)
    assert disk.listdir("/b/topics/t") == ["0", "1", "2"]


def test_of_many_the_last_come_with_their_first_record() -> None:
    disk = MemoryDisk()
    store = created(disk, MANY)
    assert len(disk.listdir("/b/topics/t")) == EAGER_DIRECTORIES
    op, body = batch(2, MANY - 1)
    assert store.read_records("t", MANY - 1, 0, 1000) == []
    assert store.find_offset("t", MANY - 1, 0) is None
    carry(store, op, body)
    assert disk.is_dir(f"/b/topics/t/{MANY - 1}")
    assert b"".join(store.read_records("t", MANY - 1, 0, 1000)).endswith(body)


def test_a_topic_that_grows_beyond_it_makes_no_more_either() -> None:
    disk = MemoryDisk()
    store = created(disk, EAGER_DIRECTORIES - 1)
    carry(store, ops.CreatePartitions(index=2, epoch=1, time=1, topic="t", partitions=MANY))
    assert len(disk.listdir("/b/topics/t")) == EAGER_DIRECTORIES
    op, body = batch(3, MANY - 1)
    carry(store, op, body)
    assert len(disk.listdir("/b/topics/t")) == EAGER_DIRECTORIES + 1


def files(disk: MemoryDisk) -> list[str]:
    home = "/b/topics/t"
    return [n for n in disk.listdir(home) if disk.listdir(f"{home}/{n}")]


def written_to(disk: MemoryDisk, partitions: int) -> tuple[Store, State]:
    """A record in each partition, applied together; State as a broker has it beside."""
    store, state = created(disk, partitions), State()
    made = ops.CreateTopic(
        index=1, epoch=1, time=1, topic="t", topic_id="t1", partitions=partitions, config={}
    )
    written = [batch(2 + number, number) for number in range(partitions)]
    store.append(list(written))
    store.begin_sync().run()
    store.apply([op for op, _ in written])
    applied: list[ops.Op] = [made, *(op for op, _ in written)]
    for op in applied:
        state.apply(op)
    return store, state


def test_no_more_than_some_wait_for_a_flush_and_the_longest_waiting_goes_first() -> None:
    disk = MemoryDisk()
    store, _ = written_to(disk, MAX_WAITING_PARTITIONS + 30)
    assert sorted(map(int, files(disk))) == list(range(30))
    assert store.flush(at_most=20)
    assert sorted(map(int, files(disk))) == list(range(50))
    assert not store.flush()
    assert len(files(disk)) == MAX_WAITING_PARTITIONS + 30
    assert not store.flush(at_most=20)


@pytest.mark.parametrize("partitions", [5, 900])
def test_a_checkpoint_of_many_files_survives_a_power_cut(
    partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many are made durable with all of the file system, few one by one."""
    monkeypatch.setattr("yak.storage.checkpoint.SYNC_ALL_ABOVE", 500)
    disk = MemoryDisk()
    store, state = written_to(disk, partitions)
    job = store.begin_checkpoint(state)
    steps = list(job.steps())
    assert len(steps) == (3 if partitions == 5 else 2)
    for step in steps:
        step()
    disk.crash("power", random.Random(0))
    directory = DataDir.open(disk, "/b", kind="broker", broker=1)
    again, found = Store.recover(disk, directory, 1 << 20)
    assert (again.checkpoint, found.state) == (state.index, "whole")
    for number in range(partitions):
        assert again.read_records("t", number, 0, 10**6)


def test_what_was_freed_before_a_checkpoint_needs_no_sync() -> None:
    disk = MemoryDisk()
    store, state = written_to(disk, 3)
    store.flush()
    gone = ops.DeleteTopic(index=5, epoch=1, time=2, topic="t", topic_id="t1")
    state.apply(gone)
    carry(store, gone)
    job = store.begin_checkpoint(state)
    assert any(name.startswith("/b/topics/t/") for name in job.files)
    for step in job.steps():
        step()
    store.end_checkpoint(job)
    assert store.checkpoint == 5


def test_what_is_freed_under_a_checkpoint_is_durable_where_it_went() -> None:
    """The checkpoint names it, and the directory that it left is made durable without it."""
    disk = MemoryDisk()
    store, state = written_to(disk, 3)
    job = store.begin_checkpoint(state)
    steps = job.steps()
    next(steps)()  # the files
    carry(store, ops.DeleteTopic(index=5, epoch=1, time=2, topic="t", topic_id="t1"))
    for step in steps:
        step()
    platter = disk.durable("/b/trash/5/topic/t")
    assert sorted(platter) == sorted(
        name.replace("/b/topics", "/b/trash/5/topic") for name in job.files if "/t/" in name
    )
    assert all(platter.values())


def test_thousands_that_were_freed_are_removed_in_pieces() -> None:
    disk = MemoryDisk()
    store = created(disk, 1)
    state = State()
    state.apply(
        ops.CreateTopic(index=1, epoch=1, time=1, topic="t", topic_id="t1", partitions=1, config={})
    )
    index = 1
    for number in range(REMOVED_AT_ONCE + 1):
        name = f"t{number}"
        index += 2
        for op in (
            ops.CreateTopic(
                index=index - 1,
                epoch=1,
                time=1,
                topic=name,
                topic_id=f"i{number}",
                partitions=1,
                config={},
            ),
            ops.DeleteTopic(index=index, epoch=1, time=1, topic=name, topic_id=f"i{number}"),
        ):
            state.apply(op)
            carry(store, op)
    assert len(disk.listdir("/b/trash")) == REMOVED_AT_ONCE + 1
    job = store.begin_checkpoint(state)
    for step in job.steps():
        step()
    store.end_checkpoint(job)
    first, second = store.tidy(0, index, index)
    first()
    assert len(disk.listdir("/b/trash")) == 1
    second()
    assert disk.listdir("/b/trash") == []
