"""yak-zk without its world: sessions, silence, and what becomes of them.

Events come in as method calls with `now`; each returns effects, *in the order in which they
must happen*.  What the shell owes them:

    Save(document)        zk_durable: on disk, with its directory, before anything that follows
    Tell                  a decision and its reason, for the log and events.jsonl
    HangUp(conn)          close a connection; nothing of it counts any more
    Reply(conn, id, …)    answer a request
    Publish(view, conns)  push the cluster document
    Probe(broker, …)      ask the broker's own port whether that process still lives: `probed`

**When we did not run** (stopped, or starved of the processor): silence in that time is our own.
A gap between events that is longer than session_ms - lease_ms, while ticks come far more often,
is given back to every session.  That only lets sessions live longer; leases never count by our
clock, so that no lease outlives its session (core/heartbeat.py) holds as before.

zk_grace: after a restart the members of the ISR are presumed alive for session_ms (the longer
one of the old and the new settings), and nobody is declared dead for silence.

What it does not do: it knows no sockets and no files, and decides nothing about the document
itself: those rules are in core/election.py, and what an operator orders in core/orders.py.

Who asks, who is there and what time does to them is one story, hence more than 400 lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from msgspec import UNSET
from msgspec.structs import replace

from yak import messages as m
from yak.config import Settings
from yak.core.adoption import Refusals, adopt
from yak.core.document import Document, Liveness, Present
from yak.core.election import change_isr, decide, vacate
from yak.core.events import HangUp, Reply, Tell
from yak.core.heartbeat import Session
from yak.core.joins import ended, take_in
from yak.core.orders import Order, check_plan, elect
from yak.errors import Refused
from yak.model import Address, Now
from yak.protocol import error_answer

#: While nobody leads, or somebody is presumed alive, time passes this often at least, in seconds.
TICK_S: Final = 0.1
#: A clock's least step that counts: a session is over once it is *longer* than session_ms.
_MOMENT_S: Final = 0.001


@dataclass(slots=True)
class Save:
    document: Document


@dataclass(slots=True)
class Publish:
    view: m.ClusterView
    conns: list[int]


@dataclass(slots=True)
class Probe:
    """Asked when a session's connection closed.  `probed` is called only for a definite death."""

    broker: int
    inc: str
    host: str
    port: int


Effect: TypeAlias = Save | Tell | HangUp | Reply | Publish | Probe


class Coordinator:
    """See the module's text.  One for a yak-zk process; `document` is what was last saved."""

    def __init__(
        self,
        document: Document,
        settings: Settings,
        now: Now,
        *,
        bootstrap_wait_ms: int,
        cooldown_ms: int,
    ) -> None:
        self.document = document
        #: Live sessions by broker.
        self.sessions: dict[int, Session] = {}
        self._settings = settings
        self._bootstrap_wait = bootstrap_wait_ms / 1000
        self._cooldown = cooldown_ms / 1000
        self._started = self._awake_at = now.mono
        longest = max(document.settings.session_ms, settings.session_ms)
        self._grace_until = now.mono + longest / 1000
        #: zk_grace: of the ISR, who has not been heard of since the start.
        self._presumed = set(document.isr_ids)
        #: When the first of those that now wait for a first epoch joined.
        self._waiting_since: float | None = None
        self._resigned_at: dict[int, float] = {}
        #: Who led, and until when it may think that it still does: for a lease.  Who led before
        #: this process was started is not known: anybody in sync but the sitting leader.
        lease = max(document.settings.lease_ms, settings.lease_ms) / 1000
        self._deposed = {i: now.mono + lease for i in document.isr_ids if i != document.leader}
        #: The version in which the present epoch's leader, if it ever had one, was lost.
        self._leaderless_since = document.version
        #: Why a broker's last session ended, and where its log ended then.
        self._gone: dict[int, str] = {}
        self._ends: dict[int, tuple[int, int]] = {}
        #: Who was refused, for the operator to look at and to adopt.
        self._refusals = Refusals()
        self._view: m.ClusterView | None = None

    # -- what brokers and others ask --------------------------------------------------------------

    def handle(self, conn: int, request: m.CoordinatorRequest, now: Now) -> list[Effect]:
        """Carry out a request; a refusal is its answer."""
        said = self._wake(now.mono)
        try:
            return [*said, *self._asked(conn, request, now)]
        except Refused as refused:
            return [*said, Reply(conn, request.id, error_answer(refused))]

    def _asked(self, conn: int, request: m.CoordinatorRequest, now: Now) -> list[Effect]:
        match request:
            case m.Join():
                return self._join(conn, request, now)
            case m.Beat():
                session = self.sessions[self._broker(conn)]
                return [Reply(conn, request.id, session.beat(request, now.mono, self.window))]
            case m.ProposeIsr():
                return self._propose(conn, request, now)
            case m.Resign():
                return self._resign(conn, request, now)
            case m.Leave():
                return self._leave(conn, request, now)
            case m.Elect() | m.Adopt():
                return self._ordered(conn, request, now)
            case m.ClusterQuery():
                return [Reply(conn, request.id, m.JoinAnswer(view=self.view()))]
            case m.Status():
                return [Reply(conn, request.id, self.status(now))]

    def _join(self, conn: int, request: m.Join, now: Now) -> list[Effect]:
        old = self.sessions.get(request.broker)
        here = next((i for i, s in self.sessions.items() if s.conn == conn), request.broker)
        if here != request.broker:
            raise Refused("INVALID_REQUEST", f"broker: this connection speaks for broker {here}")
        try:
            document, said = take_in(
                self.document,
                request,
                old.present if old else None,
                connected=old is not None and old.conn is not None,
            )
        except Refused as refused:
            return [
                *self._remember(request, refused, now),
                Reply(conn, request.id, error_answer(refused)),
            ]
        self._refusals.forget(request)
        present = Present(request.inc, request.disk, request.end, request.seen)
        address = Address(request.host, request.port)
        self.sessions[request.broker] = Session(conn, address, present, now.mono)
        self._presumed.discard(request.broker)
        effects: list[Effect] = []
        # The lock on its directory proves that the process of the older session is dead, or it
        # is the same process on a newer connection.
        if old is not None and old.conn is not None and old.conn != conn:
            effects.append(HangUp(old.conn, f"broker {request.broker} joined anew"))
        fields = {"broker": request.broker, "state": request.state, "inc": request.inc}
        said.insert(0, Tell("joined", {**fields, "end": list(request.end)}))
        return self._settle(
            now,
            lambda: Reply(conn, request.id, m.JoinAnswer(view=self.view())),
            document=document,
            said=said,
            before=effects,
            knows=conn,
        )

    def _remember(self, request: m.Join, refused: Refused, now: Now) -> list[Effect]:
        """One who belongs elsewhere may belong here after an `adopt`; said once."""
        if refused.name != "CLUSTER_MISMATCH":
            return []
        if not self._refusals.remember(request, refused.message, now.mono):
            return []
        fields = {"broker": request.broker, "cluster": request.cluster, "end": list(request.end)}
        return [Tell("refused", {**fields, "reason": refused.message})]

    def _ordered(self, conn: int, request: m.Elect | m.Adopt, now: Now) -> list[Effect]:
        """An operator looks at an order, or gives it."""
        alive = self._liveness(now.mono)
        order: Order
        match request:
            case m.Elect():
                order = elect(self.document, alive, request.broker, now.wall_ms)
            case m.Adopt():
                order = adopt(self.document, alive, self._refusals, request, now.wall_ms)
        if request.plan is UNSET:
            return [Reply(conn, request.id, order.answer)]
        check_plan(order, request.plan)
        return self._settle(
            now,
            lambda: Reply(conn, request.id, replace(order.answer, done=True)),
            document=order.document,
            said=order.said,
        )

    def _check_deposed(self, request: m.ProposeIsr, now: float) -> None:
        """lease: a leader that was replaced alive, and may not know yet, must not be left behind.

        While it is in the ISR its successor answers nobody without it.
        """
        leaving = set(self.document.isr_ids) - set(request.isr)
        for broker in sorted(leaving & (self.sessions.keys() | self._presumed)):
            if now < self._deposed.get(broker, now):
                raise Refused(
                    "STALE_EPOCH",
                    f"broker {broker} may have led just now, and think that it does until its "
                    "lease ends: in a moment",
                )

    def _propose(self, conn: int, request: m.ProposeIsr, now: Now) -> list[Effect]:
        self._check_deposed(request, now.mono)
        present = {i: session.present for i, session in self.sessions.items()}
        document, said = change_isr(self.document, self._broker(conn), request, present)
        return self._settle(
            now,
            lambda: Reply(
                conn,
                request.id,
                m.IsrAnswer(version=self.document.version, isr=self.document.isr_ids),
            ),
            document=document,
            said=said,
        )

    def _resign(self, conn: int, request: m.Resign, now: Now) -> list[Effect]:
        broker = self._broker(conn)
        document = vacate(self.document, broker, request.epoch)
        self._resigned_at[broker] = now.mono
        fields = {"broker": broker, "epoch": request.epoch, "reason": request.reason}
        return self._settle(
            now,
            lambda: Reply(conn, request.id, m.Done()),
            document=document,
            said=[Tell("resigned", fields)],
            why=f"leader {broker} resigned: {request.reason}",
        )

    def _leave(self, conn: int, request: m.Leave, now: Now) -> list[Effect]:
        broker, reason = self._broker(conn), "it said goodbye"
        self._end(broker, reason)
        return self._settle(
            now,
            lambda: Reply(conn, request.id, m.Done()),
            document=ended(self.document, broker, request.mark),
            said=[Tell("left", {"broker": broker, "reason": reason})],
        )

    def _broker(self, conn: int) -> int:
        """Whose session this connection is.  One that was replaced or has ended is nobody's."""
        for broker, session in self.sessions.items():
            if session.conn == conn:
                return broker
        raise Refused(
            "STALE_EPOCH", "no session on this connection: it never joined, or was replaced"
        )

    # -- what the world tells ---------------------------------------------------------------------

    def start(self, now: Now) -> list[Effect]:
        """The first event: this process's settings enter the document, which is on disk then."""
        document = replace(self.document, settings=self._settings)
        saved: list[Effect] = [Save(document)] if document == self.document else []
        return [*saved, *self._settle(now, document=document)]

    def closed(self, conn: int, now: Now) -> list[Effect]:
        """A connection ended.  That is no death: the process may live on, or hang."""
        said = self._wake(now.mono)
        for broker, session in self.sessions.items():
            if session.conn == conn:
                session.conn = None
                return [
                    *said,
                    Tell("disconnected", {"broker": broker}),
                    Probe(broker, session.present.inc, *session.address),
                ]
        return said

    def probed(self, broker: int, inc: str, proof: str, now: Now) -> list[Effect]:
        """The process behind a closed session is dead for certain; late news is dropped."""
        said = self._wake(now.mono)
        session = self.sessions.get(broker)
        if session is None or session.conn is not None or session.present.inc != inc:
            return said
        self._end(broker, proof)
        return [*said, *self._settle(now, said=[Tell("died", {"broker": broker, "reason": proof})])]

    def next_deadline(self, now: float) -> float:
        """When to call `tick` next, at the latest: several times in every `window`.

        Sooner where an election may wait for it, or a session ends.
        """
        waits = self.document.leader is None or self._presumed
        latest = now + min(self.window / 4, TICK_S if waits else float("inf"))
        ends = (s.seen + self._session_s + _MOMENT_S for s in self.sessions.values())
        return min([latest, *(end for end in ends if end > now)])

    def tick(self, now: Now) -> list[Effect]:
        """Time passes; see `next_deadline`."""
        effects: list[Effect] = [*self._wake(now.mono)]
        presumed = bool(self._presumed)
        if now.mono >= self._grace_until:
            self._presumed.clear()
        said = []
        for broker, session in list(self.sessions.items()):
            silence = now.mono - session.seen
            if silence > self._session_s and now.mono >= self._grace_until:
                reason = f"silent for {silence * 1000:.0f} ms (--session-ms)"
                if session.conn is not None:
                    effects.append(HangUp(session.conn, reason))
                self._end(broker, reason)
                said.append(Tell("died", {"broker": broker, "reason": reason}))
        if not said and not presumed and self.document.leader in self.sessions:
            return effects  # while a leader lives, time alone changes nothing
        return self._settle(now, said=said, before=effects)

    # -- what anybody may know --------------------------------------------------------------------

    @property
    def window(self) -> float:
        """How old an echo may be to renew, and how long a gap is our own fault; seconds."""
        return (self._settings.session_ms - self._settings.lease_ms) / 1000

    @property
    def _session_s(self) -> float:
        return self._settings.session_ms / 1000

    def view(self) -> m.ClusterView:
        document = self.document
        return m.ClusterView(
            cluster=document.cluster,
            version=document.version,
            epoch=document.epoch,
            leader=document.leader,
            isr=document.isr_ids,
            settings=document.settings,
            brokers=[self._info(broker) for broker in sorted(document.brokers)],
        )

    def _info(self, broker: int) -> m.BrokerInfo:
        known, session = self.document.brokers[broker], self.sessions.get(broker)
        suspect = self.document.suspects.get(broker)
        return m.BrokerInfo(
            id=broker,
            host=known.host,
            port=known.port,
            live=session is not None or broker in self._presumed,
            inc=session.present.inc if session else "",
            state=suspect.state if suspect else "whole",
        )

    def status(self, now: Now) -> m.CoordinatorStatus:
        document = self.document
        ages = {i: round((now.mono - s.seen) * 1000) for i, s in self.sessions.items()}
        infos = [self._info(broker) for broker in sorted(document.brokers)]
        return m.CoordinatorStatus(
            cluster=document.cluster,
            version=document.version,
            epoch=document.epoch,
            leader=document.leader,
            isr=document.isr_ids,
            settings=document.settings,
            sessions=[
                m.SessionEntry(
                    broker=info.id,
                    host=info.host,
                    port=info.port,
                    live=info.live,
                    heartbeat_age_ms=ages.get(info.id),
                    state=info.state,
                    why=document.suspects[info.id].why if info.id in document.suspects else "",
                    end=self._end_of(info.id),
                )
                for info in infos
            ],
            refused=self._refusals.entries(now.mono),
            elections=list(document.elections),
            uptime_s=now.mono - self._started,
        )

    # -- inside -----------------------------------------------------------------------------------

    def _wake(self, now: float) -> list[Effect]:
        """If we did not run for a while, that while counts against nobody."""
        lost = now - self._awake_at
        self._awake_at = now
        if lost <= self.window:
            return []
        for session in self.sessions.values():
            session.give_back(lost)
        self._grace_until += lost
        return [Tell("stalled", {"ms": round(lost * 1000), "reason": "this process did not run"})]

    def _end(self, broker: int, reason: str) -> None:
        self._ends[broker] = self.sessions.pop(broker).present.end
        self._gone[broker] = reason

    def _end_of(self, broker: int) -> tuple[int, int] | None:
        """Where its log ended when it was last heard."""
        session = self.sessions.get(broker)
        return session.present.end if session is not None else self._ends.get(broker)

    def _liveness(self, now: float) -> Liveness:
        if not self.sessions:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        cooling = {i for i, at in self._resigned_at.items() if now - at < self._cooldown}
        pause = self._settings.heartbeat_ms / 1000
        present = {i: session.present for i, session in self.sessions.items()}
        return Liveness(
            present=present,
            presumed=frozenset(self._presumed),
            cooling=frozenset(cooling),
            resting=frozenset(i for i in cooling if now - self._resigned_at[i] < pause),
            bootstrap=self._waiting_since is not None
            and now - self._waiting_since >= self._bootstrap_wait,
            gone=self._gone,
            ends=self._ends,
            unsettled=frozenset(i for i, one in present.items() if not self._is_settled(one)),
        )

    def _is_settled(self, present: Present) -> bool:
        """settled: its log ended there when it knew that nobody leads, so it still does."""
        leaderless = (self.document.epoch, self._leaderless_since)
        return self.document.leader is None and present.seen >= leaderless

    def _settle(
        self,
        now: Now,
        answer: Callable[[], Reply] | None = None,
        *,
        document: Document | None = None,
        said: Iterable[Tell] = (),
        before: Iterable[Effect] = (),
        why: str = "",
        knows: int | None = None,
    ) -> list[Effect]:
        """After an event: elect if need be, save what changed, and only then tell anybody.

        answer: made once the document stands.  knows: the connection that has it from its answer.
        """
        changed, decided = decide(
            document or self.document, self._liveness(now.mono), now.wall_ms, why
        )
        effects: list[Effect] = []
        if changed != self.document:
            before_it = self.document
            self.document = replace(changed, version=before_it.version + 1)
            if before_it.leader is not None or before_it.epoch != changed.epoch:
                self._leaderless_since = self.document.version
            if before_it.leader not in (None, changed.leader):
                lease = max(before_it.settings.lease_ms, self._settings.lease_ms) / 1000
                self._deposed[before_it.leader] = now.mono + lease
            effects.append(Save(self.document))
        effects += [*said, *decided, *before]
        if answer is not None:
            effects.append(answer())
        view = self.view()
        if view != self._view:
            self._view = view
            conns = (session.conn for session in self.sessions.values())
            others = [conn for conn in conns if conn is not None and conn != knows]
            effects.append(Publish(view, others))
        return effects
