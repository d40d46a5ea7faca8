"""Records to lines and back: what producers write and consumers read.  Section 3 of the protocol.

    {"key":"user-7","value":{"paid":12.5},"headers":[["trace","ab12"]],"timestamp":1763800000000}

* One record is one line, encoded once, by the producer; its key comes first.  JSON strings have
  no raw line ends in them, so neither has the line.
* Bytes that are UTF-8 are a string; other bytes are base64, and `"enc":"base64"` says so.  In a
  record that says so the value, if it is a string, and the key are both base64.
* What is read is operation lines, each followed by its body.  An operation that is no `append`
  of plain lines (a control mark, another format, a codec) is passed over: only its offsets count.
* A record that cannot be decoded is handed on raw: one bad line hides none of its neighbours.

It knows neither partitions' positions nor sockets.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from google_crc32c import value as crc32c

from yak.errors import ProtocolError, YakError
from yak.model import Headers, Origin, Record

_encoder: Final = msgspec.json.Encoder()
_encode: Final = _encoder.encode
_encode_lines: Final = _encoder.encode_lines

#: How much of what is wrong a message quotes, in bytes.
_QUOTED_BYTES: Final = 120
#: What decoding a line may raise, whatever its bytes are.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)

Key = str | bytes | None

# -- out ------------------------------------------------------------------------------------------


def key_bytes(key: str | bytes) -> bytes:
    """The bytes that a partitioner hashes.  Raises YakError INVALID_RECORD."""
    try:
        return key.encode() if isinstance(key, str) else bytes(key)
    except (UnicodeEncodeError, TypeError) as e:
        raise _invalid(f"the key {key!r:.{_QUOTED_BYTES}} is neither bytes nor text: {e}") from e


def encode_record(
    value: Any, key: Key = None, headers: Headers | None = None, timestamp: int | None = None
) -> bytes:
    """The record's line, closed by a newline.  Raises YakError INVALID_RECORD."""
    record: dict[str, Any]
    if headers is None and timestamp is None and type(value) in _PLAIN and type(key) in _TEXT:
        record = {"value": value} if key is None else {"key": key, "value": value}
    else:
        record = _members(value, key, headers, timestamp)
    try:
        return _encode(record) + b"\n"
    except _NO_JSON as e:
        raise _invalid(f"the record cannot be encoded as JSON: {e}") from e


def encode_values(values: Sequence[Any]) -> bytes:
    """The lines of records that have a value and nothing else.  Raises YakError INVALID_RECORD."""
    if _PLAIN.issuperset(map(type, values)):
        return _lines([{"value": value} for value in values])
    return _lines([_members(value, None, None, None) for value in values])


def encode_pairs(keys: Sequence[Key], values: Sequence[Any], headers: Headers | None) -> bytes:
    """The lines of records with keys, and with headers that are the same for all."""
    pairs = zip(keys, values, strict=True)
    if headers is None and _PLAIN.issuperset(map(type, values)) and {str} >= set(map(type, keys)):
        return _lines([{"key": key, "value": value} for key, value in pairs])
    return _lines([_members(value, key, headers, None) for key, value in pairs])


#: Values that need no second look.  A float may be no number, bytes may be no text.
_PLAIN: Final = frozenset({str, dict, list, int, bool, type(None)})
_TEXT: Final = frozenset({str, type(None)})


#: What encoding a value may raise.
_NO_JSON: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def _lines(records: list[dict[str, Any]]) -> bytes:
    try:
        return _encode_lines(records)
    except _NO_JSON as e:
        raise _invalid(f"a record cannot be encoded as JSON: {e}") from e


def _members(
    value: Any, key: Key, headers: Headers | None, timestamp: int | None
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if key is not None:
        if not isinstance(key, str | bytes):
            raise _invalid(f"a key is a string or bytes, not {type(key).__name__}")
        members["key"] = key
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{value!r} is no JSON: it would become null, which is a tombstone")
    members["value"] = bytes(value) if isinstance(value, bytearray | memoryview) else value
    if headers is not None:
        members["headers"] = _checked(headers)
    if timestamp is not None:
        if type(timestamp) is not int or timestamp < 0:
            raise _invalid(f"a timestamp is a whole number of ms since 1970, not {timestamp!r}")
        members["timestamp"] = timestamp
    return _as_text(members)


def _as_text(members: dict[str, Any]) -> dict[str, Any]:
    """Bytes become strings; if one of them is no UTF-8, key and value become base64."""
    try:
        texts = {
            name: members[name].decode()
            for name in ("key", "value")
            if isinstance(members.get(name), bytes)
        }
        return {**members, **texts}
    except UnicodeDecodeError:
        coded = {
            name: b64encode(part.encode() if isinstance(part, str) else part).decode()
            for name in ("key", "value")
            if isinstance(part := members.get(name), str | bytes)
        }
        return {**members, **coded, "enc": "base64"}


def _checked(headers: Headers) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for pair in headers:
        name, value = pair
        if type(name) is not str or type(value) not in (str, type(None)):
            raise _invalid(f"a header is (string, string or None), not {pair!r:.{_QUOTED_BYTES}}")
        pairs.append((name, value))
    return pairs


def _invalid(message: str) -> YakError:
    return YakError(
        message, name="INVALID_RECORD", hint="a value is any JSON or bytes, a key a string or bytes"
    )


# -- in -------------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """One operation's records, not yet decoded.

    offset: of the first record.  span: how many offsets it takes.  body: its lines; None where
    there is nothing to hand out.
    """

    offset: int
    span: int
    time: int
    epoch: int
    body: bytes | None


class _Line(msgspec.Struct, gc=False):
    """An operation line as far as a reader needs it."""

    op: str
    offset: int = 0
    count: int = 0
    size: int = 0
    time: int = 0
    epoch: int = 0
    crc: str = ""
    format: Any = None
    codec: Any = None
    control: Any = None


_line = msgspec.json.Decoder(_Line)
_record = msgspec.json.Decoder(Record)


def split_operations(data: bytes, *, verify: bool = True) -> list[Chunk]:
    """The appends in the bytes that a fetch was answered with, which are whole operations.

    verify: compare each body with its checksum.  Raises ProtocolError named CORRUPT.
    """
    chunks: list[Chunk] = []
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start)
        try:
            line = _line.decode(data[start:stop])
        except _UNREADABLE as e:
            raise _corrupt(f"no operation at byte {start}: {e}") from e
        body = data[stop + 1 : stop + 1 + line.size]
        if stop < 0 or len(body) != line.size:
            raise _corrupt(f"the operation at byte {start} is cut off")
        start = stop + 1 + line.size
        if line.op != "append":
            continue
        plain = line.format is None and line.codec is None and line.control is None
        if verify and line.crc and format(crc32c(body), "08x") != line.crc:
            raise _corrupt(f"the records from offset {line.offset} do not match their checksum")
        chunks.append(
            Chunk(line.offset, line.count, line.time, line.epoch, body if plain else None)
        )
    return chunks


def decode_chunk(
    chunk: Chunk, topic: str, partition: int, since: int = 0, consumer: Any = None
) -> list[Record]:
    """The chunk's records whose offset is at least `since`; `consumer` is who hands them out."""
    offset, _, time, epoch, body = chunk
    if body is None:
        return []
    origin = Origin(topic, partition, time, epoch, consumer)
    records = _decode_all(body)
    for at, record in enumerate(records, offset):
        record.offset = at
        record.origin = origin
        if record.timestamp is None:
            record.timestamp = time
    return records[since - offset :] if since > offset else records


def _decode_all(body: bytes) -> list[Record]:
    try:
        records = _record.decode_lines(body)
        if b'"enc"' not in body and len(records) == body.count(b"\n"):
            return records
    except _UNREADABLE:
        pass
    return [_decode_one(text) for text in body.removesuffix(b"\n").split(b"\n")]


def _decode_one(text: bytes) -> Record:
    """The slow way: one line, which may be base64, or no record at all."""
    try:
        record = _record.decode(text)
        if record.enc == "base64":
            if record.key is not None:
                record.key = _from_base64(record.key)
            if isinstance(record.value, str):
                record.value = _from_base64(record.value)
    except _UNREADABLE:
        return Record(_text_or_bytes(text), raw=True)
    return record


def _from_base64(text: str | bytes) -> str | bytes:
    return _text_or_bytes(b64decode(text, validate=True))


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _corrupt(what: str) -> ProtocolError:
    return ProtocolError(
        f"what was fetched is damaged: {what}",
        name="CORRUPT",
        hint="another replica may have it whole; `yak verify` finds the damaged file",
    )
