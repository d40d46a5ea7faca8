"""Faults, carried out; what is planned is plans.py's.

    kill, power, stop    a process, its machine; SIGTERM.  It starts again after `lasts`
    pause                SIGSTOP, for `lasts`
    isolate, cut         a host from everybody; one host from one other, one way
    break                one connection, for both ends or one of them
    lag, clock           every message is slower; a wall clock jumps
    full, slow, eio      a disk has no room, syncs slowly, fails to sync
    short                a disk writes only so many bytes at a time
    wipe, damage, tear   a disk loses what it held: losses.py (and `scrawl`, which loses nothing)
    rot                  a bit flips while nobody looks: rot.py
    replaced             yak-zk is started on an empty disk; after `lasts` its own one is back
    silent               a member of a group hangs
    stray                what a member says comes late, and it has gone on meanwhile
    blackout             every machine loses power at once (where fsync=always is set)
    hang, spoil, garble, astray, delay    rare.py's

What is promised bounds what may fall together: with fsync=never, one machine's power at a time,
until the cluster has taken it in again; the same for a sync that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.sim.broker import SimBroker
from tests.sim.losses import damage, scrawl, tear, wipe
from tests.sim.net import Pipe, Server
from tests.sim.plans import Fault
from tests.sim.rare import RARE
from tests.sim.rot import rot

if TYPE_CHECKING:
    from tests.sim.world import World

#: The fields of a step that name whom it is about.
_SUBJECTS: Final = ("broker", "follower", "leader")
#: A blackout's machines come back within this of one another, in seconds.
SPREAD_S: Final = 0.5
#: How long a client does not notice that its connection is lost, in seconds.
SAYS_S: Final = 0.4


class Late(Pipe):
    """A way on which everything takes so many seconds more."""

    __slots__ = ("_late",)

    def __init__(self, pipe: Pipe, late: float) -> None:
        super().__init__(pipe._net, pipe.src, pipe.dst)
        self._last = pipe._last
        self._late = late

    def send(self, fn: Callable[..., object], *args: Any) -> None:
        scheduler = self._net.scheduler
        self._last = max(self._last + 1e-7, scheduler.now + self._late)
        scheduler.at(self._last, None, fn, *args)


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
            if not fault.after and (fault.kind == "cut" or _burns(fault)):
                self.fire(fault, cast)  # before what was decided here can leave, or is done
            else:
                self.world.later(fault.after, self.fire, fault, cast)

    def fire(self, fault: Fault, cast: Mapping[str, Server | None]) -> None:
        hangs = any(process.hangs for process in self.world.servers())
        if not self.over and not (hangs and fault.kind in _NOT_WHILE_ONE_HANGS):
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
        if target[1:].isdigit():
            return self.world.brokers[int(target[1:])]
        if target == "leader" and leader is not None:
            return leader
        brokers = [b for b in self.world.brokers.values() if target == "any" or b is not leader]
        return self.rng.choice(brokers)

    def tell(self, process: Server, fault: Fault, what: str) -> None:
        fuse = "" if fault.fuse is None else f" in {fault.fuse} steps"
        self.world.note(f"*** {process.name}: {what}{fuse}, for {fault.lasts:.2f} s")

    def _when(self, process: Server, fault: Fault, action: str) -> None:
        """Let a process die (or its machine) now, or when its fuse has burnt down."""
        process.unfuse()
        if action == "kill":
            if fault.fuse is None:
                process.died()
            else:
                process.fuse = fault.fuse
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
            self.world.later(0.05 + fault.lasts, self.start_again, process)

    def start_again(self, process: Server) -> None:
        """Whether it has died by now or not: then its fuse is out."""
        process.unfuse()
        process.start()

    def power(self, fault: Fault, process: Server) -> None:
        if self.may_lose(process):
            self.tell(process, fault, "its machine loses power")
            if fault.fuse is None:
                self.lose(process)
            else:
                process.unfuse()
                process.fuse, process.ends = fault.fuse, partial(self._lose_or_die, process)
            self.world.later(0.05 + fault.lasts, self.start_again, process)

    def _lose_or_die(self, process: Server) -> None:
        if self.may_lose(process):
            self.lose(process)
        else:
            process.die()  # meanwhile another machine has lost power, and two are too many

    def may_lose(self, process: Server) -> bool:
        """Whether the promise holds if this machine loses power now."""
        if not process.powered or not process.up:
            return False
        if not isinstance(process, SimBroker) or self.world.setup.fsync == "always":
            return True
        document = self.world.judge.document
        if document is not None and document.isr_ids == [process.id]:
            return False  # a new cluster, in which nobody else is in sync yet
        return self.world.setup.settings.min_insync_replicas > 1 and not self.unsettled()

    def unsettled(self) -> bool:
        """Whether a disk may still lack what it once had."""
        document = self.world.judge.document
        suspects = document.suspects if document else {}
        for i in sorted(self.tainted):
            broker = self.world.brokers[i]
            doubt = broker.unknowable or broker.rot() or broker.may_begin_anew
            if broker.ready and broker.recorded and i not in suspects and not doubt:
                self.tainted.discard(i)
                broker.excused = False
        return bool(self.tainted) or bool(suspects)

    def taint(self, broker: SimBroker) -> None:
        """Its disk lacks something from now on, until the cluster has taken it in again."""
        self.tainted.add(broker.id)
        broker.excused = True
        broker.recorded = False

    def lose(self, process: Server) -> None:
        if isinstance(process, SimBroker):
            if self.world.setup.fsync != "always":
                self.taint(process)
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
            self.world.later(back, self.start_again, each)

    def stop(self, fault: Fault, process: Server) -> None:
        if isinstance(process, SimBroker) and process.ready:
            self.tell(process, fault, "asked to stop")
            self.world.scheduler.enter(process, process.life, process.broker.stop)
            self.world.later(5.0 + fault.lasts, self.start_again, process)

    def pause(self, fault: Fault, process: Server) -> None:
        if process.up:
            self.tell(process, fault, "stopped by SIGSTOP")
            self._when(process, fault, "pause")
            self.world.later(0.05 + fault.lasts, self._continue, process)

    def _continue(self, process: Server) -> None:
        process.unfuse()
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
        how = fault.other if fault.other == "server" else how
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

    def short(self, fault: Fault, process: Server) -> None:
        """No write takes more than so many bytes: whoever writes must write on."""
        if isinstance(process, SimBroker):
            self.tell(process, fault, "its disk writes little at a time")
            process.disk.short_write_bytes = self.rng.randint(1, 200)
            self.world.later(fault.lasts, setattr, process.disk, "short_write_bytes", None)

    def replaced(self, fault: Fault, process: Server) -> None:
        zk = self.world.zk
        if not zk.forgets:
            self.tell(zk, fault, "killed, and started on an empty disk")
            zk.die()
            zk.forget()
            zk.start()
            self.world.later(0.3 + fault.lasts, self._remember)

    def _remember(self) -> None:
        zk = self.world.zk
        if zk.forgets:
            self.world.note("*** zk: killed, and started on its own disk again")
            zk.die()
            zk.remember()
            zk.start()

    def slow(self, fault: Fault, process: Server) -> None:
        if isinstance(process, SimBroker):
            self.tell(process, fault, "its disk syncs slowly")
            process.slow_sync = 2.0 * self.rng.random()
            self.world.later(fault.lasts, setattr, process, "slow_sync", 0.0)

    def eio(self, fault: Fault, process: Server) -> None:
        """A failed sync is as a power cut: what it should have synced may be lost."""
        if not isinstance(process, SimBroker) or not process.ready or self.unsettled():
            return
        if self.world.setup.settings.min_insync_replicas > 1:
            self.tell(process, fault, "its disk fails to sync")
            self.taint(process)
            process.disk.sync_fails = True
            self.world.later(fault.lasts, setattr, process.disk, "sync_fails", False)

    def silent(self, fault: Fault, process: Server) -> None:
        members = self.world.members
        if members:
            member = self.rng.choice(members)
            self.world.note(f"*** {member.name} hangs for {fault.lasts:.2f} s")
            member.fall_silent(fault.lasts)

    def stray(self, fault: Fault, process: Server) -> None:
        """What a member is saying arrives so much later; it itself takes its connection for lost
        soon, and speaks over another one.
        """
        wires = [m.wire for m in self.world.members if m.wire is not None and m.wire.client_open]
        if wires:
            wire = self.rng.choice(wires)
            self.world.note(
                f"*** what {wire.client.name} says is under way for {fault.lasts:.2f} s"
            )
            wire.up = Late(wire.up, fault.lasts)
            reset = self.world.scheduler.now + SAYS_S
            self.world.scheduler.at(reset, None, wire.fin_at_client, "reset by the network")

    def heal(self) -> None:
        """All is well again: nothing more fails, everybody runs."""
        self.over = True
        self._remember()
        world = self.world
        world.net.heal_all()
        for process in world.servers():
            process.unfuse()
            if isinstance(process, SimBroker):
                process.slow_sync = 0.0
                process.disk.sync_fails = False
                process.disk.short_write_bytes = None
                self._room_again(process)
            process.resume()
            process.start()


def _burns(fault: Fault) -> bool:
    """Whether it takes effect only when a fuse has burnt down."""
    return fault.fuse is not None and fault.kind in ("kill", "power", "pause")


#: Who hangs is in the middle of something, and is to come to the end of it, on its own disk.
_NOT_WHILE_ONE_HANGS: Final = frozenset(
    {
        *("kill", "power", "stop", "pause", "blackout", "replaced", "eio", "full"),
        *("wipe", "damage", "tear", "scrawl", "rot", "spoil"),
    }
)
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
    "wipe": wipe,
    "damage": damage,
    "tear": tear,
    "scrawl": scrawl,
    "rot": rot,
    "short": Injector.short,
    "replaced": Injector.replaced,
    "silent": Injector.silent,
    "stray": Injector.stray,
    "blackout": Injector.blackout,
    **RARE,
}
