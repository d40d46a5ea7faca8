r"""What `yak-consume` prints of a record.

    plain     the value and a newline: a string's text as it is, bytes as they are, other JSON
              in its compact form
    -J        a JSON object: topic, partition, offset, then the record as it travels: key, value,
              headers, timestamp, enc; `yak-produce -J` reads it back
    -f FORMAT kcat's tokens; nothing is added, not even a newline

        %t topic   %p partition   %o offset   %T timestamp in ms
        %k key     %K its bytes   %s value    %S its bytes   %h headers as a=b,c=d   %% a percent
        %R the value's bytes as 32 bits, big endian, so that a program can read values by it
        \n \t \r \0 \\ \xNN       as they are

A key that is null is printed as nothing, and its length is -1.

Not here: reading records or writing them anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from yak.commands.lines import unescape
from yak.core.records import encode_record
from yak.model import Record

#: A record's bytes on stdout.
Format: TypeAlias = Callable[[Record], bytes]

_encode: Final = msgspec.json.Encoder().encode


def plain(record: Record) -> bytes:
    """The value and a newline."""
    value = record.value
    if isinstance(value, str):
        return value.encode() + b"\n"
    return value_bytes(value) + b"\n"


def as_json(record: Record) -> bytes:
    """One JSON object and a newline: where it is, then the record's own members."""
    origin, key, value = record.origin, record.key, record.value
    shown: dict[str, Any] = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": record.offset,
    }
    if isinstance(key, bytes) or isinstance(value, bytes):  # it travels as base64
        line = encode_record(value, key, record.headers or None, record.timestamp)
        return _encode(shown)[:-1] + b"," + line[1:]
    if key is not None:
        shown["key"] = key
    shown["value"] = value
    if record.headers:
        shown["headers"] = record.headers
    shown["timestamp"] = record.timestamp
    return _encode(shown) + b"\n"


def value_bytes(value: Any) -> bytes:
    """A string's bytes are its UTF-8, bytes are themselves, other JSON its compact text."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else _encode(value)


def compile_format(text: str) -> Format:
    """The format of `-f`.  Raises ValueError, which says what is wrong with it."""
    parts: list[bytes | Format] = []
    literal, *tokens = text.replace("%%", "%\0").split("%")
    if literal:
        parts.append(unescape(literal).encode())
    for token in tokens:
        name, rest = token[:1], token[1:]
        if name == "\0":
            rest = "%" + rest
        elif name in _TOKENS:
            parts.append(_TOKENS[name])
        else:
            known = " ".join("%" + known for known in _TOKENS)
            raise ValueError(f"%{name} stands for nothing: there are {known} and %%")
        if rest:
            parts.append(unescape(rest).encode())
    return lambda record: b"".join(
        part if isinstance(part, bytes) else part(record) for part in parts
    )


def _headers(record: Record) -> bytes:
    pairs = record.headers or ()
    return ",".join(f"{name}={'' if value is None else value}" for name, value in pairs).encode()


def _number(value: int) -> bytes:
    return b"%d" % value


_TOKENS: Final[dict[str, Format]] = {
    "t": lambda r: r.topic.encode(),
    "p": lambda r: _number(r.partition),
    "o": lambda r: _number(r.offset),
    "k": lambda r: b"" if r.key is None else value_bytes(r.key),
    "s": lambda r: value_bytes(r.value),
    "h": _headers,
    "T": lambda r: _number(r.time if r.timestamp is None else r.timestamp),
    "S": lambda r: _number(len(value_bytes(r.value))),
    "R": lambda r: len(value_bytes(r.value)).to_bytes(4, "big"),
    "K": lambda r: _number(-1 if r.key is None else len(value_bytes(r.key))),
}
