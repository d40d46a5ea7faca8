"""Real brokers, and yak-zk, killed before one of their own system calls while they work.

    a follower's, a leader's life    a topic made, filled, trimmed and deleted; rolls, checkpoints
    restart                          a follower that was killed, from its start until it is in sync
    full copy                        the same of one whose directory is empty
    election                         the leader dies, and the next one dies as it takes over
    election, by yak-zk              the leader dies, and yak-zk as it writes who is next

The threads of a process make its calls in an order of their own, so the Nth call of a kind need not
be the same in two runs: what it was killed at is read from strace's notes.  After each kill:
`yak verify` finds what is left whole, all start again, are in sync, hold the same, and every
record that was acknowledged is there, in its order.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.fault.strace import Injected
from tests.kills.calls import CALLS, Call, changes, killed
from tests.kills.run import Result
from tests.support.cluster import FAST, Cluster
from tests.support.logfiles import topic_bytes
from tests.support.process import Process, wait_until
from tests.support.wire import Wire
from yak.storage.audit import audit

#: Rolls and checkpoints come with every few batches.
ZK_OPTIONS: Final = (*FAST, "--oplog-segment-bytes", "2000")
OPTIONS: Final = ("--checkpoint-operations", "12", "--oplog-retain-bytes", "0", "--trash-ms", "200")
#: What a broker keeps in its directory.
KEPT: Final = {"checkpoint.json", "lock", "meta.json", "oplog", "topics", "trash", "events.jsonl"}
ZK: Final = 0
#: A topic's segment_bytes: what is trimmed frees some.
SMALL: Final = 1024
PADDING: Final = "." * 100
#: Of topics: what a kill left of one must not be in the way of the next.
_numbers = itertools.count(1)


class Stage:
    """A cluster that goes on through all kills, and what it has acknowledged.

    acknowledged: values, in their order, of topic "kept".  sent: those whose fate is not known.
    """

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self.cluster = cluster
        self.notes = home / "notes"
        self.acknowledged: list[str] = []
        self.sent: set[str] = set()
        self._round = 0

    def process(self, number: int) -> Process:
        found = self.cluster.zk if number == ZK else self.cluster.brokers[number]
        assert found is not None
        return found

    def path(self, number: int) -> Path:
        return self.cluster.zk_dir if number == ZK else self.cluster.data_dir(number)

    def follower(self) -> int:
        leader = self.cluster.wait_leader()
        return max(broker for broker in self.cluster.ids if broker != leader)

    def write(self, wire: Wire, batches: int) -> None:
        for _ in range(batches):
            self._round += 1
            values = [f"{self._round}-{number}" for number in range(3)]
            self.sent.update(values)
            wire.produce("kept", 0, values)
            self.acknowledged += values

    def live(self, victim: int) -> None:
        """A topic's whole life, beside the one that stays; up to the victim's death."""
        with self.until_dead(victim) as wire:
            name = f"t{next(_numbers)}"
            wire.ok("create_topic", topic=name, partitions=2, config={"segment_bytes": SMALL})
            for number in range(8):
                wire.produce(name, number % 2, [f"{name} {number} {x} {PADDING}" for x in range(4)])
                self.write(wire, 1)
            wire.ok("trim", topic=name, partition=0, before=12)
            wire.ok("delete_topic", topic=name)
            self.write(wire, 6)

    @contextlib.contextmanager
    def until_dead(self, victim: int) -> Iterator[Wire]:
        """A connection to the leader; what fails on it is excused by a death."""
        try:
            with self.cluster.connect_leader(5.0) as wire:
                yield wire
        except (OSError, AssertionError):
            process = self.process(victim)
            wait_until(lambda: not process.running, f"{process.name} is dead, and failed by that")

    def check(self, victim: int) -> None:
        """What must stand, whether or not it was killed."""
        cluster = self.cluster
        if not self.process(victim).running and victim != ZK:
            left = audit(self.path(victim)).faults
            assert not left, f"yak verify takes what is left for damaged: {left}"
        if not self.process(ZK).running:
            cluster.start_zk()
        down = [broker for broker in cluster.ids if not self.process(broker).running]
        cluster.start(*down)
        cluster.wait_isr(cluster.ids)
        with cluster.connect_leader() as wire:
            self.write(wire, 1)
        cluster.wait_level()
        for broker in cluster.ids:
            with cluster.connect(broker) as wire:
                found = [value for op in wire.read_all("kept", 0) for value in op.values]
            known = set(self.acknowledged)
            assert [value for value in found if value in known] == self.acknowledged, broker
            assert len(set(found)) == len(found), f"broker {broker} has something twice"
            assert self.sent.issuperset(found), f"broker {broker} has what nobody sent"
        wait_until(
            lambda: len({str(topic_bytes(cluster.data_dir(b))) for b in cluster.ids}) == 1,
            "the partition files are the same everywhere",
        )
        for broker in cluster.ids:
            home = cluster.data_dir(broker)
            wait_until(
                lambda home=home: {path.name for path in home.iterdir()} <= KEPT,  # type: ignore[misc]  # bound now
                f"nothing is left over in {home}",
            )


@contextlib.contextmanager
def watched(stage: Stage, victim: int, kill: Call | None) -> Iterator[None]:
    """A running process, under strace's eyes."""
    what = "" if kill is None else f"signal=KILL:when={kill.number}"
    which = "" if kill is None else kill.name
    pid = stage.process(victim).pid
    with Injected(pid, ",".join(CALLS), what, which=which, notes=stage.notes):
        yield


def _started(stage: Stage, victim: int, kill: Call | None) -> None:
    """Start it under strace, and wait until it is in sync, or dead."""
    cluster = stage.cluster
    inject = [] if kill is None else ["-e", f"inject={kill.name}:signal=KILL:when={kill.number}"]
    trace = ["-e", f"trace={','.join(CALLS)}", *inject, "-o", str(stage.notes)]
    cluster.before[victim] = ["strace", "-D", "-f", "-y", *trace]
    try:
        cluster.start(victim, wait=False)
    finally:
        del cluster.before[victim]
    process = stage.process(victim)

    def settled() -> bool:
        if not process.running:
            return True
        # Its own word: the leader may not have noticed yet that the one before it was killed.
        leader, own = cluster.leader(), cluster.status(victim)
        status = cluster.status(leader) if leader is not None else None
        if status is None or own is None or own["role"] != "follower":
            return False
        return victim in status["isr"] and bool(own["log_end"] == status["log_end"])

    wait_until(settled, f"broker {victim} is in sync, or dead")


def _lives(choose: Callable[[Stage], int]) -> Callable[[Stage, Call | None], int]:
    def play(stage: Stage, kill: Call | None) -> int:
        victim = choose(stage)
        with watched(stage, victim, kill):
            stage.live(victim)
        return victim

    return play


def _restarts(stage: Stage, kill: Call | None) -> int:
    victim = stage.follower()
    stage.live(victim)
    stage.cluster.kill(victim)
    with stage.cluster.connect_leader() as wire:
        stage.write(wire, 2)
    _started(stage, victim, kill)
    stage.cluster.kill(victim)
    return victim


def _copies(stage: Stage, kill: Call | None) -> int:
    victim = stage.follower()
    stage.cluster.kill(victim)
    shutil.rmtree(stage.path(victim))
    _started(stage, victim, kill)
    if stage.process(victim).running:
        stage.cluster.kill(victim)
    return victim


def _elects(stage: Stage, kill: Call | None) -> int:
    leader = stage.cluster.wait_leader()
    victim = min(broker for broker in stage.cluster.ids if broker != leader)
    with watched(stage, victim, kill):
        _loses(stage, leader, victim)
    return victim


def _elects_by_zk(stage: Stage, kill: Call | None) -> int:
    with watched(stage, ZK, kill):
        _loses(stage, stage.cluster.wait_leader(), ZK)
    return ZK


def _loses(stage: Stage, leader: int, victim: int) -> None:
    """The leader dies; until another one leads and is answered, or the victim is dead."""
    process = stage.process(victim)
    stage.cluster.kill(leader)
    wait_until(
        lambda: not process.running or stage.cluster.leader() not in (None, leader),
        f"another one than {leader} leads, or {process.name} is dead",
    )
    if process.running:
        with (
            contextlib.suppress(OSError, AssertionError),
            stage.cluster.connect_leader(5.0) as wire,
        ):
            stage.write(wire, 1)


SCENES: Final[dict[str, Callable[[Stage, Call | None], int]]] = {
    "broker: a follower's life": _lives(Stage.follower),
    "broker: a leader's life": _lives(lambda stage: stage.cluster.wait_leader()),
    "broker: restart": _restarts,
    "broker: full copy": _copies,
    "broker: election": _elects,
    "yak-zk: election": _elects_by_zk,
}


def kill_members(
    home: Path, name: str, choose: Callable[[list[Call]], list[Call]], opened: Cluster
) -> Result:
    """One scene, again and again, with one of its calls not made."""
    play, began = SCENES[name], time.monotonic()
    stage = Stage(opened, home)
    with opened.connect_leader() as wire:
        for topic in wire.ok("metadata")["topics"]:  # and what kills have left of others' lives
            wire.ok("delete_topic", topic=topic)
        wire.ok("create_topic", topic="kept", partitions=1)
    victim = play(stage, None)
    calls = sorted(set(changes(stage.notes, stage.path(victim))))
    stage.check(victim)
    result = Result(name, len(calls))
    for call in choose(calls):
        opened.tell(f"{name}: kill at {call}")
        victim = play(stage, call)
        at = killed(stage.notes, stage.path(victim))
        stage.check(victim)
        result.kills[at.name if at is not None else "elsewhere"] += 1
    result.took_s = time.monotonic() - began
    return result


def kill_all_members(
    home: Path, only: str | None, choose: Callable[[list[Call]], list[Call]]
) -> Iterator[Result]:
    """Every scene of real processes, on one cluster."""
    names = [name for name in SCENES if only in (None, name)]
    if not names:
        return
    with Cluster(home, zk_options=ZK_OPTIONS, broker_options=OPTIONS, fsync="always") as cluster:
        try:
            for name in names:
                yield kill_members(home, name, choose, cluster)
        except BaseException:
            for title, text in cluster.report():
                print(f"---- {title}\n{text}")  # noqa: T201 -- what a failed run shows
            raise
