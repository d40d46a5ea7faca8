"""The scenes: for each rule the one in which its absence shows, and those in which all is on.

`BREAKS[rule]` is as small as it can be, so that the search is short, and its break a story that
one can follow.  `HOLDS` are as large as can be exhausted in some minutes.  CI takes the quick
ones (`QUICK_HOLDS`, and all rules but `SLOW_BREAKS`); `make model` takes all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.model.rules import Scene
from tests.model.state import Faults

#: One client operation, one failover at most.
ONE: Final = Faults(expiries=1)

BREAKS: Final[dict[str, Scene]] = {
    "fence_follower": Scene(Faults(expiries=1, isr_changes=1)),
    "fence_zk": Scene(Faults(expiries=2, isr_changes=2), epochs=3),
    "new_epoch": Scene(Faults(powers=1, expiries=1), values=2, producers=2, always=True),
    "truncate": Scene(Faults(kills=1, expiries=2), values=2, epochs=3),
    "truncate_epoch": Scene(Faults(kills=2, expiries=2), epochs=3),
    "truncate_deep": Scene(Faults(expiries=3), n=2, values=2, epochs=4),
    "commit_all_isr": Scene(Faults(kills=1, expiries=1)),
    "verified_commit": Scene(Faults(expiries=1, isr_changes=1)),
    "expand_first": Scene(Faults(kills=1, expiries=1, isr_changes=2)),
    "expand_keep": Scene(Faults(expiries=1, isr_changes=2)),
    "shrink_after": Scene(Faults(kills=1, expiries=1, isr_changes=1)),
    "expand_start": Scene(Faults(expiries=2, isr_changes=2), epochs=3),
    "expand_inc": Scene(Faults(powers=1, expiries=1, isr_changes=2)),
    "match_reset": Scene(Faults(powers=1, expiries=1, isr_changes=1)),
    "floor": Scene(Faults(powers=1, expiries=1, isr_changes=2)),
    "bootstrap": Scene(Faults(zk_losses=1, expiries=1, isr_changes=2), fresh=True),
    "elect_isr": Scene(Faults(kills=1, expiries=1, isr_changes=1)),
    "drop_dead": Scene(Faults(powers=1, expiries=2)),
    "unclean_out": Scene(Faults(powers=1, expiries=1)),
    "torn_out": Scene(Faults(tears=1, cuts=1)),
    "torn_all": Scene(Faults(tears=1, cuts=1, expiries=1), n=2),
    "torn_furthest": Scene(Faults(tears=2, cuts=1), n=2),
    "settled": Scene(Faults(tears=2, cuts=1), n=2),
    "damaged_out": Scene(Faults(damages=1)),
    "other_disk": Scene(Faults(wipes=1)),
    "older_copy": Scene(Faults(backs=1)),
    "suspect_stays": Scene(Faults(tears=1, cuts=1, kills=1)),
    "marker": Scene(Faults(powers=1, kills=1)),
    "marker_told": Scene(Faults(damages=1)),
    "self_durable": Scene(Faults(powers=1, expiries=1), always=True),
    "ack_durable": Scene(Faults(powers=2, expiries=1), always=True),
    "dedupe_tail": Scene(ONE),
    "dup_ack_wait": Scene(ONE),
    "seq_gap": Scene(ONE, values=2),
    "pending_generations": Scene(ONE, values=0, generations=2),
    "pending_drop": Scene(Faults(expiries=2), epochs=3, n=2),
    "barrier": Scene(ONE),
    "lease": Scene(Faults(expiries=1, isr_changes=1)),
    "death_check": Scene(Faults(expiries=1, isr_changes=1)),
    "deposed": Scene(Faults(resigns=1, isr_changes=1)),
    "deposed_all": Scene(Faults(resigns=2, isr_changes=1), epochs=3),
    "deposed_restart": Scene(Faults(resigns=1, isr_changes=1, zk_restarts=1)),
    "zk_durable": Scene(Faults(expiries=1, zk_restarts=1)),
    "zk_grace": Scene(Faults(isr_changes=1, zk_restarts=1)),
}
#: These take `make model` more than a few seconds each.
SLOW_BREAKS: Final = frozenset(
    {
        *("fence_zk", "expand_start", "expand_inc", "truncate_epoch", "ack_durable"),
        *("deposed_all", "deposed_restart"),
    }
)

QUICK_HOLDS: Final[dict[str, Scene]] = {
    "two brokers, one is killed": Scene(Faults(kills=1, expiries=2), n=2, values=2, epochs=3),
    "two brokers, a group's generations": Scene(Faults(kills=1, expiries=1), n=2, generations=2),
    "a new cluster, whose yak-zk begins anew": Scene(
        Faults(zk_losses=1, isr_changes=2), fresh=True
    ),
    "two of three are torn": Scene(Faults(tears=2, cuts=1)),
    "two of two are torn": Scene(Faults(tears=2, cuts=1, expiries=1), n=2, epochs=3),
    "two are torn, fsync=always": Scene(Faults(tears=1, powers=2), n=2, always=True),
    "one is damaged": Scene(Faults(damages=1, isr_changes=1)),
    "one disk is replaced": Scene(Faults(wipes=1, isr_changes=1)),
    "one disk is an older copy": Scene(Faults(backs=1, isr_changes=1)),
    "leaders resign": Scene(Faults(resigns=2, isr_changes=1)),
    "yak-zk restarts": Scene(Faults(zk_restarts=1, isr_changes=1)),
}
HOLDS: Final[dict[str, Scene]] = QUICK_HOLDS | {
    "one is killed, two failovers": Scene(
        Faults(kills=1, expiries=1, isr_changes=1), values=2, epochs=3
    ),
    "one is killed, two producers": Scene(Faults(kills=1, expiries=1), values=2, producers=2),
    "all are killed": Scene(Faults(kills=3, expiries=1)),
    "two failovers": Scene(Faults(expiries=2, isr_changes=2), epochs=3),
    "one loses power": Scene(Faults(powers=1, expiries=1, isr_changes=2)),
    "all lose power, fsync=always": Scene(Faults(powers=3, expiries=1), always=True),
    "two lose power, fsync=always": Scene(Faults(powers=2, expiries=1, isr_changes=1), always=True),
    "yak-zk restarts, two failovers": Scene(
        Faults(expiries=1, isr_changes=1, zk_restarts=1), epochs=3
    ),
    "yak-zk begins anew, one is killed": Scene(
        Faults(kills=1, expiries=1, isr_changes=2, zk_losses=1), fresh=True
    ),
    "all three are torn": Scene(Faults(tears=3, cuts=1)),
    "two of two are torn, one is killed": Scene(
        Faults(tears=2, cuts=1, kills=1, expiries=1), n=2, epochs=3
    ),
    "two of three are torn, and come back": Scene(Faults(tears=2, cuts=1, isr_changes=1)),
    "one is damaged, one is killed": Scene(Faults(damages=1, kills=1, isr_changes=1)),
    "one is damaged, two are torn": Scene(Faults(damages=1, tears=2, isr_changes=1)),
    "one disk is replaced, one is killed": Scene(Faults(wipes=1, kills=1, isr_changes=1)),
    "one disk is an older copy, one is killed": Scene(Faults(backs=1, kills=1, isr_changes=1)),
    "leaders resign in three epochs": Scene(Faults(resigns=2, isr_changes=1), epochs=3),
    "a leader resigns, yak-zk restarts": Scene(Faults(resigns=1, isr_changes=1, zk_restarts=1)),
    "a group's generations": Scene(Faults(kills=1), generations=2),
}
#: Their absence shows in what a leader serves; that of others is to show in what is lost.
_STALE_READS: Final = frozenset(
    {"barrier", "lease", "death_check", "deposed", "deposed_all", "deposed_restart", "zk_grace"}
)


def without(rule: str) -> Scene:
    """The scene in which this rule is missed, with it off."""
    return replace(BREAKS[rule], off=frozenset({rule}), stale_reads=rule in _STALE_READS)
