"""A simulated network: connections that delay, stall, break, and are half open.

Like TCP: what is sent on one connection arrives in its order or not at all; between connections
there is no order.  A cut link holds what is sent over it, as TCP sends it again, and delivers it
when the cut heals, unless the connection was given up meanwhile.

    host runs, process runs       accepts (the kernel does, also for a stopped process)
    host runs, process does not   refuses, and resets what speaks to a dead process's connection
    host is down                  silence

A *wire* is one connection.  Its client end sends requests and gets answers and pushes; its server
end is what the real shells know as a ServerConnection.  Messages are handed over as objects: how
they look as bytes is the protocol's own tests' business.

It does not know what the messages mean.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from tests.sim.clock import Process, Scheduler
from yak import messages as m
from yak.storage.disk import Buffer

#: One way: the least, and what chance adds to it, in seconds.
LEAST_DELAY_S: Final = 0.0001
USUAL_DELAY_S: Final = 0.0008
#: One message in so many is late, by up to so much.
LATE_ONE_IN: Final = 60
LATE_S: Final = 0.08

#: Called with the answer and its body; with None when the connection ended before.
OnAnswer: TypeAlias = Callable[[m.Answer | None, bytes], None]


class Server(Process):
    """A process with a port."""

    connections: dict[int, ServerEnd]

    def start(self) -> None:
        """Begin a life, if it has none."""
        raise NotImplementedError

    def received(self, end: ServerEnd, request: Any, body: bytes) -> None:
        raise NotImplementedError

    def die(self) -> None:
        """The process ends; its host lives on."""
        raise NotImplementedError

    def closed(self, end: ServerEnd) -> None:
        raise NotImplementedError

    def answers(self, answer: m.Answer) -> None:
        """An answer leaves."""


class Network:
    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self.scheduler = scheduler
        self.rng = rng
        #: One-way cuts, by the names of both hosts.
        self.cuts: set[tuple[str, str]] = set()
        #: Every message takes as long as any other.
        self.even = False
        #: A delay that is added for everybody at present, in seconds.
        self.lag = 0.0
        self._held: dict[Pipe, None] = {}
        self._numbers = 0
        #: Open wires by process, in the order in which they were opened.
        self.wires: dict[str, dict[Wire, None]] = {}

    def connect(
        self,
        client: Process,
        server: Server,
        *,
        on_open: Callable[[Wire], None],
        on_fail: Callable[[str], None],
        on_closed: Callable[[str], None] | None = None,
        on_push: Callable[[m.ClusterView], None] | None = None,
        timeout_s: float = 1.0,
    ) -> Wire:
        """Open a connection; one of on_open and on_fail is called, later."""
        wire = Wire(self, client, server)
        wire.on_open, wire.on_fail = on_open, on_fail
        wire.on_closed, wire.on_push = on_closed, on_push
        client.after(timeout_s, wire.timed_out)
        wire.up.send(wire.syn)
        return wire

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def cut(self, one: str, other: str) -> None:
        self.cuts.add((one, other))

    def heal(self, one: str, other: str) -> None:
        self.cuts.discard((one, other))
        self._flush()

    def heal_all(self) -> None:
        self.cuts.clear()
        self.lag = 0.0
        self._flush()

    def hold(self, pipe: Pipe) -> None:
        self._held[pipe] = None

    def put_off(self, pipe: Pipe, seconds: float) -> None:
        """What is held on this way comes so much later, cut or not."""
        held, pipe._held = pipe._held, deque()
        self._held.pop(pipe, None)
        for fn, args in held:
            self.scheduler.at(self.scheduler.now + seconds, None, fn, *args)

    def _flush(self) -> None:
        held, self._held = self._held, {}
        for pipe in held:
            pipe.flush()

    def delay(self) -> float:
        if self.even:
            return USUAL_DELAY_S + self.lag
        chance = self.rng.random()
        delay = LEAST_DELAY_S + USUAL_DELAY_S * chance + self.lag
        if chance * LATE_ONE_IN < 1:
            delay += LATE_S * self.rng.random()
        return delay

    def killed(self, process: Process) -> None:
        """The kernel closes what a dead process had open."""
        for wire in list(self.wires.get(process.name, ())):
            wire.abandoned(process, quietly=False)

    def lost_power(self, process: Process) -> None:
        for wire in list(self.wires.get(process.name, ())):
            wire.abandoned(process, quietly=True)

    def break_one(self, name: str, how: str) -> bool:
        """Break one of a process's connections.  how: both, or one side only knows of it."""
        wires = list(self.wires.get(name, ()))
        if not wires:
            return False
        wire = self.rng.choice(wires)
        if how != "server":
            self.scheduler.at(self.scheduler.now, None, wire.fin_at_client, "reset by the network")
        if how != "client":
            self.scheduler.at(self.scheduler.now, None, wire.fin_at_server)
        return True


class Pipe:
    """One direction of a connection: in order."""

    __slots__ = ("_held", "_last", "_net", "dst", "src")

    def __init__(self, net: Network, src: Process, dst: Process) -> None:
        self._net = net
        self.src = src
        self.dst = dst
        self._last = 0.0
        self._held: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def send(self, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn` at the other end, in the kernel's name."""
        net = self._net
        if self.src.paused:
            self.src.unsent.append((self, fn, args))
            return
        if self._held or (self.src.name, self.dst.name) in net.cuts:
            self._held.append((fn, args))
            net.hold(self)
            return
        when = net.scheduler.now + net.delay()
        if when <= self._last:
            when = self._last + 1e-7
        self._last = when
        net.scheduler.at(when, None, fn, *args)

    def flush(self) -> None:
        held, self._held = self._held, deque()
        for fn, args in held:
            self.send(fn, *args)


class ServerEnd:
    """A connection as a server sees it: a real ServerConnection's words."""

    def __init__(self, wire: Wire, server: Server, number: int) -> None:
        self._wire = wire
        self._server = server
        self.number = number
        self.dialled = "127.0.0.1"

    def answer(self, id_: m.RequestId, answer: m.Answer, buffers: Sequence[Buffer] = ()) -> None:
        self._server.answers(answer)
        self._server.step()
        if self._wire.server_open:
            body = b"".join(buffers)
            self._wire.down.send(self._wire.at_client, id_, answer, body)

    def when_room(self, make: Callable[[], None], size: int = 0) -> None:
        """A simulated client reads everything at once."""
        make()

    @property
    def closed(self) -> bool:
        return not self._wire.server_open

    def keep(self, size: int) -> None:
        """Its memory is nobody's concern here."""

    def done(self, id_: m.RequestId) -> None:
        """No answer is owed any more."""

    def push(self, message: m.ClusterView) -> None:
        self._server.step()
        if self._wire.server_open:
            self._wire.down.send(self._wire.pushed, message)

    def close(self, reason: str = "") -> None:
        self._wire.close_server(reason)


class Wire:
    """One connection, both ends."""

    def __init__(self, net: Network, client: Process, server: Server) -> None:
        self.net = net
        self.client = client
        self.server = server
        self.client_life = client.life
        self.server_life = 0
        self.up = Pipe(net, client, server)
        self.down = Pipe(net, server, client)
        self.client_open = False
        self.server_open = False
        self.end: ServerEnd | None = None
        self.on_open: Callable[[Wire], None] | None = None
        self.on_fail: Callable[[str], None] | None = None
        self.on_closed: Callable[[str], None] | None = None
        self.on_push: Callable[[m.ClusterView], None] | None = None
        self._next_id = 0
        self._waiting: dict[m.RequestId, OnAnswer] = {}

    # -- opening ----------------------------------------------------------------------------------

    def syn(self) -> None:
        server = self.server
        if not server.powered:
            return
        if not server.up:
            self.down.send(self.fails, "connection refused")
            return
        self.server_life = server.life
        self.server_open = True
        self.end = ServerEnd(self, server, self.net.number())
        server.connections[self.end.number] = self.end
        self.net.wires.setdefault(server.name, {})[self] = None
        self.down.send(self.opened)

    def opened(self) -> None:
        if self.on_fail is None or not self._client_lives():
            self.up.send(self.fin_at_server)
            return
        on_open, self.on_open, self.on_fail = self.on_open, None, None
        assert on_open is not None
        self.client_open = True
        self.net.wires.setdefault(self.client.name, {})[self] = None
        self._enter_client(on_open, self)

    def fails(self, reason: str) -> None:
        on_fail, self.on_open, self.on_fail = self.on_fail, None, None
        if on_fail is not None:
            self._enter_client(on_fail, reason)

    def timed_out(self) -> None:
        on_fail, self.on_open, self.on_fail = self.on_fail, None, None
        if on_fail is not None:
            on_fail("no answer in time")

    def forget(self) -> None:
        """The client does not want it any more, open or not."""
        self.on_open = self.on_fail = None
        self.close()

    # -- the client's end -------------------------------------------------------------------------

    def ask(self, request: m.Request, body: bytes, on_answer: OnAnswer) -> None:
        """Send a request; its id is set here."""
        self._next_id += 1
        request.id = self._next_id
        if not self.client_open:
            self.client.after(0.0, on_answer, None, b"")
            return
        self._waiting[request.id] = on_answer
        self.client.step()
        self.up.send(self.at_server, request, body)

    def close(self) -> None:
        """By the client: what waits is forgotten."""
        if self.client_open:
            self.client_open = False
            self._waiting.clear()
            self._drop(self.client)
            self.up.send(self.fin_at_server)

    def at_client(self, id_: m.RequestId, answer: m.Answer, body: bytes) -> None:
        if self.client_open and self._client_lives():
            on_answer = self._waiting.pop(id_, None)
            if on_answer is not None:
                self._enter_client(on_answer, answer, body)
        elif self.client.powered:
            self.up.send(self.fin_at_server)

    def pushed(self, view: m.ClusterView) -> None:
        if self.client_open and self.on_push is not None:
            self._enter_client(self._push, view)

    def _push(self, view: m.ClusterView) -> None:
        if self.client_open and self.on_push is not None:
            self.on_push(view)

    def fin_at_client(self, reason: str) -> None:
        if not self.client_open or not self.client.powered:
            return
        self.client_open = False
        self._drop(self.client)
        self._enter_client(self._lost, reason)

    def _lost(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for on_answer in waiting.values():
            on_answer(None, b"")
        if self.on_closed is not None:
            self.on_closed(reason)

    # -- the server's end -------------------------------------------------------------------------

    def at_server(self, request: Any, body: bytes) -> None:
        server = self.server
        if not server.powered:
            return
        if not self.server_open or not server.up or server.life != self.server_life:
            self.down.send(self.fin_at_client, "reset by the peer")
            return
        server.scheduler.enter(server, self.server_life, self._received, request, body)

    def _received(self, request: Any, body: bytes) -> None:
        if self.server_open:
            assert self.end is not None
            self.server.received(self.end, request, body)

    def fin_at_server(self) -> None:
        if not self.server_open or not self.server.powered:
            return
        self.server_open = False
        self._drop(self.server)
        self.server.scheduler.enter(self.server, self.server_life, self._closed)

    def _closed(self) -> None:
        assert self.end is not None
        self.server.connections.pop(self.end.number, None)
        self.server.closed(self.end)

    def close_server(self, reason: str) -> None:
        if self.server_open:
            self.server_open = False
            self._drop(self.server)
            self.down.send(self.fin_at_client, reason or "closed by the peer")
            self.server.after(0.0, self._closed)

    # -- both -------------------------------------------------------------------------------------

    def abandoned(self, process: Process, *, quietly: bool) -> None:
        """One end's process is gone; its kernel says so, unless that is gone as well.

        What is still under way may be lost with it (a reset), or arrive before the news.
        """
        self._drop(process)
        reset = self.net.rng.random() < 0.5
        if process is self.client and self.client_open:
            self.client_open = False
            self._waiting.clear()
            if not quietly:
                self._tell(self.up, self.fin_at_server, reset=reset)
        if process is self.server and self.server_open:
            self.server_open = False
            if not quietly:
                self._tell(self.down, self.fin_at_client, "reset by the peer", reset=reset)

    def _tell(self, pipe: Pipe, fn: Callable[..., object], *args: Any, reset: bool) -> None:
        if reset and (pipe.src.name, pipe.dst.name) not in self.net.cuts:
            scheduler = self.net.scheduler
            scheduler.at(scheduler.now + self.net.delay(), None, fn, *args)
        else:
            pipe.send(fn, *args)

    def _client_lives(self) -> bool:
        return self.client.up and self.client.life == self.client_life

    def _enter_client(self, fn: Callable[..., object], *args: Any) -> None:
        self.net.scheduler.enter(self.client, self.client_life, fn, *args)

    def _drop(self, process: Process) -> None:
        self.net.wires.get(process.name, {}).pop(self, None)
