"""Lines to a producer, and what is told of them, against a producer that does as it is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from yak.commands import feed as feed_module
from yak.commands.feed import Feed, How, listed
from yak.commands.interrupts import Interrupted, Interrupts
from yak.commands.lines import parse_record
from yak.errors import UndeliveredError, YakError
from yak.model import RecordMetadata
from yak.producer import Producer


class _Receipt:
    """Of records of which those with the value "lost" fail."""

    def __init__(self, topic: str, values: Sequence[Any]) -> None:
        self._topic = topic
        self._values = values

    def done(self) -> bool:
        return True

    def failed(self) -> list[int]:
        return [n for n, value in enumerate(self._values) if value == "lost"]

    def exception(self) -> YakError | None:
        return YakError("as told") if self.failed() else None

    def result(self) -> Any:
        if self.failed():
            raise YakError("as told")
        return [RecordMetadata(self._topic, 0, 40 + n, 5) for n in range(len(self._values))]


class _One(_Receipt):
    def result(self) -> Any:
        return super().result()[0]


class _Producer:
    """Keeps what it is sent.  refuses: a value at which it raises."""

    def __init__(self, refuses: str | None = None) -> None:
        self.statistics = SimpleNamespace(sent=0, acknowledged=0, retransmitted=0, lost=0)
        self.calls: list[dict[str, Any]] = []
        self.closed = False
        self._refuses = refuses

    def _take(self, values: Sequence[Any]) -> None:
        for value in values:
            if value == self._refuses:
                raise YakError("refused as told", name="INVALID_RECORD")
            self.statistics.sent += 1
            name = "lost" if value == "lost" else "acknowledged"
            setattr(self.statistics, name, getattr(self.statistics, name) + 1)

    def send_many(self, topic: str, values: Sequence[Any], key: Any = None, **how: Any) -> _Receipt:
        self.calls.append({"values": list(values), "key": key, **how})
        self._take(values)
        return _Receipt(topic, values)

    def send(self, topic: str, value: Any, *members: Any) -> _One:
        self.calls.append({"value": value, "members": members})
        self._take([value])
        return _One(topic, [value])

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True
        if self.statistics.lost:
            raise UndeliveredError(f"{self.statistics.lost} records were not acknowledged", [])


def _run(
    tmp_path: Path,
    content: bytes,
    producer: _Producer,
    *,
    quiet: bool = False,
    shows: bool = False,
    is_json: bool = False,
    replicas: int | None = None,
    **how: Any,
) -> int:
    path = tmp_path / "input"
    path.write_bytes(content)
    with Interrupts() as interrupts:
        feed = Feed(
            cast("Producer", producer),
            How(topic="t", parse=parse_record if is_json else None, **how),
            interrupts,
            quiet=quiet,
            shows=shows,
            replicas=lambda: replicas,
        )
        return feed.run(path, prompts=False)


def test_lines_travel_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    producer = _Producer()
    headers = [("h", "v")]
    how: dict[str, Any] = {"key": "k", "headers": headers, "partition": 2}
    assert _run(tmp_path, b"a\n\nb\xff\n", producer, **how) == 0
    (call,) = producer.calls
    assert call == {
        "values": ["a", "", b"b\xff"],
        "key": "k",
        "keys": None,
        "headers": headers,
        "partition": 2,
    }
    assert producer.closed
    out, err = capsys.readouterr()
    assert (out, err) == ("", "sent 3  acknowledged 3  retransmitted 0  lost 0\n")


def test_keys_from_lines(tmp_path: Path) -> None:
    producer = _Producer()
    assert _run(tmp_path, b"k:a:b\nno key\n:c\n", producer, separator=b":") == 0
    assert producer.calls[0]["values"] == ["a:b", "no key", "c"]
    assert producer.calls[0]["keys"] == ["k", None, ""]


def test_json_values(tmp_path: Path) -> None:
    producer = _Producer()
    assert _run(tmp_path, b'{"a":1}\ntext\n', producer, json_values=True) == 0
    value, text = producer.calls[0]["values"]
    assert (bytes(cast("msgspec.Raw", value)), text) == (b'{"a":1}', "text")


def test_json_records_together_or_each_for_itself(tmp_path: Path) -> None:
    producer = _Producer()
    assert _run(tmp_path, b'{"value":"a"}\n{"value":"b","key":"k"}\n', producer, is_json=True) == 0
    assert producer.calls[0]["keys"] == [None, "k"]
    producer = _Producer()
    lines = b'{"value":"a","headers":[["x","y"]]}\n{"value":"b","timestamp":5}\n'
    headers = [("h", "v")]
    assert _run(tmp_path, lines, producer, is_json=True, headers=headers, partition=1) == 0
    assert [call["members"] for call in producer.calls] == [
        (None, [("x", "y"), ("h", "v")], 1, None),
        (None, headers, 1, 5),
    ]


def test_what_comes_before_a_bad_line_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = _Producer()
    assert _run(tmp_path, b'{"value":"a"}\n[]\n{"value":"b"}\n', producer, is_json=True) == 1
    assert producer.calls[0]["values"] == ["a"]
    assert producer.closed
    err = capsys.readouterr().err
    assert "sent 1  acknowledged 1" in err
    assert err.splitlines()[-1].startswith("error: line 2 is no record")


@pytest.mark.parametrize("is_json", [False, True])
def test_what_was_never_acknowledged_is_listed(
    is_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"a", b"lost", b"b", b"lost"]
    if is_json:
        lines = [b'{"value":"%s","timestamp":5}' % line for line in lines]
    assert _run(tmp_path, b"\n".join(lines), _Producer(), is_json=is_json) == 1
    assert capsys.readouterr().err.splitlines() == [
        "never acknowledged:",
        f"  line 2: {lines[1].decode()}",
        f"  line 4: {lines[3].decode()}",
        "sent 4  acknowledged 2  retransmitted 0  lost 2",
        "error: 2 records were not acknowledged",
    ]


@pytest.mark.parametrize("is_json", [False, True])
def test_what_the_producer_refuses_counts_as_lost(
    is_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b"a", b"bad", b"c"]
    if is_json:
        lines = [b'{"value":"%s","timestamp":5}' % line for line in lines]
    producer = _Producer(refuses="bad")
    assert _run(tmp_path, b"\n".join(lines) + b"\n", producer, is_json=is_json) == 1
    err = capsys.readouterr().err
    assert "line 1" not in err
    assert "  line 2: " in err
    assert "  line 3: " in err
    assert "sent 3  acknowledged 1  retransmitted 0  lost 2" in err
    assert err.endswith("error: refused as told\n")


def test_quiet_is_quiet_but_for_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, b"a\n", _Producer(), quiet=True) == 0
    assert capsys.readouterr().err == ""
    assert _run(tmp_path, b"lost\n", _Producer(), quiet=True) == 1
    assert "line 1: lost" in capsys.readouterr().err


def test_acknowledgements_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, b"a\nb\n", _Producer(), shows=True) == 0
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first.startswith("✓ t[0]@40  ")
    assert first.endswith(" ms")
    assert second.startswith("✓ t[0]@41  ")


@pytest.mark.parametrize(("replicas", "told"), [(1, "  1 replica"), (3, "  3 replicas")])
def test_an_acknowledgement_says_how_many_have_it(
    replicas: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, b"a\n", _Producer(), shows=True, replicas=replicas) == 0
    assert capsys.readouterr().err.splitlines()[0].endswith(f" ms{told}")


def test_an_interruption_delivers_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C comes while the second read waits."""
    waits = iter([None, Interrupted()])

    def wait(*_: Any) -> None:
        if (raised := next(waits)) is not None:
            raise raised

    monkeypatch.setattr(feed_module, "READ_BYTES", 8)
    monkeypatch.setattr(Interrupts, "wait_readable", wait)
    producer = _Producer()
    assert _run(tmp_path, b"one\ntwo\nthree\n", producer) == 0
    assert producer.calls[0]["values"] == ["one", "two"]
    assert "sent 2  acknowledged 2" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", read)
    assert _run(tmp_path, b"a\n", _Producer()) == 1
    assert capsys.readouterr().err.endswith(
        f"error: cannot read {tmp_path / 'input'}: Input/output error\n"
    )


def test_many_lost_lines_are_listed_in_short() -> None:
    lost = [(number, b"x") for number in [*range(1, 104), 200, 202]]
    lines = listed(lost)
    assert len(lines) == 101
    assert lines[99] == "  line 100: x"
    assert lines[100] == "  and 5 lines more: 101-103, 200, 202"


def test_a_long_or_strange_line_is_cut() -> None:
    (line,) = listed([(1, b"\x1b[2J" + b"y" * 100)])
    assert "\x1b" not in line
    assert line.endswith("y…")
