"""How the doctor's steps are shown: a line each, and under what failed its cause and the fix."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from yak.commands import diagnosis
from yak.commands.doctor import described, doctor
from yak.commands.findings import Step, failed, ok, skipped

_STEPS = [
    ok("address", "h:9092", "127.0.0.1"),
    failed("tcp", "h:9092", "Connection refused", "nobody listens", "start it"),
    skipped("hello", "h:9092", "needs tcp"),
    ok("files", "", "1,024 files may be open"),
]


def test_a_line_a_step_and_what_to_do() -> None:
    assert described(_STEPS).splitlines() == [
        "ok       address  h:9092  127.0.0.1",
        "NOT OK   tcp      h:9092  Connection refused",
        "         cause    nobody listens",
        "         fix      start it",
        "skipped  hello    h:9092  needs tcp",
        "ok       files            1,024 files may be open",
    ]


def test_in_a_window_lines_are_folded_between_words_under_their_column() -> None:
    found, cause = (
        "Connection refused by the other side",
        "nobody listens there: its broker is down",
    )
    assert described([failed("tcp", "h:9092", found, cause, "start it")], 50).splitlines() == [
        "NOT OK   tcp      h:9092  Connection refused by",
        "                          the other side",
        "         cause    nobody listens there: its broker",
        "                  is down",
        "         fix      start it",
    ]


@pytest.mark.parametrize(
    ("steps", "code", "last"),
    [
        (_STEPS, 1, "2 steps ok, 1 not ok, 1 step skipped"),
        (_STEPS[:1], 0, "1 step ok, 0 not ok"),
    ],
)
def test_what_is_not_ok_is_exit_code_1(
    steps: list[Step], code: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def examine(_wanted: Any) -> list[Step]:
        return steps

    monkeypatch.setattr(diagnosis, "examine", examine)
    runner = CliRunner()
    ended = runner.invoke(doctor, ["-b", "h:9092"], standalone_mode=False)
    assert (ended.return_value, ended.output.splitlines()[-1]) == (code, last)
    ended = runner.invoke(doctor, ["-b", "h:9092", "--json"], standalone_mode=False)
    report = msgspec.json.decode(ended.output)
    assert report["ok"] is (code == 0)
    assert [step["state"] for step in report["steps"]] == [step.state for step in steps]
