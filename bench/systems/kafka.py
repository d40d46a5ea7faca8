"""Apache Kafka: three nodes in KRaft mode, each broker and controller, replication factor 3.

Its jars are brought by Maven from peers/kafka/pom.xml.  `min.insync.replicas` 2, acks=all; fsync
"always" is `log.flush.interval.messages=1`.  Its default heap is 1 GiB a node; the way `heap-256m`
has a smaller one.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.job import Fsync, Job
from bench.systems.base import Running, System, free_ports, job_options, processes, wait_for

JARS: Final = Path(__file__).parent.parent / "peers" / "kafka" / "target" / "dependency"
_CLUSTER: Final = "MkU3OEVBNTcwNTJENDM2Qk"
_NODES: Final = (1, 2, 3)


class RunningKafka(Running):
    def __init__(self, pids: list[int], bootstrap: str) -> None:
        self._pids = pids
        self.bootstrap = bootstrap

    @property
    def pids(self) -> list[int]:
        return self._pids

    def make_topic(self, job: Job) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        made = admin.create_topics(
            [
                NewTopic(
                    job.topic,
                    job.partitions,
                    3,
                    config={"min.insync.replicas": "2", "max.message.bytes": "10485880"},
                )
            ]
        )
        made[job.topic].result(60)

    def leader(self, job: Job) -> int:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topic = admin.list_topics(job.topic, timeout=10).topics[job.topic]
        return self._pids[_NODES.index(topic.partitions[0].leader)]

    def client(self, way: str, job: Job) -> list[str]:
        options = [job.kind, "--address", self.bootstrap, *job_options(job)]
        if way == "java":
            return [sys.executable, "-m", "bench.clients.kafka_java", *options]
        if way == "aiokafka":
            return [sys.executable, "-m", "bench.clients.kafka_aio", *options]
        ways = {"heap-256m": "produce_batch"}
        argv = [sys.executable, "-m", "bench.clients.kafka_confluent", *options]
        return [*argv, "--way", ways.get(way, way)]


class Kafka(System):
    name = "kafka"

    def missing(self) -> str:
        if shutil.which("java") is None:
            return "no java: apt install openjdk-17-jre-headless"
        if not list(JARS.glob("kafka_*.jar")):
            return "no jars: (cd bench/peers/kafka && mvn -q dependency:copy-dependencies)"
        return ""

    def version(self) -> str:
        return next(JARS.glob("kafka_*.jar")).stem.rpartition("-")[2]

    @contextlib.contextmanager
    def start(self, directory: Path, way: str, fsync: Fsync) -> Iterator[RunningKafka]:
        ports = free_ports(2 * len(_NODES))
        clients, controllers = ports[: len(_NODES)], ports[len(_NODES) :]
        voters = ",".join(
            f"{node}@127.0.0.1:{port}" for node, port in zip(_NODES, controllers, strict=True)
        )
        heap = "256m" if way == "heap-256m" else "1g"
        commands = []
        for node, client, controller in zip(_NODES, clients, controllers, strict=True):
            file = directory / f"node-{node}.properties"
            file.write_text(_settings(directory, node, client, controller, voters, fsync))
            _format(file)
            commands.append(
                [*_java(f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseG1GC"), "kafka.Kafka", str(file)]
            )
        bootstrap = ",".join(f"127.0.0.1:{port}" for port in clients)
        with processes(directory, commands) as pids:
            wait_for(lambda: _all_there(bootstrap), "three Kafka brokers", directory)
            yield RunningKafka(pids, bootstrap)


def _java(*options: str) -> list[str]:
    return ["java", *options, "-cp", f"{JARS}/*"]


def _format(file: Path) -> None:
    subprocess.run(
        [*_java(), "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(file)],
        check=True,
        capture_output=True,
    )


def _settings(
    directory: Path, node: int, client: int, controller: int, voters: str, fsync: Fsync
) -> str:
    lines = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": directory / f"data-{node}",
        "offsets.topic.replication.factor": 3,
        "transaction.state.log.replication.factor": 3,
        "transaction.state.log.min.isr": 2,
        "min.insync.replicas": 2,
        "group.initial.rebalance.delay.ms": 0,
        "message.max.bytes": 10485880,
        "replica.fetch.max.bytes": 10485880,
    }
    if fsync == "always":
        lines["log.flush.interval.messages"] = 1
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def _all_there(bootstrap: str) -> bool:
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return len(admin.list_topics(timeout=2).brokers) == len(_NODES)
