"""Reads a broker's data directory by the protocol's text alone, and proves what it reads.

An operation log and a partition are directories of segment files named by the 20 digits of the
first index or offset.  Each begins with a header line; then come operations: a line, and for an
`append` the body.  Sums, crcs, indexes and offsets are computed here anew.

It knows nothing of the code, and never writes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

from google_crc32c import value as crc32c

from tests.support.wire import Operation, split_operations

#: The running sum before the first operation.
NO_SUM = "00000000"

_LINE = re.compile(rb'(?P<head>\{"index":.*),"sum":"(?P<sum>[0-9a-f]{8})"\}\n', re.DOTALL)


def segments(directory: Path) -> list[Path]:
    """A log's segment files, in order."""
    paths = sorted(directory.glob("*.jsonl"))
    assert paths, f"no segment in {directory}"
    assert all(re.fullmatch(r"\d{20}", path.stem) for path in paths), paths
    return paths


def partition_dir(data_dir: Path, topic: str, partition: int) -> Path:
    return data_dir / "topics" / topic / str(partition)


def split_segment(path: Path) -> tuple[dict[str, Any], list[Operation]]:
    """A segment's header, and its operations."""
    line, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(line)
    assert header["format"] == 1, header
    assert header["first"] == int(path.stem), f"{path.name} says {header}"
    return header, split_operations(rest)


def read_oplog(data_dir: Path) -> list[Operation]:
    """Every operation of a broker's log, its sums, indexes, epochs and times proved."""
    found: list[Operation] = []
    running = NO_SUM
    for path in segments(data_dir / "oplog"):
        header, operations = split_segment(path)
        assert header["sum"] == running, f"{path}: begins with another sum than {running}"
        assert header["first"] == len(found) + 1, f"{path}: a gap before it"
        for operation in operations:
            running = check_line(operation.line, running)
            found.append(operation)
    check_order(found)
    return found


def check_line(line: bytes, previous_sum: str) -> str:
    """The sum of a line, computed from the previous one and compared."""
    parts = _LINE.fullmatch(line)
    assert parts is not None, f"not an operation's line: {line!r}"
    expected = f"{crc32c(previous_sum.encode() + parts['head']):08x}"
    assert parts["sum"].decode() == expected, f"sum is not {expected}: {line!r}"
    return expected


def check_order(operations: list[Operation]) -> None:
    """Indexes without a gap, epochs and times that never fall, offsets that follow each other.

    The offsets of a topic's life: one that is made again begins anew.
    """
    epoch = time = 0
    ends: dict[tuple[str, int], int] = {}
    for number, (line, fields, _) in enumerate(operations, 1):
        assert fields["index"] == number, f"index {number} is missing: {line!r}"
        assert fields["epoch"] >= epoch, f"the epoch falls: {line!r}"
        assert fields["time"] >= time, f"time goes back: {line!r}"
        assert (fields["op"] == "lead") is (fields["epoch"] > epoch), (
            f"`lead` begins epochs: {line!r}"
        )
        epoch, time = fields["epoch"], fields["time"]
        if fields["op"] == "append":
            place = fields["topic"], fields["partition"]
            assert fields["offset"] == ends.get(place, 0), f"a gap in {place}: {line!r}"
            ends[place] = fields["offset"] + fields["count"]
        elif fields["op"] == "delete_topic":  # one of its name that is made again begins at 0
            ends = {place: end for place, end in ends.items() if place[0] != fields["topic"]}


def read_partition(data_dir: Path, topic: str, partition: int) -> list[Operation]:
    """Every operation in a partition's files, offsets without a gap."""
    found: list[Operation] = []
    for path in segments(partition_dir(data_dir, topic, partition)):
        header, operations = split_segment(path)
        assert not operations or operations[0].fields["offset"] == header["first"], path
        found.extend(operations)
    assert all(operation.fields["op"] == "append" for operation in found), found
    for before, after in itertools.pairwise(found):
        assert after.offsets.start == before.offsets.stop, (before.line, after.line)
        assert after.fields["index"] > before.fields["index"], (before.line, after.line)
    return found


def oplog_bytes(data_dir: Path) -> dict[str, bytes]:
    """Every segment of the log by name: equal on replicas that hold the same log."""
    return {path.name: path.read_bytes() for path in segments(data_dir / "oplog")}


def topic_bytes(data_dir: Path) -> dict[str, bytes]:
    """Every partition's segments by path: equal on replicas that have applied the same.

    A broker at work may throw a file away between the listing and the reading: then all is
    listed anew.
    """
    root = data_dir / "topics"
    while True:
        paths = sorted(root.rglob("*.jsonl"))
        with contextlib.suppress(FileNotFoundError):
            return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def find(operations: list[Operation], **fields: Any) -> list[dict[str, Any]]:
    """The operations that have these fields."""
    return [
        operation.fields
        for operation in operations
        if all(operation.fields.get(name) == value for name, value in fields.items())
    ]
