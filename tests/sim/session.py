"""A broker's session with yak-zk in the simulator: yak/net/coordinator.py without bytes or tasks.

The rules that it mirrors are in that module's text: join, beat while the broker may, count the
lease from the sending of what yak-zk says it heard, close what leaves heartbeats unanswered for a
session, join again after every loss.  A proposal whose answer never comes stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.sim.net import Wire
from yak import messages as m
from yak.broker import Broker
from yak.config import Settings
from yak.core import events as e
from yak.net.coordinator import FIRST_PAUSE_S, JOIN_S, LEAVE_S, LONGEST_PAUSE_S, OPEN_S

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker

_CHANGED, _JOINED = False, True
#: What a broken yak-zk says: no definite answer to a proposal.
_VAGUE: Final = ("INTERNAL", "PROTOCOL")


class Session:
    """One broker process's sessions, one after the other."""

    def __init__(self, process: SimBroker, broker: Broker) -> None:
        self._process = process
        self._broker = broker
        self._settings = Settings()
        self._pause = FIRST_PAUSE_S
        self._wire: Wire | None = None
        self._stands = False
        self._leaving = False
        self._reset()

    def _reset(self) -> None:
        self._sent: dict[int, float] = {}
        self._number = self._answered = self._heard = 0

    def _now(self) -> float:
        return self._process.scheduler.monotonic()

    # -- a session's beginning --------------------------------------------------------------------

    def start(self) -> None:
        if self._leaving:
            return
        if not self._broker.may_beat():
            self._process.after(self._settings.heartbeat_ms / 1000, self.start)
            return
        world = self._process.world
        wire = self._wire = world.net.connect(
            self._process,
            world.zk,
            on_open=self._opened,
            on_fail=self._failed,
            on_closed=lambda reason: self._closed(wire, reason),
            on_push=self._pushed,
            timeout_s=OPEN_S,
        )

    def _opened(self, wire: Wire) -> None:
        self._reset()
        self._sent[0] = self._now()
        wire.ask(self._broker._identity(), b"", lambda answer, _: self._joined(wire, answer))
        self._process.after(JOIN_S, self._join_late, wire)

    def _join_late(self, wire: Wire) -> None:
        if wire is self._wire and not self._stands:
            wire.forget()
            self._failed("the join was not answered")

    def _failed(self, reason: str) -> None:
        self._wire = None
        pause = self._pause * (0.5 + self._process.scheduler.rng.random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        self._process.after(pause, self.start)

    def _joined(self, wire: Wire, answer: m.Answer | None) -> None:
        if wire is not self._wire:
            return
        if not isinstance(answer, m.JoinAnswer):
            if isinstance(answer, m.ErrorAnswer):
                self._process.world.judge.join_refused(self._process, answer)
                wire.forget()
                self._failed(answer.message)
            return
        self._pause = FIRST_PAUSE_S
        if not self._broker.stopped.is_set():  # else there is more by now than what it told
            self._process.recorded = True
        self._stands = True
        self._view(answer.view, joined=_JOINED)
        self._broker._tell(e.LeaseRenewed(self._sent[0]))
        self._process.after(self._settings.heartbeat_ms / 1000, self._beat, wire)

    # -- while it lasts ---------------------------------------------------------------------------

    def _view(self, view: m.ClusterView, *, joined: bool) -> None:
        self._settings = view.settings
        self._broker._viewed(view, joined)

    def _pushed(self, view: m.ClusterView) -> None:
        if self._stands:
            self._view(view, joined=_CHANGED)

    def _beat(self, wire: Wire) -> None:
        if wire is not self._wire or self._leaving:
            return
        if self._broker.may_beat():
            self._number += 1
            number = self._number
            self._sent[number] = self._now()
            now = self._broker._identity()
            request = m.Beat(id=0, number=number, heard=self._heard, end=now.end, seen=now.seen)
            wire.ask(request, b"", lambda answer, _: self._beaten(wire, number, answer))
        waiting_since = self._sent.get(self._answered + 1)
        if waiting_since is not None and self._now() - waiting_since > (
            self._settings.session_ms / 1000
        ):
            wire.close()
            self._closed(wire, "yak-zk has not answered for a whole session")
            return
        self._process.after(self._settings.heartbeat_ms / 1000, self._beat, wire)

    def _beaten(self, wire: Wire, number: int, answer: m.Answer | None) -> None:
        if wire is not self._wire or answer is None:
            return
        if not isinstance(answer, m.BeatAnswer):
            wire.close()
            self._closed(wire, "the heartbeat was refused")
            return
        self._answered = max(self._answered, number)
        self._heard = max(self._heard, answer.number)
        renewed = self._sent.get(answer.heard)
        if renewed is None:
            return
        for older in [n for n in self._sent if n < answer.heard]:
            del self._sent[older]
        self._broker._tell(e.LeaseRenewed(renewed))

    def _closed(self, wire: Wire, reason: str) -> None:
        """By either end; of a stopped process both may have done so, and it counts once."""
        if wire is not self._wire:
            return
        stood, self._stands = self._stands, False
        self._wire = None
        if self._leaving:
            return
        if stood:
            self._broker._tell(e.CoordinatorLost(reason))
            self.start()
        else:
            self._failed(reason)

    # -- what the broker asks ---------------------------------------------------------------------

    def propose_isr(
        self,
        epoch: int,
        version: int,
        isr: list[int],
        incs: dict[int, str],
        on_answer: Callable[[bool, str], None],
    ) -> None:
        if self._wire is None or not self._stands:
            self._process.after(0.0, on_answer, False, "no session with yak-zk")
            return
        named = {str(broker): inc for broker, inc in incs.items()}
        request = m.ProposeIsr(id=0, epoch=epoch, version=version, isr=isr, incs=named)

        def answered(answer: m.Answer | None, _: bytes) -> None:
            if isinstance(answer, m.ErrorAnswer):
                if answer.error not in _VAGUE:
                    on_answer(False, answer.message)
            elif answer is not None:
                on_answer(True, "")

        self._wire.ask(request, b"", answered)

    def resign(self, epoch: int, reason: str) -> None:
        if self._wire is not None and self._stands:
            request = m.Resign(id=0, epoch=epoch, reason=reason)
            self._wire.ask(request, b"", lambda *_: None)

    def leave(self, done: Callable[[], None] | None = None) -> None:
        """Say goodbye; `done` once it was heard, or after LEAVE_S."""
        self._leaving = True
        finished = done or (lambda: None)
        if self._wire is None or not self._stands:
            self._process.after(0.0, finished)
            return
        once = [finished]

        def end(*_: object) -> None:
            if once:
                once.pop()()

        self._wire.ask(m.Leave(id=0, mark=self._broker._identity().mark), b"", end)
        self._process.after(LEAVE_S, end)
