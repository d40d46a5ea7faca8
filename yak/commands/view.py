"""What `yak top` shows of a picture, as rich draws it; 80 columns and 24 lines are enough.

    all is well: broker 1 leads epoch 3, and brokers 1, 2 and 3 are in sync
    broker  role      heartbeat  behind    in sync  log end  memory  state
    …
    topic             parts    records  per s   lag  unacked  members
    orders                3    302,000  1,204
      billing                             930    17       14  c1-19
    what happened last
    07:31:02.114  broker 1's session ended: its port refuses connections

Where the window is too low, topics give way first, then events; how many are hidden is said.  Where
nobody answers, the last picture stays, and the first line says since when it is out of date.

Not here: asking, keys and time (top.py).
"""

from __future__ import annotations

import textwrap
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from yak.commands.output import many
from yak.commands.picture import Picture, Rates, Reader
from yak.explain.facts import clock
from yak.net.reports import BrokerReport

_MIB: Final = 1024 * 1024
_COLOURS: Final = {"ok": "green", "warn": "yellow", "bad": "bold red"}
#: Rows of events that stay, however many topics there are; and lines that nothing gives way for:
#: the head, three headers and as many blank lines, what is hidden, how to leave.
_EVENTS_AT_LEAST: Final = 4
_FIXED: Final = 9
#: The column of an event's time.
_CLOCK: Final = 14
#: Members that are named in one row.
_MEMBERS: Final = 2


def view(
    picture: Picture,
    rates: Rates,
    *,
    width: int = 80,
    height: int = 24,
    last: Picture | None = None,
    note: str = "",
) -> RenderableType:
    """last: the last picture on which somebody answered, where nobody does now.

    note: how to leave, for the last line.
    """
    level, sentence = picture.health()
    parts: list[RenderableType] = [_head(picture, last), Text(sentence, style=_COLOURS[level])]
    parts += [Text(one.words(picture.time), style="magenta") for one in picture.faults]
    height -= len(picture.faults)
    shown = picture if picture.report is not None else last
    if shown is not None and shown.report is not None:
        brokers = _brokers(shown)
        room = height - _FIXED - brokers.row_count - len(textwrap.wrap(sentence, width))
        topics, hidden = _topics(shown, rates, max(2, room - _EVENTS_AT_LEAST))
        parts += [Text(), brokers, Text(), topics]
        parts += [Text(hidden, style="dim")] if hidden else []
        parts += [Text(), *_events(shown, width, max(1, room - topics.row_count))]
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def _head(picture: Picture, last: Picture | None) -> Text:
    report = picture.report
    text = Text(f"yak top  {clock(picture.time)[:8]} UTC  ", style="bold", no_wrap=True)
    if report is not None:
        text.append(f"cluster {report.cluster or '(none yet)'}  epoch {report.epoch}", style="dim")
    elif last is not None:
        text.append(f"below is how it was at {clock(last.time)[:8]}", style="bold red")
    return text


def _table(*columns: tuple[str, bool]) -> Table:
    """Of (title, to the right); the last column takes what is left and is cut at the window."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=True)
    for number, (title, right) in enumerate(columns):
        last = number == len(columns) - 1
        table.add_column(
            title,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
        )
    return table


def _brokers(picture: Picture) -> Table:
    table = _table(
        ("broker", True), ("role", False), ("heartbeat", True), ("behind", True),
        ("in sync", False), ("log end", True), ("memory", True), ("state", False),
    )  # fmt: skip
    assert picture.report is not None
    for one in picture.report.brokers:
        table.add_row(*_broker(one, picture), style="red" if one.status is None else "")
    return table


def _broker(one: BrokerReport, picture: Picture) -> list[str]:
    assert picture.report is not None
    age, behind, word = picture.heartbeat_ms(one.id), picture.behind(one.id), one.status
    in_sync = "yes" if one.id in picture.report.isr else "no"
    heartbeat = "-" if age is None else f"{age:,} ms"
    if word is None:
        return [str(one.id), "-", heartbeat, "-", in_sync, "-", "-", f"down: {_short(one.error)}"]
    return [
        str(one.id),
        word.role,
        heartbeat,
        "-" if behind is None else f"{behind[0]:,} ops" if behind[0] else f"{behind[1]:,} ms",
        in_sync,
        f"{word.log_end:,}",
        f"{word.memory / _MIB:.0f} MiB" if word.memory else "-",
        word.state,
    ]


def _short(error: str) -> str:
    """The cause at its end: what could not be reached stands in the same row."""
    return error.rpartition(": ")[2]


def _topics(picture: Picture, rates: Rates, most: int) -> tuple[Table, str]:
    """Each topic with the groups that read it below it; those written to most come first."""
    table = _table(
        ("topic", False), ("parts", True), ("records", True), ("per s", True), ("lag", True),
        ("unacked", True), ("members", False),
    )  # fmt: skip
    if picture.leader_error:
        return table, f"topics and groups are not known: {picture.leader_error}"
    table.columns[0].max_width = 24
    hidden = picture.more_topics
    busiest = sorted(picture.topics, key=lambda one: (-(rates.of(one.topic) or 0.0), one.topic))
    for one in busiest:
        readers = picture.readers(one.topic)
        if table.row_count and table.row_count + 1 + len(readers) > most:
            hidden += 1
            continue
        rate = _rate(rates.of(one.topic))
        table.add_row(one.topic, str(len(one.partitions)), f"{one.records:,}", rate, "", "", "")
        for reader in readers:
            table.add_row(*_reader(reader, _rate(rates.of(one.topic, reader.group))))
    words = [many(hidden, "more topic")] if hidden else []
    words += [many(picture.more_groups, "more group")] if picture.more_groups else []
    if not picture.topics and not hidden:
        return table, "no topics yet: `yak produce NAME` makes one"
    return table, f"and {' and '.join(words)}" if words else ""


def _reader(reader: Reader, rate: str) -> list[str]:
    names = [f"{member} ({one.partitions})" for member, one in reader.members.items()]
    shown = ", ".join(names[:_MEMBERS])
    if len(names) > _MEMBERS:
        shown = f"{len(names)}: {shown}, …"
    return [
        f"  {reader.group}",
        "",
        "",
        rate,
        f"{reader.lag:,}",
        f"{reader.unacknowledged:,}",
        shown or "nobody",
    ]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _events(picture: Picture, width: int, most: int) -> list[RenderableType]:
    """The last ones that `most` lines have room for, the newest at the bottom."""
    chosen: list[tuple[int, str]] = []
    for time, sentence in reversed(picture.happened(most)):
        most -= len(textwrap.wrap(sentence, max(20, width - _CLOCK)))
        if most < 0 and chosen:
            break
        chosen.insert(0, (time, sentence))
    if not chosen:
        why = picture.zk_error or "yak-zk was not found: --zk HOST:PORT"
        return [Text(f"what happened last is not known: {why}", style="dim")]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(ratio=1, overflow="fold")
    for time, sentence in chosen:
        table.add_row(clock(time), sentence)
    return [Text("what happened last, and why", style="bold"), table]
