"""What `yak-produce` reads: bytes become lines, lines become records, many at a time.

    plain           the line is the value, a string, as it is; bytes that are not UTF-8 stay bytes
    --value json    lines that are a JSON object, array or number are that; all others strings
    -K SEP          what stands before the first SEP is the key; without SEP the line has no key
    -J              a line is a JSON object with value, and optionally key, headers, timestamp
                    and enc, as `yak-consume -J` writes it; other members are not read

A line ends at its newline and nowhere else.  The last one may do without.

Nothing here waits for a whole file: what has arrived is handed on, so that a pipe that trickles
is as quick as it can be, and memory is bounded by `MAX_LINE_BYTES` and `READ_BYTES`.

Not here: what happens to the records.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from yak.config import MIB
from yak.errors import Fatal
from yak.model import MAX_INT

#: Read at a time, at most.
READ_BYTES: Final = 1 * MIB
#: A longer line could not be sent in any frame.
MAX_LINE_BYTES: Final = 16 * MIB
#: Lines of one chunk at most: so many records share one handle.
CHUNK_LINES: Final = 10_000

Header = tuple[str, str | None]


class Parsed(NamedTuple):
    """One record as its line gave it."""

    value: Any
    key: str | bytes | None = None
    headers: list[Header] | None = None
    timestamp: int | None = None


class Chunk(NamedTuple):
    """Lines that arrived together.  first: the number of the first one, from 1."""

    first: int
    lines: list[bytes]


class BadLine(Fatal):
    """A line that is no record.  What came before it is sent."""


def read_chunks(read: Callable[[], bytes]) -> Iterator[Chunk]:
    """Lines without their newline, as they arrive.  read: as os.read; b"" at the end.

    What `read` raises ends it; lines that were whole by then have been handed on.
    """
    number = 1
    rest: list[bytes] = []
    held = 0
    while data := read():
        end = data.rfind(b"\n")
        if end < 0:
            held += len(data)
            if held > MAX_LINE_BYTES:
                raise BadLine(f"line {number} is longer than {MAX_LINE_BYTES} bytes: split it")
            rest.append(data)
            continue
        lines = b"".join((*rest, data[:end])).split(b"\n")
        rest = [data[end + 1 :]] if end + 1 < len(data) else []
        held = sum(map(len, rest))
        for start in range(0, len(lines), CHUNK_LINES):
            part = lines[start : start + CHUNK_LINES]
            yield Chunk(number, part)
            number += len(part)
    if rest:
        yield Chunk(number, [b"".join(rest)])


def text_or_bytes(line: bytes) -> str | bytes:
    """A string where the bytes are one."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def texts(lines: list[bytes]) -> list[str | bytes]:
    """`text_or_bytes` of each: at the price of one decoding where all are strings."""
    try:
        return list[str | bytes](b"\n".join(lines).decode().split("\n"))
    except UnicodeDecodeError:
        return [text_or_bytes(line) for line in lines]


def json_or_text(line: bytes) -> Any:
    """The line's very JSON where it is an object, an array or a number; else its text."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text_or_bytes(line)
    is_json = isinstance(value, dict | list | int | float) and not isinstance(value, bool)
    return msgspec.Raw(line) if is_json else text_or_bytes(line)


def split_key(line: bytes, separator: bytes) -> tuple[bytes | None, bytes]:
    """Key and value of a line."""
    before, found, after = line.partition(separator)
    return (before, after) if found else (None, line)


class _JsonRecord(msgspec.Struct):
    value: msgspec.Raw
    key: str | None = None
    headers: list[Header] | None = None
    timestamp: int | None = None
    enc: str | None = None


_records: Final = msgspec.json.Decoder(_JsonRecord)
_string: Final = msgspec.json.Decoder(str)


def parse_record(line: bytes, number: int) -> Parsed:
    """The record of a line under -J.  Raises BadLine, which names the line."""
    try:
        record = _records.decode(line)
        value: Any = record.value
        key: str | bytes | None = record.key
        if record.enc not in (None, "base64"):
            raise ValueError(f"enc {record.enc!r} is not known; base64 is")
        if bytes(record.value).startswith(b'"'):
            value = _string.decode(record.value)
        if record.enc is not None:
            key = None if record.key is None else base64.b64decode(record.key, validate=True)
            value = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (msgspec.MsgspecError, ValueError, binascii.Error, RecursionError) as e:
        raise BadLine(
            f'line {number} is no record: {e}; under -J a line is as {{"key":"a","value":1}}'
        ) from e
    if record.timestamp is not None and not 0 <= record.timestamp <= MAX_INT:
        raise BadLine(f"line {number}: timestamp {record.timestamp} is not within 0 … 2⁵³-1")
    return Parsed(value, key, record.headers, record.timestamp)


def unescape(text: str) -> str:
    r"""`\t`, `\n`, `\r`, `\0`, `\\` and `\xNN` as typed in a shell become what they stand for."""
    return _ESCAPE.sub(_meaning, text)


def _meaning(found: re.Match[str]) -> str:
    name = found[1]
    if name in _ESCAPES:
        return _ESCAPES[name]
    if len(name) == _HEX_LENGTH:
        return chr(int(name[1:], 16))
    raise ValueError(f"\\{name} stands for nothing: there are \\t \\n \\r \\0 \\xNN and \\\\")


_HEX_LENGTH: Final = 3
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.?)", re.DOTALL)
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
