"""One broker after another is restarted, the leader in every second turn, by alternating means.

    terminate   SIGTERM, as an operator restarts it; it has to exit with 0
    kill        kill -9
    pause       SIGSTOP for longer than a session, then SIGCONT

and now and then yak-zk is killed and started again.  A turn ends when every broker is in sync
again; only then comes the next.  That this happens, in a time that is noted, is a part of what
the run proves.  No call here waits for more than a start, so that the rest of life goes on
while a broker is down.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable

from tests.soak.notes import Notes
from tests.support.cluster import Cluster

#: A broker is in sync again within this, or the run has failed: it may have to copy everything.
IN_SYNC_S = 120.0
#: In every so manieth turn yak-zk is restarted, too.
ZK_EVERY = 7
#: A broker that is stopped stays so for this long: above every session of the soak's yak-zk.
PAUSE_S = 4.0


class Faults:
    """See the module's text.  `tick` it often; `heal` at the end."""

    def __init__(
        self, cluster: Cluster, notes: Notes, chance: random.Random, pause_s: tuple[float, float]
    ) -> None:
        """pause_s: between a turn's end and the next one's beginning, from and to."""
        self.turns = 0
        self.restarts = 0
        #: Seconds from the fault until all were in sync again.
        self.healed_s: list[float] = []
        self._cluster = cluster
        self._notes = notes
        self._chance = chance
        self._pause_s = pause_s
        self._means = itertools.cycle(["terminate", "kill", "kill", "terminate", "pause"])
        self._others = itertools.cycle(cluster.ids)
        self._next_at = self._later()
        self._began = 0.0
        #: What ends the fault, and when; None while all is well, or heals.
        self._cure: tuple[float, Callable[[], None]] | None = None
        self._healing = False

    def _later(self) -> float:
        return time.monotonic() + self._chance.uniform(*self._pause_s)

    @property
    def is_whole(self) -> bool:
        return self._cure is None and not self._healing

    def tick(self) -> None:
        now = time.monotonic()
        if self._cure is not None:
            at, cure = self._cure
            if now >= at:
                self._cure, self._healing = None, True
                cure()
        elif self._healing:
            self._look_whether_healed(now)
        elif now >= self._next_at:
            self._strike(now)

    def heal(self) -> None:
        """End what is going on, and wait until all are in sync."""
        self._next_at = float("inf")
        while not self.is_whole:
            self.tick()
            time.sleep(0.05)
        self._cluster.wait_isr(self._cluster.ids, IN_SYNC_S)

    def _strike(self, now: float) -> None:
        self.turns += 1
        leader = self._cluster.leader() if self.turns % 2 else None
        broker = next(self._others) if leader is None else leader
        means = next(self._means)
        self._began = now
        if self.turns % ZK_EVERY == 0:
            self._cluster.restart_zk()
        if means == "pause":
            self._cluster.pause(broker)
            self._cure = now + PAUSE_S, lambda: self._cluster.resume(broker)
        else:
            self.restarts += 1
            if means == "kill":
                self._cluster.kill(broker)
            else:
                code = self._cluster.terminate(broker)
                assert code == 0, f"broker {broker} ended with {code} on SIGTERM"
            after = self._chance.choice([0.0, 0.5, 2.0])
            self._cure = now + after, lambda: self._cluster.start(broker)
        self._notes.add("fault", name=f"{means} {broker}", t0=now, t1=time.monotonic())

    def _look_whether_healed(self, now: float) -> None:
        leader = self._cluster.leader()
        status = self._cluster.status(leader) if leader is not None else None
        if status is not None and sorted(status["isr"]) == list(self._cluster.ids):
            self._healing = False
            self.healed_s.append(now - self._began)
            self._next_at = self._later()
            return
        assert now - self._began < IN_SYNC_S, (
            f"not all brokers are in sync {IN_SYNC_S:g} s after the fault: {status}"
        )
