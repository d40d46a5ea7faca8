"""What every test shares: a failed one shows the output of every process that it ran."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support.cluster import open_clusters


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
