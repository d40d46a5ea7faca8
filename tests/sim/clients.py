"""Simulated clients: they find the leader, send again what was not acknowledged, and tell the
judge what they were told.

    Producer   idempotent: core.inflight keeps its batches; up to five on their way a partition
    Sender     without producer id: acks "all" or 1; sends nothing twice
    Reader     fetches partitions from any replica, and never goes back
    Watcher    asks any broker for the latest offsets: who answers must know them

Members of groups are members.py's.  A client itself does not fail; its connections do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from tests.sim.clock import Process, Timer
from tests.sim.net import OnAnswer, Wire
from yak import messages as m
from yak.core.inflight import Entry, InFlight
from yak.model import TopicPartition

if TYPE_CHECKING:
    from tests.sim.world import World

#: A client gives up on an answer, and on its connection, after this long.
PATIENCE_S: Final = 1.5
#: Between two attempts to find a leader.
PAUSE_S: Final = 0.03
#: A fetch waits this long for a record.
WAIT_MS: Final = 300
#: Errors that leave open whether the request was carried out.
_IN_DOUBT: Final = ("REQUEST_TIMED_OUT", "INTERNAL")
_FAR: Final = 1e9
_ACKS: Final[tuple[Literal["all", 0, 1], ...]] = ("all", 1, 0)


class Client(Process):
    """Talks to one broker at a time, over one connection."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world.scheduler, name)
        self.world = world
        self.rng = world.rng
        self.target = self.rng.choice(sorted(world.brokers))
        self.wire: Wire | None = None
        self._opening = False
        self.begin_life()

    def died(self) -> None:
        raise AssertionError("clients have no fuse")

    def connected(self) -> bool:
        """Whether there is a connection; if not, one is on its way, and `ready` is called."""
        if self.wire is not None and self.wire.client_open:
            return True
        if not self._opening:
            self._opening = True
            self.world.net.connect(
                self,
                self.world.brokers[self.target],
                on_open=self._opened,
                on_fail=lambda reason: self._failed(),
                on_closed=lambda reason: self.lost(),
                timeout_s=0.5,
            )
        return False

    def _opened(self, wire: Wire) -> None:
        self._opening = False
        self.wire = wire
        self.ready()

    def _failed(self) -> None:
        self._opening = False
        self.go_elsewhere()

    def ask(self, request: m.Request, body: bytes, on_answer: OnAnswer) -> None:
        """Ask; on_answer gets None if no answer came, and then the connection is given up."""
        wire = self.wire
        assert wire is not None

        def answered(answer: m.Answer | None, data: bytes) -> None:
            late.cancel()
            on_answer(answer, data)

        def too_late() -> None:
            wire.up.send(wire.fin_at_server)
            wire.fin_at_client("too slow")

        late = self.after(PATIENCE_S, too_late)
        wire.ask(request, body, answered)

    def misdirected(self, answer: m.Answer | None) -> None:
        """Look for another broker after an answer that was no success."""
        hint = answer.leader if isinstance(answer, m.ErrorAnswer) else None
        if isinstance(hint, m.LeaderHint) and self.rng.random() < 0.8:
            self.move(hint.id)
        else:
            self.go_elsewhere()

    def go_elsewhere(self) -> None:
        self.move(self.rng.choice(sorted(self.world.brokers)))

    def move(self, broker: int) -> None:
        wire = self.wire
        if broker != self.target and wire is not None:
            wire.up.send(wire.fin_at_server)
            wire.fin_at_client("going elsewhere")
        self.target = broker
        self.after(PAUSE_S * (0.5 + self.rng.random()), self.ready)

    def ready(self) -> None:
        """Connected, or time to try again."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is gone; all that waited has been told."""
        self.wire = None
        self.after(PAUSE_S * self.rng.random(), self.ready)

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return True


class Producer(Client):
    """Registers, then keeps batches in flight in every partition until all are acknowledged."""

    def __init__(self, world: World, name: str, topic: str, batches: int) -> None:
        super().__init__(world, name)
        self.topic = topic
        self.left = batches
        self.number: int | None = None
        self._asking = False
        self._serial = 0
        self._flights: dict[int, InFlight[bytes]] = {}
        self._next_new = 0.0
        self._timer: Timer | None = None
        self.after(self.rng.random() * 0.3, self.ready)

    @property
    def finished(self) -> bool:
        return not self.left and not any(len(f) for f in self._flights.values())

    def ready(self) -> None:
        if not self.connected() or self._asking:
            return
        if self.number is None:
            self._asking = True
            request = m.Register(id=0, role="producer", topics=[self.topic], client=self.name)
            self.ask(request, b"", self._registered)
        else:
            self._pump()

    def _registered(self, answer: m.Answer | None, _: bytes) -> None:
        self._asking = False
        if isinstance(answer, m.ProducerAnswer):
            self.number = answer.producer
            count = answer.topics[self.topic].partitions
            self._flights = {p: InFlight() for p in range(count)}
            self._pump()
        else:
            self.misdirected(answer)

    def _pump(self) -> None:
        """Send what is due again, and what is new."""
        if not self.connected() or self.number is None:
            return
        now = self.scheduler.now
        for number, flight in self._flights.items():
            if flight.must_renew:
                self.world.judge.fail(f"acknowledged: the log forgot batches of {self.name}")
            for entry in flight.due(now):
                self._send(number, flight, entry)
        while self.left and now >= self._next_new:
            number = self.rng.randrange(len(self._flights))
            flight = self._flights[number]
            if not flight.has_room:
                break
            self.left -= 1
            self._next_new = now + self._pause()
            count = 1 + int(self.rng.random() * 3)
            body = b"".join(self._record(number) for _ in range(count))
            self._send(number, flight, flight.add(body, count, _FAR))
        self._pump_later(now)

    def _pause(self) -> float:
        """Between two new batches: often so short that the first is still on its way."""
        if self.rng.random() < 0.5:
            return 0.004 * self.rng.random()
        return self.world.setup.pace_s * self.rng.random()

    def _pump_later(self, now: float) -> None:
        """Come back when something is due; what comes sooner asks again."""
        if self._timer is not None:
            self._timer.cancel()
        if self.finished:
            return
        times = [at for f in self._flights.values() if (at := f.next_at()) is not None]
        if self.left:
            times.append(max(self._next_new, now + PAUSE_S))
        self._timer = self.after(max(min(times) - now, 0.001), self._pump)

    def _record(self, partition: int) -> bytes:
        self._serial += 1
        return b'{"value":"%s/%d/%d"}\n' % (self.name.encode(), partition, self._serial)

    def _send(self, number: int, flight: InFlight[bytes], entry: Entry[bytes]) -> None:
        assert self.number is not None
        if self.wire is None:
            flight.failed(entry, self.scheduler.now, self.rng.random(), in_doubt=True)
            return
        request = m.Produce(
            id=0,
            topic=self.topic,
            partition=number,
            count=entry.count,
            producer=self.number,
            sequence=entry.sequence,
            timeout_ms=self.world.setup.timeout_ms,
        )
        self.ask(request, entry.item, lambda answer, _: self._sent(number, flight, entry, answer))

    def _sent(
        self, number: int, flight: InFlight[bytes], entry: Entry[bytes], answer: m.Answer | None
    ) -> None:
        now, chance = self.scheduler.now, self.rng.random()
        if isinstance(answer, m.ProduceAnswer):
            if flight.acknowledged(entry):
                tp = (self.topic, number)
                self.world.judge.acks(self.name, tp, answer.offset, entry.item)
            self._pump()
            return
        name = answer.error if isinstance(answer, m.ErrorAnswer) else "CONNECTION"
        if name == "OUT_OF_ORDER_SEQUENCE":
            flight.out_of_order(entry, now, chance)
        elif isinstance(answer, m.ErrorAnswer) and not answer.retriable:
            self.world.judge.fail(f"acknowledged: {self.name} is refused: {answer.message}")
        else:
            in_doubt = name == "CONNECTION" or name in _IN_DOUBT
            flight.failed(entry, now, chance, in_doubt=in_doubt)
            if isinstance(answer, m.ErrorAnswer) and self.wire is not None and flight.quiet:
                self.misdirected(answer)
        self._pump_later(now)


class Sender(Client):
    """Sends batches one by one, without a number, each once."""

    def __init__(self, world: World, name: str, topic: str, batches: int) -> None:
        super().__init__(world, name)
        self.topic = topic
        self.left = batches
        self._asking = False
        self.after(0.4 + self.rng.random(), self.ready)

    @property
    def finished(self) -> bool:
        return not self.left

    def ready(self) -> None:
        if self.rng.random() < 0.2 and self.left and not self._asking:
            self.go_elsewhere()  # it may know better than the others who leads
            return
        if not self.left or self._asking or not self.connected():
            return
        self.left -= 1
        self._asking = True
        body = b'{"value":"%s/%d"}\n' % (self.name.encode(), self.left)
        acks = self.rng.choice(_ACKS)
        request = m.Produce(id=0, topic=self.topic, partition=0, count=1)
        request.acks = acks
        request.timeout_ms = self.world.setup.timeout_ms
        self.ask(request, body, partial(self._sent, request, body))
        if acks == 0:
            self._later()

    def _sent(self, request: m.Produce, body: bytes, answer: m.Answer | None, _: bytes) -> None:
        if isinstance(answer, m.ProduceAnswer) and request.acks == "all":
            tp = (self.topic, request.partition)
            self.world.judge.acks(self.name, tp, answer.offset, body)
        if request.acks != 0:
            self._later()
        if not isinstance(answer, m.ProduceAnswer):
            self.misdirected(answer)

    def _later(self) -> None:
        self._asking = False
        self.after(self.world.setup.pace_s * self.rng.random(), self.ready)


class Reader(Client):
    """Reads all partitions of a topic, from whichever replica, onwards only."""

    def __init__(self, world: World, name: str, topic: str, partitions: int) -> None:
        super().__init__(world, name)
        self.positions: dict[TopicPartition, int] = {(topic, p): 0 for p in range(partitions)}
        self._asking = False
        self.after(0.3 + self.rng.random(), self.ready)

    @property
    def finished(self) -> bool:
        history = self.world.judge.history
        return all(at >= history.end(tp) for tp, at in self.positions.items())

    def ready(self) -> None:
        if self._asking or not self.connected():
            return
        self._asking = True
        wanted = [(topic, p, at) for (topic, p), at in self.positions.items()]
        size = self.rng.choice((100, 1000, 1 << 20))
        self.ask(
            m.Fetch(id=0, partitions=wanted, max_bytes=size, wait_ms=WAIT_MS), b"", self._fetched
        )

    def _fetched(self, answer: m.Answer | None, body: bytes) -> None:
        self._asking = False
        if not isinstance(answer, m.FetchAnswer):
            self.misdirected(answer)
            return
        at = 0
        for entry in answer.partitions:
            data, at = body[at : at + entry.size], at + entry.size
            self._take(entry, data)
        if any(isinstance(e.error, str) for e in answer.partitions) or self.rng.random() < 0.05:
            self.go_elsewhere()
        else:
            self.after(0.1 * self.rng.random(), self.ready)

    def _take(self, entry: m.FetchEntry, data: bytes) -> None:
        if entry.error == "OFFSET_OUT_OF_RANGE":
            self.world.judge.fail(f"shown: {self.name}: {entry.message}")
        tp = (entry.topic, entry.partition)
        self.positions[tp] = self.world.judge.shows(self.name, tp, self.positions[tp], data)


class Watcher(Client):
    """Asks for the latest offsets; it believes whoever answers."""

    def __init__(self, world: World, name: str, topic: str, partitions: int) -> None:
        super().__init__(world, name)
        self._where: list[m.Where] = [(topic, p) for p in range(partitions)]
        self.after(0.5, self._look)

    def _look(self) -> None:
        if self.world.finishing:
            return
        self.after(0.05 + 0.4 * self.rng.random() ** 2, self._look)
        if self.connected():
            history = self.world.judge.history
            least = [history.end(tp) for tp in self._where]
            request = m.ListOffsets(id=0, partitions=self._where, at="latest")
            self.ask(request, b"", partial(self._told, least))

    def _told(self, least: list[int], answer: m.Answer | None, _: bytes) -> None:
        if isinstance(answer, m.OffsetsAnswer):
            judge = self.world.judge
            for (topic, p, told), low in zip(answer.offsets, least, strict=True):
                most = judge.history.end((topic, p))
                judge.leased(self.name, f"the end of {topic}[{p}]", told or 0, low, most)
        if not isinstance(answer, m.OffsetsAnswer) or self.rng.random() < 0.1:
            self.go_elsewhere()

    def move(self, broker: int) -> None:
        if broker != self.target and self.wire is not None:
            self.wire.forget()
            self.wire = None
        self.target = broker

    def ready(self) -> None:
        """It looks at times of its own."""

    def lost(self) -> None:
        self.wire = None
