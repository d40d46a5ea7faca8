"""What a system must say of itself to be measured."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.job import Fsync, Job

#: A system that should start has this long, in seconds: a JVM on a busy machine.
PATIENCE_S = 90.0


class Running(ABC):
    """One fresh cluster of a system."""

    @property
    @abstractmethod
    def pids(self) -> list[int]:
        """Of its servers."""

    @abstractmethod
    def client(self, way: str, job: Job) -> list[str]:
        """The command of a client: it prints one JSON document with `records` and `seconds`."""

    @abstractmethod
    def make_topic(self, job: Job) -> None:
        """Made before anything is timed."""

    def leader(self, job: Job) -> int:
        """The pid of the server that leads the topic.  Where it has none: NotImplementedError."""
        raise NotImplementedError


class System(ABC):
    """One of those that are compared."""

    name: str

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot run here and how to install it; "" where it can."""

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def start(
        self, directory: Path, way: str, fsync: Fsync
    ) -> contextlib.AbstractContextManager[Running]:
        """Ready for a client when entered; gone when left."""


def job_options(job: Job) -> list[str]:
    """What clients/common.py reads."""
    argv = ["--topic", job.topic, "--records", str(job.records), "--size", str(job.size)]
    argv += ["--partitions", str(job.partitions)]
    argv += ["--rate", str(job.rate)] if job.rate else []
    return argv + (["--group", job.group] if job.group else [])


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


@contextlib.contextmanager
def processes(directory: Path, commands: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Run these, their outputs in `directory`; ended by their pids."""
    running: list[subprocess.Popen[bytes]] = []
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it: compiled once
    try:
        for number, argv in enumerate(commands):
            with (directory / f"server-{number}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        argv,
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                        cwd=directory,
                        env=env,
                    )
                )
        yield [one.pid for one in running]
    finally:
        for one in running:
            one.terminate()
        for one in running:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def wait_for(look: Callable[[], bool], what: str, directory: Path) -> None:
    """Raises RuntimeError with the servers' last words."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(Exception):
            if look():
                return
        if time.monotonic() > deadline:
            words = "\n".join(
                f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                for path in sorted(directory.glob("server-*.log"))
            )
            raise RuntimeError(f"after {PATIENCE_S:g} s still not: {what}\n{words}")
        time.sleep(0.05)


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
