"""`yak topic`: what is asked for, and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.admin import PartitionReport, TopicReport
from yak.commands.topic import topic


class _Admin:
    made: Any = None
    empty = False

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
        return m.TopicAnswer(topic=name, topic_id="t9", partitions=partitions or 3)

    def topics(self) -> dict[str, m.TopicEntry]:
        if self.empty:
            return {}
        return {"a": m.TopicEntry(topic_id="t1", partitions=1200, config={"retention_ms": 5})}

    def topic(self, name: str) -> TopicReport:
        partitions = [PartitionReport(partition=0, start=4, high_watermark=10)]
        return TopicReport(
            topic=name, topic_id="t1", config={"b": 1, "a": 2}, partitions=partitions
        )


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.setattr("yak.commands.topic.Admin", _Admin)
    return CliRunner().invoke(topic, args, standalone_mode=False, catch_exceptions=False)


def test_create(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "create", "a").stdout == "topic a has 3 partitions\n"
    assert _Admin.made == ("a", None, {})
    options = ("--partitions", "1", "--config", "retention_ms=5", "--config", "x=long text")
    shown = json.loads(_run(monkeypatch, "create", "a", *options, "--json").stdout)
    assert shown == {"topic": "a", "topic_id": "t9", "partitions": 1}
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
