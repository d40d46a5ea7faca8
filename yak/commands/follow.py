"""What the processes of a cluster say, as it comes: their events.jsonl and their stderr, in one.

    09:41:00.123 yak-zk    elected epoch=3 leader=1 reason="lowest live in-sync id"
    09:41:00.140 broker-2  error: the port is in use, …

Rules:

* What was there before is not shown.  A file that gives way to a new one is read to its end.
* Lines of several processes that come together are in the order of their times.
* On a terminal each process has a colour (not with NO_COLOR), and what is longer than a line goes
  on below its beginning.  In a pipe a line is a line.

It shows every event, but not the fields that only programs compare (`inc`).
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import click
import msgspec

from yak.storage.story import words_of

#: Fields that stand in events.jsonl only.
_HIDDEN: Final = frozenset({"time", "process", "event", "inc"})
_COLOURS: Final = ("yellow", "cyan", "green", "magenta", "blue", "bright_cyan", "bright_green")


class Line(NamedTuple):
    """time: ms since 1970."""

    time: int
    process: str
    text: str
    is_error: bool = False


class _File:
    """Grows at its end, and may be replaced by a new one of its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        with suppress(OSError):
            self._file = path.open("rb")
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """Those that are whole by now."""
        if self._file is not None:
            yield from self._read(self._file)
        with suppress(OSError):
            there = self._path.stat()
            if self._file is not None:
                mine = os.fstat(self._file.fileno())
                if mine.st_ino == there.st_ino and there.st_size >= self._file.tell():
                    return
                yield from self._read(self._file)
                self._file.close()
            self._file, self._rest = self._path.open("rb"), b""
            yield from self._read(self._file)

    def _read(self, file: BinaryIO) -> list[bytes]:
        *whole, self._rest = (self._rest + file.read()).split(b"\n")
        return whole

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Follower:
    """See the module's text.  events, logs: by process's name."""

    def __init__(self, events: Mapping[str, Path], logs: Mapping[str, Path]) -> None:
        self._names = list(events)
        self._events = {name: _File(path) for name, path in events.items()}
        self._logs = {name: _File(path) for name, path in logs.items()}
        self._width = max(map(len, self._names), default=0)
        self._colours = has_colours()
        self._columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0

    def lines(self) -> list[Line]:
        """All that is new."""
        found = [
            line
            for name, file in self._events.items()
            for data in file.lines()
            if (line := _event(name, data)) is not None
        ]
        now = time.time_ns() // 1_000_000
        for name, file in self._logs.items():
            found += [
                Line(now, name, data.decode(errors="replace"), is_error=True)
                for data in file.lines()
            ]
        return sorted(found, key=lambda line: line.time)

    def show(self) -> None:
        """Print what is new."""
        for line in self.lines():
            click.echo(self._shown(line), color=self._colours)

    def _shown(self, line: Line) -> str:
        at = datetime.fromtimestamp(line.time / 1000).astimezone().strftime("%H:%M:%S")
        number = self._names.index(line.process)
        name = click.style(line.process.ljust(self._width), fg=_COLOURS[number % len(_COLOURS)])
        text = self._folded(line.text)
        text = click.style(text, fg="red") if line.is_error else text
        return f"{at}.{line.time % 1000:03d} {name}  {text}"

    def _folded(self, text: str) -> str:
        indent = len("09:41:00.123 ") + self._width + 2
        if self._columns < 2 * indent:
            return text
        width = self._columns - indent
        parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return ("\n" + " " * indent).join(parts)

    def close(self) -> None:
        for file in (*self._events.values(), *self._logs.values()):
            file.close()


def _event(name: str, data: bytes) -> Line | None:
    try:
        entry = msgspec.json.decode(data, type=dict[str, object])
        fields = {key: value for key, value in entry.items() if key not in _HIDDEN}
        return Line(int(str(entry["time"])), name, words_of(str(entry["event"]), fields))
    except (msgspec.MsgspecError, KeyError, ValueError):
        return None  # a line that a full disk cut


def has_colours() -> bool:
    """Whether stdout is a terminal that wants them."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
