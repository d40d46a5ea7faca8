"""Ctrl-C once: finish what is begun.  Twice: leave.

    with Interrupts() as interrupts:
        while not interrupts.asked:
            interrupts.wait_readable(fd)        # here, and only here, the first one breaks in:
            send(os.read(fd, size))             # it raises Interrupted.  This is never torn

The first SIGINT or SIGTERM sets `asked`, and raises `Interrupted` if it comes while that is
allowed; outside, whoever works on is asked at the end of its step.  Every further one raises
KeyboardInterrupt wherever it meets the program: exit code 130.

Only for the main thread of a command.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: A signal is a byte in the pipe: so many are taken out together.
_SIGNALS_AT_ONCE: Final = 64


class Interrupted(Exception):  # noqa: N818 -- it says what happened
    """The first Ctrl-C, where it was allowed to break in."""


class Interrupts:
    """See the module's text.  asked: it is time to finish."""

    def __init__(self) -> None:
        self.asked = False
        self._allowed = False
        self._before: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._wakeup_before = -1

    def __enter__(self) -> Interrupts:
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
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
        signal.set_wakeup_fd(self._wakeup_before)
        for end in self._pipe:
            os.close(end)

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

    def wait_readable(self, fd: int) -> None:
        """Until `fd` has something to read; the first interruption may break in.

        A signal that comes after Python's last look and before the system call would let that
        sleep on; so each signal also writes into a pipe on which it waits as well.
        """
        wakeup = self._pipe[0]
        with self.allowed():
            while fd not in select.select([fd, wakeup], [], [])[0]:
                os.read(wakeup, _SIGNALS_AT_ONCE)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._allowed:
            raise Interrupted


def hang_up_is_an_end() -> None:
    """A terminal that is closed ends what runs in front of it, as SIGTERM does; not under nohup."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
