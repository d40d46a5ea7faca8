"""Simulated runs: a fixed number of seeds, each with its own cluster, clients and faults.

`make sim SEED=7` repeats one, `make sim SEEDS=1000` tries more of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.sim.search import attempt
from tests.sim.world import run, setup_of

#: Runs here, and how many one test makes; test_more_seeds.py tries those that come after them,
#: so that two processes share the work.
SEEDS = 500
CHUNK = 10
ROOT = Path(__file__).parent.parent.parent


def nothing_is_lost(seeds: range) -> None:
    tally = attempt(seeds)
    assert tally.failed is None, tally.failed.report()
    assert tally.acknowledged > len(seeds) * 5, "hardly anything was done: nothing was proved"


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_nothing_is_lost_whatever_falls_together(first: int) -> None:
    nothing_is_lost(range(first, first + CHUNK))


def test_what_keeps_disks_small_happens_often_enough() -> None:
    counts: Counter[str] = Counter()
    for seed in range(1, 21):
        result = run(seed, setup_of(seed, "upkeep"))
        assert not result.fault, result.report()
        counts += result.counts
    least = {"checkpoint": 100, "log_cut": 50, "copying": 5, "begins_anew": 5}
    least |= {"trim": 3, "delete_topic": 3, "assign": 20}
    assert all(counts[name] >= least[name] for name in least), (counts, least)


@pytest.mark.parametrize(
    ("seed", "area"),
    [
        (21336, ""),  # asked to stop while its disk was full it died of the mark it could not write
        (38, "rot"),  # a leader sent a follower what rots in its log, again and again
        (71, "rot"),
        (841, ""),  # a log that rots before the checkpoint let every start come to its end
        (15089, ""),  # a broker that left was taken for a restless one
        (18146, ""),  # a last digit 0 rotted to a blank, which JSON takes: a reader was sent it
        (303581, ""),  # a release, committed after its leader was replaced, told of the old group
        (314479, ""),  # killed between a failed sync and its mark: held for a lie
        (403154, ""),  # what a failed sync may have lost was not written again without fsync=always
        (502593, ""),  # the end of a run was counted, and not saved: an older copy, it seemed
        (524927, ""),  # an older copy that started twice before it was heard passed for the newest
        (
            804947,
            "",
        ),  # a duplicate's answer told of partitions that were not committed, and vanished
        (900550, ""),  # asked to stop twice, and taken for one that saw what must not be
    ],
)
def test_what_a_seed_found_once_stays_mended(seed: int, area: str) -> None:
    result = run(seed, setup_of(seed, area))
    assert not result.fault, result.report()


def test_a_seed_always_gives_the_same_story() -> None:
    """In one process, and in others that hash strings otherwise."""
    script = "from tests.sim.world import run; print('\\n'.join(run(11).story))"
    stories = []
    for hashing in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        stories.append(found.stdout)
    assert stories[0] == stories[1]
    first, again = run(11), run(11)
    assert first.story == again.story == stories[0].splitlines()
    assert (first.steps, first.operations) == (again.steps, again.operations)


def test_seeds_differ() -> None:
    assert run(11).story != run(12).story
