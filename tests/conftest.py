"""What every test shares: a failed one shows the output of every process that it ran.

The longest modules come first, so that none is left to one worker when the other has done all
else (`make test` keeps this order: --no-loadscope-reorder).

FUZZ_EXAMPLES, which `make fuzz` sets, is of how many examples each of hypothesis' tests is made.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cluster import open_clusters

ROOT: Final = Path(__file__).parent.parent
EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "0"))
if EXAMPLES:
    settings.register_profile(
        "fuzz", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("fuzz")

#: By the time that they take, the longest first.
LONGEST: Final = (
    "tests/fault/test_fault.py",
    "tests/sim/test_sim.py",
    "tests/sim/test_more_seeds.py",
    "tests/sim/test_mutants.py",
    "tests/fault/test_disks.py",
    "tests/soak/test_soak.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: all others stay as they were."""
    ranks = {ROOT / name: rank for rank, name in enumerate(LONGEST)}
    gone = [str(path) for path in ranks if not path.exists()]
    assert not gone, f"LONGEST names modules that are no more: {gone}"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach processes and files of the clusters that are still open."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for cluster in open_clusters:
            report.sections.extend(cluster.report())
    return report
