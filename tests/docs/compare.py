"""Whether what came is what a page shows: all but what differs from run to run.

* `…` alone on a line stands for any lines, or none; within a line for anything.
* DIFFERS is all that may be other than the page says.  Epochs, offsets, partitions, who leads and
  why are compared.  The number of an operation is not: how many acknowledgements come before it is
  a matter of time.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import Final

_CLOCK: Final = r"\d\d:\d\d:\d\d(\.\d+)?"
#: What differs from run to run -> what is compared in its place, in this order.
DIFFERS: Final = {
    rf"\b\d{{4}}-\d\d-\d\d[T ]{_CLOCK}Z?": "TIME",
    rf"\b{_CLOCK}Z?": "TIME",
    r"\b\d{4}-\d\d-\d\d\b": "DATE",
    r"\b\d+(\.\d+)? m?s\b": "DURATION",
    r"\b\d+ MiB\b": "MEMORY",
    r"\b127\.0\.0\.1:\d+": "ADDRESS",
    r"\bpid \d+": "pid PID",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "ID",
    r"(\boperations?,? |\byak-consumer?-|\bindex=|\bnext=|\bhad=|\"index\":)\d+": r"\1INDEX",
    r'"time":\d+': '"time":TIME',
    r'"sum":"[0-9a-f]{8}"': '"sum":SUM',
    r"[ \t]+": " ",
}
REST: Final = "…"


def masked(line: str, *, numbers_differ: bool = False) -> str:
    for pattern, instead in DIFFERS.items():
        line = re.sub(pattern, instead, line)
    return (re.sub(r"\d+", "N", line) if numbers_differ else line).strip()


def consumed(shown: Sequence[str], came: Sequence[str], *, whole: bool) -> int | None:
    """How many lines of what came are those shown; None where they are not.

    whole: nothing else may follow them.  All of both are masked.
    """

    @cache
    def end(at: int, line: int) -> int | None:
        if at == len(shown):
            return line if line == len(came) or not whole else None
        if shown[at] == REST:
            ends = (end(at + 1, begin) for begin in range(line, len(came) + 1))
            return next((found for found in ends if found is not None), None)
        if line == len(came) or not _same(shown[at], came[line]):
            return None
        return end(at + 1, line + 1)

    return end(0, 0)


def _same(shown: str, came: str) -> bool:
    if REST not in shown:
        return shown == came
    return re.fullmatch(".*".join(map(re.escape, shown.split(REST))), came) is not None


def difference(shown: Sequence[str], came: Sequence[str]) -> str:
    """For a person: - is the page's, + is what came, both masked."""
    lines = difflib.unified_diff(shown, came, "the page", "what came", lineterm="", n=100)
    return "\n".join(lines)
