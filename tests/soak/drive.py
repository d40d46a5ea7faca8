"""A long run: everything comes and goes while one broker after another is restarted.

    with a cluster of real processes (yak-zk, three brokers, everything small: house.py)
        two groups read all steady topics, from their beginning to the end of the run
        producers, members, topics and groups come and go at random, by the seed
        faults.py restarts the brokers and wipes their directories
        judge.py judges, samples.py watches what it costs

The last sixth of the run goes on without faults of brokers, so that each process has a life that
is long enough to show a leak.  Then all producers leave, every group has to come to the end of
its topics, every member leaves, and each replica is read from end to end.

The seed decides what is done in which order; when it happens is the machine's.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.soak import house
from tests.soak import samples as costs
from tests.soak.crew import Client, Crew
from tests.soak.ending import end_processes, read_everything, wait_caught_up
from tests.soak.faults import Faults
from tests.soak.history import check, history
from tests.soak.judge import Verdict, judge
from tests.soak.notes import Notes, read_notes
from tests.soak.topics import Topic, Topics
from tests.support.cluster import Cluster

GROUPS = ("all", "twin")
STEADY = ("steady-a", "steady-b", "steady-c")
#: Steady, and it keeps seconds.
BRIEF = "brief"
#: Passing topics at one time.
PASSING = 3
#: A run of less says nothing about growth: it is still beginning.
TELLING_S = 600.0
#: Between two looks at everything.
TICK_S = 0.1

ZK_OPTIONS = (
    *("--heartbeat-ms", "250", "--session-ms", "2000", "--lease-ms", "1300"),
    *("--replica-lag-ms", "1500", "--resign-ms", "3000", "--cooldown-ms", "2000"),
)
BROKER_OPTIONS = (
    "--no-auto-create",  # topics live by this run's word alone
    # A new leader counts from its beginning: less than one lasts here, or none is ever forgotten.
    *("--producer-session-ms", "5000", "--producer-retention-ms", "20000"),
)


@dataclass(frozen=True)
class Plan:
    """rate: records a second, in all.  step_s, fault_s: from and to, between two steps or faults.

    stop_s: how long a stopped client stays so; session_ms: of members, below that.
    away_s: the longest that a broker stays ended: so long that its log is not enough any more.
    """

    seconds: float
    seed: int
    fsync: str = "never"
    rate: float = 150.0
    step_s: tuple[float, float] = (0.5, 5.0)
    fault_s: tuple[float, float] = (10.0, 30.0)
    sample_s: float = 5.0
    session_ms: int = 5000
    stop_s: float = 8.0
    away_s: float = 15.0
    house: house.House = house.LONG

    @classmethod
    def short(cls, seconds: float, seed: int) -> Plan:
        """Everything closer together, for a run of about a minute."""
        return cls(
            seconds, seed, step_s=(0.2, 1.5), fault_s=(0.5, 2.0), sample_s=1.0,
            session_ms=3000, stop_s=5.0, away_s=4.0, house=house.SHORT,
        )  # fmt: skip


@dataclass
class Report:
    plan: Plan
    verdict: Verdict
    figures: dict[str, Any]
    #: What else went wrong than a history shows.
    troubles: list[str]
    growth: list[costs.Growth]
    courses: list[costs.Course]
    samples: list[costs.Sample]

    @property
    def grown(self) -> list[costs.Growth]:
        return [growth for growth in self.growth if growth.grown]

    @property
    def anomalies(self) -> int:
        return self.verdict.count + len(self.troubles)

    def summary(self) -> str:
        lines = [f"{name:<24} {value}" for name, value in self.figures.items()]
        lines += [f"{'anomalies':<24} {self.anomalies}", *self.verdict.lines(), *self.troubles]
        lines += [str(course) for course in self.courses]
        lines += [str(growth) for growth in self.growth]
        flat = f"{len(self.grown)} of {len(self.growth)} series grew" if self.grown else "flat"
        lines.append(f"{'costs':<24} {flat if self.growth else 'too short to tell'}")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        data = {
            "plan": asdict(self.plan),
            "figures": self.figures,
            "anomalies": {"count": self.anomalies, **self.verdict.anomalies},
            "troubles": self.troubles,
            "growth": [growth._asdict() for growth in self.growth],
            "courses": [course._asdict() for course in self.courses],
            "series": costs.table(self.samples),
            "samples": [sample._asdict() for sample in self.samples],
        }
        path.write_text(json.dumps(data, indent=1))


class Drive:
    """One run.  `run` it once."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.plan = plan
        self._notes_dir = directory / "notes"
        self._notes_dir.mkdir(parents=True)
        self._cluster_dir = directory / "cluster"
        self._cluster_dir.mkdir()
        self.cluster = Cluster(
            self._cluster_dir,
            zk_options=(*ZK_OPTIONS, *plan.house.zk_options()),
            broker_options=(*BROKER_OPTIONS, *plan.house.broker_options()),
            fsync=plan.fsync,
        )
        self._chance = random.Random(plan.seed)
        self._number = 0
        self._again = 0
        self._troubles: list[str] = []
        self._stories = house.Stories()

    @contextlib.contextmanager
    def _sampled(self) -> Iterator[costs.Sampler]:
        directories = {f"disk-{broker}": self.cluster.data_dir(broker) for broker in (1, 2, 3)}
        directories["disk-zk"] = self.cluster.zk_dir
        sampler = costs.Sampler(self._pids, directories, self.plan.sample_s)
        sampler.start()
        try:
            yield sampler
        finally:
            sampler.finish()

    def _pids(self) -> dict[str, int]:
        cluster = self.cluster
        named = {f"broker-{broker}": p for broker, p in list(cluster.brokers.items())}
        if cluster.zk is not None:
            named["yak-zk"] = cluster.zk
        found = {name: process.pid for name, process in named.items() if process.running}
        return found | self._crew.pids()

    def run(self, checker: Path | None = None) -> Report:
        """Raises AssertionError where the cluster does not do what is waited for.

        checker: a program that checks the history, too; it exits with 0 where that is valid.
        """
        plan = self.plan
        with self.cluster as cluster, Notes(self._notes_dir / "run.notes", "run") as notes:
            self._crew = Crew(cluster, self._notes_dir, notes, random.Random(plan.seed + 1))
            self._topics = Topics(cluster, random.Random(plan.seed + 2), plan.house)
            self._faults = Faults(
                cluster, notes, random.Random(plan.seed + 3), plan.fault_s, away_s=plan.away_s,
                before_wipe=lambda broker: self._stories.read(cluster.data_dir(broker)),
            )  # fmt: skip
            with self._sampled() as sampler, contextlib.closing(self._topics):
                try:
                    self._begin()
                    self._live(time.monotonic() + plan.seconds)
                    length_s = plan.seconds
                    self._end()
                except BaseException:
                    cluster.tell("the run failed; what clients met before that:")
                    for death in self._crew.deaths:
                        cluster.tell(death)
                    raise
            epoch = cluster.epoch()
            read_everything(cluster, self._topics)
            self._troubles += end_processes(cluster)
        for broker in self.cluster.ids:
            self._stories.read(self.cluster.data_dir(broker))
        self._troubles += self._stories.amiss
        began = time.monotonic()
        lives = self._topics.lives
        verdict = judge(read_notes(self._notes_dir), lives, began)
        if checker is not None:
            operations = history(read_notes(self._notes_dir), lives, began)
            said = check(checker, self._notes_dir.parent / "history.jsonl", operations)
            self._troubles += [] if said is None else [f"{checker.name}: {said}"]
        figures = self._figures(verdict, epoch) | {"judged in": f"{time.monotonic() - began:.1f} s"}
        seen = sampler.samples
        growth = costs.flatness(seen, length_s) + costs.lives(seen)
        courses = costs.courses(seen, length_s)
        if length_s < TELLING_S:
            growth, courses = [], []
        return Report(plan, verdict, figures, self._troubles, growth, courses, seen)

    # -- the parts of a run ------------------------------------------------------------------------

    def _begin(self) -> None:
        for name in STEADY:
            topic = self._topics.make(name, self._chance.randint(2, 4), steady=True)
            topic.groups = list(GROUPS)
            topic.life.groups = frozenset(GROUPS)
        brief = self._topics.make(BRIEF, 2, steady=True, forgets=True)
        brief.groups = ["of-brief"]
        self._crew.start("consumer", [BRIEF], "of-brief", session_ms=self.plan.session_ms)
        self._crew.start("reader", [BRIEF])
        self._crew.start("producer", [BRIEF], rate=self.plan.rate / 8, keyed=True)
        steady = list(STEADY)
        for group in GROUPS:
            self._crew.start("consumer", steady, group, session_ms=self.plan.session_ms)
        self._crew.start("member", steady, GROUPS[0], session_ms=self.plan.session_ms)
        self._crew.start("reader", steady)
        self._crew.start("producer", steady, rate=self.plan.rate / 4, keyed=True)
        self._crew.start("raw", steady, rate=self.plan.rate / 4)

    def _live(self, until: float) -> None:
        began, plan = time.monotonic(), self.plan
        calm_at = began + (until - began) * 5 / 6
        step_at = groups_at = began
        while (now := time.monotonic()) < until:
            if now < calm_at or not self._faults.is_whole:
                self._faults.tick()
            else:
                self._faults.look_whether_alive()
            self._crew.look(plan.stop_s)
            if now >= step_at:
                self._step((now - began) / plan.seconds)
                step_at = time.monotonic() + self._chance.uniform(*plan.step_s)
            if now >= groups_at:
                self._topics.look_at_groups()
                groups_at = now + 5.0
            time.sleep(TICK_S)

    def _step(self, share: float) -> None:
        """One event of life, by chance.  share: of the run that is over."""
        steps: list[tuple[int, Callable[[], None]]] = [
            (3, self._member_comes),
            (3, self._member_goes),
            (2, self._producer_comes),
            (2, self._producer_goes),
            (3, self._topic_comes),
            (2, self._topic_goes),
            (3, self._topic_trimmed),
            (1, lambda: self._topic_grows(share)),
            (1, self._anchor_changes),
        ]
        weights, actions = zip(*steps, strict=True)
        self._chance.choices(actions, weights)[0]()

    def _end(self) -> None:
        """Heal; let everybody come to the end of everything."""
        self._faults.heal()
        self._crew.dismiss("producer", "raw")
        for client in self._crew.clients.values():
            if client.state == "stopped":
                self._crew.go_on(client)
        names = list(self._topics.living)
        for group in GROUPS:
            if not self._anchors(group):
                self._crew.start("consumer", list(STEADY), group)
        for topic in self._topics.living.values():
            for group in topic.groups:
                wait_caught_up(self._topics, topic, group, names)
        self._topics.look_at_groups()
        self._topics.keep_all()
        self._crew.dismiss("consumer", "member", "reader")
        self._troubles += self._crew.deaths
        self.cluster.wait_level()

    def _figures(self, verdict: Verdict, epoch: int) -> dict[str, Any]:
        faults, counts = self._faults, self._topics.counts
        healed = sorted(faults.healed_s)
        return {
            "seed": self.plan.seed,
            "seconds": round(self.plan.seconds),
            "records acknowledged": verdict.acknowledged,
            "records delivered": verdict.delivered,
            "set aside": verdict.set_aside,
            "longest gap": f"{verdict.longest_gap():.1f} s",
            "faults": faults.turns,
            "restarts": faults.restarts,
            **dict(sorted(faults.made.items())),
            "in sync again, median": f"{healed[len(healed) // 2]:.1f} s" if healed else "-",
            "in sync again, worst": f"{healed[-1]:.1f} s" if healed else "-",
            "elections": epoch,
            **self._stories.figures(),
            "rebalances": sum(self._topics.generations.values()),
            "groups": len(self._topics.generations),
            "clients": self._crew.started,
            **self._crew.figures(),
            "topics made again": self._again,
            **{f"topics {k}" if " " not in k else k: v for k, v in counts.items()},
        }

    # -- steps -------------------------------------------------------------------------------------

    def _anchors(self, group: str) -> list[Client]:
        """Members of a group who want all that it reads."""
        found = self._crew.find("consumer", "member", group=group)
        return [client for client in found if len(client.topics) == len(STEADY)]

    def _member_comes(self) -> None:
        """With all topics, or with some; by the library or by hand."""
        group = self._chance.choice(GROUPS)
        if len(self._crew.find("consumer", "member", group=group)) < 4:
            some = self._chance.sample(STEADY, self._chance.randint(1, len(STEADY)))
            self._crew.start(
                self._chance.choice(["consumer", "consumer", "member"]),
                some,
                group,
                session_ms=self.plan.session_ms,
                by_hand=self._chance.random() < 0.5,
            )

    def _member_goes(self) -> None:
        """By its own will, by kill -9, or it hangs for longer than its session."""
        client = self._one_of(self._crew.find("consumer", "member"))
        if client is None or client.group not in GROUPS or self._anchors(client.group) == [client]:
            return
        self._chance.choice([self._crew.leave, self._crew.kill, self._crew.stop])(client)

    def _anchor_changes(self) -> None:
        """Who alone read all that its group reads goes; another one is there first."""
        group = self._chance.choice(GROUPS)
        anchors = self._anchors(group)
        self._crew.start("consumer", list(STEADY), group, session_ms=self.plan.session_ms)
        if anchors:
            self._chance.choice([self._crew.leave, self._crew.kill])(anchors[0])

    def _producer_comes(self) -> None:
        if len(self._crew.find("producer", "raw")) < 4:
            self._crew.start(
                self._chance.choice(["producer", "raw"]),
                STEADY,
                rate=self.plan.rate / 4,
                keyed=self._chance.random() < 0.5,
            )

    def _producer_goes(self) -> None:
        producers = self._crew.find("producer", "raw")
        client = self._one_of([c for c in producers if c.topics == list(STEADY)])
        if client is not None and len(producers) > 1:
            self._chance.choice([self._crew.leave, self._crew.kill, self._crew.stop])(client)

    def _passing(self) -> list[Topic]:
        return [topic for topic in self._topics.living.values() if not topic.steady]

    def _topic_comes(self) -> None:
        """With a group of its own, a member and a producer."""
        if len(self._passing()) >= PASSING:
            return
        self._number += 1
        forgets = self._chance.random() < 0.25
        name = f"passing-{self._number}"
        topic = self._topics.make(name, self._chance.randint(1, 4), forgets=forgets)
        group = f"of-{topic.name}"
        topic.groups = [group]
        topic.life.groups = frozenset([group])
        kind = self._chance.choice(["consumer", "member"])
        self._crew.start(kind, [topic.name], group, session_ms=self.plan.session_ms)
        kind = self._chance.choice(["producer", "raw"])
        self._crew.start(kind, [topic.name], rate=self.plan.rate / 8)

    def _topic_goes(self) -> None:
        """Its clients leave before, or it goes away under them; or it is made again at once."""
        passing = self._passing()
        if not passing:
            return
        topic = self._chance.choice(passing)
        clients = self._crew.find("consumer", "member", "producer", "raw", topic=topic.name)
        way = self._chance.choice(["orderly", "under clients", "again"])
        if way == "again" and any(client.kind == "consumer" for client in clients):
            way = "orderly"  # the library's consumer does not tell the two topics apart
        if way == "again":
            self._topics.delete(topic)
            again = self._topics.make(topic.name, topic.partitions, forgets=topic.life.forgets)
            again.groups = topic.groups
            again.life.groups = frozenset(topic.groups)
            self._again += 1
            return
        if way == "orderly":
            for client in clients:
                self._crew.leave(client)
        self._topics.delete(topic)
        for client in clients if way != "orderly" else ():
            self._chance.choice([self._crew.leave, self._crew.kill])(client)
        for group in topic.groups:
            self._topics.delete_group(group)

    def _topic_trimmed(self) -> None:
        self._topics.trim(self._chance.choice(list(self._topics.living.values())))

    def _topic_grows(self, share: float) -> None:
        """Steady ones only early, so that the second half can be compared with the first."""
        topic = self._chance.choice(list(self._topics.living.values()))
        if not topic.steady or share < 0.2:
            self._topics.grow(topic)

    def _one_of(self, clients: list[Client]) -> Client | None:
        return self._chance.choice(clients) if clients else None
