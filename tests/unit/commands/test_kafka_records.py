"""Lines and records as Kafka's console tools have them."""

from __future__ import annotations

from typing import Any

import click
import pytest

from yak.commands.kafka_records import formatter, line_reader
from yak.commands.lines import BadLine, Parsed
from yak.model import Origin, Record


@pytest.mark.parametrize(
    ("said", "line", "parsed"),
    [
        ({}, b"a\tb", Parsed("a\tb")),
        ({"parse.key": "true"}, b"k\tv\tw", Parsed("v\tw", "k")),
        ({"parse.key": "true", "key.separator": "::"}, b"k::v", Parsed("v", "k")),
        ({"parse.key": "true", "ignore.error": "true"}, b"v", Parsed("v")),
        (
            {"parse.headers": "true", "parse.key": "true"},
            b"a:1,b:2:3\tk\tv",
            Parsed("v", "k", [("a", "1"), ("b", "2:3")]),
        ),
        (
            {"parse.headers": "true", "headers.delimiter": "|", "headers.key.separator": "="},
            b"a=1|v",
            Parsed("v", None, [("a", "1")]),
        ),
        (
            {"parse.headers": "true", "parse.key": "true", "null.marker": "NIL"},
            b"a:NIL\tNIL\tNIL",
            Parsed(None, None, [("a", None)]),
        ),
        ({"parse.headers": "true", "null.marker": "NIL"}, b"NIL\tv", Parsed("v")),
        (
            {"parse.headers": "true", "ignore.error": "true"},
            b"a\tv",
            Parsed("v", None, [("a", None)]),
        ),
        ({"parse.key": "true"}, b"\xff\tv", Parsed("v", b"\xff")),
    ],
)
def test_lines(said: dict[str, str], line: bytes, parsed: Parsed) -> None:
    assert line_reader(said).parse(line, 1) == parsed


@pytest.mark.parametrize(
    ("said", "line", "words"),
    [
        ({"parse.key": "true"}, b"v", "line 7 has no key.separator"),
        ({"parse.headers": "true"}, b"v", "line 7 has no headers.delimiter"),
        ({"parse.headers": "true"}, b"a\tv", "line 7: header 'a' has no headers.key.separator"),
    ],
)
def test_what_is_no_record(said: dict[str, str], line: bytes, words: str) -> None:
    with pytest.raises(BadLine, match=words):
        line_reader(said).parse(line, 7)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"parse.value": "true"}, "parse.value: there are"),
        ({"key.separator": ""}, "must not be empty"),
        ({"parse.headers": "true", "headers.separator": ":"}, "must differ"),
    ],
)
def test_what_no_reader_knows(said: dict[str, str], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        line_reader(said)


def _record(value: Any, key: Any = None, headers: Any = ()) -> Record:
    origin = Origin("t", 2, 77, 3)
    return Record(value, key, list(headers), timestamp=88, offset=5, origin=origin)


_EVERYTHING = {
    f"print.{name}": "true"
    for name in ("timestamp", "partition", "offset", "epoch", "headers", "key", "value")
}


@pytest.mark.parametrize(
    ("said", "record", "printed"),
    [
        ({}, _record("v", "k"), b"v\n"),
        ({}, _record(None), b"null\n"),
        ({}, _record({"a": 1}), b'{"a":1}\n'),
        ({"print.key": "true"}, _record("v"), b"null\tv\n"),
        ({"print.key": "true", "print.value": "false"}, _record("v", "k"), b"k\n"),
        ({"print.value": "false"}, _record("v", "k"), b""),
        (
            {"print.key": "true", "key.separator": "=", "line.separator": ";"},
            _record(1, "k"),
            b"k=1;",
        ),
        ({"null.literal": "-"}, _record(None), b"-\n"),
        (
            _EVERYTHING,
            _record("v", "k", [("a", "1"), ("b", None)]),
            b"CreateTime:88\tPartition:2\tOffset:5\tEpoch:3\ta:1,b:null\tk\tv\n",
        ),
        ({"print.headers": "true"}, _record("v"), b"NO_HEADERS\tv\n"),
    ],
)
def test_records(said: dict[str, str], record: Record, printed: bytes) -> None:
    assert formatter(said)(record) == printed


def test_a_deserializer_of_kafkas_is_no_matter_and_another_is() -> None:
    long = "org.apache.kafka.common.serialization.LongDeserializer"
    assert formatter({"value.deserializer": long})(_record(3)) == b"3\n"
    with pytest.raises(click.UsageError, match="no Java classes"):
        formatter({"value.deserializer": "io.confluent.KafkaAvroDeserializer"})
    with pytest.raises(click.UsageError, match=r"print\.keys: there are"):
        formatter({"print.keys": "true"})
