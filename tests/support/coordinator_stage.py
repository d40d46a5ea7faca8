"""A coordinator's core on a stage: events in, effects out, by a clock that the test moves."""

from __future__ import annotations

from typing import Any, TypeVar

from yak import messages as m
from yak.config import Settings
from yak.core.coordinator import Coordinator, Effect
from yak.core.document import Document
from yak.core.events import Reply, Tell
from yak.model import Now

E = TypeVar("E")
TICK = 0.05


class Stage:
    """A coordinator, a clock that ticks, and brokers that say what they are told to say.

    Connection k is broker k's, k + 10 its next one.
    """

    def __init__(self, document: Document | None = None, **options: Any) -> None:
        self.time = 100.0
        settings = options.pop("settings", Settings())
        self.brain = Coordinator(
            document or Document(cluster="C", settings=settings),
            settings,
            self.now,
            **{"bootstrap_wait_ms": 200, "cooldown_ms": 5000, **options},
        )
        #: Where these brokers' logs end; they say so with each heartbeat, on the newest document.
        self.logs: dict[int, tuple[int, int]] = {}
        #: For each connection: the last number heard, the last number sent.
        self.numbers: dict[int, tuple[int, int]] = {}
        self.effects: list[Effect] = self.brain.start(self.now)

    @property
    def now(self) -> Now:
        return Now(mono=self.time, wall_ms=int(self.time * 1000))

    @property
    def document(self) -> Document:
        return self.brain.document

    def ask(self, conn: int, request: m.CoordinatorRequest) -> m.Answer:
        self.effects = self.brain.handle(conn, request, self.now)
        (reply,) = only(self.effects, Reply)
        assert (reply.conn, reply.id) == (conn, request.id)
        return reply.answer

    def join(self, conn: int, **more: Any) -> m.Answer:
        broker = conn % 10
        usual: dict[str, Any] = {
            "id": 1,
            "broker": broker,
            "host": "127.0.0.1",
            "port": 9091 + broker,
            "cluster": "C" if self.document.epoch else None,
            "disk": f"d{broker}",
            "inc": f"i{broker}.1",
            "state": "whole",
            "end": (self.document.epoch, 9) if self.document.epoch else (0, 0),
            "epoch": self.document.epoch,
        }
        self.numbers[conn] = (0, 0)
        return self.ask(conn, m.Join(**{**usual, **more}))

    def beat(self, conn: int) -> m.BeatAnswer:
        heard, number = self.numbers[conn]
        beat = m.Beat(id=2, number=number + 1, heard=heard)
        if conn % 10 in self.logs:
            beat.end = self.logs[conn % 10]
            beat.seen = (self.document.epoch, self.document.version)
        answer = self.ask(conn, beat)
        assert isinstance(answer, m.BeatAnswer), answer
        self.numbers[conn] = (answer.number, number + 1)
        return answer

    def run(self, seconds: float, *beating: int) -> list[Effect]:
        """Let time pass, with a tick every 50 ms and a heartbeat of these every 250 ms."""
        seen: list[Effect] = []
        for step in range(1, round(seconds / TICK) + 1):
            self.time += TICK
            if step % 5 == 0:
                for conn in beating:
                    self.beat(conn)
                    seen += self.effects
            self.effects = self.brain.tick(self.now)
            seen += self.effects
        return seen

    def settle(self, *brokers: int) -> None:
        """A cluster of these, led by the first of them, all in sync."""
        for broker in brokers:
            self.join(broker)
        self.run(0.25)
        incs = {str(broker): f"i{broker}.1" for broker in brokers}
        assert self.propose(brokers[0], brokers, incs).ok

    def propose(self, conn: int, isr: tuple[int, ...], incs: dict[str, str]) -> m.Answer:
        document = self.document
        return self.ask(
            conn,
            m.ProposeIsr(
                id=3, epoch=document.epoch, version=document.version, isr=list(isr), incs=incs
            ),
        )

    def close(self, conn: int) -> list[Effect]:
        self.effects = self.brain.closed(conn, self.now)
        return self.effects

    def restarted(self, **options: Any) -> Stage:
        """Another process on the same document."""
        return Stage(self.document, settings=self.document.settings, **options)


def only(effects: list[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: list[Effect]) -> list[str]:
    return [tell.event for tell in only(effects, Tell)]


def refused(answer: m.Answer) -> str:
    assert isinstance(answer, m.ErrorAnswer), answer
    return answer.error
