"""Room for records, and files that may be open."""

from __future__ import annotations

import os
from pathlib import Path

from yak.commands import machine
from yak.local.note import Member

GIB = 2**30


def test_room(tmp_path: Path) -> None:
    assert machine.room_step(tmp_path, 2 * GIB, 100 * GIB).is_ok
    low = machine.room_step(tmp_path, GIB - 1, 100 * GIB)
    assert (low.state, "yak topic trim" in low.fix) == ("failed", True)
    assert machine.room_step(tmp_path, GIB // 2, 2 * GIB).is_ok, "a small disk, a quarter free"
    assert machine.disk_step(tmp_path / "none").state == "skipped"


def test_files_that_a_process_of_this_shell_may_open() -> None:
    assert machine.files_step(1024).is_ok
    assert machine.files_step(-1).is_ok, "no limit"
    assert "ulimit -n" in machine.files_step(256).fix


def test_files_that_a_broker_holds() -> None:
    assert machine.process_step("broker-1", 900, 1024).is_ok
    full = machine.process_step("broker-1", 1000, 1024)
    assert (full.state, full.where) == ("failed", "broker-1")


def test_each_process_that_runs_here_is_looked_at(tmp_path: Path) -> None:
    """This very process stands for one; the other has ended."""

    def member(name: str, pid: int) -> Member:
        return Member(id=1, name=name, pid=pid, born="", address="", data_dir="", log="", argv=[])

    alive, ended = member("broker-1", os.getpid()), member("broker-2", 2**22 + 1)
    steps = machine.look(tmp_path, [alive, ended])
    shown = [(step.step, step.where) for step in steps]
    on_linux = Path("/proc/self/limits").exists()
    assert shown == [("disk", str(tmp_path)), ("files", "broker-1" if on_linux else "")]
    assert [step.step for step in machine.look(tmp_path, [])] == ["disk", "files"]
