"""Where a group is let go on, as Kafka's script says it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import click
import pytest

from yak.admin import Admin, PartitionReport, TopicReport
from yak.commands import kafka_resets
from yak.messages import GroupAnswer, GroupPartition
from yak.model import TopicPartition

_SAID: dict[str, Any] = {
    **dict.fromkeys(("to_earliest", "to_latest", "to_current"), False),
    **dict.fromkeys(("to_offset", "shift_by", "to_datetime", "by_duration", "from_file")),
}


def _group() -> GroupAnswer:
    """It stands at 15 of t[0], and never acknowledged anything of t[1]."""
    rows = [
        GroupPartition(
            topic="t",
            partition=n,
            acked=acked,
            delivered=None,
            high_watermark=20,
            lag=5,
            member=None,
        )
        for n, acked in enumerate((15, None))
    ]
    return GroupAnswer(generation=1, members=[], partitions=rows)


class _Admin:
    """Each partition holds 10 up to 20; a time is found at 12."""

    def topic(self, topic: str) -> TopicReport:
        partitions = [PartitionReport(partition=n, start=10, high_watermark=20) for n in range(2)]
        return TopicReport(topic=topic, topic_id="t1", config={}, partitions=partitions)

    def find_offsets(
        self, topic: str, _to: datetime, partitions: list[int]
    ) -> dict[TopicPartition, int]:
        return {(topic, n): 12 for n in partitions}


def _offsets(scope: kafka_resets.Scope | None = None, **said: Any) -> dict[TopicPartition, int]:
    place = kafka_resets.place({**_SAID, **said})
    chosen = {"t": None} if scope is None else scope
    return kafka_resets.offsets(cast("Admin", _Admin()), _group(), chosen, place)


@pytest.mark.parametrize(
    ("said", "first", "second"),
    [
        ({"to_earliest": True}, 10, 10),
        ({"to_latest": True}, 20, 20),
        ({"to_current": True}, 15, 20),
        ({"to_offset": 13}, 13, 13),
        ({"to_offset": 3}, 10, 10),
        ({"to_offset": 300}, 20, 20),
        ({"shift_by": -2}, 13, 18),
        ({"shift_by": -20}, 10, 10),
        ({"shift_by": 3}, 18, 20),
        ({"to_datetime": "2026-11-22T09:41:00.000"}, 12, 12),
        ({"by_duration": "PT1H"}, 12, 12),
    ],
)
def test_places(said: dict[str, Any], first: int, second: int) -> None:
    assert _offsets(**said) == {("t", 0): first, ("t", 1): second}


def test_only_the_partitions_that_are_named() -> None:
    assert _offsets({"t": [1]}, to_latest=True) == {("t", 1): 20}
    with pytest.raises(click.ClickException, match="no partition 2"):
        _offsets({"t": [2]}, to_latest=True)


def test_from_a_file_that_export_wrote(tmp_path: Path) -> None:
    path = tmp_path / "offsets.csv"
    path.write_text(kafka_resets.as_csv({("t", 1): 11, ("t", 0): 14}) + "\n")
    assert path.read_text() == "t,0,14\nt,1,11\n"
    place = kafka_resets.place({**_SAID, "from_file": path})
    scope = kafka_resets.scope(_group(), (), all_topics=False, place=place)
    found = kafka_resets.offsets(cast("Admin", _Admin()), _group(), scope, place)
    assert found == {("t", 0): 14, ("t", 1): 11}
    with pytest.raises(click.UsageError, match="line 2"):
        kafka_resets.read_csv("t,0,1\nt,one,2\n")


def test_scopes() -> None:
    def scope(*topics: str, every: bool = False) -> kafka_resets.Scope:
        return kafka_resets.scope(_group(), topics, all_topics=every, place="end")

    assert scope("t:0,2", "u") == {"t": [0, 2], "u": None}
    assert scope(every=True) == {"t": None}
    for topics, every in (((), False), (("t",), True), (("t:",), False), (("t:a",), False)):
        with pytest.raises(click.UsageError):
            scope(*topics, every=every)


def test_one_place_at_a_time() -> None:
    for said in ({}, {"to_latest": True, "to_offset": 0}):
        with pytest.raises(click.UsageError, match="exactly one of"):
            kafka_resets.place({**_SAID, **said})


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is not UTC."""
    monkeypatch.setenv("TZ", "XYZ-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_away")
def test_moments_and_durations() -> None:
    assert kafka_resets.parse_moment("2026-11-22T09:41:00") == datetime(
        2026, 11, 22, 9, 41, tzinfo=UTC
    )
    assert kafka_resets.parse_moment("2026-11-22T09:41:00+01:00").hour == 9
    assert kafka_resets.parse_duration("P1DT2H30M1.5S") == timedelta(
        days=1, hours=2, minutes=30, seconds=1.5
    )
    assert kafka_resets.parse_duration("-PT5M") == timedelta(minutes=-5)
    for text in ("", "P", "PT", "1h", "PT1X"):
        with pytest.raises(click.UsageError, match="say PT1H"):
            kafka_resets.parse_duration(text)
    with pytest.raises(click.UsageError, match="2026-11-22"):
        kafka_resets.parse_moment("yesterday")
