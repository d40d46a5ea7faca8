"""Scenes: one short script of faults each, staged for a rule that chance alone hardly ever needs.

What breaks without such a rule takes three or four things in their order, within some tenths of
a second.  Each scene is that order, as the model tells it (`python -m tests.model --off RULE`),
with chance left in when it begins, in what the clients do and in what a disk loses; so that some
seeds of it find the break, as they do in an area of faults.  With the rule in place all hold.

`setup_of(seed, name)` stages the scene of that name.  In all of them nothing is synced until it
must be, messages take equally long, and b1 leads at first.

What each fault does is faults.py's, and of the rarer ones rare.py's.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from tests.sim.plans import Fault

if TYPE_CHECKING:
    from tests.sim.world import Setup

#: Leases that last longer than it takes to leave somebody behind.
_LONG_LEASES: Final[dict[str, Any]] = {
    "heartbeat_ms": 250,
    "session_ms": 1500,
    "lease_ms": 1200,
    "replica_lag_ms": 300,
    "resign_ms": 500,
}
_QUICK: Final[dict[str, Any]] = {
    "heartbeat_ms": 120,
    "session_ms": 600,
    "lease_ms": 350,
    "replica_lag_ms": 400,
    "resign_ms": 900,
}
_SOON: Final = 0.001


def stage(name: str, rng: random.Random, setup: Setup) -> None:
    """Make a run of this a scene."""
    setup.brokers, setup.fsync, setup.even, setup.chaos_s = 3, "never", True, 5.0
    setup.settings = replace(setup.settings, min_insync_replicas=2, **_QUICK)
    setup.limits = dataclasses.replace(setup.limits, checkpoint_operations=1000)
    setup.oplog_retain_bytes, setup.replicate_bytes = 1 << 30, 0
    setup.producers, setup.batches, setup.pace_s = 3, 60, 0.1
    setup.faults = sorted(SCENES[name](rng, setup), key=lambda fault: fault.at)


def _time(rng: random.Random) -> float:
    return 1.0 + 0.5 * rng.random()


# -- Who is not whole -----------------------------------------------------------------------------


def _marked_until(rng: random.Random, _: Setup) -> list[Fault]:
    """A leader that lost what was acknowledged dies once more before yak-zk has heard of that."""
    at = _time(rng)
    return [
        Fault(at, "power", "leader"),
        Fault(at + _SOON, "kill", "teller", on="started"),
    ]


def _still_suspect(rng: random.Random, _: Setup) -> list[Fault]:
    """One that lost something joins, dies, and joins again before yak-zk has heard of that death;
    then the leader dies.
    """
    at = _time(rng)
    return [
        Fault(at, "power", "b1"),
        Fault(at + _SOON, "cut", "b1", 1.5, other="b2", both=True),
        Fault(at + _SOON, "cut", "b1", 0.15, "joined", 0.005, other="zk", both=True),
        Fault(at + _SOON, "kill", "b1", on="joined", after=0.006),
        Fault(at + 0.3, "kill", "b2", 1.0),
    ]


def _whole_named(rng: random.Random, _: Setup) -> list[Fault]:
    """While one in the ISR is not whole, another one leaves it; then the leader dies."""
    at = _time(rng)
    return [
        Fault(at, "power", "b1"),
        Fault(at + _SOON, "cut", "b1", 1.5, other="b2", both=True),
        Fault(at + 0.15, "kill", "b3", 2.0),
        Fault(at + 0.15, "kill", "b2", 1.0, on="isr_changed", after=0.005),
    ]


def _marker_told(rng: random.Random, setup: Setup) -> list[Fault]:
    """One finds damage after it asked to join, and before it is told that it may; while it ends,
    the leader dies, so that it is elected."""
    setup.lingers_s = 0.3
    at = _time(rng)
    return [
        Fault(at, "kill", "zk"),
        Fault(at + 0.01, "cut", "zk", 0.15, on="joined", other="subject"),
        Fault(at + 0.01, "spoil", "subject", on="joined", after=0.02),
        Fault(at + 0.01, "kill", "leader", 1.5, "begins_anew", 0.25 * rng.random()),
        Fault(at + 0.01, "cut", "teller", 0.15, "begins_anew", 0.28, other="zk", both=True),
    ]


def _older_copy(rng: random.Random, _: Setup) -> list[Fault]:
    """All stop, so that nobody leaves the ISR, and one starts from an older copy of its disk."""
    at = _time(rng)
    later = at + 0.8
    return [
        Fault(at, "keep", "b2"),
        Fault(at + 0.05, "kill", "b2", 0.1),
        Fault(later, "kill", "zk", 0.1),
        Fault(later + _SOON, "put_back", "b2", 0.05 * rng.random()),
        Fault(later + 2 * _SOON, "kill", "b1", 2.0),
    ]


def _older_restarts(rng: random.Random, setup: Setup) -> list[Fault]:
    """As above, and it dies again as it starts: before yak-zk is there to hear of it."""
    *before, put_back, leader_dies = _older_copy(rng, setup)
    zk_dies = before[-1]
    again = [Fault(put_back.at + 0.15 * n, "kill", "b2", 0.01) for n in (1, 2)]
    before[-1] = dataclasses.replace(zk_dies, lasts=0.6)
    return [*before, put_back, leader_dies, *again]


# -- Torn ones ------------------------------------------------------------------------------------


def _torn_furthest(rng: random.Random, setup: Setup) -> list[Fault]:
    """Both of two die while they write, and one of them loses its end."""
    setup.brokers = 2
    at = _time(rng)
    return [Fault(at, "tear", "b1"), Fault(at + _SOON / 100, "scrawl", "b2")]


def _settled(rng: random.Random, setup: Setup) -> list[Fault]:
    """Of two one is torn, and follows on unrecorded; then the other one loses its end.

    A third one comes back meanwhile: what the leader proposed before is refused when it arrives.
    """
    setup.pace_s = 0.02
    at = _time(rng)
    return [
        Fault(0.6, "scrawl", "b3", at - 0.6 + 0.15),
        Fault(at, "scrawl", "b2"),
        Fault(at + 0.04, "cut", "leader", 0.35, "follower_agreed", other="zk", both=True),
        Fault(at + 0.25 + 0.1 * rng.random(), "tear", "b1", other="suspects"),
    ]


# -- Who leads, and who may think so --------------------------------------------------------------


def _replaced(rng: random.Random, setup: Setup) -> tuple[float, list[Fault]]:
    """b1 is replaced alive, does not hear of it, and has its lease for a while."""
    setup.settings = replace(setup.settings, **_LONG_LEASES)
    setup.watchers = 8
    at = _time(rng)
    return at, [
        Fault(at, "cut", "b1", 3.0, other="b2", both=True),
        Fault(at, "cut", "b1", 3.0, other="b3", both=True),
        Fault(at, "cut", "zk", 2.0, on="resigned", other="b1", both=True),
    ]


def _deposed_all(rng: random.Random, setup: Setup) -> list[Fault]:
    """So is its successor, at once."""
    at, faults = _replaced(rng, setup)
    return [*faults, Fault(at + 0.2, "kill", "teller", on="leading", after=0.01)]


def _deposed_restart(rng: random.Random, setup: Setup) -> list[Fault]:
    """And yak-zk is started again."""
    at, faults = _replaced(rng, setup)
    return [*faults, Fault(at + 0.2, "kill", "zk", on="leading", after=0.05)]


def _lease_leaves(rng: random.Random, setup: Setup) -> list[Fault]:
    """A leader hangs between its look at its lease and its answers, for longer than a session.

    Before that it has stood still for a moment, so that it has many to give in one turn.
    """
    setup.settings = replace(setup.settings, **_LONG_LEASES)
    setup.watchers = 8
    at = _time(rng)
    goes_on = at + 0.05 + 0.2
    return [
        Fault(at, "pause", "b1", 0.2),
        Fault(goes_on + _SOON / 100, "hang", "b1", 2.2, fuse=rng.randint(0, 6)),
    ]


def _fence_zk(rng: random.Random, _: Setup) -> list[Fault]:
    """What a leader proposed, to take b3 in, comes when another one has committed without b3; then
    those who have that die.
    """
    at = _time(rng)
    return [
        Fault(0.6, "kill", "b3", at - 0.6),
        Fault(at, "cut", "b3", 3.0, "joining", other="b1", both=True),
        Fault(at, "cut", "b3", 3.0, "joining", other="b2", both=True),
        Fault(at, "cut", "b1", 0.8, "joining", other="zk", both=True),
        Fault(at, "delay", "b1", 1.2, "joining"),
        Fault(at + 1.0, "kill", "b1", 1.0, "isr_changed"),
        Fault(at + 1.0, "kill", "b2", 1.0, "isr_changed"),
    ]


# -- What comes over a link -----------------------------------------------------------------------


def _fence_follower(rng: random.Random, _: Setup) -> list[Fault]:
    """One that was replaced goes on leading, and is dialled by a follower of its successor."""
    at = _time(rng)
    return [
        Fault(at, "cut", "b1", 2.5, other="zk", both=True),
        Fault(at, "cut", "b1", 2.5, other="b2", both=True),
        Fault(at + 1.2 + 0.3 * rng.random(), "astray", "b3", 0.8, other="b1"),
    ]


def _copied_proved(rng: random.Random, _: Setup) -> list[Fault]:
    """On the way to a follower a bit flips, and the network does not notice."""
    return [Fault(1.0 + 2.0 * rng.random(), "garble", "follower") for _ in range(3)]


def _expand_inc(rng: random.Random, _: Setup) -> list[Fault]:
    """What has caught up loses that again while yak-zk is asked to take it in."""
    at = _time(rng)
    later = at + 0.5
    return [
        Fault(at, "kill", "b1", 0.6),
        Fault(later, "cut", "leader", 0.3, "joining", other="zk", both=True),
        Fault(later, "cut", "leader", 1.5, "joining", other="subject", both=True),
        Fault(later, "power", "subject", on="joining", after=_SOON),
        Fault(later, "kill", "b2", 1.0, on="isr_changed", after=0.005),
    ]


# -- What is on a disk, and what is not -----------------------------------------------------------


def _self_durable(rng: random.Random, setup: Setup) -> list[Fault]:
    """The leader's disk is slow, those of the others are not; then all lose power."""
    setup.fsync = "always"
    at = _time(rng)
    return [
        Fault(at, "slow", "b1", 1.5),
        Fault(at + 0.1 + 0.15 * rng.random(), "blackout", "any", 0.1),
    ]


def _ack_durable(rng: random.Random, setup: Setup) -> list[Fault]:
    """A follower's is."""
    setup.fsync = "always"
    at = _time(rng)
    return [
        Fault(at, "slow", "b2", 1.5),
        Fault(at + 0.1 + 0.15 * rng.random(), "blackout", "any", 0.1),
    ]


def _cut_back(rng: random.Random, _: Setup) -> list[Fault]:
    """Disks run full in the middle of a write, and have room again; then their brokers start."""
    at = _time(rng)
    return [
        Fault(at, "full", "b2", 0.3),
        Fault(at + 0.7, "kill", "b2", 0.1),
        Fault(at + 1.2, "full", "b1", 0.3),
        Fault(at + 1.9, "kill", "b1", 0.1),
    ]


SCENES: Final[dict[str, Callable[[random.Random, Setup], list[Fault]]]] = {
    "marked_until": _marked_until,
    "still_suspect": _still_suspect,
    "whole_named": _whole_named,
    "marker_told": _marker_told,
    "older_copy": _older_copy,
    "older_restarts": _older_restarts,
    "torn_furthest": _torn_furthest,
    "settled": _settled,
    "deposed_all": _deposed_all,
    "deposed_restart": _deposed_restart,
    "lease_leaves": _lease_leaves,
    "fence_zk": _fence_zk,
    "self_durable": _self_durable,
    "ack_durable": _ack_durable,
    "cut_back": _cut_back,
    "fence_follower": _fence_follower,
    "copied_proved": _copied_proved,
    "expand_inc": _expand_inc,
}
