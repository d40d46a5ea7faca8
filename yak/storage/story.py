"""A process's own story: one line an event, for whoever watches and for `yak explain`.

    2026-11-22T09:41:00.123Z broker-1 elected epoch=3 leader=1 reason="lowest live in-sync id"
    {"time":1795340460123,"process":"broker-1","event":"elected","epoch":3,"leader":1,"reason":…}

Rules:

* The first form goes to the stream (stderr), the second to events.jsonl; both say the same.
  Words stand bare where they can; what has a space, a quote or a `=` in it is JSON.
* The file is bounded: over MAX_FILE_BYTES it becomes events.1.jsonl, and the one before goes.
* Telling never fails: a full disk or a closed stream loses the line, not the process.
* `found` hears all of it, and keeps for `status` what was wrong with the disk (findings.py).

It does not filter, and does not read its files.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from yak.storage.disk import Disk, OsDisk, append_all
from yak.storage.findings import Findings

#: Some 30,000 events; with the file before it, days of a restless cluster.
MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+@,")


class Story:
    """See the module.

    process: as "broker-1".  path: of events.jsonl, or None.  stream: None tells nobody.
    quiet: only the file is written.  wall: seconds since 1970.
    listeners: are told each event, too; they must not fail.
    """

    def __init__(
        self,
        process: str,
        path: str | None,
        stream: TextIO | None,
        *,
        quiet: bool = False,
        disk: Disk | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.process = process
        self._path = path
        self._stream = None if quiet else stream
        self._disk = disk or OsDisk(max_open_files=1)
        self._wall = wall
        self.found = Findings()
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []

    def tell(self, event: str, /, **fields: Any) -> None:
        """Something happened.  fields: what JSON can hold; anything else as its text."""
        time_ms = int(self._wall() * 1000)
        self.found.hear(time_ms, event, fields)
        for listener in self.listeners:
            listener(event, fields)
        if self._stream is not None:
            with suppress(OSError, ValueError):  # closed, or its reader is gone
                self._stream.write(_line(time_ms, self.process, event, fields))
                self._stream.flush()
        if self._path is not None:
            entry = {**fields, "time": time_ms, "process": self.process, "event": event}
            head = dict.fromkeys(("time", "process", "event"))
            with suppress(OSError, ValueError):
                self._write(msgspec.json.encode(head | entry, enc_hook=str) + b"\n")

    def _write(self, line: bytes) -> None:
        assert self._path is not None
        if not self._disk.exists(self._path):
            self._disk.create(self._path)
        elif self._disk.size(self._path) + len(line) > MAX_FILE_BYTES:
            self._disk.rename(self._path, self._path.removesuffix(".jsonl") + ".1.jsonl")
            self._disk.create(self._path)
        append_all(self._disk, self._path, [line])


class StoryHandler(logging.Handler):
    """What modules say through `logging` becomes events too: one form for all of stderr."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.WARNING)
        self._story = story

    @classmethod
    @contextmanager
    def listening(cls, story: Story) -> Iterator[None]:
        """For as long as the process tells its story."""
        handler = cls(story)
        logger = logging.getLogger("yak")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"source": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._story.tell(record.levelname.lower(), **fields)


def _line(time_ms: int, process: str, event: str, fields: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{time_ms % 1000:03d}Z {process} {words_of(event, fields)}\n"


def words_of(event: str, fields: Mapping[str, Any]) -> str:
    """`elected epoch=3 leader=1 reason="lowest live in-sync id"`"""
    return " ".join([event, *(f"{name}={_word(value)}" for name, value in fields.items())])


def _word(value: Any) -> str:
    if isinstance(value, str) and value and _BARE.issuperset(value):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()
