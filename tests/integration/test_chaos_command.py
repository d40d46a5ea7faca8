"""`yak chaos` as a user types it, beside a producer and a consumer that go on; and its undoing."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.cluster import run_command
from tests.support.process import Process, command, environment, wait_until
from yak.local import faults, note, pids
from yak.local.note import Member


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's directory, in which a cluster with doors runs."""
    path = tmp_path_factory.mktemp("chaos")
    yak(path, "up", "--detach", "--chaos", "--ports", "any", "--fsync", "never")
    try:
        yield path
    finally:
        run_command("yak", "down", cwd=path)


def yak(home: Path, *argv: str, code: int = 0) -> str:
    """A command in this directory; all that it says."""
    ended = run_command("yak", *argv, cwd=home)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == code, said
    assert "Traceback" not in said
    return said


def chaos(home: Path, *argv: str) -> list[dict[str, Any]]:
    """One fault, and the lines that it is told in."""
    said = yak(home, "chaos", *argv, "--json")
    return [json.loads(line) for line in said.splitlines()]


class Begin(Protocol):
    """The fixture that begins a fault, and returns once it is in force."""

    def __call__(self, home: Path, *argv: str) -> Process: ...


@pytest.fixture
def begin() -> Iterator[Begin]:
    with ExitStack() as stack:

        def begun(home: Path, *argv: str) -> Process:
            process = Process("-".join(("chaos", *argv[:2])), ["yak", "chaos", *argv], home)
            stack.callback(process.close)
            wait_until(lambda: _in_force(home, process), f"{argv} is done")
            return process

        yield begun


def _in_force(home: Path, process: Process) -> bool:
    assert process.running, process.report()
    noted = [one for one in faults.in_force(home / "data") if one.by == process.pid]
    told = [one for one in faults.recent(home / "data") if one.event == "fault"]
    return any(one.time >= noted[0].since for one in told) if noted else False


def member(home: Path, number: int) -> Member:
    found = note.read(home / "data")
    assert found is not None
    return next(one for one in found.members if one.id == number)


def file_limit(home: Path, number: int) -> int:
    return resource.prlimit(member(home, number).pid, resource.RLIMIT_FSIZE)[0]


def leader(home: Path) -> int:
    return int(json.loads(yak(home, "status", "--json"))["leader"])


def by_event(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert all(list(line) == list(lines[0]) for line in lines), "the keys are the same"
    return {line["event"]: line for line in lines}


def test_producers_and_consumers_go_on_and_nothing_is_lost(home: Path, begin: Begin) -> None:
    """A killed leader, a stopped one, and one without room, under a stream of records."""
    writes = [command("yak"), "produce", "stream"]
    reader = Process("reader", ["yak", "consume", "stream", "-g", "g", "--from-beginning"], home)
    with subprocess.Popen(
        writes, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=home,
        env=environment(),
    ) as writer:  # fmt: skip
        assert writer.stdin is not None
        sent = 0

        def feed() -> None:
            nonlocal sent
            assert writer.stdin is not None
            writer.stdin.write(b"".join(b"r%d\n" % n for n in range(sent, sent + 20)))
            writer.stdin.flush()
            sent += 20

        feed()
        before = leader(home)
        killed = during(begin, feed, home, "kill-leader", "--for", "600ms")
        told = by_event(killed)
        assert told["fault"]["members"] == [before]
        assert told["fault"]["what"].startswith(f"broker {before}, which leads epoch ")
        assert told["leader"]["leader"] != before
        assert told["undone"]["what"] == f"broker {before} was started again"
        assert told["in_sync"]["isr"] == [1, 2, 3]

        stopped = by_event(during(begin, feed, home, "pause", "leader", "--for", "4s"))
        assert stopped["leader"]["leader"] != stopped["fault"]["leader"]
        assert stopped["leader"]["after_ms"] > 1000, "the heartbeats are missed first"

        full = by_event(during(begin, feed, home, "fill", "leader", "--for", "2500ms"))
        assert full["leader"]["leader"] != full["fault"]["leader"]
        assert "File too large" in yak(home, "status"), "and it says what was wrong with its disk"

        writer.stdin.close()
        assert writer.wait(60) == 0
        assert writer.stderr is not None
        said = writer.stderr.read().decode()
    assert f"acknowledged {sent}" in said
    assert "lost 0" in said
    wait_until(
        lambda: set(reader.stdout().split()) == {f"r{n}" for n in range(sent)},
        "each record was delivered",
    )
    reader.terminate()
    was_told(home)


def was_told(home: Path) -> None:
    """What was done stands in the chains of causes."""
    words = yak(home, "explain", "leader")
    assert "chaos     the disk of broker " in words
    assert "by `yak chaos fill`, for 2.5 s" in words
    assert "was killed by `yak chaos kill-leader`, for 0.6 s" in yak(home, "explain", "isr")


def during(begin: Begin, feed: Callable[[], None], home: Path, *argv: str) -> list[dict[str, Any]]:
    """A fault, with records before it ends and after."""
    process = begin(home, *argv, "--json")
    feed()
    assert process.wait() == 0, process.report()
    feed()
    return [json.loads(line) for line in process.stdout().splitlines()]


def test_cut_and_slow(home: Path, begin: Begin) -> None:
    first = leader(home)
    follower = next(one for one in (1, 2, 3) if one != first)
    cut = by_event(chaos(home, "cut", "leader", str(follower), "--for", "3s"))
    assert cut["isr"]["isr"] == sorted({1, 2, 3} - {follower})
    assert cut["isr"]["leader"] == first, "who is cut off from one follower leads on"
    apart = by_event(chaos(home, "cut", "leader", "zk", "--for", "4s"))
    assert apart["leader"]["leader"] != first
    late = begin(home, "slow", "leader", "--by", "150ms", "--for", "30s")
    status = json.loads(yak(home, "status", "--json"))
    assert [(one["kind"], one["late_ms"]) for one in status["faults"]] == [("slow", 150)]
    sent = run_command("yak", "produce", "late", "-v", stdin=b"one\n", cwd=home).stderr.decode()
    took = re.search(r"([0-9.]+) ms", sent)
    assert took is not None, sent
    assert float(took[1]) > 300, "to the follower and back"
    assert late.terminate() == 0
    assert "all comes through between broker" in late.stdout()


def test_a_relay_that_ended_is_started_again(home: Path) -> None:
    found = note.read(home / "data")
    assert found is not None
    assert found.relay is not None
    os.kill(found.relay.pid, signal.SIGKILL)
    wait_until(lambda: found.relay and not found.relay.process.alive, "it is gone")
    assert "the relay, which keeps the doors, has ended" in yak(home, "chaos", "cut", "1", code=1)
    assert "started again: relay" in yak(home, "up")
    assert by_event(chaos(home, "cut", "1", "2", "--for", "50ms"))["in_sync"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_undoes_what_it_did(home: Path, begin: Begin, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here, as under nohup, and children inherit that")
    process = begin(home, "pause", "3", "--for", "60s")
    wait_until(lambda: pids.stopped(member(home, 3).pid), "it has stopped")
    again = yak(home, "chaos", "pause", "3", code=1)
    assert f"broker 3 is hurt so already, by `yak chaos pause` (pid {process.pid})" in again
    process.popen.send_signal(number)
    assert process.wait() == 0, process.report()
    assert process.stdout().endswith("broker 3 goes on\n")
    assert not pids.stopped(member(home, 3).pid)
    assert faults.now(home / "data") == []


def test_what_a_killed_one_has_left_is_undone_by_the_next(home: Path, begin: Begin) -> None:
    """Also where it fell between its note and the deed, or the deed and its undoing."""
    killer = begin(home, "kill", "1", "--for", "60s")
    stopper = begin(home, "pause", "2", "--for", "60s")
    filler = begin(home, "fill", "3", "--for", "60s")
    assert file_limit(home, 3) == 0
    for process in (killer, stopper, filler):
        process.kill()
    assert not member(home, 1).process.alive
    said = yak(home, "chaos", "undo")
    assert said.splitlines() == [
        "`yak chaos kill`: broker 1 was started again",
        "`yak chaos pause`: broker 2 goes on",
        "`yak chaos fill`: broker 3 has room on its disk again",
    ]
    assert member(home, 1).process.alive
    assert not pids.stopped(member(home, 2).pid)
    assert file_limit(home, 3) != 0
    assert yak(home, "chaos", "undo") == "nothing to undo: no fault is in force\n"
    left = begin(home, "pause", "2", "--for", "60s")
    left.kill()
    said = yak(home, "chaos", "kill", "zk", "--for", "100ms")
    assert said.startswith("left by a killed `yak chaos pause`: broker 2 goes on\n")


def test_again_and_again_by_chance(home: Path) -> None:
    argv = ["yak", "chaos", "any", "--for", "200ms", "--every", "300ms", "--json"]
    process = Process("any", argv, home)
    wait_until(lambda: process.stdout().count('"in_sync"') >= 2, process.report)
    assert process.terminate() == 0, process.report()
    lines = [json.loads(line) for line in process.stdout().splitlines()]
    done = [(one["kind"], one["members"]) for one in lines if one["event"] == "fault"]
    seed = faults.recent(home / "data")[-1].fields["command"].removeprefix("yak chaos any ")
    assert seed.startswith("--seed ")
    assert len(done) >= 2
    assert faults.now(home / "data") == []


def test_what_cannot_be_done(home: Path, tmp_path: Path) -> None:
    assert "there is no broker 7" in yak(home, "chaos", "kill", "7", code=1)
    assert "it has 1, 2, 3" in yak(home, "chaos", "cut", "1", "7", code=1)
    assert "cut off from itself" in yak(home, "chaos", "cut", "2", "2", code=1)
    os.kill(member(home, 2).pid, signal.SIGSTOP)
    try:
        said = yak(home, "chaos", "pause", "2", code=1)
    finally:
        os.kill(member(home, 2).pid, signal.SIGCONT)
    assert "is stopped already, and not by `yak chaos`" in said
    assert "no cluster of `yak up` runs in" in yak(tmp_path, "chaos", "kill", "1", code=1)
    assert "no cluster of `yak up` runs in" in yak(tmp_path, "chaos", "undo", code=1)


def test_one_broker_in_front_and_down_ends_it(tmp_path: Path, begin: Begin) -> None:
    """It is started again by `yak chaos`, with the settings that `yak up` was given."""
    env = environment(YAK_BROKER_MAX_CONNECTIONS="77")
    up = Process("up", ["yak", "up", "-n", "1", "--ports", "any"], tmp_path, env=env)
    try:
        wait_until(lambda: "SIGTERM to this process" in up.stdout(), up.report)
        alone = yak(tmp_path, "chaos", "kill-leader", code=1)
        assert "`yak chaos kill 1` kills it all the same" in alone
        doors = yak(tmp_path, "chaos", "cut", "1", "zk", code=1)
        assert "start it with `yak down`, then `yak up --chaos`" in doors
        told = yak(tmp_path, "chaos", "kill", "1", "--for", "100ms")
        assert "nobody else is in sync, so that writes and reads wait until it is back" in told
        environ = Path(f"/proc/{member(tmp_path, 1).pid}/environ").read_bytes().split(b"\0")
        assert b"YAK_BROKER_MAX_CONNECTIONS=77" in environ
        wait_until(lambda: "by `yak chaos kill`, which starts it again" in up.stdout(), up.report)
        assert "chaos     fault kind=kill members=[1]" in up.stdout()
        lasting = begin(tmp_path, "pause", "1", "--for", "60s")
        said = yak(tmp_path, "down")
        assert said.startswith("`yak chaos pause` was ended: broker 1 goes on\nstopped: broker-1")
        assert lasting.wait() == 0, lasting.report()
        assert up.wait() == 0, up.report()
    finally:
        run_command("yak", "down", cwd=tmp_path)
        up.close()
