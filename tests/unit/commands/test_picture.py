"""A picture is taken of whatever answers, and bounded; rates come of two."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.pictures import a_coordinator, a_group, a_picture, a_report
from yak import messages as m
from yak.commands import picture as pictures
from yak.commands.picture import Picture, Rates, Sketch, TopicNow
from yak.errors import RetriableError
from yak.explain.facts import Event


class _Admin:
    """Answers what it is told to; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "status": a_report(),
            "coordinator": a_coordinator(),
            "topics": {"orders": m.TopicEntry(topic_id="t", partitions=2, config={})},
            "groups": ["g"],
            "group": a_group(),
            **answers,
        }
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def answer(*_: Any) -> Any:
            self.asked.append(name)
            found = self.answers[name]
            if isinstance(found, Exception):
                raise found
            return found

        return answer

    async def bounds(self, wheres: list[tuple[str, int]]) -> list[tuple[int, int]]:
        return [(number, number + 5) for _, number in wheres]


def take(admin: _Admin, *, zk_named: bool = False) -> Picture:
    return asyncio.run(Sketch(admin, "zk:1", zk_named=zk_named).take())  # type: ignore[arg-type] # a double


def test_a_leader_that_said_nothing_is_not_waited_for_again() -> None:
    report = a_report()
    silent = msgspec.structs.replace(report.brokers[0], status=None, error="it hangs")
    assert silent.id == report.leader
    hung = msgspec.structs.replace(report, brokers=[silent, *report.brokers[1:]])
    admin = _Admin(status=hung)
    assert take(admin).leader_error == "broker 1, which leads, does not answer"
    assert admin.asked == ["status", "coordinator"]


def test_everything_answers() -> None:
    picture = take(_Admin())
    assert picture.topics == [TopicNow(topic="orders", partitions=[(0, 5), (1, 6)])]
    assert (picture.topics[0].records, picture.topics[0].end) == (10, 11)
    assert list(picture.groups) == ["g"]
    assert picture.heartbeat_ms(2) == 102
    assert picture.behind(3) == (0, 3)
    assert picture.behind(1) is None
    (reader,) = picture.readers("orders")
    assert (reader.group, reader.lag, reader.unacknowledged) == ("g", 34, 28)
    assert {name: one.partitions for name, one in reader.members.items()} == {"c1-19": 2}
    assert picture.readers("other") == []


def test_no_broker_answers() -> None:
    picture = take(_Admin(status=RetriableError("no broker answers: refused")))
    assert picture.report is None
    assert picture.error == "no broker answers: refused"
    assert picture.coordinator is not None


def test_nobody_leads_and_nobody_is_asked() -> None:
    admin = _Admin(status=a_report(leader=None))
    take(admin)
    assert "topics" not in admin.asked


def test_a_leader_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take(_Admin(groups=RetriableError("gone"))).leader_error == "gone"
    monkeypatch.setattr(pictures, "LEADER_S", 0.0)
    admin = _Admin()

    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(admin, "topics", never, raising=False)
    assert "did not say within" in take(admin).leader_error


@pytest.mark.parametrize("zk_named", [False, True])
def test_yak_zk_s_silence_is_worth_a_word_where_it_was_named(*, zk_named: bool) -> None:
    silent = _Admin(coordinator=RetriableError("refused"))
    assert take(silent, zk_named=zk_named).zk_error == ("refused" if zk_named else "")
    other = take(_Admin(coordinator=a_coordinator(cluster="x")), zk_named=zk_named)
    assert other.coordinator is None
    assert ("another cluster" in other.zk_error) == zk_named


def test_yak_zk_s_silence_is_worth_a_word_in_a_cluster_of_yak_up(tmp_path: Path) -> None:
    admin = _Admin(coordinator=RetriableError("refused"))
    sketch = Sketch(admin, "zk:1", zk_named=False, home=tmp_path)  # type: ignore[arg-type] # a double
    picture = asyncio.run(sketch.take())
    assert picture.zk_error == "refused"
    assert "nobody can be elected: refused" in picture.health().sentence


def test_yak_zk_s_silence_is_worth_a_word_once_it_has_answered() -> None:
    async def twice() -> Picture:
        admin = _Admin()
        sketch = Sketch(admin, "zk:1", zk_named=False)  # type: ignore[arg-type] # a double
        await sketch.take()
        admin.answers["coordinator"] = RetriableError("refused")
        return await sketch.take()

    assert asyncio.run(twice()).zk_error == "refused"


def test_a_picture_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PARTITIONS_ASKED", 5)
    monkeypatch.setattr(pictures, "GROUPS_ASKED", 2)
    entry = m.TopicEntry(topic_id="t", partitions=2, config={})
    admin = _Admin(
        status=a_report(topics=4),
        topics=dict.fromkeys("abcd", entry),
        groups=["g", "h", "i"],
    )
    picture = take(admin)
    assert [one.topic for one in picture.topics] == ["a", "b"]
    assert (picture.more_topics, list(picture.groups), picture.more_groups) == (2, ["g", "h"], 1)
    many = _Admin(status=a_report(topics=pictures.TOPICS_ASKED + 1))
    picture = take(many)
    assert "topics" not in many.asked
    assert picture.more_topics == pictures.TOPICS_ASKED + 1


def test_what_happened_is_events_and_the_elections_before_them() -> None:
    assert [sentence for _, sentence in a_picture().happened(9)] == [
        "yak-zk elected broker 2 for epoch 1: a new cluster; in sync from then on: nobody",
        "broker 2's session ended: its port refuses connections",
        "yak-zk elected broker 1 for epoch 3: leader 2 is gone; in sync from then on: 1 and 3",
    ]
    assert len(a_picture().happened(1)) == 1
    assert a_picture(coordinator=None).happened(9) == []


def test_rates_come_of_two_pictures() -> None:
    rates = Rates()
    rates.take(a_picture(at=100.0, end=60))
    assert rates.of("orders") is None
    later = a_picture(at=102.0, end=160, groups={"billing": a_group(acked=53)})
    rates.take(later)
    assert (rates.of("orders"), rates.of("orders", "billing")) == (50.0, 10.0)
    rates.take(a_picture(at=103.0, report=None))
    rates.take(a_picture(at=103.0, leader_error="nobody leads"))
    assert rates.of("orders") == 50.0
    rates.take(a_picture(at=104.0, end=20, groups={"billing": a_group(acked=53)}))
    assert (rates.of("orders"), rates.of("orders", "billing")) == (0.0, 0.0)


def test_what_was_done_on_purpose_stands_among_what_happened() -> None:
    before = a_picture()
    first, last = before.happened(100)[0][0], before.happened(100)[-1][0]
    kill = {"kind": "kill", "members": [1], "command": "yak chaos kill", "for_ms": 5000}
    times = (first - 1, first + 1, last + 1)
    hurt = [Event(time, "chaos", "fault", kill) for time in times]
    happened = a_picture(chaos=hurt).happened(100)
    assert len(happened) == len(before.happened(100)) + 2, "what is older than all else is left out"
    assert happened == sorted(happened, key=lambda one: one[0])
    assert happened[-1] == (last + 1, "broker 1 was killed by `yak chaos kill`, for 5 s")
