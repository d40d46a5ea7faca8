"""`python -m bench.growth`: the same figures with more of everything, as curves.

    data          10x and 100x the records of one topic
    topics        as many topics, all of them written and read
    partitions    as many in one topic
    connections   as many beside, each with a fetch that waits
    members       as many in one group, out of one topic with 100 partitions

A row is one point of one round, on a fresh cluster: {"curve":"topics","at":1000,"round":1,
"produce":records/s,"consume":records/s,"others_cores":…,"quiet":…}.  What a curve loses on its way
to the right grows faster than the work.

What a cluster leaves is emptied at once and removed at the end of all: ext4 takes up a deleted
inode again only after minutes, and until then looks at each of them whenever a file is made.  Where
thousands had just been removed, making one took 0.9 ms instead of 0.05, and the next point paid.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from bench.contest import say, start_client, wait_client
from bench.meter import WARM_BYTES, Meter, memory_mib, warm_memory
from bench.systems.yak import RunningYak, Yak
from yak import Admin

POINTS: Final = {
    "data": (100_000, 1_000_000, 10_000_000),
    "topics": (1, 10, 100, 1000),
    "partitions": (1, 10, 100, 1000),
    "connections": (0, 10, 100, 1000),
    "members": (1, 10, 100),
}
#: Of every curve but `data`.
RECORDS: Final = 2_000_000
#: Of the topic that a group shares: as many as the largest group has members.
SHARED_PARTITIONS: Final = 100
_TOPIC: Final = "growth"

Row = dict[str, Any]


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--scale", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(POINTS)))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench/results/growth.json"),
)
def main(rounds: int, scale: float, only: tuple[str, ...], out: Path) -> None:
    """Measure what more of everything costs."""
    warm_memory(WARM_BYTES)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        _run(Path(home), rounds, scale, only, out)


def _run(home: Path, rounds: int, scale: float, only: tuple[str, ...], out: Path) -> None:
    rows = []
    for curve, points in POINTS.items():
        if only and curve not in only:
            continue
        for number in range(1, rounds + 1):
            for at in points:  # all points of a round one after the other: they are compared
                found = measure(curve, at, home, scale)
                row = {"curve": curve, "at": at, "round": number, **found}
                rows.append(row)
                out.write_text(json.dumps(rows, indent=1) + "\n")
                say(json.dumps(row))


def measure(curve: str, at: int, home: Path, scale: float = 1.0) -> Row:
    """One point of a curve, on a fresh cluster, whose directory stays in `home`, emptied."""
    topics = at if curve == "topics" else 1
    partitions = {"partitions": at, "members": SHARED_PARTITIONS}.get(curve, 1)
    records = int((at if curve == "data" else RECORDS) * scale)
    with (
        _emptied(Path(tempfile.mkdtemp(dir=home))) as directory,
        Yak().start(directory, "", "never") as running,
    ):
        with Admin(running.bootstrap) as admin:
            for number in range(topics):
                admin.create_topic(f"{_TOPIC}-{number}", partitions)
        with _held(running, at if curve == "connections" else 0):
            meter, before = Meter(running.pids), os.times()
            into = _client(running, "produce", records, topics)
            if curve == "members":
                out = _client(running, "group", records, topics, *_members(at))
            else:
                out = _client(running, "consume", records, topics)
            after = os.times()
            clients = (after.children_user - before.children_user) + (
                after.children_system - before.children_system
            )
            usage = meter.stop(clients)
        return {
            "records": records,
            "produce": round(into["records"] / into["seconds"], 1),
            "consume": round(out["records"] / out["seconds"], 1),
            **({"settled_seconds": out["settled_seconds"]} if curve == "members" else {}),
            "records_per_cpu_second": round(records / (usage.clients_cpu + usage.servers_cpu), 1),
            "memory_mib": round(sum(map(memory_mib, running.pids)), 1),
            "others_cores": round(usage.others_cores, 3),
            "quiet": usage.quiet,
        }


def _members(count: int) -> list[str]:
    return ["--members", str(count), "--partitions", str(SHARED_PARTITIONS)]


def _argv(running: RunningYak, kind: str, *more: str) -> list[str]:
    argv = [sys.executable, "-m", "bench.clients.yak_growth", kind, "--topic", _TOPIC]
    return [*argv, "--address", running.bootstrap, *more]


def _client(running: RunningYak, kind: str, records: int, topics: int, *more: str) -> Row:
    options = ["--records", str(records), "--topics", str(topics), *more]
    return wait_client(start_client(_argv(running, kind, *options)))


@contextlib.contextmanager
def _emptied(directory: Path) -> Iterator[Path]:
    """Its files take no room afterwards, but are there: see the module."""
    try:
        yield directory
    finally:
        for file in directory.rglob("*"):
            if file.is_file():
                os.truncate(file, 0)


@contextlib.contextmanager
def _held(running: RunningYak, connections: int) -> Iterator[None]:
    """That many connections stay open meanwhile."""
    if not connections:
        yield
        return
    argv = _argv(running, "hold", "--connections", str(connections))
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"held\n":
            raise RuntimeError(f"{connections} connections could not be held")
        yield
    finally:
        holder.stdin.close()
        holder.wait()


if __name__ == "__main__":
    main()
