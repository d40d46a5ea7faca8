"""`yak chaos`: what is meant, and what cannot be."""

from __future__ import annotations

import random
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yak.commands.chaos import MEMBER, _by_chance, chaos
from yak.commands.watching import LEADER
from yak.errors import Fatal
from yak.local import faults, note
from yak.local.chaos import Target
from yak.local.note import Member, Note


def a_cluster(directory: Path, *, lives: bool = True) -> Target:
    """Of which this process is every one."""
    me = faults.own()
    members = [
        Member(
            id=number, name=note.name_of(number), pid=me.pid, born=me.born if lives else "before",
            address=f"127.0.0.1:{number + 1}", data_dir="", log="", argv=[],
        )
        for number in (0, 1, 2)
    ]  # fmt: skip
    noted = Note(bootstrap="127.0.0.1:2", zk="127.0.0.1:1", members=members)
    note.write(directory, noted)
    return Target(directory, noted)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("broker-12", 12), ("0", 0), ("zk", 0), ("yak-zk", 0), ("leader", LEADER)],
)
def test_who_is_meant(text: str, number: int) -> None:
    assert MEMBER.convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9999999999", "brokers"])
def test_nobody(text: str) -> None:
    with pytest.raises(click.BadParameter, match="say a broker's id, leader, or zk"):
        MEMBER.convert(text, None, None)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fill", "zk"], "fill is for brokers"),
        (["kill", "1", "--every", "1s"], "--every must not be shorter than --for (5s)"),
        (["kill", "1", "--for", "0"], "--for: say how long"),
        (["slow", "1", "--by", "0"], "--by: say how late"),
        (["cut"], "Missing argument 'A'"),
        (["pause", "1", "--for", "soon"], "'soon' is no duration"),
    ],
)
def test_what_is_typed_wrong(argv: list[str], words: str, tmp_path: Path) -> None:
    ended = CliRunner().invoke(chaos, [*argv, *(["--data-dir", str(tmp_path)] if argv[1:] else [])])
    assert (ended.exit_code, words in ended.output) == (2, True), ended.output


def test_only_a_cluster_that_runs_here_is_hurt(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"yak\.json is not there; start one with `yak up`"):
        Target.find(tmp_path)
    a_cluster(tmp_path, lives=False)
    with pytest.raises(Fatal, match=r"yak\.json was left by one that has ended"):
        Target.find(tmp_path)


def test_only_who_is_there_and_free_is_hurt(tmp_path: Path) -> None:
    target = a_cluster(tmp_path)
    with pytest.raises(Fatal, match=r"there is no broker 3 in .*: it has 1, 2, and zk"):
        target.fault("kill", [3], 5.0, "yak chaos kill")
    with pytest.raises(Fatal, match="no doors between its processes"):
        target.fault("cut", [1, 2], 5.0, "yak chaos cut")
    pause = target.fault("pause", [1], 5.0, "yak chaos pause")
    assert pause.victim == pause.maker == faults.own()
    faults.write_down(tmp_path, pause)
    with pytest.raises(Fatal, match=r"broker 1 is hurt so already, by `yak chaos pause` \(pid"):
        target.fault("pause", [1], 5.0, "yak chaos pause")
    target.fault("pause", [2], 5.0, "yak chaos pause")
    target.fault("kill", [1], 5.0, "yak chaos kill")


def test_chance_is_repeated_by_its_seed(tmp_path: Path) -> None:
    target = a_cluster(tmp_path)
    runs = [[_by_chance(random.Random(7), target) for _ in range(2)] for _ in range(2)]
    assert runs[0] == runs[1]
    rng = random.Random(1)
    chosen = [_by_chance(rng, target) for _ in range(200)]
    assert {kind for kind, _ in chosen} == {"kill", "pause"}
    assert {one for _, members in chosen for one in members} == {LEADER, 0, 1, 2}
