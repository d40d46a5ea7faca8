"""What must be true at the end, compared byte for byte.

Not here: when it is looked at.  Everything takes files that exist and says what is wrong with
them, by raising `Failure`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from scripts.demo.processes import Failure
from scripts.demo.text import Text
from yak.commands.log import read_log
from yak.core import ops


class _Record(msgspec.Struct):
    """What the proof needs of a line of `yak-consume -J`."""

    partition: int
    offset: int
    key: str
    value: str


class Epoch(NamedTuple):
    """What one leader wrote.  first_ms: the wall time of its first records, 0 if none."""

    epoch: int
    leader: int
    records: int
    first_ms: int


def every_line_once_and_in_order(text: Text, consumed: Path) -> list[int]:
    """How many lines each partition has.  Raises Failure at the first line that is not right.

    Per partition the offsets count up without a gap and the lines' numbers only grow; each
    number comes once; put together again by their numbers the lines are the text.
    """
    put_together: list[bytes | None] = [None] * len(text.lines)
    next_offset: dict[int, int] = {}
    last_number: dict[int, int] = {}
    records = msgspec.json.Decoder(_Record).decode_lines(consumed.read_bytes())
    for record in records:
        where = f"partition {record.partition}, offset {record.offset}"
        number = int(record.key)
        if record.offset != next_offset.get(record.partition, 0):
            raise Failure(f"{where}: {next_offset.get(record.partition, 0)} was the next offset")
        if number <= last_number.get(record.partition, -1):
            raise Failure(f"{where}: line {number} after {last_number[record.partition]}")
        if put_together[number] is not None:
            raise Failure(f"{where}: line {number} has come before")
        put_together[number] = record.value.encode() + b"\n"
        next_offset[record.partition] = record.offset + 1
        last_number[record.partition] = number
    missing = [number for number, line in enumerate(put_together) if line is None]
    if missing:
        raise Failure(f"{len(missing)} lines are missing, line {missing[0]} is the first")
    if b"".join(line for line in put_together if line is not None) != text.path.read_bytes():
        raise Failure("the lines put together again are not the text")
    return [next_offset[partition] for partition in sorted(next_offset)]


def the_same_bytes(data_dirs: list[Path]) -> int:
    """The size of the operation logs, once they are the same files with the same bytes."""
    logs = [
        {path.name: path.read_bytes() for path in sorted((data_dir / "oplog").iterdir())}
        for data_dir in data_dirs
    ]
    for data_dir, log in zip(data_dirs[1:], logs[1:], strict=True):
        if log.keys() != logs[0].keys():
            raise Failure(f"{data_dir} has other files in its log than {data_dirs[0]}")
        for name, content in log.items():
            if content != logs[0][name]:
                raise Failure(f"{data_dir}/oplog/{name} differs from that in {data_dirs[0]}")
    return sum(len(content) for content in logs[0].values())


def epochs(data_dir: Path) -> list[Epoch]:
    """Who led, and how much each leader wrote, as the log tells it."""
    found: list[Epoch] = []
    for op, _, _ in read_log(data_dir):
        match op:
            case ops.Lead():
                found.append(Epoch(op.epoch, op.broker, 0, 0))
            case ops.Append():
                last = found[-1]
                found[-1] = last._replace(
                    records=last.records + op.count, first_ms=last.first_ms or op.time
                )
            case _:
                pass
    return found
