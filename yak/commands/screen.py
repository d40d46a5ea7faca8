"""The lines of several processes on a terminal, or in a pipe.

    09:41:00.123 yak-zk    elected epoch=3 leader=1 isr=[1,2,3]
                           reason="lowest live in-sync id"

On a terminal each process has a colour (not with NO_COLOR), and what is longer than a line goes
on below its beginning.  In a pipe a line is a line.

Not here: where the lines come from (yak/local/follow.py).
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Final

import click

from yak.local.follow import Follower, Line

_COLOURS: Final = ("yellow", "cyan", "green", "magenta", "blue", "bright_cyan", "bright_green")


class Screen:
    """Shows what a follower has, on stdout."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._colours = has_colours()
        self._columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0

    def show(self) -> None:
        """Print what is new."""
        for line in self._follower.lines():
            click.echo(self._shown(line), color=self._colours)

    def _shown(self, line: Line) -> str:
        number = self._follower.names.index(line.process)
        name = line.process.ljust(self._follower.width)
        text = self._folded(line.text, len(line.at) + len(name) + 3)
        text = click.style(text, fg="red") if line.is_error else text
        return f"{line.at} {click.style(name, fg=_COLOURS[number % len(_COLOURS)])}  {text}"

    def _folded(self, text: str, indent: int) -> str:
        if self._columns < 2 * indent:
            return text
        width = self._columns - indent
        parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return ("\n" + " " * indent).join(parts)


def has_colours() -> bool:
    """Whether stdout is a terminal that wants them."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
