"""yak.json: found from where one stands, and believed only while something of it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from yak.errors import Fatal
from yak.local import note
from yak.local.note import Member, Note
from yak.local.pids import born


def a_note(pid: int, lives_since: str) -> Note:
    member = Member(
        id=0,
        name="yak-zk",
        pid=pid,
        born=lives_since,
        address="h:1",
        data_dir="d",
        log="l",
        argv=[],
    )
    return Note(bootstrap="h:2,h:3", zk="h:1", members=[member])


def test_the_nearest_is_found_and_read_back(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    (inner / "data").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    assert note.nearest(inner) is None
    mine = a_note(os.getpid(), born(os.getpid()))
    note.write(tmp_path / "data", mine)
    assert note.nearest(inner) == tmp_path / "data"
    assert note.running(inner) == mine
    note.write(inner / "data", mine)
    assert note.nearest(inner) == inner / "data"
    assert note.nearest(inner / "data") == inner / "data", "also from within it"
    note.remove(inner / "data")
    assert note.nearest(inner) == tmp_path / "data"


def test_one_of_a_cluster_that_has_ended_counts_for_nothing(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    since = born(ended.pid)
    ended.wait()
    note.write(tmp_path, a_note(ended.pid, since))
    assert note.running(tmp_path) is None
    assert note.nearest(tmp_path) == tmp_path
    note.write(tmp_path, a_note(os.getpid(), "another boot's"))
    assert note.running(tmp_path) is None, "the pid has come again, for another process"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1}'])
def test_what_is_no_note_is_refused_by_who_must_know_and_ignored_by_clients(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / note.NAME).write_bytes(content)
    with pytest.raises(Fatal, match="cannot be read"):
        note.read(tmp_path)
    assert note.running(tmp_path) is None


def test_one_starts_at_a_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with note.starting(data), pytest.raises(Fatal, match="just now"), note.starting(data):
        pass
    with note.starting(data):
        pass


def test_another_format(tmp_path: Path) -> None:
    other = a_note(1, "x")
    other.format = 2
    note.write(tmp_path, other)
    with pytest.raises(Fatal, match="format 2"):
        note.read(tmp_path)
