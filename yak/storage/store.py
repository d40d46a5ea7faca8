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

* Everything happens at once and in order, on one thread; only the steps of a sync or checkpoint
  job may be given to another.  So the broker and the simulator use it alike.
* `apply` takes an operation's bytes from memory; after a restart, from the log in stretches.
  It takes all operations into memory before it can fail, so they are never half applied.
* What an operation frees goes to the trash, and stays there until a checkpoint covers it.
* A checkpoint is of what is applied; when it is durable, the trash and the log's front may go.

A start is recovery.py's.  To the core it is one thing, hence more than 400 lines.

It does not know what is committed, what time it is, or when to sync, to flush, or to make a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from yak.core import ops
from yak.core.ops import Op
from yak.core.snapshot import Snapshot
from yak.core.state import State
from yak.errors import Fatal
from yak.messages import LogState
from yak.model import TopicPartition
from yak.storage import recovery
from yak.storage.checkpoint import Checkpoint, CheckpointJob
from yak.storage.chunk import Chunk
from yak.storage.copy import Incoming, Outgoing
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer, Disk
from yak.storage.faults import Damaged, StorageError, SyncFailed
from yak.storage.oplog import OpLog, SyncJob
from yak.storage.partition import (
    DEFAULT_SEGMENT_BYTES,
    FLUSH_BYTES,
    Partition,
    Unsynced,
)
from yak.storage.restore import REMOVED
from yak.storage.trash import Trash

#: How much of the log is read back at a time when it is applied after a restart.
LOAD_BYTES: Final = 4 * 1024 * 1024
#: Of a topic's partitions so many have their directory from the beginning, for whoever looks; the
#: others get it with their first record.  Ten thousand at once would take longer than a lease.
EAGER_DIRECTORIES: Final = 100
#: Partitions with records in memory; with more, those that have waited longest are written.  So a
#: flush of all never takes longer than a few heartbeats, however many partitions there are.
MAX_WAITING_PARTITIONS: Final = 500
#: Directories of the trash that are removed in one go; a stop waits for no more than that.
REMOVED_AT_ONCE: Final = 100
#: What an operation without a body is taken to add to the log, where nobody knows its line.
LINE_BYTES: Final = 200


class Recovered(NamedTuple):
    """What a start found.  state: as the broker joins; message: why, if it is not whole.

    next: the log's next index.  end_epoch, time (ms): of its last operation, 0 where there is
    none.  restored: State at the checkpoint.  kept: directories with files that were damaged.
    """

    state: LogState
    message: str
    next: int
    end_epoch: int
    epochs: list[tuple[int, int]]
    sum: str
    time: int
    restored: State
    kept: tuple[str, ...]


class Store:
    """See the module.  Made by `recover`.

    checkpoint: the index of the last durable one; 0 without one.
    bytes_since, operations_since: what was applied since the last one was begun.
    _partitions: every partition there is.  _waiting: those with records to flush.
    _loaded: a stretch of old operations (line, body), beginning with index _loaded_first.
    """

    def __init__(self, disk: Disk, data_dir: DataDir, log: OpLog, applied: int = 0) -> None:
        self._disk = disk
        self._data_dir = data_dir
        self._path = data_dir.path
        self._log = log
        self._trash = Trash(disk, self._path)
        self._unsynced = Unsynced()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._counts: dict[str, int] = {}
        self._waiting: dict[TopicPartition, Partition] = {}
        self._loaded: list[tuple[bytes, Buffer]] = []
        self._loaded_first = 0
        self._applied = applied
        self.checkpoint = applied
        self.bytes_since = 0
        self.operations_since = 0

    @classmethod
    def recover(
        cls, disk: Disk, data_dir: DataDir, segment_bytes: int, *, sync_at_roll: bool = True
    ) -> tuple[Store, Recovered]:
        """Put a data directory in order, as recovery.py says.  Raises Fatal.

        sync_at_roll: as fsync=always needs it; without, a power cut leaves the disk unclean.
        """
        found = recovery.recover(disk, data_dir)
        log = OpLog(disk, found.log, segment_bytes, sync_at_roll=sync_at_roll)
        time = found.log.time or found.restored.time
        store = cls(disk, data_dir, log, found.restored.index)
        if found.checkpoint is not None:
            store._restore(found.checkpoint)
        end = (log.next_index, found.log.epoch, list(log.epochs), log.sum, time)
        return store, Recovered(found.state, found.message, *end, found.restored, found.kept)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """The partitions as they were; their files were put back to it."""
        for name, topic in checkpoint.state.topics.items():
            self._open(name, topic.partitions, _segment_bytes(topic.config))
        for row in checkpoint.partitions:
            self._partitions[row.topic, row.partition].restore(row)

    # -- The log ----------------------------------------------------------------------------------

    @property
    def next_index(self) -> int:
        return self._log.next_index

    @property
    def first_index(self) -> int:
        """Of the oldest operation that the log still has."""
        return self._log.first_index

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
        """The running sum of the operation before `index`.  Raises StorageError."""
        try:
            return self._log.sum_before(index)
        except (OSError, Damaged) as e:
            raise _unreadable(f"operation {index - 1} cannot be read", e) from e

    def read_ops(self, first: int, last: int, max_bytes: int) -> tuple[int, list[Buffer]]:
        """How many operations fit, at least one, and their bytes.  Raises StorageError."""
        try:
            return self._log.read(first, last, max_bytes)
        except (OSError, Damaged) as e:
            raise _unreadable(f"operation {first} cannot be read", e) from e

    def load(self, first: int, last: int) -> list[Op]:
        """Operations from `first` on, as many as one stretch holds.  Raises StorageError."""
        try:
            entries = self._log.load(first, last, LOAD_BYTES)
        except (OSError, Damaged) as e:
            raise _unreadable(f"operation {first} cannot be read", e) from e
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
            assert op.index == self._applied + 1, (op, self._applied)
            if isinstance(op, ops.Append):
                self._apply_append(op)
            else:
                held = self._log.entry(op.index)
                self.bytes_since += len(held[0]) if held else LINE_BYTES
                try:
                    self._apply_other(op)
                except OSError as e:
                    refused = e
            self._applied = op.index
        self.operations_since += len(operations)
        try:
            self._flush(FLUSH_BYTES, keep=MAX_WAITING_PARTITIONS)
        except StorageError as e:
            refused = e
        if refused is not None:
            raise StorageError(f"committed operations wait in memory: {refused}") from refused

    def flush(self, at_most: int | None = None) -> bool:
        """Write what waits, of all partitions or of some; whether any remain.

        Raises StorageError; the rest goes on waiting.
        """
        keep = 0 if at_most is None else max(len(self._waiting) - at_most, 0)
        self._flush(None, keep=keep)
        return bool(self._waiting)

    def _flush(self, least: int | None, *, keep: int) -> None:
        """Move what was freed; then write the partitions in which at least this much waits, and
        those that have waited longest, until no more than `keep` are left."""
        if self._trash.waits:
            try:
                self._trash.carry_out()
            except OSError as e:
                what = f"what was freed cannot be moved to {self._path}/trash: {e.strerror or e}"
                raise StorageError(what) from e
        refused: StorageError | None = None
        too_many = len(self._waiting) - keep
        for number, (where, partition) in enumerate(list(self._waiting.items())):
            if number < too_many or (least is not None and partition.waiting_bytes >= least):
                del self._waiting[where]
                try:
                    partition.flush()
                except StorageError as e:  # the others may be on a sound part of the disk
                    self._waiting[where] = partition
                    refused = refused or e
            elif least is None:
                break
        if refused is not None:
            raise refused

    @property
    def unflushed_bytes(self) -> int:
        """What is applied and held in memory until a flush takes it."""
        return sum(partition.waiting_bytes for partition in self._waiting.values())

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
            raise _unreadable(f"{topic}/{partition} cannot be read at {offset}", e) from e

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
            raise _unreadable(f"{topic}/{partition} cannot be read", e) from e

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

    # -- Checkpoints ------------------------------------------------------------------------------

    def begin_checkpoint(self, state: State) -> CheckpointJob:
        """A job whose steps make a checkpoint of all that is applied.  One at a time.

        state: as it is at that very index.  Raises StorageError where the disk does not take
        what waits, or does not give back the log's end; then it is too early.
        """
        assert state.index == self._applied, (state.index, self._applied)
        self.flush()
        rows = [
            partition.row(*where)
            for where, partition in self._partitions.items()
            if partition.next_offset
        ]
        index, epochs = state.index, list(self._log.epochs)
        running = self.sum_before(index + 1)
        try:
            file, position = self._log.place_of(index + 1)
        except (OSError, Damaged) as e:
            raise _unreadable(f"the end of operation {index} cannot be found", e) from e

        def head(snapshot: Snapshot) -> Checkpoint:
            return Checkpoint(
                sum=running,
                epochs=[(epoch, first) for epoch, first in epochs if first <= index],
                log_file=file,
                log_position=position,
                state=snapshot,
                partitions=rows,
            )

        covers = (self.bytes_since, self.operations_since)
        self.bytes_since = self.operations_since = 0
        # Were the log shorter than its checkpoint, it would have to begin anew after it.
        log_files, log_names = self._log.unsynced_before(index + 1)
        files, directories = self._unsynced.take()
        unsynced = (log_files + files, log_names + directories)
        return CheckpointJob(
            self._disk, self._path, self._trash, state.copy(), head, unsynced, covers
        )

    def end_checkpoint(self, job: CheckpointJob) -> None:
        """All its steps have run, or one has failed: then the next one does its work as well."""
        if job.made:
            self.checkpoint = job.index
        else:
            self.bytes_since += job.covers[0]
            self.operations_since += job.covers[1]
            self._unsynced.files.update(dict.fromkeys(job.files))
            self._unsynced.directories.update(dict.fromkeys(job.directories))

    @property
    def has_trash(self) -> bool:
        """Whether something was freed that only a checkpoint lets go."""
        return self._trash.holds

    def tidy(self, retain_bytes: int, wanted: int, pinned: int) -> list[Callable[[], None]]:
        """Let go of what the checkpoint covers.  Raises OSError.

        retain_bytes, wanted: as OpLog.forget.  pinned: an older checkpoint that is still read, or
        the last one.  Returns what removes files that are out of use, to be run in any thread, one
        after the other.
        """
        self._log.forget(self.checkpoint, retain_bytes, min(wanted, pinned + 1))
        names = self._trash.covered(min(self.checkpoint, pinned))
        if self._disk.exists(f"{self._path}/{REMOVED}"):
            names.append(f"{self._path}/{REMOVED}")
        return [
            self._disk.remove_later(names[first : first + REMOVED_AT_ONCE])
            for first in range(0, len(names), REMOVED_AT_ONCE)
        ]

    def outgoing(self) -> Outgoing:
        """The last checkpoint, to be copied; `tidy` must be told that it is read."""
        try:
            return Outgoing(self._disk, self._path, self._trash)
        except (OSError, Damaged) as e:
            raise _unreadable("the checkpoint cannot be copied", e) from e

    def incoming(self) -> Incoming:
        """A copy from the leader, to be filled."""
        return Incoming(self._disk, self._path)

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
        self.bytes_since += len(line) + len(body)

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
                for path in self._partitions[op.topic, op.partition].trim(op.before):
                    self._trash.free_segment(op.index, path)
            case _:
                pass  # the others change no file

    def _create(self, topic: str, total: int, segment_bytes: int) -> None:
        first = self._counts.get(topic, 0)
        self._open(topic, total, segment_bytes)
        if not self._trash.waits:
            for number in range(first, min(total, EAGER_DIRECTORIES)):
                self._disk.mkdir(f"{self._path}/topics/{topic}/{number}")

    def _open(self, topic: str, total: int, segment_bytes: int) -> None:
        first, self._counts[topic] = self._counts.get(topic, 0), total
        for number in range(first, total):
            directory = f"{self._path}/topics/{topic}/{number}"
            self._partitions[topic, number] = Partition(
                self._disk, directory, segment_bytes, self._unsynced
            )

    def _delete(self, topic: str, index: int) -> None:
        for number in range(self._counts.pop(topic)):
            del self._partitions[topic, number]
            self._waiting.pop((topic, number), None)
        self._trash.free_topic(index, topic)

    def _bytes_of(self, index: int) -> tuple[bytes, Buffer]:
        held = self._log.entry(index)
        if held is not None:
            return held
        if not self._loaded_first <= index < self._loaded_first + len(self._loaded):
            try:
                self.load(index, self._log.next_index - 1)
            except StorageError as e:
                if e.damaged:  # or the next life might come this far and no further again
                    self._data_dir.is_damaged()
                raise Fatal(f"committed operations cannot be applied: {e}; start again") from e
        return self._loaded[index - self._loaded_first]


def _unreadable(what: str, error: OSError | Damaged) -> StorageError:
    return StorageError(f"{what}: {error}", damaged=isinstance(error, Damaged))


def _segment_bytes(config: Mapping[str, Any]) -> int:
    found = config.get("segment_bytes", DEFAULT_SEGMENT_BYTES)
    assert isinstance(found, int), config
    return found
