"""What processes say, in one: from now on, in order, through files that are replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yak.local.follow import Follower


def event(at: int, name: str, **fields: object) -> str:
    return json.dumps({"time": at, "process": "p", "event": name, **fields}) + "\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / f"{name}.jsonl" for name in ("yak-zk", "broker-1")}


def texts(follower: Follower) -> list[str]:
    return [f"{line.process} {line.text}" for line in follower.lines()]


def test_only_what_is_new_and_in_the_order_of_its_time(files: dict[str, Path]) -> None:
    files["yak-zk"].write_text(event(1, "old"))
    follower = Follower(files, {})
    assert texts(follower) == []
    with files["yak-zk"].open("a") as zk:
        zk.write(event(30, "elected", leader=1, reason="it is there", inc="1f"))
    files["broker-1"].write_text(event(20, "started") + event(40, "leading"))
    assert texts(follower) == [
        "broker-1 started",
        'yak-zk elected leader=1 reason="it is there"',
        "broker-1 leading",
    ]
    assert texts(follower) == []
    follower.close()


def test_a_line_is_shown_once_it_is_whole(files: dict[str, Path]) -> None:
    follower = Follower(files, {})
    line = event(1, "started")
    for part, shown in ((line[:9], []), (line[9:], ["yak-zk started"])):
        with files["yak-zk"].open("a") as file:
            file.write(part)
        assert texts(follower) == shown
    follower.close()


def test_a_file_that_gives_way_is_read_to_its_end(files: dict[str, Path]) -> None:
    path = files["yak-zk"]
    path.write_text("")
    follower = Follower(files, {})
    with path.open("a") as file:
        file.write(event(1, "last"))
    path.rename(path.with_suffix(".1"))
    path.write_text(event(2, "first"))
    assert texts(follower) == ["yak-zk last", "yak-zk first"]
    path.write_text("")  # begun anew in place
    assert texts(follower) == []
    with path.open("a") as file:
        file.write(event(3, "again"))
    assert texts(follower) == ["yak-zk again"]
    follower.close()


def test_errors_are_told_as_they_are_and_broken_lines_are_not(
    files: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "broker-1.log"
    follower = Follower(files, {"broker-1": log})
    log.write_text("error: the port is in use\n")
    files["broker-1"].write_text('{"time":1,"ev\n[]\n{"event":"x"}\n')
    (line,) = follower.lines()
    assert (line.process, line.text, line.is_error) == (
        "broker-1", "error: the port is in use", True,
    )  # fmt: skip
    follower.close()
