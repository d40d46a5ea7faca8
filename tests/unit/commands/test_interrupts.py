"""Ctrl-C once: finish.  Twice: leave."""

from __future__ import annotations

import signal

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
