"""`python -m bench.lives`: what happens in a cluster's life, and how long it takes.

    start       four processes at once, up to the first acknowledgement; memory and CPU when idle
    kill        the leader dies (SIGKILL): the longest time without an acknowledgement
    freeze      the leader hangs (SIGSTOP): the same
    restart     a log of `--megabytes`: a whole cluster stops and starts, up to an acknowledgement
    catch-up    a follower so far behind, by its log and by full copy, while a producer runs

Start, kill and freeze also for the peers that can do it.  Rows as contest.py's, each with what it
measured: `seconds`, `gap_ms`, `mb_per_second` …
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from bench.contest import SYSTEMS, absent, say, start_client, wait_client
from bench.job import Job
from bench.meter import WARM_BYTES, cpu_seconds, memory_mib, memory_share_mib, warm_memory
from bench.systems.base import free_ports, processes, wait_for
from bench.systems.yak import BROKERS, RunningYak, bootstrap_of, commands, in_sync
from yak import Admin, Producer

#: How long an idle cluster is looked at, in seconds.
IDLE_S: Final = 15.0
#: A client of kill and freeze sends for so long, and so many a second.
GAP_S: Final = 16
GAP_RATE: Final = 200
#: When the leader is hit, and for how long it is frozen, in seconds.
HIT_AFTER_S: Final = 3.0
FROZEN_S: Final = 8.0
#: What the producer beside a catch-up sends before, and at most meanwhile, of 1 KB each.
CALM_RECORDS: Final = 300_000
ASIDE_RECORDS: Final = 10_000_000

Row = dict[str, Any]


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--megabytes", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--peers", is_flag=True)
@click.option("--only", multiple=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench/results/lives.json"),
)
def main(rounds: int, megabytes: int, only: tuple[str, ...], out: Path, *, peers: bool) -> None:
    """Measure a cluster's life."""
    names = [
        name
        for name in ("yak", "kafka", "nats")
        if name == "yak" or (peers and name not in absent())
    ]
    lives: dict[str, Callable[[str], Row]] = {
        "start": start,
        "kill": lambda name: _gap(name, signal.SIGKILL),
        "freeze": lambda name: _gap(name, signal.SIGSTOP),
        "restart": lambda _: restart(megabytes),
        "catch-up by log": lambda _: catch_up(megabytes, wiped=False),
        "catch-up by copy": lambda _: catch_up(megabytes, wiped=True),
    }
    warm_memory(WARM_BYTES)
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for life, measure in lives.items():
        if only and life not in only:
            continue
        for number in range(1, rounds + 1):
            for name in _who(life, names):
                try:
                    measured = measure(name)
                except (RuntimeError, AssertionError, OSError) as e:
                    say(f"{life} {name}: {e}")
                    continue
                rows.append({"life": life, "system": name, "round": number, **measured})
                out.write_text(json.dumps(rows, indent=1) + "\n")
                say(json.dumps(rows[-1]))


def _who(life: str, names: list[str]) -> list[str]:
    """Kafka starts with its default heap of 1 GiB a node, and with one that fits."""
    match life:
        case "start":
            return [*names, *(["kafka/heap-256m"] if "kafka" in names else [])]
        case "kill" | "freeze":
            return names
        case _:
            return ["yak"]


def start(name: str) -> Row:
    """From the first process on; memory and CPU of all servers while nothing happens."""
    job = Job("gap", "first", 1, rate=1)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        began = time.monotonic()
        if name == "yak":
            ports = free_ports(len(BROKERS) + 1)
            with processes(Path(directory), commands(Path(directory), ports, "never")) as pids:
                with Producer(bootstrap=bootstrap_of(ports)) as producer:
                    producer.send("first", 1).result(30)
                    seconds = time.monotonic() - began
                wait_for(lambda: in_sync(bootstrap_of(ports), BROKERS), "in sync", Path(directory))
                return {"seconds": round(seconds, 3), **_idle(pids)}
        system, _, way = name.partition("/")
        with SYSTEMS[system].start(Path(directory), way, "never") as running:
            running.make_topic(job)
            wait_client(start_client(running.client("produce", job)))
            seconds = time.monotonic() - began
            return {"seconds": round(seconds, 3), **_idle(running.pids)}


def _idle(pids: Sequence[int]) -> Row:
    before = sum(map(cpu_seconds, pids))
    time.sleep(IDLE_S)
    used = sum(map(cpu_seconds, pids)) - before
    return {
        "memory_mib": round(sum(map(memory_mib, pids)), 1),
        "shared_counted_once_mib": round(sum(map(memory_share_mib, pids)), 1),
        "idle_percent_of_a_core": round(100 * used / IDLE_S, 2),
    }


def _gap(name: str, signal_number: signal.Signals) -> Row:
    job = Job("gap", "gap", GAP_S * GAP_RATE, rate=GAP_RATE)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        SYSTEMS[name].start(Path(directory), "", "never") as running,
    ):
        running.make_topic(job)
        client = start_client(running.client("produce", job))
        time.sleep(HIT_AFTER_S)
        leader = running.leader(job)
        os.kill(leader, signal_number)
        if signal_number is signal.SIGSTOP:
            time.sleep(FROZEN_S)
            os.kill(leader, signal.SIGCONT)
        found = wait_client(client)
        return {key: found[key] for key in ("gap_ms", "records", "failed")}


# -- yak alone ------------------------------------------------------------------------------------


def restart(megabytes: int) -> Row:
    """Records of 1 KB; all processes end and start."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory, ports = Path(name), free_ports(len(BROKERS) + 1)
        bootstrap = bootstrap_of(ports)
        with processes(directory, commands(directory, ports, "never")):
            wait_for(lambda: in_sync(bootstrap, BROKERS), "in sync", directory)
            _fill(bootstrap, megabytes)
        began = time.monotonic()
        with processes(directory, commands(directory, ports, "never")):
            with Producer(bootstrap=bootstrap) as producer:
                producer.send("big", 1).result(60)
                first = time.monotonic() - began
            wait_for(lambda: in_sync(bootstrap, BROKERS), "in sync", directory)
            return {
                "megabytes": megabytes,
                "first_acknowledgement_seconds": round(first, 3),
                "in_sync_seconds": round(time.monotonic() - began, 3),
            }


def catch_up(megabytes: int, *, wiped: bool) -> Row:
    """Broker 3 is away while a log grows; then it comes back, and a producer goes on meanwhile.

    Until it is in sync it has copied what was written while it was away and meanwhile.  What the
    producer keeps is of its rate while all three were in sync.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory, ports = Path(name), free_ports(len(BROKERS) + 1)
        bootstrap = bootstrap_of(ports)
        retain = ["--oplog-retain-bytes", str(4 * megabytes * 1_000_000)]
        argv = commands(directory, ports, "never")
        argv = [argv[0], *([*one, *retain] for one in argv[1:])]
        with processes(directory, argv) as pids:
            wait_for(lambda: in_sync(bootstrap, BROKERS), "three in sync", directory)
            running = RunningYak(pids[:3], bootstrap)
            job = Job("produce", "aside", CALM_RECORDS, size=1000)
            running.make_topic(job)
            calm = wait_client(start_client(running.client("send_many", job)))
            os.kill(pids[3], signal.SIGTERM)
            wait_for(lambda: in_sync(bootstrap, BROKERS[:2]), "two in sync", directory)
            _fill(bootstrap, megabytes)
            if wiped:
                shutil.rmtree(directory / "broker-3")
            job = Job("produce", "aside", ASIDE_RECORDS, size=1000)
            producing = start_client(running.client("send_many", job))
            try:
                wait_for(lambda: _end(bootstrap) > CALM_RECORDS + 2, "it produces", directory)
                before, began = _end(bootstrap), time.monotonic()
                with processes(directory, [argv[3]]):
                    wait_for(lambda: in_sync(bootstrap, BROKERS), "three in sync", directory)
                    seconds = time.monotonic() - began
                    meanwhile = _end(bootstrap) - before
            finally:
                producing.kill()
                producing.wait()
            return {
                "megabytes": megabytes,
                "seconds": round(seconds, 3),
                "mb_per_second": round((megabytes + meanwhile / 1000) / seconds, 1),
                "producers_keep": round(meanwhile / seconds * calm["seconds"] / calm["records"], 3),
            }


def _end(bootstrap: str) -> int:
    """How many records `aside` has."""
    with Admin(bootstrap) as admin:
        return sum(one.high_watermark for one in admin.topic("aside").partitions)


def _fill(bootstrap: str, megabytes: int) -> None:
    values = ["x" * 998] * 1000
    with Producer(bootstrap=bootstrap) as producer:
        for _ in range(megabytes):
            producer.send_many("big", values)
        producer.flush()


if __name__ == "__main__":
    main()
