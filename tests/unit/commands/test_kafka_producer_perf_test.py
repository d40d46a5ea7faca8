"""The lines of Kafka's performance script, and how its options are spread."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click
import pytest

from yak.commands.kafka_producer_perf_test import Tally, payloads, spread


def test_several_values_after_one_option() -> None:
    several, rest = "--producer-props", ["--num-records", "5", "--command-property", "d=4"]
    assert spread(["--topic", "t", several, "a=1", "b=2", "c=3", *rest]) == (
        ["--topic", "t", several, "a=1", several, "b=2", several, "c=3", *rest]
    )


def test_a_negative_number_is_no_option_s_end() -> None:
    assert spread(["--throughput", "-1", "--topic", "t"]) == ["--throughput", "-1", "--topic", "t"]


def _values(**said: Any) -> list[str]:
    options = {"size": None, "payload_file": None, "payload_delimiter": "\\n"}
    return list(islice(payloads(**{**options, "payload_monotonic": False, **said}), 3))


def test_payloads(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")
    assert _values(size=4) == ["xxxx"] * 3
    assert _values(payload_monotonic=True) == ["0", "1", "2"]
    assert set(_values(payload_file=path)) <= {"one", "two"}
    path.write_text("only|")
    assert _values(payload_file=path, payload_delimiter="|") == ["only"] * 3
    path.write_text("")
    for said in ({}, {"size": 1, "payload_monotonic": True}, {"payload_file": path}):
        with pytest.raises(click.UsageError):
            _values(**said)


def test_the_lines_are_kafkas(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(100, 5000, now=10.0)
    for n in range(100):
        tally.add(float(n), 2**20)
    tally.tell_window(now=14.9)
    assert capsys.readouterr().out == ""
    tally.tell_window(now=15.0)
    assert capsys.readouterr().out == (
        "100 records sent, 20.0 records/sec (20.00 MB/sec), 49.5 ms avg latency, "
        "99.0 ms max latency.\n"
    )
    tally.tell_window(now=20.0)
    assert capsys.readouterr().out == "", "nothing came since"
    assert tally.summary(now=20.0) == (
        "100 records sent, 10.000000 records/sec (10.00 MB/sec), 49.50 ms avg latency, 99.00 ms "
        "max latency, 50 ms 50th, 95 ms 95th, 99 ms 99th, 99 ms 99.9th."
    )
    assert tally.summary(" steady state", now=20.0).startswith("100 steady state records sent")


def test_nothing_was_acknowledged() -> None:
    assert Tally(5, 5000, now=1.0).summary(now=2.0).startswith("0 records sent, 0.000000 rec")
