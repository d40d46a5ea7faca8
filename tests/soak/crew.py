"""The clients of a long run that are at work now: they come, go, die and hang.

A client that ends without having been told to, or not with 0 when it was, is an anomaly, with
the end of what it said.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.notes import Notes
from tests.support.cluster import Cluster
from tests.support.process import Process, environment, wait_until

ROOT = Path(__file__).parent.parent.parent
#: A client that was told to end has this long: its last batch may wait for an election.
LEAVE_S = 60.0
#: After it was let go on, a stopped member may hand out what it had for so long.
DAZE_S = 10.0
#: Of a client's words, so much is kept when it ended as it should not.
TAIL = 3000


@dataclass
class Client:
    proc: str
    kind: str
    topics: list[str]
    group: str
    process: Process
    #: "working", "stopped" (SIGSTOP), "leaving" (SIGTERM) or "killed".
    state: str = "working"
    since: float = 0.0

    @property
    def works(self) -> bool:
        return self.state == "working"


class Crew:
    """See the module's text."""

    def __init__(
        self, cluster: Cluster, notes_dir: Path, notes: Notes, chance: random.Random
    ) -> None:
        self.clients: dict[str, Client] = {}
        #: What clients met that they should not have.
        self.deaths: list[str] = []
        self.started = 0
        #: How many of a kind were "started", "left", "killed", "stopped".
        self._counts: Counter[str] = Counter()
        self._cluster = cluster
        self._notes_dir = notes_dir
        self._notes = notes
        self._chance = chance

    def start(self, kind: str, topics: Sequence[str], group: str = "", **more: Any) -> Client:
        """A new client, under a name that no other has had."""
        self.started += 1
        proc = f"{kind}-{self.started}"
        spec = {
            "kind": kind,
            "proc": proc,
            "bootstrap": self._bootstrap(),
            "notes": str(self._notes_of(proc)),
            "topics": list(topics),
            "group": group,
            "seed": self._chance.randrange(1 << 30),
            **more,
        }
        process = self._cluster.spawn(
            proc,
            ["python", "-m", "tests.soak.clients", json.dumps(spec)],
            env=environment(PYTHONPATH=str(ROOT)),
        )
        client = Client(proc, kind, list(topics), group, process, since=time.monotonic())
        self.clients[proc] = client
        self._counts[f"{kind}s started"] += 1
        self._tell("starts", client)
        return client

    def _notes_of(self, proc: str) -> Path:
        return self._notes_dir / f"{proc}.notes"

    def _bootstrap(self) -> str:
        ids = list(self._cluster.ids)
        self._chance.shuffle(ids)
        return self._cluster.bootstrap(ids)

    def _tell(self, what: str, client: Client) -> None:
        about = f"{client.group} {','.join(client.topics)}"
        self._cluster.tell(f"{client.proc} {what} ({about.strip()})")

    def find(self, *kinds: str, group: str | None = None, topic: str = "") -> list[Client]:
        """Those at work of these kinds, and of this group or topic where one is named."""
        return [
            client
            for client in self.clients.values()
            if client.works
            and client.kind in kinds
            and group in (None, client.group)
            and (not topic or topic in client.topics)
        ]

    def leave(self, client: Client) -> None:
        """SIGTERM: it finishes what is under way."""
        self._tell("is told to leave", client)
        self._counts[f"{client.kind}s left"] += 1
        client.state, client.since = "leaving", time.monotonic()
        client.process.signal(signal.SIGTERM)

    def kill(self, client: Client) -> None:
        self._tell("is killed", client)
        self._counts[f"{client.kind}s killed"] += 1
        client.state = "killed"
        client.process.kill()

    def stop(self, client: Client) -> None:
        """SIGSTOP."""
        self._tell("is stopped", client)
        self._counts[f"{client.kind}s stopped"] += 1
        client.state, client.since = "stopped", time.monotonic()
        client.process.pause()

    def go_on(self, client: Client) -> None:
        """SIGCONT; what it is handed around this time may be what it had fetched before."""
        self._tell("goes on", client)
        now = time.monotonic()
        self._notes.add("dazed", proc=client.proc, t0=client.since, t1=now + DAZE_S)
        client.state, client.since = "working", now
        client.process.resume()

    def look(self, resume_after_s: float) -> None:
        """Whoever ended is taken from the list; whoever was stopped for long enough goes on."""
        now = time.monotonic()
        for client in list(self.clients.values()):
            if not client.process.running:
                self._ended(client)
            elif client.state == "stopped" and now - client.since > resume_after_s:
                self.go_on(client)
            elif client.state == "leaving" and now - client.since > LEAVE_S:
                client.process.kill()
                self._died(client, f"did not leave within {LEAVE_S:g} s")

    def _ended(self, client: Client) -> None:
        code = client.process.popen.returncode
        # One that was told before it had begun to listen for it: its notes come after that.
        unborn = code == -signal.SIGTERM and not self._notes_of(client.proc).exists()
        if client.state == "killed" or (client.state == "leaving" and (code == 0 or unborn)):
            del self.clients[client.proc]
            return
        self._died(client, f"ended with {code} while {client.state}")

    def _died(self, client: Client, how: str) -> None:
        del self.clients[client.proc]
        said = client.process.stderr()[-TAIL:]
        self._cluster.tell(f"{client.proc} {how}")
        self.deaths.append(f"{client.proc} ({client.group} {client.topics}) {how}: {said}")

    def dismiss(self, *kinds: str) -> None:
        """All of these kinds leave, and have left when this returns."""
        for client in list(self.clients.values()):
            if client.kind in kinds:
                if client.state == "stopped":
                    self.go_on(client)
                if client.works:
                    self.leave(client)

        def gone() -> bool:
            self.look(0.0)
            return not [c for c in self.clients.values() if c.kind in kinds]

        wait_until(gone, f"every {' and '.join(kinds)} has left", LEAVE_S + 10)

    def figures(self) -> dict[str, int]:
        """Of each kind, how many came, left, were killed, were stopped for a while."""
        return dict(sorted(self._counts.items()))

    def pids(self) -> dict[str, int]:
        """Of those that run, for the sampler."""
        return {c.proc: c.process.pid for c in list(self.clients.values()) if c.process.running}
