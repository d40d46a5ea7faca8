"""A real cluster for tests: one `yak-zk` and its brokers, as a user starts them.

    with Cluster(tmp_path) as cluster:
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.wait_leader(other_than=leader)

Rules: only loopback and port 0; every process keeps its port when it is started again (as a
user's would); what is waited for is read from outputs and from `status`, never slept for; ended
are only the processes that this object started.  While a cluster is open it is listed in
`open_clusters`, so that a failed test can show what every process said.

It knows the command line and sections 1 to 4 of the protocol, and nothing of the code.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.support.process import PATIENCE_S, Process, command, environment, wait_until
from tests.support.wire import Address, Fields, Wire

#: Clusters that are open now, for the report of a failed test.
open_clusters: list[Cluster] = []

#: A look at a broker's status; one that does not answer in this time is seen as absent.
STATUS_TIMEOUT_S = 1.0
#: A failed test's report lists no more of a cluster's files.
LISTED_FILES = 500
#: Timings for tests that wait for failures to be noticed: as the defaults, but half as long.
FAST = (
    *("--heartbeat-ms", "150", "--session-ms", "1200", "--lease-ms", "800"),
    *("--replica-lag-ms", "900", "--resign-ms", "1800", "--cooldown-ms", "2000"),
)


class MakeCluster(Protocol):
    """The fixture that opens clusters of a test's own: the options are Cluster's."""

    def __call__(self, **options: Any) -> Cluster: ...


class Cluster:
    """yak-zk and brokers 1 to N under one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        ids: Collection[int] = (1, 2, 3),
        zk_options: Sequence[str] = FAST,
        broker_options: Sequence[str] = (),
        options_of: Mapping[int, Sequence[str]] | None = None,
        fsync: str = "never",
        in_sync: bool = True,
    ) -> None:
        """broker_options: for all brokers; options_of: for one of them.

        in_sync: whether opening the cluster waits until all brokers are in sync.
        fsync: what the page cache keeps survives kill -9, so that most tests need no more.
        """
        self.directory = directory
        self.ids = sorted(ids)
        self._zk_options = list(zk_options)
        self.fsync = fsync
        self._broker_options = [*broker_options, "--fsync", fsync]
        self.options_of = dict(options_of or {})
        self._in_sync = in_sync
        self.addresses: dict[int, Address] = {}
        self.zk_address: Address | None = None
        self.zk: Process | None = None
        self.brokers: dict[int, Process] = {}
        #: Of a broker (0: yak-zk), from its next start on: what comes before its command, as
        #: `nsenter`, and what its environment has besides.
        self.before: dict[int, list[str]] = {}
        self.env: dict[int, dict[str, str]] = {}
        #: What was done to it, with seconds since it was opened: for the report.
        self.story: list[str] = []
        self._opened_at = time.monotonic()
        self._ended: list[Process] = []
        self._spawned = 0

    def __enter__(self) -> Self:
        open_clusters.append(self)
        try:
            self.start_zk()
            # One ahead of the others, so that the lowest id is there when yak-zk chooses.
            self.start(self.ids[0])
            self.start(*self.ids[1:])
            if self._in_sync:
                self.wait_isr(self.ids)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Every process that was started here ends."""
        for process in self.processes():
            process.close()
        if self in open_clusters:
            open_clusters.remove(self)

    def processes(self) -> list[Process]:
        """All that ran, the ended ones first."""
        return [*self._ended, *([self.zk] if self.zk else []), *self.brokers.values()]

    # -- Starting and ending ----------------------------------------------------------------------

    def spawn(self, name: str, argv: Sequence[str], **options: Any) -> Process:
        """Any command, its output kept and its end looked after."""
        self._spawned += 1
        process = Process(f"{name}.{self._spawned}", argv, self.directory, **options)
        self._ended.append(process)
        return process

    def tell(self, what: str) -> None:
        """A line of the story, for the report of a failure."""
        self.story.append(f"{time.monotonic() - self._opened_at:7.2f} {what}")

    def _tell(self, what: str, *ids: int) -> None:
        self.tell(" ".join([what, *(str(broker) for broker in ids)]))

    def start_zk(self, *, wait: bool = True) -> None:
        """wait: until it says where it listens; the first time there is no other way."""
        self._tell("start yak-zk")
        host, port = self.zk_address or ("127.0.0.1", 0)
        argv = ["yak-zk", "--host", host, "--port", str(port), "--data-dir", str(self.zk_dir)]
        if self.zk is not None:
            assert not self.zk.running, "yak-zk still runs"
            self._ended.append(self.zk)
        self.zk = self._spawn_server(0, "yak-zk", [*argv, *self._zk_options])
        if wait or self.zk_address is None:
            self.zk_address = self.zk.wait_listening()

    def _spawn_server(self, number: int, name: str, argv: Sequence[str]) -> Process:
        process = self.spawn(
            name,
            argv,
            env=environment(**self.env.get(number, {})),
            before=self.before.get(number, ()),
        )
        self._ended.remove(process)
        return process

    def broker_argv(self, broker: int) -> list[str]:
        """The command that starts a broker, on the port that it had before."""
        assert self.zk_address is not None
        host, port = self.addresses.get(broker, ("127.0.0.1", 0))
        own = self.options_of.get(broker, ())
        return [
            *("yak-broker", "--id", str(broker)),
            *("--host", host, "--port", str(port), "--data-dir", str(self.data_dir(broker))),
            *("--zk", "{}:{}".format(*self.zk_address), *self._broker_options, *own),
        ]

    def start(self, *ids: int, wait: bool = True) -> None:
        """Start brokers, all at once, and wait until each says where it listens.

        wait: those that listened before will do so on the same port, if they come to it.
        """
        self._tell("start", *ids)
        for broker in ids:
            old = self.brokers.pop(broker, None)
            if old is not None:
                assert not old.running, f"broker {broker} still runs"
                self._ended.append(old)
            self.brokers[broker] = self._spawn_server(
                broker, f"broker-{broker}", self.broker_argv(broker)
            )
        for broker in ids:
            if wait or broker not in self.addresses:
                self.addresses[broker] = self.brokers[broker].wait_listening()

    def kill(self, *ids: int) -> None:
        """kill -9."""
        self._tell("kill", *ids)
        for broker in ids:
            self.brokers[broker].kill()

    def pause(self, broker: int) -> None:
        self._tell("stop", broker)
        self.brokers[broker].pause()

    def resume(self, broker: int) -> None:
        self._tell("continue", broker)
        self.brokers[broker].resume()

    def terminate(self, broker: int) -> int:
        """SIGTERM; the exit code."""
        self._tell("terminate", broker)
        return self.brokers[broker].terminate()

    def restart(self, *ids: int) -> None:
        self.kill(*ids)
        self.start(*ids)

    def restart_zk(self) -> None:
        assert self.zk is not None
        self._tell("kill yak-zk")
        self.zk.kill()
        self.start_zk()

    # -- Where things are -------------------------------------------------------------------------

    @property
    def zk_dir(self) -> Path:
        return self.directory / "zookeeper"

    def data_dir(self, broker: int) -> Path:
        return self.directory / f"broker-{broker}"

    @property
    def live(self) -> list[int]:
        """Brokers that run and are not stopped."""
        return [broker for broker, process in self.brokers.items() if process.answering]

    def bootstrap(self, ids: Iterable[int] | None = None) -> str:
        """HOST:PORT,... of these brokers (all): what -b takes."""
        chosen = self.ids if ids is None else ids
        return ",".join("{}:{}".format(*self.addresses[broker]) for broker in chosen)

    def connect(self, broker: int, timeout_s: float = 15.0) -> Wire:
        return Wire(self.addresses[broker], timeout_s)

    def connect_leader(self, timeout_s: float = 15.0) -> Wire:
        return self.connect(self.wait_leader(), timeout_s)

    # -- What the brokers say ---------------------------------------------------------------------

    def status(self, broker: int) -> Fields | None:
        """A broker's own view; None where it does not answer."""
        with contextlib.suppress(OSError), self.connect(broker, STATUS_TIMEOUT_S) as wire:
            return wire.ok("status")
        return None

    def statuses(self) -> dict[int, Fields]:
        """Of every broker that runs and answers."""
        seen = {broker: self.status(broker) for broker in self.live}
        return {broker: status for broker, status in seen.items() if status is not None}

    def leader(self) -> int | None:
        """The broker that says that it leads, in the highest epoch that anyone has heard of."""
        statuses = self.statuses()
        newest = max((status["epoch"] for status in statuses.values()), default=None)
        for broker, status in statuses.items():
            if status["role"] == "leader" and status["epoch"] == newest:
                return broker
        return None

    def wait_leader(self, other_than: int | None = None, timeout_s: float = PATIENCE_S) -> int:
        """The leader, as soon as it says so itself."""

        def look() -> int | None:
            leader = self.leader()
            return None if leader == other_than else leader

        found = wait_until(look, f"a leader other than {other_than}", timeout_s)
        assert found is not None
        return found

    def epoch(self) -> int:
        leader = self.wait_leader()
        status = self.status(leader)
        assert status is not None
        epoch: int = status["epoch"]
        return epoch

    def wait_isr(self, ids: Iterable[int], timeout_s: float = PATIENCE_S) -> None:
        """Until the leader counts exactly these as in sync."""
        wanted = sorted(ids)

        def look() -> bool:
            leader = self.leader()
            status = self.status(leader) if leader is not None else None
            return status is not None and sorted(status["isr"]) == wanted

        wait_until(look, f"the leader's ISR is {wanted}", timeout_s)

    def wait_level(self, ids: Iterable[int] | None = None, timeout_s: float = PATIENCE_S) -> int:
        """Until these brokers (all) hold one log, all of it committed; its next index."""
        wanted = sorted(self.ids if ids is None else ids)

        def look() -> int:
            statuses = self.statuses()
            if sorted(statuses) != wanted:
                return 0
            ends = {(s["log_end"], s["committed"]) for s in statuses.values()}
            ((end, committed), *others) = ends
            return 0 if others or committed != end - 1 else int(end)

        return wait_until(look, f"brokers {wanted} hold the same committed log", timeout_s)

    # -- The other commands -----------------------------------------------------------------------

    def run(
        self, *argv: str, stdin: bytes = b"", timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[bytes]:
        """A client's command, to its end, with this cluster's bootstrap."""
        return run_command(
            *argv, "-b", self.bootstrap(), stdin=stdin, timeout_s=timeout_s, cwd=self.directory
        )

    def spawn_client(self, *argv: str, **options: Any) -> Process:
        """A client's command that goes on in the background, with this cluster's bootstrap."""
        return self.spawn(argv[0], [*argv, "-b", self.bootstrap()], **options)

    # -- Reports ----------------------------------------------------------------------------------

    def report(self) -> list[tuple[str, str]]:
        """(title, text) of all that a failed test should show."""
        shown = [(process.name, process.report()) for process in self.processes()]
        return [
            ("what was done", "\n".join(self.story)),
            *shown,
            (f"files under {self.directory}", "\n".join(self._listing())),
        ]

    def _listing(self) -> list[str]:
        """Its files and their sizes; they may be coming and going just now."""
        lines: list[str] = []
        for directory, _, names in os.walk(self.directory):
            for path in (Path(directory) / name for name in names):
                with contextlib.suppress(FileNotFoundError):
                    size = path.stat().st_size
                    lines.append(f"{size:>12}  {path.relative_to(self.directory)}")
        lines.sort(key=lambda line: line.split(maxsplit=1)[1])
        if len(lines) > LISTED_FILES:
            lines[LISTED_FILES:] = [f"… and {len(lines) - LISTED_FILES} more"]
        return lines


def run_command(
    *argv: str, stdin: bytes = b"", timeout_s: float = PATIENCE_S, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """One of the project's commands, to its end."""
    return subprocess.run(
        [command(argv[0]), *argv[1:]],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        env=environment(),
        cwd=cwd,
        check=False,
    )
