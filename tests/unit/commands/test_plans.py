"""What would happen, in words and as facts; and what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, cast

import click
import pytest

from yak import messages as m
from yak.admin import Admin, PartitionReport, Place, TopicReport
from yak.commands import plans
from yak.commands.plans import alteration, deletion, group_deletion, place, seeking, trimming
from yak.commands.starts import At, Last, Start
from yak.model import TopicPartition

MOMENT = 1_795_305_600_000


def a_report(*bounds: tuple[int, int], **config: int) -> TopicReport:
    return TopicReport(
        topic="t",
        topic_id="t1",
        config=config,
        partitions=[
            PartitionReport(partition=n, start=start, high_watermark=end)
            for n, (start, end) in enumerate(bounds)
        ],
    )


def a_row(partition: int, acked: int | None, topic: str = "t") -> m.GroupPartition:
    return m.GroupPartition(
        topic=topic,
        partition=partition,
        acked=acked,
        delivered=acked,
        high_watermark=60,
        lag=0,
        member=None,
    )


def a_group(*rows: m.GroupPartition, members: Collection[str] = ()) -> m.GroupAnswer:
    entries = [
        m.MemberEntry(member=f"{c}-1", client=c, generation=1, assignment=[], topics=["t"])
        for c in members
    ]
    return m.GroupAnswer(generation=1, members=entries, partitions=list(rows))


class _Admin:
    def __init__(self, groups: dict[str, m.GroupAnswer] | None = None) -> None:
        self._groups = groups or {}

    def groups(self) -> list[str]:
        return sorted(self._groups)

    def group(self, name: str) -> m.GroupAnswer:
        return self._groups[name]

    def find_offsets(
        self, topic: str, to: Place, partitions: Collection[int]
    ) -> dict[TopicPartition, int]:
        assert to == datetime(2026, 11, 22, tzinfo=UTC)
        return {(topic, n): 12 for n in partitions}


def admin(groups: dict[str, m.GroupAnswer] | None = None) -> Admin:
    return cast("Admin", _Admin(groups))


@pytest.mark.parametrize(
    ("start", "to"),
    [
        ("beginning", "beginning"),
        ("end", "end"),
        (41, 41),
        (Last(3), -3),
        (Last(0), "end"),
        (At(MOMENT), datetime(2026, 11, 22, tzinfo=UTC)),
    ],
)
def test_places(start: Start, to: Place) -> None:
    assert place(start) == to


def test_where_a_group_stands_is_no_place() -> None:
    with pytest.raises(click.UsageError, match="say"):
        place("stored")


def test_an_alteration_says_what_was() -> None:
    report = a_report((0, 1), (0, 1), retention_ms=7)
    plan = alteration(report, 4, {"retention_ms": 5, "segment_bytes": 9}, ["max_batch_bytes"])
    assert plan.what == (
        "alter topic t: set retention_ms=5 (now 7); set segment_bytes=9 (now the default); "
        "unset max_batch_bytes (now the default); add 2 partitions, from 2 to 4"
    )
    assert plan.facts == {
        "topic": "t",
        "partitions": 4,
        "set": {"retention_ms": 5, "segment_bytes": 9},
        "unset": ["max_batch_bytes"],
    }


@pytest.mark.parametrize("total", [1, 2])
def test_a_topic_does_not_shrink(total: int) -> None:
    with pytest.raises(click.ClickException, match=r"has 2 partitions: .* larger"):
        alteration(a_report((0, 1), (0, 1)), total, {}, [])


def test_a_deletion_counts_what_is_lost() -> None:
    groups = {"g": a_group(a_row(0, 4)), "h": a_group(), "i": a_group(a_row(0, 4, topic="u"))}
    plan = deletion(admin(groups), a_report((5, 10), (0, 1200)))
    assert plan.what == (
        "delete topic t: 2 partitions with 1,205 records, and what group g acknowledged of it"
    )
    expected = {"topic": "t", "topic_id": "t1", "partitions": 2, "records": 1205, "groups": ["g"]}
    assert plan.facts == expected
    assert deletion(admin(), a_report((0, 1))).what == "delete topic t: 1 partition with 1 record"


def test_too_many_groups_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "GROUPS_ASKED", 1)
    plan = deletion(admin({"g": a_group(), "h": a_group()}), a_report((0, 1)))
    assert plan.what.endswith("and what groups acknowledged of it")
    assert plan.facts["groups"] is None


def rows(plan: plans.Plan) -> list[tuple[int, int, int, int]]:
    keys = ("partition", "was", "start", "forgotten")
    found: list[tuple[Any, ...]] = [
        tuple(row[key] for key in keys) for row in plan.facts["partitions"]
    ]
    return cast("list[tuple[int, int, int, int]]", found)


def test_a_trim_says_what_is_forgotten_of_which_partition() -> None:
    report = a_report((5, 40), (20, 60), (0, 10))
    plan = trimming(admin(), report, [0, 1], 20)
    assert plan.what == "forget 15 records: t[0] below 20"
    assert rows(plan) == [(0, 5, 20, 15), (1, 20, 20, 0)]
    plan = trimming(admin(), report, [], None)
    assert plan.what == "forget 85 records: t[0] below 40, t[1] below 60 and t[2] below 10"
    assert rows(plan) == [(0, 5, 40, 35), (1, 20, 60, 40), (2, 0, 10, 10)]


def test_a_trim_by_time_never_goes_back() -> None:
    plan = trimming(admin(), a_report((5, 40), (20, 60)), [], At(MOMENT))
    assert rows(plan) == [(0, 5, 12, 7), (1, 20, 20, 0)]
    assert trimming(admin(), a_report((20, 60)), [], At(MOMENT)).what == "forget 0 records of t"


def test_a_trim_above_an_end_or_of_no_partition_is_refused() -> None:
    report = a_report((0, 40), (0, 60))
    with pytest.raises(click.ClickException, match=r"t\[0\] ends at 40, below 50: nothing"):
        trimming(admin(), report, [], 50)
    assert rows(trimming(admin(), report, [1], 50)) == [(1, 0, 50, 50)]
    with pytest.raises(click.ClickException, match="there is no 2"):
        trimming(admin(), report, [1, 2], 0)


def test_only_an_empty_group_is_moved_or_deleted_from_outside() -> None:
    plans.check_empty("g", a_group())
    with pytest.raises(click.ClickException, match=r"GROUP_NOT_EMPTY: .* 2 members \(a and b\)"):
        plans.check_empty("g", a_group(members=["a", "b"]))


def test_seeking_says_what_comes_again_and_what_is_passed_over() -> None:
    group = a_group(a_row(0, 41), a_row(1, 10), a_row(2, None))
    plan = seeking("g", group, {("t", 0): 0, ("t", 1): 15, ("t", 2): 3, ("u", 0): 4})
    assert plan.what == (
        "move group g: t[0] from 41 to 0, t[1] from 10 to 15, t[2] from nowhere to 3 and u[0] "
        "from nowhere to 4; back by 41 records, which come again; on by 5 records, which are "
        "passed over"
    )
    assert plan.facts["partitions"][2] == {"topic": "t", "partition": 2, "was": None, "to": 3}
    assert seeking("g", group, {("t", 0): 41}).what == "move group g: t[0] from 41 to 41"


def test_a_group_s_deletion_says_what_it_loses() -> None:
    group = a_group(a_row(0, 41), a_row(1, None), a_row(0, 1, topic="a"))
    plan = group_deletion("g", group)
    assert plan.what == "delete group g: what it acknowledged of 2 partitions (a and t)"
    assert plan.facts == {"group": "g", "partitions": 2, "topics": ["a", "t"]}
    assert group_deletion("g", a_group()).what == "delete group g"
