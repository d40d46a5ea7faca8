"""Processes of somebody else: told apart, asked to end, killed where they do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from yak.local.pids import Pid, born, end, kill, stopped


def a_process(code: str) -> tuple[subprocess.Popen[str], Pid]:
    """Running, and past its first line."""
    argv = [sys.executable, "-c", f"import signal, time\n{code}\nprint(flush=True)\ntime.sleep(99)"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process, Pid(process.pid, born(process.pid))


def test_a_process_is_itself_and_no_other() -> None:
    me = born(os.getpid())
    assert me
    assert Pid(os.getpid(), me).alive
    assert not Pid(os.getpid(), me + "0").alive
    assert not Pid(os.getpid(), "").alive
    assert born(2**22 + 1) == ""


def test_one_that_ended_is_gone_though_nobody_has_looked() -> None:
    process, there = a_process("")
    assert there.alive
    process.kill()
    assert end([there], 5.0) == []
    assert not there.alive
    assert process.wait() == -signal.SIGKILL


def test_a_stopped_one_ends_in_order() -> None:
    process, there = a_process("")
    process.send_signal(signal.SIGSTOP)
    assert end([there], 10.0) == []
    assert process.wait() == -signal.SIGTERM


def test_who_does_not_end_is_killed_after_the_grace() -> None:
    deaf, there = a_process("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    begun = time.monotonic()
    assert end([there], 0.2) == [there]
    assert time.monotonic() - begun >= 0.2
    assert deaf.wait() == -signal.SIGKILL
    kill([there])  # gone already: nothing happens


def test_another_process_of_that_pid_is_left_alone() -> None:
    process, there = a_process("")
    assert end([Pid(there.pid, "another's")], 0.1) == []
    assert there.alive
    process.kill()
    process.wait()


def test_whether_it_is_stopped() -> None:
    process, there = a_process("")
    assert not stopped(there.pid)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, there.pid, os.WSTOPPED)
    assert stopped(there.pid)
    process.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, there.pid, os.WCONTINUED)
    assert not stopped(there.pid)
    kill([there])
    process.wait()
    assert not stopped(there.pid)
