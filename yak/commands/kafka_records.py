r"""Records as Kafka's console tools read and print them.

A line that is read, by `parse.headers`, `parse.key` (both false unless they are said):

    trace:ab,lang:de TAB user-7 TAB paid       headers, key, value

A record that is printed, by `print.timestamp`, `print.partition`, …; key.separator in between:

    CreateTime:1795344822859 TAB Partition:2 TAB Offset:0 TAB NO_HEADERS TAB user-7 TAB paid

Names and defaults of the properties are Kafka's.  Values that are JSON other than strings are
printed as that; so the deserializers of numbers have nothing to do.

Not here: reading the lines, or the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import click

from yak.commands.formats import Format, value_bytes
from yak.commands.kafka_properties import is_true
from yak.commands.lines import BadLine, Header, Parsed, text_or_bytes
from yak.model import Record

_READS: Final = frozenset(
    (
        *("parse.key", "key.separator", "parse.headers", "headers.delimiter", "headers.separator"),
        *("headers.key.separator", "ignore.error", "null.marker"),
    )
)
_PRINTS: Final = frozenset(
    (
        *("print.timestamp", "print.partition", "print.offset", "print.epoch", "print.delivery"),
        *("print.headers", "print.key", "print.value", "key.separator", "line.separator"),
        *("headers.separator", "null.literal"),
        *("key.deserializer", "value.deserializer", "headers.deserializer", "header.deserializer"),
    )
)
_DESERIALIZERS: Final = "org.apache.kafka.common.serialization."


class LineReader(NamedTuple):
    """What a line is.  null: the text that stands for null; None where none does."""

    has_key: bool = False
    has_headers: bool = False
    key_separator: bytes = b"\t"
    headers_delimiter: bytes = b"\t"
    headers_separator: bytes = b","
    header_separator: bytes = b":"
    lenient: bool = False
    null: bytes | None = None

    def parse(self, line: bytes, number: int) -> Parsed:
        """Raises BadLine, which names the line."""
        headers = key = None
        value = line
        if self.has_headers:
            headers, value = self._split(value, self.headers_delimiter, "headers.delimiter", number)
        if self.has_key:
            key, value = self._split(value, self.key_separator, "key.separator", number)
        return Parsed(
            None if value == self.null else text_or_bytes(value),
            None if key is None or key == self.null else text_or_bytes(key),
            None if headers is None or headers == self.null else self._headers(headers, number),
        )

    def _split(
        self,
        line: bytes,
        separator: bytes,
        name: str,
        number: int,
    ) -> tuple[bytes | None, bytes]:
        before, found, after = line.partition(separator)
        if found:
            return before, after
        if self.lenient:
            return None, line
        raise BadLine(
            f"line {number} has no {name} {separator.decode()!r} in it; ignore.error=true takes "
            "such a line for a value"
        )

    def _headers(self, text: bytes, number: int) -> list[Header]:
        headers: list[Header] = []
        for pair in text.split(self.headers_separator):
            name, found, value = pair.partition(self.header_separator)
            if not found and not self.lenient:
                raise BadLine(
                    f"line {number}: header {pair.decode(errors='replace')!r} has no "
                    f"headers.key.separator {self.header_separator.decode()!r} in it"
                )
            is_null = not found or value == self.null
            shown = value.decode(errors="replace")
            headers.append((name.decode(errors="replace"), None if is_null else shown))
        return headers


def line_reader(properties: Mapping[str, str]) -> LineReader:
    """Raises UsageError for names that Kafka's LineMessageReader does not have."""
    _check("--reader-property", properties, _READS)

    def text(name: str, default: bytes) -> bytes:
        found = properties.get(name, default.decode()).encode()
        if not found or b"\n" in found:
            raise click.UsageError(f"{name} must not be empty, nor hold a line end")
        return found

    reader = LineReader(
        has_key=is_true(properties.get("parse.key")),
        has_headers=is_true(properties.get("parse.headers")),
        key_separator=text("key.separator", b"\t"),
        headers_delimiter=text("headers.delimiter", b"\t"),
        headers_separator=text("headers.separator", b","),
        header_separator=text("headers.key.separator", b":"),
        lenient=is_true(properties.get("ignore.error")),
        null=properties["null.marker"].encode() if "null.marker" in properties else None,
    )
    apart = (reader.headers_delimiter, reader.headers_separator, reader.header_separator)
    if reader.has_headers and len(set(apart)) < len(apart):
        raise click.UsageError(
            "headers.delimiter, headers.separator and headers.key.separator must differ"
        )
    return reader


def formatter(properties: Mapping[str, str]) -> Format:
    """Raises UsageError for names that Kafka's DefaultMessageFormatter does not have."""
    _check("--formatter-property", properties, _PRINTS)
    for name, value in properties.items():
        if name.endswith("deserializer") and not value.startswith(_DESERIALIZERS):
            raise click.UsageError(f"{name}={value}: yak has no Java classes; values are JSON")
    null = properties.get("null.literal", "null").encode()
    between = properties.get("key.separator", "\t").encode()
    end = properties.get("line.separator", "\n").encode()
    comma = properties.get("headers.separator", ",").encode()
    parts: list[Format] = [
        make
        for name, make in {
            "print.timestamp": _timestamp,
            "print.partition": lambda r: b"Partition:%d" % r.partition,
            "print.offset": lambda r: b"Offset:%d" % r.offset,
            "print.delivery": lambda _: b"Delivery:NONE",
            "print.epoch": lambda r: b"Epoch:%d" % r.origin.epoch,
            "print.headers": lambda r: _headers(r, comma, null),
            "print.key": lambda r: _bytes(r.key, null),
            "print.value": lambda r: _bytes(r.value, null),
        }.items()
        if is_true(properties.get(name, "true" if name == "print.value" else "false"))
    ]
    return lambda record: between.join([part(record) for part in parts]) + end if parts else b""


def _check(option: str, properties: Mapping[str, str], known: frozenset[str]) -> None:
    for name in properties:
        if name not in known and not name.startswith(tuple(f"{k}." for k in known)):
            raise click.UsageError(f"{option} {name}: there are {', '.join(sorted(known))}")


def _timestamp(record: Record) -> bytes:
    return b"CreateTime:%d" % (record.time if record.timestamp is None else record.timestamp)


def _headers(record: Record, comma: bytes, null: bytes) -> bytes:
    pairs = record.headers or ()
    shown = [name.encode() + b":" + _bytes(value, null) for name, value in pairs]
    return comma.join(shown) or b"NO_HEADERS"


def _bytes(value: Any, null: bytes) -> bytes:
    return null if value is None else value_bytes(value)
