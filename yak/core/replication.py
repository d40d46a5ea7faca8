"""Copying the log: the leader's part.  The follower's is follower.py.

The leader L of epoch E writes; followers pull.  R is the *required set*: the ISR as L must
assume it.  The rules, by their names in the design (each can be taken out by a mutation test):

    commit_all_isr   C is the least matched position over all of R, L's own durable one included
    self_durable     L counts itself only up to what its disk has, with fsync=always
    expand_first     a joining follower is in R from before its proposal is sent …
    expand_keep      … until yak-zk's answer is known; a time-out is not an answer
    shrink_after     a leaving follower stays in R until yak-zk has confirmed
    expand_start     a follower may join when matched >= max(C, start of L's epoch)
    expand_inc       the proposal names the follower's incarnation
    match_reset      a matched position belongs to one connection, and counts once truncation
                     was agreed on it
    floor            no proposal goes below min_insync_replicas
    fence_follower   every frame carries E; another epoch is refused

An example of the leader's book, C = 17, R = {1, 2, 3}, 3 being proposed:

    follower | matched | agreed | in R because
    ---------+---------+--------+-------------------------------------------------
    1 (self) | 18      |        | it leads; its disk has everything up to 18
    2        | 18      | yes    | it is in the ISR
    3        | 17      | yes    | its proposal is not answered yet: C waits for it

A leader's book is one thing, hence more than 400 lines.  It does not answer clients (service.py),
nor apply (node.py).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from yak import messages as m
from yak.config import Settings
from yak.core import events as e
from yak.core.copies import Copies
from yak.core.log import Log
from yak.errors import Refused

#: After a refused proposal the leader waits this long before the next.
PROPOSE_AGAIN_S = 0.2
#: A follower's lag is known to this, in seconds.
MARK_S: Final = 0.1
#: Marks of one follower that it has not reached: ten seconds of lag; then no more are made.
MAX_MARKS: Final = 100


@dataclass(slots=True)
class _Poll:
    """A `replicate` that waits for its answer."""

    id: m.RequestId
    first: int
    max_bytes: int
    deadline: float


@dataclass(slots=True)
class Progress:
    """What the leader knows of one follower, on one connection."""

    conn: int
    inc: str
    #: The first index that it was told to ask for.
    agreed: int
    #: It holds everything up to here (on disk, with fsync=always).
    #: Invariant: never above the leader's log end; 0 on a new connection (`match_reset`).
    matched: int = 0
    #: When it last sent an agreed `replicate`.
    heard: float = float("-inf")
    #: It has all that the leader had then, on this connection or on one before.
    caught_up: float = float("-inf")
    #: It had to leave the ISR, and has not caught up since.  In an idle log it would hold enough
    #: to come back at once, silent as it is.
    lagging: bool = False
    #: (the leader's log end, when that was), which it has not reached yet; ascending.  Empty: it
    #: had everything when it was last heard.  Under full load a follower never does, and yet is
    #: no further behind than the time that one answer takes.
    marks: deque[tuple[int, float]] = field(default_factory=deque)
    #: The commit index that this connection was told.
    told: int = 0
    poll: _Poll | None = None


@dataclass(slots=True)
class Proposal:
    """An ISR change whose outcome is not known."""

    version: int
    isr: frozenset[int]
    incs: dict[int, str] = field(default_factory=dict)


class Leader:
    """Leads epoch `epoch`: counts who holds what, and what is committed."""

    def __init__(
        self,
        me: int,
        view: m.ClusterView,
        log: Log,
        committed: int,
        out: list[e.Effect],
        now: float,
    ) -> None:
        self.me = me
        self.epoch = view.epoch
        self.log = log
        self.out = out
        #: Index of this epoch's `lead`.
        self.start = log.next
        self.committed = committed
        #: C as far as State here has it, which is what followers are told: a client that has seen
        #: a record on any replica may speak of it to the leader.  Invariant: shown <= committed.
        self.shown = committed
        self.followers: dict[int, Progress] = {}
        self.copies = Copies(out)
        self.view = view
        #: The ISR as yak-zk last confirmed it.
        self.isr = frozenset(view.isr)
        #: Who could join it, or become whole: looked at in every turn, so kept.
        self._outside = outside(view)
        self.proposal: Proposal | None = None
        self._propose_after = float("-inf")
        #: Whether somebody may have to leave the ISR: after a new view, and at every beat.
        self._look_for_leavers = True
        #: Since when yak-zk has reported each broker live, as far as this leader saw it.
        self._live_since = {b.id: now for b in view.brokers if b.live}
        #: Of followers whose connection ended: their `caught_up`.  A lost link is not yet a lag.
        self._last_caught_up: dict[int, float] = {}

    @property
    def settings(self) -> Settings:
        return self.view.settings

    @property
    def required(self) -> frozenset[int]:
        """R: the confirmed ISR and, while its outcome is unknown, what was proposed."""
        return self.isr | self.proposal.isr if self.proposal else self.isr

    @property
    def wanted(self) -> int:
        """The lowest index that a connected follower still wants."""
        wants = (max(p.matched + 1, p.agreed) for p in self.followers.values())
        return min(wants, default=self.log.next)

    def reachable(self, now: float) -> int:
        """How many of R could acknowledge now: L, and whom it has heard of within the lag."""
        since = now - self.settings.replica_lag_ms / 1000
        return sum(
            1
            for b in self.required
            if b == self.me or ((p := self.followers.get(b)) is not None and p.heard >= since)
        )

    def has_heir(self, now: float) -> bool:
        """Whether another one follows that has all that is committed, and could be elected."""
        since = now - self.settings.replica_lag_ms / 1000
        whole = {b.id for b in self.view.brokers if b.live and b.state == "whole"}
        return any(
            b in whole and (p := self.followers.get(b)) is not None and p.heard >= since
            for b in self.isr - {self.me}
        )

    # -- what yak-zk says ------------------------------------------------------------------------

    def view_changed(self, view: m.ClusterView, now: float) -> None:
        """A newer document of the same epoch."""
        assert view.epoch == self.epoch
        assert view.leader == self.me
        self.view = view
        self.isr = frozenset(view.isr)
        self._outside = outside(view)
        if self.proposal and view.version > self.proposal.version:
            self.proposal = None
        live = {b.id for b in view.brokers if b.live}
        self._live_since = {b: self._live_since.get(b, now) for b in live}
        self._look_for_leavers = True

    def isr_answered(self, version: int, *, ok: bool, now: float) -> None:
        """The definite word on a proposal.  An accepted one stays until its view is here."""
        if self.proposal and self.proposal.version == version and not ok:
            self.proposal = None
            self._propose_after = now + PROPOSE_AGAIN_S

    def propose_again(self) -> None:
        """A new session with yak-zk: what it did not answer on the old one is asked again."""
        if self.proposal:
            self._send_proposal(self.proposal)

    # -- followers -------------------------------------------------------------------------------

    def follow(self, conn: int, request: m.Follow, now: float) -> None:
        """A follower shows its epochs; it is told where the two logs part."""
        self._fence(request.epoch)
        known = next((b for b in self.view.brokers if b.id == request.broker), None)
        if known is None or not known.live or known.inc != request.inc:
            raise Refused(
                "STALE_EPOCH",
                f"yak-zk has not told broker {self.me} of this start of broker {request.broker}",
            )
        if min([request.next, *(first for _, first in request.epochs)]) < 1:
            raise Refused("INVALID_REQUEST", "`next` and the epochs' first indexes count from 1")
        old = self.followers.get(request.broker)
        if old is not None and old.conn != conn:
            # Whoever is there would wait for an answer that never comes.
            self.out.append(e.HangUp(old.conn, f"broker {request.broker} follows anew"))
        self._disconnect(request.broker, now)
        common = self.log.common_prefix(request.epochs, request.next)
        if common < self.log.first:
            self.copies.offer(conn, request, self.epoch, now)
            return
        self.copies.drop(request.broker)
        self.followers[request.broker] = Progress(
            conn=conn,
            inc=request.inc,
            agreed=common,
            caught_up=self._last_caught_up.pop(request.broker, float("-inf")),
        )
        self.out.append(e.SendFollowAnswer(conn, request.id, self.epoch, common))
        self._tell("follower_agreed", follower=request.broker, next=common, had=request.next)

    def replicate(self, conn: int, request: m.Replicate, now: float) -> None:
        """The follower holds everything below `from`, and waits for more.

        `advance` and `tick`, once a turn, see to what follows.
        """
        self._fence(request.epoch)
        p = self.followers.get(request.broker)
        if p is None or p.conn != conn:
            raise Refused("INVALID_REQUEST", "`replicate` before an agreed `follow` on this link")
        if request.from_ > self.log.next or request.from_ <= p.matched:
            raise Refused(
                "INVALID_REQUEST",
                f"`from` is {request.from_}; this link holds {p.matched}, the log ends before "
                f"{self.log.next}",
            )
        p.matched = request.from_ - 1
        p.heard = now
        self._measure_lag(p, request.from_, now)
        p.poll = _Poll(request.id, request.from_, request.max_bytes, now + request.wait_ms / 1000)

    def _measure_lag(self, p: Progress, next_: int, now: float) -> None:
        """It has everything below `next_`: since when has it had all that was there?"""
        if next_ >= self.log.next:
            p.caught_up = now
            p.marks.clear()
        else:
            while p.marks and p.marks[0][0] <= next_:
                p.caught_up = max(p.caught_up, p.marks.popleft()[1])
            if not p.marks or (len(p.marks) < MAX_MARKS and now - p.marks[-1][1] >= MARK_S):
                p.marks.append((self.log.next, now))
        if p.caught_up >= now - self.settings.replica_lag_ms / 1000:
            p.lagging = False

    def copy(self, conn: int, request: m.Copy, now: float) -> None:
        """A follower that needs a full copy asks for its next piece."""
        self._fence(request.epoch)
        self.copies.piece(conn, request, now)

    def closed(self, conn: int, now: float) -> None:
        """A connection ended: what it had acknowledged no longer counts as reachable."""
        self.copies.closed(conn)
        for broker, p in list(self.followers.items()):
            if p.conn == conn:
                self._disconnect(broker, now)

    def _disconnect(self, broker: int, now: float) -> None:
        p = self.followers.pop(broker, None)
        if p is not None:
            self._last_caught_up[broker] = self._caught_up(p, now)

    def serve(self, p: Progress, now: float) -> None:
        """Answer the poll if there is something to say: operations, or that C has passed `told`.

        The news of C does not wait for operations to travel with: whoever reads from a follower
        waits for it, and the answer that it costs was measured to be none that the brokers feel.
        """
        poll = p.poll
        if poll is None:
            return
        if poll.first < self.log.next:
            if not p.marks:
                p.caught_up = now  # until this very moment it had everything
        elif self.shown > p.told or now >= poll.deadline:
            p.caught_up = now
        else:
            return
        p.poll, p.told = None, self.shown
        self.out.append(
            e.SendOps(
                conn=p.conn,
                id=poll.id,
                epoch=self.epoch,
                first=poll.first,
                last=self.log.next - 1,
                committed=self.shown,
                max_bytes=poll.max_bytes,
            )
        )

    def _fence(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Refused("STALE_EPOCH", f"broker {self.me} leads epoch {self.epoch}, not {epoch}")

    # -- commit ----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Move C to the least matched position over all of R."""
        if self.committed == self.log.durable:
            return
        required = self.required
        if len(required) < self.settings.min_insync_replicas:
            return
        least = min([self._position(broker) for broker in required])
        self.committed = max(self.committed, least)

    def _position(self, broker: int) -> int:
        """How far a broker's log is known to reach."""
        if broker == self.me:
            return self.log.durable
        progress = self.followers.get(broker)
        return progress.matched if progress else 0

    # -- the ISR ---------------------------------------------------------------------------------

    def consider_isr(self, now: float) -> None:
        """Propose what should change, one proposal at a time."""
        if self.proposal is not None or now < self._propose_after:
            return
        joining = self._joining() if self._outside else None
        if joining is not None:
            broker, progress = joining
            self._propose(self.isr | {broker}, {broker: progress.inc}, "caught up", broker)
            return
        if self._look_for_leavers and len(self.isr) > self.settings.min_insync_replicas:
            self._look_for_leavers = False
            leaving = self._leaving(now)
            if leaving is not None:
                broker, why = leaving
                self._propose(self.isr - {broker}, {}, why, broker)

    def _joining(self) -> tuple[int, Progress] | None:
        need = max(self.committed, self.start)
        for broker, inc in self._outside:
            p = self.followers.get(broker)
            if p is not None and p.inc == inc and p.matched >= need and not p.lagging:
                return broker, p
        return None

    def _leaving(self, now: float) -> tuple[int, str] | None:
        live = {b.id for b in self.view.brokers if b.live}
        since = now - self.settings.replica_lag_ms / 1000
        others = sorted(self.isr - {self.me})
        for broker in others:
            if broker not in live:
                return broker, "yak-zk reports it gone"
        for broker in others:
            p = self.followers.get(broker)
            caught_up = self._last_caught_up.get(broker, float("-inf"))
            if p is not None:
                caught_up = self._caught_up(p, now)
            # Who has just come is given the whole lag to catch up.
            if max(caught_up, self._live_since.get(broker, now)) < since:
                if p is not None:
                    p.lagging = True
                return broker, f"behind for more than {self.settings.replica_lag_ms} ms"
        return None

    def _caught_up(self, p: Progress, now: float) -> float:
        """When a follower last had everything: now, while it waits for more."""
        waits = p.poll is not None and p.poll.first >= self.log.next
        return now if waits else p.caught_up

    def _propose(self, isr: frozenset[int], incs: dict[int, str], why: str, broker: int) -> None:
        self.proposal = Proposal(self.view.version, isr, incs)
        self._tell("isr_proposed", isr=sorted(isr), broker=broker, reason=why)
        self._send_proposal(self.proposal)

    def _send_proposal(self, p: Proposal) -> None:
        self.out.append(e.ProposeIsr(self.epoch, p.version, sorted(p.isr), p.incs))

    def must_resign(self, now: float) -> bool:
        """Whether members of R are known to live, and none has followed for `resign_ms`."""
        since = now - self.settings.resign_ms / 1000
        others = [b for b in self.required if b != self.me and b in self._live_since]
        if not any(self._live_since[b] <= since for b in others):
            return False
        return all(max(self._heard(b), self.copies.heard(b)) <= since for b in others)

    def _heard(self, broker: int) -> float:
        p = self.followers.get(broker)
        return p.heard if p is not None else float("-inf")

    # -- time ------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Time passed: who lags may have to leave, when `tick` looks next."""
        self._look_for_leavers = True

    def end(self, why: str) -> None:
        """Stepping down: nobody may go on following."""
        for broker, progress in self.followers.items():
            self.out.append(e.HangUp(progress.conn, f"broker {broker}: {why}"))
        self.copies.end(why)

    def tick(self, now: float, *, may_propose: bool) -> None:
        self.copies.hang_up_silent(now, self.settings.session_ms / 1000)
        if may_propose:
            self.consider_isr(now)
        for p in self.followers.values():
            if p.poll is not None:
                self.serve(p, now)

    def next_deadline(self) -> float:
        """When `tick` has something to do, at the latest (the node also ticks at a beat)."""
        return min(
            (p.poll.deadline for p in self.followers.values() if p.poll), default=float("inf")
        )

    def status(self, now: float) -> list[m.FollowerStatus]:
        return [
            m.FollowerStatus(
                id=broker,
                matched=p.matched,
                lag_ms=self._lag_ms(p, now),
                in_sync=broker in self.isr,
            )
            for broker, p in sorted(self.followers.items())
        ]

    def _lag_ms(self, p: Progress, now: float) -> int:
        if p.matched >= self.log.next - 1 or p.caught_up == float("-inf"):
            return 0
        return int((now - p.caught_up) * 1000)

    def _tell(self, event: str, **fields: object) -> None:
        self.out.append(e.Tell(event, {"epoch": self.epoch, **fields}))


def outside(view: m.ClusterView) -> list[tuple[int, str]]:
    """(id, inc) of the live brokers that are not whole members of the ISR."""
    return sorted(
        (b.id, b.inc)
        for b in view.brokers
        if b.live and (b.id not in view.isr or b.state != "whole")
    )
