"""`python -m tests.soak [--minutes M] [--seed S]`: a long run, its report, and what it found.

Exit code 0: no anomaly, and nothing grew.  Else what the run wrote is kept, and where is said.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path

from tests.soak.drive import Drive, Plan
from tests.support.cluster import Cluster

#: A run of up to so long does everything in quicker succession.
SHORT_MINUTES = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="by chance, if nothing is said; it is printed")
    parser.add_argument("--fsync", default="never", help="as yak-broker's")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="records a second")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    parser.add_argument("--checker", type=Path, help="also have this program check the history")
    parser.add_argument("--dir", type=Path, help="a directory to work in; it is kept")
    options = parser.parse_args()
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    directory = options.dir or Path(tempfile.mkdtemp(prefix=f"yak-soak-{seed}-"))
    directory.mkdir(parents=True, exist_ok=True)
    _say(f"seed {seed}, {options.minutes:g} minutes, in {directory}")
    make = Plan.short if options.minutes <= SHORT_MINUTES else Plan
    plan = replace(make(options.minutes * 60, seed), fsync=options.fsync, rate=options.rate)
    drive = Drive(directory, plan)
    try:
        report = drive.run(options.checker)
    except Exception:  # noqa: BLE001 -- shown, with all that every process said
        _say(traceback.format_exc())
        show(drive.cluster)
        return _failed(options.minutes, seed, directory)
    report.write(options.report or directory / "report.json")
    _say(report.summary())
    if report.anomalies or report.grown:
        show(drive.cluster)
        return _failed(options.minutes, seed, directory)
    if options.dir is None:
        shutil.rmtree(directory)
    return 0


def show(cluster: Cluster) -> None:
    """The story, and every process's end."""
    for title, text in cluster.report():
        _say(f"---- {title}\n{text}")


def _failed(minutes: float, seed: int, directory: Path) -> int:
    _say(f"files are in {directory}; again: make soak MINUTES={minutes:g} SEED={seed}")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
