"""NATS JetStream: three servers, every stream with three replicas.

It acknowledges what a quorum has in memory and in files that it syncs every two minutes: there is
no "always" in Debian's release.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.job import Fsync, Job
from bench.systems.base import Running, System, free_ports, job_options, processes, wait_for


class RunningNats(Running):
    def __init__(self, pids: list[int], servers: str) -> None:
        self._pids = pids
        self._servers = servers

    @property
    def pids(self) -> list[int]:
        return self._pids

    def make_topic(self, job: Job) -> None:
        asyncio.run(_make_stream(self._servers, job.topic))

    def leader(self, job: Job) -> int:
        name = asyncio.run(_leader_of(self._servers, job.topic))
        return self._pids[int(name.removeprefix("n"))]

    def client(self, way: str, job: Job) -> list[str]:
        argv = [sys.executable, "-m", "bench.clients.nats_jetstream", job.kind]
        return [*argv, "--address", self._servers, *job_options(job)]


async def _ignore(_: Exception) -> None:
    """A server that is not up yet is tried again."""


async def _make_stream(servers: str, name: str) -> None:
    import nats

    connection = await nats.connect(servers.split(","), error_cb=_ignore)
    try:
        await connection.jetstream(timeout=30).add_stream(
            name=name, subjects=[f"{name}.>"], num_replicas=3
        )
    finally:
        await connection.close()


async def _leader_of(servers: str, stream: str) -> str:
    import nats

    connection = await nats.connect(servers.split(","), error_cb=_ignore)
    try:
        found = await connection.jetstream(timeout=30).stream_info(stream)
        return str(found.cluster.leader)
    finally:
        await connection.close()


class Nats(System):
    name = "nats"

    def missing(self) -> str:
        if shutil.which("nats-server") is None:
            return "no nats-server: apt install nats-server"
        if importlib.util.find_spec("nats") is None:
            return "no client: pip install nats-py"
        return ""

    def version(self) -> str:
        said = subprocess.run(["nats-server", "--version"], capture_output=True, text=True).stdout
        return said.strip().rpartition("v")[2]

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningNats]:
        ports = free_ports(6)
        clients, routes = ports[:3], ports[3:]
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        commands = []
        for number, (client, route) in enumerate(zip(clients, routes, strict=True)):
            file = directory / f"nats-{number}.conf"
            file.write_text(
                f'listen: "127.0.0.1:{client}"\nserver_name: n{number}\n'
                f'jetstream {{ store_dir: "{directory}/nats-{number}" }}\n'
                f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{urls}] }}\n'
            )
            commands.append(["nats-server", "-c", str(file)])
        servers = ",".join(f"nats://127.0.0.1:{port}" for port in clients)
        with processes(directory, commands) as pids:
            wait_for(lambda: _has_leader(servers), "a JetStream cluster", directory)
            yield RunningNats(pids, servers)


def _has_leader(servers: str) -> bool:
    asyncio.run(_make_stream(servers, "warm"))
    return True
