"""The demonstration's proof can fail: each kind of fault that it looks for is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.demo.processes import Failure
from scripts.demo.proof import every_line_once_and_in_order, the_same_bytes
from scripts.demo.text import MIN_LINES, Text, make_text

LINES = [b"one\n", b"\n", b"\n", b"four\n", b"five\n"]


@pytest.fixture
def text(tmp_path: Path) -> Text:
    path = tmp_path / "text"
    path.write_bytes(b"".join(LINES))
    return Text(path, LINES, "a test")


def _right() -> list[dict[str, Any]]:
    """What a right yak-consume prints of LINES: odd lines in partition 1, even ones in 0."""
    return [
        {"partition": n % 2, "offset": n // 2, "key": f"{n:08}", "value": line.decode()[:-1]}
        for n, line in enumerate(LINES)
    ]


def _check(text: Text, records: list[dict[str, Any]]) -> list[int]:
    consumed = text.path.with_name("consumed")
    consumed.write_text("".join(json.dumps(record) + "\n" for record in records))
    return every_line_once_and_in_order(text, consumed)


def test_what_is_right_passes(text: Text) -> None:
    assert _check(text, _right()) == [3, 2]


def test_a_lost_line(text: Text) -> None:
    with pytest.raises(Failure, match="1 lines are missing, line 4"):
        _check(text, _right()[:-1])


def test_a_line_twice(text: Text) -> None:
    again = {**_right()[1], "partition": 0, "offset": 3, "key": "00000001"}
    with pytest.raises(Failure, match="line 1 after 4"):
        _check(text, [*_right(), again])
    elsewhere = {**again, "partition": 2, "offset": 0}
    with pytest.raises(Failure, match="line 1 has come before"):
        _check(text, [*_right(), elsewhere])


def test_two_lines_swapped(text: Text) -> None:
    records = _right()
    records[0]["key"], records[2]["key"] = records[2]["key"], records[0]["key"]
    with pytest.raises(Failure, match="line 0 after 2"):
        _check(text, records)


def test_another_text(text: Text) -> None:
    records = _right()
    records[3]["value"] = "fovr"
    with pytest.raises(Failure, match="not the text"):
        _check(text, records)


def test_a_gap_in_the_offsets(text: Text) -> None:
    records = _right()
    records[4]["offset"] = 7
    with pytest.raises(Failure, match="offset 7: 2 was the next"):
        _check(text, records)


def test_logs_that_differ(tmp_path: Path) -> None:
    for broker in ("a", "b"):
        (tmp_path / broker / "oplog").mkdir(parents=True)
        (tmp_path / broker / "oplog" / "1.jsonl").write_bytes(b"same")
    directories = [tmp_path / "a", tmp_path / "b"]
    assert the_same_bytes(directories) == 4
    (tmp_path / "b" / "oplog" / "1.jsonl").write_bytes(b"sbme")
    with pytest.raises(Failure, match="differs"):
        the_same_bytes(directories)
    (tmp_path / "b" / "oplog" / "2.jsonl").write_bytes(b"")
    with pytest.raises(Failure, match="other files"):
        the_same_bytes(directories)


def test_the_text_is_real_and_long_enough(tmp_path: Path) -> None:
    text = make_text(tmp_path / "text")
    assert len(text.lines) >= MIN_LINES
    assert b"".join(text.lines) == text.path.read_bytes()
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in text.lines)
    assert text.keyed()[1] == b"00000001\t" + text.lines[1]
