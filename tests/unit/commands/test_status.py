"""`yak status`: the same picture once, or again and again, for people and programs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.support.pictures import a_group, a_picture, a_report
from yak import messages as m
from yak.commands import status as module
from yak.commands.picture import Picture, TopicNow
from yak.commands.status import as_dict, described, status
from yak.errors import YakError


class _Sketch:
    """Hands out these pictures; after the last one it is interrupted."""

    pictures: list[Picture]

    def __init__(self, *_: Any, **__: Any) -> None:
        self._left = list(self.pictures)

    async def take(self) -> Picture:
        if not self._left:
            raise KeyboardInterrupt
        return self._left.pop(0)


def run(monkeypatch: pytest.MonkeyPatch, *pictures: Picture, argv: tuple[str, ...] = ()) -> Result:
    monkeypatch.setattr(_Sketch, "pictures", list(pictures), raising=False)
    monkeypatch.setattr(module, "Sketch", _Sketch)
    return CliRunner().invoke(status, argv, standalone_mode=False)


def test_for_people() -> None:
    assert described(a_picture()).splitlines() == [
        "cluster 5c961eb8-6877-4128-ad4d-d00c764a47f1  epoch 3  broker 1 leads  in sync: 1, 2, 3",
        "all is well: broker 1 leads epoch 3, and brokers 1, 2 and 3 are in sync",
        "why: leader 2 is gone",
        "id  address         role      heartbeat  epoch  in sync  log end  committed  behind  "
        "memory  state",
        " 1  127.0.0.1:9092  leader    101 ms         3  yes           61         60  -       "
        "33 MiB  whole",
        " 2  127.0.0.1:9093  follower  102 ms         3  yes           61         60  2 ms    "
        "33 MiB  whole",
        " 3  127.0.0.1:9094  follower  103 ms         3  yes           61         60  3 ms    "
        "33 MiB  whole",
        "",
        "topic   group    partitions  records  lag  not acknowledged  members",
        "orders  -                 2      110    -                 -  -",
        "orders  billing           -        -   34                28  c1-19",
    ]


def test_what_was_found_on_a_disk_is_shown_below() -> None:
    second = 1763800000000
    mended = m.Finding(
        time=second, kind="torn", what="2 bytes", mended=second + 2999, how="in sync"
    )
    now = m.Finding(time=second, kind="refused", what="No space left", times=3)
    picture = a_picture(report=a_report(down=[1, 2], found=[mended, now]))
    assert described(picture).splitlines()[7:13] == [
        "broker 1 is down: cannot connect to 127.0.0.1:9092: Connection refused",
        "broker 2 is down: cannot connect to 127.0.0.1:9093: Connection refused",
        "broker 3 found at 2025-11-22T08:26:40Z: torn: 2 bytes",
        "    mended at 2025-11-22T08:26:42Z: in sync",
        "broker 3 found at 2025-11-22T08:26:40Z: refused (3 times): No space left",
        "    not mended yet",
    ]
    shown = json.loads(msgspec.json.encode(as_dict(picture)))["brokers"][2]["status"]["found"]
    assert [one["kind"] for one in shown] == ["torn", "refused"]


@pytest.mark.parametrize("width", [100, 80])
def test_it_fits_its_window_and_cuts_no_number(width: int) -> None:
    second = 1763800000000
    found = m.Finding(time=second, kind="torn", what="2 bytes of " + "something " * 20)
    report = a_report(down=[2], found=[found], log_end=123_456_789, committed=123_456_788)
    picture = a_picture(report=report, end=1_234_567_890)
    lines = described(picture, width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "123,456,789" in text
    assert "1,234,567,940" in text
    assert "also: memory" in text, "what is not shown is said"
    words = {"id", "address", "role", "sync", "state", "topic", "group", "records", "lag"}
    assert words <= set(text.split())
    assert "broker 2 is down: cannot connect to 127.0.0.1:9093: Connection refused" in text
    assert " ".join(["something"] * 20) in " ".join(text.split())


def test_what_is_left_out_is_counted() -> None:
    topics = [TopicNow(topic=f"t{n}", partitions=[(0, 1)]) for n in range(25)]
    text = described(a_picture(topics=topics, more_topics=3, more_groups=2))
    assert "and 8 more topics: `yak topic list`" in text
    assert "and 2 more groups: `yak group list`" in text
    text = described(a_picture(topics=[], groups={}, leader_error="it did not say"))
    assert "topics and groups are not known: it did not say" in text


def test_for_programs() -> None:
    whole = json.loads(msgspec.json.encode(as_dict(a_picture())))
    assert whole["leader"] == 1
    assert whole["health"]["level"] == "ok"
    assert [one["heartbeat_age_ms"] for one in whole["brokers"]] == [101, 102, 103]
    (topic,) = whole["topics"]
    assert topic["partitions"][1] == {"partition": 1, "start": 10, "high_watermark": 60}
    (group,) = topic["groups"]
    assert (group["group"], group["lag"], group["unacknowledged"]) == ("billing", 34, 28)
    gone = as_dict(Picture(time=1, at=1.0, error="no broker answers"))
    assert gone.keys() == whole.keys()


@pytest.mark.parametrize(("leader", "code"), [(1, 0), (None, 1)])
def test_the_exit_code_says_whether_anybody_leads(
    monkeypatch: pytest.MonkeyPatch, leader: int | None, code: int
) -> None:
    result = run(monkeypatch, a_picture(report=a_report(leader=leader)))
    assert result.return_value == code


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Picture(time=1, at=1.0, error="no broker answers: refused"))
    assert isinstance(result.exception, YakError)
    assert "no broker answers: refused" in str(result.exception)


def test_watch_goes_on_while_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Picture(time=1, at=1.0, error="no broker answers: refused")
    pictures = (a_picture(), gone, a_picture(groups={"later": a_group()}))
    result = run(monkeypatch, *pictures, argv=("--watch", "1ms"))
    assert result.output.count("all is well") == 2
    assert result.output.index("no broker answers") < result.output.index("later")
    result = run(monkeypatch, *pictures, argv=("--json", "--watch", "1ms"))
    lines = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [line["leader"] for line in lines] == [1, None, 1]
