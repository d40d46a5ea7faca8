"""Faults: a plan made from the seed, and how each is carried out.

A plan is a list of Fault, each a plain value, so that a run can be repeated with some of them
left out.  A fault has a time.  One with `on` waits, from then on, for a step of the protocol to
be told (a broker takes the lead, an ISR is proposed, …) and falls right behind it; one with a
`fuse` falls so many steps (writes, messages) later, in the middle of a turn.  So most faults
fall between two steps that belong together.

    kill, power, stop    a process, its machine; SIGTERM.  It starts again after `lasts`
    pause                SIGSTOP, for `lasts`
    isolate, cut         a host from everybody; one host from one other, one way
    break                one connection, for both ends or one of them
    lag, clock           every message is slower; a wall clock jumps
    full, slow, eio      a disk has no room, syncs slowly, fails to sync
    silent               a member of a group hangs
    blackout             every machine loses power at once (where fsync=always is set)

What is promised bounds what may fall together: with fsync=never, one machine's power at a time,
until the cluster has taken it in again; the same for a sync that fails.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.sim.broker import SimBroker
from tests.sim.net import Server

if TYPE_CHECKING:
    from tests.sim.world import Setup, World

#: Kind, weight, and how long it lasts at most, in seconds.
_KINDS: Final[tuple[tuple[str, float, float], ...]] = (
    ("kill", 5.0, 1.5),
    ("power", 3.0, 1.5),
    ("stop", 0.7, 1.0),
    ("pause", 3.0, 3.0),
    ("isolate", 3.0, 3.5),
    ("cut", 4.0, 3.5),
    ("break", 4.0, 0.0),
    ("lag", 1.0, 1.5),
    ("clock", 0.5, 0.0),
    ("full", 1.0, 1.0),
    ("slow", 1.0, 2.0),
    ("eio", 0.4, 0.5),
    ("silent", 1.0, 3.0),
    ("blackout", 0.4, 1.0),
)
#: Steps of the protocol behind which faults fall.
STEPS: Final = (
    "leading",
    "serving",
    "elected",
    "isr_proposed",
    "isr_changed",
    "follower_agreed",
    "following",
    "stepped_down",
    "joined",
    "leader_link_lost",
    "resigning",
    "started",
)
#: Steps behind which a few faults together are the hardest: who counts changes there.
CRITICAL: Final = (
    "isr_proposed",
    "isr_changed",
    "follower_agreed",
    "leading",
    "elected",
    "started",
)
#: The fields of a step that name whom it is about.
_SUBJECTS: Final = ("broker", "follower", "leader")
#: A fuse's longest count.
FUSE: Final = 30
#: A blackout's machines come back within this of one another, in seconds.
SPREAD_S: Final = 0.5


@dataclass(frozen=True)
class Fault:
    """target, other: "leader", "follower", "any", "zk"; who told the step, "teller", and whom it
    is about, "subject".  other: the far end of a cut; both: both ways for certain.  Times in
    seconds; at: since the beginning; after: since the step.
    """

    at: float
    kind: str
    target: str
    lasts: float = 0.0
    on: str = ""
    after: float = 0.0
    fuse: int | None = None
    other: str = "any"
    both: bool = False


def plan(rng: random.Random, setup: Setup) -> list[Fault]:
    """Faults for one run, of what it is about: `setup.area`."""
    faults: list[Fault] = []
    if setup.area in ("isr", "power"):
        for _ in range(rng.randint(3, 4)):
            faults += rng.choice((_window, _window, _relay))(rng, setup)
    elif setup.area == "takeover":
        for _ in range(rng.randint(2, 3)):
            faults += _takeover(rng, setup)
    else:
        kinds = [kind for kind in _KINDS if rng.random() < 0.5] or list(_KINDS)
        faults += [_one(rng, setup, kinds) for _ in range(rng.randint(0, 3 + int(setup.chaos_s)))]
        for _ in range(rng.randint(0, 2)):
            faults += rng.choice((_several, _window, _takeover, _relay))(rng, setup)
    return sorted(faults, key=lambda fault: fault.at)


def _one(rng: random.Random, setup: Setup, kinds: list[tuple[str, float, float]]) -> Fault:
    pool = list(_KINDS) if rng.random() < 0.1 else kinds
    kind, _, most = rng.choices(pool, weights=[weight for _, weight, _ in pool])[0]
    target = rng.choices(("leader", "follower", "any", "zk"), weights=(5, 3, 2, 1))[0]
    on = rng.choice(STEPS) if rng.random() < 0.35 else ""
    if on and rng.random() < 0.6:
        target = rng.choice(("teller", "subject"))
    return Fault(
        at=_time(rng, setup),
        kind=kind,
        target=target,
        lasts=most * rng.random() ** 2 * (1.5 if rng.random() < 0.1 else 1.0),
        on=on,
        fuse=int(FUSE * rng.random() ** 2) if rng.random() < 0.6 else None,
        other=rng.choice(("any", "zk", "leader")),
    )


def _several(rng: random.Random, setup: Setup) -> list[Fault]:
    """Behind any step: links between those it concerns are cut, and somebody dies meanwhile."""
    at, on = _time(rng, setup), rng.choice(CRITICAL)
    ends = ("leader", "subject", "zk", "any")
    faults = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        one, other = rng.sample(ends, 2)
        faults.append(_cut(rng, at, on, one, other))
    return faults + _deaths(rng, at, on)


def _window(rng: random.Random, setup: Setup) -> list[Fault]:
    """The ISR is about to change: a follower falls behind, and leaves or comes back.

    Behind that step the leader does not hear what yak-zk makes of it (or yak-zk of the leader),
    does not reach the follower, and dies: whoever is elected then must have been waited for.
    """
    at = _time(rng, setup)
    how = rng.choice(("kill", "power", "isolate", "pause", "cut"))
    if setup.area == "power":
        how = "power"
    lasts = 0.2 + 1.3 * rng.random()
    faults = [Fault(at, how, "follower", lasts, other="leader", both=True)]
    at, on = at + 0.02, rng.choice(("joining", "joining", "leaving", "isr_changed"))
    one, other = rng.choice((("leader", "zk"), ("zk", "leader")))
    faults.append(_cut(rng, at, on, one, other))
    if rng.random() < 0.8:
        one, other = rng.choice((("leader", "subject"), ("subject", "leader")))
        faults.append(_cut(rng, at, on, one, other))
    return faults + _deaths(rng, at, on) + _next(rng, at)


def _relay(rng: random.Random, setup: Setup) -> list[Fault]:
    """A follower is left behind, the leader commits without it and dies before it can tell.

    So the next leader does not know how far was committed when that follower comes back.
    """
    at, lag = _time(rng, setup), setup.settings.replica_lag_ms / 1000
    faults = [Fault(at, "cut", "follower", lag + 0.5 * rng.random(), other="leader", both=True)]
    after = 0.006 * rng.random()
    faults.append(Fault(at + 0.02, "kill", "leader", 2.0 * rng.random(), "isr_changed", after))
    return faults + _next(rng, at + 0.1)


def _next(rng: random.Random, at: float) -> list[Fault]:
    """What may befall the leader that comes after."""
    if rng.random() < 0.4:
        return []
    on = rng.choice(("leading", "follower_agreed", "joining", "joining", "isr_changed"))
    at += 0.1 + 0.4 * rng.random()
    cut = _cut(rng, at, on, "leader", rng.choice(("subject", "subject", "any", "zk")))
    return [cut, *_deaths(rng, at, on)]


def _takeover(rng: random.Random, setup: Setup) -> list[Fault]:
    """A leader goes in the middle of its work; so does, perhaps, the one that takes over."""
    at = _time(rng, setup)
    if rng.random() < 0.3:
        # yak-zk starts again, and does not hear of the leader at first.
        cut = Fault(at, "cut", "leader", 0.2 + rng.random(), other="zk", both=True)
        return [cut, Fault(at, "kill", "zk", 0.1 * rng.random()), *_next(rng, at)]
    how = rng.choice(("kill", "power", "isolate", "pause", "cut"))
    fuse = int(FUSE * rng.random()) if rng.random() < 0.5 else None
    faults = [Fault(at, how, "leader", 2.0 * rng.random(), fuse=fuse, other="zk")]
    on = rng.choice(("elected", "leading", "follower_agreed", "serving", "following"))
    if rng.random() < 0.5:
        faults.append(_cut(rng, at, on, "leader", rng.choice(("any", "subject", "follower"))))
    return faults + _deaths(rng, at, on)


def _cut(rng: random.Random, at: float, on: str, one: str, other: str) -> Fault:
    after = 0.3 * rng.random() if rng.random() < 0.2 else 0.0
    return Fault(at, "cut", one, 0.1 + 2.5 * rng.random() ** 2, on, after, None, other)


def _deaths(rng: random.Random, at: float, on: str) -> list[Fault]:
    faults = []
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("kill", "power", "pause", "kill", "power", "isolate"))
        target = rng.choice(("leader", "leader", "leader", "leader", "subject", "follower"))
        after = 0.02 + 0.8 * rng.random() ** 2
        fuse = int(FUSE * rng.random()) if rng.random() < 0.3 else None
        faults.append(Fault(at, kind, target, 2.5 * rng.random(), on, after, fuse))
    return faults


def _time(rng: random.Random, setup: Setup) -> float:
    return round(0.3 + rng.random() * 0.8 * setup.chaos_s, 4)


class Injector:
    """Carries out a plan in a world."""

    def __init__(self, world: World, faults: list[Fault]) -> None:
        self.world = world
        self.rng = world.rng
        #: Faults whose time has come, and which wait for their step.
        self.armed: list[Fault] = []
        #: Whose disk may lack something, with fsync=never, until the cluster took it in again.
        self.tainted: set[int] = set()
        self.over = False
        for fault in faults:
            world.scheduler.at(fault.at, None, self._due, fault)

    def _due(self, fault: Fault) -> None:
        if self.over:
            return
        if fault.on:
            self.armed.append(fault)
        else:
            self.fire(fault, {})

    def told(self, process: Server, event: str, fields: dict[str, Any]) -> None:
        """A step of the protocol: whatever waits for it falls now."""
        names = {event}
        if event == "isr_proposed":
            names.add("joining" if fields["reason"] == "caught up" else "leaving")
        waiting = [fault for fault in self.armed if fault.on in names]
        if not waiting:
            return
        leader = self._leader()
        subject = next((fields[name] for name in _SUBJECTS if fields.get(name)), None)
        cast = {
            "teller": process,
            "zk": self.world.zk,
            "leader": process if event in ("isr_proposed", "follower_agreed") else leader,
            "subject": self.world.brokers.get(subject or 0),
        }
        for fault in waiting:
            self.armed.remove(fault)
            if fault.kind == "cut" and not fault.after:
                self.fire(fault, cast)  # before what was decided here can leave
            else:
                self.world.later(fault.after, self.fire, fault, cast)

    def fire(self, fault: Fault, cast: Mapping[str, Server | None]) -> None:
        if not self.over:
            process = cast.get(fault.target) or self._find(fault.target)
            other = cast.get(fault.other) or self._find(fault.other)
            if fault.kind == "cut":
                self.cut(fault, process, other)
            else:
                _ACTIONS[fault.kind](self, fault, process)

    def _leader(self) -> Server | None:
        document = self.world.judge.document
        leader = document.leader if document else None
        return self.world.brokers[leader] if leader is not None else None

    def _find(self, target: str) -> Server:
        """Who that is at this moment; anybody, where it is nobody."""
        leader = self._leader()
        if target == "zk":
            return self.world.zk
        if target == "leader" and leader is not None:
            return leader
        brokers = [b for b in self.world.brokers.values() if target == "any" or b is not leader]
        return self.rng.choice(brokers)

    def tell(self, process: Server, fault: Fault, what: str) -> None:
        fuse = "" if fault.fuse is None else f" in {fault.fuse} steps"
        self.world.note(f"*** {process.name}: {what}{fuse}, for {fault.lasts:.2f} s")

    def _when(self, process: Server, fault: Fault, action: str) -> None:
        """Let a process die (or its machine) now, or when its fuse has burnt down."""
        if action == "kill":
            if fault.fuse is None:
                process.died()
            else:
                process.fuse, process.on_fuse = fault.fuse, None
            return
        if fault.fuse is None:
            process.pause()
        else:
            process.fuse, process.on_fuse = fault.fuse, process.pause

    # -- processes --------------------------------------------------------------------------------

    def kill(self, fault: Fault, process: Server) -> None:
        if process.up:
            self.tell(process, fault, "killed")
            self._when(process, fault, "kill")
            self.world.later(0.05 + fault.lasts, self._start_again, process)

    def _start_again(self, process: Server) -> None:
        """Whether it has died by now or not: then its fuse is out."""
        process.fuse = process.on_fuse = None
        process.start()

    def power(self, fault: Fault, process: Server) -> None:
        if self.may_lose(process):
            self.tell(process, fault, "its machine loses power")
            self.lose(process)
            self.world.later(0.05 + fault.lasts, self._start_again, process)

    def may_lose(self, process: Server) -> bool:
        """Whether the promise holds if this machine loses power now."""
        if not process.powered or not process.up:
            return False
        if not isinstance(process, SimBroker) or self.world.setup.fsync == "always":
            return True
        return self.world.setup.settings.min_insync_replicas > 1 and not self._unsettled()

    def _unsettled(self) -> bool:
        """Whether a disk may still lack what it once had."""
        document = self.world.judge.document
        suspects = document.suspects if document else {}
        for i in sorted(self.tainted):
            broker = self.world.brokers[i]
            if broker.ready and broker.recorded and i not in suspects:
                self.tainted.discard(i)
                broker.excused = False
        return bool(self.tainted) or bool(suspects)

    def lose(self, process: Server) -> None:
        if isinstance(process, SimBroker):
            if self.world.setup.fsync != "always":
                self.tainted.add(process.id)
                process.excused = True
                process.recorded = False
            process.lose_power()
        else:
            self.world.zk.lose_power()

    def blackout(self, fault: Fault, process: Server) -> None:
        if self.world.setup.fsync != "always":
            return
        self.tell(process, fault, "and all machines lose power")
        for each in self.world.servers():
            if each.powered:
                self.lose(each)
            back = 0.05 + fault.lasts + self.rng.random() * SPREAD_S
            self.world.later(back, self._start_again, each)

    def stop(self, fault: Fault, process: Server) -> None:
        if isinstance(process, SimBroker) and process.ready:
            self.tell(process, fault, "asked to stop")
            self.world.scheduler.enter(process, process.life, process.broker.stop)
            self.world.later(5.0 + fault.lasts, self._start_again, process)

    def pause(self, fault: Fault, process: Server) -> None:
        if process.up:
            self.tell(process, fault, "stopped by SIGSTOP")
            self._when(process, fault, "pause")
            self.world.later(0.05 + fault.lasts, self._continue, process)

    def _continue(self, process: Server) -> None:
        process.fuse = process.on_fuse = None
        if process.paused:
            self.world.note(f"*** {process.name} goes on")
            process.resume()

    # -- network ----------------------------------------------------------------------------------

    def isolate(self, fault: Fault, process: Server) -> None:
        self.tell(process, fault, "cut off from everybody")
        for other in self.world.servers():
            if other is not process:
                self._cut_for(process.name, other.name, fault.lasts)
                self._cut_for(other.name, process.name, fault.lasts)

    def cut(self, fault: Fault, process: Server, other: Server) -> None:
        if process is other:
            return
        both = fault.both or self.rng.random() < 0.4
        self.tell(process, fault, f"cut off {'from' if both else 'on the way to'} {other.name}")
        self._cut_for(process.name, other.name, fault.lasts)
        if both:
            self._cut_for(other.name, process.name, fault.lasts)

    def _cut_for(self, one: str, other: str, seconds: float) -> None:
        self.world.net.cut(one, other)
        self.world.later(seconds, self.world.net.heal, one, other)

    def break_one(self, fault: Fault, process: Server) -> None:
        how = self.rng.choice(("both", "client", "server"))
        if self.world.net.break_one(process.name, how):
            self.tell(process, fault, f"a connection breaks ({how})")

    def lag(self, fault: Fault, process: Server) -> None:
        self.tell(process, fault, "and everybody: messages are slow")
        net = self.world.net
        net.lag = 0.02 + 0.3 * self.rng.random() ** 2
        self.world.later(fault.lasts, setattr, net, "lag", 0.0)

    def clock(self, fault: Fault, process: Server) -> None:
        jump = self.rng.randint(-60_000, 60_000)
        self.tell(process, fault, f"its wall clock jumps by {jump} ms")
        process.wall_ms += jump

    # -- disks ------------------------------------------------------------------------------------

    def full(self, fault: Fault, process: Server) -> None:
        if isinstance(process, SimBroker):
            self.tell(process, fault, "its disk is full")
            process.full = True
            process.disk.space_left = self.rng.randint(0, 500)
            self.world.later(fault.lasts, self._room_again, process)

    def _room_again(self, process: SimBroker) -> None:
        process.full = False
        process.disk.space_left = None

    def slow(self, fault: Fault, process: Server) -> None:
        if isinstance(process, SimBroker):
            self.tell(process, fault, "its disk syncs slowly")
            process.slow_sync = 2.0 * self.rng.random()
            self.world.later(fault.lasts, setattr, process, "slow_sync", 0.0)

    def eio(self, fault: Fault, process: Server) -> None:
        """A failed sync is as a power cut: what it should have synced may be lost."""
        if not isinstance(process, SimBroker) or not process.ready or self._unsettled():
            return
        if self.world.setup.settings.min_insync_replicas > 1:
            self.tell(process, fault, "its disk fails to sync")
            self.tainted.add(process.id)
            process.excused = True
            process.recorded = False
            process.disk.sync_fails = True
            self.world.later(fault.lasts, setattr, process.disk, "sync_fails", False)

    def silent(self, fault: Fault, process: Server) -> None:
        members = self.world.members
        if members:
            member = self.rng.choice(members)
            self.world.note(f"*** {member.name} hangs for {fault.lasts:.2f} s")
            member.fall_silent(fault.lasts)

    def heal(self) -> None:
        """All is well again: nothing more fails, everybody runs."""
        self.over = True
        world = self.world
        world.net.heal_all()
        for process in world.servers():
            process.fuse = process.on_fuse = None
            if isinstance(process, SimBroker):
                process.slow_sync = 0.0
                process.disk.sync_fails = False
                self._room_again(process)
            process.resume()
            process.start()


_ACTIONS: Final = {
    "kill": Injector.kill,
    "power": Injector.power,
    "stop": Injector.stop,
    "pause": Injector.pause,
    "isolate": Injector.isolate,
    "break": Injector.break_one,
    "lag": Injector.lag,
    "clock": Injector.clock,
    "full": Injector.full,
    "slow": Injector.slow,
    "eio": Injector.eio,
    "silent": Injector.silent,
    "blackout": Injector.blackout,
}
