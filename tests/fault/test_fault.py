"""A few minutes of faults on real processes: `make fault` is any number of them.

It is a program of its own, since it leaves the machine's network namespace where that is possible.
What it asks for is no anomaly, recovery within `field.WHOLE_S`, and enough faults; nothing depends
on how fast the machine is.  The seed is in the test's name; a failure carries the transcript of
faults, and the end of every process's output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fault.run import STRETCH
from tests.support.process import environment

ROOT = Path(__file__).parent.parent.parent
MINUTES = 5.0
FAULTS = 100
#: Beside the faults: starting, healing, catching up, judging.
REST_S = 400.0
#: Where even that was not enough: it ends its processes, and says what happened.
ENDING_S = 60.0


@pytest.mark.timeout(MINUTES * 60 * STRETCH + REST_S + ENDING_S)
@pytest.mark.parametrize("seed", [4])
def test_faults_on_real_processes_cost_nothing(tmp_path: Path, seed: int) -> None:
    report = run_faults(tmp_path, seed, MINUTES, FAULTS)
    assert report["faults"] >= FAULTS, report
    assert report["records acknowledged"] > 1000, report
    kinds = report["made"]
    for kind in ("kill -9", "SIGTERM", "SIGSTOP", "all killed", "restarted in order"):
        assert kinds.get(kind, 0) > 0, f"no {kind} among {kinds}"
    for words in (("cut",), ("disk", "fsync", "power"), ("torn", "flipped", "wiped")):
        can = [word for word in words if not any(word in kind for kind in report["skipped"])]
        assert not can or any(word in kind for kind in kinds for word in can), (
            f"no {words}: {kinds}"
        )
    assert report["gaps"], report


def run_faults(directory: Path, seed: int, minutes: float, faults: int) -> dict[str, Any]:
    """Run `python -m tests.fault`; its report."""
    path = directory / "report.json"
    argv = [sys.executable, "-m", "tests.fault", "--seed", str(seed), "--minutes", str(minutes)]
    argv += ["--faults", str(faults), "--report", str(path), "--dir", str(directory / "run")]
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            said, _ = process.communicate(timeout=minutes * 60 * STRETCH + REST_S)
        except BaseException:
            process.terminate()  # it tells what it had done, and ends what it had started
            said, _ = process.communicate()
            sys.stdout.write(said.decode(errors="replace"))
            raise
    if process.returncode != 0:
        pytest.fail(said.decode(errors="replace"), pytrace=False)
    report: dict[str, Any] = json.loads(path.read_text())
    return report
