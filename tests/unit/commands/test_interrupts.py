"""Ctrl-C once: finish.  Twice: leave."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Any

import pytest

from yak.commands.interrupts import Interrupted, Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_breaks_in_where_it_may(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted), interrupts.allowed():
            signal.raise_signal(number)
        assert interrupts.asked


def test_the_first_waits_where_it_may_not() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(Interrupted), interrupts.allowed():
            pytest.fail("nothing more is begun")


def test_one_that_comes_after_the_last_look_wakes_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system call begins when the signal was taken note of, and its handler has not run."""
    reader, writer = os.pipe()
    calls: list[object] = []

    def select_late(*fds: list[int]) -> Any:
        # What the interpreter's own handler does at such a moment: it writes the byte, no more.
        os.write(interrupts._pipe[1], b"\x02")
        calls.append(fds)
        found = real(fds[0], fds[1], fds[2], 10.0)
        signal.raise_signal(signal.SIGINT)
        return found

    real = select.select
    monkeypatch.setattr(select, "select", select_late)
    try:
        with Interrupts() as interrupts, pytest.raises(Interrupted):
            interrupts.wait_readable(reader)
        assert len(calls) == 1
    finally:
        os.close(reader)
        os.close(writer)


def test_a_wait_that_was_woken_for_nothing_goes_on() -> None:
    reader, writer = os.pipe()
    try:
        with Interrupts() as interrupts:
            os.write(interrupts._pipe[1], b"\x1c")
            threading.Timer(0.05, os.write, (writer, b"x")).start()
            interrupts.wait_readable(reader)
            assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_the_second_leaves() -> None:
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_it_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) is before
