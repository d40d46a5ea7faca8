"""yak itself: yak-zk and three brokers, as a user starts them; its client is `yak bench`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.job import Fsync, Job
from bench.systems.base import Running, System
from tests.support.cluster import Cluster
from tests.support.process import command
from yak import Admin
from yak.version import VERSION


class RunningYak(Running):
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self.cluster.processes() if one.running]

    def make_topic(self, job: Job) -> None:
        with Admin(self.cluster.bootstrap()) as admin:
            admin.create_topic(job.topic, job.partitions)

    def client(self, way: str, job: Job) -> list[str]:
        argv = [command("yak"), "bench", job.kind, "--topic", job.topic, "--json"]
        argv += ["-b", self.cluster.bootstrap()]
        match job.kind:
            case "produce":
                argv += ["-n", str(job.records), "--size", str(job.size)]
                argv += ["--alone"] if way == "send" else []
            case "consume":
                argv += ["-n", str(job.records)]
                argv += ["--group", job.group] if job.group else []
            case "e2e":
                seconds = job.records / job.rate
                argv += ["--rate", str(job.rate), "--seconds", str(seconds)]
                argv += ["--size", str(job.size)]
        return argv


class Yak(System):
    name = "yak"

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return VERSION

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningYak]:
        with Cluster(directory, zk_options=(), fsync=fsync) as cluster:
            yield RunningYak(cluster)
