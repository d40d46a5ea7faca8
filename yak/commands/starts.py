"""Where a consumer starts, as `-o` and `--since` say it.

    beginning   the first record that is still there       end    only what comes from now on
    stored      where the group stands                     N      offset N of every partition
    -N          the last N records of every partition      @TIME  the first logged then or later

TIME is milliseconds since 1970, or ISO 8601 (`@2026-11-22T09:41:00Z`; without a zone, local time).
kcat's `s@TIME` is the same.

Not here: asking a cluster for the offsets that -N and @TIME mean.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

import click

from yak.commands.options import ParamType
from yak.model import MAX_INT


class Last(NamedTuple):
    """The last so many records of every partition."""

    records: int


class At(NamedTuple):
    """The first record logged at that time or later; ms since 1970."""

    ms: int


#: An int is an offset.
Start: TypeAlias = str | int | Last | At

_WORDS: Final = ("beginning", "end", "stored")
_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")


class StartType(ParamType):
    """The argument of `-o`."""

    name = "where"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_start(value) if isinstance(value, str) else value
        except ValueError as e:
            self.fail(str(e), param, ctx)


def parse_start(text: str) -> Start:
    """What the text means.  Raises ValueError, which says what would do."""
    if text in _WORDS:
        return text
    if _NUMBER.fullmatch(text) and abs(int(text)) <= MAX_INT:
        return Last(-int(text)) if text.startswith("-") else int(text)
    if text.startswith(("@", "s@")):
        return At(_milliseconds(text.partition("@")[2]))
    raise ValueError(f"{text!r}: say beginning, end, stored, N, -N or @TIME")


def since(seconds: float) -> At:
    """So long ago."""
    return At(max(0, int((time.time() - seconds) * 1000)))


def _milliseconds(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= MAX_INT:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError(f"@{text}: say @ and milliseconds, or @2026-11-22T09:41:00Z") from e
    return max(0, round(moment.timestamp() * 1000))
