"""Ctrl-C once: finish what is begun.  Twice: leave.

    with Interrupts() as interrupts:
        while not interrupts.asked:
            with interrupts.allowed():          # here, and only here, the first one breaks in
                data = os.read(fd, size)        # raises Interrupted
            send(data)                          # is never torn

The first SIGINT or SIGTERM sets `asked`, and raises `Interrupted` if it comes while that is
allowed; outside, whoever works on is asked at the end of its step.  Every further one raises
KeyboardInterrupt wherever it meets the program: exit code 130.

Only for the main thread of a command.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 -- it says what happened
    """The first Ctrl-C, where it was allowed to break in."""


class Interrupts:
    """See the module's text.  asked: it is time to finish."""

    def __init__(self) -> None:
        self.asked = False
        self._allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """The first interruption may break into this block.  Raises Interrupted."""
        self._allowed = True
        try:
            if self.asked:
                raise Interrupted
            yield
        finally:
            self._allowed = False

    def call(self, function: Callable[[], T]) -> T:
        """Call it; the first interruption may break in."""
        with self.allowed():
            return function()

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._allowed:
            raise Interrupted
