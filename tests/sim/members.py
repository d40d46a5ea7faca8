"""Members of consumer groups: they register, heartbeat, read, acknowledge, and may fall silent.

A member keeps to what the protocol asks of it: it holds a partition from the answer that assigns
it until an answer takes it away, and it holds nothing once its own session may have ended, which
it counts from the sending of the last heartbeat that was answered.

    register ─▶ assignment ─▶ fetch, acknowledge ─▶ heartbeat every quarter of a session
        ▲                                               │ UNKNOWN_MEMBER, or silence
        └───────────────────────────────────────────────┘
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from tests.sim.clients import WAIT_MS, Client
from yak import messages as m
from yak.model import TopicPartition

if TYPE_CHECKING:
    from tests.sim.world import World


class Member(Client):
    """One member; its reads go to any replica, over a connection of their own (Hands)."""

    def __init__(self, world: World, name: str, group: str, topic: str) -> None:
        super().__init__(world, name)
        self.group = group
        self.topic = topic
        self.session_s = 1.0 + self.rng.random()
        self.member: str | None = None
        self.generation = 0
        #: What it holds: where it has read to, and the last acknowledged offset.
        self.positions: dict[TopicPartition, int] = {}
        self.acked: dict[TopicPartition, int] = {}
        self.until = 0.0
        self._asking = False
        self._acking = False
        self.silent = False
        self.hands = Hands(world, f"{name}-reads", self)
        self.after(0.5 + self.rng.random(), self.ready)

    def ready(self) -> None:
        if self._asking or self.silent or not self.connected():
            return
        self._asking = True
        sent, bounds = self.scheduler.now, dict(self.world.judge.acked)
        if self.member is None:
            session_ms = int(self.session_s * 1000)
            self.ask(
                m.Register(
                    id=0,
                    role="consumer",
                    topics=[self.topic],
                    client=self.name,
                    group=self.group,
                    session_ms=session_ms,
                ),
                b"",
                partial(self._registered, sent, bounds),
            )
            return
        self._drop_if_late()
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
            partial(self._beaten, sent, bounds),
        )

    def _registered(
        self,
        sent: float,
        bounds: dict[tuple[str, TopicPartition], int],
        answer: m.Answer | None,
        _: bytes,
    ) -> None:
        self._asking = False
        if not isinstance(answer, m.MemberAnswer):
            self.misdirected(answer)
            return
        self.member = answer.member
        self.positions.clear()
        self._assigned(answer.generation, answer.assignment, answer.offsets, bounds)
        self._heard(sent)

    def _beaten(
        self,
        sent: float,
        bounds: dict[tuple[str, TopicPartition], int],
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
            if isinstance(answer.assignment, list) and isinstance(answer.offsets, list):
                assert isinstance(answer.generation, int)
                self._assigned(answer.generation, answer.assignment, answer.offsets, bounds)
            self._heard(sent)

    def _assigned(
        self,
        generation: int,
        assignment: list[m.Where],
        offsets: list[tuple[str, int, int | None]],
        bounds: dict[tuple[str, TopicPartition], int],
    ) -> None:
        self.generation = generation
        stands = {(t, p): at for t, p, at in offsets}
        for tp, at in stands.items():
            least = bounds.get((self.group, tp), 0)
            most = self.world.judge.history.end(tp)
            what = f"{self.group}'s offset in {tp}"
            self.world.judge.leased(self.name, what, at or 0, least, most)
        mine = {(topic, p) for topic, p in assignment}
        self.positions = {tp: at for tp, at in self.positions.items() if tp in mine}
        for tp in sorted(mine - set(self.positions)):
            self.positions[tp] = self.acked[tp] = stands.get(tp) or 0

    def _heard(self, sent: float) -> None:
        self.until = sent + self.session_s
        self.world.judge.holds(self.name, self.group, self.positions, self.until)
        self.hands.ready()
        self.after(self.session_s / 4, self.ready)

    def _drop_if_late(self) -> bool:
        if self.scheduler.now < self.until:
            return False
        # With an older generation it is told the whole assignment again.
        self.generation = 0
        self.positions.clear()
        return True

    def _forget(self) -> None:
        self.member = None
        self.generation = 0
        self.positions.clear()

    def fall_silent(self, seconds: float) -> None:
        """As a hung consumer: no heartbeat until it goes on."""
        self.silent = True
        self.after(seconds, self.go_on)

    def go_on(self) -> None:
        self.silent = False
        self.ready()

    def read(self, tp: TopicPartition, offset: int) -> None:
        """The hands have read up to here."""
        if tp in self.positions and not self.silent:
            self.positions[tp] = offset

    def acknowledge(self) -> None:
        if self._acking or self.member is None or self._drop_if_late():
            return
        behind = [(*tp, at) for tp, at in self.positions.items() if at > self.acked.get(tp, 0)]
        if not behind or self.wire is None or not self.wire.client_open:
            return
        self._acking = True
        request = m.Ack(
            id=0,
            group=self.group,
            offsets=behind,
            member=self.member or UNSET,
            generation=self.generation,
            timeout_ms=self.world.setup.timeout_ms,
        )
        self.ask(request, b"", partial(self._acked, behind))

    def _acked(self, offsets: list[m.At], answer: m.Answer | None, _: bytes) -> None:
        self._acking = False
        if not isinstance(answer, m.Done):
            return
        told = self.world.judge.acked
        for topic, p, at in offsets:
            self.acked[topic, p] = at
            key = (self.group, (topic, p))
            told[key] = max(told.get(key, 0), at)


class Hands(Client):
    """A member's reads, from any replica."""

    def __init__(self, world: World, name: str, member: Member) -> None:
        self._member = member
        self._asking = False
        super().__init__(world, name)

    def ready(self) -> None:
        member = self._member
        if self._asking or not member.positions or not self.connected():
            return
        self._asking = True
        positions = dict(member.positions)
        wanted = [(topic, p, at) for (topic, p), at in sorted(positions.items())]
        request = m.Fetch(id=0, partitions=wanted, wait_ms=WAIT_MS)
        self.ask(request, b"", partial(self._fetched, positions))

    def _fetched(
        self, positions: dict[TopicPartition, int], answer: m.Answer | None, body: bytes
    ) -> None:
        self._asking = False
        if not isinstance(answer, m.FetchAnswer):
            self.misdirected(answer)
            return
        at = 0
        for entry in answer.partitions:
            data, at = body[at : at + entry.size], at + entry.size
            tp = (entry.topic, entry.partition)
            after = self.world.judge.shows(self.name, tp, positions[tp], data)
            if data:
                self._member.read(tp, after)
        self._member.acknowledge()
        if any(isinstance(e.error, str) for e in answer.partitions) or self.rng.random() < 0.05:
            self.go_elsewhere()
        else:
            self.after(0.1 * self.rng.random(), self.ready)
