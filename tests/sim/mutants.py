"""Mutants: each takes one rule of safety out of the real code, and the simulator must notice.

A mutant is a patch that tests apply for the length of a run; production code has no switches.
What it remembers of an object it keeps by the object itself, not by its `id`, which the next run's
objects may get anew: a run must be a function of its seed with a mutant, too.
`RULES` names them as the design does; `SCENT` says where each is found soonest.  `hunt` tries
seeds until one finds the break.

    commit    commit_all_isr  self_durable  ack_durable  verified_commit
    log       truncate  truncate_epoch  truncate_deep  match_reset  fence_follower
    ISR       expand_first  expand_keep  expand_start  expand_inc  shrink_after  floor  fence_zk
    election  elect_isr  new_epoch  unclean_out  zk_durable  zk_grace
    clients   barrier  lease  dedupe_tail  dup_ack_wait  seq_gap

One of them is a second line (`BEFORE`): yak-zk's compare-and-set on the version already refuses a
proposal that names an older incarnation, since what makes that dangerous (it came back without its
tail) is a change of the document.  So the two are taken out together, and the test shows that
either alone holds.

Those of checkpoints, copies and groups are upkeep_mutants.py's; of joins and elections,
join_mutants.py's; of what is not committed yet, pending_mutants.py's; of disks, disk_mutants.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from tests.sim.world import Result, run, setup_of
from tests.sim.zk import SimZk
from yak import messages as m
from yak.core import election, joins
from yak.core import events as e
from yak.core.coordinator import Coordinator
from yak.core.desk import Desk
from yak.core.document import Document, Known, Liveness, Present, Replica
from yak.core.follower import Follower
from yak.core.log import Log
from yak.core.node import Node
from yak.core.pending import Pending
from yak.core.replication import Leader, Progress
from yak.core.service import Service, Standing
from yak.errors import Refused
from yak.model import Now
from yak.storage.data_dir import write_json_durably

Patch = AbstractContextManager[object]
INFINITY: Final = float("inf")


def hunt(mutant: Callable[[], Patch], seeds: range, area: str = "") -> Result | None:
    """The first run in which the simulator notices that the rule is out."""
    for seed in seeds:
        with mutant():
            result = run(seed, setup_of(seed, area))
        if result.fault:
            return result
    return None


# -- Commit ---------------------------------------------------------------------------------------


def commit_all_isr() -> Patch:
    """C is what min_insync_replicas of R hold, not what all of R hold."""

    def advance(self: Leader) -> None:
        floor = self.settings.min_insync_replicas
        held = sorted((self._position(b) for b in self.required), reverse=True)
        if len(held) >= floor:
            self.committed = max(self.committed, held[floor - 1])

    return patch.object(Leader, "advance", advance)


def self_durable() -> Patch:
    """The leader counts itself up to what it has written, synced or not."""
    position = Leader._position

    def mutant(self: Leader, broker: int) -> int:
        return self.log.next - 1 if broker == self.me else position(self, broker)

    def committed(self: Node, now: Now) -> list[e.Effect]:
        self.log.durable = self.log.next - 1
        return act(self, now)

    act = Node.act
    return both(
        patch.object(Leader, "_position", mutant),
        patch.object(Node, "act", _for_leaders(committed, act)),
    )


def _for_leaders(
    mutant: Callable[[Node, Now], list[e.Effect]], usual: Callable[[Node, Now], list[e.Effect]]
) -> Callable[[Node, Now], list[e.Effect]]:
    def act(self: Node, now: Now) -> list[e.Effect]:
        return mutant(self, now) if isinstance(self.role, Leader) else usual(self, now)

    return act


def ack_durable() -> Patch:
    """A follower acknowledges what it has written, synced or not."""
    act = Node.act

    def mutant(self: Node, now: Now) -> list[e.Effect]:
        if isinstance(self.role, Follower):
            self.log.durable = self.log.next - 1
        return act(self, now)

    return patch.object(Node, "act", mutant)


def verified_commit() -> Patch:
    """A follower takes its leader's C as soon as the link stands."""
    told: dict[int, int] = {}
    advance, link_up = Leader.advance, Follower.link_up

    def tells(self: Leader) -> None:
        advance(self)
        told[self.epoch] = self.committed

    def takes(self: Follower, link: int) -> None:
        link_up(self, link)
        if link == self.link:
            self._leader_committed = max(self._leader_committed, told.get(self.epoch, 0))

    return both(patch.object(Leader, "advance", tells), patch.object(Follower, "link_up", takes))


# -- The log --------------------------------------------------------------------------------------


def truncate() -> Patch:
    """The follower keeps what it has."""

    def mutant(self: Log, epochs: Any, next_: int) -> int:
        return min(self.next, next_)

    return patch.object(Log, "common_prefix", mutant)


def truncate_epoch() -> Patch:
    """The follower cuts its log to its own C, whatever it had acknowledged beyond."""
    act = Node.act

    def mutant(self: Node, now: Now) -> list[e.Effect]:
        effects = act(self, now)
        for effect in effects:
            if isinstance(effect, e.SendFollow):
                effect.next = self.committed + 1
                effect.epochs = [one for one in effect.epochs if one[1] <= self.committed]
        return effects

    return patch.object(Node, "act", mutant)


def truncate_deep() -> Patch:
    """Only the last epoch is compared: its end here, and no look below."""

    def mutant(self: Log, epochs: Any, next_: int) -> int:
        last = epochs[-1][0] if epochs else 0
        ends = [first for epoch, first in self.epochs if epoch > last]
        return int(min(next_, ends[0] if ends else self.next))

    return patch.object(Log, "common_prefix", mutant)


def match_reset() -> Patch:
    """What a follower had acknowledged on an older connection counts on."""
    best: WeakKeyDictionary[Leader, dict[int, int]] = WeakKeyDictionary()
    position = Leader._position

    def mutant(self: Leader, broker: int) -> int:
        known = best.setdefault(self, {})
        known[broker] = max(known.get(broker, 0), position(self, broker))
        return known[broker]

    joining = Leader._joining

    def joins(self: Leader) -> tuple[int, Progress] | None:
        for broker, progress in self.followers.items():
            known = best.get(self, {}).get(broker, 0)
            progress.matched = max(progress.matched, known)
        return joining(self)

    return both(
        patch.object(Leader, "_position", mutant),
        patch.object(Leader, "_joining", joins),
        patch.object(Leader, "replicate", _lenient(Leader.replicate)),
    )


def _lenient(replicate: Callable[[Leader, int, m.Replicate, float], None]) -> Any:
    """`replicate` from below what was matched is no error here."""

    def mutant(self: Leader, conn: int, request: m.Replicate, now: float) -> None:
        progress = self.followers.get(request.broker)
        if progress is not None:
            progress.matched = min(progress.matched, request.from_ - 1)
        replicate(self, conn, request, now)

    return mutant


def fence_follower() -> Patch:
    """Frames of other epochs are followed like those of one's own."""

    def any_epoch(self: Leader, epoch: int) -> None:
        pass

    answered, copied = Follower.follow_answered, Follower.copied

    def follows(self: Follower, event: e.FollowAnswered, committed: int, now: float) -> None:
        if event.answer is not None:
            event.answer.epoch = self.epoch
        answered(self, event, committed, now)

    def copies(self: Follower, event: e.Copied, now: float) -> None:
        event.answer.epoch = self.epoch
        copied(self, event, now)

    return both(
        patch.object(Leader, "_fence", any_epoch),
        patch.object(Follower, "follow_answered", follows),
        patch.object(Follower, "copied", copies),
    )


# -- The ISR --------------------------------------------------------------------------------------


def expand_first() -> Patch:
    """A joining follower is waited for only once yak-zk has confirmed it."""
    return patch.object(Leader, "required", property(lambda self: self.isr))


def expand_keep() -> Patch:
    """A proposal that was not answered in 100 ms is taken for refused."""
    tick = Leader.tick

    def mutant(self: Leader, now: float, *, may_propose: bool) -> None:
        proposal = self.proposal
        known, since = vars(self).get("_asked_at", (None, now))
        if known is not proposal:
            since = now
        vars(self)["_asked_at"] = (proposal, since)
        if proposal is not None and now > since + 0.1:
            self.isr_answered(proposal.version, ok=False, now=now)
        tick(self, now, may_propose=may_propose)

    return patch.object(Leader, "tick", mutant)


def expand_start() -> Patch:
    """A follower may join before it holds what the leader inherited."""
    joining = Leader._joining

    def mutant(self: Leader) -> tuple[int, Progress] | None:
        start, self.start = self.start, 0
        try:
            return joining(self)
        finally:
            self.start = start

    return patch.object(Leader, "_joining", mutant)


def expand_inc() -> Patch:
    """yak-zk does not look whether the process that caught up is the one that is there."""

    def mutant(
        document: Document,
        before: set[int],
        request: m.ProposeIsr,
        present: Mapping[int, Present],
    ) -> set[int]:
        for broker in set(request.isr) - before - set(present):
            raise Refused("STALE_EPOCH", f"broker {broker} has no session")
        return {int(i) for i in request.incs} & set(present)

    return patch.object(election, "_check_incs", mutant)


def fence_version() -> Patch:
    """An ISR change is taken on top of whatever the document has become since it was proposed."""
    check = election._check_fence

    def mutant(document: Document, broker: int, request: m.ProposeIsr) -> None:
        check(replace(document, version=request.version), broker, request)

    return patch.object(election, "_check_fence", mutant)


def shrink_after() -> Patch:
    """A leaving follower is no longer waited for as soon as its leaving is proposed."""
    propose = Leader._propose

    def mutant(
        self: Leader, isr: frozenset[int], incs: dict[int, str], why: str, broker: int
    ) -> None:
        propose(self, isr, incs, why, broker)
        self.isr &= isr

    return patch.object(Leader, "_propose", mutant)


def floor() -> Patch:
    """The ISR may shrink to the leader alone."""
    leaving, consider = Leader._leaving, Leader.consider_isr

    def mutant(self: Leader, now: float) -> None:
        consider(self, now)
        if self.proposal is None and now >= self._propose_after:
            found = leaving(self, now)
            if found is not None:
                self._propose(self.isr - {found[0]}, {}, found[1], found[0])

    return both(
        patch.object(Leader, "consider_isr", mutant),
        patch.object(election, "_check_floor", lambda *_: None),
    )


def fence_zk() -> Patch:
    """yak-zk takes an ISR from whoever once had a session, on top of whatever it saw.

    A session's end alone would keep out what a former leader proposes; so that goes, too.
    """
    heard: WeakKeyDictionary[Coordinator, dict[int, int]] = WeakKeyDictionary()
    broker, carry_out = Coordinator._broker, SimZk._carry_out

    def anybody(self: Coordinator, conn: int) -> int:
        known = heard.setdefault(self, {})
        try:
            known[conn] = broker(self, conn)
        except Refused:
            if conn not in known:
                raise
        return known[conn]

    def patient(self: SimZk, effect: Any) -> None:
        if not isinstance(effect, e.HangUp):
            carry_out(self, effect)

    def propose(self: Coordinator, conn: int, request: m.ProposeIsr, now: Now) -> Any:
        with patch.object(Coordinator, "_broker", anybody):
            return proposed(self, conn, request, now)

    def beats(self: Coordinator, conn: int, request: Any, now: Now) -> Any:
        if isinstance(request, m.Beat):
            heard.setdefault(self, {})[conn] = broker(self, conn)
        return asked(self, conn, request, now)

    proposed, asked = Coordinator._propose, Coordinator._asked
    return both(
        patch.object(election, "_check_fence", lambda *_: None),
        patch.object(Coordinator, "_propose", propose),
        patch.object(Coordinator, "_asked", beats),
        patch.object(SimZk, "_carry_out", patient),
    )


# -- Election -------------------------------------------------------------------------------------


def elect_isr() -> Patch:
    """The lowest live id leads, in sync or not."""
    enthrone = election.enthrone

    def choose(document: Document, alive: Liveness) -> tuple[int, str] | None:
        return (min(alive.present), "the lowest live id") if alive.present else None

    def enthrones(document: Document, alive: Liveness, broker: int, *rest: Any) -> Any:
        if broker not in document.isr_ids:
            isr = (*document.isr, Replica(broker, alive.present[broker].disk))
            document = replace(document, isr=tuple(sorted(isr, key=lambda one: one.id)))
        return enthrone(document, alive, broker, *rest)

    return both(
        patch.object(election, "choose", choose), patch.object(election, "enthrone", enthrones)
    )


def new_epoch() -> Patch:
    """A leader that was restarted goes on in its old epoch."""
    lost, told = election._lost, Node._view_told

    def mutant(document: Document, leader: int, alive: Liveness) -> str:
        session = alive.present.get(leader)
        if session is not None:
            document = replace(document, leader_inc=session.inc)
        return lost(document, leader, alive)

    def leads_again(self: Node, event: e.Joined | e.ViewChanged, now: Now) -> None:
        if self.role is None and event.view.leader == self.me.id:
            self.epoch = min(self.epoch, event.view.epoch - 1)
        told(self, event, now)

    return both(
        patch.object(election, "_lost", mutant), patch.object(Node, "_view_told", leads_again)
    )


def unclean_out() -> Patch:
    """Whoever may have lost its page cache is as good as any."""
    suspicion = joins._suspicion

    def mutant(document: Document, request: m.Join, before: Known) -> Any:
        if request.state == "unclean":
            request.state = "whole"
        return suspicion(document, request, before)

    return patch.object(joins, "_suspicion", mutant)


def zk_durable() -> Patch:
    """yak-zk writes down what it decided only with its next decision."""
    late: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def mutant(disk: Any, path: str, content: Any) -> None:
        before, late[disk] = late.get(disk), content
        if before is not None:
            write_json_durably(disk, path, before)

    return patch("tests.sim.zk.write_json_durably", mutant)


def zk_grace() -> Patch:
    """A yak-zk that was just started takes whom it has not heard of for dead."""
    init = Coordinator.__init__

    def mutant(self: Coordinator, document: Document, *rest: Any, **more: Any) -> None:
        init(self, document, *rest, **more)
        self._presumed.clear()
        self._grace_until = 0.0

    return patch.object(Coordinator, "__init__", mutant)


# -- Clients --------------------------------------------------------------------------------------


def barrier() -> Patch:
    """A new leader serves at once, before what it inherited is committed."""
    lead = Node._lead

    def mutant(self: Node, view: m.ClusterView, now: Now) -> None:
        lead(self, view, now)
        index, self.state.index = self.state.index, self.log.next - 1
        pending = Pending(view.epoch, self.state, self.log, self._out)
        self.state.index = index
        self._desk = Desk.open(pending, self.me, self._standing, now)

    return patch.object(Node, "_lead", mutant)


def lease() -> Patch:
    """A leader needs no lease to speak for the cluster."""
    standing = Node._standing

    def mutant(self: Node, now: Now) -> Standing:
        found = standing(self, now)
        return Standing(found.reachable, found.required, INFINITY, found.stopping)

    return patch.object(Node, "_standing", mutant)


def dedupe_tail() -> Patch:
    """Duplicates are looked up in what is committed only."""
    duplicate = Service._is_duplicate

    def mutant(self: Service, *rest: Any) -> bool:
        tail = self.tail
        shown = SimpleNamespace(producers=tail.producers, batches=self.state.batches)
        vars(self)["tail"] = shown
        try:
            return duplicate(self, *rest)
        finally:
            self.tail = tail

    return patch.object(Service, "_is_duplicate", mutant)


def dup_ack_wait() -> Patch:
    """A duplicate is answered at once, committed or not."""
    duplicate = Service._is_duplicate

    def mutant(self: Service, *rest: Any) -> bool:
        index, self.state.index = self.state.index, self.pending.last
        try:
            return duplicate(self, *rest)
        finally:
            self.state.index = index

    return patch.object(Service, "_is_duplicate", mutant)


def seq_gap() -> Patch:
    """A sequence is taken though the one before it is not in the log."""
    duplicate = Service._is_duplicate

    def mutant(self: Service, *rest: Any) -> bool:
        try:
            return duplicate(self, *rest)
        except Refused as refused:
            if refused.name != "OUT_OF_ORDER_SEQUENCE":
                raise
            return False

    return patch.object(Service, "_is_duplicate", mutant)


@contextmanager
def both(*patches: Patch) -> Iterator[None]:
    first, *rest = patches
    with first:
        if rest:
            with both(*rest):
                yield
        else:
            yield


RULES: Final[dict[str, Callable[[], Patch]]] = {
    mutant.__name__: mutant
    for mutant in (
        commit_all_isr,
        self_durable,
        ack_durable,
        verified_commit,
        truncate,
        truncate_epoch,
        truncate_deep,
        match_reset,
        fence_follower,
        expand_first,
        expand_keep,
        expand_start,
        expand_inc,
        shrink_after,
        floor,
        fence_zk,
        elect_isr,
        new_epoch,
        unclean_out,
        zk_durable,
        zk_grace,
        barrier,
        lease,
        dedupe_tail,
        dup_ack_wait,
        seq_gap,
    )
}
#: The area of faults, or the scene, that reveals a rule's absence, and a seed from which on it is
#: not far.
SCENT: Final[dict[str, tuple[str, int]]] = {
    "commit_all_isr": ("mixed", 53),
    "self_durable": ("self_durable", 1),
    "ack_durable": ("ack_durable", 1),
    "verified_commit": ("takeover", 2),
    "truncate": ("takeover", 2),
    "truncate_epoch": ("mixed", 1),
    "truncate_deep": ("mixed", 89),
    "match_reset": ("power", 9),
    "fence_follower": ("fence_follower", 1),
    "expand_first": ("isr", 72),
    "expand_keep": ("isr", 81),
    "expand_start": ("isr", 118),
    "expand_inc": ("expand_inc", 1),
    "shrink_after": ("isr", 17),
    "floor": ("mixed", 2),
    "fence_zk": ("fence_zk", 1),
    "elect_isr": ("mixed", 27),
    "new_epoch": ("mixed", 4),
    "unclean_out": ("power", 30),
    "zk_durable": ("mixed", 9),
    "zk_grace": ("takeover", 5),
    "barrier": ("takeover", 6),
    "lease": ("takeover", 4),
    "dedupe_tail": ("mixed", 12),
    "dup_ack_wait": ("mixed", 27),
    "seq_gap": ("mixed", 152),
}
#: What stands before a rule, and goes with it: neither is missed while the other is there.
BEFORE: Final[dict[str, Callable[[], Patch]]] = {"expand_inc": fence_version}


if __name__ == "__main__":
    raise SystemExit(import_module("tests.sim.mutant_table").main())
