"""`yak explain` as a user types it, and as it stands on a narrow terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.evidence import a_broker, a_zk, the_log
from tests.support.playbook import WALL_MS
from yak.commands.explain import described, explain
from yak.explain.facts import Cause, Explanation

NOBODY = ("-b", "127.0.0.1:1", "--zk", "127.0.0.1:1")


def run(*argv: str) -> Result:
    return CliRunner().invoke(explain, argv)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    a_broker(tmp_path, 1, the_log())
    a_zk(tmp_path)
    return tmp_path


def test_every_question_is_answered_from_files(home: Path) -> None:
    for question in ("isr", "topic t", "offset t/0@2", "offset t[0]@2"):
        result = run(*question.split(), str(home), *NOBODY)
        assert result.exit_code == 0, result.output
        assert "no broker answers" in result.output  # it was named by the user
    by_option = run("offset", "t/0@2", "--data-dir", str(home), *NOBODY)
    assert by_option.output == run("offset", "t/0@2", str(home), *NOBODY).output


def test_json_has_stable_keys(home: Path) -> None:
    result = run("offset", "t/0@2", str(home), "--json", *NOBODY)
    answer = json.loads(result.output)
    assert list(answer) == ["question", "about", "answer", "chain", "unknown", "sources"]
    assert answer["question"] == {"kind": "offset", "name": "t", "partition": 0, "offset": 2}
    for cause in answer["chain"]:
        assert list(cause) == ["time", "index", "epoch", "kind", "source", "what"]
    (append,) = [cause for cause in answer["chain"] if cause["kind"] == "append"]
    assert (append["time"], append["index"], append["epoch"]) == (WALL_MS, 4, 1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("topic x", "there is no topic x: topics that there are: t"),
        ("offset t/0@4", "t/0@4 has not been written"),
        ("offset t/9@4", "topic t has no partition 9"),
        ("group x", "there is no group x"),
        ("client x", "nobody named x is known"),
    ],
)
def test_what_is_not_there_is_exit_code_1(home: Path, argv: str, words: str) -> None:
    result = run(*argv.split(), str(home), *NOBODY)
    assert result.exit_code == 1
    assert words in result.output


@pytest.mark.parametrize("where", ["t", "t/0", "t/x@1", "t/0@-1", "t@0", "/0@1", "../0@1"])
def test_what_is_no_offset_is_exit_code_2(where: str) -> None:
    result = run("offset", where)
    assert result.exit_code == 2
    assert "say TOPIC/PARTITION@OFFSET" in result.output


def test_nothing_to_tell_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("leader", *NOBODY)
    assert result.exit_code == 1
    assert "there is nothing to tell from" in result.output
    assert run("leader", str(tmp_path / "no-such")).exit_code == 2


def _explanation() -> Explanation:
    long = "it is told at some length, so that no line of a narrow terminal could ever hold it"
    return Explanation(
        about="x",
        answer=f"because {long}",
        chain=[
            Cause(time=WALL_MS, kind="k", source="log", what="one", index=3),
            Cause(time=WALL_MS + 86_400_000, kind="k", source="broker-2", what=long),
            Cause(kind="k", source="leader", what="now"),
        ],
        unknown=[long],
        sources=["data/broker-1", "data/broker-2"],
    )


def test_a_narrow_terminal() -> None:
    assert described(_explanation(), 80).splitlines() == [
        "because it is told at some length, so that no line of a narrow terminal could",
        "ever hold it",
        "",
        "2025-11-22 (UTC)",
        "  08:26:40.000  log       operation 3: one",
        "2025-11-23 (UTC)",
        "  08:26:40.000  broker-2  it is told at some length, so that no line of a narrow",
        "                          terminal could ever hold it",
        "                leader    now",
        "",
        "not known:",
        "  - it is told at some length, so that no line of a narrow terminal could ever",
        "    hold it",
        "",
        "from data/broker-1, data/broker-2",
    ]


def test_a_pipe_has_whole_lines() -> None:
    assert len(described(_explanation()).splitlines()) == 12
