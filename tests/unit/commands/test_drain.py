"""When yak-consume ends, and what it has acknowledged by then; against a scripted consumer."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace, TracebackType
from typing import Any, ClassVar

import pytest

from yak.admin import PartitionReport, TopicReport
from yak.commands import drain as drain_module
from yak.commands.drain import Drain, Until
from yak.commands.formats import plain
from yak.commands.interrupts import Interrupts
from yak.commands.starts import At, Last, Start
from yak.errors import YakError
from yak.messages import GroupAnswer, GroupPartition
from yak.model import Origin, Record, TopicPartition


class _Consumer:
    """Hands out records of one partition, batch by batch; keeps what is acknowledged.

    As the real one with commit="after": asking for more acknowledges what was handed out, and so
    does leaving the block in order.
    """

    made: _Consumer
    batches: ClassVar[list[list[str]]] = []
    begins_at = 0

    def __init__(self, topic: str, **options: Any) -> None:
        _Consumer.made = self
        self.topic = topic
        self.options = options
        self.out: list[str] = []
        self.acked: list[str] = []
        self.asked: list[int] = []
        self.left = [list(batch) for batch in self.batches]
        self.next = self.begins_at

    def __enter__(self) -> _Consumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._settle()

    def _settle(self) -> None:
        self.acked += self.out
        self.out = []

    def poll(self, timeout: float, max_records: int) -> list[Record]:
        self._settle()
        self.asked.append(max_records)
        batch = self.left[0][:max_records] if self.left else []
        if self.left:
            self.left[0] = self.left[0][max_records:]
            if not self.left[0]:
                self.left.pop(0)
        self.out = list(batch)
        origin = Origin(self.topic, 0, 0, 0)
        first = self.next
        self.next += len(batch)
        return [Record(v, offset=n, origin=origin) for n, v in enumerate(batch, first)]

    @property
    def positions(self) -> dict[TopicPartition, int]:
        return {(self.topic, 0): self.next}

    @property
    def at_end(self) -> bool:
        return not self.left


class _Admin:
    """The leader's word: the topic begins at 0; where it ends is told."""

    end = 5
    acked: int | None = None
    reachable = True
    found: ClassVar[list[int | None]] = [None]

    def __init__(self, bootstrap: str, **_: Any) -> None:
        self.bootstrap = bootstrap

    def __enter__(self) -> _Admin:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def brokers(self) -> list[Any]:
        return []

    def topic(self, topic: str) -> TopicReport:
        if not self.reachable:
            raise YakError("nobody leads", name="TIMEOUT")
        partition = PartitionReport(partition=0, start=0, high_watermark=self.end)
        return TopicReport(topic=topic, topic_id="t", config={}, partitions=[partition])

    def offsets(self, topic: str, partitions: int, at: int) -> list[int | None]:
        return self.found

    def group(self, group: str) -> GroupAnswer:
        partition = GroupPartition(
            topic="t", partition=0, acked=self.acked, delivered=None, high_watermark=5, lag=5,
            member=None,
        )  # fmt: skip
        return GroupAnswer(generation=1, members=[], partitions=[partition])


class _Out(io.BytesIO):
    """stdout; `on_write` is called at each write, `flushed` is what has reached the reader."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = b""
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: Any) -> int:
        self.on_write()
        return super().write(data)

    def flush(self) -> None:
        self.flushed = self.getvalue()


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Out]:
    monkeypatch.setattr(drain_module, "Consumer", _Consumer)
    monkeypatch.setattr(drain_module, "Admin", _Admin)
    monkeypatch.setattr(_Consumer, "batches", [["a", "b"], ["c", "d", "e"]])
    stream = _Out()
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as pipe:  # noqa: PTH123 -- they have no paths
        stdout = SimpleNamespace(buffer=stream, fileno=pipe.fileno)
        monkeypatch.setattr(drain_module, "sys", SimpleNamespace(stdout=stdout, stderr=sys.stderr))
        yield stream


def _run(
    until: Until,
    start: Start | None = "beginning",
    *,
    group: str | None = None,
    interrupts: Interrupts | None = None,
) -> int:
    drain = Drain("t", group, plain, until, interrupts or Interrupts(), quiet=False)
    return drain.run(start, bootstrap="b:1", client="c", partitions=(), read_from="any")


def test_without_the_topic_the_end_is_not_waited_for(
    out: _Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_admin: _Admin, topic: str) -> TopicReport:
        raise YakError(f"there is no topic {topic!r}", name="UNKNOWN_TOPIC")

    monkeypatch.setattr(_Admin, "topic", unknown)
    with pytest.raises(YakError) as raised:
        _run(Until(end=True))
    assert "yak topic list" in str(raised.value.hint)
    assert out.getvalue() == b""


def test_with_v_it_says_where_it_starts(out: _Out, capsys: pytest.CaptureFixture[str]) -> None:
    drain = Drain("t", None, plain, Until(records=1), Interrupts(), quiet=False, verbose=True)
    drain.run("beginning", bootstrap="b:1", client="c", partitions=(), read_from="any")
    assert capsys.readouterr().err == "starts at t[0]@0\n"
    assert (drain.printed, out.flushed) == (1, b"a\n")


@pytest.mark.parametrize(
    ("until", "printed", "code"),
    [
        (Until(end=True), "abcde", 0),
        (Until(idle_s=0), "abcde", 0),
        (Until(records=3), "abc", 0),
        (Until(records=2), "ab", 0),
        (Until(expected=3), "abc", 0),
        (Until(expected=3, end=True), "abcde", 0),
        (Until(expected=6, end=True), "abcde", 1),
        (Until(expected=6, idle_s=0), "abcde", 1),
    ],
)
def test_when_it_ends(until: Until, printed: str, code: int, out: _Out) -> None:
    assert _run(until) == code
    assert out.flushed.decode().split() == list(printed)
    assert _Consumer.made.acked == list(printed), "what was printed, and no more"
    if until.most is not None:
        assert sum(_Consumer.made.asked[:1]) <= until.most


def test_a_short_write_is_gone_on_with(out: _Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a pipe without a buffer before it."""
    monkeypatch.setattr(out, "write", lambda data: io.BytesIO.write(out, bytes(data)[:3]))
    assert _run(Until(end=True)) == 0
    assert out.flushed.decode().split() == list("abcde")


def test_too_few_is_said(out: _Out, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(Until(expected=6, end=True)) == 1
    assert capsys.readouterr().err == "error: 5 records came from b:1, 6 were expected\n"


def test_the_end_is_the_leader_s_word(out: _Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica seems to be at its end after "b"; the leader has three more."""
    monkeypatch.setattr(_Consumer, "at_end", True)
    assert _run(Until(end=True)) == 0
    assert out.flushed.decode().split() == list("abcde")


def test_without_a_leader_the_replica_s_word_must_do(
    out: _Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Admin, "reachable", False)
    assert _run(Until(end=True)) == 0
    assert out.flushed.decode().split() == list("abcde")


def test_nothing_is_acknowledged_before_it_was_flushed(out: _Out) -> None:
    seen: list[tuple[list[str], bytes]] = []
    out.on_write = lambda: seen.append((list(_Consumer.made.acked), out.flushed))
    _run(Until(end=True))
    assert seen == [([], b""), (["a", "b"], b"a\nb\n")]


def test_a_reader_who_left_ends_it_quietly(out: _Out, capsys: pytest.CaptureFixture[str]) -> None:
    def leave() -> None:
        if out.flushed:
            raise BrokenPipeError

    out.on_write = leave
    assert _run(Until(end=True)) == 0
    assert _Consumer.made.acked == ["a", "b"], "what could not be printed stays"
    assert capsys.readouterr().err == ""


def test_ctrl_c_acknowledges_what_was_printed(out: _Out) -> None:
    interrupts = Interrupts()
    out.on_write = lambda: setattr(interrupts, "asked", True)
    assert _run(Until(), interrupts=interrupts) == 0
    assert out.flushed == b"a\nb\n"
    assert _Consumer.made.acked == ["a", "b"]


@pytest.mark.parametrize(
    ("start", "found", "meant"),
    [
        (None, [None], "end"),
        ("stored", [None], "stored"),
        (7, [None], 7),
        (Last(3), [None], -3),
        (Last(0), [None], "end"),
        (At(17), [4], {("t", 0): 4}),
        (At(17), [None], {("t", 0): 5}),
    ],
)
def test_where_it_starts(
    start: Start | None,
    found: list[int | None],
    meant: Any,
    out: _Out,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Admin, "found", found)
    _run(Until(idle_s=0), start)
    assert _Consumer.made.options["start"] == meant


@pytest.mark.parametrize(
    ("start", "group", "acked", "says"),
    [
        (None, None, None, True),
        ("end", None, None, False),
        (None, "g", None, True),
        (None, "g", 3, False),
    ],
)
def test_what_is_left_out_is_said(
    start: Start | None,
    group: str | None,
    acked: int | None,
    says: bool,
    out: _Out,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Consumer, "begins_at", 5)
    monkeypatch.setattr(_Consumer, "batches", [])
    monkeypatch.setattr(_Admin, "acked", acked)
    _run(Until(end=True), start, group=group)
    err = capsys.readouterr().err
    assert ("5 records already" in err and "--from-beginning" in err) is says
    assert bool(err) is says
