"""Faults of processes: killed, asked to stop, stopped; one, or all of them in some order.

    kill -9, SIGTERM, SIGSTOP    a broker or yak-zk, back after a while
    killed as it starts          as soon as it listens: it has just read its files
    killed ahead                 while the others stand still: what it holds alone goes with it
    killed while electing        the leader, and then whoever has just been elected, or yak-zk
    all killed                   at once; they come back in some order
    restarted in order           all end one after another and start one after another: every order
    rolling restart              one after another, without a wait until they are in sync

A broker that is asked to stop has to exit with 0.  What takes several steps takes them one by one,
so that links fail meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

from tests.fault.fault import Fault, UnableError, Whom
from tests.fault.field import Field, name, names
from tests.fault.roads import ZK
from tests.support.process import PATIENCE_S, POLL_S
from tests.support.wire import Wire

#: The others stand still for so long before one is killed ahead of them: far below a session.
STILL_S = 0.3
#: An election begins within this after a leader's death, or it is not waited for.
ELECTION_S = 4.0
#: What is done to the leader waits so long for one.
LEADER_S = 2.0
#: One look at yak-zk.
LOOK_S = 0.5


class _OneProcess(Fault):
    """Whatever is done, it runs again in the end."""

    apart = "process"
    whom: ClassVar[Whom] = "process"

    def __init__(self) -> None:
        self._victims: list[int] = []

    def end(self, field: Field) -> None:
        field.start(*self._victims)


class _Stepwise(_OneProcess):
    """Several steps, each when the one before is done: a `yield` waits until the next look."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: Iterator[None] = iter(())

    def go_on(self, field: Field) -> bool:
        try:
            next(self._steps)
        except StopIteration:
            return True
        return False


def _until(done: Callable[[], bool], what: str) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"after {PATIENCE_S:g} s still not: {what}"
        yield


def _ends(field: Field, number: int, *, kill: bool) -> Iterator[None]:
    """It is killed, or asked to stop, and has ended."""
    if kill:
        field.kill(number)
        return
    field.terminate(number)
    yield from _until(lambda: not field.process(number).running, f"{name(number)} has stopped")
    field.ended_in_order(number)


def _starts(field: Field, number: int) -> Iterator[None]:
    """It listens."""
    field.start(number)
    yield from _until(partial(field.listens, number), f"{name(number)} listens")


class Kill(_OneProcess):
    kind = "kill -9"
    share = 3

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victims = [victim]
        field.kill(victim)
        return f"{name(victim)} is killed"


class Terminate(_Stepwise):
    """A leader that is cut off takes its time to end: other faults go on meanwhile."""

    kind = "SIGTERM"
    share = 2

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victims = [victim]
        self._steps = _ends(field, victim, kill=False)
        next(self._steps, None)
        return f"{name(victim)} is asked to stop"

    def end(self, field: Field) -> None:
        try:
            field.ended_in_order(*self._victims)
        finally:
            super().end(field)


class Stop(Fault):
    kind = "SIGSTOP"
    apart = "process"
    whom = "process"
    lasts_s = (0.1, 10.0)
    share = 2

    def __init__(self) -> None:
        self._victims: list[int] = []

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victims = [victim]
        field.pause(victim)
        return f"{name(victim)} is stopped"

    def end(self, field: Field) -> None:
        field.resume(*self._victims)


class KillStarting(_Stepwise):
    kind = "killed as it starts"
    lasts_s = (0.0, 1.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victims = [victim]
        # Reading, joining, following: whatever it does then.
        lives = [chance.uniform(0.0, 0.5) for _ in range(chance.randint(1, 3))]
        self._steps = self._kill_again(field, victim, lives)
        field.kill(victim)
        return f"{name(victim)} is killed, and {len(lives)} times as it starts again"

    def _kill_again(self, field: Field, victim: int, lives: list[float]) -> Iterator[None]:
        for life in lives:
            yield from _starts(field, victim)
            until = time.monotonic() + life
            yield from _until(lambda: time.monotonic() >= until, "it lived")  # noqa: B023 -- in this turn only
            field.kill(victim)


def _leader(field: Field) -> int:
    """As soon as somebody leads; who that is may have changed since other faults began."""
    with contextlib.suppress(AssertionError):
        return field.cluster.wait_leader(timeout_s=LEADER_S)
    raise UnableError("nobody leads now")


class KillAhead(_OneProcess):
    kind = "killed ahead"
    whom = "all"
    lasts_s = (0.0, 3.0)
    share = 2

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        leader = _leader(field)
        others = [broker for broker in field.brokers if broker != leader]
        self._victims = [leader]
        field.pause(*others)
        try:
            time.sleep(STILL_S)
            field.kill(leader)
        finally:
            field.resume(*others)
        return f"{name(leader)}, the leader, is killed while the others stand still"


class KillElecting(_OneProcess):
    kind = "killed while electing"
    whom = "all"
    lasts_s = (0.0, 3.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        leader, epoch = _leader(field), _epoch(field)
        if epoch is None:
            raise UnableError("yak-zk does not say who leads")
        self._victims = [leader]
        field.kill(leader)
        second = [ZK] if chance.random() < 0.4 else []
        deadline = time.monotonic() + ELECTION_S
        while time.monotonic() < deadline:
            now = _epoch(field)
            if now is not None and now[0] > epoch[0] and now[1] is not None:
                second = second or [now[1]]
                break
            time.sleep(POLL_S)
        self._victims += second
        field.kill(*second)
        return f"{name(leader)}, the leader, is killed, then {names(second) or 'nobody'}"


def _epoch(field: Field) -> tuple[int, int | None] | None:
    """(epoch, leader) as yak-zk says; None where it does not."""
    address = field.cluster.zk_address
    assert address is not None
    with contextlib.suppress(OSError), Wire(address, LOOK_S) as wire:
        answer = wire.ok("status")
        return answer["epoch"], answer["leader"]
    return None


class KillAll(_OneProcess):
    """They come back nearly at once: nobody waits until another one listens."""

    kind = "all killed"
    whom = "all"
    lasts_s = (0.0, 2.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        self._victims = field.everyone if chance.random() < 0.5 else field.brokers
        chance.shuffle(self._victims)
        field.kill(*self._victims)
        return f"killed at once, and started in this order: {names(self._victims)}"


class InOrder(_Stepwise):
    """The orders of starting have their turn one by one, so that each comes in a long run."""

    kind = "restarted in order"
    whom = "all"
    lasts_s = (0.0, 1.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        orders = list(itertools.permutations(field.everyone))
        random.Random(len(orders)).shuffle(orders)
        self._victims = list(orders[field.turn(self.kind) % len(orders)])
        ending = field.everyone
        chance.shuffle(ending)
        kill = chance.random() < 0.5
        self._steps = self._restart(field, ending, kill=kill)
        how = "killed" if kill else "asked to stop"
        return f"{how}: {names(ending)}; started: {names(self._victims)}"

    def _restart(self, field: Field, ending: list[int], *, kill: bool) -> Iterator[None]:
        for number in ending:
            yield from _ends(field, number, kill=kill)
        for number in self._victims:
            yield from _starts(field, number)


class Rolling(_Stepwise):
    kind = "rolling restart"
    whom = "all"
    lasts_s = (0.0, 0.2)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        self._victims = field.everyone
        chance.shuffle(self._victims)
        kills = [chance.random() < 0.5 for _ in self._victims]
        self._steps = self._restart(field, kills)
        return f"restarted one by one: {names(self._victims)}"

    def _restart(self, field: Field, kills: list[bool]) -> Iterator[None]:
        for number, kill in zip(self._victims, kills, strict=True):
            yield from _ends(field, number, kill=kill)
            yield from _starts(field, number)


FAULTS: tuple[type[Fault], ...] = (
    Kill, Terminate, Stop, KillStarting, KillAhead, KillElecting, KillAll, InOrder, Rolling,
)  # fmt: skip
