"""Log and partition files as one: applied, recovered, deleted, and crashed at random."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from typing import Literal

import pytest

from tests.support.memory_disk import MemoryDisk
from tests.support.operations import TOPIC, append_op, body_of, create_topic, encoded, lead, mixed
from yak.core import ops
from yak.core.ops import NO_SUM, Op
from yak.errors import Fatal
from yak.storage.chunk import parse_chunk, split
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer, Disk
from yak.storage.faults import StorageError, SumMismatch, SyncFailed, Trimmed
from yak.storage.store import Recovered, Store
from yak.storage.tail import Tail

Written = list[tuple[Op, Buffer | None]]


def start(
    disk: Disk,
    path: str = "/data",
    *,
    fsync: str = "always",
    boot_id: str = "boot-1",
    segment_bytes: int = 2000,
) -> tuple[Store, Recovered, DataDir]:
    directory = DataDir.open(disk, path, kind="broker", broker=1, boot_id=boot_id)
    store, found = Store.recover(disk, directory, segment_bytes, sync_at_roll=fsync == "always")
    directory.mark_running(inc="i", boot_id=boot_id, fsync=fsync)
    return store, found, directory


def history(count: int, *, seed: int = 0, **config: int) -> Written:
    """`lead`, `create_topic` with one partition, then appends and acks."""
    begun: Written = [(lead(1), None), (create_topic(2, **config), None)]
    return begun + mixed(count + 1, seed=seed, first=3)[1:]


def renumbered(operations: Written) -> Written:
    for index, (op, _) in enumerate(operations, 1):
        op.index = index
    return operations


def records(store: Store) -> bytes:
    """All that the partition holds, in as many reads as a consumer makes."""
    found, offset = b"", 0
    while part := b"".join(store.read_records(TOPIC, 0, offset, 10**9)):
        found += part
        last = split(part)[-1].op
        assert isinstance(last, ops.Append)
        offset = last.offset + last.count
    return found


def appended(operations: Written) -> bytes:
    """What a partition should hold of a log."""
    pieces = zip(encoded(operations), operations, strict=True)
    return b"".join(piece for piece, (op, _) in pieces if isinstance(op, ops.Append))


def replay(store: Store, last: int) -> None:
    """Apply the recovered log as a broker does, in stretches."""
    first = 1
    while first <= last:
        loaded = store.load(first, last)
        store.apply(loaded)
        first += len(loaded)


def test_what_is_applied_is_read_and_written_to_the_partitions_files(disk: Disk, root: str) -> None:
    path = f"{root}/broker-1"
    store, found, _ = start(disk, path)
    assert found[:7] == ("whole", "", 1, 0, [], NO_SUM, 0)
    operations = renumbered(history(40))
    store.append(operations)
    assert store.next_index == len(operations) + 1
    store.apply([op for op, _ in operations[:2]])
    assert disk.listdir(f"{path}/topics/{TOPIC}") == ["0"]
    assert records(store) == b""
    store.apply([op for op, _ in operations[2:]])
    assert records(store) == appended(operations)
    store.flush()
    assert records(store) == appended(operations)
    assert store.find_offset(TOPIC, 0, 0) == 0
    assert store.find_offset(TOPIC, 0, 10**9) is None
    count, buffers = store.read_ops(2, 10, 10**6)
    assert b"".join(buffers) == b"".join(encoded(operations)[1 : 1 + count])
    store.close()


def test_restart_is_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.storage.store.LOAD_BYTES", 500)
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(60))
    store.append(operations)
    store.apply([op for op, _ in operations])
    store.flush()
    files = _partition_files(disk)
    disk.crash("kill", random.Random(0))
    store, found, _ = start(disk)
    assert (found.state, found.next, found.end_epoch) == ("whole", len(operations) + 1, 1)
    assert (found.epochs, found.sum) == ([(1, 1)], store.sum)
    assert disk.listdir("/data/topics") == []
    replay(store, len(operations))
    assert records(store) == appended(operations)
    store.flush()
    assert _partition_files(disk) == files


def _partition_files(disk: Disk) -> list[bytes]:
    home = f"/data/topics/{TOPIC}/0"
    return [disk.read_file(f"{home}/{name}") for name in disk.listdir(home)]


def test_operations_loaded_long_before_they_are_applied_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yak.storage.store.LOAD_BYTES", 500)
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(60))
    store.append(operations)
    disk.crash("kill", random.Random(0))
    store, _, _ = start(disk)
    loaded: list[Op] = []
    while len(loaded) < len(operations):
        loaded += store.load(len(loaded) + 1, len(operations))
    assert loaded == [op for op, _ in operations]
    store.apply(loaded)
    assert records(store) == appended(operations)


def test_a_follower_copies_bytes() -> None:
    leader, _, _ = start(MemoryDisk())
    follower, _, _ = start(MemoryDisk())
    operations = renumbered(history(60))
    leader.append(operations)
    while follower.next_index < leader.next_index:
        _, buffers = leader.read_ops(follower.next_index, leader.next_index - 1, 700)
        chunk = parse_chunk(
            b"".join(buffers),
            previous_sum=follower.sum,
            next_index=follower.next_index,
            previous_epoch=follower.epochs[-1][0] if follower.epochs else 0,
        )
        follower.append_copied(chunk)
        follower.apply(chunk.ops)
    assert (follower.sum, follower.epochs) == (leader.sum, leader.epochs)
    assert records(follower) == appended(operations)
    assert follower.sum_before(30) == leader.sum_before(30)


def test_truncation_forgets_what_was_loaded() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(20))
    store.append(operations)
    disk.crash("kill", random.Random(0))
    store, _, _ = start(disk)
    store.load(1, store.next_index - 1)
    with pytest.raises(SumMismatch):
        store.truncate(12, "00000001")
    store.truncate(12, store.sum_before(12))
    assert store.next_index == 12
    body = body_of(3, "new")
    offset = next(op.offset for op, _ in operations[11:] if isinstance(op, ops.Append))
    late = append_op(12, offset, body, epoch=2)
    store.append([(late, body)])
    replay(store, 12)
    assert records(store).endswith(body)


def test_what_was_loaded_before_a_truncation_is_not_applied_after_it() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    old, new = body_of(1, "old"), body_of(1, "new")
    begun: Written = [(lead(1), None), (create_topic(2), None)]
    store.append([*begun, (append_op(3, 0, old), old)])
    disk.crash("kill", random.Random(0))
    store, _, _ = start(disk)
    store.apply(store.load(1, 3)[:2])
    store.truncate(3, store.sum_before(3))
    store._log._tail = Tail(3, max_bytes=0)  # so that it has to read the log again
    late: Written = [
        (append_op(3, 0, new, epoch=2), new),
        (append_op(4, 1, new, epoch=2), new),
    ]
    store.append(late)
    store.apply([op for op, _ in late])
    assert b"old" not in records(store)


def test_topics_come_grow_change_and_go() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    body = body_of(1)
    bigger = ops.CreatePartitions(index=3, epoch=1, time=1, topic=TOPIC, partitions=3)
    smaller_files = ops.AlterTopic(
        index=4, epoch=1, time=1, topic=TOPIC, config={"segment_bytes": 1}
    )
    gone = ops.DeleteTopic(index=7, epoch=1, time=1, topic=TOPIC, topic_id="t")
    operations: Written = [
        (lead(1), None),
        (create_topic(2, segment_bytes=10**6), None),
        (bigger, None),
        (smaller_files, None),
        (append_op(5, 0, body, partition=2), body),
        (append_op(6, 1, body, partition=2), body),
        (gone, None),
        (create_topic(8), None),
        (append_op(9, 0, body), body),
    ]
    store.append(operations)
    store.apply([op for op, _ in operations[:6]])
    store.flush()
    assert disk.listdir(f"/data/topics/{TOPIC}") == ["0", "1", "2"]
    assert len(disk.listdir(f"/data/topics/{TOPIC}/2")) == 2
    store.apply([op for op, _ in operations[6:7]])
    assert disk.listdir("/data/topics") == []
    assert disk.listdir("/data/trash/7/topic") == [TOPIC]
    store.apply([op for op, _ in operations[7:]])
    store.flush()
    assert disk.listdir(f"/data/topics/{TOPIC}") == ["0"]
    assert records(store).endswith(body)


def test_trim_is_applied_by_whole_files() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(40, segment_bytes=400))
    trim = ops.Trim(index=len(operations) + 1, epoch=1, time=1, topic=TOPIC, partition=0, before=20)
    operations.append((trim, None))
    store.append(operations)
    store.apply([op for op, _ in operations[:-1]])
    store.flush()
    before = disk.listdir(f"/data/topics/{TOPIC}/0")
    store.apply([trim])
    after = disk.listdir(f"/data/topics/{TOPIC}/0")
    assert 0 < len(after) < len(before)
    assert int(after[0][:20]) <= 20


def test_find_trims_names_what_may_go_and_nothing_else() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(40, segment_bytes=400))
    store.append(operations)
    store.apply([op for op, _ in operations])
    (found,) = store.find_trims([(TOPIC, 0, None, 500), ("gone", 0, None, 1), (TOPIC, 1, 0, None)])
    topic, partition, before = found
    assert (topic, partition) == (TOPIC, 0)
    assert before > 0
    store._partitions[TOPIC, 0].trim(before)
    with pytest.raises(Trimmed):
        store.read_records(TOPIC, 0, before - 1, 1000)
    assert store.find_trims([(TOPIC, 0, None, 500)]) == []


def test_a_torn_end_is_remembered_before_it_is_cut() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(20))
    store.append(operations)
    disk.crash("kill", random.Random(0))
    path = f"/data/oplog/{disk.listdir('/data/oplog')[-1]}"
    disk.truncate(path, disk.size(path) - 2)
    store, found, directory = start(disk)
    assert (found.state, found.next) == ("torn", len(operations))
    assert "bytes were cut from the log's end" in found.message
    disk.crash("kill", random.Random(0))
    _, found, directory = start(disk)
    assert found.state == "torn"
    assert "yak-zk has not recorded it" in found.message
    directory.recorded()
    disk.crash("kill", random.Random(0))
    assert start(disk)[1].state == "whole"


def test_a_partition_ahead_of_the_log_shows_a_cut_on_a_boundary() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk, segment_bytes=10**6)
    body = body_of(2)
    operations: Written = [
        (lead(1), None),
        (create_topic(2), None),
        (append_op(3, 0, body), body),
        (append_op(4, 2, body), body),
    ]
    store.append(operations)
    store.apply([op for op, _ in operations])
    store.flush()
    disk.crash("kill", random.Random(0))
    path = f"/data/oplog/{disk.listdir('/data/oplog')[-1]}"
    disk.truncate(path, disk.size(path) - len(encoded(operations)[-1]))
    disk.create(f"/data/topics/{TOPIC}/stray")
    disk.create("/data/topics/stray")
    _, found, directory = start(disk)
    assert (found.state, found.next) == ("torn", 4)
    assert found.message == f"{TOPIC}/0 holds operation 4, the log ends at 3"
    assert directory.state == "torn"


def test_a_damaged_log_is_kept_aside_and_the_broker_begins_empty() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    store.append(renumbered(history(20)))
    disk.crash("kill", random.Random(0))
    name = disk.listdir("/data/oplog")[0]
    disk.flip(f"/data/oplog/{name}", 100)
    before = disk.read_file(f"/data/oplog/{name}")
    _, found, directory = start(disk)
    assert (found.state, found.next, found.epochs) == ("damaged", 1, [])
    assert f"damaged, kept in /data/damaged/1: /data/oplog/{name}, byte" in found.message
    assert disk.read_file(f"/data/damaged/1/oplog/{name}") == before
    disk.crash("kill", random.Random(0))
    _, found, directory = start(disk)
    assert found.state == "damaged"
    assert disk.listdir("/data/damaged") == ["1"]
    directory.recorded()
    disk.crash("kill", random.Random(0))
    assert start(disk)[1].state == "whole"


def test_a_log_that_rots_before_it_is_applied_ends_this_life_and_the_next_begins_as_damaged() -> (
    None
):
    """Else each start might come so far, and no further."""
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(20))
    store.append(operations)
    disk.crash("kill", random.Random(0))
    store, found, directory = start(disk)
    assert found.state == "whole"
    name = disk.listdir("/data/oplog")[0]
    disk.flip(f"/data/oplog/{name}", disk.size(f"/data/oplog/{name}") // 2)
    with pytest.raises(StorageError, match="cannot be read") as raised:
        store.load(1, 20)
    assert raised.value.damaged
    assert not directory.meta.set_aside
    with pytest.raises(Fatal, match="committed operations cannot be applied"):
        store.apply([op for op, _ in operations])
    assert directory.meta.set_aside
    disk.crash("kill", random.Random(0))
    assert start(disk)[1].state == "damaged"


def test_a_log_without_its_beginning_is_damaged() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    store.append(renumbered(history(60)))
    disk.crash("kill", random.Random(0))
    disk.unlink(f"/data/oplog/{disk.listdir('/data/oplog')[0]}")
    _, found, _ = start(disk)
    assert found.state == "damaged"
    assert "and there is no checkpoint" in found.message


def test_after_a_power_cut_without_fsync_the_log_ends_at_its_first_fault() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk, fsync="never")
    operations = renumbered(history(60))
    store.append(operations)
    disk.crash("kill", random.Random(0))
    path = f"/data/oplog/{disk.listdir('/data/oplog')[1]}"
    disk.truncate(path, disk.size(path) - 5)
    _, found, _ = start(disk, fsync="never", boot_id="boot-2")
    assert found.state == "unclean"
    assert 1 < found.next < len(operations)
    assert "cut" in found.message


def test_a_full_disk_refuses_applies_in_memory_and_goes_on() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(40))
    store.append(operations[:20])
    disk.space_left = 10
    store.apply([op for op, _ in operations[:20]])
    with pytest.raises(StorageError) as refused:
        store.append(operations[20:])
    assert refused.value.next_index == store.next_index
    with pytest.raises(StorageError, match="wait in memory"):
        store.flush()
    assert records(store) == appended(operations[:20])
    disk.space_left = None
    store.append(operations[store.next_index - 1 :])
    store.apply([op for op, _ in operations[20:]])
    store.flush()
    assert records(store) == appended(operations)


def test_much_that_waits_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.storage.store.FLUSH_BYTES", 1000)
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(40))
    store.append(operations)
    disk.space_left = 0
    with pytest.raises(StorageError, match="wait in memory"):
        store.apply([op for op, _ in operations])
    assert records(store) == appended(operations)
    disk.space_left = None
    store.apply([])
    assert sum(map(len, _partition_files(disk))) > 1000


def test_a_failed_sync_is_remembered_and_made_good_by_the_next_start() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    operations = renumbered(history(40))
    store.append(operations[:20])
    store.begin_sync().run()
    store.append(operations[20:30])
    disk.sync_fails = True
    with pytest.raises(SyncFailed):
        store.begin_sync().run()
    disk.sync_fails = False
    store.sync_failed()
    disk.crash("kill", random.Random(0))
    store, found, directory = start(disk)
    assert (found.state, found.next) == ("unclean", 31)
    assert directory.rewrite_from is None
    directory.recorded()
    disk.crash("power", random.Random(3))
    assert start(disk, boot_id="boot-2")[1][:3] == ("whole", "", 31)


def test_a_file_that_cannot_be_synced_at_a_roll_stops_and_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    store, _, directory = start(disk)
    operations = renumbered(history(60))
    store.append(operations[:5])
    store.begin_sync().run()
    sync = disk.sync

    def refuse(path: str) -> None:
        if "/oplog/" in path:
            raise OSError(5, "Input/output error", path)
        sync(path)

    monkeypatch.setattr(disk, "sync", refuse)
    with pytest.raises(SyncFailed, match="Input/output error"):
        store.append(operations[5:])
    assert (directory.state, directory.rewrite_from) == ("unclean", 6)


def test_closing_makes_the_log_durable_though_a_sync_still_runs() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk, fsync="never")
    operations = renumbered(history(40))
    store.append(operations[:20])
    running = store.begin_sync()
    store.append(operations[20:])
    store.close()
    running.run()
    disk.crash("power", random.Random(1))
    assert start(disk, boot_id="boot-1")[1].next == len(operations) + 1


def test_closing_after_a_failed_sync_fails() -> None:
    disk = MemoryDisk()
    store, _, _ = start(disk)
    store.append(renumbered(history(10)))
    disk.sync_fails = True
    with pytest.raises(SyncFailed):
        store.begin_sync().run()
    store.sync_failed()  # the mark cannot be written either, which changes nothing
    disk.sync_fails = False
    with pytest.raises(SyncFailed):
        store.close()
    with pytest.raises(SyncFailed):
        store.begin_sync()


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("fsync", ["always", "never"])
def test_random_crashes(seed: int, fsync: Literal["always", "never"]) -> None:
    """What was synced stays; without a power cut all stays; and it says so when it may not be."""
    rng = random.Random(seed)
    disk = MemoryDisk()
    store, _, directory = start(disk, fsync=fsync, boot_id="boot-0")
    operations = renumbered(history(150, seed=seed, segment_bytes=900))
    written = durable = applied = boots = 0
    for _ in range(60):
        step = rng.random()
        if step < 0.5:
            more = operations[written : written + rng.randint(1, 8)]
            store.append(more)
            written += len(more)
        elif step < 0.6:
            job = store.begin_sync()
            job.run()
            durable = job.index
        elif step < 0.8:
            upto = rng.randint(applied, durable if fsync == "always" else written)
            store.apply([op for op, _ in operations[applied:upto]])
            applied = upto
        elif step < 0.85:
            store.flush()
        elif step < 0.95:
            kind: Literal["kill", "power"] = rng.choice(("kill", "power"))
            disk.crash(kind, rng)
            boots += kind == "power"
            store, found, directory = start(disk, fsync=fsync, boot_id=f"boot-{boots}")
            assert durable < found.next <= written + 1
            if kind == "kill":
                assert (found.next, found.state) == (written + 1, "whole")
            elif fsync == "never":
                assert found.state == "unclean"
            else:
                assert found.next > applied
            directory.recorded()
            written = durable = found.next - 1
            applied = min(applied, written)
            replay(store, applied)
        assert store.next_index == written + 1
        if applied >= 2:
            assert records(store) == appended(operations[:applied])


def test_one_file_that_is_refused_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    store, *_ = start(disk)
    written: Written = [(lead(1), None), (create_topic(2, partitions=3), None)]
    body = body_of(1)
    written += [(append_op(3 + n, 0, body, partition=n), body) for n in range(3)]
    store.append(written)
    append = disk.append

    def refuse(path: str, buffers: Sequence[Buffer]) -> int:
        if "/topics/orders/0/" in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return append(path, buffers)

    monkeypatch.setattr(disk, "append", refuse)
    store.apply([op for op, _ in written])
    size = len(encoded(written)[2])
    for left in (3, 2, 1):  # one at a time: the refused one first, then it waits behind the others
        if left == 3:
            with pytest.raises(StorageError, match="Input/output error"):
                store.flush(1)
        else:
            assert store.flush(1), "the refused one remains"
        assert store.unflushed_bytes == left * size
    with pytest.raises(StorageError, match="Input/output error"):
        store.flush()
    assert store.unflushed_bytes == size
    assert store.read_records("orders", 0, 0, 1000), "it is served all the same"
    monkeypatch.undo()
    store.flush()
    assert store.unflushed_bytes == 0
