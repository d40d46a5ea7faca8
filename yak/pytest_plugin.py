"""The pytest plugin: a real cluster for any project's tests, ready in under two seconds.

    def test_orders_survive(yak_cluster, yak_topic):
        with yak_cluster.producer() as producer:
            for number in range(100):
                producer.send(yak_topic, number)
                if number == 50:
                    yak_cluster.kill_leader()
        yak_cluster.assert_no_acked_loss()

    yak_cluster     one for the session, started by the first test that asks for it
    yak_topic       a topic of the test's own; @pytest.mark.yak_topic(partitions=1) says how it is

Rules:

* Under xdist each worker has its own: what one test kills must not be another one's.
* A test that uses it begins with a whole cluster, whatever the one before did to it.
* The report of a test that fails has the cluster's story since that test began.
* Who does not use it pays for this file, and for nothing else of yak.

What a cluster can do is yak/testing.py's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from yak.testing import YakCluster

_cluster: pytest.StashKey[YakCluster] = pytest.StashKey()
_FIXTURE = "yak_cluster"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Settings, in pytest's configuration file."""
    parser.addini("yak_brokers", "How many brokers yak_cluster has.", default="3")
    parser.addini("yak_broker_options", "Options of its yak-brokers.", type="args", default=[])
    parser.addini("yak_zk_options", "Options of its yak-zk.", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "yak_topic(partitions=3, config=None): how the topic of the fixture yak_topic is made",
    )


@pytest.fixture(scope="session")
def yak_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[YakCluster]:
    """A cluster of yak: yak_cluster.bootstrap is where clients find it."""
    from yak.testing import YakCluster

    config = request.config
    brokers = str(config.getini("yak_brokers"))
    if not brokers.isdecimal() or int(brokers) < 1:
        raise pytest.UsageError(f"yak_brokers = {brokers!r}: say a whole number from 1")
    cluster = YakCluster(
        tmp_path_factory.mktemp("yak"),
        int(brokers),
        broker_options=config.getini("yak_broker_options"),
        zk_options=config.getini("yak_zk_options"),
    )
    config.stash[_cluster] = cluster
    with cluster:
        cluster.begin_test("the cluster is ready")
        yield cluster
    del config.stash[_cluster]


@pytest.fixture
def yak_topic(request: pytest.FixtureRequest, yak_cluster: YakCluster) -> str:
    """The name of a topic that only this test has."""
    marker = request.node.get_closest_marker("yak_topic")
    how: dict[str, Any] = marker.kwargs if marker is not None else {}
    return yak_cluster.new_topic(request.node.name, **how)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    cluster = _used_by(item)
    if cluster is not None:
        cluster.begin_test(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown":
        cluster = _used_by(item)
        if cluster is not None:
            report.sections.append(("yak: what happened in the cluster", cluster.story()))
    return report


def _used_by(item: pytest.Item) -> YakCluster | None:
    """The cluster, once it is there, if this test uses it."""
    if _FIXTURE not in getattr(item, "fixturenames", ()):
        return None
    return item.config.stash.get(_cluster, None)
