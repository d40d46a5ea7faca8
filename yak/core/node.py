"""A broker without its world: it hears events and answers with effects, in order.

    node.hear(event, now)      any number of times: everything that arrived
    effects = node.act(now)    once: what follows from it

A *turn* is the two together.  Batching comes by itself: whatever arrived during a turn is heard
in the next one, appended in one write and acknowledged together.  The world carries the effects
out in their order, and says `Durable` when the log's new end is.

A broker has one of three roles, each a class of its own, so that no field exists where it means
nothing: Leader, Follower, or none (yak-zk has named no leader, or nobody has joined yet).

    rule          | here
    --------------+-------------------------------------------------------------------------
    new_epoch     | a broker never leads an epoch that it took part in before it restarted
    barrier       | clients are served once this epoch's `lead` is applied (`_open_desk`)
    one step      | taking the lead: stop following, persist the epoch, write `lead`
    verified      | State moves only up to the role's commit index, in order

Its turn, its roles and what it applies belong to one story, hence more than 400 lines.  It does
not look at a clock, at bytes, or at files.
"""

from __future__ import annotations

from typing import Final, assert_never

from yak import messages as m
from yak.config import Settings
from yak.core import events as e
from yak.core import ops
from yak.core.counts import Counts
from yak.core.damage import Damage
from yak.core.desk import Desk, Identity
from yak.core.follower import Follower
from yak.core.log import Log
from yak.core.pending import Pending
from yak.core.reads import Reads, leader_hint, metadata
from yak.core.replication import Leader
from yak.core.service import Standing, too_few
from yak.core.state import State
from yak.errors import Refused
from yak.model import Now, TopicPartition
from yak.protocol import error_answer

PROTOCOL_VERSION: Final = 1
#: Operations that one turn applies, so that a long replay does not hold up heartbeats: each may
#: need a directory and a file of its own, which can take a third of a millisecond.
APPLY_AT_ONCE: Final = 500
#: What depends on silence is looked at this often, at most and at least: in a turn that something
#: else asked for, so that an idle leader, which hears from yak-zk and its followers anyway, need
#: not wake for it.
BEAT_S: Final = 0.1
LATEST_BEAT_S: Final = 0.25
#: A stopping leader waits this long for what its clients wait for.
STOP_GRACE_S: Final = 5.0
#: Refusals that speak of this broker only, and need no lease.
OWN_REFUSALS: Final = frozenset({"NO_LEADER", "NOT_ENOUGH_REPLICAS", "OVERLOADED", "SHUTTING_DOWN"})
#: A resignation that was not heard is repeated after this long.
RESIGN_AGAIN_S: Final = 1.0


class Node:
    """One broker's logic."""

    def __init__(
        self, identity: Identity, log: Log, epoch: int, now: Now, state: State | None = None
    ) -> None:
        """state: as the last checkpoint has it; all of it is committed."""
        self.me = identity
        self.log = log
        #: The highest epoch that this broker has taken part in; persisted before it acts in it.
        self.epoch = epoch
        self.state = state or State()
        #: C.  Invariant: state.index <= committed < log.next; it never falls.
        self.committed = self.state.index
        self.view: m.ClusterView | None = None
        self.role: Leader | Follower | None = None
        self.lease_until = float("-inf")
        #: A session with yak-zk stands; without one nothing new is proposed.
        self.joined = False
        self.stopping = False
        #: acks=0 batches that were refused, since nobody was told.
        self.dropped = 0
        self.counts = Counts()
        self._out: list[e.Effect] = []
        self._reads = Reads(self.state, identity.limits, self._out)
        #: A leader's, from the barrier to stepping down.
        self._desk: Desk | None = None
        self._link = 0
        #: A Load is under way.
        self._loading = False
        self._roleless_since = now.mono
        self._next_beat = now.mono
        #: The epoch that this broker gives up, and why; said until yak-zk has heard it.
        self._resigning: tuple[int, str] | None = None
        self._resign_at = float("-inf")
        self._stop_by = float("inf")
        self._finished = False
        self._damage = Damage(self._out)
        #: Why nothing is applied: the partition files cannot take it.
        self._stuck: str | None = None

    # -- the turn --------------------------------------------------------------------------------

    def hear(self, event: e.Event, now: Now) -> None:
        """Take in one event; what follows from it comes out of the next `act`."""
        match event:
            case e.Asked():
                self._asked(event, now)
            case e.Closed():
                self._reads.closed(event.conn)
                if isinstance(self.role, Leader):
                    self.role.closed(event.conn, now.mono)
            case e.Copied():
                if isinstance(self.role, Follower):
                    self.role.copied(event, now.mono)
            case e.Joined() | e.ViewChanged():
                self._view_told(event, now)
            case e.LeaseRenewed():
                self._lease_renewed(event)
            case e.IsrAnswered():
                self._isr_answered(event, now)
            case e.LinkUp() | e.LinkDown() | e.FollowAnswered() | e.CopyHeard() | e.CopyDone():
                self._link_told(event, now)
            case (
                e.Durable()
                | e.Loaded()
                | e.LogCut()
                | e.FileDamaged()
                | e.StorageFailed()
                | e.FilesStuck()
                | e.TrimsFound()
            ):
                self._storage_told(event, now)
            case e.Stop():
                self.stopping = True
                self._stop_by = now.mono + STOP_GRACE_S
                self._reads.tick(float("inf"), cut_off=False)  # nobody waits for what will not come
            case e.CoordinatorLost():
                self.joined = False
                self._tell("coordinator_lost", reason=event.reason)
            case e.Tick():
                pass  # `act` sees to whatever time brings
            case _:
                assert_never(event)

    def _storage_told(self, event: e.StorageEvent, now: Now) -> None:
        match event:
            case e.Durable():
                self.log.durable = max(self.log.durable, min(event.index, self.log.next - 1))
                if self._desk:
                    self._desk.pending.durable(self.log.durable)
            case e.Loaded():
                self._loading = False
                self._apply(event.ops, now)
            case e.StorageFailed():
                self._storage_failed(event, now)
            case e.FilesStuck():
                self._stuck = event.reason
                if event.reason:
                    self._tell("applying_waits", reason=event.reason)
                else:
                    self._tell("applying_goes_on")
            case e.LogCut():
                self.log.first = event.first
            case e.FileDamaged():
                self._damage.found(event, self.role, now.mono)
            case e.TrimsFound():
                if self._desk:
                    self._desk.retention.found(event, now)
            case _:
                assert_never(event)

    def act(self, now: Now) -> list[e.Effect]:
        """Commit, apply, answer, and see to what time brings."""
        role = self.role
        if isinstance(role, Leader):
            role.advance()
        if role is not None:
            self.committed = max(self.committed, role.committed)
        assert self.committed < self.log.next
        self._apply_committed(now)
        if isinstance(role, Leader):
            role.shown = self.state.index
            role.tick(now.mono, may_propose=self.joined)
        elif isinstance(role, Follower):
            role.keep_up(self.state.index)
            if now.mono >= role.next_deadline():
                self._out.append(e.SaveEpoch(self.epoch))  # the disk may have refused it
            if role.tick(now.mono, self._link + 1):
                self._link += 1
        self._reads.tick(now.mono, cut_off=self._cut_off(now.mono))
        if self._desk:
            self._desk.pending.tick(now)
        if self._damage.must_resign(self.role, now.mono):
            self._resign(self.epoch, f"a file here is damaged: {self._damage.reason}")
        if now.mono >= self._next_beat:
            self._beat(now)
        self._finish(now)
        effects = self._out[:]
        self._out.clear()
        return effects

    def next_deadline(self) -> float:
        """When `act` has something to do again, if nothing happens before."""
        if self._has_more_to_apply():
            return float("-inf")
        deadline = self._reads.next_deadline()
        leads = self._desk is not None or isinstance(self.role, Leader)
        looks = leads or bool(self._damage.reason) or self._resigning is not None
        if looks or deadline < float("inf"):
            late = self._next_beat + LATEST_BEAT_S - BEAT_S
            deadline = min(deadline, late)  # an idle follower has nothing to look after
        if self.role is not None:
            deadline = min(deadline, self.role.next_deadline())
        if self._desk:
            deadline = min(deadline, self._desk.pending.next_deadline())
        return deadline

    def _beat(self, now: Now) -> None:
        """What depends on silence; a quarter of a second sooner or later does not matter."""
        self._next_beat = now.mono + BEAT_S
        if self._desk:
            self._desk.tick(now)
        role = self.role
        if isinstance(role, Leader):
            role.beat()
            if role.must_resign(now.mono):
                self._resign(role.epoch, "no live member of the ISR has followed for resign_ms")
            elif self._stuck and role.reachable(now.mono) > 1:
                self._resign(role.epoch, f"the disk refused: {self._stuck}")
        if self._resigning and now.mono >= self._resign_at:
            self._resign_at = now.mono + RESIGN_AGAIN_S
            self._out.append(e.Resign(*self._resigning))

    def _resign(self, epoch: int, reason: str) -> None:
        if self._resigning is None:
            self._resigning = (epoch, reason)
            self._resign_at = float("-inf")
            self._tell("resigning", epoch=epoch, reason=reason)

    def _finish(self, now: Now) -> None:
        """After Stop: once nobody waits, or has waited long enough."""
        if not self.stopping or self._finished:
            return
        if self._desk is None or self._desk.pending.idle or now.mono >= self._stop_by:
            self._step_down("this broker is shutting down")
            self._finished = True
            self._out.append(e.Finished())

    # -- requests --------------------------------------------------------------------------------

    def _asked(self, event: e.Asked, now: Now) -> None:
        try:
            self._answer(event, now)
        except Refused as refused:
            if isinstance(event.request, m.Produce) and event.request.acks == 0:
                self.dropped += 1
                return
            self._out.append(e.Reply(event.conn, event.request.id, error_answer(refused)))

    def _answer(self, asked: e.Asked, now: Now) -> None:
        """What any broker answers; the rest is the leader's."""
        request = asked.request
        match request:
            case m.Fetch():
                self._reads.fetch(asked.conn, request, now.mono, cut_off=self._cut_off(now.mono))
            case m.Metadata():
                answer = metadata(self.state, self.view, request, asked.dialled)
                self._out.append(e.Reply(asked.conn, request.id, answer))
            case m.Hello():
                self._out.append(e.Reply(asked.conn, request.id, self._hello(request)))
            case m.Status():
                self._out.append(e.Reply(asked.conn, request.id, self.status(now)))
            case m.Follow() | m.Replicate() | m.Copy():
                self._answer_follower(asked, request, now)
            case _:
                self._decide(asked, request, now)

    def _decide(self, asked: e.Asked, request: m.ClientRequest, now: Now) -> None:
        """What the leader alone answers.

        Its refusals say what the cluster knows ("a gap", "no such member"), and are not
        answered at commit: a leader that was replaced unawares would refuse what is right.
        """
        desk = self._leading_desk(asked, now)
        try:
            desk.answer(asked, request, now)
        except Refused as refused:
            silent = isinstance(request, m.Produce) and request.acks == 0
            if silent or refused.name in OWN_REFUSALS:
                raise
            desk.service.reply_leased(asked, error_answer(refused), now)

    def _leading_desk(self, asked: e.Asked, now: Now) -> Desk:
        """The leader's desk.  Raises Refused where this broker may not decide."""
        if self._desk is not None:
            return self._desk
        if self.stopping:
            raise Refused("SHUTTING_DOWN", f"broker {self.me.id} is shutting down")
        if isinstance(self.role, Leader):
            standing = self._standing(now)
            if standing.reachable < standing.required:
                raise Refused("NOT_ENOUGH_REPLICAS", too_few(standing))
            raise Refused(
                "NO_LEADER", f"broker {self.me.id} is taking the lead of epoch {self.epoch}"
            )
        hint = leader_hint(self.view, asked.dialled)
        if self.view is None or hint is None or hint.id == self.me.id:
            raise Refused("NO_LEADER", "no leader is known at present; ask again in a moment")
        raise Refused(
            "NOT_LEADER",
            f"broker {hint.id} leads since epoch {self.view.epoch}, at {hint.host}:{hint.port}",
            leader=hint,
        )

    def _answer_follower(self, asked: e.Asked, request: m.PeerRequest, now: Now) -> None:
        if not isinstance(self.role, Leader):
            raise Refused("STALE_EPOCH", f"broker {self.me.id} does not lead epoch {request.epoch}")
        if isinstance(request, m.Follow):
            self.role.follow(asked.conn, request, now.mono)
        elif isinstance(request, m.Copy):
            self.role.copy(asked.conn, request, now.mono)
        else:
            self.role.replicate(asked.conn, request, now.mono)

    def _hello(self, request: m.Hello) -> m.HelloAnswer:
        if request.protocol != PROTOCOL_VERSION:
            raise Refused(
                "UNSUPPORTED_VERSION",
                f"protocol {request.protocol} is not spoken here; {PROTOCOL_VERSION} is",
            )
        return m.HelloAnswer(
            protocol=PROTOCOL_VERSION,
            broker=self.me.id,
            cluster=self.view.cluster if self.view else None,
            version=self.me.version,
        )

    def max_batch_bytes(self, topic: str) -> int:
        """The largest batch that would be taken now, if everything else is right; 0: none is."""
        known = self._desk.service.tail.topics.get(topic) if self._desk else None
        if known is None:
            return 0
        most: int = known.config.get("max_batch_bytes", self.me.limits.max_batch_bytes)
        return most

    def wanted(self) -> int:
        """The lowest index that a connected follower still wants."""
        return self.role.wanted if isinstance(self.role, Leader) else self.log.next

    @property
    def uncommitted_bytes(self) -> int:
        """What a leader has written and not yet seen committed."""
        return self._desk.pending.bytes if self._desk else 0

    def status(self, now: Now) -> m.StatusAnswer:
        """This broker's own view of itself; the shell adds what only it knows."""
        view, role, me = self.view, self.role, self.me.id
        leads = isinstance(role, Leader)
        return m.StatusAnswer(
            broker=me,
            inc=self.me.inc,
            cluster=view.cluster if view else None,
            role=self._role_name(),
            epoch=view.epoch if view else self.epoch,
            leader=view.leader if view else None,
            isr=list(view.isr) if view else [],
            state=next((b.state for b in view.brokers if b.id == me), "whole") if view else "whole",
            log_start=self.log.first,
            log_end=self.log.next,
            committed=self.committed,
            applied=self.state.index,
            lease_ms=int((self.lease_until - now.mono) * 1000)
            if leads and now.mono < self.lease_until
            else 0,
            followers=role.status(now.mono) if isinstance(role, Leader) else [],
            topics=len(self.state.topics),
            partitions=len(self.state.ends),
            groups=len(self.state.groups),
            producers=len(self.state.producers),
            dropped=self.dropped,
        )

    def _role_name(self) -> str:
        if self.stopping:
            return "stopping"
        match self.role:
            case Leader():
                return "leader" if self._desk else "taking the lead"
            case Follower():
                return "follower"
            case None:
                return "starting" if self.view is None else "leaderless"

    # -- the coordinator's word ------------------------------------------------------------------

    def _view_told(self, event: e.Joined | e.ViewChanged, now: Now) -> None:
        view, old = event.view, self.view
        self.joined = True
        if old is not None and (view.epoch, view.version) < (old.epoch, old.version):
            self._tell("late_view_dropped", epoch=view.epoch, version=view.version)
            return
        if old is None:
            self._out.append(e.SaveCluster(view.cluster))
        self.view = view
        if self._resigning and (view.epoch, view.leader) != (self._resigning[0], self.me.id):
            self._resigning = None
        role = self.role
        if role is not None and (role.epoch, self._leader_of(role)) == (view.epoch, view.leader):
            if isinstance(role, Leader):
                role.view_changed(view, now.mono)
                if isinstance(event, e.Joined):
                    role.propose_again()
            else:
                role.view_changed(view)
            return
        self._step_down(f"yak-zk says that {view.leader or 'nobody'} leads epoch {view.epoch}")
        self._roleless_since = now.mono
        if self.stopping or view.leader is None:
            return
        if view.leader != self.me.id:
            self._follow(view, now)
        elif view.epoch > self.epoch:
            self._lead(view, now)
        elif self._resigning is None:
            self._tell("lead_refused", epoch=view.epoch, reason="this broker was restarted since")

    def _leader_of(self, role: Leader | Follower) -> int:
        return self.me.id if isinstance(role, Leader) else role.leader

    def _enter(self, epoch: int) -> None:
        if epoch > self.epoch:
            self.epoch = epoch
            self._out.append(e.SaveEpoch(epoch))

    def _lead(self, view: m.ClusterView, now: Now) -> None:
        """One step: we follow nobody any more; persist the epoch; write `lead`."""
        self._enter(view.epoch)
        self.role = Leader(self.me.id, view, self.log, self.committed, self._out, now.mono)
        lead = ops.Lead(
            index=self.log.next,
            epoch=view.epoch,
            time=max(self.log.time, now.wall_ms),
            broker=self.me.id,
        )
        self.log.append(lead)
        self._out.append(e.AppendOp(lead))
        self._tell("leading", epoch=view.epoch, index=lead.index, isr=list(view.isr))

    def _follow(self, view: m.ClusterView, now: Now) -> None:
        self._enter(view.epoch)
        self._link += 1
        self.role = Follower(
            self.me.id, self.me.inc, view, self.log, self._link, self._out, now.mono
        )

    def _step_down(self, why: str) -> None:
        """Leave the present role; whoever waits is told that the outcome is unknown."""
        if isinstance(self.role, Follower):
            self._out.append(e.Undial(self.role.link))
        elif isinstance(self.role, Leader):
            self._tell("stepped_down", epoch=self.role.epoch, reason=why)
            self.role.end(why)
        if self._desk:
            self._desk.pending.abandon(why)
        self._desk = None
        self.role = None

    def _lease_renewed(self, event: e.LeaseRenewed) -> None:
        lease = (self.view.settings if self.view else Settings()).lease_ms / 1000
        self.lease_until = max(self.lease_until, event.sent + lease)
        if self._desk:
            self._desk.pending.lease_until = self.lease_until

    def _isr_answered(self, event: e.IsrAnswered, now: Now) -> None:
        if not event.ok:
            self._tell("isr_refused", version=event.version, reason=event.message)
        if isinstance(self.role, Leader):
            self.role.isr_answered(event.version, ok=event.ok, now=now.mono)

    # -- the link to the leader ------------------------------------------------------------------

    def _link_told(self, event: e.LinkEvent, now: Now) -> None:
        role = self.role
        if not isinstance(role, Follower):
            return
        match event:
            case e.LinkUp():
                role.link_up(event.link)
            case e.LinkDown():
                role.link_down(event.link, event.reason, now.mono)
            case e.FollowAnswered():
                role.follow_answered(event, self.committed, now.mono)
            case e.CopyHeard():
                role.copy_heard(event.link, now.mono)
            case e.CopyDone():
                role.copy_done(event, now.mono)

    # -- apply -----------------------------------------------------------------------------------

    def _apply_committed(self, now: Now) -> None:
        """Make what is committed real, a bounded piece a turn."""
        recent, state = self.log.recent, self.state
        if not self._has_more_to_apply():
            return
        if not recent or recent[0].index > state.index + 1:
            # After a restart the log is longer than what is in memory.
            last = min(self.committed, state.index + APPLY_AT_ONCE)
            if recent:
                last = min(last, recent[0].index - 1)
            self._loading = True
            self._out.append(e.Load(state.index + 1, last))
            return
        count = min(self.committed - state.index, APPLY_AT_ONCE)
        self._apply([recent.popleft() for _ in range(count)], now)

    def _has_more_to_apply(self) -> bool:
        waits = self._loading or self._stuck is not None
        return not waits and self.state.index < self.committed

    def _apply(self, batch: list[ops.Op], now: Now) -> None:
        """In pieces that end with a deletion: whoever waits for that topic hears of it, even if
        the next operation makes it again."""
        first = 0
        for number, op in enumerate(batch, 1):
            if isinstance(op, ops.DeleteTopic) or number == len(batch):
                self._apply_piece(batch[first:number], now)
                first = number

    def _apply_piece(self, batch: list[ops.Op], now: Now) -> None:
        """State first, then the files, then the answers: nobody hears of what is not there."""
        touched: dict[TopicPartition, None] = {}
        for op in batch:
            assert op.index <= self.committed
            if isinstance(op, ops.DeleteTopic):
                touched.update(dict.fromkeys(self.state.topic_partitions(op.topic)))
            self.state.apply(op)
            if isinstance(op, ops.Append):
                touched[op.topic, op.partition] = None
        self._out.append(e.Apply(batch))
        if self._desk:
            for op in batch:
                self._desk.pending.applied(op)
        if touched:
            self._reads.wake(touched)
        role = self.role
        if isinstance(role, Leader) and self._desk is None and self.state.index >= role.start:
            # The barrier: all that this leader inherited, and its `lead`, is applied.
            pending = Pending(role.epoch, self.state, self.log, self._out)
            pending.lease_until = self.lease_until
            self._desk = Desk.open(pending, self.me, self._standing, now, self.counts)
            self._tell("serving", epoch=role.epoch, index=self.state.index)

    def _standing(self, now: Now) -> Standing:
        role = self.role
        assert isinstance(role, Leader)
        return Standing(
            reachable=role.reachable(now.mono),
            required=role.settings.min_insync_replicas,
            lease_until=self.lease_until,
            stopping=self.stopping,
        )

    def _cut_off(self, now: float) -> bool:
        """Whether this replica has been without its leader for longer than the session."""
        if isinstance(self.role, Follower):
            return self.role.cut_off(now)
        if isinstance(self.role, Leader):
            return False
        settings = self.view.settings if self.view else Settings()
        return now - self._roleless_since > settings.session_ms / 1000

    def _storage_failed(self, event: e.StorageFailed, now: Now) -> None:
        """The disk refused: acknowledge nothing of it, and let another broker lead."""
        role = self.role
        self._tell("storage_failed", reason=event.message, end=event.end)
        if isinstance(role, Leader):
            self._resign(role.epoch, f"the disk refused: {event.message}")
            if self._desk:
                self._desk.pending.refused(event.end, f"{event.message}; send it again")
            self._step_down(f"the disk refused: {event.message}")
            self._roleless_since = now.mono
        self.log.truncate(event.end + 1)
        if isinstance(role, Follower):
            role.disk_refused(f"the disk refused: {event.message}", now.mono)

    def _tell(self, event: str, **fields: object) -> None:
        self._out.append(e.Tell(event, fields))
