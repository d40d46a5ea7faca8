"""`yak log DIR`: an operation log, one line an operation, for people.

    index epoch time                     operation      what it says
       17    3  2026-11-22T09:41:00.120Z lead           broker 1
       18    3  2026-11-22T09:41:00.123Z append         orders[0]@41  2 records  57 bytes  …

Which of them: by index, epoch, time and topic.  `--at INDEX` prints what all operations up to there
add up to instead: log_state.py.

It only reads, and takes no lock, so it may read the log of a running broker.  Every line's sum,
every index and every body's crc is checked on the way.  Where the file ends in the midst of an
operation, which a running broker's does at times and a killed one's may, it stops quietly and
says so on stderr; where whole operations follow a broken one, that is damage: exit code 1.

Not here: cutting or mending anything; partition files, which hold the same lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, assert_never

import click
import msgspec

from yak.commands.log_state import print_state
from yak.commands.options import ParamType, examples
from yak.core import ops
from yak.errors import Fatal
from yak.net.places import milliseconds
from yak.storage.chunk import Unproved, decode_head, prove

_SUPPORTED_FORMAT: Final = 1


class _Header(msgspec.Struct):
    """The first line of a segment file."""

    format: int
    first: int
    sum: str


class Found(NamedTuple):
    """One operation as it lies in the file."""

    op: ops.Op
    line: bytes
    body: bytes


class Torn(Exception):  # noqa: N818 -- it says what was found
    """The log ends in the midst of an operation."""


class _Time(ParamType):
    """ms since 1970, or ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return milliseconds(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


@click.command(
    epilog=examples(
        "yak log data/broker-1",
        "yak log data/broker-1 --bodies           with the records",
        "yak log data/broker-1 --json | jq 'select(.op == \"append\") | .offset'",
        "yak log --topic orders --since 2026-11-22T09:41:00Z",
        "yak log --from 100 --to 120              of the first broker in ./data",
        "yak log --at 118                         the cluster's state after operation 118",
    ),
)
@click.argument(
    "directory",
    metavar="[DIR]",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=False,
)
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they are in the files.")
@click.option("--bodies", is_flag=True, help="Print the records below their operation.")
@click.option("--topic", "topics", multiple=True, help="Only what concerns this topic; repeatable.")
@click.option("--epoch", type=click.IntRange(0), help="Only operations of this epoch.")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="From this index on.")
@click.option("--to", "last", type=click.IntRange(1), help="Up to this index.")
@click.option("--since", type=_Time(), help="What was logged then or later: ms or ISO 8601.")
@click.option("--until", type=_Time(), help="What was logged before then.")
@click.option(
    "--at",
    metavar="INDEX",
    type=click.IntRange(0),
    help="Print the state that all operations up to this one add up to, as far back as the log or "
    "the last checkpoint reaches.",
)
def log(
    *,
    directory: Path | None,
    as_json: bool,
    bodies: bool,
    topics: tuple[str, ...],
    epoch: int | None,
    first: int,
    last: int | None,
    since: int | None,
    until: int | None,
    at: int | None,
) -> None:
    """Print the operation log of a broker's data directory, or of its oplog/.

    DIR left out: that of the first broker in ./data.
    """
    directory = directory or _first_broker(Path("data"))
    wanted = Wanted(frozenset(topics), epoch, first, last, since, until)
    if at is not None:
        if bodies or wanted != Wanted():
            raise click.UsageError("--at prints a state, and goes with nothing but --json")
        print_state(directory, read_log(directory), at, as_json=as_json)
        return
    out = sys.stdout.buffer
    try:
        for found in read_log(directory):
            if last is not None and found.op.index > last:
                break
            if not wanted.has(found.op):
                continue
            out.write(found.line if as_json else describe(found.op).encode() + b"\n")
            if bodies and found.body:
                out.write(found.body if as_json else _indented(found.body))
    except Torn as e:
        out.flush()
        click.echo(f"the log ends in the midst of an operation: {e}", err=True)
    out.flush()


class Wanted(NamedTuple):
    """Which operations are printed; times in ms."""

    topics: frozenset[str] = frozenset()
    epoch: int | None = None
    first: int = 1
    last: int | None = None
    since: int | None = None
    until: int | None = None

    def has(self, op: ops.Op) -> bool:
        return (
            op.index >= self.first
            and (self.last is None or op.index <= self.last)
            and (self.epoch is None or op.epoch == self.epoch)
            and (self.since is None or op.time >= self.since)
            and (self.until is None or op.time < self.until)
            and (not self.topics or not self.topics.isdisjoint(_topics_of(op)))
        )


def _topics_of(op: ops.Op) -> set[str]:
    match op:
        case ops.Ack():
            return {topic for topic, *_ in op.offsets}
        case ops.Assign():
            return {topic for topic, *_ in op.owners}
        case ops.Register():
            return set(op.topics)
        case ops.Lead() | ops.Deregister():
            return set()
        case _:
            return {op.topic}


def _first_broker(home: Path) -> Path:
    for path in sorted(home.glob("*/oplog")):
        return path.parent
    raise Fatal(f"there is no broker's data directory in ./{home}: give one, as data/broker-1")


# -- Reading --------------------------------------------------------------------------------------


def read_log(directory: Path) -> Iterator[Found]:
    """Every operation of a data directory or an oplog/, in order, checked.

    Raises Torn at an unfinished end, Fatal where whole operations follow a broken one.
    """
    paths = sorted(_oplog(directory).glob("*.jsonl"))
    expected, running_sum, epoch = 1, ops.NO_SUM, 0
    for path in paths:
        is_last, data = path is paths[-1], path.read_bytes()
        start, header = _read_header(data, path, is_last=is_last)
        if path is not paths[0] and (header.first, header.sum) != (expected, running_sum):
            raise Fatal(
                f"{path} begins at index {header.first} with sum {header.sum}, but the file "
                f"before it ends with {expected - 1} and {running_sum}: a segment is missing"
            )
        expected, running_sum = header.first, header.sum
        try:
            for one in prove(data, start, running_sum, expected, epoch, decode_head):
                at, line = one.start, data[one.start : one.body]
                yield Found(ops.decode(line), line, data[one.body : one.end])
                expected, epoch, running_sum = one.head.index + 1, one.head.epoch, one.sum
        except ops.BrokenLine as e:
            at = e.start if isinstance(e, Unproved) else at
            raise _judge(e, data, path, at, is_last=is_last) from e


def _oplog(directory: Path) -> Path:
    inner = directory / "oplog"
    if inner.is_dir():
        return inner
    if directory.name == "oplog" or any(directory.glob("*.jsonl")):
        return directory
    raise Fatal(
        f"{directory} holds no operation log: give a broker's data directory, as data/broker-1"
    )


def _read_header(data: bytes, path: Path, *, is_last: bool) -> tuple[int, _Header]:
    """Where the operations begin, and what it says."""
    end = data.find(b"\n") + 1
    try:
        header = msgspec.json.decode(data[: end or None], type=_Header)
    except msgspec.MsgspecError as e:
        if is_last and not end:
            raise Torn(f"{path}: the header is cut off") from e
        raise Fatal(f"{path} does not begin as a file of an operation log: {e}") from e
    if header.format != _SUPPORTED_FORMAT:
        raise Fatal(
            f"{path} is of format {header.format}, and this version of yak reads only "
            f"{_SUPPORTED_FORMAT}: use a newer one"
        )
    return end or len(data), header


def _judge(
    broken: ops.BrokenLine, data: bytes, path: Path, start: int, *, is_last: bool
) -> Exception:
    """Torn if nothing whole follows the broken operation, else damage."""
    rest = data[start:].splitlines(keepends=True)[1:]
    where = f"{path}, byte {start}: {broken}"
    if is_last and not any(_is_operation(line) for line in rest):
        return Torn(f"{where}; {len(data) - start} bytes are not shown")
    return Fatal(f"{where}; whole operations follow it, so this file is damaged: keep it")


def _is_operation(line: bytes) -> bool:
    try:
        ops.decode(line)
    except ops.BrokenLine:
        return False
    return line.endswith(b"\n")


# -- Words ----------------------------------------------------------------------------------------


def describe(op: ops.Op) -> str:
    """One line for people: index, epoch, time, operation, and its essentials."""
    when = datetime.fromtimestamp(op.time / 1000, UTC).isoformat(timespec="milliseconds")
    return (
        f"{op.index:>8} {op.epoch:>4}  {when.replace('+00:00', 'Z')} {op.op:<17} {_essentials(op)}"
    )


def _essentials(op: ops.Op) -> str:
    match op:
        case ops.Append():
            return _append(op)
        case ops.Ack():
            marks = "  ".join(f"{t}[{p}] up to {o}" for t, p, o in op.offsets)
            return f"group {op.group}  {marks}" + _optional("  by ", op.member)
        case ops.Lead():
            return f"broker {op.broker}"
        case ops.CreateTopic():
            return f"{op.topic}  {_many(op.partitions, 'partition')}" + _config(op.config)
        case ops.DeleteTopic():
            return op.topic
        case ops.CreatePartitions():
            return f"{op.topic}  {_many(op.partitions, 'partition')} from now on"
        case ops.AlterTopic():
            return op.topic + (_config(op.config) or "  back to the defaults")
        case ops.Trim():
            return f"{op.topic}[{op.partition}]  begins at {op.before}"
        case ops.Register():
            return f"{_who(op)}  client {op.client or '-'}  topics {', '.join(op.topics) or '-'}"
        case ops.Deregister():
            return f"{_who(op)}  {op.reason}"
        case ops.Assign():
            owners = "  ".join(_owner(owner) for owner in op.owners)
            return f"group {op.group}  generation {op.generation}  {owners or 'no members'}"
        case _:
            assert_never(op)


def _append(op: ops.Append) -> str:
    by = (
        ""
        if isinstance(op.producer, msgspec.UnsetType)
        else f"  producer {op.producer} sequence {op.sequence}"
    )
    return (
        f"{op.topic}[{op.partition}]@{op.offset}  {_many(op.count, 'record')}  "
        f"{_many(op.size, 'byte')}{by}"
    )


def _owner(owner: ops.Owner) -> str:
    topic, partition, member, held_by, _ = owner
    waits = f" (once {held_by} lets go)" if held_by else ""
    return f"{topic}[{partition}] to {member or 'nobody'}{waits}"


def _who(op: ops.Register | ops.Deregister) -> str:
    if not isinstance(op.producer, msgspec.UnsetType):
        return f"producer {op.producer}"
    return f"group {op.group}" + _optional("  member ", op.member)


def _optional(words: str, value: str | msgspec.UnsetType) -> str:
    return "" if isinstance(value, msgspec.UnsetType) else words + value


def _config(config: dict[str, object]) -> str:
    return "".join(f"  {name}={value}" for name, value in config.items())


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _indented(body: bytes) -> bytes:
    return b"".join(b"              | " + line for line in body.splitlines(keepends=True))
