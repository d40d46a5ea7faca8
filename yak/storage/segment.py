"""A segment: one file of operations, and the marks by which one finds one's way in it.

    00000000000000000041.jsonl      the name: its first key, in twenty digits
    {"format":1,"first":41}         its first line; a log's also has the sum before it
    {"index":…}                     then operations, each with its body

A key is what the file counts by: an operation's index in a log, an offset in a partition.
Marks are a sparse index in memory: about every MARK_BYTES, the key of an operation and the
position where it begins.  So finding an operation reads at most one such stretch, and a large
read ends at a mark without a look at the lines in between.  A file that a restart found as a
checkpoint names it is marked from its beginning as far as somebody reads, so that a start reads
none of it.  In a log's file that goes on behind the checkpoint, marks begin there: what it covers
is read only for whoever asks for it, and where it is damaged, nothing else suffers.

    Invariant: `keys` and `positions` rise together; the first mark is the first operation, or the
    first behind the checkpoint.
    Invariant: the marks are complete from there up to `marked`; marked <= size.
    Invariant: written <= size; both stand between two operations.

A segment does not decide when to roll, and knows nothing of other segments.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from yak.core.ops import BrokenLine
from yak.storage.chunk import Head, Step, walk
from yak.storage.disk import Disk
from yak.storage.faults import Damaged

FORMAT: Final = 1
#: The distance of two marks: what one look-up reads and steps through at most, beside one
#: operation.  Sixteen KiB is some 80 small operations, 0.1 ms.
MARK_BYTES: Final = 16 * 1024

#: How much of an old file is read at a time to mark it.
MARKING_BYTES: Final = 1024 * 1024

_NAME = re.compile(r"(\d{20})\.jsonl")


class Header(msgspec.Struct, omit_defaults=True):
    """A segment's first line.  sum: of the operation before the first one, in a log."""

    format: int
    first: int
    sum: str | None = None


class Extent(NamedTuple):
    """What a read found: whole operations, and the key that follows them."""

    data: bytes
    next_key: int


def file_name(first: int) -> str:
    return f"{first:020d}.jsonl"


def first_of(name: str) -> int | None:
    """The first key of the segment with this file name; None where it is none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def list_segments(disk: Disk, directory: str) -> list[int]:
    """The first keys of the segments in a directory, rising; other files are not ours."""
    found = map(first_of, disk.listdir(directory))
    return [first for first in found if first is not None]


class Segment:
    """One file.

    previous_sum: of the operation before the first one, in a log; None in a partition.
    size: bytes, header included, with what waits to be written.  written: bytes in the file;
    0 before the file exists.  times: the operations' times at the marks.  first_time, last_time:
    of the first and of the last operation.  marked: up to which position the marks are complete.
    """

    __slots__ = (
        "first",
        "first_time",
        "header",
        "keys",
        "last_time",
        "marked",
        "path",
        "positions",
        "previous_sum",
        "size",
        "times",
        "written",
    )

    def __init__(self, directory: str, first: int, previous_sum: str | None = None) -> None:
        self.first = first
        self.path = f"{directory}/{file_name(first)}"
        self.previous_sum = previous_sum
        self.header = msgspec.json.encode(Header(FORMAT, first, previous_sum)) + b"\n"
        self.size = self.marked = len(self.header)
        self.written = 0
        self.first_time = self.last_time = 0
        self.keys = array("q")
        self.positions = array("q")
        self.times = array("q")

    def found(
        self, size: int, first_time: int = 0, last_time: int = 0, *, goes_on: bool = False
    ) -> None:
        """The file was there at a restart, with this many bytes of whole operations.

        goes_on: those behind it are proved, and are what will be read.
        """
        assert self.empty
        assert size > len(self.header)
        self.size = self.written = size
        if goes_on:
            self.marked = size
        self.first_time, self.last_time = first_time, last_time

    @property
    def empty(self) -> bool:
        """Whether there is no operation in it."""
        return self.size == len(self.header)

    def add(self, key: int, size: int, time: int = 0) -> None:
        """An operation of `size` bytes comes at the end."""
        if self.empty:
            self.first_time = time
        if self.marked == self.size:  # else it is marked when somebody reads so far
            self._mark(key, self.size, time)
            self.marked += size
        self.size += size
        self.last_time = time

    def _mark(self, key: int, position: int, time: int) -> None:
        if not self.positions or position - self.positions[-1] >= MARK_BYTES:
            self.keys.append(key)
            self.positions.append(position)
            self.times.append(time)

    def _mark_until(
        self, disk: Disk, *, key: int | None = None, position: int | None = None
    ) -> None:
        """Complete the marks up to this key or position, or to the end of what is written."""
        if (not self.keys or (key is not None and key < self.keys[0])) and self.size > len(
            self.header
        ):
            self._mark_anew()
        while self.marked < self.written:
            if position is not None and self.marked >= position:
                return
            if key is not None and self.keys and self.keys[-1] > key:
                return
            start, size = self.marked, MARKING_BYTES
            while self.marked == start:
                data = disk.pread(self.path, min(size, self.written - start), start)
                for step in self._steps(data, start):
                    head = step.head
                    self._mark(self._key(head), start + step.start, head.time)
                    self.marked = start + step.end
                if self.marked == start and len(data) < size:
                    raise Damaged(self.path, start, "the file ends within an operation")
                size *= 8  # one operation is longer than what was read

    def _mark_anew(self) -> None:
        """From the beginning: somebody asks for what a checkpoint covers."""
        del self.keys[:], self.positions[:], self.times[:]
        self.marked = len(self.header)

    def cut(self, position: int) -> None:
        """Forget what lies from `position` on; the file is the caller's to cut."""
        assert len(self.header) <= position <= self.size, (position, self.size)
        kept = bisect_left(self.positions, position)
        del self.keys[kept:], self.positions[kept:], self.times[kept:]
        self.size = self.written = position
        self.marked = min(self.marked, position)

    def locate(self, disk: Disk, reached: Callable[[Head], bool], key: int) -> int:
        """The position of the operation that holds `key`: the first that `reached` accepts.

        Raises Damaged where it is not there, since what is asked for was written.
        """
        self._mark_until(disk, key=key)
        mark = max(bisect_right(self.keys, key) - 1, 0)
        if self.keys[mark] == key:
            return self.positions[mark]  # no need to look: what is read from there is proved
        found = self._find(disk, mark, reached)
        if found is None:
            raise Damaged(self.path, self.positions[mark], f"{key} is not there any more")
        return found[1]

    def find_time(self, disk: Disk, at_ms: int) -> Head | None:
        """The first written operation with time >= `at_ms`."""
        self._mark_until(disk)
        mark = max(bisect_left(self.times, at_ms) - 1, 0)
        found = self._find(disk, mark, lambda head: head.time >= at_ms)
        return found[0] if found else None

    def _find(
        self, disk: Disk, mark: int, reached: Callable[[Head], bool]
    ) -> tuple[Head, int] | None:
        """Step from a mark through what is written up to the first operation to be accepted."""
        start, end = self.positions[mark], min(self.marked, self.written)
        while start < end:
            mark = bisect_right(self.positions, start)
            data = disk.pread(self.path, self._boundary(mark) - start, start)
            for step in self._steps(data, start):
                if reached(step.head):
                    return step.head, start + step.start
            start = self._boundary(mark)
        return None

    def read(
        self,
        disk: Disk,
        start: int,
        stop: tuple[int, int],
        max_bytes: int,
        *,
        next_key: Callable[[Head], int],
        at_least_one: bool = True,
    ) -> Extent:
        """Whole operations from position `start`: at most `max_bytes`, none from `stop` on.

        stop: a position between two operations, and the key that follows there.
        """
        end, key = stop
        if end - start <= max_bytes:
            return Extent(disk.pread(self.path, end - start, start), key)
        self._mark_until(disk, position=start + max_bytes + 1)
        mark = bisect_right(self.positions, start + max_bytes) - 1
        if self.positions[mark] > start:
            size = self.positions[mark] - start
            return Extent(disk.pread(self.path, size, start), self.keys[mark])
        data = disk.pread(self.path, min(self._boundary(mark + 1), end) - start, start)
        size, key = 0, -1
        for step in self._steps(data, start):
            if size and self._key(step.head) != key:
                raise Damaged(self.path, start + size, f"{key} should stand here")
            if step.end > max_bytes and (size or not at_least_one):
                break
            size, key = step.end, next_key(step.head)
        else:  # the whole stretch
            following = self.keys[mark + 1] if mark + 1 < len(self.keys) else key
            if start + size == end:
                following = stop[1]
            if size != len(data) or key != following:
                raise Damaged(self.path, start, f"up to {following} it is not what was written")
        return Extent(data[:size], key)

    def _key(self, head: Head) -> int:
        return head.offset if self.previous_sum is None else head.index

    def _steps(self, data: bytes, start: int) -> Iterator[Step]:
        try:
            yield from walk(data)
        except BrokenLine as e:
            raise Damaged(self.path, start, str(e)) from e

    def _boundary(self, mark: int) -> int:
        """Where the stretch before a mark ends."""
        end = self.positions[mark] if mark < len(self.positions) else self.marked
        return min(end, self.written)
