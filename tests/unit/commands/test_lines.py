"""What yak-produce makes of what it reads."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak.commands import lines
from yak.commands.interrupts import Interrupted
from yak.commands.lines import BadLine, Parsed, json_or_text, parse_record, read_chunks


def _read(path: Path) -> list[tuple[int, list[bytes]]]:
    with path.open("rb", buffering=0) as file:
        return [(c.first, c.lines) for c in read_chunks(lambda: file.read(lines.READ_BYTES))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"a\r\nb\x0bc\n", [b"a\r", b"b\x0bc"]),
        (b"\xff\n", [b"\xff"]),
    ],
)
def test_a_line_ends_at_its_newline_only(
    tmp_path: Path, content: bytes, expected: list[bytes]
) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    assert [line for _, part in _read(path) for line in part] == expected


@given(content=st.binary(max_size=60), size=st.integers(1, 9), most=st.integers(1, 4))
def test_lines_are_the_same_however_they_are_cut(content: bytes, size: int, most: int) -> None:
    source = io.BytesIO(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_LINES", most)
        chunks = list(read_chunks(lambda: source.read(size)))
    found = [line for chunk in chunks for line in chunk.lines]
    expected = content.split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])
    assert [chunk.first for chunk in chunks] == [
        1 + sum(len(before.lines) for before in chunks[:n]) for n in range(len(chunks))
    ]
    assert all(len(chunk.lines) <= most for chunk in chunks)


def test_what_has_arrived_is_handed_on_before_the_end() -> None:
    arrived = [b"first\nsec"]
    chunks = read_chunks(lambda: arrived.pop(0))
    assert next(chunks).lines == [b"first"]
    arrived += [b"ond\n", b""]
    assert next(chunks).lines == [b"second"]
    assert list(chunks) == []


def test_an_interruption_leaves_a_line_that_is_not_whole() -> None:
    arrived = [b"first\nsec"]

    def read() -> bytes:
        if not arrived:
            raise Interrupted
        return arrived.pop(0)

    chunks = read_chunks(read)
    assert next(chunks).lines == [b"first"]
    with pytest.raises(Interrupted):
        next(chunks)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "READ_BYTES", 10)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 30)
    path = tmp_path / "input"
    path.write_bytes(b"short\n" + b"x" * 100)
    with pytest.raises(BadLine, match="line 2 is longer than 30 bytes"):
        _read(path)


def test_bytes_that_are_no_text_stay_bytes() -> None:
    assert lines.texts([b"a", b"\xff", "é".encode()]) == ["a", b"\xff", "é"]
    assert lines.texts([b"a", b"", b"b"]) == ["a", "", "b"]


@pytest.mark.parametrize("line", [b'{"a": 1.50}', b"[1]", b"3", b" 7"])
def test_json_values_stay_as_they_are_written(line: bytes) -> None:
    value = json_or_text(line)
    assert isinstance(value, msgspec.Raw)
    assert bytes(value) == line


@pytest.mark.parametrize("line", ["true", "null", '"a"', "a b", "", "{", "NaN"])
def test_other_lines_are_strings_under_value_json_too(line: str) -> None:
    assert json_or_text(line.encode()) == line


def test_the_key_is_what_stands_before_the_first_separator() -> None:
    assert lines.split_key(b"a:b:c", b":") == (b"a", b"b:c")
    assert lines.split_key(b":c", b":") == (b"", b"c")
    assert lines.split_key(b"c", b":") == (None, b"c")


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ('{"value":"x"}', Parsed("x")),
        ('{"value":null,"key":null}', Parsed(None)),
        (
            '{"topic":"t","offset":4,"key":"k","value":"","headers":[["a",null]],"timestamp":5}',
            Parsed("", "k", [("a", None)], 5),
        ),
        ('{"value":"/w==","enc":"base64"}', Parsed(b"\xff")),
        ('{"key":"/w==","value":"eA==","enc":"base64"}', Parsed(b"x", b"\xff")),
    ],
)
def test_a_json_record(line: str, record: Parsed) -> None:
    found = parse_record(line.encode(), 1)
    if record.value is None:
        assert bytes(found.value) == b"null"
    else:
        assert found == record


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        '{"value":1',
        '{"value":1,"key":2}',
        '{"value":1,"headers":{"a":"b"}}',
        '{"value":1,"timestamp":-1}',
        '{"value":1,"timestamp":9007199254740992}',
        '{"value":1,"enc":"rot13"}',
        '{"value":"%","enc":"base64"}',
        '{"value":"eA==","key":"%","enc":"base64"}',
        '{"value":' + "[" * 5000,
    ],
)
def test_what_is_no_record_is_named_by_its_line(line: str) -> None:
    with pytest.raises(BadLine, match="line 12"):
        parse_record(line.encode(), 12)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("a\\tb", "a\tb"), ("\\\\n", "\\n"), ("\\x41\\0\\r\\n", "A\0\r\n"), ("é", "é")],
)
def test_escapes(typed: str, meant: str) -> None:
    assert lines.unescape(typed) == meant


@pytest.mark.parametrize("typed", ["\\", "\\q", "\\x", "\\x4", "\\xzz"])
def test_no_escapes(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\\"):
        lines.unescape(typed)
