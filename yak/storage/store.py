"""One broker's log and partition files as one thing: what the core's disk effects mean.

    core's effect                | here
    -----------------------------+-----------------------------------------------------------
    AppendOp (a run of them)     | append
    AppendCopied                 | append_copied
    Truncate                     | truncate
    Apply                        | apply
    Load                         | load
    SendRecords, FindOffsets     | read_records, find_offset
    FindTrims                    | find_trims
    SendOps, SendFollow(Answer)  | read_ops, sum_before

Rules:

* Everything happens at once and in order, on one thread; only a sync job's `run` may be given
  to another.  So the broker and the simulator use it alike.
* `recover` proves the log, makes durable in meta.json what may be missing, and only then cuts
  the log and removes the partition files: restart is replay, and writes them again.
* `apply` takes an operation's bytes from memory; after a restart, from the log in stretches.
  It takes all operations into memory before it can fail, so they are never half applied.
* A deleted topic's directory is first moved to trash/INDEX, in one step, and removed there.

It does not know what is committed, what time it is, or when to sync or flush.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from yak.core import ops
from yak.core.ops import Op
from yak.errors import Fatal
from yak.messages import LogState
from yak.model import TopicPartition
from yak.storage.chunk import Chunk
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer, Disk
from yak.storage.faults import Damaged, StorageError, SyncFailed
from yak.storage.oplog import OpLog, SyncJob
from yak.storage.partition import (
    DEFAULT_SEGMENT_BYTES,
    FLUSH_BYTES,
    Partition,
    last_index_on_disk,
)
from yak.storage.scan import Scan, scan

#: How much of the log is read back at a time when it is applied after a restart.
LOAD_BYTES: Final = 4 * 1024 * 1024
#: Of a topic's partitions so many have their directory from the beginning, for whoever looks; the
#: others get it with their first record.  Ten thousand at once would take longer than a lease.
EAGER_DIRECTORIES: Final = 100


class Recovered(NamedTuple):
    """What a start found.  state: as the broker joins; message: why, if it is not whole.

    next: the log's next index.  end_epoch, time (ms): of its last operation, 0 where there is
    none.
    """

    state: LogState
    message: str
    next: int
    end_epoch: int
    epochs: list[tuple[int, int]]
    sum: str
    time: int


class Store:
    """See the module.  Made by `recover`.

    _partitions: every partition there is.  _waiting: those with records to flush.
    _loaded: a stretch of old operations (line, body), beginning with index _loaded_first.
    """

    def __init__(self, disk: Disk, data_dir: DataDir, log: OpLog) -> None:
        self._disk = disk
        self._data_dir = data_dir
        self._path = data_dir.path
        self._log = log
        self._partitions: dict[TopicPartition, Partition] = {}
        self._counts: dict[str, int] = {}
        self._waiting: dict[TopicPartition, Partition] = {}
        self._loaded: list[tuple[bytes, Buffer]] = []
        self._loaded_first = 0

    # -- Recovery ---------------------------------------------------------------------------------

    @classmethod
    def recover(
        cls, disk: Disk, data_dir: DataDir, segment_bytes: int, *, sync_at_roll: bool = True
    ) -> tuple[Store, Recovered]:
        """Prove the log, cut what is not whole, and begin the partition files anew.

        Raises Fatal where the log is damaged: it keeps the files, and meta.json remembers.
        sync_at_roll: as fsync=always needs it; without, a power cut leaves the disk unclean.
        """
        path = data_dir.path
        try:
            for name in ("oplog", "topics"):
                disk.mkdir(f"{path}/{name}")
            disk.sync_dir(path)
            found = _scan_log(disk, data_dir)
            reason = found.why or _ahead_of_log(disk, f"{path}/topics", found.next_index - 1)
            if reason:
                data_dir.suspect("torn")
            found.cut(disk, rewrite_from=data_dir.rewrite_from)
            data_dir.rewritten()
            _begin_anew(disk, path)
        except OSError as e:
            raise Fatal(f"data directory {path}: {e}; look at the disk, then start again") from e
        state = data_dir.state
        if state != "whole" and not reason:
            reason = f"an earlier stop left this disk {state}, and yak-zk has not recorded it yet"
        elif found.cut_bytes:
            reason = f"{found.cut_bytes} bytes were cut from the log's end: {reason}"
        log = OpLog(disk, found, segment_bytes, sync_at_roll=sync_at_roll)
        last = log.next_index - 1
        time = log.load(last, last, 0)[0].op.time if last else 0
        end = (log.next_index, found.epoch, list(log.epochs), log.sum, time)
        return cls(disk, data_dir, log), Recovered(state, reason, *end)

    # -- The log ----------------------------------------------------------------------------------

    @property
    def next_index(self) -> int:
        return self._log.next_index

    @property
    def sum(self) -> str:
        return self._log.sum

    @property
    def epochs(self) -> list[tuple[int, int]]:
        return self._log.epochs

    @property
    def segment_bytes(self) -> int:
        """Where the log's files roll; all replicas must agree, so yak-zk says it."""
        return self._log.segment_bytes

    @segment_bytes.setter
    def segment_bytes(self, value: int) -> None:
        self._log.segment_bytes = value

    @property
    def log_bytes(self) -> int:
        return self._log.size_bytes

    def append(self, operations: Sequence[tuple[Op, Buffer | None]]) -> None:
        """Write operations, and their bodies, at the log's end.  Raises StorageError."""
        with self._marking_failure():
            self._log.append(operations)

    def append_copied(self, chunk: Chunk) -> None:
        """Write the leader's very bytes at the log's end.  Raises StorageError."""
        with self._marking_failure():
            self._log.append_copied(chunk)

    def truncate(self, next_index: int, expected_sum: str) -> None:
        """Cut the log.  Raises SumMismatch where the logs differ below the point."""
        with self._marking_failure():
            self._log.truncate(next_index, expected_sum)
        self._loaded.clear()

    def begin_sync(self) -> SyncJob:
        """A job whose `run`, in any thread, makes durable what is written by now.

        One at a time.  SyncFailed from it is for `sync_failed`, on the first thread; the other
        methods remember it themselves.
        """
        return self._log.begin_sync()

    def sync_failed(self) -> None:
        """Remember it for the next start; this process must stop now."""
        with suppress(Fatal):  # then the marker of this run alone has to tell it
            self._data_dir.sync_failed(self._log.durable_index)

    @contextmanager
    def _marking_failure(self) -> Iterator[None]:
        try:
            yield
        except SyncFailed:
            self.sync_failed()
            raise

    def sum_before(self, index: int) -> str:
        return self._log.sum_before(index)

    def read_ops(self, first: int, last: int, max_bytes: int) -> tuple[int, list[Buffer]]:
        """How many operations fit, at least one, and their bytes.  Raises StorageError."""
        try:
            return self._log.read(first, last, max_bytes)
        except (OSError, Damaged) as e:
            raise StorageError(f"operation {first} cannot be read: {e}") from e

    def load(self, first: int, last: int) -> list[Op]:
        """Operations from `first` on, as many as one stretch holds.  Raises StorageError."""
        try:
            entries = self._log.load(first, last, LOAD_BYTES)
        except (OSError, Damaged) as e:
            raise StorageError(f"operation {first} cannot be read: {e}") from e
        self._loaded = [(line, body) for _, line, body in entries]
        self._loaded_first = first
        return [entry.op for entry in entries]

    # -- Partitions -------------------------------------------------------------------------------

    def apply(self, operations: Sequence[Op]) -> None:
        """Let committed operations become real in the partition files.

        Raises StorageError where the disk refuses to take them now; they are applied all the
        same, and what it did not take waits in memory for the next `flush`.
        """
        refused: OSError | StorageError | None = None
        for op in operations:
            if isinstance(op, ops.Append):
                self._apply_append(op)
                continue
            try:
                self._apply_other(op)
            except (OSError, StorageError) as e:
                refused = e
        for where, partition in list(self._waiting.items()):
            if partition.waiting_bytes >= FLUSH_BYTES and refused is None:
                try:
                    partition.flush()
                except StorageError as e:
                    refused = e
                else:
                    del self._waiting[where]
        if refused is not None:
            raise StorageError(f"committed operations wait in memory: {refused}") from refused

    def flush(self) -> None:
        """Write what waits, all partitions.  Raises StorageError; the rest goes on waiting."""
        for where, partition in list(self._waiting.items()):
            partition.flush()
            del self._waiting[where]

    def read_records(
        self,
        topic: str,
        partition: int,
        offset: int,
        max_bytes: int,
        *,
        at_least_one: bool = True,
    ) -> list[Buffer]:
        """Whole operations from the one that holds `offset`.  Raises StorageError, Trimmed."""
        try:
            held = self._partitions.get((topic, partition))
            if held is None:
                raise StorageError(f"{topic}/{partition} was deleted before it was read")
            return held.read(offset, max_bytes, at_least_one=at_least_one)
        except (OSError, Damaged) as e:
            raise StorageError(f"{topic}/{partition} cannot be read at {offset}: {e}") from e

    def find_offset(self, topic: str, partition: int, at_ms: int) -> int | None:
        """Of the first operation with time >= `at_ms`; None where nothing is.  Raises StorageError.

        A topic whose creation is not committed yet has no partition here.
        """
        held = self._partitions.get((topic, partition))
        if held is None:
            return None
        try:
            return held.find_time(at_ms)
        except (OSError, Damaged) as e:
            raise StorageError(f"{topic}/{partition} cannot be read: {e}") from e

    def find_trims(
        self, queries: Sequence[tuple[str, int, int | None, int | None]]
    ) -> list[tuple[str, int, int]]:
        """(topic, partition, offset) where `trim_point` says that something may go."""
        found = []
        for topic, partition, older_than_ms, more_than_bytes in queries:
            held = self._partitions.get((topic, partition))
            if held is not None:
                before = held.trim_point(older_than_ms, more_than_bytes)
                if before > held.start_offset:
                    found.append((topic, partition, before))
        return found

    def close(self) -> None:
        """Flush, and make the log durable, so that the run may be marked as stopped.

        Raises SyncFailed where it could not be made durable: then the run must stay marked.
        """
        with suppress(StorageError):  # the next start writes the partition files again
            self.flush()
        with self._marking_failure():
            self._log.sync_now()

    def _apply_append(self, op: ops.Append) -> None:
        where = (op.topic, op.partition)
        partition = self._partitions[where]
        line, body = self._bytes_of(op.index)
        partition.append(op, line, body)
        self._waiting[where] = partition

    def _apply_other(self, op: Op) -> None:
        match op:
            case ops.CreateTopic():
                self._create(op.topic, op.partitions, _segment_bytes(op.config))
            case ops.CreatePartitions():
                self._create(op.topic, op.partitions, self._partitions[op.topic, 0].segment_bytes)
            case ops.AlterTopic():
                for number in range(self._counts[op.topic]):
                    held = self._partitions[op.topic, number]
                    held.segment_bytes = _segment_bytes(op.config)
            case ops.DeleteTopic():
                self._delete(op.topic, op.index)
            case ops.Trim():
                self._partitions[op.topic, op.partition].trim(op.before)
            case _:
                pass  # the others change no file

    def _create(self, topic: str, total: int, segment_bytes: int) -> None:
        first, self._counts[topic] = self._counts.get(topic, 0), total
        directories = [f"{self._path}/topics/{topic}/{number}" for number in range(first, total)]
        for number, directory in enumerate(directories, first):
            self._partitions[topic, number] = Partition(self._disk, directory, segment_bytes)
        for directory in directories[: max(EAGER_DIRECTORIES - first, 0)]:
            self._disk.mkdir(directory)

    def _delete(self, topic: str, index: int) -> None:
        for number in range(self._counts.pop(topic)):
            del self._partitions[topic, number]
            self._waiting.pop((topic, number), None)
        trash = f"{self._path}/trash/{index}"
        self._disk.mkdir(trash)
        if self._disk.exists(f"{self._path}/topics/{topic}"):
            self._disk.rename(f"{self._path}/topics/{topic}", f"{trash}/{topic}")
        self._disk.rmtree(trash)

    def _bytes_of(self, index: int) -> tuple[bytes, Buffer]:
        held = self._log.entry(index)
        if held is not None:
            return held
        if not self._loaded_first <= index < self._loaded_first + len(self._loaded):
            try:
                self.load(index, self._log.next_index - 1)
            except StorageError as e:
                raise Fatal(f"committed operations cannot be applied: {e}; start again") from e
        return self._loaded[index - self._loaded_first]


def _scan_log(disk: Disk, data_dir: DataDir) -> Scan:
    """The log's scan.  Damage is remembered and stops the broker: there is no full copy yet."""
    directory = f"{data_dir.path}/oplog"
    try:
        found = scan(disk, directory, after_power_cut=data_dir.state == "unclean")
        if found.first_index != 1:
            what = f"the log begins with operation {found.first_index}, the files before are gone"
            raise Damaged(found.segments[0].path, 0, what)
    except Damaged as e:
        data_dir.suspect("damaged")
        raise Fatal(
            f"the log is damaged: {e}; nothing was cut. Keep {data_dir.path} to look into it; "
            "with another broker in sync, start this one with a new --data-dir, and it copies all"
        ) from e
    return found


def _ahead_of_log(disk: Disk, topics: str, last_index: int) -> str:
    """Why the log must have lost its end, if a partition's file holds an operation past it."""
    for topic in disk.listdir(topics):
        partitions = f"{topics}/{topic}"
        for partition in disk.listdir(partitions) if disk.is_dir(partitions) else ():
            directory = f"{partitions}/{partition}"
            index = last_index_on_disk(disk, directory) if disk.is_dir(directory) else 0
            if index > last_index:
                return f"{topic}/{partition} holds operation {index}, the log ends at {last_index}"
    return ""


def _begin_anew(disk: Disk, path: str) -> None:
    """No partition file outlives a restart; the move makes it one step."""
    disk.rmtree(f"{path}/trash")
    disk.mkdir(f"{path}/trash")
    disk.rename(f"{path}/topics", f"{path}/trash/topics")
    disk.mkdir(f"{path}/topics")
    disk.rmtree(f"{path}/trash/topics")


def _segment_bytes(config: dict[str, Any]) -> int:
    found = config.get("segment_bytes", DEFAULT_SEGMENT_BYTES)
    assert isinstance(found, int), config
    return found
