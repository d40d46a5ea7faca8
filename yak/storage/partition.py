"""One partition's committed records: segments of the very bytes that the log holds.

    topics/orders/2/00000000000000000041.jsonl
      {"format":1,"first":41}
      {"index":18,…,"op":"append","topic":"orders","partition":2,"offset":41,"count":2,…}
      {"key":"a","value":1}
      {"key":"b","value":{"x":2}}

Rules:

* Only what is committed comes here, in the log's order; so nothing is ever cut.
* Written lazily: an append is held in memory, and served from there, until `flush` writes all
  that waits in one write a file.  The log can write it again, so nothing is synced here.
* Where the disk refuses a flush, the file is cut back, what waits goes on waiting and being
  served, and a later flush tries again: what is committed is never refused.
* A file is made by the first flush that has something for it.
* What is read from a file is proved before it is sent, as far as chunk.py can: each body against
  its crc, each line as one of this partition.
* What `trim` frees is not removed here: its paths are handed back, for the trash.
* `row` is the partition as a checkpoint has it, and `restored` makes it again from that.

    Invariant: offsets have no gap; what waits follows what is in the files.

It does not know topics, logs, or who may read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from yak.core.ops import Append, BrokenLine
from yak.storage.chunk import Head, prove_appends
from yak.storage.disk import Buffer, Disk, append_whole
from yak.storage.faults import Damaged, StorageError, Trimmed
from yak.storage.segment import Segment, file_name, list_segments

#: A topic's `segment_bytes` where it sets none.
DEFAULT_SEGMENT_BYTES: Final = 64 * 1024 * 1024
#: What waits is written once it is this much, or when the broker's short flush timer ends.  Nobody
#: is answered while it is, up to 3 ms; of less at a time more writes meet a checkpoint's sync, and
#: may wait 10 to 40 ms for it: a quarter of it was no better for those who wait.
FLUSH_BYTES: Final = 1024 * 1024
#: How many ends of reads are remembered: a consumer's next read begins where one ended.
REMEMBERED_ENDS: Final = 32
#: How much of a file's end is looked at first to find its last operation.
LOOK_BACK_BYTES: Final = 64 * 1024

_OPERATION: Final = b'{"index":'


class _Line(msgspec.Struct):
    index: int
    op: str
    value: Raw | UnsetType = UNSET


_decode_line = msgspec.json.Decoder(_Line).decode


class Unsynced:
    """Files that were written to, and directories in which names were made, since a checkpoint.

    What was synced before it is noted again is synced again.  Kept in the order of noting.
    """

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self.directories: dict[str, None] = {}

    def take(self) -> tuple[list[str], list[str]]:
        """All that was noted; from now on it counts as taken care of."""
        taken = list(self.files), list(self.directories)
        self.files.clear()
        self.directories.clear()
        return taken


class SegmentRow(NamedTuple):
    """A partition's file in a checkpoint.

    size: bytes, header included.  first_time, last_time: of its first and its last operation.
    """

    first: int
    size: int
    first_time: int
    last_time: int


class PartitionRow(NamedTuple):
    """A partition in a checkpoint: what its files held, and no more of them counts.

    last_index: of its last operation; 0 where there never was one.
    """

    topic: str
    partition: int
    next_offset: int
    last_index: int
    segments: list[SegmentRow]


class _Waiting(NamedTuple):
    """An operation that is not in its file yet.  end: the offset after its last record."""

    segment: Segment
    offset: int
    end: int
    time: int
    line: bytes
    body: Buffer


class Partition:
    """See the module.  A new one begins empty: the log writes it.

    next_offset: after the last record.  start_offset: of the first one that is still here.
    last_index: of the last operation.  waiting_bytes: held in memory until the next flush.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        unsynced: Unsynced | None = None,
    ) -> None:
        self._disk = disk
        self._directory = directory
        topic, number = directory.split("/")[-2:]
        self._name = topic, int(number)
        self._unsynced = unsynced if unsynced is not None else Unsynced()
        self._segments: list[Segment] = []
        self._waiting: list[_Waiting] = []
        self._ends: dict[int, int] = {}  # offset after a read -> its position in its segment
        self.segment_bytes = segment_bytes
        self.next_offset = 0
        self.last_index = 0
        self.waiting_bytes = 0

    def restore(self, row: PartitionRow) -> None:
        """Be what a checkpoint says; the files were put back to it."""
        assert not self.next_offset
        for first, size, first_time, last_time in row.segments:
            segment = Segment(self._directory, first)
            segment.found(size, first_time, last_time)
            self._segments.append(segment)
        self.next_offset = row.next_offset
        self.last_index = row.last_index

    def row(self, topic: str, number: int) -> PartitionRow:
        """What a checkpoint must know.  Nothing may wait to be written."""
        assert not self._waiting
        segments = [
            SegmentRow(one.first, one.written, one.first_time, one.last_time)
            for one in self._segments
        ]
        return PartitionRow(topic, number, self.next_offset, self.last_index, segments)

    @property
    def start_offset(self) -> int:
        return self._segments[0].first if self._segments else self.next_offset

    # -- Writing ----------------------------------------------------------------------------------

    def append(self, op: Append, line: bytes, body: Buffer) -> None:
        """Take a committed operation; it can be read at once."""
        assert op.offset == self.next_offset or not self._segments, (op, self.next_offset)
        assert op.index > self.last_index, (op, self.last_index)
        size = len(line) + len(body)
        segment = self._segments[-1] if self._segments else None
        if segment is None or (segment.size + size > self.segment_bytes and not segment.empty):
            segment = Segment(self._directory, op.offset)
            self._segments.append(segment)
        segment.add(op.offset, size, op.time)
        end = op.offset + op.count
        self._waiting.append(_Waiting(segment, op.offset, end, op.time, line, body))
        self.waiting_bytes += size
        self.next_offset = end
        self.last_index = op.index

    def flush(self) -> None:
        """Write what waits.  Raises StorageError; then it goes on waiting."""
        while self._waiting:
            segment = self._waiting[0].segment
            count = bisect_right(self._waiting, segment.first, key=lambda one: one.segment.first)
            buffers: list[Buffer] = [] if segment.written else [segment.header]
            for waiting in self._waiting[:count]:
                buffers.append(waiting.line)
                if waiting.body:
                    buffers.append(waiting.body)
            try:
                if not segment.written:
                    self._disk.mkdir(self._directory)
                    self._note_names()
                append_whole(self._disk, segment.path, buffers, segment.written)
            except OSError as e:
                what = f"{segment.path}: {e.strerror or e}"
                raise StorageError(f"{what}; records wait in memory until there is room") from e
            written = sum(map(len, buffers))
            self.waiting_bytes -= written - (0 if segment.written else len(segment.header))
            segment.written += written
            self._unsynced.files[segment.path] = None
            del self._waiting[:count]

    def _note_names(self) -> None:
        """A file comes into our directory, and that may be new in the topic's."""
        topic = self._directory.rpartition("/")[0]
        for path in (self._directory, topic, topic.rpartition("/")[0]):
            self._unsynced.directories[path] = None

    def trim(self, before: int) -> list[str]:
        """Forget the segments whose records are all below `before`; the paths of their files."""
        freed: list[str] = []
        while self._segments:
            following = self._segments[1].first if len(self._segments) > 1 else self.next_offset
            if following > before:
                break
            segment = self._segments.pop(0)
            count = bisect_right(self._waiting, segment.first, key=lambda one: one.segment.first)
            for waiting in self._waiting[:count]:  # nobody will read it any more
                self.waiting_bytes -= len(waiting.line) + len(waiting.body)
            del self._waiting[:count]
            if segment.written:
                freed.append(segment.path)
        self._ends.clear()
        return freed

    def trim_point(self, older_than_ms: int | None, more_than_bytes: int | None) -> int:
        """Where to `trim`, so that what stays is younger, and no more than needed: see retention.

        It is the beginning of a segment, or the end: all may be too old.
        """
        left = sum(segment.size for segment in self._segments) if more_than_bytes is not None else 0
        for segment in self._segments:
            left -= segment.size
            too_old = older_than_ms is not None and segment.last_time < older_than_ms
            too_much = more_than_bytes is not None and left >= more_than_bytes
            if not (too_old or too_much):
                return segment.first
        return self.next_offset

    # -- Reading ----------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> list[Buffer]:
        """Whole operations from the first whose last offset >= `offset`, up to `max_bytes`.

        at_least_one: the first one comes even if it is longer than that.  Raises Trimmed.
        """
        if offset < self.start_offset:
            raise Trimmed(self._directory, offset, self.start_offset)
        if offset >= self._written_end or not self._segments[0].written:
            return self._read_waiting(offset, max_bytes, at_least_one=at_least_one)
        above = bisect_right(self._segments, offset, key=lambda segment: segment.first)
        number = max(above - 1, 0)
        segment = self._segments[number]
        start = self._ends.get(offset)
        if start is None:
            start = segment.locate(self._disk, lambda head: _end(head) > offset, offset)
        following = self._segments[number + 1 : number + 2]
        end = min(following[0].first if following else self.next_offset, self._written_end)
        stop = (segment.written, end)
        data, next_offset = segment.read(
            self._disk, start, stop, max_bytes, next_key=_end, at_least_one=at_least_one
        )
        if not data:
            return []
        self._prove(data, segment.path, start, (offset, next_offset))
        if next_offset == self._written_end:
            rest = max_bytes - len(data)
            return [data, *self._read_waiting(next_offset, rest, at_least_one=False)]
        if next_offset != end:
            self._remember(next_offset, start + len(data))
        return [data]

    def _prove(self, data: bytes, path: str, start: int, offsets: tuple[int, int]) -> None:
        """What is sent must be what was written.

        offsets: the one that was asked for, and the one that follows: a line that was changed may
        have misled the search for them.
        """
        try:
            proved = prove_appends(data, *self._name)
        except BrokenLine as e:
            raise Damaged(path, start, str(e)) from e
        asked, following = offsets
        if proved.end != len(data):
            what = "not the operations that were written here"
            raise Damaged(path, start + proved.end, what)
        if proved.first > asked or proved.next != following:
            what = f"offsets {proved.first} up to {proved.next}, not {asked} up to {following}"
            raise Damaged(path, start, what)

    def find_time(self, at_ms: int) -> int | None:
        """The offset of the first operation with time >= `at_ms`."""
        number = bisect_left(self._segments, at_ms, key=lambda segment: segment.first_time)
        if number and self._segments[number - 1].written:
            found = self._segments[number - 1].find_time(self._disk, at_ms)
            if found is not None:
                return found.offset
        if number < len(self._segments) and self._segments[number].written:
            return self._segments[number].first
        at = bisect_left(self._waiting, at_ms, key=lambda waiting: waiting.time)
        return self._waiting[at].offset if at < len(self._waiting) else None

    @property
    def _written_end(self) -> int:
        """The offset after the last record that is in a file; 0 where there is no file."""
        if not self._segments:
            return 0
        return self._waiting[0].offset if self._waiting else self.next_offset

    def _read_waiting(self, offset: int, max_bytes: int, *, at_least_one: bool) -> list[Buffer]:
        buffers: list[Buffer] = []
        first = bisect_right(self._waiting, offset, key=lambda waiting: waiting.end)
        for number in range(first, len(self._waiting)):
            waiting = self._waiting[number]
            max_bytes -= len(waiting.line) + len(waiting.body)
            if max_bytes < 0 and (buffers or not at_least_one):
                break
            buffers.append(waiting.line)
            if waiting.body:
                buffers.append(waiting.body)
        return buffers

    def _remember(self, offset: int, position: int) -> None:
        if len(self._ends) >= REMEMBERED_ENDS:
            del self._ends[next(iter(self._ends))]
        self._ends[offset] = position


def last_index_on_disk(disk: Disk, directory: str) -> int:
    """The highest index that a partition's files hold, in a whole line; 0 where there is none.

    The last line may have lost its body, or the end of it: its index counts all the same.
    """
    for first in reversed(list_segments(disk, directory)):
        path = f"{directory}/{file_name(first)}"
        size = disk.size(path)
        look_back = LOOK_BACK_BYTES
        while True:
            start = max(size - look_back, 0)
            index = _last_index(disk.pread(path, size - start, start))
            if index:
                return index
            if not start:
                break
            look_back *= 8
    return 0


def _last_index(data: bytes) -> int:
    """The index of the last line that is an append; a record's line always has a `value`."""
    end = len(data)
    while (start := data.rfind(_OPERATION, 0, end)) >= 0:
        line = data[start : data.find(b"\n", start) + 1]
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            head = _decode_line(line)
            if head.op == "append" and head.value is UNSET:
                return head.index
        end = start
    return 0


def _end(head: Head) -> int:
    """The offset after an operation's last record."""
    return head.offset + head.count
