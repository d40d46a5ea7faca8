"""One attack after the other on a broker of its own, while others measure what they feel of it.

    calm, attack, calm, attack …     a well-behaved pair (probe.py) measures in each window
    the broker's memory              at rest, and the peak of each attack (VmHWM, which is reset)

Where the machine lets it, the pair runs whenever it is woken, the broker before all others, and
the attackers when nobody else wants to: as if each had a machine of its own.  Otherwise what is
measured is whom the kernel prefers: most of a high p99 was the pair's own wait for a core, 4 ms.

A ratio is that of the p99 of all attacked windows to that of all calm ones.  A calm p99 of a
millisecond says nothing on a machine with other work: below FLOOR_MS there is no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.load.probe import Latency, Probe
from tests.support.cluster import Cluster
from tests.support.process import environment
from tests.support.wire import record

MIB: Final = 1 << 20
#: A p99 below it is good, whatever it is calm.
FLOOR_MS: Final = 25.0
#: By how much an attack may slow others down.
MOST: Final = 2.0
#: Until an attack is in full swing.
READY_S: Final = 120.0
#: Niceness of the broker.
PREFERRED: Final = -15
#: One core is for what a broker does in its event loop; those who measure and attack have the
#: others.  Where these shared it, a broker that was woken beside an attacker waited for the next
#: tick of the scheduler, 4 ms: kernels with lazy preemption (6.12 and later) do that.
CORES: Final = sorted(os.sched_getaffinity(0))
ITS_OWN: Final = CORES[-1:]
THEIRS: Final = CORES[:-1] or CORES
#: Sessions far above any stall, so that the measured broker is the leader all the time.
CALM: Final = (
    *("--session-ms", "20000", "--lease-ms", "13000", "--min-insync-replicas", "1"),
    *("--replica-lag-ms", "15000", "--resign-ms", "30000"),
)


@dataclass(frozen=True)
class Case:
    """name: of an attack.  count: connections.  bound: MiB that the broker may take for it.

    once: it comes to an end, so that it cannot be begun again.  options: of the broker.
    at_least_s: of the attacked window, where it takes longer than others.
    """

    name: str
    count: int
    bound: int = 200
    once: bool = False
    options: tuple[str, ...] = ()
    at_least_s: float = 0.0


@dataclass
class Outcome:
    """What an attack did."""

    case: Case
    calm: Latency
    attacked: Latency
    rest_mib: int
    peak_mib: int
    met: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.attacked.p99 / self.calm.p99

    def judge(self) -> None:
        """What is not as it should be."""
        if self.attacked.p99 > max(MOST * self.calm.p99, FLOOR_MS):
            self.faults.append(f"p99 is {self.ratio:.1f} times the calm one")
        if self.peak_mib - self.rest_mib > self.case.bound:
            self.faults.append(f"memory grew by more than {self.case.bound} MiB")

    def line(self) -> str:
        calm, hit = self.calm, self.attacked
        return (
            f"{self.case.name:22}{self.case.count:6} | calm {calm.p50:7.2f} {calm.p99:8.2f} | "
            f"attacked {hit.p50:7.2f} {hit.p99:8.2f} {hit.worst:8.1f} ms | x{self.ratio:5.2f} | "
            f"{self.rest_mib:4} > {self.peak_mib:4} MiB | {self._words()}"
        )

    def _words(self) -> str:
        return "; ".join([*self.faults, json.dumps(self.met)])

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self.case),
            "calm": self.calm._asdict(),
            "attacked": self.attacked._asdict(),
            "ratio": round(self.ratio, 2),
            "rest_mib": self.rest_mib,
            "peak_mib": self.peak_mib,
            "met": self.met,
            "faults": self.faults,
        }


class Attacker:
    """A process that attacks, from `ready` until it is closed."""

    def __init__(self, case: Case, cluster: Cluster) -> None:
        address = "{}:{}".format(*cluster.addresses[1])
        argv = [sys.executable, "-m", "tests.load.attacks", case.name, address]
        self._process = subprocess.Popen(
            [*argv, "--count", str(case.count)],
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=Path(__file__).parents[2],
            text=True,
            start_new_session=True,
        )
        os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(self._process.pid, THEIRS)

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        assert line.strip() == "ready", f"the attack did not begin: {line!r}"

    def end(self) -> dict[str, Any]:
        """What its connections met."""
        self._process.terminate()
        out, _ = self._process.communicate(timeout=60)
        met: dict[str, Any] = json.loads(out.splitlines()[-1])
        return met


class Memory:
    """A process's resident memory, from /proc, in MiB."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def now(self) -> int:
        return self._read("VmRSS")

    def peak(self) -> int:
        """The most since `reset`."""
        return self._read("VmHWM")

    def reset(self) -> None:
        (self._proc / "clear_refs").write_text("5")

    def _read(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) // 1024
        raise AssertionError(f"/proc has no {name}")


def prefer(pid: int) -> None:
    """Run it before others; where we may say so.

    Not in real time: whoever needs all of a processor is stopped for 50 ms of each second then.
    """
    with contextlib.suppress(PermissionError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), PREFERRED)
    os.sched_setaffinity(pid, ITS_OWN)  # of its first thread, the loop's


@contextlib.contextmanager
def target(directory: Path, options: Sequence[str]) -> Iterator[Cluster]:
    """A broker with something to read; `quiet` stays empty, and `junk` is anybody's."""
    with Cluster(directory, ids=[1], zk_options=CALM, broker_options=options) as cluster:
        with cluster.connect_leader() as wire:
            for topic in ("load", "quiet", "junk"):
                wire.ok("create_topic", topic=topic, partitions=1)
            for _ in range(16):
                body = record("x" * 10_000) * 50
                wire.ok("produce", body, topic="load", partition=0, count=50)
        yield cluster


def run(case: Case, directory: Path, *, rounds: int, seconds: float) -> Outcome:
    """One attack, on a broker of its own."""
    os.sched_setaffinity(0, THEIRS)
    calm: list[float] = []
    attacked: list[float] = []
    met: dict[str, Any] = {}
    directory.mkdir(parents=True, exist_ok=True)
    with (
        target(directory, case.options) as cluster,
        Probe(cluster.addresses[1]) as probe,
    ):
        memory = Memory(cluster.brokers[1].pid)
        prefer(cluster.brokers[1].pid)
        probe.measure(1.0)  # all is warm, and its threads are there
        rest = memory.now()
        memory.reset()
        for _ in range(1 if case.once else rounds):
            calm += probe.measure(seconds)
            with Attacker(case, cluster) as attacker:
                if not case.once:
                    attacker.wait_ready()
                attacked += probe.measure(max(seconds, case.at_least_s))
                met = attacker.end()
            time.sleep(0.5)  # its connections are forgotten
        outcome = Outcome(case, Latency.of(calm), Latency.of(attacked), rest, memory.peak(), met)
        outcome.judge()
        outcome.faults += check(cluster)
    shutil.rmtree(directory)
    return outcome


def check(cluster: Cluster) -> list[str]:
    """What must hold after any attack: it lives, it serves, and no bug was told of."""
    faults = []
    broker = cluster.brokers[1]
    if not broker.running:
        faults.append(f"the broker ended with {broker.popen.returncode}")
    elif cluster.status(1) is None:
        faults.append("the broker does not answer")
    if "Traceback" in broker.stderr() or "incident" in broker.stderr():
        faults.append(f"the broker told of a bug: {broker.stderr()[-2000:]}")
    return faults
