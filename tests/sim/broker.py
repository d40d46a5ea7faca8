"""A simulated broker: the real shell, core and storage, over a simulated port, link and disk.

`yak.broker.Broker` and `yak.carrier.Carrier` run as they are: turns, syncs in a thread, effects
in their order.  What the net does for them is played here by three small stand-ins, which mirror
their models' rules and leave out bytes:

    Port      yak.net.server.Server           connections by number
    Link      yak.net.link.LeaderLink         one link, named by its number; never retries
    Session   yak.net.coordinator             session.py

A start is `run` of yak/broker.py without its signals: open the directory, recover, mark it as
running, join.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from tests.sim.clock import Loop, Scheduler, running
from tests.sim.disk import SimDisk, WatchedStore
from tests.sim.durable import unsynced_log
from tests.sim.net import Server, ServerEnd, Wire
from tests.sim.rot import Rotten
from tests.sim.session import Session
from yak import messages as m
from yak.broker import Broker
from yak.config import BrokerConfig, Settings
from yak.core import events as e
from yak.errors import Fatal
from yak.model import Address
from yak.net.link import DIAL_TIMEOUT_S, REPLICATE_BYTES
from yak.net.server import ServerConnection
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.findings import Findings
from yak.storage.store import Recovered
from yak.storage.tail import Tail

if TYPE_CHECKING:
    from tests.sim.world import World

#: Turns in a row that a broker may want at once, as when it applies a long log.
RESTLESS_TURNS: Final = 20
#: How long after a broker stopped by itself it is started again, in seconds.
RESTART_S: Final = 0.5
#: How long one takes from one of its lives to the next, in seconds.
AGAIN_S: Final = 0.01


class Port:
    """A broker's server as its carrier knows it."""

    def __init__(self, connections: dict[int, ServerEnd], address: Address) -> None:
        self.connections = connections
        self.address = address

    def flush(self) -> None:
        """A simulated answer is on its way as soon as it is given."""


class Link:
    """Carries out Dial, Undial, SendFollow and SendReplicate."""

    def __init__(
        self,
        process: SimBroker,
        inc: str,
        tell: Callable[[e.Event], None],
        received: Callable[[int, m.ReplicateAnswer, Buffer], None],
    ) -> None:
        self._process = process
        self._inc = inc
        self._tell = tell
        self._received = received
        self._number = 0
        self._wire: Wire | None = None

    def dial(self, effect: e.Dial) -> None:
        self.close()
        number = self._number = effect.link
        world = self._process.world
        self._wire = world.net.connect(
            self._process,
            self._process.astray or world.brokers[effect.broker],
            on_open=lambda wire: self._opened(number),
            on_fail=lambda reason: self._down(number, reason),
            on_closed=lambda reason: self._down(number, reason),
            timeout_s=DIAL_TIMEOUT_S,
        )

    def _opened(self, number: int) -> None:
        if number == self._number:
            self._tell(e.LinkUp(number))

    def undial(self, link: int) -> None:
        if link == self._number:
            self.close()

    def close(self) -> None:
        self._number = -1
        if self._wire is not None:
            self._wire.forget()
            self._wire = None

    def follow(self, effect: e.SendFollow, running_sum: str) -> None:
        if self._wire is None or effect.link != self._number:
            return
        request = m.Follow(
            id=0,
            broker=self._process.id,
            inc=self._inc,
            epoch=effect.epoch,
            epochs=effect.epochs,
            next=effect.next,
            sum=running_sum,
        )
        self._wire.ask(request, b"", lambda answer, _: self._followed(effect.link, answer))

    def _followed(self, link: int, answer: m.Answer | None) -> None:
        if isinstance(answer, m.FollowAnswer):
            self._tell(e.FollowAnswered(link, answer))
        else:
            error = answer.message if isinstance(answer, m.ErrorAnswer) else "the link broke"
            self._tell(e.FollowAnswered(link, None, error))

    def replicate(self, effect: e.SendReplicate) -> None:
        if self._wire is None or effect.link != self._number:
            return
        self._process.check_durable()
        request = m.Replicate(
            id=0,
            broker=self._process.id,
            epoch=effect.epoch,
            from_=effect.first,
            wait_ms=effect.wait_ms,
            max_bytes=self._process.world.setup.replicate_bytes or REPLICATE_BYTES,
        )
        self._wire.ask(request, b"", lambda *got: self._replicated(effect.link, *got))

    def _replicated(self, link: int, answer: m.Answer | None, body: bytes) -> None:
        if link != self._number:
            return
        if isinstance(answer, m.ReplicateAnswer):
            self._received(link, answer, self._process.as_it_arrives(body))
        elif answer is not None:
            assert self._wire is not None
            assert isinstance(answer, m.ErrorAnswer)
            self._wire.forget()
            self._down(link, answer.message)

    def copy(
        self, link: int, request: m.Copy, received: Callable[[m.CopyAnswer, Buffer], None]
    ) -> None:
        if self._wire is None or link != self._number:
            return
        request.max_bytes = self._process.world.setup.replicate_bytes or request.max_bytes
        self._wire.ask(request, b"", lambda *got: self._piece(link, received, *got))

    def _piece(
        self,
        link: int,
        received: Callable[[m.CopyAnswer, Buffer], None],
        answer: m.Answer | None,
        body: bytes,
    ) -> None:
        if link != self._number:
            return
        if isinstance(answer, m.CopyAnswer):
            received(answer, body)
        elif answer is not None:
            assert isinstance(answer, m.ErrorAnswer)
            self.fail(link, answer.message)

    def lose(self) -> None:
        """The connection is reset."""
        if self._wire is not None:
            self._wire.fin_at_client("reset by the network")

    def fail(self, link: int, reason: str) -> None:
        if link == self._number and self._wire is not None:
            self._wire.forget()
            self._down(link, reason)

    def _down(self, link: int, reason: str) -> None:
        if link == self._number:
            self._wire = None
            self._tell(e.LinkDown(link, reason))


class Teller:
    """A process's story: told to the world's."""

    def __init__(self, world: World, process: Server) -> None:
        self._world = world
        self._process = process
        self.found = Findings()

    def tell(self, event: str, /, **fields: Any) -> None:
        self.found.hear(0, event, fields)  # when, nobody asks
        self._world.tell(self._process, event, fields)


class SimBroker(Server):
    """One broker's host: its disk outlives its processes."""

    broker: Broker
    session: Session

    def __init__(self, scheduler: Scheduler, world: World, id_: int) -> None:
        super().__init__(scheduler, f"b{id_}")
        self.world = world
        self.id = id_
        self.connections = {}
        self.boot = 0
        self.disk = self.new_disk()
        self.address = Address("127.0.0.1", 9091 + id_)
        #: Extra time that a sync takes at present, in seconds.
        self.slow_sync = 0.0
        #: The disk may have lost what was acknowledged, within what is promised (fsync=never).
        self.excused = False
        #: Since its disk last may have lost something, yak-zk has recorded that.
        self.recorded = True
        #: What was done to its disk, of which the next start must be aware.
        self.unnoticed = ""
        #: The bit that flipped on its disk last.
        self.rotten: Rotten | None = None
        self.full = False
        #: A sync failed, and before it could write that down its process was killed: what its
        #: disk lacks nobody can know.
        self.unknowable = False
        #: An older copy of its disk, and the life in which it was made.
        self.kept: SimDisk | None = None
        self.kept_in = 0
        #: Of what its leader sends next one bit will be another.
        self.garbles = False
        #: Whom it reaches at present, whichever broker it dials.
        self.astray: SimBroker | None = None
        #: It has stopped, and is not gone yet.
        self.leaving = False
        #: Turns that it has wanted at once, in a row, without news.
        self.restless = 0
        self.looked_at = 0.0
        #: The life in which `broker` was made; before it is, there is nothing to look at.
        self.ready_in = 0

    def new_disk(self) -> SimDisk:
        disk = SimDisk()
        disk.process = self
        return disk

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.up:
            return
        self.begin_life()
        self.leaving = False
        self.connections = {}
        self.scheduler.enter(self, self.life, self._start)

    def _start(self) -> None:
        world, setup = self.world, self.world.setup
        inc, fsync = f"{self.name}.{self.life}", self.world.setup.fsync
        rot = self.rot()
        if rot is not None and rot.must_be_proved(self.disk):
            self.unnoticed = rot.where
        try:
            data_dir, store, recovered = self._recover(inc)
        except Fatal as fatal:
            self._cannot_start(fatal)
            return
        config = BrokerConfig(
            id=self.id,
            fsync=fsync,
            default_partitions=setup.partitions,
            limits=setup.limits,
            oplog_retain_bytes=setup.oplog_retain_bytes,
        )
        story = cast("Any", Teller(world, self))
        with running(Loop(self, self._sync_s)):
            broker = self.broker = Broker(config, data_dir, store, recovered, story, inc)
        link = cast("Any", Link(self, inc, broker._tell, broker._copied))
        broker.link = broker.carrier.link = link
        broker.carrier.server = cast("Any", Port(self.connections, self.address))
        self.session = Session(self, broker)
        broker.carrier.session = cast("Any", self.session)
        world.tell(
            self,
            "started",
            {"next": recovered.next, "state": recovered.state, "reason": recovered.message},
        )
        self.disk.unmarked = self.disk.unmarked and recovered.state in ("whole", "torn")
        self.unknowable = self.disk.unmarked
        self.ready_in = self.life
        world.judge.started(self, recovered.state)
        broker._tell(e.Tick())
        self.session.start()
        if fsync.startswith("interval:"):
            self.after(setup.interval_s, self._sync_at_intervals)

    def _recover(self, inc: str) -> tuple[DataDir, WatchedStore, Recovered]:
        """What a start does with the disk, before there is a shell.  Raises Fatal."""
        boot, setup = f"boot-{self.boot}", self.world.setup
        data_dir = DataDir.open(
            self.disk,
            "data",
            kind="broker",
            broker=self.id,
            boot_id=boot,
            new_id=lambda: f"disk-{self.id}.{self.life}",
        )
        store, recovered = WatchedStore.recover(self.disk, data_dir, Settings().oplog_segment_bytes)
        data_dir.mark_running(inc=inc, boot_id=boot, fsync=setup.fsync)
        assert isinstance(store, WatchedStore)
        store.watcher, store.broker = self.world.judge, self.id
        if setup.tail_bytes:
            store._log._tail = Tail(store.next_index, setup.tail_bytes)
        return data_dir, store, recovered

    def _cannot_start(self, fatal: Fatal) -> None:
        """After a power cut without fsync a log may have a hole: then its disk is replaced."""
        self.world.tell(self, "cannot_start", {"reason": fatal.message})
        self.die()
        if not (self.full or self.disk.sync_fails):
            if not self.excused:
                self.world.judge.fail(f"{self.name} cannot start: {fatal.message}")
            self.disk = self.new_disk()
            self.unnoticed = ""  # not to start at all is to notice
        self.world.later(RESTART_S, self.start)

    def _sync_s(self) -> float:
        chance = self.scheduler.rng.random()
        return 0.0003 + 0.002 * chance + (0.05 if chance > 0.98 else 0.0) + self.slow_sync

    def _sync_at_intervals(self) -> None:
        if self.broker.stopped.is_set():
            return
        if self.broker._sync_began is None:
            self.broker._sync_in_thread()
        self.after(self.world.setup.interval_s, self._sync_at_intervals)

    @property
    def ready(self) -> bool:
        """Its process runs and has a shell."""
        return self.up and self.ready_in == self.life

    def check_durable(self) -> None:
        """It is about to say that it holds its log up to its end."""
        if self.world.setup.fsync == "always" and not (self.disk.sync_fails or self.unknowable):
            why = unsynced_log(self.disk)
            if why:
                self.world.judge.fail(f"{why} ({self.name})")

    def answers(self, answer: m.Answer) -> None:
        self.world.judge.answers(self, answer)

    def as_it_arrives(self, body: bytes) -> bytes:
        if not self.garbles or not body:
            return body
        self.garbles, rng, data = False, self.scheduler.rng, bytearray(body)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)

    def rot(self) -> Rotten | None:
        """The bit that flipped, while it is on the disk."""
        rot = self.rotten
        return rot if rot is not None and rot.is_there(self.disk) else None

    @property
    def may_begin_anew(self) -> bool:
        """It has found damage, and waits for the right moment."""
        return bool(self.broker.node._damage.reason)

    def look_after(self) -> None:
        """After every step: a shell that stopped ends its process."""
        broker = self.broker
        if not broker.stopped.is_set():
            self._check_rest()
            return
        if self.leaving:  # it turns no more, whatever still waits for a turn
            return
        self.leaving = True
        if broker.begins_anew:
            self._ends(AGAIN_S)
        elif broker.failure is not None:
            self.world.tell(self, "failed", {"reason": broker.failure.message})
            self.world.judge.broker_failed(self, broker.failure)
            self._ends(RESTART_S)
        else:
            broker.leaves()
            self.session.leave(self._stopped)

    def _ends(self, starts_in_s: float) -> None:
        """Now, or when it has lingered."""
        self.disk.unmarked = False  # it had its time to write that down
        lingers_s = self.world.setup.lingers_s
        if lingers_s:
            self.after(lingers_s, self._dies, starts_in_s)  # it may be stopped in between
        else:
            self._dies(starts_in_s)

    def _dies(self, starts_in_s: float) -> None:
        self.die()
        self.world.later(starts_in_s, self.start)

    def _check_rest(self) -> None:
        """A broker that has nothing to do rests until there is something."""
        inbox, now = self.broker._inbox, self.scheduler.now
        if not inbox or type(inbox[0]) is not e.Tick:
            self.restless = 0
        elif now > self.looked_at:  # else it works off what came due while it was stopped
            self.restless += 1
        self.looked_at = now
        if self.restless > RESTLESS_TURNS:
            self.world.judge.fail(f"rest: {self.name} turns {self.restless} times without an event")

    def _stopped(self) -> None:
        """The orderly end of `run`."""
        self.broker.link.close()
        try:
            self.broker.close_files()
        except Fatal as fatal:
            self.world.tell(self, "failed", {"reason": fatal.message})
            self.die()
            self.world.judge.broker_failed(self, fatal)
            return
        self.world.tell(self, "stopped", {"reason": "asked to"})
        self.die()

    def die(self) -> None:
        """The process ends; its host and page cache live on."""
        self.world.net.killed(self)
        self.end_life()
        self.connections.clear()
        self.disk.crash("kill", self.scheduler.rng)

    def died(self) -> None:
        self.world.tell(self, "died", {"reason": "a fuse burnt down"})
        ends, self.ends = self.ends, None
        (ends or self.die)()

    def lose_power(self) -> None:
        self.world.net.lost_power(self)
        self.end_life()
        self.connections.clear()
        self.powered = False
        self.boot += 1
        self.disk.crash("power", self.scheduler.rng)

    # -- its port ---------------------------------------------------------------------------------

    def received(self, end: ServerEnd, request: Any, body: bytes) -> None:
        self.broker.received(cast("ServerConnection", end), request, body)

    def closed(self, end: ServerEnd) -> None:
        self.broker.closed(cast("ServerConnection", end))
