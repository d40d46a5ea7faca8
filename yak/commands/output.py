"""Tables for people and JSON for programs, on stdout.

A table is plain text in columns, the same on a terminal and in a pipe, numbers to the right.  One
that is wider than its window is folded at its edge, and cannot be read: `fitted` leaves out columns
instead, and says which; no cell is ever cut.

Not here: what is shown; that is each command's own.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TypeAlias

import click
import msgspec

#: None is shown as `-`.
Cell: TypeAlias = str | int | None
_GAP = "  "
#: So many things are named in a sentence.
LISTED = 10


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Rows under their header, each column as wide as its widest cell."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *texts, strict=True)]
    is_number = [all(isinstance(row[n], int | None) for row in rows) for n in range(len(header))]
    lines = (
        _GAP.join(
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in [list(header), *texts]
    )
    return "\n".join(lines)


def fitted(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], width: int, least: Sequence[str]
) -> str:
    """The table within a width, without as many of the `least` columns, in that order, as it takes.

    width: 0 for any.
    """
    gone: list[str] = []
    text = table(header, rows)
    for name in least:
        if not width or max(map(len, text.splitlines())) <= width:
            break
        gone.append(name)
        kept = [n for n, one in enumerate(header) if one not in gone]
        text = table([header[n] for n in kept], [[row[n] for n in kept] for row in rows])
    if gone:
        note = f"(in a wider window, or with --json, also: {', '.join(gone)})"
        text += "\n" + "\n".join(wrapped(note, width))
    return text


def window_width(*, err: bool = False) -> int:
    """Of the terminal that stdout is; 0 where it is none, and lines are as long as they are.

    err: that stderr is.
    """
    if err:
        return _columns(sys.stderr.fileno()) if sys.stderr.isatty() else 0
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _columns(terminal: int) -> int:
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() and int(said) else os.get_terminal_size(terminal).columns


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of a width, between words; 0: one.  first, rest: what they begin with."""
    if not width:
        return [first + text]
    return textwrap.wrap(
        text,
        max(width, len(first) + 20),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def echo_wrapped(text: str, *, err: bool = False) -> None:
    """A sentence, on a terminal in lines between words.  err: on stderr."""
    for line in wrapped(text, window_width(err=err)):
        click.echo(line, err=err)


def echo_json(value: Any) -> None:
    """One JSON document, indented, closed by a newline."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def many(count: int, noun: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """`a, b and c`; beyond `most` of them `a, b and 7 more`."""
    shown = list(names) if len(names) <= most else [*names[: most - 1]]
    rest = len(names) - len(shown)
    last = f"{rest:,} more" if rest else shown.pop() if shown else ""
    return f"{', '.join(shown)} and {last}" if shown else last


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else cell
