"""A progress bar on stderr, where there is a terminal and enough to wait for.

rich is imported only when a bar is shown.

Not here: what is in progress.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

#: A file is worth a bar from this size on.
LONG_FILE_BYTES: Final = 4 * 1024 * 1024


class Progress:
    """See the module's text.  size: bytes in all.  shown: it is wanted."""

    def __init__(self, size: int, title: str, *, shown: bool) -> None:
        self._size = size
        self._title = title
        self._shown = shown and size >= LONG_FILE_BYTES and sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._lines = 0
        self._stack = ExitStack()

    def __enter__(self) -> Progress:
        if self._shown:
            self._bar = self._stack.enter_context(_make_bar())
            self._task = self._bar.add_task(self._title, total=self._size, lines="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def advance(self, size: int, lines: int) -> None:
        """So many bytes and lines more are done."""
        if self._bar is not None and self._task is not None:
            self._lines += lines
            self._bar.update(self._task, advance=size, lines=f"{self._lines:,} lines")


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[lines]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
