"""What is to be expected of a fault, before it is done: what `yak chaos` announces.

Rules:

* Everything follows from how the cluster stands now (who leads, who is in sync) and from yak-zk's
  settings, which are its own word.
* What cannot be noticed within the fault's time is said to be so.

It does not look at what came of it (chaos.py does).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from yak.config import Settings
from yak.explain.facts import are, named
from yak.explain.faults import name
from yak.local.faults import Fault
from yak.local.note import ZK


class Stand(NamedTuple):
    """How the cluster stands.  leader: None where nobody leads."""

    leader: int | None
    epoch: int
    isr: Sequence[int]
    settings: Settings


def expected(fault: Fault, stand: Stand) -> str:
    """One sentence or two."""
    if stand.leader is None:
        return "nobody leads as it is, so that writes wait"
    if len(fault.members) > 1:
        return _between(fault, stand)
    one = fault.members[0]
    match fault.kind:
        case "kill":
            return _killed(one, stand)
        case "pause":
            return _silent(one, fault.for_ms, stand)
        case "fill":
            return _full(one, stand)
        case "cut":
            return _silent(one, fault.for_ms, stand)
        case "slow":
            return _late(one, fault, stand)


def _killed(one: int, stand: Stand) -> str:
    if one == ZK:
        return (
            f"broker {stand.leader} leads on and takes records; nobody can be elected, and nobody "
            "comes into or leaves the ISR, until yak-zk is back"
        )
    if one != stand.leader:
        return f"broker {stand.leader} leads on; {_without([one], stand)}"
    return (
        "its port refuses at once, so that another leads within some tens of milliseconds; "
        f"{_without([one], stand)}; what was not acknowledged is sent again"
    )


def _silent(one: int, for_ms: int, stand: Stand) -> str:
    """It lives, and nothing is heard of it."""
    settings = stand.settings
    if one == ZK:
        return (
            f"broker {stand.leader} leads on and takes records, but after {_s(settings.lease_ms)} "
            "without yak-zk it answers nothing for which it must be sure that it still leads"
        )
    if one == stand.leader:
        if for_ms <= settings.session_ms - settings.heartbeat_ms:
            return f"everybody waits, and nobody is elected: {_short(settings.session_ms)}"
        if for_ms <= settings.session_ms:
            return (
                f"everybody waits; another is elected if its last heartbeat, of one in each "
                f"{_s(settings.heartbeat_ms)}, is {_s(settings.session_ms)} old before it is over"
            )
        return (
            f"yak-zk hears nothing of it, and elects another after {_s(settings.session_ms)}; "
            f"clients wait that long; {_without([one], stand)}"
        )
    return _behind(one, for_ms, stand)


def _behind(one: int, for_ms: int, stand: Stand) -> str:
    """A follower that gets nothing of the leader."""
    lag = stand.settings.replica_lag_ms
    if one not in stand.isr:
        return f"it is not in sync as it is: broker {stand.leader} leads on, and nobody waits"
    if for_ms <= lag:
        return f"whoever waits for acks=all waits for it, and it stays in the ISR: {_short(lag)}"
    return (
        f"broker {stand.leader} leads on; whoever waits for acks=all waits until it has left the "
        f"ISR, after {_s(lag)}; {_without([one], stand)}"
    )


def _full(one: int, stand: Stand) -> str:
    if one == stand.leader:
        return (
            "nothing, before a record is written; with the first one it finds its disk full, and "
            "resigns; another is elected at once, and serves when this one has left the ISR, after "
            f"{_s(stand.settings.replica_lag_ms)}; {_without([one], stand)}"
        )
    if one not in stand.isr:
        return f"it is not in sync as it is: broker {stand.leader} leads on, and nobody waits"
    return (
        "nothing, before a record is written; then it cannot keep its copy, and leaves the ISR "
        f"after {_s(stand.settings.replica_lag_ms)}; {_without([one], stand)}"
    )


def _between(fault: Fault, stand: Stand) -> str:
    """Two that are cut apart, or slow to each other."""
    one, other = sorted(fault.members)
    if fault.kind == "slow":
        return _late(other if one in (ZK, stand.leader) else one, fault, stand)
    if one == ZK:
        if other == stand.leader:
            return _silent(other, fault.for_ms, stand)
        if fault.for_ms <= stand.settings.session_ms:
            return f"nothing that a client notices: {_short(stand.settings.session_ms)}"
        return (
            f"its session ends after {_s(stand.settings.session_ms)}, and with it its place in the "
            f"ISR; broker {stand.leader} leads on; {_without([other], stand)}"
        )
    if stand.leader not in (one, other):
        return (
            f"nothing: followers copy from the leader, broker {stand.leader}, and not from each "
            "other; it shows once one of the two leads"
        )
    return _behind(other if stand.leader == one else one, fault.for_ms, stand)


def _late(one: int, fault: Fault, stand: Stand) -> str:
    late = fault.late_ms or 0
    there_and_back = late if fault.one_way else 2 * late
    if ZK in fault.members:
        if there_and_back < stand.settings.lease_ms:
            return f"heartbeats take {_s(there_and_back)} longer, which nobody notices"
        return f"heartbeats take {_s(there_and_back)} longer: leases and sessions may end by that"
    if len(fault.members) > 1 and stand.leader not in fault.members:
        return (
            f"nothing: followers copy from the leader, broker {stand.leader}, and not from each "
            "other"
        )
    if there_and_back < stand.settings.replica_lag_ms:
        return (
            f"a record with acks=all takes some {_s(there_and_back)} longer: the leader waits for "
            "all that are in sync"
        )
    return (
        f"a record with acks=all waits for broker {one or stand.leader}, until it has left the "
        f"ISR, being more than {_s(stand.settings.replica_lag_ms)} behind"
    )


def _without(gone: Collection[int], stand: Stand) -> str:
    """Whether writes go on."""
    left = sorted(set(stand.isr) - set(gone))
    floor = stand.settings.min_insync_replicas
    if not left:
        return "nobody else is in sync, so that writes and reads wait until it is back"
    if len(left) < floor:
        return (
            f"only {named(left)} {are(left)} in sync then, and {floor} must be "
            "(--min-insync-replicas): writes wait until it is back"
        )
    return f"{named(left)} {are(left)} in sync then, and writes go on"


def _short(limit_ms: int) -> str:
    return f"it is over before {_s(limit_ms)} have passed (a longer --for shows more)"


def _s(ms: int) -> str:
    return f"{ms / 1000:g} s"


def announced(fault: Fault, stand: Stand) -> str:
    """`broker 1, which leads epoch 3: kill -9 (pid 4711), for 5 s`"""
    one = fault.members[0]
    who = name(one)
    if one and one == stand.leader:
        who += f", which leads epoch {stand.epoch}"
    other = f"{name(fault.members[1])}" if len(fault.members) > 1 else "everybody else"
    to = "to" if fault.one_way else "to and from"
    what = {
        "kill": f"kill -9 of pid {fault.pid}, and started again after",
        "pause": f"SIGSTOP to pid {fault.pid}: it neither answers nor closes anything, for",
        "fill": "whatever it writes to a file fails, as on a full disk, for",
        "cut": f"nothing comes through {to} {other}, for",
        "slow": f"all {to} {other} is {fault.late_ms} ms late, for",
    }[fault.kind]
    return f"{who}: {what} {_s(fault.for_ms)}"
