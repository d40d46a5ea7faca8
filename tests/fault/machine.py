"""Faults of the machine around a process: its wall clock, and its file descriptors.

clock jumps       by up to half a day, and back                  nobody notices
no descriptors    clients hold all that may be had, and more     they wait; those inside go on
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import ClassVar, Final

from tests.fault.clocks import Clock
from tests.fault.descriptors import Crowd
from tests.fault.fault import Fault, UnableError, Whom
from tests.fault.field import Field, name
from tests.fault.roads import ZK

HOUR_S: Final = 3600.0
#: Descriptors that are left to a process: clients come in, or none does.
ROOM: Final = (40, 5)


@contextlib.contextmanager
def prepared(field: Field) -> Iterator[None]:
    """A clock of its own for each process, before any starts; after what else goes before it."""
    for number in field.everyone:
        clock = Clock(field.cluster.directory / f"clock-{number}")
        field.clocks[number] = clock.path
        before = field.cluster.before.get(number, [])
        field.cluster.before[number] = [*before, *clock.before]
    yield


class ClockJumps(Fault):
    kind = "clock jumps"
    apart = "clock"
    whom: ClassVar[Whom] = "process"
    lasts_s = (0.2, 8.0)
    share = 2

    def __init__(self) -> None:
        self._victim: int | None = None

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victim = victim
        off_s = chance.uniform(-12, 12) * HOUR_S
        Clock(field.clocks[victim]).set(off_s)
        return f"the clock of {name(victim)} is {off_s / HOUR_S:+.1f} h off"

    def end(self, field: Field) -> None:
        if self._victim is not None:
            Clock(field.clocks[self._victim]).set(0.0)


class NoDescriptors(Fault):
    kind = "no descriptors"
    apart = "process"
    whom = "process"
    lasts_s = (0.5, 5.0)
    share = 2

    def __init__(self) -> None:
        self._crowd: Crowd | None = None

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        room, cluster = chance.choice(ROOM), field.cluster
        address = cluster.zk_address if victim == ZK else cluster.addresses[victim]
        assert address is not None
        try:
            self._crowd = Crowd(field.process(victim).pid, address, room=room)
        except OSError as e:
            raise UnableError(f"it lets nobody in just now: {type(e).__name__}") from e
        return f"{name(victim)} has room for {room} descriptors more"

    def end(self, field: Field) -> None:
        if self._crowd is not None:
            self._crowd.close()


FAULTS: Final[tuple[type[Fault], ...]] = (ClockJumps, NoDescriptors)
