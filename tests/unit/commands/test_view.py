"""`yak top` in a window of 80 columns, as text."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tests.support.pictures import a_coordinator, a_group, a_picture, a_report
from yak.commands.picture import Picture, Rates, TopicNow
from yak.commands.view import view


def drawn(picture: Picture, width: int = 80, height: int = 24, **more: Any) -> list[str]:
    """Its lines; each fits into the window."""
    rates = Rates()
    rates.take(a_picture(at=picture.at - 2, end=20))
    rates.take(picture)
    console = Console(
        width=width, height=height, record=True, color_system=None, file=io.StringIO()
    )
    console.print(view(picture, rates, width=width, height=height, **more))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def test_all_is_well() -> None:
    assert drawn(a_picture(), note="q leaves") == [
        "yak top  08:26:40 UTC  cluster 5c961eb8-6877-4128-ad4d-d00c764a47f1  epoch 3",
        "all is well: broker 1 leads epoch 3, and brokers 1, 2 and 3 are in sync",
        "",
        "broker  role      heartbeat  behind  in sync  log end  memory  state",
        "     1  leader       101 ms       -  yes           61  33 MiB  whole",
        "     2  follower     102 ms    2 ms  yes           61  33 MiB  whole",
        "     3  follower     103 ms    3 ms  yes           61  33 MiB  whole",
        "",
        "topic      parts  records  per s  lag  unacked  members",
        "orders         2      110     20",
        "  billing                      0   34       28  c1-19 (2)",
        "",
        "what happened last, and why",
        "08:26:31.000  yak-zk elected broker 2 for epoch 1: a new cluster; in sync from",
        "              then on: nobody",
        "08:26:37.999  broker 2's session ended: its port refuses connections",
        "08:26:38.000  yak-zk elected broker 1 for epoch 3: leader 2 is gone; in sync",
        "              from then on: 1 and 3",
        "q leaves",
    ]


def test_a_broker_is_down() -> None:
    lines = drawn(a_picture(report=a_report(down=[3], isr=[1, 2])))
    assert lines[1].startswith("broker 3 is down; ")
    (row,) = [line for line in lines if line.startswith("     3  ")]
    assert row.split() == [
        "3",
        "-",
        "103",
        "ms",
        "3",
        "ms",
        "no",
        "-",
        "-",
        "down:",
        "Connecti…",
    ] or ("down: C" in row)


def test_nobody_answers_and_how_it_was() -> None:
    gone = Picture(time=a_picture().time + 5000, at=105.0, error="no broker answers: refused")
    lines = drawn(gone, last=a_picture())
    assert lines[0] == "yak top  08:26:45 UTC  below is how it was at 08:26:40"
    assert lines[1] == "no broker answers: refused"
    assert "orders         2      110" in lines[9]
    assert drawn(gone)[2:] == []


def test_nobody_leads() -> None:
    lines = drawn(a_picture(report=a_report(leader=None), topics=[], groups={}))
    assert lines[1].startswith("nobody leads")


def test_the_leader_does_not_say_what_there_is() -> None:
    lines = drawn(a_picture(topics=[], groups={}, leader_error="it did not say"))
    assert "topics and groups are not known: it did not say" in lines


def test_no_topics_and_no_yak_zk() -> None:
    lines = drawn(a_picture(topics=[], groups={}, coordinator=None))
    assert any(line.startswith("no topics yet") for line in lines)
    assert any("yak-zk was not found" in line for line in lines)


def test_a_low_window_hides_topics_and_says_so() -> None:
    topics = [TopicNow(topic=f"topic-{n:02}", partitions=[(0, 1)]) for n in range(40)]
    for height in (24, 40):
        lines = drawn(a_picture(topics=topics, groups={}), height=height, note="q leaves")
        shown = sum(line.startswith("topic-") for line in lines)
        assert f"and {40 - shown} more topics" in lines
        assert shown > 3
        assert len(lines) <= height


def test_the_busiest_topic_comes_first() -> None:
    topics = [
        TopicNow(topic="a", partitions=[(0, 1)]),
        TopicNow(topic="orders", partitions=[(0, 60), (0, 60)]),
    ]
    lines = drawn(a_picture(topics=topics))
    assert lines[9].startswith("orders")


def test_many_members_are_counted() -> None:
    many = a_group(members=2)
    rows = [*many.partitions, *a_group(members=1).partitions]
    rows[2].member, rows[3].member = "c3-19", "c4-19"
    lines = drawn(a_picture(groups={"billing": a_group(members=2)}))
    assert "c1-19 (1), c2-19 (1)" in lines[10]
    many.partitions.extend(rows[2:])
    assert "4: c1-19 (1), c2-1" in drawn(a_picture(groups={"billing": many}))[10]
    nobody = drawn(a_picture(groups={"billing": a_group(members=0)}))
    assert nobody[10].endswith("nobody")


def test_long_names_are_cut_and_large_numbers_fit() -> None:
    topics = [TopicNow(topic="t" * 249, partitions=[(0, 123_456_789_012)] * 3)]
    coordinator = a_coordinator(events=[], elections=[])
    lines = drawn(a_picture(topics=topics, groups={}, coordinator=coordinator))
    assert any("370,370,367,036" in line for line in lines)
    drawn(a_picture(topics=topics), width=60)
