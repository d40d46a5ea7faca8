"""`python -m tests.fault [--minutes M] [--seed S]`: faults on real processes, and what they found.

Exit code 0: no anomaly, and all healed.  Else the transcript of faults and the end of every
process's output are shown, and what the run wrote is kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from tests.fault import spaces
from tests.fault.nemesis import KINDS
from tests.fault.run import Plan, Run


def main() -> int:
    options = _options()
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    directory = options.dir or Path(tempfile.mkdtemp(prefix=f"yak-fault-{seed}-"))
    directory.mkdir(parents=True, exist_ok=True)
    apart = options.links != "proxies" and not spaces.missing()
    _say(f"seed {seed}, {options.minutes:g} minutes, fsync {options.fsync}, in {directory}")
    plan = Plan(
        options.minutes * 60,
        seed,
        faults=options.faults,
        fsync=options.fsync,
        apart=apart,
        kinds=tuple(k for k in KINDS if not options.only or k.kind in options.only),
    )
    run = Run(directory, plan)
    if not apart:
        run.nemesis.without("namespace", spaces.missing() or "left out by --links proxies")
    signal.signal(signal.SIGTERM, _stop)
    try:
        report = run.run()
    except Exception:  # noqa: BLE001 -- shown, with all that every process said
        _say(traceback.format_exc())
        return _failed(run, options, seed)
    if options.report:
        report.write(options.report)
    _say(report.summary())
    if report.anomalies:
        return _failed(run, options, seed)
    if options.dir is None:
        shutil.rmtree(directory)
    return 0


def _stop(*_: object) -> None:
    """A run that is asked to stop has failed, and ends its processes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise TimeoutError("asked to stop")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="by chance, if nothing is said; it is printed")
    parser.add_argument("--faults", type=int, default=0, help="at least so many, in twice the time")
    parser.add_argument("--fsync", default="always", help="as yak-broker's")
    parser.add_argument("--links", choices=["all", "proxies"], default="all")
    parser.add_argument("--only", action="append", help="a kind of fault; may be said again")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    parser.add_argument("--dir", type=Path, help="a directory to work in; it is kept")
    return parser.parse_args()


def _failed(run: Run, options: argparse.Namespace, seed: int) -> int:
    for title, text in run.cluster.report():
        _say(f"---- {title}\n{text}")
    _say(f"files are in {run.cluster.directory.parent}")
    more = f" FSYNC={options.fsync}" * (options.fsync != "always")
    _say(f"again: make fault MINUTES={options.minutes:g} SEED={seed}{more}")
    return 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
