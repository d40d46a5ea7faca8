"""`yak group`: which records have reached whom, and which have not."""

from __future__ import annotations

import json
from collections.abc import Collection
from types import TracebackType
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.admin import Place
from yak.commands.group import group
from yak.model import TopicPartition

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
    #: What was asked to be changed, in order.
    changes: ClassVar[list[Any]] = []

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

    def find_offsets(
        self, topic: str, to: Place, partitions: Collection[int] | None
    ) -> dict[TopicPartition, int]:
        assert to == "beginning"
        return {(topic, n): 0 for n in partitions or (0, 1)}

    def seek_group(self, name: str, offsets: dict[TopicPartition, int]) -> None:
        _Admin.changes.append(("seek", name, offsets))

    def delete_group(self, name: str) -> None:
        _Admin.changes.append(("delete", name))

    def group(self, name: str) -> m.GroupAnswer:
        if name == "g":
            return m.GroupAnswer(generation=4, members=MEMBERS, partitions=PARTITIONS)
        if name == "a":
            return m.GroupAnswer(generation=4, members=[], partitions=PARTITIONS)
        return m.GroupAnswer(generation=0, members=[], partitions=[])


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.setattr("yak.commands.group.Admin", _Admin)
    _Admin.changes.clear()
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


def test_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    to = ("--to", "beginning")
    lines = _run(monkeypatch, "seek", "a", *to, "--yes").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [["t", "0", "43", "0"], ["t", "1", "-", "0"]]
    assert _Admin.changes == [("seek", "a", {("t", 0): 0, ("t", 1): 0})]
    _run(monkeypatch, "seek", "a", "u", "v", *to, "--yes")
    assert list(_Admin.changes[0][2]) == [("u", 0), ("u", 1), ("v", 0), ("v", 1)]
    said = _run(monkeypatch, "seek", "a", "t", "--partition", "0", *to, "--dry-run").stdout
    assert said == "would move group a: t[0] from 43 to 0; back by 43 records, which come again\n"
    assert _Admin.changes == []
    shown = json.loads(_run(monkeypatch, "seek", "a", "t", *to, "--yes", "--json").stdout)
    assert shown["partitions"][1] == {"topic": "t", "partition": 1, "was": None, "to": 0}


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("g", "t", "--to", "beginning", "--yes"), "2 members"),
        (("new", "--to", "beginning", "--yes"), "name the TOPIC"),
        (("a", "t", "--to", "beginning"), "add --yes"),
        (("a", "t", "--to", "stored", "--yes"), "say"),
        (("a", "t", "u", "--partition", "0", "--to", "beginning"), "exactly one TOPIC"),
        (("a", "--partition", "0", "--to", "beginning"), "exactly one TOPIC"),
    ],
)
def test_what_cannot_be_moved(
    monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], why: str
) -> None:
    result = _run(monkeypatch, "seek", *argv)
    assert isinstance(result.exception, click.ClickException)
    assert why in result.exception.format_message()
    assert _Admin.changes == []


def test_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "delete", "a", "--yes").stdout == "group a is deleted\n"
    assert _Admin.changes == [("delete", "a")]
    said = _run(monkeypatch, "delete", "a", "--dry-run").stdout
    assert said == "would delete group a: what it acknowledged of 1 partition (t)\n"
    assert _Admin.changes == []
    shown = json.loads(_run(monkeypatch, "delete", "a", "--yes", "--json").stdout)
    assert shown == {"group": "a", "partitions": 1, "topics": ["t"]}
    for argv in (("g", "--yes"), ("a",)):
        assert isinstance(_run(monkeypatch, "delete", *argv).exception, click.ClickException)
        assert _Admin.changes == []
