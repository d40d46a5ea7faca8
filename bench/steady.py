"""`python -m bench.steady`: full load for an hour, in which nobody may be taken for dead.

Two producers that send all they can, one into twelve partitions and one into one, two consumers
that read what they send (from whoever has it, and from the leader), and a record at a time beside
them whose acknowledgements are timed.  Retention keeps the disk bounded: segments go, checkpoints
and log cuts come all the time.

Everything is in order here, so a session that ends, an election after the first, a broker that
leaves the ISR, a leader that resigns is a false alarm: each is shown, and the exit status is 1.
One document goes to --out: {"minutes":60.0,"records_in":…,"records_out":…,"alarms":[…],
"timed":{"gap_ms":…,"latency_ms":{…}},"memory_mib":[first, last],"others_cores":…}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from bench.contest import say
from bench.meter import Meter, memory_mib
from bench.systems.base import free_ports, processes, wait_for
from bench.systems.yak import BROKERS, bootstrap_of, commands, in_sync
from yak import Admin

#: What a partition keeps, in bytes, and the log for followers.
_KEPT: Final = 64_000_000

_ROLES: Final = ("produce", "produce-alone", "consume-any", "consume-leader", "timed")


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=60.0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench/results/steady.json"),
)
def main(minutes: float, out: Path) -> None:
    """Hold a cluster under full load, and tell of every false alarm."""
    found = hold(minutes)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    say(json.dumps(found))
    sys.exit(1 if found["alarms"] else 0)


def hold(minutes: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory, ports = Path(name), free_ports(len(BROKERS) + 1)
        bootstrap = bootstrap_of(ports)
        argv = commands(directory, ports, "never")
        retain = ["--oplog-retain-bytes", str(2 * _KEPT)]
        argv = [argv[0], *([*one, *retain] for one in argv[1:])]
        with processes(directory, argv) as pids:
            wait_for(lambda: in_sync(bootstrap, BROKERS), "three in sync", directory)
            with Admin(bootstrap) as admin:
                admin.create_topic("shared", 12, config={"retention_bytes": _KEPT})
                admin.create_topic("alone", 1, config={"retention_bytes": _KEPT})
            calm = len(_story(directory))
            memory = sum(map(memory_mib, pids))
            meter, before = Meter(pids), os.times()
            sums = _drive(bootstrap, minutes * 60)
            after = os.times()
            usage = meter.stop(
                after.children_user + after.children_system
                - before.children_user - before.children_system
            )  # fmt: skip
            told = [one for one in _story(directory)[calm:] if one["event"] != "stopped"]
            return {
                "minutes": round(usage.seconds / 60, 2),
                "records_in": sums["produce"]["records"] + sums["produce-alone"]["records"],
                "records_out": sums["consume-any"]["records"] + sums["consume-leader"]["records"],
                "timed": sums["timed"],
                "alarms": told,
                "memory_mib": [round(memory, 1), round(sum(map(memory_mib, pids)), 1)],
                "servers_cpu": round(usage.servers_cpu, 1),
                "clients_cpu": round(usage.clients_cpu, 1),
                "others_cores": round(usage.others_cores, 3),
            }


def _story(directory: Path) -> list[dict[str, Any]]:
    """What yak-zk told so far: it tells of nothing but sessions, elections and the ISR."""
    lines = (directory / "zookeeper" / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _drive(bootstrap: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Each role in a process; raises RuntimeError if one fails."""
    running = {role: _client(role, bootstrap, seconds) for role in _ROLES}
    try:
        found = {}
        for role, client in running.items():
            text, _ = client.communicate(timeout=seconds + 120)
            if client.returncode:
                raise RuntimeError(f"{role} ended with {client.returncode}")
            found[role] = json.loads(text)
        return found
    finally:
        for client in running.values():
            client.kill()
            client.wait()


def _client(role: str, bootstrap: str, seconds: float) -> subprocess.Popen[str]:
    argv: Sequence[str] = [
        *(sys.executable, "-m", "bench.clients.yak_steady", role),
        *("--address", bootstrap, "--seconds", str(seconds)),
    ]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
