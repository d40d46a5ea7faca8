"""Faults that only scenes.py asks for, carried out as faults.py's.

    hang     a process is stopped in the middle of a turn (SIGSTOP), for `lasts`; it goes on with
             what it had begun, on what it knew then
    spoil    a broker finds that a file of its own is damaged, as its housekeeping would
    garble   of what a follower is sent next, one bit is another, and no checksum below has noticed
    astray   a follower loses its leader, and what it dials then is another broker: its address has
             another owner, or a proxy leads elsewhere

Only `spoil` takes something away, so it keeps to what losses.py's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.sim.broker import SimBroker
from tests.sim.losses import may_lose

if TYPE_CHECKING:
    from tests.sim.faults import Injector
    from tests.sim.net import Server
    from tests.sim.plans import Fault


def hang(injector: Injector, fault: Fault, process: Server) -> None:
    injector.tell(process, fault, "hangs in the middle of a turn")
    process.unfuse()
    process.fuse, process.on_fuse = fault.fuse or 0, lambda: process.hang(fault.lasts)


def spoil(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is not None:
        injector.tell(broker, fault, "finds a file of its own damaged")
        injector.taint(broker)
        found = broker.broker.file_damaged
        injector.world.scheduler.enter(broker, broker.life, found, "a file is damaged")


def garble(injector: Injector, fault: Fault, process: Server) -> None:
    if isinstance(process, SimBroker):
        injector.tell(process, fault, "of what it is sent next one bit is another")
        process.garbles = True


def astray(injector: Injector, fault: Fault, process: Server) -> None:
    if isinstance(process, SimBroker) and process.ready:
        injector.tell(process, fault, f"loses its leader, and dials {fault.other} instead")
        process.astray = injector.world.brokers[int(fault.other[1:])]
        injector.world.later(fault.lasts, setattr, process, "astray", None)
        process.broker.link.lose()  # type: ignore[attr-defined]  # it is a simulated one


RARE: Final = {"hang": hang, "spoil": spoil, "garble": garble, "astray": astray}
