"""Tables for people and JSON for programs, on stdout.

A table is plain text in columns, the same on a terminal and in a pipe, numbers to the right.

Not here: what is shown; that is each command's own.
"""

from __future__ import annotations

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
