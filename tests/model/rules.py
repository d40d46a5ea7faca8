"""The rules of safety that the model knows, and what it is told to search: a scene.

Each rule is a line in the design, a place in yak/core, and a switch here.  With a rule off, the
search must find a run that breaks a promise: else the rule carries no weight, or the model is
blind for it.  The names are those of yak/core and of tests/sim/mutants.py.

What it does not do: it takes no step; those are the other modules'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.model.state import (
    FOLLOWER,
    LEADER,
    NOBODY,
    NOT_TOLD,
    WHOLE,
    Broker,
    Faults,
    State,
    Zk,
    link,
)

RULES: Final[dict[str, str]] = {
    # Copying and fencing.
    "fence_follower": "a follower serves only the leader of the epoch that it knows",
    "fence_zk": "an ISR change comes from the sitting leader, in its epoch, or is refused",
    "new_epoch": "a leader that was restarted gets a new epoch, never its old one",
    "truncate": "a follower truncates at all before it appends",
    "truncate_epoch": "it truncates to the common prefix by epochs, not to its commit index",
    "truncate_deep": "truncation looks below the last epoch, too",
    "commit_all_isr": "C is the least over all of the ISR, not over min_insync_replicas of it",
    "verified_commit": "a follower takes its leader's C only once truncation is agreed",
    # ISR changes.
    "expand_first": "a joining follower is waited for from before it is proposed",
    "expand_keep": "and until the proposal is answered",
    "shrink_after": "a leaving follower is waited for until yak-zk has confirmed",
    "expand_start": "a follower joins only once it holds all that the leader inherited",
    "expand_inc": "yak-zk checks the incarnation of whom a proposal makes a whole member",
    "match_reset": "what was acknowledged on an earlier connection does not count",
    "floor": "the ISR never shrinks below min_insync_replicas",
    # Election.
    "bootstrap": "a yak-zk without an epoch forms a cluster of empty data directories only",
    "elect_isr": "only a member of the ISR is elected",
    "drop_dead": "an election drops the dead from the ISR, but not below the floor",
    "unclean_out": "a broker that may have lost its page cache is not electable",
    "torn_out": "nor is one whose log was cut at its end, while another is",
    "torn_all": "a torn one is elected only when every member of the ISR has joined",
    "torn_furthest": "and then the one whose log ends furthest",
    "settled": "by where the logs end since their brokers know that nobody leads",
    "damaged_out": "a broker whose log is damaged is not electable",
    "other_disk": "nor is a member of the ISR that comes with another disk",
    "older_copy": "nor is one whose disk is an older copy of the one that was here",
    "suspect_stays": "who is not whole stays so through its restarts, whatever it says then",
    "marker": "a broker keeps the mark on its disk until yak-zk has recorded it",
    "marker_told": "and one that is younger than the join is not recorded by its answer",
    # Storage.
    "self_durable": "fsync=always: a leader counts itself only up to what is synced",
    "ack_durable": "fsync=always: a follower acknowledges only what is synced",
    # What clients are told.
    "dedupe_tail": "duplicates are looked up in the whole log, not only in its committed part",
    "dup_ack_wait": "a duplicate is answered only once the original is committed",
    "seq_gap": "sequence n is refused while n-1 is not in the log",
    "pending_generations": "a generation counts on from the uncommitted ones, too",
    "pending_drop": "what was decided and not committed is forgotten on stepping down",
    "barrier": "a new leader serves nothing until all that it inherited is committed",
    # Leases and deaths.
    "lease": "a leader is declared dead after its lease, and serves nothing without one",
    "death_check": "a closed connection is no death, unless the process is proven dead",
    "deposed": "who was replaced alive stays in the ISR until its lease has run out",
    "deposed_all": "and so does who was replaced before it",
    "deposed_restart": "also when yak-zk was restarted in between",
    # yak-zk's own stops.
    "zk_durable": "yak-zk writes the document before it tells anyone",
    "zk_grace": "a restarted yak-zk declares nobody dead for a whole session",
}


@dataclass(frozen=True)
class Scene:
    """What a search is about: how large the world is, what may go wrong, which rules are off.

    values: operations of the producers, of which there are `producers`.  generations: those that
    a consumer group may come to.  always: fsync=always.  fresh: no broker has joined yet.
    stale_reads: whether the judge looks at what a leader serves.
    """

    left: Faults = field(default_factory=Faults)
    n: int = 3
    min_isr: int = 2
    epochs: int = 2
    values: int = 1
    generations: int = 0
    producers: int = 1
    always: bool = False
    fresh: bool = False
    stale_reads: bool = True
    off: frozenset[str] = frozenset()

    def on(self, rule: str) -> bool:
        return rule not in self.off

    @property
    def tells(self) -> bool:
        """Whether it matters where logs end, and who knows that nobody leads."""
        return self.left.tears > 0

    @property
    def room(self) -> int:
        """How long a log may get: there is room for a few operations too many."""
        return self.values + self.generations + 2

    def initial(self) -> State:
        """Broker 0 leads epoch 1, the others follow it and are in sync; or nobody has come yet."""
        n, everybody = self.n, (1 << self.n) - 1
        nothing, ones = (WHOLE,) * n, (1,) * n
        if self.fresh:
            zk = Zk(0, NOBODY, 0, nothing, nothing, nothing, (NOT_TOLD,) * n)
            return State(zk, (Broker(),) * n, self.left)
        zk = Zk(1, 0, everybody, nothing, ones, ones, (NOT_TOLD,) * n)
        if not self.on("zk_durable"):
            zk = Zk(1, 0, everybody, nothing, ones, ones, (NOT_TOLD,) * n, saved=document(zk))
        follower = Broker(role=FOLLOWER, ep=1, ldr=0, synced=link(0, 1), cluster=1)
        leader = Broker(
            role=LEADER,
            ep=1,
            ldr=0,
            synced=link(0, 1),
            lisr=everybody,
            match=((0, 1),) * n,
            lease=1,
            cluster=1,
        )
        return State(zk, (leader, *[follower] * (n - 1)), self.left)


def document(zk: Zk) -> tuple[object, ...]:
    """What yak-zk's disk must hold."""
    return (zk.epoch, zk.leader, zk.isr, zk.sus, zk.disks)
