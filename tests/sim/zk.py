"""A simulated yak-zk: the real coordinator core, its document on a real (simulated) disk.

It mirrors the shell of yak/zookeeper.py: one event at a time, its effects in their order, saved
durably before anybody is told; a closed session is probed at the broker's own port.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tests.sim.clock import Scheduler
from tests.sim.disk import SimDisk
from tests.sim.judge import STRANGER
from tests.sim.net import Server, ServerEnd, Wire
from yak import messages as m
from yak.core.coordinator import Coordinator, Effect, Probe, Publish, Save
from yak.core.document import Document
from yak.core.events import HangUp, Reply, Tell
from yak.model import Now
from yak.storage.data_dir import write_json_durably
from yak.zookeeper import PROBE_ATTEMPTS, PROBE_PAUSE_S, PROBE_S

if TYPE_CHECKING:
    from tests.sim.world import World

_DIRECTORY = "data"
_PATH = f"{_DIRECTORY}/state.json"


class SimZk(Server):
    core: Coordinator

    def __init__(self, scheduler: Scheduler, world: World) -> None:
        super().__init__(scheduler, "zk")
        self.world = world
        self.connections = {}
        self.disk = SimDisk()
        self.disk.process = self
        self.disk.mkdir(_DIRECTORY)
        self.disk.sync_dir("/")
        #: Its own disk, while it runs on an empty one.
        self._own: SimDisk | None = None

    @property
    def forgets(self) -> bool:
        """It runs on an empty disk, as another cluster's yak-zk would."""
        return self._own is not None

    def forget(self) -> None:
        self._own, self.disk = self.disk, SimDisk()
        self.disk.process = self
        self.disk.mkdir(_DIRECTORY)
        self.disk.sync_dir("/")

    def remember(self) -> None:
        assert self._own is not None
        self.disk, self._own = self._own, None

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.up:
            return
        self.begin_life()
        self.connections = {}
        self.scheduler.enter(self, self.life, self._start)

    def _start(self) -> None:
        setup = self.world.setup
        name = STRANGER if self.forgets else "simulated"
        document = Document(cluster=name, settings=setup.settings)
        if self.disk.exists(_PATH):
            document = msgspec.json.decode(self.disk.read_file(_PATH), type=Document)
        self.core = Coordinator(
            document,
            setup.settings,
            self._now(),
            bootstrap_wait_ms=setup.bootstrap_wait_ms,
            cooldown_ms=setup.cooldown_ms,
        )
        self.world.tell(self, "started", {"epoch": document.epoch, "leader": document.leader})
        self._do(self.core.start(self._now()))
        self._tick()

    def _tick(self) -> None:
        self._do(self.core.tick(self._now()))
        now = self.scheduler.monotonic()
        self.after(self.core.next_deadline(now) - now, self._tick)

    def die(self) -> None:
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
        self.disk.crash("power", self.scheduler.rng)

    def _now(self) -> Now:
        return Now(self.scheduler.monotonic(), self.scheduler.time_ns() // 1_000_000)

    # -- events and effects -----------------------------------------------------------------------

    def received(self, end: ServerEnd, request: Any, body: bytes) -> None:
        self._do(self.core.handle(end.number, request, self._now()))

    def closed(self, end: ServerEnd) -> None:
        self._do(self.core.closed(end.number, self._now()))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Save(document):
                write_json_durably(self.disk, _PATH, document)
                self.world.judge.saved(document)
            case Tell(event, fields):
                self.world.tell(self, event, fields)
            case Reply(conn, request_id, answer):
                if conn in self.connections:
                    self.connections[conn].answer(request_id, answer)
            case Publish(view, conns):
                for conn in conns:
                    if conn in self.connections:
                        self.connections[conn].push(view)
            case HangUp(conn, reason):
                if conn in self.connections:
                    self.connections[conn].close(reason)
            case Probe():
                self._probe(effect, PROBE_ATTEMPTS)

    # -- probes -----------------------------------------------------------------------------------

    def _probe(self, probe: Probe, attempts: int) -> None:
        """Ask the broker's own port whether that process still lives."""
        broker = self.world.brokers[probe.broker]

        def opened(wire: Wire) -> None:
            wire.ask(m.Status(id=0), b"", lambda answer, _: answered(wire, answer))
            self.after(PROBE_S, wire.forget)

        def failed(reason: str) -> None:
            if reason == "connection refused":
                self._probed(probe, "its port refuses connections")

        def answered(wire: Wire, answer: m.Answer | None) -> None:
            wire.forget()
            if answer is None and attempts > 1:
                self.after(PROBE_PAUSE_S, again)
            elif isinstance(answer, m.StatusAnswer) and answer.inc and answer.inc != probe.inc:
                self._probed(probe, "another process answers at its address")

        again: Callable[[], None] = lambda: self._probe(probe, attempts - 1)  # noqa: E731 -- named for the reader, used once
        self.world.net.connect(self, broker, on_open=opened, on_fail=failed, timeout_s=PROBE_S)

    def _probed(self, probe: Probe, verdict: str) -> None:
        self._do(self.core.probed(probe.broker, probe.inc, verdict, self._now()))
