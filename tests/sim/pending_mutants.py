"""Mutants of what a leader decides on before it is committed, and of time.

    Pending   pending_offsets  pending_topics  pending_generations  pending_dropped  pending_empty
               pending_untold
    time      wall_time  lease_leaves

That sequences are looked up in Pending is `dedupe_tail` of mutants.py.  Without `lease_leaves` no
answer is wrong that was asked for in time, only late: it was right when its leader last looked at
its lease.  That it leaves all the same, after others have committed more, is what `leased` of the
judge says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

from tests.sim.mutants import Patch, both
from yak import messages as m
from yak.carrier import Carrier
from yak.core import events as e
from yak.core import groups, ops
from yak.core.log import Log
from yak.core.membership import Membership
from yak.core.node import Node
from yak.core.pending import Pending
from yak.core.service import Service
from yak.core.state import State, Topic
from yak.core.topics import Topics
from yak.model import Now

# -- Pending --------------------------------------------------------------------------------------


class _Tail:
    """The leader's tail, of which some parts are as committed."""

    def __init__(self, tail: State, **committed: Any) -> None:
        self._tail = tail
        vars(self).update(committed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tail, name)


def pending_offsets() -> Patch:
    """The next offset is looked up in what is committed."""
    produce = Service.produce

    def mutant(self: Service, *rest: Any) -> None:
        tail, vars(self)["tail"] = self.tail, _Tail(self.tail, ends=self.state.ends)
        try:
            produce(self, *rest)
        finally:
            self.tail = tail

    return patch.object(Service, "produce", mutant)


def pending_topics() -> Patch:
    """Whether a topic is there is looked up in what is committed."""
    missing = Topics.missing

    def mutant(self: Topics, names: list[str], *, auto_create: bool) -> list[str]:
        tail, vars(self)["tail"] = self.tail, _Tail(self.tail, topics=self.state.topics)
        try:
            return missing(self, names, auto_create=auto_create)
        finally:
            self.tail = tail

    return patch.object(Topics, "missing", mutant)


def pending_generations() -> Patch:
    """A group is shared out as it is committed, under the generation after that."""

    def mutant(self: Membership, names: Any, now: Now) -> None:
        for name in sorted(names):
            generation = self.state.group(name).generation + 1
            owners = groups.shared_out(self.state, name, generation)
            self.pending.append(ops.Assign, now, group=name, generation=generation, owners=owners)

    return patch.object(Membership, "share_out", mutant)


def pending_dropped() -> Patch:
    """Who waits for an index waits on when the leader steps down, for whatever comes there."""
    kept: dict[int, list[Pending]] = {}
    step_down, apply = Node._step_down, Node._apply_piece

    def steps_down(self: Node, why: str) -> None:
        if self._desk:
            kept.setdefault(id(self), []).append(self._desk.pending)
        step_down(self, why)

    def applies(self: Node, batch: list[ops.Op], now: Now) -> None:
        apply(self, batch, now)
        for pending in kept.get(id(self), ()):
            for op in batch:
                for waiting in pending._waiting.pop(op.index, ()):
                    pending._answer(waiting)

    return both(
        patch.object(Node, "_step_down", steps_down),
        patch.object(Node, "_apply_piece", applies),
        patch.object(Pending, "abandon", lambda *_: None),
    )


def pending_empty() -> Patch:
    """Who leads again goes on with what it had pending when it led before."""
    kept: dict[int, State] = {}
    init = Pending.__init__

    def mutant(self: Pending, epoch: int, state: State, log: Log, out: list[e.Effect]) -> None:
        init(self, epoch, state, log, out)
        self.tail = kept.setdefault(id(log), self.tail)

    return patch.object(Pending, "__init__", mutant)


def pending_untold() -> Patch:
    """The answer to a duplicate tells of partitions that are not committed."""

    def mutant(_: Service, __: m.Produce, topic: Topic) -> int:
        return topic.partitions

    return patch.object(Service, "_partitions", mutant)


# -- Time -----------------------------------------------------------------------------------------


def wall_time() -> Patch:
    """An operation has the time of its leader's clock, whatever stands before it."""
    append = Pending.append

    def mutant(self: Pending, kind: type[Any], now: Now, *rest: Any, **fields: Any) -> ops.Op:
        self.log.time = 0
        return append(self, kind, now, *rest, **fields)

    return patch.object(Pending, "append", mutant)


def lease_leaves() -> Patch:
    """The lease is looked at when a request is admitted, and not when its answer leaves."""

    def mutant(self: Carrier, conn: int, id_: m.RequestId, answer: m.Answer, until: float) -> None:
        self._reply(conn, id_, answer)

    return patch.object(Carrier, "_reply_leased", mutant)


RULES: Final[dict[str, Callable[[], Patch]]] = {
    mutant.__name__: mutant
    for mutant in (
        pending_offsets,
        pending_topics,
        pending_generations,
        pending_dropped,
        pending_empty,
        pending_untold,
        wall_time,
        lease_leaves,
    )
}
#: As in mutants.py.
SCENT: Final[dict[str, tuple[str, int]]] = {
    "pending_offsets": ("mixed", 1),
    "pending_topics": ("topics", 5),
    "pending_generations": ("topics", 2),
    "pending_dropped": ("takeover", 14),
    "pending_empty": ("takeover", 3),
    "pending_untold": ("", 804947),
    "wall_time": ("mixed", 7),
    "lease_leaves": ("lease_leaves", 1),
}
