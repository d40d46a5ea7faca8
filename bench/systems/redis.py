"""Redis Streams: a primary and two replicas; WAIT 2 behind every pipeline is its acks=all.

fsync "always" is `appendonly yes` with `appendfsync always`; "never" keeps nothing on the disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.job import Fsync, Job
from bench.systems.base import Running, System, free_ports, job_options, processes, wait_for


class RunningRedis(Running):
    def __init__(self, pids: list[int], port: int) -> None:
        self._pids = pids
        self._port = port

    @property
    def pids(self) -> list[int]:
        return self._pids

    def make_topic(self, job: Job) -> None:
        """A stream is made by its first entry."""

    def client(self, way: str, job: Job) -> list[str]:
        argv = [sys.executable, "-m", "bench.clients.redis_streams", job.kind]
        return [*argv, "--address", f"127.0.0.1:{self._port}", *job_options(job)]


class Redis(System):
    name = "redis"

    def missing(self) -> str:
        if shutil.which("redis-server") is None:
            return "no redis-server: apt install redis-server"
        if importlib.util.find_spec("redis") is None:
            return "no client: pip install 'redis[hiredis]'"
        return ""

    def version(self) -> str:
        said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
        return next(word[2:] for word in said.split() if word.startswith("v="))

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningRedis]:
        import redis

        ports = free_ports(3)
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if fsync == "always" else []
        commands = []
        for number, port in enumerate(ports):
            home = directory / f"redis-{number}"
            home.mkdir()
            argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
            argv += ["--save", "", "--client-output-buffer-limit", "replica 0 0 0", *durable]
            argv += ["--replicaof", f"127.0.0.1 {ports[0]}"] if number else []
            argv += ["--repl-diskless-sync-delay", "0"]
            commands.append(argv)
        with processes(directory, commands) as pids:
            primary = redis.Redis(port=ports[0])
            wait_for(lambda: bool(primary.wait(2, 100) == 2), "two Redis replicas", directory)
            primary.close()
            yield RunningRedis(pids, ports[0])
