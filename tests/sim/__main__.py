"""`python -m tests.sim [--seed S] [--seeds N] [--verbose]`: try seeds, show the first to fail."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Final

from tests.sim.world import run

#: What is counted in the end: how often it happened in all of the runs.
COVERED: Final = (
    *("elected", "checkpoint", "log_cut", "copying", "begins_anew", "file_damaged"),
    *("create_topic", "create_partitions", "delete_topic", "trim", "assign", "ack"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; alone, without --seeds")
    parser.add_argument("--seeds", type=int, help="how many; 200 from 1 on, if nothing is said")
    parser.add_argument("--verbose", action="store_true", help="show the story of every run")
    options = parser.parse_args()
    first = 1 if options.seed is None else options.seed
    count = options.seeds or (200 if options.seed is None else 1)
    began, operations, simulated = time.perf_counter(), 0, 0.0
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        result = run(seed)
        operations += result.operations
        counts += result.counts
        simulated += result.seconds
        if options.verbose or result.fault:
            sys.stdout.write(result.report() + "\n")
        if result.fault:
            sys.stdout.write(f"again: make sim SEED={seed}\n")
            return 1
    took = time.perf_counter() - began
    sys.stdout.write(
        f"{count} seeds from {first}, no fault: {took:.1f} s, {count / took:.1f} seeds a second; "
        f"{simulated / count:.1f} s and {operations / count:.0f} operations simulated in each\n"
    )
    sys.stdout.write(", ".join(f"{name} {counts[name]}" for name in COVERED) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
