"""A sample of `make kills`: every scene, killed at some of its system calls.

A program of its own, since it forks for each kill, and pytest is more than one thread.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.strace import missing
from tests.support.process import environment

ROOT = Path(__file__).parent.parent.parent
#: Of a scene's calls, every so manieth: some fifty kills, of which each takes a tenth of a second.
STRIDE = 12
LEAST = 30


@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_killed_at_some_calls_nothing_durable_is_missing() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--stride", str(STRIDE)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if ended.returncode:
        pytest.fail(ended.stdout + ended.stderr, pytrace=False)
    found = re.search(r"killed (\d+) times, 0 failures", ended.stdout)
    assert found, ended.stdout
    assert int(found[1]) >= LEAST, ended.stdout
