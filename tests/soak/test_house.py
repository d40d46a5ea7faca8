"""Stories are counted once, what is amiss is kept, and a cut line is nobody's fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak.house import LONG, SHORT, House, Stories
from tests.support.wire import Fields


def tell(directory: Path, *entries: Fields, name: str = "events.jsonl") -> None:
    lines = [json.dumps({"process": "broker-1", **entry}) + "\n" for entry in entries]
    (directory / name).write_text("".join(lines))


def test_what_happened_is_counted_in_both_files(tmp_path: Path) -> None:
    tell(tmp_path, {"event": "checkpoint"}, {"event": "copying"}, name="events.1.jsonl")
    tell(tmp_path, {"event": "checkpoint"}, {"event": "started", "state": "whole"})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"process":"broker-1","event":"storage_fai')
    stories = Stories()
    stories.read(tmp_path)
    assert stories.figures() == {
        "checkpoints": 2, "log cuts": 0, "copies begun": 1, "copies installed": 0,
    }  # fmt: skip
    assert stories.amiss == []


@pytest.mark.parametrize(
    "entry", [{"event": "storage_failed"}, {"event": "started", "state": "damaged"}]
)
def test_what_is_amiss_is_kept(tmp_path: Path, entry: Fields) -> None:
    tell(tmp_path, entry)
    stories = Stories()
    stories.read(tmp_path)
    assert len(stories.amiss) == 1
    assert "broker-1" in stories.amiss[0]


@pytest.mark.parametrize("house", [LONG, SHORT])
def test_only_topics_that_forget_keep_less_than_a_group_may_be_behind(house: House) -> None:
    steady, brief = (
        house.config(steady=True, forgets=False),
        house.config(steady=False, forgets=True),
    )
    assert steady["retention_bytes"] >= 4 * brief["retention_bytes"]
    assert "retention_bytes" not in house.config(steady=False, forgets=False)
