"""One run: clients at work while nemesis.py does what it does; the end is judged.

    with a cluster of real processes, doors between them (links.py), everything small
        registered producers by the library and by hand, all with acks=all
        two groups that acknowledge, by the library and by hand
        readers without a group, and one at each replica
        act after act, until both the time is over and enough faults were made
    heal; writers leave, groups come to their end, each replica is read
    every process ends with 0; logs are compared by `sum`, files byte by byte; `yak verify`
    the history is judged (tests/soak/judge.py)

What the run does is decided by its seed; when it happens is the machine's.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fault import disks, links, machine
from tests.fault.fault import Fault
from tests.fault.field import Field
from tests.fault.nemesis import KINDS, Nemesis
from tests.fault.report import Report
from tests.soak import house
from tests.soak.crew import Crew
from tests.soak.ending import end_processes, read_everything, wait_caught_up
from tests.soak.judge import Verdict, judge
from tests.soak.notes import Notes, read_notes
from tests.soak.topics import Topics
from tests.support.cluster import Cluster, run_command
from tests.support.logfiles import segments, split_segment

TOPICS: Final = {"one": 1, "two": 2, "three": 3}
GROUPS: Final = ("all", "twin")
#: Of a member: it outlives an election, and not every fault.
SESSION_MS: Final = 6000
#: A slow machine may take so many times as long, to make as many faults as it has to.
STRETCH: Final = 2.0
#: `yak verify` reads everything within this.
VERIFY_S: Final = 120.0

ZK_OPTIONS: Final = (
    *("--heartbeat-ms", "250", "--session-ms", "2000", "--lease-ms", "1300"),
    *("--replica-lag-ms", "1500", "--resign-ms", "3000", "--cooldown-ms", "2000"),
)
#: Topics are made by the run alone; a broker waits for a yak-zk that it is cut off from.
BROKER_OPTIONS: Final = ("--no-auto-create", "--zk-wait", "600s")


@dataclass(frozen=True)
class Plan:
    """seconds: at least so long; faults: at least so many, unless that takes STRETCH as long.

    rate: records a second, in all.  apart: each process in a network namespace of its own.
    """

    seconds: float
    seed: int
    faults: int = 0
    fsync: str = "always"
    rate: float = 120.0
    apart: bool = False
    kinds: tuple[type[Fault], ...] = KINDS


class Run:
    """`run` it once, on the main thread: with `apart`, that leaves the machine's namespace."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.plan = plan
        self._notes_dir = directory / "notes"
        self._notes_dir.mkdir(parents=True)
        cluster_dir = directory / "cluster"
        cluster_dir.mkdir()
        self.cluster = Cluster(
            cluster_dir,
            zk_options=(*ZK_OPTIONS, *house.SHORT.zk_options()),
            broker_options=(*BROKER_OPTIONS, *house.SHORT.broker_options()),
            fsync=plan.fsync,
        )
        self.field = Field(self.cluster)
        self.nemesis = Nemesis(self.field, random.Random(plan.seed), plan.kinds, self._tick)
        self._crew: Crew | None = None
        self._disks = ""

    def run(self) -> Report:
        """Raises AssertionError where the cluster does not do what is waited for."""
        began = time.monotonic()
        plan = self.plan
        with contextlib.ExitStack() as stack:
            notes = stack.enter_context(Notes(self._notes_dir / "run.notes", "run"))
            stack.enter_context(links.prepared(self.field, apart=plan.apart))
            stack.enter_context(disks.prepared(self.field))
            stack.enter_context(machine.prepared(self.field))
            kinds = {mount.kind for mount in self.field.mounts.values()}
            self._disks = f"an {kinds.pop()} for each" if kinds else "the machine's"
            cluster = stack.enter_context(self.cluster)
            crew = self._crew = Crew(cluster, self._notes_dir, notes, random.Random(plan.seed + 1))
            topics = Topics(cluster, random.Random(plan.seed + 2), house.SHORT)
            stack.enter_context(contextlib.closing(topics))
            try:
                self._begin(crew, topics)
                self._live()
                self._end(crew, topics)
            except BaseException:
                cluster.tell("the run failed; what clients met before that:")
                for death in crew.deaths:
                    cluster.tell(death)
                raise
            epoch = cluster.epoch()
            read_everything(cluster, topics)
            troubles = [*crew.deaths, *end_processes(cluster)]
            directories = [self.field.disks[broker] for broker in cluster.ids]
            troubles += [*_compare(directories), *_verify(directories)]
        verdict = judge(read_notes(self._notes_dir), topics.lives, time.monotonic())
        return self._report(verdict, troubles, epoch, time.monotonic() - began)

    # -- the parts of a run ------------------------------------------------------------------------

    def _begin(self, crew: Crew, topics: Topics) -> None:
        for name, partitions in TOPICS.items():
            topic = topics.make(name, partitions)
            topic.groups = list(GROUPS)
            topic.life.groups = frozenset(GROUPS)
        names = list(TOPICS)
        for broker in self.cluster.ids:
            crew.start("replica", names, bootstrap=self.cluster.bootstrap([broker]))
        crew.start("reader", names)
        for group in GROUPS:
            crew.start("consumer", names, group, session_ms=SESSION_MS, by_hand=group == "twin")
            crew.start("member", names, group, session_ms=SESSION_MS)
        for keyed in (True, False):
            crew.start("producer", names, rate=self.plan.rate / 4, keyed=keyed)
            crew.start("raw", names, rate=self.plan.rate / 4)
        self.field.wait_whole()

    def _live(self) -> None:
        began, plan = time.monotonic(), self.plan
        while True:
            lived_s, made = time.monotonic() - began, self.nemesis.made.total()
            if lived_s >= plan.seconds and made >= plan.faults:
                return
            if lived_s >= plan.seconds * STRETCH:
                return
            self.nemesis.act()

    def _tick(self) -> None:
        if self._crew is not None:
            self._crew.look(float("inf"))

    def _end(self, crew: Crew, topics: Topics) -> None:
        """All is healed: everybody comes to the end of everything."""
        crew.dismiss("producer", "raw")
        for topic in topics.living.values():
            for group in topic.groups:
                wait_caught_up(topics, topic, group, list(TOPICS))
        crew.dismiss("consumer", "member", "reader", "replica")
        self.cluster.wait_level()

    def _report(self, verdict: Verdict, troubles: list[str], epoch: int, seconds: float) -> Report:
        plan, nemesis = self.plan, self.nemesis
        figures = {
            "seed": plan.seed,
            "seconds": round(seconds),
            "fsync": plan.fsync,
            "links": "namespaces, and proxies" if plan.apart else "proxies",
            "disks": self._disks,
            "faults": nemesis.made.total(),
            "kinds": f"{len(nemesis.made)} made, {len(nemesis.missing)} skipped",
            "at once": " ".join(f"{n}: {c}" for n, c in sorted(nemesis.at_once.items())),
            "records acknowledged": verdict.acknowledged,
            "records delivered": verdict.delivered,
            "elections": epoch,
            "longest gap": f"{verdict.longest_gap():.1f} s",
        }
        return Report(figures, verdict, troubles, nemesis, self.cluster.story)


def sums(data_dir: Path) -> dict[int, str]:
    """index -> `sum`, of every operation that the log still has."""
    return {
        operation.fields["index"]: operation.fields["sum"]
        for path in segments(data_dir / "oplog")
        for operation in split_segment(path)[1]
    }


def _compare(disks: Sequence[Path]) -> list[str]:
    """Where two logs have one index, they have one sum, and so agree on all before it."""
    logs = [sums(disk) for disk in disks]
    found = []
    for disk, log in zip(disks[1:], logs[1:], strict=True):
        common = logs[0].keys() & log.keys()
        differing = sorted(index for index in common if logs[0][index] != log[index])
        if differing or not common:
            found.append(
                f"logs of {disks[0].name} and {disk.name}: {len(common)} operations in common, "
                f"sums differ at {differing[:5]}"
            )
    return found


def _verify(disks: Sequence[Path]) -> list[str]:
    done = run_command("yak", "verify", *map(str, disks), timeout_s=VERIFY_S)
    if done.returncode == 0:
        return []
    return [f"yak verify: {(done.stdout + done.stderr).decode(errors='replace')}"]
