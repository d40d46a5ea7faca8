"""`python -m bench`: measure, and keep the rows as JSON; `python -m bench.draw` draws them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from bench.contest import SYSTEMS, Plan, absent, run, say
from bench.job import WORKLOADS
from bench.meter import WARM_BYTES, warm_memory

_LIBRARIES = ("msgspec", "uvloop", "confluent-kafka", "aiokafka", "redis", "hiredis", "nats-py")
#: Says to the process itself that it is in a namespace of its own.
_INSIDE = "YAK_BENCH_INSIDE"


@click.command()
@click.option("-w", "--workload", "names", multiple=True, help="Only these.  [default: all]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--scale", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--only", multiple=True, help="Only these SYSTEM/WAYs.  [default: all]")
@click.option("--peers", is_flag=True, help="Beside what people would use instead.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("bench/results/run.json")
)
def main(
    names: tuple[str, ...],
    rounds: int,
    scale: float,
    only: tuple[str, ...],
    out: Path,
    *,
    peers: bool,
) -> None:
    """Measure yak, in a network namespace of its own where root allows it."""
    _go_inside()
    unknown = set(names) - {one.name for one in WORKLOADS}
    if unknown:
        known = ", ".join(one.name for one in WORKLOADS)
        raise click.BadParameter(f"no workload {', '.join(sorted(unknown))}; there are {known}")
    chosen = [one for one in WORKLOADS if not names or one.name in names]
    warm_memory(WARM_BYTES)
    about = _about(rounds, scale)
    out.parent.mkdir(parents=True, exist_ok=True)

    def keep(rows: list[dict[str, Any]]) -> None:
        out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")

    rows = run(chosen, Plan(rounds, scale, peers, only), keep)
    say(f"{len(rows)} runs, in {out}")


def _go_inside() -> None:
    """Nobody else's traffic, and no ports of anybody else."""
    if os.environ.pop(_INSIDE, "") or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    inside = 'ip link set lo up && exec "$@"'
    argv = ["unshare", "--net", "sh", "-c", inside, "sh", sys.executable, "-m", "bench"]
    os.execvpe(argv[0], [*argv, *sys.argv[1:]], {**os.environ, _INSIDE: "1"})


def _about(rounds: int, scale: float) -> dict[str, Any]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gone = absent()
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.release()}",
        "python": platform.python_version(),
        "rounds": rounds,
        "scale": scale,
        "systems": {name: one.version() for name, one in SYSTEMS.items() if name not in gone},
        "absent": gone,
        "libraries": versions,
    }


if __name__ == "__main__":
    main()
