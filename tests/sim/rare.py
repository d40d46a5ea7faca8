"""Faults that no area is about, carried out as faults.py's: scenes.py asks for them, and one seed
in ten has some beside its others (`beside`).

    hang     a process is stopped in the middle of a turn (SIGSTOP), for `lasts`; it goes on with
             what it had begun, on what it knew then
    spoil    a broker finds that a partition's file of its own is damaged, as whoever reads it would
    garble   of what a follower is sent next, one bit is another, and no checksum below has noticed
    astray   a follower loses its leader, and what it dials then is another broker: its address has
             another owner, or a proxy leads elsewhere
    keep     a copy of a disk is made, and later, after a start,
    put_back it takes the place of the disk: losses.py
    delay    what a broker has just told yak-zk comes so much later; it takes its connection for
             lost, and speaks over another one

Only `spoil` and `put_back` take something away, so they keep to what losses.py's do.  Of these
seeds some have brokers that take a while from the moment at which they stop until they are gone.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.sim.broker import SimBroker
from tests.sim.losses import keep, may_lose, put_back
from tests.sim.plans import FUSE, STEPS, UPKEEP, Fault
from yak.core import events as e

if TYPE_CHECKING:
    from tests.sim.faults import Injector
    from tests.sim.net import Server
    from tests.sim.world import Setup

ONE_SEED_IN: Final = 10
#: So many have an older copy of a disk put back.
OLDER_IN: Final = 20


def beside(setup: Setup) -> list[Fault]:
    """What befalls this seed beside all else.  By a chance of its own, so that the stories of the
    other seeds stay as they were.
    """
    rng = random.Random(f"rare {setup.seed}")
    if rng.random() * ONE_SEED_IN >= 1:
        return _older(setup)
    setup.lingers_s = max(0.0, rng.random() - 0.7)
    return [_one(rng, setup) for _ in range(rng.randint(1, 4))]


def _older(setup: Setup) -> list[Fault]:
    """An older copy of a disk is put back, perhaps more than once, and perhaps in a hard moment."""
    rng = random.Random(f"older {setup.seed}")
    if rng.random() * OLDER_IN >= 1:
        return []
    whose, faults = f"b{rng.randint(1, setup.brokers)}", []
    for _ in range(rng.randint(1, 2)):
        at = 0.3 + 0.5 * rng.random() * setup.chaos_s
        how = rng.choice(("kill", "stop"))
        back = at + 0.3 + 0.5 * rng.random() * setup.chaos_s
        on = rng.choice(("", "joined", "isr_changed", "elected"))
        faults += [
            Fault(at, "keep", whose),
            Fault(at + 0.1 * rng.random(), how, whose, 0.3 * rng.random()),
            Fault(back, "put_back", whose, 0.3 * rng.random(), on),
        ]
    return faults


def _one(rng: random.Random, setup: Setup) -> Fault:
    kind = rng.choice(("hang", "hang", "hang", "garble", "astray", "spoil"))
    on = rng.choice((*STEPS, *UPKEEP)) if rng.random() < 0.5 else ""
    whom = ("teller", "subject", "leader") if on else ("leader", "leader", "follower", "any", "zk")
    return Fault(
        at=round(0.3 + rng.random() * 0.8 * setup.chaos_s, 4),
        kind=kind,
        target=rng.choice(whom if kind == "hang" else ("leader", "follower", "any")),
        lasts=rng.choice((0.2, 1.0, 2.5)) * rng.random(),
        on=on,
        fuse=int(FUSE * rng.random() ** 2) if kind == "hang" else None,
        other=f"b{rng.randint(1, setup.brokers)}" if kind == "astray" else "any",
    )


def hang(injector: Injector, fault: Fault, process: Server) -> None:
    injector.tell(process, fault, "hangs in the middle of a turn")
    process.unfuse()
    process.fuse, process.on_fuse = fault.fuse or 0, lambda: process.hang(fault.lasts)


def spoil(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is not None:
        injector.tell(broker, fault, "finds a file of its own damaged")
        injector.taint(broker)
        tell, found = broker.broker._tell, e.FileDamaged("a file is damaged")
        injector.world.scheduler.enter(broker, broker.life, tell, found)


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


def delay(injector: Injector, fault: Fault, process: Server) -> None:
    wire = process.session._wire if isinstance(process, SimBroker) and process.ready else None
    if wire is not None:
        injector.tell(process, fault, "what it told yak-zk is under way")
        injector.world.net.put_off(wire.up, fault.lasts)
        injector.world.later(0.0, wire.fin_at_client, "reset by the network")


RARE: Final = {
    "hang": hang,
    "spoil": spoil,
    "garble": garble,
    "astray": astray,
    "delay": delay,
    "keep": keep,
    "put_back": put_back,
}
