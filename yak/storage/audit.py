"""What one broker's files prove, read without a lock and without changing anything.

    of a log             every line's sum follows from the line before, indexes have no gap, epochs
                         do not fall, bodies have their crc, offsets have no gap
    of a partition file  bodies, offsets; and each batch is, byte for byte, the log's, as far as
                         the log still has it
    of a checkpoint      its crc; that the log has its sum at its index, and reaches so far; that
                         the partition files that it names are there, as long as it says
    of meta.json         its crc; that it is there

Rules:

* A `Fault` names the file, the position, and the lines that disagree.  Reading goes on with the
  next file: one fault hides no other.
* An unfinished operation at the very end of a log or a partition is no fault: a broker writes it
  just now, or was killed while it did.  Neither is a partition that ends before the log.  One that
  is all there and wrong is a fault, though a start would cut it; so is a log that ends before what
  a partition file or the checkpoint has of it.
* What a full copy is about to replace is not looked at: it may be half gone.
* Of what the log does not have any more, a partition file's lines are proved by one another, where
  they follow each other: else by their index, offset, size and crc alone.
* A broker that runs may write, cut, trim and delete meanwhile: its partition files are read as far
  as they reached before its log was read, and a file that is gone is passed over; not one that the
  checkpoint names, unless it lies in the trash, or the checkpoint is another one by now.

What several brokers' files say together is agreement.py's.  It mends nothing.  Log and partition
files are proved by one another, hence more than 400 lines; what is plainly the same in both is
mirror.py's.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from google_crc32c import value as crc32c

from yak.core import ops
from yak.core.ops import BrokenLine
from yak.model import TopicPartition
from yak.storage import checkpoint as checkpoints
from yak.storage.chunk import Unproved, prove, sum_of
from yak.storage.copy import INSTALLING
from yak.storage.data_dir import DAMAGED, check_json
from yak.storage.faults import Damaged
from yak.storage.mirror import Mirror, PartitionFile, Stretch
from yak.storage.segment import Header, Segment, file_name, first_of

#: How much of a line a fault shows.
SHOWN_BYTES: Final = 300
#: Said of a partition file; at the end of the last one it is no fault.
CUT_OFF: Final = "the file ends within a batch"
#: The same where it may not.
SHORT: Final = "the file ends within a batch that the checkpoint names"


class Line(msgspec.Struct, gc=False):
    """What an audit needs of an operation."""

    index: int
    epoch: int
    op: str
    broker: int = 0
    topic: str = ""
    partition: int = 0
    offset: int = 0
    count: int = 0
    size: int = 0
    crc: str = ""


_decode: Final = msgspec.json.Decoder(Line).decode
#: A line that is all there, and does not end as one.
_WHOLE: Final = re.compile(rb',"sum":"[0-9a-f]{8}"\}.', re.DOTALL)


class Fault(NamedTuple):
    """where: the files, with positions.  what: in words.  lines: those that disagree."""

    where: str
    what: str
    lines: list[str]


@dataclass(slots=True)
class Audit:
    """What one broker's files say.

    first: index of the first operation that the log has; first_sum: the sum before it; sums: of
    each operation from there on.
    places: of each file of the log: (its first index, its path, the positions of its lines).
    epochs: of each operation.  leads: epoch -> (broker, index).  shown: the highest index that a
    partition file or the checkpoint holds.  size: bytes that were read.
    named: of each partition file that is not seen whole, the bytes that the checkpoint names.
    torn: what is said of the log's end, where it is not whole, or of a copy that waits for the next
    start; no fault.
    """

    path: Path
    first: int = 1
    first_sum: str = ops.NO_SUM
    sums: array[int] = field(default_factory=lambda: array("I"))
    epochs: array[int] = field(default_factory=lambda: array("q"))
    places: list[tuple[int, Path, array[int]]] = field(default_factory=list)
    leads: dict[int, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    shown: int = 0
    records: int = 0
    size: int = 0
    torn: str = ""

    @property
    def next(self) -> int:
        """The index after the log's last operation."""
        return self.first + len(self.sums)

    def place(self, index: int) -> tuple[Path, int]:
        """Where the log has this operation: file and position."""
        first, path, positions = next(one for one in reversed(self.places) if one[0] <= index)
        return path, positions[index - first]

    def sum_at(self, index: int) -> str | None:
        """The running sum after this operation; None where the log does not have it."""
        if index == self.first - 1:
            return self.first_sum
        return f"{self.sums[index - self.first]:08x}" if self.first <= index < self.next else None


def audit(path: Path) -> Audit:
    """Read all of a broker's data directory.  What is wrong is in `faults`."""
    found = Audit(path)
    if (path / INSTALLING).is_dir():
        _audit_meta(found)
        found.torn = (
            f"{path / INSTALLING}: a full copy; the next start puts it in place of the rest"
        )
        return found
    checkpoint = _read(found, path / checkpoints.FILE_NAME)
    sizes = _partition_files(path / "topics")
    _audit_meta(found)
    mirror = Mirror(sizes)
    _audit_log(found, mirror)
    _audit_checkpoint(found, checkpoint)
    for where, files in sizes.items():
        _audit_partition(found, where, files, mirror)
    _audit_missing(found, checkpoint)
    return found


def _partition_files(topics: Path) -> dict[TopicPartition, list[PartitionFile]]:
    """Each partition's files, rising."""
    found: dict[TopicPartition, list[PartitionFile]] = {}
    for directory in (one for topic in _listed(topics) for one in _listed(topic)):
        if not directory.name.isdigit():
            continue
        files = found.setdefault((directory.parent.name, int(directory.name)), [])
        for path in _listed(directory):
            first = first_of(path.name)
            with suppress(FileNotFoundError):
                if first is not None:
                    there = path.stat()
                    files.append(PartitionFile(first, path, there.st_size, there.st_ino))
    return found


def _audit_meta(found: Audit) -> None:
    path = found.path / "meta.json"
    data = _read(found, path)
    if data is None:
        # The first start writes it first; what a broker set aside never had one.
        if (found.path / "oplog").exists() and found.path.parent.name != DAMAGED:
            found.faults.append(Fault(str(path), "it is not there; a start is refused", []))
        return
    try:
        check_json(data)
    except ValueError as e:
        found.faults.append(Fault(str(path), str(e), [shown(data[-200:])]))


# -- one broker's log -----------------------------------------------------------------------------


def _audit_log(found: Audit, mirror: Mirror) -> None:
    paths = [path for path in _listed(found.path / "oplog") if path.suffix == ".jsonl"]
    running = ops.NO_SUM
    for number, path in enumerate(paths):
        data = _read(found, path)
        if data is None:
            continue
        is_last = path is paths[-1]
        begun = _begin_segment(found, path, data, running, is_first=not found.places)
        if begun is None:
            if is_last and b"\n" not in data:
                found.torn = f"{path}: {len(data)} bytes, and not a whole header"
            else:
                raw = data[: data.find(b"\n") + 1]
                what = "it does not begin as a file of a log"
                found.faults.append(Fault(str(path), what, [shown(raw)]))
            return
        start, running = begun
        running, end, why = _walk_segment(found, data, start, running, mirror)
        mirror.compare(data)
        if not why:
            continue
        if is_last and _is_unfinished(found, data, end):
            found.torn = f"{path}, byte {end}: {why}; {len(data) - end} bytes at the end"
        else:
            raw = data[end : data.find(b"\n", end) + 1 or None]
            before = [shown_line(found, found.next - 1)] if found.sums else []
            found.faults.append(Fault(f"{path}, byte {end}", why, [*before, shown(raw)]))
        for rest in paths[number + 1 :]:
            found.faults.append(Fault(str(rest), f"it cannot be proved behind {path.name}", []))
        return


def _begin_segment(
    found: Audit, path: Path, data: bytes, running: str, *, is_first: bool
) -> tuple[int, str] | None:
    """Where its operations begin, and the sum before them.  None: there is no header."""
    end = data.find(b"\n") + 1
    try:
        header = msgspec.json.decode(data[:end], type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if header.sum is None or data[:end] != Segment("", header.first, header.sum).header:
        return None
    if is_first:
        found.first, found.first_sum = header.first, header.sum
    elif (header.first, header.sum) != (found.next, running):
        what = f"it begins with {header.first} and sum {header.sum}, not {found.next} and {running}"
        found.faults.append(Fault(str(path), what, [shown(data[:end])]))
    found.places.append((header.first, path, array("q")))
    return end, header.sum


def _walk_segment(
    found: Audit, data: bytes, start: int, running: str, mirror: Mirror
) -> tuple[str, int, str]:
    """The sum at its end, where it ends whole, and why it does not go on."""
    positions, sums, epochs = found.places[-1][2], found.sums, found.epochs
    try:
        for line, at, _, end, after in prove(
            data, start, running, found.next, epochs[-1] if epochs else 0, _decode
        ):
            if line.op == "append":
                why = mirror.append(line, at, end)
                if why:
                    return running, at, why
                found.records += line.count
            elif line.op == "lead":
                found.leads[line.epoch] = (line.broker, line.index)
            elif line.op == "delete_topic":
                mirror.delete(line.topic)
            positions.append(at)
            sums.append(int(after, 16))
            epochs.append(line.epoch)
            running, start = after, end
    except Unproved as e:
        return running, e.start, str(e)
    return running, start, ""


def _is_unfinished(found: Audit, data: bytes, start: int) -> bool:
    """Whether the rest is the beginning of an operation, and no more of it was ever written."""
    newline = data.find(b"\n", start) + 1
    if newline:
        with suppress(BrokenLine, msgspec.MsgspecError, UnicodeDecodeError):
            ops.check_sum(data[start:newline], found.sum_at(found.next - 1) or ops.NO_SUM)
            return newline + _decode(data[start:newline]).size > len(data)
        return False
    begins = b'{"index":%d,"epoch":' % found.next
    return data[start:].startswith(begins[: len(data) - start]) and not _WHOLE.search(data, start)


# -- one broker's checkpoint and partition files --------------------------------------------------


def _audit_checkpoint(found: Audit, data: bytes | None) -> None:
    path = found.path / checkpoints.FILE_NAME
    if data is None:
        if found.first != 1 and not path.exists():
            what = f"the log begins with {found.first}, and there is no checkpoint before it"
            found.faults.append(Fault(str(found.path), what, []))
        return
    try:
        checkpoint = checkpoints.decode(data, str(path))
    except Damaged as e:
        found.faults.append(Fault(str(path), e.what, []))
        return
    found.shown = checkpoint.index
    if not found.places and checkpoint.log_file is None:  # a full copy, and nothing since
        found.first, found.first_sum = checkpoint.index + 1, checkpoint.sum
    for row in checkpoint.partitions:
        for one in row.segments:
            found.named[f"{row.topic}/{row.partition}/{file_name(one.first)}"] = one.size
    if not found.faults and checkpoint.index >= found.next:
        what = f"it is at operation {checkpoint.index}, but the log ends at {found.next - 1}"
        found.faults.append(Fault(str(path), what, []))
    stated = found.sum_at(checkpoint.index)
    if stated is not None and stated != checkpoint.sum:
        what = f"at operation {checkpoint.index} it has the sum {checkpoint.sum}, the log {stated}"
        found.faults.append(Fault(str(path), what, [shown_line(found, checkpoint.index)]))


def _audit_partition(
    found: Audit, where: TopicPartition, files: Sequence[PartitionFile], mirror: Mirror
) -> None:
    offset = index = -1
    #: The file before is as at the checkpoint.  If some came back from the trash, a restart was cut
    #: short, which was to remove this one next; what came between them is the log's alone.
    put_back = False
    for number, (first, path, size, inode) in enumerate(files, 1):
        data = _read(found, path, size, inode)
        if data is None:
            continue
        name = f"{where[0]}/{where[1]}/{path.name}"
        named = found.named.get(name, 0)
        if not data and not named:
            continue
        found.files[name] = path
        goes_next = put_back and not named and _was_trimmed(found.path, where)
        if offset not in (-1, first) and not goes_next:
            what = f"it begins with offset {first} where {offset} is next"
            found.faults.append(Fault(str(path), what, []))
        put_back = len(data) == named
        alike = mirror.stretches.get(path, {})
        offset, index, fault = _walk_file(found, where, path, data, first, index, alike)
        if fault is not None and len(data) <= named and not _is_freed(found.path, name):
            fault = fault._replace(what=SHORT) if fault.what == CUT_OFF else fault
            del found.named[name]
        elif len(data) >= named:
            found.named.pop(name, None)
        torn = number == len(files) and fault is not None and fault.what == CUT_OFF
        if fault is not None and not torn:
            found.faults.append(fault)
    found.shown = max(found.shown, index)


def _audit_missing(found: Audit, checkpoint: bytes | None) -> None:
    """Files that the checkpoint names, and that are not all there, nor freed since."""
    missing = {name: _missing(found, name) for name in found.named}
    if any(missing.values()) and _read(found, found.path / checkpoints.FILE_NAME) == checkpoint:
        for name, what in missing.items():
            if what:
                found.faults.append(Fault(str(found.path / "topics" / name), what, []))


def _missing(found: Audit, name: str) -> str:
    """What is said of it; "" if it is freed, or there by now."""
    named, path = found.named[name], found.path / "topics" / name
    if _is_freed(found.path, name):
        return ""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"it is not there; the checkpoint names {named} bytes of it"
    return f"it has {size} bytes, fewer than the {named} of the checkpoint" if size < named else ""


def _was_trimmed(path: Path, where: TopicPartition) -> bool:
    """Whether files of it were freed since the last checkpoint."""
    return any((path / "trash").glob(f"*/segment/{where[0]}/{where[1]}"))


def _is_freed(path: Path, name: str) -> bool:
    """Whether it lies in the trash: one that is there besides is of a topic made again."""
    return any(any((path / "trash").glob(f"*/{kind}/{name}")) for kind in ("segment", "topic"))


def _walk_file(
    found: Audit,
    where: TopicPartition,
    path: Path,
    data: bytes,
    offset: int,
    index: int,
    alike: Mapping[int, Stretch],
) -> tuple[int, int, Fault | None]:
    """The next offset, the last index, the first fault.  alike: known for the log's (mirror.py)."""
    header = Segment("", offset).header
    if not data.startswith(header):
        return offset, index, _wrong_header(path, data, header)
    start, last = len(header), b""
    while start < len(data):
        newline = data.find(b"\n", start) + 1
        raw = data[start : newline or None]
        at = f"{path}, byte {start}"
        if not newline:
            return offset, index, Fault(at, CUT_OFF, [shown(raw)])
        try:
            line = _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            return offset, index, Fault(at, f"not an operation: {e}", [shown(raw)])
        end, why = newline + line.size, ""
        if line.op != "append" or (line.topic, line.partition) != where:
            why = f"not a batch of {where[0]}[{where[1]}]"
        elif end > len(data):
            unlike = _unlike_the_log(found, line, raw, at)
            return offset, index, unlike or Fault(at, CUT_OFF, [shown(raw)])
        elif f"{crc32c(data[newline:end]):08x}" != line.crc:
            why = f"the body of operation {line.index} does not have the crc {line.crc}"
        elif line.offset != offset:
            why = f"offset {line.offset} where {offset} is next"
        elif line.index <= index:
            why = f"operation {line.index} after operation {index}"
        if why:
            return offset, index, Fault(at, why, [shown(raw)])
        unlike = _unlike_the_log(found, line, raw, at)
        unlike = unlike or _unlike_the_last(line, raw, index, last, at)
        if unlike is not None:
            return offset, index, unlike
        stretch = alike.get(start)
        if stretch is None or stretch.end > len(data):
            offset, index, start, last = line.offset + line.count, line.index, end, raw
        else:
            offset, index, start = stretch.next, stretch.index, stretch.end
            last = data[stretch.last : data.find(b"\n", stretch.last) + 1]
    return offset, index, None


def _wrong_header(path: Path, data: bytes, header: bytes) -> Fault:
    if header.startswith(data):
        return Fault(str(path), CUT_OFF, [shown(data)])
    what = f"it does not begin with {header.decode().rstrip()}"
    return Fault(str(path), what, [shown(data[: data.find(b"\n") + 1])])


def _unlike_the_last(line: Line, raw: bytes, index: int, last: bytes, at: str) -> Fault | None:
    """Whether it follows from the line before it in the file, where that is the log's, too."""
    if last and line.index == index + 1:
        try:
            ops.check_sum(raw, sum_of(last))
        except BrokenLine as e:
            return Fault(at, str(e), [shown(last), shown(raw)])
    return None


def _unlike_the_log(found: Audit, line: Line, raw: bytes, at: str) -> Fault | None:
    """Whether the log has these very bytes, where it has this operation."""
    before = found.sum_at(line.index - 1)
    if before is None or line.index >= found.next:
        if line.index >= found.next and not found.faults:
            what = f"operation {line.index}, but the log ends at {found.next - 1}"
            return Fault(at, what, [shown(raw)])
        return None
    try:
        if ops.check_sum(raw, before) == found.sum_at(line.index):
            return None
    except BrokenLine:
        pass
    path, position = found.place(line.index)
    what = f"operation {line.index} is another one in the log: {path}, byte {position}"
    return Fault(at, what, [shown(raw), shown_line(found, line.index)])


# -- files ----------------------------------------------------------------------------------------


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(found: Audit, path: Path, size: int = -1, inode: int | None = None) -> bytes | None:
    """All of it, or so much; None where it is gone, or another one has its name."""
    try:
        with path.open("rb") as file:
            if inode not in (None, os.fstat(file.fileno()).st_ino):
                return None
            data = file.read(size)
    except FileNotFoundError:
        return None
    found.size += len(data)
    return data


def shown_line(found: Audit, index: int) -> str:
    """The log's line of this operation, as a fault shows it."""
    path, position = found.place(index)
    try:
        with path.open("rb") as file:
            file.seek(position)
            return shown(file.readline())
    except FileNotFoundError:
        return f"operation {index}, which was cut from the log meanwhile"


def shown(raw: bytes) -> str:
    text = raw.rstrip(b"\n").decode(errors="replace")
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}…"
