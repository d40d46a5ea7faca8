"""yak.alarm: no deadline is missed, whatever the loop makes of its time."""

from __future__ import annotations

from collections.abc import Callable

from yak.alarm import ROUNDED_S, Alarm


class Timer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.cancelled = seconds, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Its timers go off when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, call))
        return self.timers[-1]


def an_alarm() -> tuple[Loop, Alarm, list[str]]:
    loop, rung = Loop(), list[str]()
    return loop, Alarm(loop, lambda: rung.append("rung")), rung


def test_a_loop_that_rounds_to_milliseconds_does_not_ring_too_soon() -> None:
    loop, alarm, _ = an_alarm()
    alarm.set(100.1004, now=100.0)
    (timer,) = loop.timers
    assert round(timer.seconds * 1000) / 1000 >= 0.1004
    assert timer.seconds - 0.1004 <= 2 * ROUNDED_S


def test_the_earliest_counts_and_one_that_was_put_off_rings_as_it_was_set() -> None:
    loop, alarm, rung = an_alarm()
    alarm.set(110.0, now=100.0)
    alarm.set(105.0, now=100.0)
    alarm.set(120.0, now=101.0)
    assert [timer.cancelled for timer in loop.timers] == [True, False]
    loop.timers[-1].call()
    assert rung == ["rung"]


def test_once_it_has_rung_it_is_set_again_even_for_the_same_time() -> None:
    """The loop may have been early: with nothing else to come, the deadline would be missed."""
    loop, alarm, rung = an_alarm()
    alarm.set(105.0, now=100.0)
    loop.timers[-1].call()
    alarm.set(105.0, now=104.9996)
    assert len(loop.timers) == 2
    loop.timers[-1].call()
    assert rung == ["rung", "rung"]
