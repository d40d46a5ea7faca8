"""Many seeds, shared by some processes: how many held, how fast, and what happened in them.

Seeds are independent of each other.  A process tries a chunk at a time, and the first run that
breaks a rule ends the search.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.sim.world import Result, run

#: What is counted in the end: how often it happened in all of the runs.
COVERED: Final = (
    *("elected", "checkpoint", "log_cut", "copying", "begins_anew", "file_damaged"),
    *("create_topic", "create_partitions", "delete_topic", "trim", "assign", "ack"),
)
#: Seeds that a process tries before it reports: some seconds' work.
CHUNK: Final = 50


@dataclass
class Tally:
    """What was tried so far.  failed: the run that broke a rule, if one did."""

    seeds: int = 0
    operations: int = 0
    acknowledged: int = 0
    simulated_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: Result | None = None

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.operations += result.operations
        self.acknowledged += result.acknowledged
        self.simulated_s += result.seconds
        self.counts += result.counts
        self.failed = self.failed or (result if result.fault else None)

    def merge(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.operations += other.operations
        self.acknowledged += other.acknowledged
        self.simulated_s += other.simulated_s
        self.counts += other.counts
        self.failed = self.failed or other.failed

    def summary(self, first: int, took: float) -> str:
        """Two lines: how many, how fast and how long; and what happened in them."""
        how = "no fault" if self.failed is None else f"seed {self.failed.setup.seed} failed"
        covered = ", ".join(f"{name} {self.counts[name]}" for name in COVERED)
        return (
            f"{self.seeds} seeds from {first}, {how}: {took:.1f} s, {self.seeds / took:.1f} seeds "
            f"a second; {self.simulated_s / 3600:.1f} h simulated, {self.operations} operations, "
            f"{self.acknowledged} batches acknowledged\n{covered}\n"
        )


def attempt(seeds: range) -> Tally:
    """Tries seeds until one fails."""
    tally = Tally()
    for seed in seeds:
        tally.add(run(seed))
        if tally.failed:
            break
    return tally


def search(seeds: range, jobs: int) -> Iterator[Tally]:
    """A tally of each chunk, in the order of their seeds."""
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    if min(jobs, len(chunks)) <= 1:
        yield from map(attempt, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(chunks))) as pool:
        yield from pool.imap(attempt, chunks)
