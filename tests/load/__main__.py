"""`python -m tests.load [ATTACK…] [--rounds N] [--seconds S]`: what each attack does to others.

Exit code 0 if none did harm.  It takes some twenty minutes; the machine should have little else to
do.  PRESSURES, of slow followers and disks, are names as well.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.fault import strace
from tests.load.attacks import ATTACKS
from tests.load.drive import Case, Outcome, run
from tests.load.pressure import PRESSURES, TRACED, Pressed, press

#: Where 100,000 of something are asked for, what they take is measured, not bounded here.
_ANY: Final = 4096
CASES: Final = (
    Case("silent", 9_900),
    Case("half_open", 9_900),
    Case("slow_writer", 9_900),
    Case("long_polls", 1_000, bound=600),
    Case("wide_polls", 100, bound=600),
    Case("slow_reader", 2_000, bound=500),
    Case("never_reads", 500, bound=500),
    Case("never_reads_metadata", 200, bound=500),
    Case("never_reads_produce", 50, bound=500),
    Case("malformed", 100),
    Case("empty", 100),
    Case("requests", 100),
    Case("fetches", 100),
    Case("reads", 20, bound=500),
    Case("heavy_headers", 4),
    Case("acks_0", 20, bound=500),
    Case("churn", 100),
    Case("too_long", 500),
    Case("topics", 4, bound=_ANY, once=True, at_least_s=60.0),
    Case("groups", 4, bound=_ANY, once=True),
    Case("members", 4, bound=_ANY, once=True),
    Case("producers", 4, bound=_ANY, once=True),
)


def _stop(*_: object) -> None:
    raise SystemExit(130)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    names = ", ".join([*ATTACKS, *PRESSURES])
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    parser.add_argument("--report", type=Path, help="where the JSON report goes")
    parser.add_argument("--connections", type=int, help="of each attack, not as many as CASES says")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)  # all that it started ends as well
    outcomes: list[Outcome | Pressed] = []
    with tempfile.TemporaryDirectory(prefix="yak-load-") as directory:
        for case in CASES:
            if options.names and case.name not in options.names:
                continue
            home = Path(directory) / case.name
            asked = replace(case, count=options.connections or case.count)
            outcomes.append(run(asked, home, rounds=options.rounds, seconds=options.seconds))
            _say(outcomes[-1].line())
        for name in PRESSURES:
            if options.names and name not in options.names:
                continue
            if name in TRACED and (why := strace.missing()):
                _say(f"{name:22}       | skipped: {why}")
                continue
            outcomes.append(press(name, Path(directory) / name, seconds=options.seconds))
            _say(outcomes[-1].line())
    if options.report is not None:
        options.report.write_text(json.dumps([one.as_json() for one in outcomes], indent=1))
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
