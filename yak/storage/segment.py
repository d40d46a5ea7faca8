"""A segment: one file of operations, and the marks by which one finds one's way in it.

    00000000000000000041.jsonl      the name: its first key, in twenty digits
    {"format":1,"first":41}         its first line; a log's also has the sum before it
    {"index":…}                     then operations, each with its body

A key is what the file counts by: an operation's index in a log, an offset in a partition.
Marks are a sparse index in memory: about every MARK_BYTES, the key of an operation and the
position where it begins.  So finding an operation reads at most one such stretch, and a large
read ends at a mark without a look at the lines in between.

    Invariant: `keys` and `positions` rise together; the first mark is the first operation.
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


def list_segments(disk: Disk, directory: str) -> list[int]:
    """The first keys of the segments in a directory, rising; other files are not ours."""
    found = (_NAME.fullmatch(name) for name in disk.listdir(directory))
    return [int(match[1]) for match in found if match]


class Segment:
    """One file.

    size: bytes, header included, with what waits to be written.  written: bytes in the file;
    0 before the file exists.  times: the operations' times at the marks, where asked for.
    last_time: of the last operation.
    """

    __slots__ = (
        "first",
        "header",
        "keys",
        "last_time",
        "path",
        "positions",
        "size",
        "times",
        "written",
    )

    def __init__(self, directory: str, first: int, previous_sum: str | None = None) -> None:
        self.first = first
        self.path = f"{directory}/{file_name(first)}"
        self.header = msgspec.json.encode(Header(FORMAT, first, previous_sum)) + b"\n"
        self.size = len(self.header)
        self.written = 0
        self.keys = array("q")
        self.positions = array("q")
        self.times = array("q")
        self.last_time = 0

    @property
    def empty(self) -> bool:
        """Whether there is no operation in it."""
        return self.size == len(self.header)

    def add(self, key: int, size: int, time: int = 0) -> None:
        """An operation of `size` bytes comes at the end."""
        if not self.positions or self.size - self.positions[-1] >= MARK_BYTES:
            self.keys.append(key)
            self.positions.append(self.size)
            self.times.append(time)
        self.size += size
        self.last_time = time

    def cut(self, position: int) -> None:
        """Forget what lies from `position` on; the file is the caller's to cut."""
        assert len(self.header) <= position <= self.size, (position, self.size)
        kept = bisect_left(self.positions, position)
        del self.keys[kept:], self.positions[kept:], self.times[kept:]
        self.size = self.written = position

    def locate(self, disk: Disk, reached: Callable[[Head], bool], key: int) -> int:
        """The position of the operation that holds `key`: the first that `reached` accepts.

        Raises Damaged where it is not there, since what is asked for was written.
        """
        mark = max(bisect_right(self.keys, key) - 1, 0)
        found = self.find(disk, mark, reached)
        if found is None:
            raise Damaged(self.path, self.positions[mark], f"{key} is not there any more")
        return found[1]

    def find(
        self, disk: Disk, mark: int, reached: Callable[[Head], bool]
    ) -> tuple[Head, int] | None:
        """Step from a mark through what is written up to the first operation to be accepted."""
        start = self.positions[mark]
        while start < self.written:
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
        mark = bisect_right(self.positions, start + max_bytes) - 1
        if self.positions[mark] > start:
            size = self.positions[mark] - start
            return Extent(disk.pread(self.path, size, start), self.keys[mark])
        data = disk.pread(self.path, min(self._boundary(mark + 1), end) - start, start)
        size, key = 0, -1
        for step in self._steps(data, start):
            if step.end > max_bytes and (size or not at_least_one):
                break
            size, key = step.end, next_key(step.head)
        return Extent(data[:size], key)

    def _steps(self, data: bytes, start: int) -> Iterator[Step]:
        try:
            yield from walk(data)
        except BrokenLine as e:
            raise Damaged(self.path, start, str(e)) from e

    def _boundary(self, mark: int) -> int:
        """Where the stretch before a mark ends."""
        end = self.positions[mark] if mark < len(self.positions) else self.written
        return min(end, self.written)
