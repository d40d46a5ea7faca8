"""librdkafka's mock cluster, in the client's own process: the ceiling of Kafka's Python clients.

Nothing is replicated and nothing is stored.  For aiokafka, which has no mock of its own, another
process holds it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.job import Fsync, Job
from bench.systems.base import Running, System, job_options, processes, wait_for


class RunningMock(Running):
    def __init__(self, pids: list[int], bootstrap: str) -> None:
        self._pids = pids
        self._bootstrap = bootstrap

    @property
    def pids(self) -> list[int]:
        return self._pids

    def make_topic(self, job: Job) -> None:
        """It makes topics by itself."""

    def client(self, way: str, job: Job) -> list[str]:
        module = "kafka_aio" if way == "aiokafka" else "kafka_confluent"
        argv = [sys.executable, "-m", f"bench.clients.{module}", job.kind]
        argv += ["--address", self._bootstrap, *job_options(job)]
        return argv if way == "aiokafka" else [*argv, "--way", way]


class Mock(System):
    name = "mock"

    def missing(self) -> str:
        if importlib.util.find_spec("confluent_kafka") is None:
            return "no client: pip install confluent-kafka aiokafka"
        return ""

    def version(self) -> str:
        import confluent_kafka

        return str(confluent_kafka.libversion()[0])

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningMock]:
        said = directory / "server-0.log"
        with processes(directory, [[sys.executable, "-m", "bench.clients.mock_cluster"]]) as pids:
            wait_for(lambda: bool(_address(said)), "the mock cluster", directory)
            yield RunningMock(pids, _address(said))


def _address(said: Path) -> str:
    """What mock_cluster printed, among what librdkafka itself has to say; "" before that."""
    lines = (line.split() for line in said.read_text().splitlines())
    return next((words[1] for words in lines if words[:1] == ["bootstrap"] and words[1:]), "")
