"""Which stretches of partition files are the log's, byte for byte: found without a look at them.

A partition's file has the batches that the log has of it, one behind the other.  So whoever has
proved a file of the log knows what a partition's file must hold, and where:

    the log                  t[0] 7   t[1] 8   t[0] 9   t[0] 10   t[1] 11
    topics/t/0/…41.jsonl     t[0] 7   t[0] 9   t[0] 10
    topics/t/1/…12.jsonl     t[1] 8   t[1] 11

A run is some of them: it is compared at once, instead of line by line.

Rules:

* A stretch that is alike needs no other proof, where the walk of its file comes to its beginning:
  what is in it was proved in the log.  What is not alike, or not found, is walked line by line, and
  only that walk says what is wrong.
* A run begins anew where a partition's file does, and when it has RUN_BYTES.  One that is not where
  it should be is looked for; what follows one that is nowhere is not compared before the log's next
  file: it may be another topic's, of the same name.
* Files are read as far as they reached before the log was read (audit.py).

It finds no fault but a gap in the log's offsets.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from yak.model import TopicPartition
from yak.storage.segment import Segment

#: How much is compared at a time: a read of so much costs far more than the call for it.
RUN_BYTES: Final = 256 * 1024


class PartitionFile(NamedTuple):
    """A partition's file as it was before the log was read.  first: its first offset."""

    first: int
    path: Path
    size: int
    inode: int


class Batch(Protocol):
    """What is needed of an `append`."""

    index: int
    topic: str
    partition: int
    offset: int
    count: int


@dataclass(slots=True)
class Stretch:
    """Batches that follow one another in a partition's file, from `start` up to `end`.

    next: the offset behind them.  index: of the last one.  last: where that one begins.
    """

    start: int
    end: int
    next: int
    index: int
    last: int


@dataclass(slots=True)
class _Run:
    """Batches of a partition in one file of the log: pieces of it.  size: of all of them."""

    offset: int
    next: int
    index: int
    size: int
    pieces: list[slice]
    last: int  # the size of the last one


@dataclass(slots=True)
class _Course:
    """A partition as the log goes on.  due: its next offset.  runs: of the file that is read."""

    due: int
    files: Sequence[PartitionFile]
    firsts: frozenset[int]
    runs: list[_Run] = field(default_factory=list)

    def files_up_to(self, run: _Run) -> int:
        """How many of the files begin at or before it: it stands in the last of these."""
        return bisect_right(self.files, run.offset, key=lambda file: file.first)


class Mirror:
    """stretches: what is alike, by file and by where it begins."""

    def __init__(self, files: Mapping[TopicPartition, Sequence[PartitionFile]]) -> None:
        self.stretches: dict[Path, dict[int, Stretch]] = {}
        self._files = files
        self._courses: dict[TopicPartition, _Course] = {}

    def append(self, line: Batch, start: int, end: int) -> str:
        """The log has a batch there.  What is wrong with its offset."""
        offset, where = line.offset, (line.topic, line.partition)
        course = self._courses.get(where)
        if course is None:
            files = self._files.get(where, ())
            course = _Course(offset, files, frozenset(one.first for one in files))
            self._courses[where] = course
        if offset != course.due:
            return f"offset {offset} of {where[0]}[{where[1]}] where {course.due} is next"
        course.due = due = offset + line.count
        if not course.firsts:
            return ""
        size, runs = end - start, course.runs
        if runs and (run := runs[-1]).size < RUN_BYTES and offset not in course.firsts:
            run.pieces.append(slice(start, end))
            run.next, run.index, run.last = due, line.index, size
            run.size += size
        else:
            runs.append(_Run(offset, due, line.index, size, [slice(start, end)], size))
        return ""

    def delete(self, topic: str) -> None:
        """One of this name begins anew."""
        for where in [where for where in self._courses if where[0] == topic]:
            del self._courses[where]

    def compare(self, data: bytes) -> None:
        """All that was appended since the last time stands in these bytes."""
        for course in self._courses.values():
            runs, course.runs = course.runs, []
            for number, some in groupby(runs, course.files_up_to):
                if number:
                    self._compare_file(course.files[number - 1], some, data)

    def _compare_file(self, file: PartitionFile, runs: Iterable[_Run], data: bytes) -> None:
        with suppress(FileNotFoundError), file.path.open("rb", buffering=0) as there:
            if os.fstat(there.fileno()).st_ino != file.inode:
                return
            for run in runs:
                due = b"".join([data[piece] for piece in run.pieces])
                if not self._is_alike(there.fileno(), file, run, due):
                    return

    def _is_alike(self, opened: int, file: PartitionFile, run: _Run, due: bytes) -> bool:
        known = self.stretches.setdefault(file.path, {})
        before = next(reversed(known.values()), None)
        if before is not None and before.next == run.offset:
            start = before.end
        elif run.offset == file.first:
            start, before = len(Segment("", file.first).header), None
        else:
            start, before = os.pread(opened, file.size, 0).find(due), None
        if start < 0 or start + run.size > file.size:
            return False
        if os.pread(opened, run.size, start) != due:
            return False
        end = start + run.size
        if before is None:
            known[start] = Stretch(start, end, run.next, run.index, end - run.last)
        else:
            before.end, before.next = end, run.next
            before.index, before.last = run.index, end - run.last
        return True
