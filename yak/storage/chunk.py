"""Operations as bytes: one after the other, a line each, and for `append` its body behind it.

    {"index":18,…,"op":"append",…,"size":57,…,"sum":"4c1d22e0"}\\n     the line
    {"key":"a","value":1}\\n{"key":"b","value":{"x":2}}\\n              its body, 57 bytes

* `parse_chunk` proves a whole chunk, as a leader sent it: sums, indexes, epochs, bodies.
* `prove` does so as far as it can, and says where it cannot go on: for whoever reads a log without
  having written it.  A start, which reads in windows and tells torn from damaged, is scan.py's.
* `walk` steps over operations that were proved before, as fast as Python steps: it is for
  bytes that this process wrote itself.

It does not know where in which file they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec
from google_crc32c import value as crc32c

from yak.core import ops
from yak.core.ops import BrokenLine, Op
from yak.storage.disk import Buffer

#: Where in a line its running sum stands: …,"sum":"4c1d22e0"}\n
_SUM: Final = slice(-11, -3)
#: What follows the part of the line that the sum covers.
SUM_TAIL_BYTES: Final = len(b',"sum":"00000000"}\n')


class Entry(NamedTuple):
    """An operation and its very bytes; body: empty where there is none."""

    op: Op
    line: bytes
    body: Buffer


class Head(msgspec.Struct):
    """What finding one's way needs of an operation.  `value` is a record's, never an operation's.

    offset, count, size, crc: of `append`.
    """

    index: int
    epoch: int
    time: int
    op: str
    offset: int = 0
    count: int = 0
    size: int = 0
    crc: str = ""


class _Batch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """All of a batch's line: a bit that flips in a name makes it another one."""

    index: int
    epoch: int
    time: int
    op: Literal["append"]
    topic: str
    partition: int
    offset: int
    count: int
    size: int
    crc: str
    sum: str
    producer: int = 0
    sequence: int = 0


class Step(NamedTuple):
    """One operation on a walk: it ends before `end`, counted from the data's beginning."""

    head: Head
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Operations that follow one another, proved.

    data: all their bytes, as they came.  entries: each with slices of its own.
    """

    data: bytes
    entries: list[Entry]

    @property
    def ops(self) -> list[Op]:
        return [entry.op for entry in self.entries]


class _Placed(Protocol):
    """What proves where an operation stands, and what its body is."""

    index: int
    epoch: int
    size: int
    crc: str


H = TypeVar("H", bound=_Placed)

decode_head: Final = msgspec.json.Decoder(Head).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode


def sum_of(line: bytes) -> str:
    """The running sum that a line states."""
    return line[_SUM].decode("ascii", "replace")


def walk(data: bytes, start: int = 0) -> Iterator[Step]:
    """The whole operations in `data`, one after the other; a part at the end is left out."""
    while (newline := data.find(b"\n", start)) >= 0:
        try:
            head = decode_head(data[start : newline + 1])
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            raise BrokenLine(f"not an operation: {e}: {data[start : start + 200]!r}") from e
        end = newline + 1 + head.size
        if end > len(data):
            return
        yield Step(head, start, end)
        start = end


class Proved(NamedTuple):
    """Whole batches end at `end`; they hold the offsets from `first` up to, not with, `next`."""

    end: int
    first: int
    next: int


def prove_appends(data: bytes, topic: str, partition: int, start: int = 0) -> Proved:
    """Up to where these are whole batches of this partition, one after the other, with the crc
    that they state, and with nothing in their lines that does not belong there.

    A line is proved by its sum where the operation before it stands here, too.  Where it does not,
    the digits of `epoch`, `time`, `producer`, `sequence` and `sum` are not proved, but that times
    do not fall.  Raises BrokenLine; what is left out is at most a part at the end.  Plain rather
    than short: it is on the road of every fetch.
    """
    index, time, offset, first, line = 0, 0, -1, -1, b""
    while (newline := data.find(b"\n", start) + 1) > 0:
        before, line = line, data[start:newline]
        try:
            head = _decode_batch(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            raise BrokenLine(f"not an operation: {e}: {data[start : start + 200]!r}") from e
        if b" " in line:  # a 0 of which one bit flipped; JSON takes it, and yak never writes it
            raise BrokenLine(f"byte {start}: a blank in the line {line[:200]!r}")
        end = newline + head.size
        if end > len(data):
            break
        if f"{crc32c(data[newline:end]):08x}" != head.crc:
            what = f"the body of operation {head.index} does not have the crc {head.crc}"
            raise BrokenLine(f"byte {start}: {what}")
        if head.index <= index or (head.offset != offset and offset >= 0) or head.time < time:
            what = f"operation {head.index} at {head.offset} follows {index} and {offset}"
            raise BrokenLine(f"byte {start}: {what}")
        if head.partition != partition or head.topic != topic:
            what = f"operation {head.index} is of {head.topic}/{head.partition}"
            raise BrokenLine(f"byte {start}: {what}, this is {topic}/{partition}")
        if before and head.index == index + 1:
            ops.check_sum(line, sum_of(before))
        if first < 0:
            first = head.offset
        start, index, offset, time = end, head.index, head.offset + head.count, head.time
    return Proved(start, first, offset)


class Unproved(BrokenLine):
    """What begins at `start` does not follow, or is not whole."""

    def __init__(self, what: str, start: int) -> None:
        super().__init__(what)
        self.start = start


class Proof(NamedTuple, Generic[H]):
    """One operation: its line begins at `start`, its body at `body`; sum: what it states."""

    head: H
    start: int
    body: int
    end: int
    sum: str


def prove(
    data: bytes,
    start: int,
    previous_sum: str,
    next_index: int,
    epoch: int,
    decode: Callable[[bytes], H],
) -> Iterator[Proof[H]]:
    """The operations from `start` on, each proved to follow from the one before.

    previous_sum, epoch: of the operation below `next_index`.  decode: what the caller needs of a
    line, with what a Head has of a place.  Raises Unproved.
    """
    while start < len(data):
        body = data.find(b"\n", start) + 1
        if not body:
            raise Unproved("the line is cut off", start)
        line = data[start:body]
        try:
            previous_sum = ops.check_sum(line, previous_sum)
            head = decode(line)
        except (BrokenLine, msgspec.MsgspecError, UnicodeDecodeError) as e:
            raise Unproved(str(e), start) from e
        end = body + head.size
        if head.index != next_index:
            raise Unproved(f"index {head.index} where {next_index} is next", start)
        if head.epoch < epoch:
            raise Unproved(f"epoch {head.epoch} after epoch {epoch}", start)
        if end > len(data):
            there = f"{len(data) - body} of the {head.size} bytes of its body are there"
            raise Unproved(there, start)
        if head.crc and "%08x" % crc32c(data[body:end]) != head.crc:  # noqa: UP031 -- faster here
            what = f"the body of operation {head.index} does not have the crc {head.crc}"
            raise Unproved(what, start)
        yield Proof(head, start, body, end, previous_sum)
        start, next_index, epoch = end, next_index + 1, head.epoch


def prove_log(data: bytes, previous_sum: str, next_index: int, count: int) -> None:
    """Prove that these are `count` operations of a log from `next_index` on.  Raises BrokenLine."""
    found = sum(1 for _ in prove(data, 0, previous_sum, next_index, 0, decode_head))
    if found != count:
        raise BrokenLine(f"{found} operations from {next_index} on where {count} are due")


def split(data: bytes) -> list[Entry]:
    """The operations of bytes that were proved before.  Raises BrokenLine."""
    entries = []
    start = 0
    while start < len(data):
        entry = _entry(data, start)
        entries.append(entry)
        start += len(entry.line) + len(entry.body)
    return entries


def parse_chunk(data: Buffer, *, previous_sum: str, next_index: int, previous_epoch: int) -> Chunk:
    """Prove that `data` is whole operations from `next_index` on.  Raises BrokenLine.

    previous_sum, previous_epoch: of the operation below `next_index`.
    """
    data = bytes(data)  # no copy where it is bytes already
    running, epoch, start = previous_sum, previous_epoch, 0
    entries: list[Entry] = []
    while start < len(data):
        entry = _entry(data, start)
        op, line, body = entry
        running = ops.check_sum(line, running)
        if op.index != next_index + len(entries):
            raise BrokenLine(f"operation {op.index} where {next_index + len(entries)} was due")
        if op.epoch < epoch:
            raise BrokenLine(f"operation {op.index} is of epoch {op.epoch}, after epoch {epoch}")
        if isinstance(op, ops.Append) and ops.crc_of(body) != op.crc:
            raise BrokenLine(f"the body of operation {op.index} does not have the crc {op.crc}")
        epoch = op.epoch
        entries.append(entry)
        start += len(line) + len(body)
    return Chunk(data, entries)


def _entry(data: bytes, start: int) -> Entry:
    newline = data.find(b"\n", start)
    if newline < 0:
        raise BrokenLine(f"a line without its end: {data[start : start + 200]!r}")
    line = data[start : newline + 1]
    op = ops.decode(line)
    end = newline + 1 + ops.body_size(op)
    if end > len(data):
        raise BrokenLine(f"operation {op.index} ends {end - len(data)} bytes after the data does")
    return Entry(op, line, data[newline + 1 : end])
