"""`yak topic`: what is asked for, and what is shown."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.admin import PartitionReport, TopicReport
from yak.commands.topic import topic
from yak.errors import YakError


class _Admin:
    made: Any = None
    empty = False
    #: What was asked to be changed, in order.
    changes: ClassVar[list[Any]] = []

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def __enter__(self) -> _Admin:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def create_topic(
        self, name: str, partitions: int | None, config: dict[str, Any]
    ) -> m.TopicAnswer:
        _Admin.made = (name, partitions, config)
        config = {"retention_ms": 5} if config else {}
        return m.TopicAnswer(topic=name, topic_id="t9", partitions=partitions or 3, config=config)

    def alter_topic(self, name: str, config: Any, *, unset: Any, topic_id: str) -> m.TopicAnswer:
        assert topic_id == "t1"
        _Admin.changes.append(("alter", config, list(unset)))
        return m.TopicAnswer(topic=name, topic_id=topic_id, partitions=1, config={"a": 2})

    def create_partitions(self, name: str, partitions: int, *, topic_id: str) -> m.TopicAnswer:
        assert topic_id == "t1"
        _Admin.changes.append(("grow", partitions))
        return m.TopicAnswer(topic=name, topic_id=topic_id, partitions=partitions, config={})

    def delete_topic(self, name: str, *, topic_id: str) -> None:
        _Admin.changes.append(("delete", name, topic_id))

    def trim(self, name: str, starts: dict[int, int], *, topic_id: str) -> None:
        _Admin.changes.append(("trim", name, starts, topic_id))

    def groups(self) -> list[str]:
        return []

    def topics(self) -> dict[str, m.TopicEntry]:
        if self.empty:
            return {}
        return {"a": m.TopicEntry(topic_id="t1", partitions=1200, config={"retention_ms": 5})}

    def topic(self, name: str) -> TopicReport:
        if name == "new":
            raise YakError("there is no topic", name="UNKNOWN_TOPIC")
        partitions = [PartitionReport(partition=0, start=4, high_watermark=10)]
        return TopicReport(
            topic=name, topic_id="t1", config={"b": 1, "a": 2}, partitions=partitions
        )


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.setattr("yak.commands.topic.Admin", _Admin)
    _Admin.changes.clear()
    return CliRunner().invoke(topic, args, standalone_mode=False, catch_exceptions=False)


def test_create(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "create", "a").stdout == "topic a has 3 partitions\n"
    assert _Admin.made == ("a", None, {})
    options = ("--partitions", "1", "--config", "retention_ms=5", "--config", "x=long text")
    shown = json.loads(_run(monkeypatch, "create", "a", *options, "--json").stdout)
    expected = {"topic": "a", "topic_id": "t9", "partitions": 1, "config": {"retention_ms": 5}}
    assert shown == expected
    assert _Admin.made == ("a", 1, {"retention_ms": 5, "x": "long text"})


def test_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "list").stdout.splitlines()[1].split() == [
        "a",
        "1,200",
        "retention_ms=5",
    ]
    assert json.loads(_run(monkeypatch, "list", "--json").stdout)["a"]["partitions"] == 1200
    monkeypatch.setattr(_Admin, "empty", True)
    result = _run(monkeypatch, "list")
    assert result.stdout == ""
    assert "no topics" in result.stderr


def test_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _run(monkeypatch, "describe", "a").stdout.splitlines()
    assert lines[0] == "topic a  id t1  a=2 b=1"
    assert lines[2].split() == ["0", "4", "10", "6"]
    shown = json.loads(_run(monkeypatch, "describe", "a", "--json").stdout)
    assert shown["partitions"] == [{"partition": 0, "start": 4, "high_watermark": 10}]


def test_a_creation_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Admin, "made", None)
    said = _run(monkeypatch, "create", "new", "--partitions", "2", "--dry-run").stdout
    assert said == "would create topic new with 2 partitions\n"
    said = _run(monkeypatch, "create", "new", "--config", "a=1", "--dry-run").stdout
    assert said == "would create topic new with the broker's default number of partitions and a=1\n"
    with pytest.raises(click.ClickException, match="exists already"):
        _run(monkeypatch, "create", "a", "--dry-run")
    assert _Admin.made is None


def test_alter(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--partitions", "6", "--config", "a=2", "--unset", "b")
    shown = json.loads(_run(monkeypatch, "alter", "t", *options, "--json").stdout)
    assert shown == {"topic": "t", "topic_id": "t1", "partitions": 6, "config": {}}
    assert _Admin.changes == [("alter", {"a": 2}, ["b"]), ("grow", 6)]
    said = _run(monkeypatch, "alter", "t", "--partitions", "6").stdout
    assert said == "topic t has 6 partitions, no settings of its own\n"
    assert _Admin.changes == [("grow", 6)]
    said = _run(monkeypatch, "alter", "t", "--unset", "b").stdout
    assert said == "topic t has 1 partition, a=2\n"
    assert _Admin.changes == [("alter", {}, ["b"])]
    said = _run(monkeypatch, "alter", "t", *options, "--dry-run").stdout
    assert said.startswith("would alter topic t: set a=2 (now 2); unset b (now 1); add 5")
    assert _Admin.changes == []
    with pytest.raises(click.UsageError, match="--partitions, --config or --unset"):
        _run(monkeypatch, "alter", "t")


def test_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.UsageError, match="add --yes"):
        _run(monkeypatch, "delete", "t")
    assert _Admin.changes == []
    said = _run(monkeypatch, "delete", "t", "--dry-run").stdout
    assert said == "would delete topic t: 1 partition with 6 records\n"
    assert _Admin.changes == []
    assert _run(monkeypatch, "delete", "t", "--yes").stdout == "topic t is deleted\n"
    assert _Admin.changes == [("delete", "t", "t1")]
    shown = json.loads(_run(monkeypatch, "delete", "t", "--yes", "--json").stdout)
    assert (shown["topic"], shown["records"], shown["groups"]) == ("t", 6, [])


def test_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _run(monkeypatch, "trim", "t", "--before", "7", "--yes").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["partition", "start", "forgotten"],
        ["0", "7", "3"],
    ]
    assert _Admin.changes == [("trim", "t", {0: 7}, "t1")]
    shown = json.loads(_run(monkeypatch, "trim", "t", "--all", "--yes", "--json").stdout)
    assert shown["partitions"] == [{"partition": 0, "start": 10, "was": 4, "forgotten": 6}]
    _run(monkeypatch, "trim", "t", "--before", "2", "--yes")
    assert _Admin.changes == [("trim", "t", {}, "t1")]
    with pytest.raises(click.UsageError, match="add --yes"):
        _run(monkeypatch, "trim", "t", "--all")
    assert _Admin.changes == []


@pytest.mark.parametrize(
    "options", [(), ("--all", "--before", "3"), ("--before", "end"), ("--before", "-3")]
)
def test_how_much_to_trim_is_said_once(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    with pytest.raises(click.UsageError, match="say"):
        _run(monkeypatch, "trim", "t", *options, "--yes")
