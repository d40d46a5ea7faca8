"""Plans of faults of the later areas, made from a seed as plans.py's are; most are about disks.

    rot       bits flip while a broker runs; others come and go, so that somebody asks for them
    torn      all brokers die while they write, and the disk of one loses the end of its log
    sync      fsync=always: syncs fail, hang, or never came before the process died
    outage    nothing at first; then the loss of one for good (outages.py)
    stranger  yak-zk comes back on an empty disk
    lease     a leader that has its lease is replaced, and does not hear of it
    tail      a leader that is cut off writes much that nobody else has, and comes back soon
    late      members' reports arrive when they are no longer true

`shape` makes the cluster and its clients such that this can matter.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from tests.sim.outages import KINDS
from tests.sim.plans import Fault

if TYPE_CHECKING:
    from tests.sim.world import Setup


#: Little patience with followers: so a leader can be left behind while it has its lease.
_LONG_LEASES: Final[dict[str, Any]] = {
    "heartbeat_ms": 250,
    "session_ms": 1500,
    "lease_ms": 1200,
    "replica_lag_ms": 300,
    "resign_ms": 700,
}


def shape(rng: random.Random, setup: Setup) -> None:
    """What this area needs of the cluster and its clients."""
    settings = setup.settings
    setup.settings = replace(settings, min_insync_replicas=2)
    setup.brokers = max(setup.brokers, 3)
    match setup.area:
        case "rot":
            setup.settings = replace(setup.settings, oplog_segment_bytes=rng.choice((1024, 8192)))
            setup.limits = dataclasses.replace(
                setup.limits, checkpoint_operations=rng.choice((5, 20, 1000))
            )
            setup.audited = True
            setup.record_bytes = rng.choice((0, 150))
            setup.tail_bytes = rng.choice((0, 4000, 8000))  # the judge reads what is new
        case "torn":
            setup.fsync = rng.choice(("always", "never"))
            setup.brokers = rng.choice((3, 3, 4))
        case "sync":
            setup.fsync = "always"
            setup.settings = replace(setup.settings, oplog_segment_bytes=rng.choice((1024, 8192)))
        case "outage":
            setup.chaos_s = 1.0
            setup.outage = rng.choice([kind for kind in KINDS if kind != "sync"])
            if setup.fsync == "always" and rng.random() < 0.5:
                setup.outage = "sync"
            setup.brokers = rng.choice((3, 3, 4))
        case "lease":
            setup.settings = replace(setup.settings, **_LONG_LEASES)
            setup.watchers, setup.senders = 8, 3
        case "tail":
            setup.settings = replace(setup.settings, oplog_segment_bytes=1024)
            setup.limits = dataclasses.replace(setup.limits, checkpoint_operations=5)
            setup.oplog_retain_bytes = 0
            setup.partitions, setup.producers, setup.senders = 3, 3, 2
            setup.record_bytes = rng.choice((0, 150, 300))
            setup.batches = 20
        case "late":
            setup.members = 3
            setup.lively = True
            setup.groups = setup.groups[:1]
            setup.partitions = rng.choice((2, 3))
        case _:
            pass  # a usual cluster will do


def disk_plan(rng: random.Random, setup: Setup) -> list[Fault]:
    """Faults for one run, of what it is about: `setup.area`."""
    faults: list[Fault] = []
    match setup.area:
        case "rot":
            faults += _rot(rng, setup)
        case "torn":
            faults += rng.choice((_torn, _torn, _torn, _just_two, _unsettled))(rng, setup)
        case "sync":
            for _ in range(rng.choice((1, 2))):
                faults += rng.choice((_failed, _failed, _never_synced))(rng, setup)
            if rng.random() < 0.3:
                faults.append(Fault(_time(rng, setup), "blackout", "any", rng.random()))
        case "stranger":
            faults += _stranger(rng, setup)
        case "tail":
            faults += _tail(rng, setup)
        case "lease":
            faults += _lease(rng, setup)
        case "late":
            for _ in range(rng.randint(2, 5)):
                faults.append(Fault(_time(rng, setup), "stray", "any", 0.5 + 2.5 * rng.random()))
        case other:
            assert other == "outage", other
    return sorted(faults, key=lambda fault: fault.at)


def _rot(rng: random.Random, setup: Setup) -> list[Fault]:
    """Something rots: then that broker dies, or another one has to be given it, or nobody asks."""
    at, one = _time(rng, setup), f"b{rng.randint(1, setup.brokers)}"
    how = rng.choice(("dies", "gives", "gives", "any", "any"))
    if how == "gives":
        # A follower is left behind meanwhile: it needs the log, or a copy, of a leader that rots.
        what = rng.choice(("log", "file", "file"))
        lasts = 0.6 + 1.8 * rng.random()
        faults = [
            Fault(at, "cut", "follower", lasts, other="leader", both=True),
            Fault(at + 0.9 * lasts * rng.random(), "rot", "leader", other=what),
        ]
    else:
        what = rng.choice(("log", "log", "file", "checkpoint"))
        faults = [Fault(at, "rot", one, other=what)]
        if how == "dies":
            faults.append(Fault(at + 0.3 * rng.random() ** 2, "kill", one, rng.random()))
    for _ in range(rng.choice((0, 0, 1, 2))):
        kind = rng.choice(("kill", "pause", "cut", "short", "full", "full", "rot"))
        later = at + 0.6 * setup.chaos_s * (rng.random() - 0.3)
        target = rng.choice(("leader", "follower", "any"))
        other = "any" if kind == "rot" else "leader"
        faults.append(Fault(later, kind, target, 2.5 * rng.random(), other=other, both=True))
    return faults


def _torn(rng: random.Random, setup: Setup) -> list[Fault]:
    """The disk of one loses the end of its log, or all; of the others, some die while they write.

    Those come back each in its own time: whoever is elected before all are there may lack what
    was acknowledged.
    """
    at, one = _time(rng, setup), f"b{rng.randint(1, setup.brokers)}"
    loss = rng.choice(("tear", "tear", "tear", "damage", "wipe"))
    faults = [Fault(at, loss, one, 2.0 * rng.random() ** 2)]
    how = rng.choice(("scrawl", "scrawl", "kill", "pause")) if loss == "tear" else "scrawl"
    for number in range(1, setup.brokers + 1):
        kind = how if rng.random() < 0.8 else "kill"
        lasts = 0.1 + 2.5 * rng.random() ** 2
        if f"b{number}" != one:
            faults.append(Fault(at + 0.001 + 0.02 * rng.random(), kind, f"b{number}", lasts))
    again = rng.random()
    if again < 0.4:  # before yak-zk knows what it has lost, or just after
        fuse = int(12 * rng.random() ** 2) if again < 0.2 else None
        after = 0.0 if fuse is not None else 0.2 * rng.random() ** 2
        faults.append(Fault(at + 0.001, "kill", one, 0.1 * rng.random(), "started", after, fuse))
    elif again < 0.7:
        faults.append(Fault(at + 0.3 + 1.5 * rng.random(), "kill", "any", rng.random()))
    return faults


def _just_two(rng: random.Random, setup: Setup) -> list[Fault]:
    """Two are in sync, and one of them loses what it had; the other one dies before it can give
    it back: nobody may lead until that one is there again.
    """
    at = 0.5 + 0.2 * setup.chaos_s * rng.random()
    faults = [Fault(at, "kill", f"b{n}", 9.0) for n in range(3, setup.brokers + 1)]
    one, other = rng.choice((("b1", "b2"), ("b2", "b1")))
    later = at + 0.9 + rng.random()
    on = rng.choice(("follower_agreed", "follower_agreed", "isr_proposed", "copy_offered"))
    loss = rng.choice(("tear", "wipe", "damage", "damage"))
    faults.append(Fault(later, loss, one, 0.2 * rng.random()))
    faults.append(Fault(later + 0.01, "cut", other, 1.5, on, other=one))
    faults.append(Fault(later + 0.01, "kill", other, 1.0 + rng.random(), on, 0.3 * rng.random()))
    return faults


def _unsettled(rng: random.Random, setup: Setup) -> list[Fault]:
    """Of two in sync one is torn, and follows on while yak-zk cannot be told that it is whole;
    then the other one loses the end of what both have.
    """
    at = 0.5 + 0.2 * setup.chaos_s * rng.random()
    faults = [Fault(at, "kill", f"b{n}", 9.0) for n in range(3, setup.brokers + 1)]
    later, lasts = at + 0.9 + 0.3 * rng.random(), 0.5 + rng.random()
    faults.append(Fault(later, "scrawl", "follower", 0.05))
    on = rng.choice(("follower_agreed", "joined"))
    faults.append(Fault(later + 0.01, "cut", "leader", lasts, on, other="zk", both=True))
    loses = rng.choice((0.3, 0.9)) * lasts
    faults.append(Fault(later + 0.01, "tear", "leader", 0.05, on, loses))
    return faults


def _failed(rng: random.Random, setup: Setup) -> list[Fault]:
    """A sync fails; once that broker is one of the cluster again, its machine loses power."""
    at = _time(rng, setup)
    faults = [Fault(at, "eio", rng.choice(("leader", "follower", "follower")), 0.1)]
    for _ in range(rng.choice((1, 2))):
        on = rng.choice(("started", "following", "follower_agreed", "isr_changed", "leading"))
        target = rng.choice(("teller", "subject", "subject", "follower"))
        how = rng.choice(("power", "power", "kill"))
        fuse = int(10 * rng.random() ** 2) if rng.random() < 0.5 else None
        after = rng.choice((0.0, 0.5 * rng.random()))
        faults.append(Fault(at + 0.2, how, target, rng.random(), on, after, fuse))
    return faults


def _never_synced(rng: random.Random, setup: Setup) -> list[Fault]:
    """A process dies before its disk has what it wrote; its machine, when it is back."""
    at, target = _time(rng, setup), f"b{rng.randint(1, setup.brokers)}"
    faults = [
        Fault(at, "slow", target, 1.5),
        Fault(at + 0.05 + 0.2 * rng.random(), "kill", target, 0.1 * rng.random()),
    ]
    on = rng.choice(("started", "following", "leading", "serving", "follower_agreed"))
    who = rng.choice((target, target, "teller", "subject"))
    after = 0.1 * rng.random() ** 2
    faults.append(Fault(at + 0.06, "power", who, rng.random(), on, after))
    if rng.random() < 0.6:
        others = rng.choice(("kill", "pause", "isolate"))
        faults.append(Fault(at + 0.4 * rng.random(), others, "leader", 2.0 * rng.random()))
    return faults


def _stranger(rng: random.Random, setup: Setup) -> list[Fault]:
    at = _time(rng, setup)
    faults = [Fault(at, "replaced", "zk", 2.0 * rng.random())]
    for _ in range(rng.choice((0, 1, 2))):
        how = rng.choice(("kill", "pause", "cut"))
        later = max(0.3, at - 0.5 + 1.5 * rng.random())
        target = rng.choice(("leader", "follower", "any"))
        faults.append(Fault(later, how, target, 1.5 * rng.random(), other="leader", both=True))
    return faults


def _lease(rng: random.Random, setup: Setup) -> list[Fault]:
    """A leader that has its lease does not hear that another one leads: because it resigned, since
    no follower reaches it, or because yak-zk alone sees its connection end.
    """
    at, others = _time(rng, setup), 1.2 + rng.random()
    if rng.random() < 0.5:
        return [Fault(at + 0.3 * n, "break", "zk", other="server") for n in range(5)]
    return [
        *(
            Fault(at, "cut", "leader", others, other=f"b{n}", both=True)
            for n in range(1, setup.brokers + 1)
        ),
        Fault(at, "cut", "zk", 0.8 + rng.random(), "resigned", other="subject"),
    ]


def _tail(rng: random.Random, setup: Setup) -> list[Fault]:
    """The leader is cut off from the others only, writes on for a while, and dies.

    It comes back when its successor has made a checkpoint, and before that has as much to show.
    """
    at = _time(rng, setup)
    lasts = 0.2 + 1.5 * rng.random()
    faults = [Fault(at, "isolate", "leader", lasts)]
    after = 0.2 + 0.3 * rng.random()
    faults.append(Fault(at + after, "kill", "leader", max(0.05, lasts - after)))
    return faults


def _time(rng: random.Random, setup: Setup) -> float:
    return round(0.4 + rng.random() * 0.7 * setup.chaos_s, 4)
