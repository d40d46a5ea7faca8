"""yak itself: yak-zk and three brokers, all begun at once; its client is `yak bench`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.job import Fsync, Job
from bench.systems.base import Running, System, free_ports, job_options, processes, wait_for
from tests.support.process import command
from yak import Admin
from yak.version import VERSION

BROKERS = (1, 2, 3)


class RunningYak(Running):
    """pids: of yak-zk, then of the brokers in order."""

    def __init__(self, pids: list[int], bootstrap: str) -> None:
        self._pids = pids
        self.bootstrap = bootstrap

    @property
    def pids(self) -> list[int]:
        return self._pids

    def make_topic(self, job: Job) -> None:
        with Admin(self.bootstrap) as admin:
            admin.create_topic(job.topic, job.partitions)

    def leader(self, job: Job) -> int:
        with Admin(self.bootstrap) as admin:
            leader = admin.status().leader
        assert leader is not None
        return self._pids[leader]

    def client(self, way: str, job: Job) -> list[str]:
        if job.kind == "gap":
            argv = [sys.executable, "-m", "bench.clients.yak_gap", job.kind]
            return [*argv, "--address", self.bootstrap, *job_options(job)]
        argv = [command("yak"), "bench", job.kind, "--topic", job.topic, "--json"]
        argv += ["-b", self.bootstrap]
        match job.kind:
            case "produce":
                argv += ["-n", str(job.records), "--size", str(job.size)]
                argv += ["--alone"] if way == "send" else []
            case "consume":
                # A member of a group reads to the end: its share of the partitions is not a third.
                argv += ["--group", job.group] if job.group else ["-n", str(job.records)]
            case "e2e":
                seconds = job.records / job.rate
                argv += ["--rate", str(job.rate), "--seconds", str(seconds)]
                argv += ["--size", str(job.size), "--read-from", way.removeprefix("e2e-")]
        return argv


class Yak(System):
    name = "yak"

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return VERSION

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningYak]:
        ports = free_ports(len(BROKERS) + 1)
        with processes(directory, commands(directory, ports, fsync)) as pids:
            running = RunningYak(pids, bootstrap_of(ports))
            wait_for(lambda: in_sync(running.bootstrap, BROKERS), "three in sync", directory)
            yield running


def bootstrap_of(ports: Sequence[int]) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports[1:])


def commands(directory: Path, ports: Sequence[int], fsync: Fsync) -> list[list[str]]:
    """Of yak-zk on the first port, and of the brokers on the others."""
    zk = f"127.0.0.1:{ports[0]}"
    found = [
        [command("yak-zk"), "--port", str(ports[0]), "--data-dir", str(directory / "zookeeper")]
    ]
    for number, port in zip(BROKERS, ports[1:], strict=True):
        home = str(directory / f"broker-{number}")
        argv = [command("yak-broker"), "--id", str(number), "--port", str(port), "--zk", zk]
        found.append([*argv, "--data-dir", home, "--fsync", fsync])
    return found


def in_sync(bootstrap: str, brokers: Sequence[int]) -> bool:
    with Admin(bootstrap) as admin:
        return sorted(admin.status().isr) == list(brokers)
