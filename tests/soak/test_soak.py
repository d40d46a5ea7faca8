"""The long run, cut to a minute: `make soak` is the whole one, and tells what it costs.

The seed is in the test's name; a failure carries the story and every process's end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.drive import Drive, Plan

SECONDS = 45.0


@pytest.mark.timeout(400)  # what comes after: healing, catching up, every process's end
@pytest.mark.parametrize("seed", [7])
def test_all_come_and_go_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    drive = Drive(tmp_path, Plan.short(SECONDS, seed))
    try:
        report = drive.run()
    except Exception as error:
        error.add_note(_everything(drive))
        raise
    if report.anomalies:
        pytest.fail(f"{report.summary()}\n{_everything(drive)}", pytrace=False)
    figures = report.figures
    assert figures["records acknowledged"] > 1000, report.summary()
    assert figures["elections"] > 1, report.summary()
    assert figures["restarts"] > 2, report.summary()
    assert figures["rebalances"] > 10, report.summary()
    assert figures["checkpoints"] > 10, report.summary()
    assert figures["log cuts"] > 5, report.summary()
    assert figures["copies installed"] > 0, report.summary()


def _everything(drive: Drive) -> str:
    return "\n".join(f"---- {title}\n{text}" for title, text in drive.cluster.report())
