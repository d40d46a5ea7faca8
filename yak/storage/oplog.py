"""The operation log on disk: append, sync, read a range, truncate.

    oplog/00000000000000000001.jsonl
      {"format":1,"first":1,"sum":"00000000"}
      {"index":1,"epoch":1,"time":1763800000000,"op":"lead","broker":1,"sum":"8d1b9f63"}
      {"index":2,…,"op":"append",…,"size":57,"crc":"9ae0daaf","sum":"4c1d22e0"}
      {"key":"a","value":1}
      …

Rules:

* Every replica's files are the same, byte for byte: a new segment begins with the operation
  that would make the file longer than `segment_bytes` (one that is longer than that by itself
  gets a file alone), and a file never exists without an operation in it.
* One append is one write.  Where the disk refuses it, the file is cut back to its last whole
  operation and StorageError says the next index; nothing of the write counts.
* Written is not durable.  `begin_sync` is taken on the thread that appends; the job's `run`
  may run in another one while further operations are appended; then `job.index` is durable.
  A truncation meanwhile lowers `job.index`: what was cut does not come back.
* Where the disk fails to sync, SyncFailed is raised and nobody tries again: the system may
  hold for written what is lost.
* With `sync_at_roll` a file is synced before the next one is made.  Else a power cut could keep
  the later one and lose the end of this one, which would look like damage.
* `truncate` first proves that both logs are the same below the point, then removes files from
  the highest one down, syncs the directory, and cuts: a stop in between leaves no gap.
* `forget` removes whole files at the front, once a checkpoint covers them.
* An operation in the file is never changed; what is read from it is proved by its sums.

    Invariant: sum, epochs and next_index are those of the last whole operation in the files.

Whoever writes, syncs, cuts and reads shares one book of files, hence more than 400 lines.  It does
not know which operations are committed, and does not decide when to sync.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from yak.core import ops
from yak.core.ops import NO_SUM, BrokenLine, Op
from yak.errors import Fatal
from yak.storage.chunk import Chunk, Entry, Head, prove_log, split, sum_of
from yak.storage.disk import Buffer, Disk, SyncLater, append_whole
from yak.storage.faults import Damaged, StorageError, SumMismatch, SyncFailed
from yak.storage.scan import Scan
from yak.storage.segment import Segment
from yak.storage.tail import MAX_TAIL_BYTES, Tail

#: Log that stays for a follower that is connected, however little is retained for others: else it
#: could end a full copy and need the next one at once, for ever.
WANTED_BYTES: Final = 64 * 1024 * 1024


class SyncJob:
    """A sync under way.  index: every operation up to it is durable once `run` has returned.

    done: `run` has returned.  error: it has failed, and so will every later sync.
    """

    def __init__(
        self, directory: str, index: int, files: list[SyncLater], sync_names: Callable[[], None]
    ) -> None:
        self.index = index
        self.done = False
        self.error: SyncFailed | None = None
        self._directory = directory
        self._files = files
        self._sync_names = sync_names

    def run(self) -> None:
        """Sync the files, then the directory if files were made.  Any thread; or SyncFailed."""
        try:
            for file in self._files:
                file.run()
            self._sync_names()
        except OSError as e:
            self.error = SyncFailed(self._directory, e)
            raise self.error from e
        self.done = True


def _nothing() -> None:
    """No file was made, so the directory is as durable as it was."""


class OpLog:
    """See the module.  Made from a scan whose `cut` was carried out.

    first_index: of the log's first operation.  next_index: of the next one to be appended.
    sum: the running sum at the end.  epochs: (epoch, its first index), rising.
    """

    def __init__(
        self,
        disk: Disk,
        scan: Scan,
        segment_bytes: int,
        *,
        sync_at_roll: bool = True,
        tail_bytes: int = MAX_TAIL_BYTES,
    ) -> None:
        self._disk = disk
        self._directory = scan.directory
        self.segment_bytes = segment_bytes
        self._segments = list(scan.segments)
        self._first_sum = scan.first_sum
        self._began = scan.began
        self._tail = Tail(scan.next_index, tail_bytes)
        self._unsynced: dict[str, None] = {}
        self._names_unsynced = False
        self._job: SyncJob | None = None
        self._durable = scan.next_index - 1
        self._sync_at_roll = sync_at_roll
        self.first_index = scan.first_index
        self.next_index = scan.next_index
        self.sum = scan.sum
        self.epochs = list(scan.epochs)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    # -- Writing ----------------------------------------------------------------------------------

    def append(self, operations: Sequence[tuple[Op, Buffer | None]]) -> None:
        """Encode operations, each with its body if it has one, and write them at the end."""
        entries = []
        running = self.sum
        for number, (op, body) in enumerate(operations, self.next_index):
            assert op.index == number, (op, number)
            assert ops.body_size(op) == len(body or b""), op
            line, running = ops.encode(op, running)
            entries.append(Entry(op, line, body or b""))
        self._append(entries)

    def append_copied(self, chunk: Chunk) -> None:
        """Write the leader's very bytes, which `parse_chunk` proved to follow this log's end."""
        if chunk.entries:
            assert chunk.entries[0].op.index == self.next_index, (chunk.ops[0], self.next_index)
            self._append(chunk.entries, chunk.data)

    def _append(self, entries: list[Entry], data: bytes | None = None) -> None:
        """data: the entries' bytes in one piece, where they came so."""
        if self._segments:
            segment = self._segments[-1]
        else:
            segment = Segment(self._directory, self.next_index, self.sum)
        size, start = segment.size, 0
        for number, (op, line, body) in enumerate(entries):
            length = len(line) + len(body)
            if size + length > self.segment_bytes and size > len(segment.header):
                self._write(segment, entries[start:number])
                self._finish(segment)
                segment = Segment(self._directory, op.index, self.sum)
                size, start = len(segment.header), number
            size += length
        self._write(segment, entries[start:], None if start else data)

    def _finish(self, segment: Segment) -> None:
        """A new file may survive a power cut only if all before it does."""
        if self._sync_at_roll and self.durable_index < self.next_index - 1:
            _sync(self._disk.sync, segment.path)
            self._unsynced.pop(segment.path, None)

    def _write(self, segment: Segment, entries: list[Entry], data: bytes | None = None) -> None:
        """One write to one file: these operations, and its first line where it is new."""
        if not entries:
            return
        buffers: list[Buffer] = [] if segment.written else [segment.header]
        if data is not None:
            buffers.append(data)
        else:
            for _, line, body in entries:
                buffers.append(line)
                if body:
                    buffers.append(body)
        try:
            append_whole(self._disk, segment.path, buffers, segment.written)
        except OSError as e:
            raise StorageError(
                f"{segment.path}: {e.strerror or e}; the log was cut back to operation "
                f"{self.next_index - 1}, nothing of the write counts",
                self.next_index,
            ) from e
        self._admit(segment, entries)

    def _admit(self, segment: Segment, entries: list[Entry]) -> None:
        """The operations are in the file: now they count."""
        if not segment.written:
            self._segments.append(segment)
            self._names_unsynced = True
        epoch = self.epochs[-1][0] if self.epochs else 0
        for op, line, body in entries:
            if op.epoch != epoch:
                assert op.epoch > epoch, (op, self.epochs)
                epoch = op.epoch
                self.epochs.append((epoch, op.index))
            segment.add(op.index, len(line) + len(body))
            self._tail.add(line, body)
        segment.written = segment.size
        self.next_index += len(entries)
        self.sum = sum_of(entries[-1].line)
        self._unsynced[segment.path] = None

    # -- Syncing ----------------------------------------------------------------------------------

    def begin_sync(self) -> SyncJob:
        """What is written by now becomes durable when the job has run.  One job at a time."""
        self._refuse_after_failure()
        assert self._job is None or self._job.done, "the last sync still runs"
        files = [self._disk.sync_later(path) for path in self._unsynced]
        names = partial(self._disk.sync_dir, self._directory) if self._names_unsynced else _nothing
        self._note_durable()
        job = SyncJob(self._directory, self.next_index - 1, files, names)
        self._unsynced.clear()
        self._names_unsynced = False
        self._job = job
        return job

    def sync_now(self) -> None:
        """Make durable what is written by now, whether or not a job runs.  Or SyncFailed."""
        self._refuse_after_failure()
        ends = [*(segment.first for segment in self._segments[1:]), self.next_index]
        for segment, end in zip(self._segments, ends, strict=False):  # an empty log has no file
            if end - 1 > self.durable_index:
                _sync(self._disk.sync, segment.path)
        _sync(self._disk.sync_dir, self._directory)
        self._durable = self.next_index - 1

    def _refuse_after_failure(self) -> None:
        if self._job is not None and self._job.error is not None:
            raise self._job.error

    @property
    def durable_index(self) -> int:
        """Every operation up to it is durable."""
        self._note_durable()
        return self._durable

    def _note_durable(self) -> None:
        if self._job is not None and self._job.done:
            self._durable = max(self._durable, self._job.index)

    # -- Cutting ----------------------------------------------------------------------------------

    def truncate(self, next_index: int, expected_sum: str) -> None:
        """Cut the log so that `next_index` is next.  Raises SumMismatch, then nothing is cut."""
        assert self.first_index <= next_index <= self.next_index, (next_index, self.next_index)
        ours = self.sum_before(next_index)
        if ours != expected_sum:
            raise SumMismatch(next_index, ours, expected_sum)
        if next_index == self.next_index:
            return
        try:
            self._cut_files(next_index)
        except OSError as e:
            raise Fatal(
                f"{self._directory}: cutting the log to operation {next_index - 1} failed: {e}; "
                "what was not cut is cut after the next start: look at the disk first"
            ) from e
        self._tail.cut(next_index)
        self.epochs = [(epoch, first) for epoch, first in self.epochs if first < next_index]
        self.next_index = next_index
        self.sum = ours
        if self._job is not None:
            self._job.index = min(self._job.index, next_index - 1)
        self._durable = min(self._durable, next_index - 1)

    def _cut_files(self, next_index: int) -> None:
        kept = [segment for segment in self._segments if segment.first < next_index]
        position = self._position(kept[-1], next_index) if kept else 0
        if len(kept) < len(self._segments):
            for segment in reversed(self._segments[len(kept) :]):
                self._disk.unlink(segment.path)
                self._unsynced.pop(segment.path, None)
            self._segments = kept
            _sync(self._disk.sync_dir, self._directory)
        if kept and position < kept[-1].size:
            self._disk.truncate(kept[-1].path, position)
            _sync(self._disk.sync, kept[-1].path)
            kept[-1].cut(position)

    def forget(self, covered: int, retain_bytes: int, wanted: int) -> None:
        """Remove the files at the front that nobody needs.  Raises OSError.

        Only those whose operations are all up to `covered`, the checkpoint's index; of them,
        `retain_bytes` stay, and of what somebody wants (from index `wanted` on) twice that, or
        WANTED_BYTES.
        """
        ends = [segment.first for segment in self._segments[1:]]  # the last file always stays
        past = [s for s, end in zip(self._segments, ends, strict=False) if end - 1 <= covered]
        kept, gone = sum(segment.size for segment in past), 0
        for segment, end in zip(past, ends, strict=False):
            limit = retain_bytes if end <= wanted else max(2 * retain_bytes, WANTED_BYTES)
            if kept - segment.size < limit:
                break
            kept -= segment.size
            gone += 1
        for segment in past[:gone]:  # lowest first: a stop in between leaves no gap
            self._disk.unlink(segment.path)
            self._unsynced.pop(segment.path, None)
            self._segments.pop(0)
            self.first_index = self._segments[0].first
            self._first_sum = self._segments[0].previous_sum or NO_SUM
            self._tail.forget(self.first_index)

    def unsynced_before(self, next_index: int) -> tuple[list[str], list[str]]:
        """The files and directories to sync so that what is below this index is durable."""
        files = [
            s.path for s in self._segments if s.first < next_index and s.path in self._unsynced
        ]
        return files, [self._directory] if self._names_unsynced else []

    def place_of(self, next_index: int) -> tuple[int | None, int]:
        """The file (by its first index) and position where the operation before this one ends.

        None and 0 where the log begins with it.
        """
        if next_index == self.first_index:
            return None, 0
        segment = self._holding(next_index - 1)
        return segment.first, self._position(segment, next_index)

    # -- Reading ----------------------------------------------------------------------------------

    def read(self, first: int, last: int, max_bytes: int) -> tuple[int, list[Buffer]]:
        """How many operations from `first` to `last` fit, at least one; and their bytes."""
        if first > last:
            return 0, []
        assert self.first_index <= first <= last < self.next_index, (first, last, self.next_index)
        if first >= self._tail.first:
            return self._tail.take(first, last, max_bytes)
        count, data, segment, start = self._read_file(first, last, max_bytes)
        try:
            prove_log(data, self._stated_sum_before(first), first, count)
        except BrokenLine as e:
            raise Damaged(segment.path, start, f"from operation {first} on: {e}") from e
        return count, [data]

    def _read_file(self, first: int, last: int, max_bytes: int) -> tuple[int, bytes, Segment, int]:
        """As `read`, not proved; and from where."""
        segment = self._holding(first)
        start = self._position(segment, first)
        following = min(last + 1, self._segment_end(segment))
        stop = (self._position(segment, following), following)
        data, next_index = segment.read(self._disk, start, stop, max_bytes, next_key=_after)
        if next_index <= first:
            raise Damaged(segment.path, start, f"operation {first} is not whole any more")
        return next_index - first, data, segment, start

    def _stated_sum_before(self, index: int) -> str:
        """As `sum_before`, but what the file says, proved or not."""
        if index == self.first_index:
            return self._first_sum
        if index == self._began[0]:
            return self._began[1]
        _, data, _, _ = self._read_file(index - 1, index - 1, 0)
        return sum_of(data[: data.find(b"\n") + 1])

    def load(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Like `read`, decoded."""
        entries: list[Entry] = []
        _, buffers = self.read(first, last, max_bytes)
        try:
            entries = split(b"".join(buffers))
        except BrokenLine as e:
            raise Damaged(self._holding(first).path, 0, f"from operation {first} on: {e}") from e
        return entries

    def entry(self, index: int) -> tuple[bytes, Buffer] | None:
        """An operation's line and body, if they are still in memory."""
        return self._tail.get(index)

    def sum_before(self, index: int) -> str:
        """The running sum of the operation before `index`, which may be the next index."""
        assert self.first_index <= index <= self.next_index, (index, self.next_index)
        if index == self.next_index:
            return self.sum
        if index == self.first_index:
            return self._first_sum
        if index == self._began[0]:  # a checkpoint said it, which the log need not be read for
            return self._began[1]
        if (held := self._tail.get(index - 1)) is not None:
            return sum_of(held[0])
        return sum_of(self.load(index - 1, index - 1, 0)[0].line)

    def _holding(self, index: int) -> Segment:
        number = bisect_right(self._segments, index, key=lambda segment: segment.first) - 1
        return self._segments[number]

    def _segment_end(self, segment: Segment) -> int:
        """The index after the segment's last one."""
        number = bisect_right(self._segments, segment.first, key=lambda held: held.first)
        held = self._segments[number:]
        return held[0].first if held else self.next_index

    def _position(self, segment: Segment, index: int) -> int:
        """Where an operation begins; for the index after the segment's last one, its end."""
        if index == self._segment_end(segment):
            return segment.size
        return segment.locate(self._disk, lambda head: head.index >= index, index)


def _after(head: Head) -> int:
    return head.index + 1


def _sync(sync: Callable[[str], None], path: str) -> None:
    try:
        sync(path)
    except OSError as e:
        raise SyncFailed(path, e) from e
