"""A process's own story."""

from __future__ import annotations

import io
import logging

import msgspec
import pytest

from tests.support.memory_disk import MemoryDisk
from yak.storage.story import Story, StoryHandler


def story(disk: MemoryDisk, stream: io.StringIO | None = None, *, quiet: bool = False) -> Story:
    return Story(
        "broker-1", "/events.jsonl", stream, quiet=quiet, disk=disk, wall=lambda: 1763800000.123
    )


def test_an_event_is_one_line_in_both_forms() -> None:
    disk, stream = MemoryDisk(), io.StringIO()
    story(disk, stream).tell(
        "elected", epoch=3, isr=[1, 2], reason="lowest live in-sync id", old=None, address="h:1"
    )
    assert stream.getvalue() == (
        "2025-11-22T08:26:40.123Z broker-1 elected epoch=3 isr=[1,2] "
        'reason="lowest live in-sync id" old=null address=h:1\n'
    )
    assert msgspec.json.decode(disk.read_file("/events.jsonl")) == {
        "time": 1763800000123,
        "process": "broker-1",
        "event": "elected",
        "epoch": 3,
        "isr": [1, 2],
        "reason": "lowest live in-sync id",
        "old": None,
        "address": "h:1",
    }


@pytest.mark.parametrize("value", ["", 'say "hi"', "a\nb", "a=b", "ü"])
def test_a_line_stays_one_line_and_can_be_told_apart(value: str) -> None:
    stream = io.StringIO()
    story(MemoryDisk(), stream).tell("x", v=value)
    assert stream.getvalue().count("\n") == 1
    assert msgspec.json.decode(stream.getvalue().partition("v=")[2]) == value


def test_quiet_is_only_about_the_stream() -> None:
    disk, stream = MemoryDisk(), io.StringIO()
    story(disk, stream, quiet=True).tell("x")
    assert not stream.getvalue()
    assert disk.size("/events.jsonl") > 0


def test_the_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.storage.story.MAX_FILE_BYTES", 1000)
    disk = MemoryDisk()
    one = story(disk)
    for number in range(100):
        one.tell("x", number=number)
        assert all(disk.size(f"/{name}") <= 1000 for name in disk.listdir("/"))
    assert disk.listdir("/") == ["events.1.jsonl", "events.jsonl"]
    lines = disk.read_file("/events.1.jsonl") + disk.read_file("/events.jsonl")
    numbers = [msgspec.json.decode(line)["number"] for line in lines.splitlines()]
    assert numbers == list(range(100 - len(numbers), 100))


def test_telling_never_fails() -> None:
    disk, stream = MemoryDisk(), io.StringIO()
    one = story(disk, stream)
    disk.space_left = 0
    stream.close()
    one.tell("x", odd={1, 2}, other=object(), bad="\ud800", time=3, event="y")


def test_what_an_event_is_named_cannot_be_overwritten() -> None:
    disk = MemoryDisk()
    story(disk).tell("x", time=3, event="y")
    assert msgspec.json.decode(disk.read_file("/events.jsonl"))["event"] == "x"


def test_what_modules_log_becomes_an_event_while_the_story_listens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="yak.net.somewhere")
    stream = io.StringIO()
    told = Story("broker-1", None, stream, wall=lambda: 0.0)
    logger = logging.getLogger("yak.net.somewhere")
    with StoryHandler.listening(told):
        logger.warning("yak-zk at %s: refused", "127.0.0.1:2181")
        logger.info("not worth an event")
        try:
            raise ValueError("a bug")
        except ValueError:
            logger.exception("incident 17")
    first, second = stream.getvalue().splitlines()
    assert first == (
        "1970-01-01T00:00:00.000Z broker-1 warning source=yak.net.somewhere "
        'message="yak-zk at 127.0.0.1:2181: refused"'
    )
    assert "broker-1 error" in second
    assert "ValueError: a bug" in second
    assert logging.getLogger("yak").handlers == []


def test_listeners_are_told_each_event() -> None:
    heard: list[tuple[str, dict[str, object]]] = []
    telling = story(MemoryDisk())
    telling.listeners.append(lambda event, fields: heard.append((event, dict(fields))))
    telling.tell("elected", epoch=3)
    telling.tell("stopped")
    assert heard == [("elected", {"epoch": 3}), ("stopped", {})]
