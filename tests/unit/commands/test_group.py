"""`yak group`: which records have reached whom, and which have not."""

from __future__ import annotations

import json
from types import TracebackType

import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.commands.group import group

MEMBERS = [
    m.MemberEntry(member="c1-a", client="c1", generation=4, assignment=[("t", 0)], topics=["t"]),
    m.MemberEntry(member="c2-b", client="c2", generation=4, assignment=[], topics=["t"]),
]
PARTITIONS = [
    m.GroupPartition(
        topic="t", partition=0, acked=43, delivered=57, high_watermark=60, lag=17, member="c1-a"
    ),
    m.GroupPartition(
        topic="t", partition=1, acked=None, delivered=None, high_watermark=5, lag=5, member=None
    ),
]


class _Admin:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def __enter__(self) -> _Admin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def groups(self) -> list[str]:
        return ["a", "b"]

    def group(self, name: str) -> m.GroupAnswer:
        if name == "g":
            return m.GroupAnswer(generation=4, members=MEMBERS, partitions=PARTITIONS)
        return m.GroupAnswer(generation=0, members=[], partitions=[])


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.setattr("yak.commands.group.Admin", _Admin)
    return CliRunner().invoke(group, args, standalone_mode=False)


def test_who_has_what(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _run(monkeypatch, "describe", "g").stdout.splitlines()
    assert lines[0] == "group g  generation 4  2 members  lag 22"
    assert [line.split() for line in lines[2:]] == [
        ["t", "0", "c1-a", "c1", "57", "43", "60", "17"],
        ["t", "1", "-", "-", "-", "-", "5", "5"],
        ["-", "-", "c2-b", "c2", "-", "-", "-", "-"],
    ]


def test_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(_run(monkeypatch, "describe", "g", "--json").stdout)
    assert shown["partitions"][0]["acked"] == 43
    assert shown["members"][0]["assignment"] == [["t", 0]]


def test_an_unknown_group_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run(monkeypatch, "describe", "nobody")
    assert result.stdout == ""
    assert "nobody has no members" in result.stderr


def test_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "list").stdout == "a\nb\n"
    assert json.loads(_run(monkeypatch, "list", "--json").stdout) == ["a", "b"]
