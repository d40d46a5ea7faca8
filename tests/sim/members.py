"""Members of consumer groups: they register, heartbeat, read, acknowledge, and come and go.

A member keeps to what the protocol asks of it: it holds a partition from the answer that assigns
it until it has let it go, and reports it until then; and it holds nothing once its own session
may have ended, which it counts from the sending of the last heartbeat that was answered.

    register ─▶ assignment ─▶ fetch, acknowledge ─▶ heartbeat every quarter of a session
        ▲                                               │ UNKNOWN_MEMBER, or silence
        └───────────────────────────────────────────────┘

What is taken away it may still work on for a while, as one that handles what it has read before
it lets go.  It names the topic by its id, and begins anew in one that was made again.

Of its own will (`lively`) it leaves, dies and comes back under its old member id or a new one,
hangs, and subscribes other topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from tests.sim.clients import GONE, Client
from tests.sim.judge import Moment
from tests.sim.readers import Asking
from yak import messages as m
from yak.model import TopicPartition

if TYPE_CHECKING:
    from tests.sim.world import World

#: How long a member may go on working on what it was told to let go, in seconds.
DRAIN_S: Final = 0.4
#: How long one that left, or died, is gone, in seconds.
AWAY_S: Final = 2.0
#: In so many of a lively member's heartbeats it does something of its own will.
DEED_ONE_IN: Final = 8


class Member(Client):
    """One member; its reads go to any replica, over a connection of their own (Hands)."""

    def __init__(self, world: World, name: str, group: str, topics: Sequence[str]) -> None:
        super().__init__(world, name)
        self.group = group
        self.pool = tuple(topics)
        self.topics = self._some_topics()
        self.lively = world.setup.lively
        self.session_s = 1.0 + self.rng.random()
        self.member: str | None = None
        #: The id it had before it died, to come back with.
        self.former: str | None = None
        self.generation = 0
        #: What it holds: where it has read to, and the last acknowledged offset.
        self.positions: dict[TopicPartition, int] = {}
        self.acked: dict[TopicPartition, int] = {}
        #: Of these it was told to let go, and has not yet.
        self.draining: dict[TopicPartition, None] = {}
        self.ids: dict[str, str] = {}
        self.until = 0.0
        #: Counts its lives: what was asked in an earlier one is nobody's any more.
        self.era = 0
        self._asking = False
        self._acking = False
        self._resubscribes = False
        #: Why it does not act at present.
        self.away = ""
        self._told = ""
        self.hands = Hands(world, f"{name}-reads", self)
        self.after(0.5 + self.rng.random(), self.ready)

    def _some_topics(self) -> list[str]:
        count = self.rng.randint(1, len(self.pool))
        return sorted(self.rng.sample(self.pool, count))

    @property
    def finished(self) -> bool:
        return not self.away and self.member is not None and not self._resubscribes

    # -- talking to the leader --------------------------------------------------------------------

    def ready(self) -> None:
        if self._asking or self.away or not self.connected():
            return
        self._asking = True
        self._drop_if_late()
        sent = self.scheduler.now
        if self.member is None or self._resubscribes:
            self.ask(self._register(), b"", partial(self._registered, self._moments(), sent))
            return
        self.ask(
            m.Heartbeat(
                id=0,
                group=self.group,
                member=self.member,
                generation=self.generation,
                owned=sorted(self.positions),
                delivered=[(*tp, at) for tp, at in sorted(self.positions.items())],
            ),
            b"",
            partial(self._beaten, self._moments(), sent),
        )

    def _register(self) -> m.Register:
        return m.Register(
            id=0,
            role="consumer",
            topics=self.topics,
            client=self.name,
            group=self.group,
            session_ms=int(self.session_s * 1000),
            member=self.member or self.former or UNSET,
            timeout_ms=self.world.setup.timeout_ms,
        )

    def _moments(self) -> dict[TopicPartition, Moment]:
        """What is true now of whatever may be assigned."""
        judge = self.world.judge
        return {
            (name, p): judge.moment((name, p), self.group)
            for name, topic in judge.history.topics.items()
            for p in range(len(topic.shelves))
        }

    def _registered(
        self,
        then: dict[TopicPartition, Moment],
        sent: float,
        answer: m.Answer | None,
        _: bytes,
    ) -> None:
        self._asking = False
        if isinstance(answer, m.ErrorAnswer) and answer.error == "UNKNOWN_MEMBER":
            self._forget()
            self.after(0.01, self.ready)
        elif not isinstance(answer, m.MemberAnswer):
            self.misdirected(answer)
        else:
            self.member, self.former = answer.member, None
            self._resubscribes = False
            self._assigned(answer, then)
            self._heard(sent)

    def _beaten(
        self,
        then: dict[TopicPartition, Moment],
        sent: float,
        answer: m.Answer | None,
        _: bytes,
    ) -> None:
        self._asking = False
        if isinstance(answer, m.ErrorAnswer) and answer.error == "UNKNOWN_MEMBER":
            self._forget()
            self.after(0.01, self.ready)
        elif not isinstance(answer, m.HeartbeatAnswer):
            self.misdirected(answer)
        else:
            if isinstance(answer.assignment, list):
                self._assigned(answer, then)
            self._heard(sent)

    def _assigned(
        self, answer: m.MemberAnswer | m.HeartbeatAnswer, then: dict[TopicPartition, Moment]
    ) -> None:
        """An assignment: what leaves is let go, at once or soon; what comes is begun."""
        assert isinstance(answer.assignment, list)
        assert isinstance(answer.offsets, list)
        assert isinstance(answer.generation, int)
        assert isinstance(answer.topics, dict)
        self.generation = answer.generation
        stands = {(t, p): at for t, p, at in answer.offsets}
        for tp, at in stands.items():
            if tp in then:
                self.world.judge.told_offset(self.name, self.group, tp, then[tp], at or 0)
        ids = {name: size.topic_id for name, size in answer.topics.items()}
        mine = {(t, p) for t, p in answer.assignment if t in ids}
        for tp in list(self.positions):
            if self.ids[tp[0]] != ids.get(tp[0], self.ids[tp[0]]):
                self._let_go(tp)  # it is another topic by now
            elif tp in mine:
                self.draining.pop(tp, None)
            elif tp not in self.draining:
                self._drain(tp)
        self.ids.update(ids)
        for tp in sorted(mine - set(self.positions)):
            self.positions[tp] = self.acked[tp] = stands.get(tp) or 0

    def _drain(self, tp: TopicPartition) -> None:
        if self.rng.random() < 0.5:
            self._let_go(tp)
            return
        self.draining[tp] = None
        self.after(DRAIN_S * self.rng.random(), self._drained, self.era, tp)

    def _drained(self, era: int, tp: TopicPartition) -> None:
        if era == self.era and tp in self.draining:
            self._let_go(tp)
            self._holds()
            self.ready()

    def _let_go(self, tp: TopicPartition) -> None:
        del self.positions[tp]
        self.draining.pop(tp, None)

    def _heard(self, sent: float) -> None:
        self.until = sent + self.session_s
        self._holds()
        self.hands.ready()
        if self.lively and not self.world.finishing and self.rng.randrange(DEED_ONE_IN) == 0:
            self._do_something()
        self.after(self.session_s / 4, self.ready)

    def _holds(self) -> None:
        self.world.judge.holds(self.name, self.group, self.positions, self.until)
        what = " ".join(f"{topic}[{p}]" for topic, p in sorted(self.positions)) or "nothing"
        told = f"holds {what}"
        if told != self._told:
            self._told = told
            self.world.note(f"{self.name} of {self.group} {told}, generation {self.generation}")

    def _drop_if_late(self) -> bool:
        if self.scheduler.now < self.until:
            return False
        # With an older generation it is told the whole assignment again.
        self.generation = 0
        self._drop_all()
        return True

    def _drop_all(self) -> None:
        self.era += 1
        self._acking = False
        self.positions.clear()
        self.draining.clear()

    def _forget(self) -> None:
        self.member = self.former = None
        self.generation = 0
        self._drop_all()

    # -- what it does of its own will -------------------------------------------------------------

    def _do_something(self) -> None:
        deed = self.rng.choice((self.leave, self.die, self.resubscribe, self.resubscribe))
        deed()

    def leave(self) -> None:
        """Say goodbye; back after a while, as another."""
        assert self.member is not None
        self._note("leaves")
        if self.wire is not None and self.wire.client_open:
            goodbye = m.Deregister(id=0, group=self.group, member=self.member)
            self.ask(goodbye, b"", lambda *_: None)
        self._forget()
        self._go_away()

    def die(self) -> None:
        """Its process ends; the next one may know the id."""
        self._note("dies")
        member, chance = self.member, self.rng.random()
        self._forget()
        self.former = member if chance < 0.6 else None
        for client in (self, self.hands):
            if client.wire is not None:
                client.wire.forget()
                client.wire = None
        self._asking = self.hands.asking = False
        self._go_away()

    def _go_away(self) -> None:
        self._resubscribes = False
        self.world.judge.lets_go(self.name, self.group)
        self._told = ""
        self.away = "gone"
        if self.rng.random() < 0.5:
            self.topics = self._some_topics()
        self.after(AWAY_S * self.rng.random(), self.go_on)

    def resubscribe(self) -> None:
        self.topics = self._some_topics()
        self._note(f"wants {' '.join(self.topics)}")
        self._resubscribes = True

    def fall_silent(self, seconds: float) -> None:
        """As a hung consumer: no heartbeat until it goes on."""
        if not self.away:
            self.away = "silent"
            self.after(seconds, self.go_on)

    def go_on(self) -> None:
        self.away = ""
        self.ready()

    def _note(self, what: str) -> None:
        self.world.note(f"{self.name} of {self.group} {what}")

    # -- reading and acknowledging ----------------------------------------------------------------

    def read(self, era: int, tp: TopicPartition, topic_id: str, offset: int) -> bool:
        """The hands have read up to here: whether that is still this member's work."""
        here = era == self.era and tp in self.positions and self.ids[tp[0]] == topic_id
        if not here or self.away:
            return False
        self.positions[tp] = offset
        return True

    def acknowledge(self) -> None:
        if self._acking or self.away or self.member is None or self._drop_if_late():
            return
        behind = [(*tp, at) for tp, at in self.positions.items() if at > self.acked.get(tp, 0)]
        if not behind or self.wire is None or not self.wire.client_open:
            return
        self._acking = True
        then = [self.world.judge.moment((t, p), self.group) for t, p, _ in behind]
        request = m.Ack(
            id=0,
            group=self.group,
            offsets=behind,
            member=self.member,
            generation=self.generation,
            timeout_ms=self.world.setup.timeout_ms,
            topic_ids={topic: self.ids[topic] for topic, _, _ in behind},
        )
        self.ask(request, b"", partial(self._acked, self.era, behind, then))

    def _acked(
        self,
        era: int,
        offsets: list[m.At],
        then: list[Moment],
        answer: m.Answer | None,
        _: bytes,
    ) -> None:
        if era != self.era:
            return
        self._acking = False
        if isinstance(answer, m.ErrorAnswer) and answer.error == "OFFSET_OUT_OF_RANGE":
            self.world.judge.fail(f"acknowledged: {self.name} may not: {answer.message}")
        if isinstance(answer, m.ErrorAnswer) and answer.error in GONE:
            self.after(0.01, self.ready)  # it will be told what is there now
        if not isinstance(answer, m.Done):
            return
        for (topic, p, at), moment in zip(offsets, then, strict=True):
            if (topic, p) in self.positions:
                self.acked[topic, p] = at
            self.world.judge.acked(self.group, (topic, p), moment, at)


class Hands(Client):
    """A member's reads, from any replica."""

    def __init__(self, world: World, name: str, member: Member) -> None:
        self._member = member
        self.asking = False
        self._fetches = Asking(world.rng)
        super().__init__(world, name)

    def ready(self) -> None:
        member = self._member
        if self.asking or member.away or not member.positions or not self.connected():
            return
        self.asking = True
        positions = dict(sorted(member.positions.items()))
        ids = {topic: member.ids[topic] for topic, _ in positions}
        request = self._fetches.fetch(self.wire, positions, ids)
        self.ask(request, b"", partial(self._fetched, member.era, positions, ids))

    def _fetched(
        self,
        era: int,
        positions: dict[TopicPartition, int],
        ids: dict[str, str],
        answer: m.Answer | None,
        body: bytes,
    ) -> None:
        self.asking = False
        if not isinstance(answer, m.FetchAnswer):
            self._fetches.forget()
            self.misdirected(answer)
            return
        at = 0
        for entry in answer.partitions:
            data, at = body[at : at + entry.size], at + entry.size
            self._take(era, entry, data, ids[entry.topic], positions)
        self._member.acknowledge()
        if any(isinstance(e.error, str) for e in answer.partitions) or self.rng.random() < 0.05:
            self.go_elsewhere()
        else:
            self.after(0.1 * self.rng.random(), self.ready)

    def _take(
        self,
        era: int,
        entry: m.FetchEntry,
        data: bytes,
        id_: str,
        positions: dict[TopicPartition, int],
    ) -> None:
        judge, member = self.world.judge, self._member
        tp = (entry.topic, entry.partition)
        first = positions[tp]
        if entry.error == "OFFSET_OUT_OF_RANGE":
            judge.begins_at(self.name, (id_, tp[1]), first, entry.start)
            after = entry.start
        elif data:
            judge.begins_before(self.name, (id_, tp[1]), first, entry.start)
            after = judge.shows(self.name, tp, id_, first, data)[1]
        else:
            return
        if member.read(era, tp, id_, after):
            judge.shows_member(member.name, member.group, (id_, tp[1]), first, after)
