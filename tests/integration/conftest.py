"""Clusters for integration tests.

* `shared`: one cluster for the whole run of a worker, for tests that break nothing.  Each of
  them works in a topic, and a group, of its own name.
* `make_cluster`: a cluster of the test's own, for tests that kill, stop, tear and restart.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.wire import Wire

#: A session far above any stall of a busy machine: in the shared cluster nobody may be expelled.
CALM = (
    *("--session-ms", "20000", "--lease-ms", "13000"),
    *("--replica-lag-ms", "15000", "--resign-ms", "30000"),
)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers that all stay alive."""
    with Cluster(tmp_path_factory.mktemp("shared"), zk_options=CALM) as cluster:
        yield cluster


@pytest.fixture
def leader(shared: Cluster) -> Iterator[Wire]:
    """A fresh connection to the shared cluster's leader."""
    with shared.connect_leader() as wire:
        yield wire


@pytest.fixture
def follower(shared: Cluster) -> Iterator[Wire]:
    """A fresh connection to a broker of the shared cluster that does not lead."""
    leader = shared.wait_leader()
    with shared.connect(next(broker for broker in shared.ids if broker != leader)) as wire:
        yield wire


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own, for topics and groups."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in request.node.name)
    return f"{kept[:100]}-{next(_numbers)}"


@pytest.fixture
def topic(leader: Wire, name: str) -> str:
    """A topic of one partition in the shared cluster."""
    leader.ok("create_topic", topic=name, partitions=1)
    return name


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Open a cluster of this test's own; it is closed after the report of the test was made."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Cluster:
            directory = tmp_path / f"cluster-{next(_numbers)}"
            directory.mkdir()
            return stack.enter_context(Cluster(directory, **options))

        yield make
