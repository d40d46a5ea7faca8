"""`python -m tests.sim.mutants [--search]`: each rule out of the real code, and what finds that.

A row says in which area of faults it is hunted, which seed finds it, and how many were tried and
for how long: from the one on that SCENT names, with --search from seed 1 on.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import Final

from tests.sim import disk_mutants, join_mutants, mutants, pending_mutants, upkeep_mutants

_MODULES: Final = (mutants, join_mutants, pending_mutants, disk_mutants, upkeep_mutants)
RULES: Final = {rule: patch for each in _MODULES for rule, patch in each.RULES.items()}
SCENT: Final = {rule: scent for each in _MODULES for rule, scent in each.SCENT.items()}
#: The model's rules (tests/model/rules.py) whose mutant has another name.
MODEL_NAMES: Final = {
    "torn_out": "torn",
    "damaged_out": "damaged",
    "suspect_stays": "still_suspect",
    "marker": "marked_until",
    "pending_drop": "pending_dropped",
}
#: Seeds that are tried at most.
SEEDS: Final = 400


def without(rule: str) -> mutants.Patch:
    """The rule out, and what stands before it."""
    before = mutants.BEFORE.get(rule)
    return mutants.both(RULES[rule](), before()) if before else RULES[rule]()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument(
        "--search", action="store_true", help="from seed 1 on, as if none was known"
    )
    search = parser.parse_args().search
    sys.stdout.write("| rule | area | seed | seeds | s | found |\n|---|---|---|---|---|---|\n")
    missed = 0
    for rule, (area, named) in SCENT.items():
        began, first = time.process_time(), 1 if search else named
        found = mutants.hunt(partial(without, rule), range(first, named + SEEDS), area)
        took = time.process_time() - began
        if found is None:
            missed += 1
            sys.stdout.write(
                f"| `{rule}` | {area} | - | {named + SEEDS - first} | {took:.1f} | nothing |\n"
            )
            continue
        seed, what = found.setup.seed, found.fault.partition(":")[0][:60]
        row = f"| `{rule}` | {area} | {seed} | {seed - first + 1} | {took:.1f} | {what} |"
        sys.stdout.write(row + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n{len(SCENT) - missed} of {len(RULES)} found\n")
    return 1 if missed else 0
