"""What yak-consume prints of a record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from yak.commands.formats import as_json, compile_format, plain
from yak.commands.lines import parse_record
from yak.model import Origin, Record


def _record(value: Any, **members: Any) -> Record:
    return Record(
        value, timestamp=17, offset=41, origin=Origin("orders", 2, time=5, epoch=1), **members
    )


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("two\nlines", b"two\nlines\n"),
        ("", b"\n"),
        (b"\xff", b"\xff\n"),
        ({"a": [1, None]}, b'{"a":[1,null]}\n'),
        (None, b"null\n"),
        (1.5, b"1.5\n"),
    ],
)
def test_plain(value: Any, printed: bytes) -> None:
    assert plain(_record(value)) == printed


def test_json_says_where_and_what() -> None:
    line = as_json(_record({"a": 1}, key="k", headers=[("h", None)]))
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "topic": "orders",
        "partition": 2,
        "offset": 41,
        "key": "k",
        "value": {"a": 1},
        "headers": [["h", None]],
        "timestamp": 17,
    }


@pytest.mark.parametrize("value", ["x", "", b"\xff\xfe", "grüß", "a\nb"])
@pytest.mark.parametrize("key", [None, "k", b"\xff"])
def test_json_is_read_back_as_it_was(value: str | bytes, key: str | bytes | None) -> None:
    headers: Any = [("h", "v"), ("h", None)]
    found = parse_record(as_json(_record(value, key=key, headers=headers)), 1)

    def as_bytes(part: str | bytes | None) -> bytes | None:
        return part.encode() if isinstance(part, str) else part

    assert as_bytes(found.value) == as_bytes(value)
    assert as_bytes(found.key) == as_bytes(key)
    assert found.headers == headers
    assert found.timestamp == 17


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("%t|%p|%o|%k|%s|%h|%T|%S|%K", "orders|2|41|kéy|väl|a=b,c=|17|4|4"),
        ("100%%%s%%\\n\\t", "100%väl%\n\t"),
        ("%R%s", "\0\0\0\x04väl"),
        ("none", "none"),
        ("", ""),
        ("%%s", "%s"),
    ],
)
def test_formats(text: str, printed: str) -> None:
    record = _record("väl", key="kéy", headers=[("a", "b"), ("c", None)])
    assert compile_format(text)(record).decode() == printed


def test_no_key() -> None:
    assert compile_format("<%k> %K")(_record("x")) == b"<> -1"


@pytest.mark.parametrize("text", ["%q", "%", "\\q%s", "%s\\"])
def test_no_formats(text: str) -> None:
    with pytest.raises(ValueError, match="stands for nothing"):
        compile_format(text)
