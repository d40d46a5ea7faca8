"""What the processes of a cluster say, as it comes: their events.jsonl and their stderr, in one.

    09:41:00.123 yak-zk    elected epoch=3 leader=1 reason="lowest live in-sync id"
    09:41:00.140 broker-2  error: the port is in use, …

Rules:

* What was there before is not shown.  A file that gives way to a new one is read to its end.
* Lines of several processes that come together are in the order of their times.

It has every event, but not the fields that only programs compare (`inc`), and paints nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from yak.storage.story import words_of

#: Fields that stand in events.jsonl only.
_HIDDEN: Final = frozenset({"time", "process", "event", "inc"})


class Line(NamedTuple):
    """time: ms since 1970."""

    time: int
    process: str
    text: str
    is_error: bool = False

    @property
    def at(self) -> str:
        """`09:41:00.123`, local time."""
        moment = datetime.fromtimestamp(self.time / 1000).astimezone()
        return f"{moment:%H:%M:%S}.{self.time % 1000:03d}"


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
        self.names = list(events)
        self._events = {name: _File(path) for name, path in events.items()}
        self._logs = {name: _File(path) for name, path in logs.items()}

    @property
    def width(self) -> int:
        """Of the longest name."""
        return max(map(len, self.names), default=0)

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
