"""`yak log --at`: what operations add up to, as far back as a log and its checkpoint reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.support.annals import annals
from tests.support.store_life import Life, state_of
from yak.commands.log import log
from yak.core.snapshot import describe
from yak.errors import Fatal
from yak.storage.disk import OsDisk

OPERATIONS = 80
CHECKPOINT = 50
HISTORY = annals(OPERATIONS, seed=5)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A log that was cut behind a checkpoint."""
    disk = OsDisk()
    life = Life(disk, path=str(tmp_path / "b"))
    life.run(HISTORY, CHECKPOINT)
    life.checkpoint()
    life.run(HISTORY, OPERATIONS)
    life.store.close()
    disk.close()
    return tmp_path / "b"


def told(home: Path, index: int) -> Any:
    result = CliRunner().invoke(log, [str(home), "--at", str(index), "--json"])
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize("index", [CHECKPOINT, CHECKPOINT + 1, 66, OPERATIONS])
def test_it_is_what_a_broker_makes_of_them(home: Path, index: int) -> None:
    wanted = msgspec.json.encode(describe(state_of(HISTORY, index)))
    assert told(home, index) == json.loads(wanted)


@pytest.mark.parametrize("index", [1, CHECKPOINT - 1])
def test_further_back_than_the_checkpoint_nobody_knows(home: Path, index: int) -> None:
    result = CliRunner().invoke(log, [str(home), "--at", str(index)])
    assert isinstance(result.exception, Fatal)
    assert f"the last checkpoint holds operation {CHECKPOINT}" in str(result.exception)


def test_what_is_not_there_yet_is_said(home: Path) -> None:
    result = CliRunner().invoke(log, [str(home), "--at", "1000"])
    assert "the log ends with 80" in str(result.exception)


def test_people_read_topics_groups_and_producers(home: Path) -> None:
    result = CliRunner().invoke(log, [str(home), "--at", str(OPERATIONS)])
    state = state_of(HISTORY, OPERATIONS)
    assert result.stdout.startswith(f"after operation {OPERATIONS}  epoch {state.epoch}  ")
    for topic in state.topics:
        assert topic in result.stdout
    assert "next offset" in result.stdout
    assert "group" in result.stdout
    assert "producer" in result.stdout


def test_it_goes_with_nothing_else(home: Path) -> None:
    result = CliRunner().invoke(log, [str(home), "--at", "60", "--epoch", "1"])
    assert result.exit_code == 2
