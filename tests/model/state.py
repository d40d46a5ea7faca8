"""What the model's world consists of: yak-zk, a few brokers, the ISR changes under way.

A state is immutable and small: it is copied, hashed and compared millions of times.  Times, sizes
and bytes are left out; what takes long is a step that has not been taken yet.

* A log entry is one number, EPOCH * 100 + VALUE.  Values from 0 on are the operations of
  pipelining producers, those from GENERATION on the generations of a consumer group.
* Sets of brokers are bit masks, and brokers count from 0.
* `gc`, `home` and `acked` are nobody's knowledge, but the judge's: what was committed, by which
  cluster, and which values a producer was told are safe.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from msgspec import Struct

#: No broker.
NOBODY: Final = -1
#: A session that yak-zk did not hear of since it started, and does not declare dead yet.
PRESUMED: Final = -1
#: Where a log ends, as long as its broker may have gone on since it said so.
NOT_TOLD: Final = -1
#: The first value that is a generation.
GENERATION: Final = 50

IDLE, FOLLOWER, LEADER = range(3)
WHOLE, TORN, UNCLEAN, DAMAGED = range(4)
STATES: Final = ("whole", "torn", "unclean", "damaged")

#: Of each follower: up to where it has acknowledged, and as which incarnation (0: never).
Match = tuple[tuple[int, int], ...]
#: An ISR change under way: epoch, leader, +1 or -1, broker, its incarnation.
Change = tuple[int, int, int, int, int]


class Faults(Struct, frozen=True, cache_hash=True):
    """What may still go wrong: each counts down.

    tears: crashes after which the log's end was cut, torn.  cuts: entries that those lose in all.
    resigns: a leader that lives gives up the lead, or an operator moves it.
    isr_changes: no fault, but without a limit there would be no end.
    """

    kills: int = 0
    powers: int = 0
    tears: int = 0
    cuts: int = 0
    damages: int = 0
    wipes: int = 0
    backs: int = 0
    expiries: int = 0
    resigns: int = 0
    zk_restarts: int = 0
    zk_losses: int = 0
    isr_changes: int = 0


class Zk(Struct, frozen=True, cache_hash=True):
    """yak-zk: the document, and who is there.

    sus: how each broker is not whole.  disks: with which disk each entered the ISR.
    live: the incarnation of each live session, 0 or PRESUMED.  ends: where the log of each ends.
    deposed: who led, lives, and may not know yet that it does not lead any more.
    saved: the document on disk, where it may differ (`zk_durable` off).
    """

    epoch: int
    leader: int
    isr: int
    sus: tuple[int, ...]
    disks: tuple[int, ...]
    live: tuple[int, ...]
    ends: tuple[int, ...]
    deposed: int = 0
    cluster: int = 1
    saved: tuple[object, ...] = ()


class Broker(Struct, frozen=True, cache_hash=True):
    """One broker: its process, and below `log` what its disk holds.

    lisr: the leader's required set.  start: where the leader's log ended when it took the lead.
    synced: the process with which truncation was agreed (`link`), 0 if none.  memory: values of
    earlier leaderships that a leader without `pending_drop` remembers.
    dur: how much of the log is synced.  mark: in which state it will say its log is.
    cluster: 0 before the first join.  old: the disk is an older copy of the one that was here.
    """

    up: int = 1
    inc: int = 1
    commit: int = 0
    role: int = IDLE
    ep: int = 0
    ldr: int = NOBODY
    synced: int = 0
    lisr: int = 0
    match: Match = ()
    start: int = 0
    lease: int = 0
    memory: int = 0
    log: tuple[int, ...] = ()
    dur: int = 0
    mark: int = WHOLE
    disk: int = 1
    cluster: int = 0
    old: int = 0


class State(Struct, frozen=True, cache_hash=True):
    """All of it.  home: the cluster that committed gc, 0 before."""

    zk: Zk
    brokers: tuple[Broker, ...]
    left: Faults
    changes: tuple[Change, ...] = ()
    gc: tuple[int, ...] = ()
    home: int = 0
    acked: int = 0


class Violation(Exception):  # noqa: N818 -- as in tests/sim/judge.py, it is no error of ours
    """A promise is broken.  str(it) says which."""


def put(sequence: tuple, i: int, item: object) -> tuple:  # type: ignore[type-arg] # of anything
    """The sequence with another item in this place."""
    return (*sequence[:i], item, *sequence[i + 1 :])


def entry(epoch: int, value: int) -> int:
    return epoch * 100 + value


def epoch_of(one: int) -> int:
    return one // 100


def value_of(one: int) -> int:
    return one % 100


@cache
def operations(log: tuple[int, ...]) -> tuple[int, ...]:
    """The producers' values in this log."""
    return tuple(value_of(one) for one in log if value_of(one) < GENERATION)


@cache
def generations(log: tuple[int, ...]) -> tuple[int, ...]:
    """The group's generations in this log."""
    return tuple(value_of(one) - GENERATION for one in log if value_of(one) >= GENERATION)


def end_of(log: tuple[int, ...]) -> int:
    """(epoch, index) of the last entry, as one number that compares like the two."""
    return entry(epoch_of(log[-1]), len(log)) if log else 0


def link(leader: int, inc: int) -> int:
    """The process at the other end of a connection: a restart breaks the connection."""
    return 10 * inc + leader + 1


def members(mask: int, n: int) -> list[int]:
    return [i for i in range(n) if mask >> i & 1]


def holds_lease(broker: Broker) -> bool:
    """It leads, as far as it knows, and answers without asking anybody."""
    return bool(broker.up and broker.role == LEADER and broker.lease)


def show(log: tuple[int, ...]) -> str:
    """`[0@e1 1@e1 g1@e2]`"""
    words = (
        f"{v}@e{epoch_of(one)}"
        if (v := value_of(one)) < GENERATION
        else f"g{v - GENERATION}@e{epoch_of(one)}"
        for one in log
    )
    return f"[{' '.join(words)}]"
