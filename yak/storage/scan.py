"""What a log's files hold after a stop of any kind: the first phase of recovery, which reads only.

    what is found                                              | result
    -----------------------------------------------------------+--------------------------------
    every header, line, sum, index, epoch and body is right    | whole
    a last line or body that is incomplete or wrong, and       | torn: `cut` would remove it, and
    nothing valid after it, in its file or in a later one      | `why` and `cut_bytes` say what
    the same with something valid after it; a file missing     | Damaged is raised, nothing is cut
    a file of a format that this version does not know         | Fatal

A scan begins where a checkpoint says (`Point`): the files before are the past, kept for followers,
and are not read.  Where the log ends before the checkpoint, its end was lost; State has it, but
what followed may be missing: the log is torn, and begins anew after the checkpoint.

After a power cut without fsync=always it is expected that a part is missing before another: then
the log ends at the first fault.  Its broker is `unclean`, so that nothing relies on its log.

What is valid proves itself, as evidence.py has it.

The second phase, `Scan.cut`, is separate, because a broker first makes it durable that its log
was torn.  It removes the highest file first and syncs the directory before it cuts the file in
which the log now ends, so that a stop in between leaves a torn log and never a gap.  It also
removes a last file in which no operation is yet: the file made by a roll comes with its first
operation, or every replica's files would not be the same.

It does not decide what a torn or damaged log means for the broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from yak.core import ops
from yak.core.ops import NO_SUM, BrokenLine
from yak.errors import Fatal
from yak.messages import LogState
from yak.storage.chunk import SUM_TAIL_BYTES, Head, decode_head
from yak.storage.disk import UNFINISHED, Disk, append_all
from yak.storage.evidence import find_valid
from yak.storage.faults import Damaged
from yak.storage.segment import FORMAT, Header, Segment, file_name, list_segments

#: What is read at a time; an operation that is longer is read whole.
WINDOW_BYTES: Final = 4 * 1024 * 1024
#: A segment's first line is never longer.
MAX_HEADER_BYTES: Final = 256
_decode_header = msgspec.json.Decoder(Header).decode


class _Fault(NamedTuple):
    """Where the log stops being right.

    position: of the header, line or body's line that is wrong.  resume: where something valid
    could begin again.  sums: those from which a valid line could follow.
    """

    position: int
    what: str
    resume: int
    sums: tuple[str, ...]


class Point(NamedTuple):
    """Where a checkpoint leaves off.

    next_index: of the first operation after it; sum, epochs: at that point.
    file, position: where that operation begins in the log; None where the log begins with it.
    """

    next_index: int
    sum: str
    epochs: list[tuple[int, int]]
    file: int | None
    position: int


@dataclass(slots=True)
class Scan:
    """A log's state as its files have it.

    first_index: of the first operation that is, or will be, in the log; first_sum: the running
    sum before it.
    next_index, sum, epochs ((epoch, first index) of each): at the end, once what `cut` removes
    is gone.
    time: of the last operation that was proved here, in ms; 0 without one.
    began: where the scan did: the index after the checkpoint's, and the sum below it.
    segments: those that stay; `kept_bytes` of the last one, where its end is cut.
    dropped: paths of those that go, highest first.  cut_bytes: bytes of operations that go.
    behind: the log ended before the checkpoint.  why: what is wrong with the end; "" if nothing.
    """

    directory: str
    first_index: int = 1
    first_sum: str = NO_SUM
    next_index: int = 1
    sum: str = NO_SUM
    epochs: list[tuple[int, int]] = field(default_factory=list)
    time: int = 0
    began: tuple[int, str] = (1, NO_SUM)
    segments: list[Segment] = field(default_factory=list)
    kept_bytes: int | None = None
    dropped: list[str] = field(default_factory=list)
    cut_bytes: int = 0
    behind: bool = False
    why: str = ""

    @property
    def state(self) -> LogState:
        return "torn" if self.cut_bytes or self.behind else "whole"

    @property
    def epoch(self) -> int:
        """Of the last operation; 0 before the first."""
        return self.epochs[-1][0] if self.epochs else 0

    def cut(self, disk: Disk, rewrite_from: int | None = None) -> None:
        """Remove what is not whole, and make what stays durable.  May be repeated.

        rewrite_from: from this operation on an earlier sync failed, so that the system may
        wrongly hold the bytes for written: their files are written again under new names.
        """
        for path in self.dropped:
            if disk.exists(path):
                disk.unlink(path)
        disk.sync_dir(self.directory)
        if self.kept_bytes is not None:
            disk.truncate(self.segments[-1].path, self.kept_bytes)
        ends = [*(segment.first for segment in self.segments[1:]), self.next_index]
        for segment, end in zip(self.segments, ends, strict=False):
            if rewrite_from is not None and end > rewrite_from:
                _rewrite(disk, segment)
            disk.sync(segment.path)  # what a killed process wrote may be in the page cache only
        disk.sync_dir(self.directory)


def _rewrite(disk: Disk, segment: Segment) -> None:
    temporary = segment.path + UNFINISHED
    disk.write_file(temporary, b"")
    for position in range(0, segment.written, WINDOW_BYTES):
        append_all(disk, temporary, [disk.pread(segment.path, WINDOW_BYTES, position)])
    disk.sync(temporary)
    disk.rename(temporary, segment.path)


def scan(
    disk: Disk, directory: str, *, point: Point | None = None, after_power_cut: bool = False
) -> Scan:
    """Read a log and prove it.  Raises Damaged, Fatal, or the disk's OSError.

    point: where to begin.  after_power_cut: the log was not synced as it was written, and the
    machine stopped.
    """
    log = Scan(directory)
    firsts = list_segments(disk, directory)
    if point is not None:
        firsts = _begin_at(disk, log, firsts, point)
        if log.segments:
            fault = _prove_segment(disk, log.segments[-1], log)
            if fault is not None:
                _end_at(disk, log, log.segments.pop(), firsts, fault, after_power_cut)
                return log
    for number, first in enumerate(firsts):
        is_first = number == 0 and not log.segments
        segment, fault = _scan_header(disk, log, first, is_first=is_first and point is None)
        fault = fault or _prove_segment(disk, segment, log)
        if fault is not None:
            _end_at(disk, log, segment, firsts[number + 1 :], fault, after_power_cut)
            return log
        log.segments.append(segment)
    if log.segments and log.segments[-1].empty:
        log.dropped = [log.segments.pop().path, *log.dropped]
    return log


def _begin_at(disk: Disk, log: Scan, firsts: list[int], point: Point) -> list[int]:
    """Take over what lies before the point; the files that begin at or after it."""
    log.next_index, log.sum, log.epochs = point.next_index, point.sum, list(point.epochs)
    log.began = point.next_index, point.sum
    past = [first for first in firsts if first < point.next_index]
    rest = [first for first in firsts if first >= point.next_index]
    if point.file is None:  # they were forgotten before it, and came back with a power cut
        log.dropped = [f"{log.directory}/{file_name(first)}" for first in reversed(past)]
        past, holds = [], True
    elif past:
        holds = past[-1] == point.file
        holds = holds and disk.size(f"{log.directory}/{file_name(past[-1])}") >= point.position
    else:
        holds = bool(rest) and rest[0] == point.next_index
    if holds:
        for first in past:
            log.segments.append(_past_segment(disk, log, first, point))
    elif rest:
        path = f"{log.directory}/{file_name(rest[0])}"
        raise Damaged(path, 0, f"operations before it, from {point.next_index - 1} on, are gone")
    else:
        log.behind = True
        log.why = f"the log ends before operation {point.next_index - 1}, the checkpoint's"
        log.dropped = [f"{log.directory}/{file_name(first)}" for first in reversed(past)]
    if log.segments:
        oldest = log.segments[0]
        log.first_index, log.first_sum = oldest.first, oldest.previous_sum or NO_SUM
    else:
        log.first_index, log.first_sum = point.next_index, point.sum
    return rest


def _past_segment(disk: Disk, log: Scan, first: int, point: Point) -> Segment:
    """A file of which nothing, or only the end, has to be proved."""
    path = f"{log.directory}/{file_name(first)}"
    line = disk.pread(path, MAX_HEADER_BYTES, 0).partition(b"\n")[0] + b"\n"
    try:
        stated = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise Damaged(path, 0, f"not a segment's first line: {e}: {line[:200]!r}") from e
    _check_format(path, stated)
    segment = Segment(log.directory, first, stated.sum or NO_SUM)
    if line != segment.header:
        raise Damaged(path, 0, f"the first line should be {segment.header!r}, not {line[:200]!r}")
    goes_on = first == point.file
    segment.found(point.position if goes_on else disk.size(path), goes_on=goes_on)
    segment.written = disk.size(path)
    return segment


def _prove_segment(disk: Disk, segment: Segment, log: Scan) -> _Fault | None:
    fault = None
    while fault is None and segment.size < segment.written:
        fault = _prove_window(disk, segment, log)
    return fault


def _end_at(
    disk: Disk,
    log: Scan,
    segment: Segment,
    firsts: list[int],
    fault: _Fault,
    after_power_cut: bool,  # noqa: FBT001 -- handed through
) -> None:
    """The log ends at the fault, unless something valid follows it.  Raises Damaged."""
    later = [Segment(log.directory, first, NO_SUM) for first in firsts]
    if not after_power_cut:
        _refuse_if_valid_follows(disk, [segment, *later], fault, log.next_index)
    _plan_cut(disk, segment, later, fault, log)


def _scan_header(
    disk: Disk, log: Scan, first: int, *, is_first: bool
) -> tuple[Segment, _Fault | None]:
    """The first line must say what the name, and the log before it, say."""
    path = f"{log.directory}/{file_name(first)}"
    written = disk.size(path)
    line = disk.pread(path, MAX_HEADER_BYTES, 0).partition(b"\n")[0] + b"\n"
    what = ""
    try:
        stated = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        what = f"not a segment's first line: {e}: {line[:200]!r}"
    else:
        _check_format(path, stated)
        if is_first:
            log.first_index = log.next_index = first
            log.sum = log.first_sum = stated.sum if stated.sum and first > 1 else NO_SUM
    segment = Segment(log.directory, first, log.sum)
    segment.written = written
    if first != log.next_index:
        what = what or f"the file begins with operation {first}, but {log.next_index} is next"
    elif line != segment.header or len(line) > written:
        what = what or f"the first line should be {segment.header!r}, not {line[:200]!r}"
    return segment, _Fault(0, what, 0, (log.sum,)) if what else None


def _check_format(path: str, stated: Header) -> None:
    if stated.format != FORMAT:
        raise Fatal(
            f"{path}: format {stated.format}, but this version of yak reads format {FORMAT}; "
            "if a newer yak wrote it, start that one on this directory"
        )


def _prove_window(disk: Disk, segment: Segment, log: Scan) -> _Fault | None:
    """Prove the next operations, as many as a window holds whole; a longer one is read whole."""
    base, start, epoch = segment.size, 0, log.epoch
    data = disk.pread(segment.path, WINDOW_BYTES, base)
    while start < len(data):
        is_all = base + len(data) >= segment.written
        newline = data.find(b"\n", start)
        end = 2 * len(data)  # how much to read where not even the line is whole
        if newline >= 0 or is_all:
            line = data[start : newline + 1] if newline >= 0 else data[start:]
            try:
                running = ops.check_sum(line, log.sum)
                head = decode_head(line)
            except (BrokenLine, msgspec.MsgspecError, UnicodeDecodeError) as e:
                return _broken_line(base + start, line, log.sum, str(e))
            end = newline + 1 + head.size
            if end <= len(data) or is_all:
                if head.crc and ops.crc_of(data[newline + 1 : end]) != head.crc:
                    missing = max(end - len(data), 0)
                    return _broken_body(base + start, base + end, head, missing, running)
                if head.index != log.next_index or head.epoch != epoch:
                    _enter_epoch(segment, log, head)
                    epoch = head.epoch
                segment.add(head.index, end - start)
                log.next_index += 1
                log.sum, log.time = running, head.time
                start = end
                continue
        if start:
            return None
        data += disk.pread(segment.path, end - len(data), base + len(data))
    return None


def _enter_epoch(segment: Segment, log: Scan, head: Head) -> None:
    """An operation out of place whose sum is right was never written by this code."""
    if head.index != log.next_index or head.epoch < log.epoch:
        what = (
            f"operation {head.index} of epoch {head.epoch} where operation {log.next_index}"
            f" was due, after epoch {log.epoch}, though its sum is right"
        )
        raise Damaged(segment.path, segment.size, what)
    log.epochs.append((head.epoch, head.index))


def _broken_line(position: int, line: bytes, previous_sum: str, what: str) -> _Fault:
    """What follows it may follow from its right sum, if only the stated one was damaged."""
    right = ops.crc_of(previous_sum.encode() + line[:-SUM_TAIL_BYTES])
    return _Fault(position, what, position, (previous_sum, right))


def _broken_body(position: int, end: int, head: Head, missing: int, running: str) -> _Fault:
    what = f"the body of operation {head.index} does not have its crc {head.crc}"
    if missing:
        what = f"the body of operation {head.index} lacks {missing} of its {head.size} bytes"
    return _Fault(position, what, end, (running,))


def _refuse_if_valid_follows(
    disk: Disk, segments: list[Segment], fault: _Fault, index: int
) -> None:
    """Raise Damaged if one of the files, from the fault on, holds an operation that is proved."""
    start, sums = fault.resume, fault.sums
    for segment in segments:
        size = disk.size(segment.path)
        data = disk.pread(segment.path, max(size - start, 0), start)
        own = fault.position - start if segment is segments[0] else -1
        found = find_valid(data, sums, index, own)
        if found is not None:
            where = f"byte {start + found[0]} of {segment.path}"
            what = f"{fault.what}; yet a valid operation, {found[1]}, follows at {where}"
            raise Damaged(segments[0].path, fault.position, what)
        start = 0


def _plan_cut(disk: Disk, segment: Segment, later: list[Segment], fault: _Fault, log: Scan) -> None:
    """The log ends where the fault begins; a file of which nothing is left goes whole."""
    sizes = [disk.size(other.path) for other in later]
    log.cut_bytes = segment.written - fault.position + sum(sizes)
    log.why = f"{segment.path}, byte {fault.position}: {fault.what}"
    log.dropped = [*(other.path for other in reversed(later)), *log.dropped]
    if segment.empty:
        log.dropped.append(segment.path)
        return
    segment.cut(segment.size)
    log.kept_bytes = segment.size
    log.segments.append(segment)
