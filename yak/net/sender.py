"""A producer's batches on their way: sequences, answers, sending again.

For each partition a *lane*: its queue of batches, and those in flight under one producer id.

    accumulator ──take──▶ lane ──produce──▶ leader
                            ▲                 │ offset: acknowledged
                            │                 │ NOT_LEADER, lost, timed out: all again, in order
                            └──── due ────────┘ refused for good: that batch fails alone

Rules:

* What became of each request is told to the lane's `InFlight`, which decides what is sent when;
  here its words are carried out.  Only acks "all" is idempotent: with acks 1 a batch that is sent
  again may be stored twice; with acks 0 nothing is ever sent again.
* A lane begins with the newest producer id (`net.registration`); one that must renew takes the
  newest, and if that is its own, another is registered.
* A batch that is not acknowledged within `delivery_timeout` fails.
* UNKNOWN_TOPIC: the topic was deleted; it is registered again (which makes it) and the batch
  sent again, until its time is over.  Numbered batches name the topic's id, so that none meant
  for the old topic, however late, is taken for one of the new.  Once no answer about the old one
  may come any more, a lane begins anew: all that is not acknowledged goes to the new topic.
* A topic may be made again with fewer partitions: what was meant for one that is no more fails.

It runs on one event loop and is called from there only; the accumulator is what threads share.

One file of more than 400 lines: a batch's way from its queue to its outcome is one story.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from msgspec import UNSET

from yak import errors
from yak import messages as m
from yak.core.batches import Accumulator, Batch, Queue, Topic
from yak.core.inflight import Entry, InFlight
from yak.errors import ProducerFencedError, YakError
from yak.model import BATCHES_REMEMBERED
from yak.net.cluster import WAITING_S, Cluster
from yak.net.connection import Connection, read_answer
from yak.net.registration import Registration
from yak.net.tasks import spawn
from yak.protocol import Frame

#: What one produce request may take at most; then it is sent again, in seconds.
_REQUEST_S: Final = 30.0
#: A batch up to this size is not what made a broker refuse a frame as too large.
_SURELY_FITS: Final = 1024 * 1024
#: With acks 0: bytes that the socket may hold back, and how soon to look whether it does, in s.
_UNSENT_BYTES: Final = 8 * 1024 * 1024
_CHOKED_S: Final = 0.005
#: Pause after a failed attempt to register or to ask for metadata, in seconds.
_RETRY_S: Final = 0.2

#: Nothing was logged: the batch's fate is known.
_DEFINITE: Final = frozenset(
    {"NOT_LEADER", "NOT_ENOUGH_REPLICAS", "OVERLOADED", "UNKNOWN_TOPIC", "UNKNOWN_PARTITION"}
)
#: Sending again may help, though the wire's table does not call these retriable.
_AGAIN: Final = frozenset({"PROTOCOL", "CONNECTION", "TIMEOUT"})


@dataclass
class Statistics:
    """Records, since the producer was made.

    sent: taken by `send`.  retransmitted: sent again, counted each time.  lost: not acknowledged.
    """

    sent: int = 0
    acknowledged: int = 0
    retransmitted: int = 0
    lost: int = 0


@dataclass(frozen=True)
class SendingRules:
    """What a producer's options say about sending; times in seconds."""

    acks: Literal["all", 0, 1]
    idempotent: bool
    linger_s: float
    delivery_timeout_s: float
    metadata_max_age_s: float
    client: str


@dataclass(eq=False)
class _Lane:
    """One partition.

    producer, topic_id: what its sequences belong to.
    Invariant: under these two no other numbers were ever given in this partition.
    """

    topic: Topic
    queue: Queue
    producer: int | None
    topic_id: str
    flight: InFlight[Batch] = field(default_factory=lambda: InFlight(BATCHES_REMEMBERED))
    timer: asyncio.TimerHandle | None = None


class Sender:
    """See the module's text.  `close` it."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        rules: SendingRules,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.statistics = Statistics()
        self.registration = Registration(
            cluster,
            accumulator,
            client=rules.client,
            numbers=rules.idempotent,
            metadata_max_age_s=rules.metadata_max_age_s,
            chance=chance,
            in_use=lambda: {lane.producer for lane in self._lanes.values()},
            on_another=self._remake_soon,
        )
        #: Why no more can be sent, ever.
        self.fatal: YakError | None = None
        self._cluster = cluster
        self._accumulator = accumulator
        self._rules = rules
        self._chance = chance
        self._lanes: dict[Queue, _Lane] = {}
        self._looking: asyncio.Task[None] | None = None
        self._renewing: dict[_Lane, asyncio.Task[None]] = {}
        self._remaking: dict[str, asyncio.Task[None]] = {}
        self._closed = False
        cluster.on_change = self.pump_all
        self._teller = spawn(self._tell(), name="producer says what it waits for")
        self._keeper = spawn(self.registration.run(), name="producer's heartbeat")

    # -- sending ----------------------------------------------------------------------------------

    def pump_dirty(self) -> None:
        """Something was added: see what can be sent."""
        for queue in self._accumulator.take_dirty():
            lane = self._lanes.get(queue)
            if lane is None:
                topic = self._accumulator.topics[queue.topic]
                newest = self.registration.newest
                lane = self._lanes[queue] = _Lane(topic, queue, newest, topic.topic_id)
            self._pump(lane)

    def pump_all(self) -> None:
        """The leader changed, or all that waits is to go out now."""
        self.pump_dirty()
        for lane in list(self._lanes.values()):
            self._pump(lane)

    def _pump(self, lane: _Lane) -> None:
        """Send what can be sent in this partition now, and come back when more can be."""
        if self._closed or self._lanes.get(lane.queue) is not lane:
            return
        now = time.monotonic()
        self._expire(lane, now)
        flight = lane.flight
        if lane.topic_id != lane.topic.topic_id and (flight.quiet or not self._rules.idempotent):
            self._begin_anew(lane, now)
        if lane.queue.partition >= lane.topic.partitions and flight.quiet:
            self._give_back(lane)
            return
        if lane.topic_id != lane.topic.topic_id:
            pass  # an answer about the old topic may still come
        elif flight.must_renew and self._rules.idempotent:
            self._renew_soon(lane)
        else:
            connection = self._cluster.open_connection(self._cluster.leader)
            if connection is not None:
                self._fill(lane, connection, now)
            elif len(flight) or self._accumulator.oldest(lane.queue) is not None:
                self._look_for_leader()
        self._set_timer(lane, now)

    def _fill(self, lane: _Lane, connection: Connection, now: float) -> None:
        flight = lane.flight
        flight.must_renew = False  # where numbers are not sent, they need no mending either
        for entry in flight.due(now):
            self.statistics.retransmitted += entry.count
            self._transmit(lane, entry, connection)
        while flight.has_room and not self._is_choked(connection):
            batch = self._accumulator.take(lane.queue, now, self._rules.linger_s)
            if batch is None:
                return
            if self._rules.acks == 0:
                self._post(batch, connection)
                continue
            deadline = batch.made_at + self._rules.delivery_timeout_s
            self._transmit(lane, flight.add(batch, batch.count, deadline), connection)

    def _is_choked(self, connection: Connection) -> bool:
        """With acks 0 nothing but the socket says that the broker cannot keep up."""
        return self._rules.acks == 0 and connection.unsent_bytes > _UNSENT_BYTES

    def _expire(self, lane: _Lane, now: float) -> None:
        late = [entry.item for entry in lane.flight.expired(now)]
        made_before = now - self._rules.delivery_timeout_s
        oldest = self._accumulator.oldest(lane.queue)
        if oldest is not None and oldest <= made_before:
            late += self._accumulator.take_expired(lane.queue, made_before)
        for batch in late:
            self._fail(
                batch,
                errors.TimeoutError(
                    f"{batch.count} records for {batch.topic}[{batch.partition}] were not "
                    f"acknowledged within {self._rules.delivery_timeout_s:g} s; last trouble: "
                    f"{self._cluster.trouble}",
                    name="TIMEOUT",
                    hint="they may or may not be in the log; `yak status` shows the cluster",
                ),
            )

    def _produce(self, batch: Batch) -> m.Produce:
        return m.Produce(
            id=0,
            topic=batch.topic,
            partition=batch.partition,
            count=batch.count,
            acks=self._rules.acks,
        )

    def _post(self, batch: Batch, connection: Connection) -> None:
        connection.post(self._produce(batch), [batch.body])
        self._accumulator.finish(batch)

    def _transmit(self, lane: _Lane, entry: Entry[Batch], connection: Connection) -> None:
        request = self._produce(entry.item)
        left = max(0.001, entry.deadline - time.monotonic())
        timeout_s = min(left, _REQUEST_S)
        request.timeout_ms = max(1, int(timeout_s * 1000))
        if self._rules.idempotent:
            assert lane.producer is not None, "registered with the topic"
            request.producer = lane.producer
            request.sequence = entry.sequence
            request.topic_id = lane.topic_id or UNSET
        future = self._cluster.send_to(connection, request, [entry.item.body], timeout_s)
        future.add_done_callback(partial(self._answered, lane, entry, connection))

    def _answered(
        self,
        lane: _Lane,
        entry: Entry[Batch],
        connection: Connection,
        future: asyncio.Future[Frame],
    ) -> None:
        if future.cancelled() or self._closed:
            return
        try:
            answer, _ = read_answer(future.result(), m.ProduceAnswer, connection.address)
        except YakError as e:
            self._refused(lane, entry, connection, e)
        else:
            if lane.flight.acknowledged(entry):
                self.statistics.acknowledged += entry.count
                self._accumulator.finish(entry.item, offset=answer.offset, timestamp=answer.time)
            if lane.topic_id == lane.topic.topic_id:
                lane.topic.grow(answer.partitions)
        self._pump(lane)

    def _refused(
        self, lane: _Lane, entry: Entry[Batch], connection: Connection, error: YakError
    ) -> None:
        flight, now, chance = lane.flight, time.monotonic(), self._chance()
        self._cluster.note(error, connection)
        name = error.name
        if name == "OUT_OF_ORDER_SEQUENCE":
            flight.out_of_order(entry, now, chance)
        elif name == "UNKNOWN_PRODUCER":
            flight.forgotten(entry, now, chance)
        elif isinstance(error, ProducerFencedError):
            self._give_up(error)
        elif error.retriable or name in _AGAIN or self._is_bystander(entry, error):
            flight.failed(entry, now, chance, in_doubt=name not in _DEFINITE)
            if name in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION"):
                self._remake_soon(lane.topic.name)
        else:
            entry.in_doubt = entry.in_doubt or name == "INTERNAL"
            if flight.rejected(entry):
                self._fail(entry.item, error)

    @staticmethod
    def _is_bystander(entry: Entry[Batch], error: YakError) -> bool:
        """The connection ended since another batch's frame was too large."""
        return error.name == "FRAME_TOO_LARGE" and entry.item.size <= _SURELY_FITS

    def _fail(self, batch: Batch, error: YakError) -> None:
        self.statistics.lost += batch.count
        self._accumulator.finish(batch, error=error)

    def _give_up(self, error: YakError) -> None:
        """Another producer has this identity: nothing of ours may be sent any more."""
        self.fatal = error
        self._accumulator.accepting = False
        self._closed = True
        for batch in list(self._accumulator.unfinished):
            self._fail(batch, error)

    # -- what has to be waited for ----------------------------------------------------------------

    async def _tell(self) -> None:
        """Say why nothing is acknowledged, while that is so."""
        while True:
            acknowledged, refusals = self.statistics.acknowledged, self._cluster.refusals
            await asyncio.sleep(WAITING_S)
            unfinished = list(self._accumulator.unfinished)  # in one step: other threads add to it
            if not unfinished or self.statistics.acknowledged != acknowledged:
                continue
            waited_s = time.monotonic() - unfinished[0].made_at - self._rules.linger_s
            if waited_s >= WAITING_S:
                self._cluster.tell(waited_s, refusals)

    def _look_for_leader(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = spawn(self._find_leader(), name="producer looks for the leader")

    async def _find_leader(self) -> None:
        await self._cluster.leader_connection()
        self._looking = None
        self.pump_all()

    def _renew_soon(self, lane: _Lane) -> None:
        if lane.flight.quiet and lane not in self._renewing:
            self._renewing[lane] = spawn(self._renew(lane), name="producer renews its id")

    async def _renew(self, lane: _Lane) -> None:
        """A new producer id for a partition whose old one the log does not follow any more."""
        try:
            while lane.producer == self.registration.newest:
                try:
                    await self.registration.renew(lane.producer, _REQUEST_S)
                except YakError:
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._renewing.pop(lane, None)
        if not (lane.flight.must_renew and lane.flight.quiet):
            return  # it has begun anew meanwhile
        lane.producer = self.registration.newest
        for entry in lane.flight.renew():
            self._fail(
                entry.item,
                YakError(
                    f"the cluster has forgotten this producer, and {entry.count} records for "
                    f"{entry.item.topic}[{entry.item.partition}] had no answer before: they may "
                    "be in the log, and are not sent twice",
                    name="UNKNOWN_PRODUCER",
                    hint="read the partition's end before sending them again",
                ),
            )
        self._pump(lane)

    def _remake_soon(self, name: str) -> None:
        if name not in self._remaking:
            self._remaking[name] = spawn(self._remake(name), name=f"topic {name} is made again")

    async def _remake(self, name: str) -> None:
        """Register with the topic again, which makes it where that is allowed."""
        try:
            await self.registration.make_again(name, _REQUEST_S)
        except YakError:
            await asyncio.sleep(_RETRY_S)  # the batch is sent again; then this is, too
        finally:
            self._remaking.pop(name, None)
        for lane in list(self._lanes.values()):
            if lane.topic.name == name:
                self._pump(lane)

    def _begin_anew(self, lane: _Lane, now: float) -> None:
        """The topic's name is another one's by now: what is not acknowledged goes there."""
        lane.topic_id = lane.topic.topic_id
        if self._rules.idempotent:
            lane.producer = self.registration.newest
            lane.flight.restart(now)

    def _give_back(self, lane: _Lane) -> None:
        """The topic has no such partition any more."""
        del self._lanes[lane.queue]
        if lane.timer is not None:
            lane.timer.cancel()
        forever = float("inf")
        batches = [entry.item for entry in lane.flight.expired(forever)]
        batches += self._accumulator.take_expired(lane.queue, forever)
        for batch in batches:
            why = (
                f"topic {batch.topic} was deleted and made again with {lane.topic.partitions} "
                f"partitions: {batch.count} records had been given to partition {batch.partition}"
            )
            hint = "send them again: they go by the new number of partitions"
            self._fail(batch, YakError(why, name="UNKNOWN_PARTITION", hint=hint))

    def _set_timer(self, lane: _Lane, now: float) -> None:
        """Come back when something is due, ready or late in this partition."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        times = [at for at in (lane.flight.next_at(), self._ready_at(lane)) if at is not None]
        if times:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(max(0.001, min(times) - now), self._pump, lane)

    def _ready_at(self, lane: _Lane) -> float | None:
        oldest = self._accumulator.oldest(lane.queue)
        if oldest is None:
            return None
        connection = self._cluster.open_connection(self._cluster.leader)
        is_current = lane.topic_id == lane.topic.topic_id
        if lane.flight.has_room and is_current and connection is not None:
            if self._is_choked(connection):
                return time.monotonic() + _CHOKED_S
            return oldest + self._rules.linger_s
        return oldest + self._rules.delivery_timeout_s

    # -- the end ----------------------------------------------------------------------------------

    async def close(self, timeout_s: float) -> None:
        """Say goodbye for every id, within `timeout_s`.  What has no outcome fails."""
        self._closed = True
        tasks = [self._keeper, self._teller, *self._renewing.values(), *self._remaking.values()]
        tasks += [self._looking] if self._looking is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        for batch in list(self._accumulator.unfinished):
            self._fail(batch, YakError("the producer was closed before", name="CLOSED"))
        self._cluster.hush()
        await self.registration.goodbye(timeout_s)
