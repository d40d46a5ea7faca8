"""Topics of very many partitions: a creation must not take longer than a lease lasts."""

from __future__ import annotations

from tests.support.memory_disk import MemoryDisk
from tests.support.operations import body_of
from yak.core import ops
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.store import EAGER_DIRECTORIES, Store

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
