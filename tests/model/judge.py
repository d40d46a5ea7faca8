"""What must be true in every state; `check` raises a Violation that says what is not.

* An epoch has one leader; logs that end alike are alike.
* The leader that yak-zk names holds all that was committed, and all that was acknowledged.
* Nobody shows what is not committed, or what is older than what another has shown.
* An operation is committed once, in its producer's order; a generation once, in order.
* Some disk holds all that was committed, and some broker can still be elected.
"""

from __future__ import annotations

from functools import cache

from tests.model.rules import Scene
from tests.model.state import (
    LEADER,
    TORN,
    State,
    Violation,
    epoch_of,
    generations,
    members,
    operations,
    show,
)


def check(scene: Scene, s: State) -> None:
    _check_leaders(scene, s)
    _check_logs(tuple([(broker.cluster, broker.log) for broker in s.brokers]))
    _check_committed(s.gc, scene.producers)
    _check_future(scene, s)


def _check_leaders(scene: Scene, s: State) -> None:
    zk, gc = s.zk, s.gc
    leads: dict[tuple[int, int], int] = {}
    for i, broker in enumerate(s.brokers):
        if not broker.up:
            continue
        if broker.log[: broker.commit] != gc[: broker.commit]:
            shown = show(broker.log[: broker.commit])
            raise Violation(f"b{i} shows {shown}, committed is {show(gc)}")
        if broker.role != LEADER:
            continue
        key = (broker.cluster, broker.ep)
        if key in leads:
            raise Violation(f"b{leads[key]} and b{i} both lead epoch {broker.ep}")
        leads[key] = i
        if s.home and broker.cluster != s.home:
            continue
        if broker.ep == zk.epoch and zk.leader == i:
            _check_leader(s, i)
        if scene.stale_reads and (broker.lease or not scene.on("lease")):
            serves = broker.commit >= broker.start or not scene.on("barrier")
            if serves and broker.commit < len(gc):
                raise Violation(f"b{i} serves {broker.commit} after {len(gc)} was committed")


def _check_leader(s: State, i: int) -> None:
    log = s.brokers[i].log
    if log[: len(s.gc)] != s.gc:
        raise Violation(f"lost: {show(s.gc)} was committed, the leader b{i} has {show(log)}")
    has = 0
    for value in operations(log):
        has |= 1 << value
    if s.acked & ~has:
        raise Violation(f"an acknowledged operation is lost: the leader b{i} has {show(log)}")


@cache
def _check_logs(logs: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
    """logs: of each broker, its cluster and its log."""
    for i, (cluster, x) in enumerate(logs):
        for j, (other, y) in enumerate(logs[i + 1 :], i + 1):
            if x == y or cluster != other:
                continue
            for k in range(min(len(x), len(y)), 0, -1):
                if epoch_of(x[k - 1]) == epoch_of(y[k - 1]):
                    if x[:k] != y[:k]:
                        raise Violation(
                            f"the same epoch at index {k}, and another history: "
                            f"b{i} {show(x)}, b{j} {show(y)}"
                        )
                    break


@cache
def _check_committed(gc: tuple[int, ...], producers: int) -> None:
    values = operations(gc)
    if len(set(values)) != len(values):
        raise Violation(f"an operation is committed twice: {show(gc)}")
    for producer in range(producers):
        mine = [value for value in values if value % producers == producer]
        if mine != sorted(mine):
            raise Violation(f"operations are committed out of order: {show(gc)}")
    numbers = generations(gc)
    if list(numbers) != sorted(set(numbers)):
        raise Violation(f"a generation is committed twice: {show(gc)}")


def _check_future(scene: Scene, s: State) -> None:
    if not s.gc:
        return
    if not any(broker.log[: len(s.gc)] == s.gc for broker in s.brokers):
        raise Violation("no disk holds all that was committed")
    zk = s.zk
    if zk.cluster != s.home or any(zk.sus[i] <= TORN for i in members(zk.isr, scene.n)):
        return
    if _disks_lost(scene, s) < scene.min_isr and scene.on("unclean_out"):
        raise Violation("no broker can be elected any more")


def _disks_lost(scene: Scene, s: State) -> int:
    """How many disks have lost, or may have lost, what they had acknowledged."""
    had, left = scene.left, s.left
    lost = had.damages - left.damages + had.wipes - left.wipes + had.cuts - left.cuts
    lost += had.backs - left.backs
    return lost if scene.always else lost + had.powers - left.powers
