"""One broker after another is restarted, the leader in every second turn, by alternating means.

    terminate   SIGTERM, as an operator restarts it; it has to exit with 0
    kill        kill -9
    ahead       kill -9 while the others stand still for a moment: what it holds alone goes with it
    pause       SIGSTOP for longer than a session, then SIGCONT
    wipe        kill -9, and its directory is removed: it has to copy everything

and now and then yak-zk is killed and started again.  A turn ends when every broker is in sync
again; only then comes the next.  That this happens, in a time that is noted, is a part of what
the run proves.  No call here waits for more than a start, so that the rest of life goes on
while a broker is down.
"""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable

from tests.soak.notes import Notes
from tests.support.cluster import Cluster

#: A broker is in sync again within this, or the run has failed: it may have to copy everything.
IN_SYNC_S = 120.0
#: In every so manieth turn yak-zk is restarted, too.
ZK_EVERY = 7
#: A broker that is stopped stays so for this long: above every session of the soak's yak-zk.
PAUSE_S = 4.0
#: The others stand still for so long before one is killed ahead of them: far below a session.
STILL_S = 0.3
#: The order of means.  Its length is odd, so that each meets the leader in every second round.
MEANS = ("terminate", "wipe", "ahead", "kill", "terminate", "pause", "wipe")


class Faults:
    """See the module's text.  `tick` it often; `heal` at the end."""

    def __init__(
        self,
        cluster: Cluster,
        notes: Notes,
        chance: random.Random,
        pause_s: tuple[float, float],
        *,
        away_s: float,
        before_wipe: Callable[[int], None],
    ) -> None:
        """pause_s: between a turn's end and the next one's beginning, from and to.

        away_s: the longest that a broker stays ended.  before_wipe: told whose directory goes.
        """
        self.turns = 0
        #: Of each means, "leader MEANS" and "follower MEANS", and of yak-zk.
        self.made: Counter[str] = Counter()
        #: Seconds from the fault until all were in sync again.
        self.healed_s: list[float] = []
        self._cluster = cluster
        self._notes = notes
        self._chance = chance
        self._pause_s = pause_s
        self._absences = (0.0, 0.5, 2.0, away_s)
        self._before_wipe = before_wipe
        self._means = itertools.cycle(MEANS)
        self._others = itertools.cycle(cluster.ids)
        self._next_at = self._later()
        self._began = 0.0
        #: What ends the fault, and when; None while all is well, or heals.
        self._cure: tuple[float, Callable[[], None]] | None = None
        self._healing = False
        #: Who was ended here, and not started again.
        self._ended: set[int] = set()

    def _later(self) -> float:
        return time.monotonic() + self._chance.uniform(*self._pause_s)

    @property
    def is_whole(self) -> bool:
        return self._cure is None and not self._healing

    def tick(self) -> None:
        now = time.monotonic()
        self.look_whether_alive()
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

    @property
    def restarts(self) -> int:
        """Of brokers."""
        return sum(n for what, n in self.made.items() if "pause" not in what and "zk" not in what)

    def _strike(self, now: float) -> None:
        """All are in sync now: whoever is struck, the others hold what is committed."""
        self.turns += 1
        leader = self._cluster.leader()
        broker = next(self._others) if leader is None or self.turns % 2 == 0 else leader
        means = next(self._means)
        self.made[f"{'leader' if broker == leader else 'follower'} {means}"] += 1
        self._began = now
        if self.turns % ZK_EVERY == 0:
            self.made["yak-zk kill"] += 1
            self._cluster.restart_zk()
        if means == "pause":
            self._cluster.pause(broker)
            self._cure = now + PAUSE_S, lambda: self._cluster.resume(broker)
        else:
            self._ended = {broker}
            self._end(broker, means)
            after = self._chance.choice(self._absences)
            self._cure = now + after, lambda: self._start(broker)
        self._notes.add("fault", name=f"{means} {broker}", t0=now, t1=time.monotonic())

    def _start(self, broker: int) -> None:
        self._cluster.start(broker)
        self._ended.clear()

    def _end(self, broker: int, means: str) -> None:
        if means == "terminate":
            code = self._cluster.terminate(broker)
            assert code == 0, f"broker {broker} ended with {code} on SIGTERM"
            return
        still = [b for b in self._cluster.ids if b != broker and means == "ahead"]
        for other in still:
            self._cluster.pause(other)
        if still:
            time.sleep(STILL_S)
        self._cluster.kill(broker)
        for other in still:
            self._cluster.resume(other)
        if means == "wipe":
            self._before_wipe(broker)
            shutil.rmtree(self._cluster.data_dir(broker))
            self._cluster.tell(f"the directory of broker {broker} is removed")

    def look_whether_alive(self) -> None:
        """Raises AssertionError where a broker has ended by itself."""
        dead = [b for b, process in self._cluster.brokers.items() if not process.running]
        assert not set(dead) - self._ended, f"brokers {dead} ended by themselves"

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
