"""`python -m tests.sim [--seed S] [--seeds N] [--jobs J] [--whole]`: try seeds.

The first run to fail is made small (shrink.py), and shown.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from tests.sim.search import Tally, search
from tests.sim.shrink import shrink
from tests.sim.world import run

#: Between two lines that say how far the search is, in seconds.
PROGRESS_S: Final = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; alone, without --seeds")
    parser.add_argument("--seeds", type=int, help="how many; 200 from 1 on, if nothing is said")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes share them")
    parser.add_argument("--verbose", action="store_true", help="show the story, if it is one seed")
    parser.add_argument("--whole", action="store_true", help="a failing run as it is, not shrunk")
    options = parser.parse_args()
    first = 1 if options.seed is None else options.seed
    count = options.seeds or (200 if options.seed is None else 1)
    if options.verbose and count == 1:
        sys.stdout.write(run(first).report() + "\n")
    began = said = time.perf_counter()
    total = Tally()
    for tally in search(range(first, first + count), options.jobs):
        total.merge(tally)
        if total.failed is not None:
            break
        if time.perf_counter() - said > PROGRESS_S:
            said = time.perf_counter()
            sys.stdout.write(f"... {total.seeds} of {count} seeds in {said - began:.0f} s\n")
            sys.stdout.flush()
    if total.failed is not None:
        if options.whole:
            sys.stdout.write(total.failed.report() + "\n")
        else:
            small = shrink(total.failed)
            sys.stdout.write(f"{small.result.report()}\nshrunk {small}; --whole shows all of it\n")
    sys.stdout.write(total.summary(first, time.perf_counter() - began))
    if total.failed is not None:
        sys.stdout.write(f"again: make sim SEED={total.failed.setup.seed}\n")
    return 0 if total.failed is None else 1


if __name__ == "__main__":
    sys.exit(main())
