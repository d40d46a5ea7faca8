"""The contract tests run on both disks: the real one and the one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory_disk import MemoryDisk
from yak.storage.disk import Disk, OsDisk


@pytest.fixture(params=["real", "memory"])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    made: Disk = OsDisk(max_open_files=3) if request.param == "real" else MemoryDisk()
    yield made
    made.close()


@pytest.fixture
def root(disk: Disk, tmp_path: Path) -> str:
    """An empty directory on the disk."""
    path = str(tmp_path)
    disk.mkdir(path)
    return path
