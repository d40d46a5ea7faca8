"""Simulated clients: they find the leader, send again what was not acknowledged, and tell the
judge what they were told.

    Producer   idempotent: core.inflight keeps its batches; up to five on their way a partition
    Sender     without producer id: acks "all" or 1; sends nothing twice

Who reads is readers.py's, members of groups are members.py's, who makes and deletes topics is
operators.py's.  A client itself does not fail; its connections do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
#: Errors that leave open whether the request was carried out.
_IN_DOUBT: Final = ("REQUEST_TIMED_OUT", "INTERNAL")
#: What is meant is not there, or is another one by now.
GONE: Final = ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION")
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


@dataclass(eq=False)
class Lane:
    """One partition, as a producer sees it.  producer: whose sequences these are.

    topic_id: the topic that its batches are meant for.
    """

    tp: TopicPartition
    producer: int
    topic_id: str
    flight: InFlight[bytes] = field(default_factory=InFlight)


class Producer(Client):
    """Registers, then keeps batches in flight in every partition until all are acknowledged.

    A topic that is gone is made again, by registering for it.  What was on its way to the old
    one goes to the new one, under the same id, from sequence 0 on: the old one's copies name
    another topic.
    """

    def __init__(self, world: World, name: str, topics: Sequence[str], batches: int) -> None:
        super().__init__(world, name)
        self.left = batches
        #: The id that was given last; None before any.
        self.number: int | None = None
        self._asking = False
        self._serial = 0
        self._lanes: dict[TopicPartition, Lane] = {}
        self._ids: dict[str, str] = {}
        #: Topics to register for; with none, `_renew` says that another id is wanted.
        self._missing: dict[str, None] = dict.fromkeys(topics)
        self._renew = False
        self._next_new = 0.0
        self._timer: Timer | None = None
        self.after(self.rng.random() * 0.3, self.ready)

    @property
    def finished(self) -> bool:
        return not self.left and not any(len(lane.flight) for lane in self._lanes.values())

    # -- its identity -----------------------------------------------------------------------------

    def ready(self) -> None:
        if not self.connected() or self._asking:
            return
        if self._missing or self._renew:
            self._asking = True
            topics = list(self._missing)
            request = m.Register(id=0, role="producer", topics=topics, client=self.name)
            request.timeout_ms = self.world.setup.timeout_ms
            self.ask(request, b"", partial(self._registered, topics))
        if self.number is not None:
            self._pump()

    def _registered(self, topics: list[str], answer: m.Answer | None, _: bytes) -> None:
        self._asking = False
        if not isinstance(answer, m.ProducerAnswer):
            self.misdirected(answer)
            return
        self.number, self._renew = answer.producer, False
        for topic in topics:
            self._missing.pop(topic, None)
        for topic in answer.topics:
            known = answer.topic(topic)
            if self._ids.get(topic) not in (None, known.topic_id):
                self._drop(topic, known.partitions)
            self._ids[topic] = known.topic_id
            self._grow(topic, known.partitions)
        self._pump()

    def _drop(self, topic: str, partitions: int) -> None:
        """It was made again, with so many: what was meant for others is given up."""
        for tp in [tp for tp in self._lanes if tp[0] == topic and tp[1] >= partitions]:
            del self._lanes[tp]

    def _grow(self, topic: str, partitions: int) -> None:
        assert self.number is not None
        for p in range(partitions):
            if (topic, p) not in self._lanes:
                self._lanes[topic, p] = Lane((topic, p), self.number, self._ids[topic])

    def _mend(self, lane: Lane) -> None:
        """The topic is another one by now, or the log no longer follows this producer id."""
        assert self.number is not None
        if lane.flight.must_renew and not self.world.judge.history.forgotten:
            self.world.judge.fail(f"acknowledged: the log forgot batches of {self.name}")
        if lane.topic_id != self._ids[lane.tp[0]] and lane.flight.quiet:
            lane.topic_id = self._ids[lane.tp[0]]
            lane.flight.restart(self.scheduler.now)
        if not lane.flight.must_renew or not lane.flight.quiet:
            return
        if lane.producer == self.number:
            self._renew = True
            self.after(0.0, self.ready)
            return
        lane.producer = self.number
        lane.flight.renew()

    # -- its batches ------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what is due again, and what is new."""
        if not self.connected() or self.number is None:
            return
        now = self.scheduler.now
        for lane in self._lanes.values():
            self._mend(lane)
            for entry in lane.flight.due(now):
                self._send(lane, entry)
        while self.left and now >= self._next_new:
            lane = self.rng.choice(list(self._lanes.values()))
            if not lane.flight.has_room:
                break
            self.left -= 1
            self._next_new = now + self._pause()
            count = 1 + int(self.rng.random() * 3)
            body = b"".join(self._record(lane.tp) for _ in range(count))
            self._send(lane, lane.flight.add(body, count, _FAR))
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
        flights = [lane.flight for lane in self._lanes.values()]
        times = [at for flight in flights if (at := flight.next_at()) is not None]
        if self.left or any(flight.must_renew for flight in flights):
            times.append(max(self._next_new, now + PAUSE_S))
        self._timer = self.after(max(min(times, default=now) - now, 0.001), self._pump)

    def _record(self, tp: TopicPartition) -> bytes:
        self._serial += 1
        words = f"{self.name}/{tp[0]}/{tp[1]}/{self._serial}".encode()
        return b'{"value":"%s"}\n' % words.ljust(self.world.setup.record_bytes, b".")

    def _send(self, lane: Lane, entry: Entry[bytes]) -> None:
        if self.wire is None:
            lane.flight.failed(entry, self.scheduler.now, self.rng.random(), in_doubt=True)
            return
        request = m.Produce(
            id=0,
            topic=lane.tp[0],
            partition=lane.tp[1],
            count=entry.count,
            producer=lane.producer,
            sequence=entry.sequence,
            topic_id=lane.topic_id,
            timeout_ms=self.world.setup.timeout_ms,
        )
        self.ask(request, entry.item, lambda answer, _: self._sent(lane, entry, answer))

    def _sent(self, lane: Lane, entry: Entry[bytes], answer: m.Answer | None) -> None:
        now, flight = self.scheduler.now, lane.flight
        if isinstance(answer, m.ProduceAnswer):
            if flight.acknowledged(entry):
                self.world.judge.acks(self.name, lane.tp, answer.offset, entry.item)
            self._grow(lane.tp[0], answer.partitions)
            self._pump()
            return
        self._refused(lane, entry, answer)
        if isinstance(answer, m.ErrorAnswer) and answer.error in GONE:
            self._missing[lane.tp[0]] = None
            self.ready()
        elif isinstance(answer, m.ErrorAnswer) and self.wire is not None and flight.quiet:
            self.misdirected(answer)
        self._pump_later(now)

    def _refused(self, lane: Lane, entry: Entry[bytes], answer: m.Answer | None) -> None:
        now, chance, flight = self.scheduler.now, self.rng.random(), lane.flight
        name = answer.error if isinstance(answer, m.ErrorAnswer) else "CONNECTION"
        if name == "OUT_OF_ORDER_SEQUENCE":
            flight.out_of_order(entry, now, chance)
        elif name == "UNKNOWN_PRODUCER":
            flight.forgotten(entry, now, chance)
        elif isinstance(answer, m.ErrorAnswer) and not answer.retriable:
            self.world.judge.fail(f"acknowledged: {self.name} is refused: {answer.message}")
        else:
            in_doubt = name == "CONNECTION" or name in _IN_DOUBT
            flight.failed(entry, now, chance, in_doubt=in_doubt)


class Sender(Client):
    """Sends batches one by one, without a number, each once."""

    def __init__(self, world: World, name: str, topics: Sequence[str], batches: int) -> None:
        super().__init__(world, name)
        self._topics = topics
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
        topic = self.rng.choice(self._topics)
        body = b'{"value":"%s/%s/%d"}\n' % (self.name.encode(), topic.encode(), self.left)
        acks = self.rng.choice(_ACKS)
        request = m.Produce(id=0, topic=topic, partition=0, count=1)
        request.acks = acks
        request.timeout_ms = self.world.setup.timeout_ms
        self.ask(request, body, partial(self._sent, request, body))
        if acks == 0:
            self._later()

    def _sent(self, request: m.Produce, body: bytes, answer: m.Answer | None, _: bytes) -> None:
        if isinstance(answer, m.ProduceAnswer) and request.acks == "all":
            tp = (request.topic, request.partition)
            self.world.judge.acks(self.name, tp, answer.offset, body)
        if request.acks != 0:
            self._later()
        if not isinstance(answer, m.ProduceAnswer):
            self.misdirected(answer)

    def _later(self) -> None:
        self._asking = False
        self.after(self.world.setup.pace_s * self.rng.random(), self.ready)
