"""The body of a produce: records, one a line, validated once and in bulk; they stay bytes.

The fast way says yes or no; only after a no a slow way looks for the line to blame.  Of `value`
only the grammar is looked at, and nothing is kept.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yak.errors import Refused
from yak.model import MAX_INT
from yak.protocol import BROKEN, MAX_QUOTED, Buffer, friendly, quote

_Millis: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INT)]


class _Record(msgspec.Struct, gc=False):
    """A record as far as it is checked; it keeps nothing, hence no garbage collection."""

    value: msgspec.Raw
    key: str | UnsetType | None = UNSET
    headers: list[tuple[str, str | None]] | UnsetType = UNSET
    timestamp: _Millis | UnsetType = UNSET


_records = msgspec.json.Decoder(_Record)


def validate_records(body: Buffer, count: int) -> None:
    """Check that a body is `count` records, one a line.  Raises Refused INVALID_RECORD.

    `value` may be any JSON and is not looked into beyond its grammar: a number of any length
    and, in a record, a name that is there twice pass (readers take the last one).  The cost is
    that of the body's bytes: check its size before.
    """
    data = body if isinstance(body, bytes) else bytes(body)
    if not _is_shaped(data, count):
        raise Refused("INVALID_RECORD", _blame(data, count))
    try:
        if not data.isascii():
            data.decode()
        records = _records.decode_lines(data)
    except BROKEN as e:
        raise Refused("INVALID_RECORD", _blame(data, count)) from e
    if len(records) != count:
        raise Refused("INVALID_RECORD", _blame(data, count))


def _is_shaped(data: bytes, count: int) -> bool:
    """What a decoder of lines lets pass: it takes objects as they come, wherever lines end.

    No JSON holds a line's end between `}` and `{`, so these are the seams between records.
    """
    return (
        count > 0
        and data.startswith(b"{")
        and data.endswith(b"}\n")
        and b"\r" not in data
        and data.count(b"\n") == count
        and data.count(b"}\n{") == count - 1
    )


def _blame(data: bytes, count: int) -> str:
    """Why a body was refused: the slow way, line by line, up to the first one at fault."""
    lines = data.count(b"\n")
    if count < 1:
        return "count must be at least 1"
    if not data:
        return f"the body is empty, count says {count}: one record a line belongs after the header"
    if not data.endswith(b"\n"):
        return f"the last line ({lines + 1}) is not closed by a newline"
    if lines != count:
        return f"the body has {lines} lines, count says {count}: one record a line"
    start = 0
    for number in range(1, count + 1):
        end = data.index(b"\n", start)
        if why := _blame_line(data[start:end]):
            return f"line {number} of the body: {why}"
        start = end + 1
    return "the body is not one record a line"


def _blame_line(line: bytes) -> str | None:
    if not line.strip():
        return "it is blank"
    if b"\r" in line:
        return "it holds a carriage return; lines end with a newline alone"
    if not (line.startswith(b"{") and line.endswith(b"}")):
        return f"it is not one JSON object from its first byte to its last: {_quote_line(line)}"
    try:
        line.decode()
        _records.decode(line)
    except UnicodeDecodeError as e:
        return f"it is not UTF-8: {e.reason} at byte {e.start}"
    except RecursionError:
        return "it is nested too deep"
    except msgspec.MsgspecError as e:
        return f"{friendly(str(e))}: {_quote_line(line)}"
    return None


def _quote_line(line: bytes) -> str:
    return quote(line[: MAX_QUOTED + 1].decode(errors="replace"))
