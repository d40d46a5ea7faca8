"""Golden stories: what the processes tell when one thing happens, as prose to review.

Times, indexes and what else depends on how much the clients did are left out, and nothing is left
to chance, so that a story changes only where the protocol does.

They are rewritten with YAK_GOLDEN=write in the environment; the change is then read as a diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.sim.plans import Fault
from tests.sim.world import Setup, run
from yak.config import Settings

GOLDEN = Path(__file__).parent / "golden"
QUICK = Settings(heartbeat_ms=120, session_ms=600, lease_ms=350, replica_lag_ms=400, resign_ms=900)
_VOLATILE = re.compile(
    r"((?:next|had|index|cut|end)=|operation |for )(?:\[[^]]*\]|\d+(?= ms)|\d+$|\d+(?=[ ,;]))"
)
STORIES = {
    "the leader is killed": [Fault(1.0, "kill", "leader", lasts=1.0)],
    "the leader hangs": [Fault(1.0, "pause", "leader", lasts=1.5)],
    "the leader does not hear yak-zk": [
        Fault(1.0, "cut", "zk", lasts=1.5, other="leader"),
    ],
    "yak-zk starts again": [Fault(1.0, "kill", "zk", lasts=0.3)],
    "a follower is cut off from its leader": [
        Fault(1.0, "cut", "follower", lasts=1.0, other="leader", both=True),
    ],
    "everything loses power": [Fault(1.0, "blackout", "any", lasts=0.5)],
}


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_as_it_was_reviewed(name: str) -> None:
    setup = Setup(
        seed=7,
        fsync="always",
        settings=QUICK,
        chaos_s=4.0,
        batches=20,
        faults=STORIES[name],
        even=True,
    )
    result = run(7, setup)
    assert not result.fault, result.report()
    told = [_VOLATILE.sub(r"\1…", line.split(maxsplit=1)[1]) for line in result.story]
    file = GOLDEN / f"{name.replace(' ', '-')}.txt"
    if os.environ.get("YAK_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        file.write_text("\n".join(told) + "\n", encoding="utf-8")
    assert told == file.read_text(encoding="utf-8").splitlines()
