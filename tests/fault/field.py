"""The cluster under attack: what faults may do to its processes, and how it stands.

A process is named by its broker's id; yak-zk is 0.  Rules:

* What a fault ended is told apart from what ended by itself: `look` fails on the latter.  A fault
  that may make a process end (its disk fails) says so by `may_end`, and takes it back, when it has
  undone what it did, by `must_live`, which starts it again where it has ended.  One that is about
  to end of it just then ends a little later, with 1: `look` starts it again.
* `start` starts whoever does not run; the others are left alone, so that it can be called twice.
  It does not wait until they listen: each has its port since its first start.
* Nothing here waits for the cluster to agree on anything: `wait_whole` does, and nemesis.py calls
  it when every fault has ended.

It does not choose whom to hit, or when.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fault.roads import ZK, Roads
from tests.support.cluster import Cluster
from tests.support.mounts import Mount
from tests.support.process import PATIENCE_S, Process, wait_until

if TYPE_CHECKING:
    from tests.fault.spaces import Spaces

#: All are in sync again, and records are acknowledged, within this after the last fault's end: it
#: bounds a loaded machine that has to copy everything, and no latency.
WHOLE_S: Final = 120.0
#: What a process met just before `must_live` ends it within this.
LATE_S: Final = 5.0
#: Of the words of a process that ended by itself.
SAID: Final = 2000
#: So many further operations are committed before the cluster counts as working.
PROGRESS: Final = 5


class Field:
    """See the module's text."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: Each process's data directory, and the file that says how far its wall clock is off.
        self.disks: dict[int, Path] = {b: cluster.data_dir(b) for b in cluster.ids}
        self.disks[ZK] = cluster.zk_dir
        self.clocks: dict[int, Path] = {}
        #: The file systems of processes that have one of their own, and where brokers read which
        #: boot of their machine it is: disks.py.
        self.mounts: dict[int, Mount] = {}
        self.boot_ids: dict[int, Path] = {}
        #: The links between the processes, and their namespaces if they have any: links.py.
        self.roads = Roads()
        self.spaces: Spaces | None = None
        #: How often something took its turn, for what goes through all its ways in order.
        self.turns: Counter[str] = Counter()
        self._down: set[int] = set()
        self._may_end: Counter[int] = Counter()
        self._must_live_since: dict[int, float] = {}
        #: What faults leave to be looked at when all is well again, once each.
        self.afterwards: list[Callable[[], None]] = []

    # -- who there is ------------------------------------------------------------------------------

    @property
    def brokers(self) -> list[int]:
        return list(self.cluster.ids)

    @property
    def everyone(self) -> list[int]:
        """yak-zk, and the brokers."""
        return [ZK, *self.cluster.ids]

    def process(self, number: int) -> Process:
        found = self.cluster.zk if number == ZK else self.cluster.brokers[number]
        assert found is not None
        return found

    def turn(self, what: str) -> int:
        """0, 1, 2, ... of that."""
        self.turns[what] += 1
        return self.turns[what] - 1

    def tell(self, what: str) -> None:
        """A line of the run's story."""
        self.cluster.tell(what)

    # -- ending and starting -----------------------------------------------------------------------

    def kill(self, *numbers: int) -> None:
        """kill -9, all of them before the first is waited for."""
        self._down.update(numbers)
        for number in numbers:
            self.process(number).signal(signal.SIGKILL)
        for number in numbers:
            self.process(number).kill()
            self._look_at_door(number)

    def terminate(self, *numbers: int) -> None:
        """SIGTERM; `ended_in_order` waits for what it leads to."""
        self._down.update(numbers)
        for number in numbers:
            self.process(number).signal(signal.SIGTERM)

    def ended_in_order(self, *numbers: int) -> None:
        """Each has ended with 0, or was asked when it only began to start.

        Raises AssertionError.
        """
        for number in numbers:
            process = self.process(number)
            code = process.wait(PATIENCE_S)
            self._look_at_door(number)
            unborn = code == -signal.SIGTERM and "listening" not in process.stdout()
            excused = unborn or self._may_end[number] > 0
            assert code == 0 or excused, f"{name(number)} ended with {code} on SIGTERM"

    def pause(self, *numbers: int) -> None:
        """SIGSTOP."""
        for number in numbers:
            self.process(number).pause()

    def resume(self, *numbers: int) -> None:
        for number in numbers:
            self.process(number).resume()

    def start(self, *numbers: int) -> None:
        """In this order, without waiting for each other: where they listen is known.

        What ends before it listens is found by `look`.
        """
        for number in numbers:
            if not self.process(number).running:
                self._start(number)

    def _start(self, number: int) -> None:
        self._down.discard(number)
        if number == ZK:
            self.cluster.start_zk(wait=False)
        else:
            self.cluster.start(number, wait=False)

    def listens(self, number: int) -> bool:
        """Whether it has come so far since its last start, or ended, as it may."""
        process = self.process(number)
        return "listening" in process.stdout() or (not process.running and self.may_be_down(number))

    def may_be_down(self, number: int) -> bool:
        return number in self._down or self._may_end[number] > 0

    def may_end(self, number: int) -> None:
        """It may end by itself until `must_live`."""
        self._may_end[number] += 1

    def must_live(self, number: int) -> None:
        """What might have ended it is undone.  It runs when this returns."""
        self._may_end[number] = max(0, self._may_end[number] - 1)
        self._must_live_since[number] = time.monotonic()
        if not self._may_end[number]:
            self.start(number)

    # -- how it stands -----------------------------------------------------------------------------

    def look(self) -> None:
        """Keeps doors in step with processes.

        Raises AssertionError where a process has ended that should not have.
        """
        for number in self.everyone:
            self._look_at_door(number)
            process = self.process(number)
            if process.running or self.may_be_down(number):
                continue
            code, said = process.popen.returncode, process.stderr()[-SAID:]
            since = self._must_live_since.get(number, float("-inf"))
            if code == 1 and time.monotonic() < since + LATE_S:
                self.start(number)
                continue
            raise AssertionError(f"{name(number)} ended by itself, with {code}: {said}")

    def _look_at_door(self, number: int) -> None:
        process = self.process(number)
        self.roads.answers(number, whether=process.running and "listening" in process.stdout())

    def leader(self) -> int | None:
        return self.cluster.leader()

    def wait_whole(self, timeout_s: float = WHOLE_S) -> float:
        """Until all are in sync and writers are answered: how many seconds that took."""
        began = time.monotonic()
        said: object = None
        base: int | None = None

        def look() -> bool:
            nonlocal said, base
            self.look()
            leader = self.leader()
            said = status = self.cluster.status(leader) if leader is not None else None
            if status is None or sorted(status["isr"]) != self.brokers:
                return False
            if base is None or status["committed"] < base:
                base = status["committed"]
            return bool(status["committed"] >= base + PROGRESS)

        def how() -> str:
            return f"all are in sync, and records are acknowledged; the leader says {said}"

        wait_until(look, how, timeout_s)
        return time.monotonic() - began


def name(number: int) -> str:
    return "yak-zk" if number == ZK else f"broker {number}"


def names(numbers: Iterable[int]) -> str:
    return ", ".join(name(number) for number in numbers)
