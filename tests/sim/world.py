"""One simulated run: a cluster made from a seed, faults, healing, and what must be true then.

    0 … chaos_s        clients work, faults fall
    then               all faults heal; within HEAL_S everything must be done:
                       every batch acknowledged, every replica in the ISR, equal, and read to its
                       end; every group has acknowledged all

A run is a function of its Setup alone, and that of the seed: the same seed gives the same
transcript.  `Setup.faults` is a plain list, so that a run can be tried again with fewer of them.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from msgspec.structs import replace

from tests.sim.broker import SimBroker
from tests.sim.clients import Client, Producer, Sender
from tests.sim.clock import Scheduler
from tests.sim.disk_plans import disk_plan, shape
from tests.sim.durable import missing
from tests.sim.faults import Injector
from tests.sim.judge import Judge, Violation
from tests.sim.members import Member
from tests.sim.net import Network, Server
from tests.sim.operators import Operator
from tests.sim.outages import survive
from tests.sim.plans import Fault, plan
from tests.sim.rare import beside
from tests.sim.readers import Reader, Watcher
from tests.sim.rot import Auditor
from tests.sim.scenes import SCENES, stage
from tests.sim.zk import SimZk
from yak.config import Limits, Settings

#: After healing everything must be done within this, in seconds: sessions end, a broker that
#: resigned cools down, a follower catches up, members and clients come back.
HEAL_S: Final = 40.0
#: Lines of the story that are kept.
STORY_LINES: Final = 400
#: What a run is about: any faults; who is in the ISR; that, and disks that forget; who leads;
#: topics and groups that come, change and go; checkpoints, logs that are cut, copies.
AREAS: Final = (
    *("mixed", "mixed", "mixed", "isr", "power", "takeover", "topics", "topics"),
    *("upkeep", "upkeep"),
)
#: And what one seed in five is about instead: bits that flip; joins of which none is whole; syncs
#: that fail or never came; the loss of one for good; a yak-zk that knows nothing; a leader with a
#: long tail that nobody has; one that has its lease and is replaced; reports that come late.
LATER_AREAS: Final = ("rot", "torn", "sync", "outage", "stranger", "lease", "tail", "late")
TOPICS: Final = ("t", "u", "v")
GROUPS: Final = ("g", "h")


@dataclass
class Setup:
    """All that a run depends on.  Times in seconds unless their name says otherwise."""

    seed: int
    area: str = "mixed"
    brokers: int = 3
    fsync: str = "never"
    interval_s: float = 0.02
    partitions: int = 2
    topics: tuple[str, ...] = TOPICS[:1]
    groups: tuple[str, ...] = GROUPS[:1]
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    oplog_retain_bytes: int = 1 << 30
    bootstrap_wait_ms: int = 100
    cooldown_ms: int = 2000
    timeout_ms: int = 1000
    replicate_bytes: int = 0
    #: Of the log, so much stays in memory; 0: as in a real broker, which in a run is all of it.
    tail_bytes: int = 0
    chaos_s: float = 6.0
    #: No chance in delays and starts, so that a story changes only where the protocol does.
    even: bool = False
    pace_s: float = 0.2
    producers: int = 2
    batches: int = 40
    record_bytes: int = 0
    senders: int = 1
    readers: int = 2
    watchers: int = 2
    members: int = 2
    #: Members leave, die, come back and change what they want.
    lively: bool = False
    #: What an operator does to topics and groups.
    deeds: int = 0
    #: What befalls the cluster when all else has healed, and stays: outages.py.
    outage: str = ""
    #: How long a broker that has stopped takes to be gone, in seconds.
    lingers_s: float = 0.0
    #: Every broker's partitions are read from their beginning in the end.
    audited: bool = False
    faults: list[Fault] = field(default_factory=list)

    def __str__(self) -> str:
        s = self.settings
        return (
            f"{self.area}: {self.brokers} brokers, min_insync_replicas {s.min_insync_replicas}, "
            f"fsync {self.fsync}, session {s.session_ms} ms, {len(self.topics)} topics of "
            f"{self.partitions} partitions, {self.producers} producers, {self.members} members of "
            f"{len(self.groups)} groups, {self.deeds} deeds, {len(self.faults)} faults"
        )


def setup_of(seed: int, area: str = "") -> Setup:
    """What a seed stands for.  area: of its faults, or a scene's name; left out, chance says it."""
    rng = random.Random(f"setup {seed}")
    chance, area = not area, area or _area(rng, seed)
    brokers = rng.choices((3, 2, 4, 5), weights=(70, 8, 12, 10))[0]
    usual = area == "mixed" and rng.random() < 0.3
    settings = Settings(
        heartbeat_ms=250 if usual else 120,
        session_ms=2000 if usual else 600,
        lease_ms=1300 if usual else 350,
        replica_lag_ms=1500 if usual else 400,
        resign_ms=3000 if usual else 900,
        min_insync_replicas=rng.choices((2, 1, 3 if brokers > 3 else 2), weights=(85, 7, 8))[0],
        oplog_segment_bytes=rng.choice((2048, 8192, 1 << 26)),
    )
    setup = Setup(
        seed=seed,
        area=area,
        brokers=brokers,
        fsync="never" if area == "power" else rng.choice(("always", "never", "interval:20")),
        partitions=rng.randint(1, 3),
        settings=settings,
        limits=Limits(
            producer_session_ms=rng.choice((1500, 30_000)),
            checkpoint_operations=rng.choice((5, 20, 1000)),
        ),
        oplog_retain_bytes=rng.choice((0, 4096, 1 << 30)),
        replicate_bytes=rng.choice((0, 0, 600)),
        chaos_s=3.0 + 3.0 * rng.random(),
        producers=rng.randint(1, 3),
        senders=rng.randint(0, 2),
        readers=rng.randint(1, 2),
        members=rng.choice((0, 2, 3)),
    )
    setup.batches = rng.randint(10, 40) // setup.producers
    if area == "upkeep":
        _tidy(rng, setup)
    if area in LATER_AREAS:
        shape(rng, setup)
    if area == "topics" or (area in ("mixed", "takeover", "upkeep") and rng.random() < 0.3):
        _enliven(rng, setup)
    if area in SCENES:
        stage(area, rng, setup)
        return setup
    setup.pace_s = 4 * setup.chaos_s / setup.batches
    faults = (disk_plan if area in LATER_AREAS else plan)(rng, setup)
    setup.faults = sorted(faults + (beside(setup) if chance else []), key=lambda fault: fault.at)
    return setup


def _area(rng: random.Random, seed: int) -> str:
    """By a chance of its own, so that the stories of the other seeds stay as they were."""
    usual, later = rng.choice(AREAS), random.Random(f"area {seed}")
    return later.choice(LATER_AREAS) if later.random() < 0.2 else usual


def _tidy(rng: random.Random, setup: Setup) -> None:
    """Checkpoints are frequent, and the log does not reach back far."""
    setup.settings = replace(setup.settings, oplog_segment_bytes=rng.choice((1024, 2048)))
    often = rng.choice((5, 10, 20))
    setup.limits = dataclasses.replace(setup.limits, checkpoint_operations=often)
    setup.oplog_retain_bytes = rng.choice((0, 0, 4096))
    setup.replicate_bytes = rng.choice((0, 250, 600))


def _enliven(rng: random.Random, setup: Setup) -> None:
    """Topics and members come and go."""
    setup.topics = TOPICS[: rng.randint(1, 3)]
    setup.groups = GROUPS[: rng.randint(1, 2)]
    setup.members = rng.choice((2, 3, 4))
    setup.lively = rng.random() < 0.7
    setup.deeds = rng.randint(3, 14)
    setup.record_bytes = rng.choice((0, 150, 300))
    setup.replicate_bytes = rng.choice((0, 250))


class World:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.rng = random.Random(f"run {setup.seed}")
        self.scheduler = Scheduler(self.rng)
        self.net = Network(self.scheduler, self.rng)
        self.net.even = self.scheduler.even = setup.even
        self.judge = Judge(self)
        self.finishing = False
        #: How often each event was told.
        self.told: Counter[str] = Counter()
        self._lines: deque[tuple[float, str, str, dict[str, Any]]] = deque(maxlen=STORY_LINES)
        self.zk = SimZk(self.scheduler, self)
        self.brokers = {i: SimBroker(self.scheduler, self, i) for i in range(1, setup.brokers + 1)}
        for process in self.servers():
            process.offset = self.rng.random() * 1000
            process.wall_ms = self.rng.randint(-2000, 2000)
        for broker in self.brokers.values():
            broker.after_step = partial(self.judge.after, broker)
        self.injector = Injector(self, setup.faults)
        self.members = [
            Member(self, f"member{n}", setup.groups[n % len(setup.groups)], setup.topics)
            for n in range(1, setup.members + 1)
        ]
        self.clients = self._make_clients()

    def _make_clients(self) -> list[Client]:
        setup = self.setup
        clients: list[Client] = [
            Producer(self, f"producer{n}", self._some_topics(), setup.batches)
            for n in range(1, setup.producers + 1)
        ]
        clients += [
            Sender(self, f"sender{n}", setup.topics, setup.batches // 2)
            for n in range(1, setup.senders + 1)
        ]
        clients += [
            Reader(self, f"reader{n}", self._some_topics()) for n in range(1, setup.readers + 1)
        ]
        clients += [
            Watcher(self, f"watcher{n}", setup.topics) for n in range(1, setup.watchers + 1)
        ]
        if setup.deeds:
            clients.append(Operator(self, "operator", setup.deeds))
        clients += self.members
        if setup.audited:
            clients += [Auditor(self, f"auditor{i}", i) for i in self.brokers]
        return clients

    def _some_topics(self) -> list[str]:
        topics = self.setup.topics
        return sorted(self.rng.sample(topics, self.rng.randint(1, len(topics))))

    # -- what its parts ask -----------------------------------------------------------------------

    def servers(self) -> list[Server]:
        return [*self.brokers.values(), self.zk]

    def later(self, delay: float, fn: Callable[..., object], *args: Any) -> None:
        """In the world's own name."""
        self.scheduler.at(self.scheduler.now + delay, None, fn, *args)

    def tell(self, process: Server, event: str, fields: dict[str, Any]) -> None:
        self.told[event] += 1
        if isinstance(process, SimBroker):
            why = missing(process.disk, event, fields)
            if why:
                self.judge.fail(f"{why} ({process.name})")
        self._lines.append((self.scheduler.now, process.name, event, fields))
        self.injector.told(process, event, fields)

    def note(self, what: str) -> None:
        self._lines.append((self.scheduler.now, "", what, {}))

    def story(self) -> list[str]:
        """Who did what when, in the order in which it happened."""
        return [_line(*line) for line in self._lines]

    # -- the run ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises Violation."""
        with patch("yak.broker.time", self.scheduler), patch("yak.carrier.time", self.scheduler):
            for number, process in enumerate(self.servers()):
                wait = 0.01 * number if self.setup.even else 0.1 * self.rng.random()
                self.later(wait, process.start)
            self.scheduler.run(self.setup.chaos_s)
            self.note("*** all faults heal")
            self.injector.heal()
            if self.setup.outage:
                survive(self)
            self.finishing = True
            if not self.scheduler.run(self.scheduler.now + HEAL_S, self._is_done):
                raise Violation(f"progress: {HEAL_S:g} s after healing, {self._unfinished()}")
            self._compare_replicas()

    def _is_done(self) -> bool:
        return not self._unfinished()

    def _unfinished(self) -> str:
        """What is not as it must be in the end; "" once all is."""
        for client in self.clients:
            if not client.finished:
                return f"{client.name} has not finished"
        document, count = self.judge.document, len(self.judge.history)
        if document is None or document.leader is None:
            return "nobody leads"
        if len(document.isr) < len(self.brokers) or document.suspects:
            return f"the ISR is {document.isr_ids}, not whole are {sorted(document.suspects)}"
        for broker in self.brokers.values():
            if not broker.ready or broker.broker.node.state.index != count:
                return f"{broker.name} has not applied all {count} operations"
            if broker.broker.store.next_index != count + 1:
                return f"{broker.name}'s log is longer than what is committed"
        return self._unread()

    def _unread(self) -> str:
        """What a group has not acknowledged, of what its members want."""
        history = self.judge.history
        state = next(iter(self.brokers.values())).broker.node.state
        for name in self.setup.groups:
            wanted = {t for m in state.group(name).members.values() for t in m.topics}
            for topic in sorted(wanted & set(history.topics)):
                for p, shelf in enumerate(history.topics[topic].shelves):
                    acked = state.acked_by(name, (topic, p)) or 0
                    if acked != shelf.end:
                        return f"{name} has acknowledged {acked} of {shelf.end} in {topic}[{p}]"
        return ""

    # -- in the end -------------------------------------------------------------------------------

    def _compare_replicas(self) -> None:
        """In the end: equal State, equal files."""
        first = self.brokers[1].broker.node.state
        for name, expected in self.judge.history.expected().items():
            found = {key: value for key, value in getattr(first, name).items() if value != {}}
            if found != expected:
                self.judge.fail(f"same_state: `{name}` is {found}, the history says {expected}")
        for broker in self.brokers.values():
            state, store = broker.broker.node.state, broker.broker.store
            for name, value in vars(first).items():
                if name != "apply" and getattr(state, name) != value:
                    self.judge.fail(f"same_state: `{name}` of {broker.name} is another than b1's")
            store.flush()
            rot = broker.rot()
            if rot is not None and not rot.may_stay():
                self.judge.fail(f"rot: in the end {rot.where} ({broker.name})")
            self.judge.compare_files(broker, len(self.judge.history))


@dataclass
class Result:
    """How a run ended.  fault: the violation, "" if there was none."""

    setup: Setup
    fault: str
    story: list[str]
    steps: int
    operations: int
    acknowledged: int
    seconds: float
    #: Events told and operations committed, by their names.
    counts: Counter[str]

    def report(self, lines: int = STORY_LINES) -> str:
        how = self.fault or "no fault"
        return "\n".join([*self.story[-lines:], f"seed {self.setup.seed}: {self.setup}", how])


def run(seed: int, setup: Setup | None = None) -> Result:
    """One run.  Anything that is raised in it is a fault of it."""
    world = World(setup or setup_of(seed))
    fault = ""
    try:
        world.run()
    except Violation as violation:
        fault = str(violation)
    except Exception as error:  # noqa: BLE001 -- whatever a process does not survive is a finding
        fault = _told(error)
    judge = world.judge
    return Result(
        world.setup,
        fault,
        world.story(),
        world.scheduler.steps,
        len(judge.history),
        judge.acknowledged,
        world.scheduler.now,
        world.told + Counter(op.op for op, _ in judge.history.operations),
    )


def _told(error: BaseException) -> str:
    """An unexpected exception: what, and where in the project."""
    where, trace = "?", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/yak/" in code.co_filename or "/tests/" in code.co_filename:
            where = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {where}: {error}"


def _line(now: float, who: str, event: str, fields: dict[str, Any]) -> str:
    words = [f"{now:9.4f}", who, event] if who else [f"{now:9.4f}", event]
    return " ".join([*words, *(f"{name}={value}" for name, value in fields.items())])
