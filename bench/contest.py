"""Runs the workloads: every contestant in turn, on a fresh cluster each, several rounds.

A row of the results is one run:

    {"workload":"produce","contestant":"yak/send_many","round":1,"records":1000000,
     "seconds":2.31,"rate":432900,"clients_cpu":0.5,"servers_cpu":1.5,"others_cores":0.02,
     "quiet":true,"memory_mib":205,"latency_ms":{}}

Rules:

* All contestants of a workload run within one round, so that what the machine does besides falls
  on all of them; ratios are taken within a round.
* What cannot run here is left out with the reason, and how to install it.
* A run that fails is told and left out; the others go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.job import SLOW, Job, Workload
from bench.meter import Meter, memory_mib
from bench.systems.base import Running, System
from bench.systems.kafka import Kafka
from bench.systems.mock import Mock
from bench.systems.nats import Nats
from bench.systems.redis import Redis
from bench.systems.yak import Yak

SYSTEMS: Final[dict[str, System]] = {
    one.name: one for one in (Yak(), Kafka(), Redis(), Nats(), Mock())
}
#: One client's work may take this long, in seconds.
_PATIENCE_S: Final = 600
_TOPIC: Final = "bench"


@dataclass(frozen=True)
class Plan:
    """scale: what the workloads' records are multiplied by.  peers: not only yak.

    only: these contestants, or all.
    """

    rounds: int
    scale: float
    peers: bool
    only: tuple[str, ...] = ()


def run(
    workloads: Sequence[Workload],
    plan: Plan,
    keep: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Rows, as they come; also told on stderr.  keep: called with all so far after each."""
    rows: list[dict[str, Any]] = []
    for name, why in absent().items():
        say(f"without {name}: {why}") if plan.peers else None
    for workload in workloads:
        able = [one for one in workload.contestants if _takes_part(one, plan)]
        for number in range(1, plan.rounds + 1):
            for contestant in able:
                try:
                    row = _one(workload, contestant, plan.scale)
                except (RuntimeError, AssertionError, OSError) as e:
                    say(f"{workload.name} {contestant}: {e}")
                    continue
                row["round"] = number
                rows.append(row)
                keep(rows)
                say(_in_words(row))
    return rows


def absent() -> dict[str, str]:
    return {name: why for name, system in SYSTEMS.items() if (why := system.missing())}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _takes_part(contestant: str, plan: Plan) -> bool:
    name = contestant.partition("/")[0]
    if plan.only and contestant not in plan.only:
        return False
    return (plan.peers or name == "yak") and name not in absent()


def _one(workload: Workload, contestant: str, scale: float) -> dict[str, Any]:
    name, _, way = contestant.partition("/")
    records = int(workload.records * scale * (0.1 if contestant in SLOW else 1))
    if workload.rate:
        records = int(workload.records * min(1.0, scale))
    job = Job(
        workload.kind, _TOPIC, records, workload.size, workload.partitions, workload.rate,
        "bench-group" if workload.grouped else "",
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        SYSTEMS[name].start(Path(directory), way, workload.fsync) as running,
    ):
        running.make_topic(job)
        if workload.kind == "consume":
            _fill(running, name, way, job)
        return {
            "workload": workload.name,
            "contestant": contestant,
            **_measure(running, way, job, workload.clients),
        }


def _fill(running: Running, name: str, way: str, job: Job) -> None:
    ways = {"yak": "send_many", "kafka": "produce_batch", "mock": "produce_batch"}
    filling = replace(job, kind="produce", group="")
    wait_client(start_client(running.client(ways.get(name, way), filling)))


def _measure(running: Running, way: str, job: Job, clients: int) -> dict[str, Any]:
    share = replace(job, records=job.records // clients)
    commands = [running.client(way, share) for _ in range(clients)]
    before = os.times()
    meter = Meter(running.pids)
    began = time.monotonic()
    found = [wait_client(one) for one in [start_client(argv) for argv in commands]]
    after = os.times()
    children = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    usage = meter.stop(children)
    seconds = max(one["seconds"] for one in found)
    if clients > 1:  # they start and end at different times; start-up is in it
        seconds = min(time.monotonic() - began, seconds)
    records = sum(one["records"] for one in found)
    return {
        "records": records,
        "seconds": round(seconds, 4),
        "rate": round(records / seconds, 1),
        "clients_cpu": round(usage.clients_cpu, 3),
        "servers_cpu": round(usage.servers_cpu, 3),
        "others_cores": round(usage.others_cores, 3),
        "quiet": usage.quiet,
        "memory_mib": round(sum(map(memory_mib, running.pids)), 1),
        "latency_ms": found[0].get("latency_ms", {}),
    }


def start_client(argv: Sequence[str]) -> subprocess.Popen[str]:
    """What it prints is kept for `wait_client`."""
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_client(client: subprocess.Popen[str]) -> dict[str, Any]:
    """Its document.  Raises RuntimeError where it failed, with what it said."""
    try:
        out, err = client.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        raise RuntimeError(f"no end after {_PATIENCE_S} s: {client.args!r}") from None
    if client.returncode != 0:
        raise RuntimeError(f"exit {client.returncode} of {client.args!r}: {err[-2000:]}")
    found: dict[str, Any] = json.loads(out)
    return found


def _in_words(row: dict[str, Any]) -> str:
    latency = "".join(
        f"  {name} {row['latency_ms'][name]:.2f} ms"
        for name in ("p50", "p99", "p99.9")
        if row["latency_ms"]
    )
    noise = "" if row["quiet"] else f"  (others took {row['others_cores']:.2f} cores)"
    return (
        f"{row['workload']:14} {row['contestant']:20} {row['round']}  {row['rate']:>11,.0f}/s  "
        f"CPU {row['clients_cpu']:.2f} + {row['servers_cpu']:.2f} s{latency}{noise}"
    )
