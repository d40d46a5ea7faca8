"""Faults that are in force are noted, so that somebody else can undo them."""

from __future__ import annotations

from pathlib import Path

import pytest

from yak.errors import Fatal
from yak.explain.sentences import said
from yak.local import chaos, faults
from yak.local.faults import Fault


def a_fault(**more: object) -> Fault:
    me = faults.own()
    fields = {
        "kind": "pause",
        "members": [2],
        "since": 1000,
        "for_ms": 5000,
        "command": "yak chaos pause",
        "by": me.pid,
        "by_born": me.born,
        **more,
    }
    return Fault(**fields)  # type: ignore[arg-type] # as in a note


def test_noted_and_struck_out(tmp_path: Path) -> None:
    one, other = a_fault(), a_fault(kind="cut", members=[1, 2], by_born="another")
    assert faults.now(tmp_path) == []
    faults.write_down(tmp_path, one)
    faults.write_down(tmp_path, other)
    assert faults.now(tmp_path) == [one, other]
    assert faults.in_force(tmp_path) == [one], "whoever did the other has gone"
    faults.strike_out(tmp_path, one)
    assert faults.now(tmp_path) == [other]


def test_a_note_that_nobody_can_read_is_none(tmp_path: Path) -> None:
    faults.directory(tmp_path).mkdir()
    (faults.directory(tmp_path) / "now.json").write_bytes(b'[{"kind":"quake"}]')
    assert faults.now(tmp_path) == []
    with pytest.raises(Fatal, match=r"cannot be written: .*; what is done to a cluster"):
        faults.write_down(tmp_path / "nowhere", a_fault())


def test_its_story(tmp_path: Path) -> None:
    assert faults.recent(tmp_path) == []
    slow = a_fault(kind="slow", members=[3], late_ms=200, command="yak chaos slow")
    faults.directory(tmp_path).mkdir()
    faults.tell(tmp_path, "fault", slow, for_ms=5000)
    with faults.events(tmp_path).open("ab") as file:
        file.write(b'{"time":1}\nnonsense\n')
    faults.tell(tmp_path, "fault_ended", slow)
    told = faults.recent(tmp_path)
    assert [said(one) for one in told] == [
        "all between broker 3 and all others was made 200 ms late by `yak chaos slow`, for 5 s",
        "all comes through between broker 3 and all others again",
    ]
    assert told[0].hurts(3)
    assert not told[0].hurts(1, 0)
    assert slow.words(2000) == (
        "yak chaos: all between broker 3 and all others was made 200 ms late, for 4 s more"
    )


def test_what_is_left_of_those_who_are_gone(tmp_path: Path) -> None:
    """Nothing is done to a process that is not the one that was hurt."""
    me = faults.own()
    stranger = a_fault(kind="fill", by_born="gone", pid=me.pid, pid_born="another", before=0)
    killed = a_fault(kind="kill", members=[1], by_born="gone")
    faults.write_down(tmp_path, stranger)
    faults.write_down(tmp_path, killed)
    assert chaos.mend(tmp_path) == [stranger, killed]
    assert faults.now(tmp_path) == []
    assert [said(one) for one in faults.recent(tmp_path)] == [
        "broker 2 has ended meanwhile",
        "broker 1 was not started again: the cluster was stopped",
    ]
