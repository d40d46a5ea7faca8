"""`yak up` and `yak down` as a new user types them; and what they say where it cannot be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.support.cluster import run_command
from tests.support.process import Process, command, environment, wait_until
from tests.support.wire import Wire
from yak.local import note
from yak.local.pids import born


def yak(home: Path, *argv: str, code: int = 0, stdin: bytes = b"") -> str:
    """A command in this directory; all that it says."""
    ended = run_command("yak", *argv, cwd=home, stdin=stdin)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == code, said
    assert "Traceback" not in said
    return said


def running_under(home: Path) -> list[str]:
    """The command lines of the processes that have this directory among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in line:
            found.append(line)
    return found


def the_note(home: Path) -> dict[str, Any]:
    noted: dict[str, Any] = json.loads((home / "data" / "yak.json").read_bytes())
    return noted


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A user's directory; whatever was started in it ends."""
    yield tmp_path
    run_command("yak", "down", cwd=tmp_path)
    assert running_under(tmp_path) == []


def test_a_cluster_that_is_left_running(home: Path) -> None:
    """Found by every command; a broker that was killed comes back; then down, and up again."""
    said = yak(home, "up", "--detach", "--ports", "any")
    assert said.startswith("ready: 3 brokers are in sync, and a record has gone round (")
    below = home / "src" / "deep"
    below.mkdir(parents=True)
    sent = yak(below, "produce", "greetings", stdin=b"hello\n")
    assert "acknowledged 1" in sent
    assert "hello" in yak(home, "consume", "greetings", "--from-beginning", "-e")
    assert json.loads(yak(below, "status", "--json"))["isr"] == [1, 2, 3]
    assert "leads" in yak(below, "zk", "status")
    listed = json.loads(yak(home / "data", "topic", "list", "--json"))
    assert list(listed) == ["greetings"], "what `yak up` sent is gone"
    operations = [line.split()[3:5] for line in yak(home, "log", "data/broker-3").splitlines()]
    assert ["append", "__yak-up[0]@0"] in operations, "but it went round"

    noted = the_note(home)
    pids = {one["name"]: one["pid"] for one in noted["members"]}
    assert list(pids) == ["yak-zk", "broker-1", "broker-2", "broker-3"]
    already = yak(home, "up", code=1)
    assert all(f"{name} (pid {pid})" in already for name, pid in pids.items())
    assert "yak down" in already

    os.kill(pids["broker-2"], signal.SIGKILL)
    assert "started again: broker-2" in yak(home, "up")
    again = the_note(home)
    stayed = [a == b for a, b in zip(again["members"], noted["members"], strict=True)]
    assert stayed == [True, True, False, True]
    assert again["bootstrap"] == noted["bootstrap"]
    assert yak(home, "down") == "stopped: broker-1, broker-2, broker-3 and yak-zk\n"
    assert running_under(home) == []
    assert "no cluster to stop" in yak(home, "down", code=1)

    everywhere = ("--host", "0.0.0.0")
    begun = json.loads(yak(home, "up", "--detach", "--ports", "any", "--json", *everywhere))
    assert begun == the_note(home)
    port = int(begun["bootstrap"].split(",")[0].rpartition(":")[2])
    with Wire(("127.0.0.2", port)) as wire:  # another of this machine's addresses
        told = wire.ok("metadata", topics=[])["brokers"]
    assert [one["host"] for one in told] == ["127.0.0.2"] * 3
    assert "hello" in yak(home, "consume", "greetings", "--from-beginning", "-e")


def test_its_processes_tell_metrics(home: Path) -> None:
    """Where it says; the ports are kept by whoever is started again."""
    said = yak(home, "up", "--ports", "any", "--metrics-port", "0", "--detach")
    line = next(line for line in said.splitlines() if line.startswith("  metrics  "))
    pages = line.split()[1].split(",")
    assert len(pages) == 4
    yak(home, "chaos", "kill", "2", "--for", "1s")
    for page, process in zip(pages, ("yak-zk", "broker-1", "broker-2", "broker-3"), strict=True):
        with urllib.request.urlopen(f"http://{page}/metrics", timeout=30) as answer:
            assert f'process="{process}"' in answer.read().decode()
        with urllib.request.urlopen(f"http://{page}/readyz", timeout=30) as answer:
            assert json.load(answer)["ready"] is True
    port = pages[0].rpartition(":")[2]
    other = ("--data-dir", "other", "--ports", "any", "--metrics-port", port)
    assert f"port {port} is in use" in yak(home, "up", *other, code=1)


def test_in_front_it_shows_what_they_say_until_it_is_interrupted(home: Path) -> None:
    process = Process("up", ["yak", "up", "-n", "1", "--ports", "any"], home)
    wait_until(lambda: "SIGTERM to this process" in process.stdout(), "it is ready")
    said = process.stdout()
    assert "--min-insync-replicas 1" in said
    assert "yak-zk    elected epoch=1 leader=1" in said
    assert "broker-1  started" in said
    assert "\x1b" not in said
    pids = [one["pid"] for one in the_note(home)["members"]]
    os.kill(pids[1], signal.SIGKILL)
    wait_until(
        lambda: "broker-1 has ended: killed by SIGKILL" in process.stdout(), "it tells of a death"
    )
    yak(home, "up")
    process.popen.send_signal(signal.SIGINT)
    assert process.wait() == 0, process.report()
    assert process.stdout().endswith("\nstopped\n")
    assert process.stderr() == ""
    assert running_under(home) == []
    assert not (home / "data" / "yak.json").exists()


def test_on_a_terminal_it_has_colours_and_ends_when_the_terminal_does(home: Path) -> None:
    env = environment(TERM="xterm")
    del env["NO_COLOR"]
    ours, theirs = os.openpty()
    argv = [command("yak"), "up", "-n", "1", "--ports", "any"]
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, env=env
    ) as up:
        os.close(theirs)
        said = b""
        while b"Ctrl-C" not in said:
            said += os.read(ours, 65536)
        assert b"\x1b[33myak-zk  " in said
        up.send_signal(signal.SIGHUP)
        os.close(ours)
        assert up.wait(60) == 0
    assert running_under(home) == []


def test_interrupted_twice_it_kills_what_has_not_ended(home: Path) -> None:
    process = Process("up", ["yak", "up", "-n", "1", "--ports", "any", "-q"], home)
    wait_until(lambda: "SIGTERM to this process" in process.stdout(), "it is ready")
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    argv = [sys.executable, "-c", code, str(home)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        noted = note.read(home / "data")
        assert noted is not None
        member = structs.replace(noted.members[1], id=9, pid=deaf.pid, born=born(deaf.pid))
        noted.members.append(member)
        note.write(home / "data", noted)
        process.popen.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in process.stdout(), "it stops them")
        process.popen.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert deaf.wait() == -signal.SIGKILL
    assert running_under(home) == []
    assert not (home / "data" / "yak.json").exists()


def test_what_a_kill_of_it_left_is_found(home: Path) -> None:
    process = Process("up", ["yak", "up", "-n", "1", "--ports", "any", "-q"], home)
    wait_until(lambda: "SIGTERM to this process" in process.stdout(), "it is ready")
    process.kill()
    assert "yak-zk (pid " in yak(home, "up", code=1)
    assert yak(home, "down") == "stopped: broker-1 and yak-zk\n"


def test_a_port_in_use_is_whose(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = yak(home, "up", "-n", "1", "--ports", f"0,{port}", code=1)
    assert said.startswith(f"error: port {port} is in use by pid {os.getpid()} (")
    assert said.count("\n") == 1
    assert running_under(home) == []
    assert not (home / "data" / "yak.json").exists()


def test_two_that_start_at_once(home: Path) -> None:
    """One is told, and stops nothing of the other's."""
    argv = ("yak", "up", "-n", "1", "--ports", "any", "--detach")
    both = [Process(f"up-{n}", argv, home) for n in (1, 2)]
    codes = sorted(process.wait() for process in both)
    assert codes == [0, 1]
    said = both[0].stderr() + both[1].stderr()
    assert "another `yak up` starts a cluster in data just now" in said or "runs in data" in said
    assert len(note.read(home / "data").alive) == 2  # type: ignore[union-attr] # one wrote it


def test_a_broker_that_cannot_start_says_why_itself(home: Path) -> None:
    foreign = home / "data" / "broker-2"
    foreign.mkdir(parents=True)
    (foreign / "holiday.jpg").touch()
    begun = time.monotonic()
    said = yak(home, "up", "--ports", "any", code=1).splitlines()
    assert time.monotonic() - begun < 20
    assert said[-1].startswith("error: broker-2 could not start: data directory ")
    assert "'holiday.jpg'" in said[-1]
    assert running_under(home) == []
    assert not (home / "data" / "yak.json").exists()


def test_what_a_dead_cluster_left_is_replaced_and_fresh_asks(home: Path) -> None:
    """Without a start: a port that is taken ends each of these."""
    data = home / "data"
    for name in ("broker-1", "zookeeper", "mine", "broker-9"):
        (data / name).mkdir(parents=True)
    for name in ("broker-1", "zookeeper", "mine"):
        (data / name / "meta.json").write_text("{}")
    stale = {"name": "yak-zk", "pid": 1, "born": "x", "argv": []}
    stale |= {"id": 0, "address": "h:1", "data_dir": "d", "log": "l"}
    noted = {"format": 1, "bootstrap": "h:2", "zk": "h:1", "members": [stale]}
    (data / "yak.json").write_text(json.dumps(noted))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = ("--ports", f"0,{server.getsockname()[1]}")
        said = yak(home, "up", "--fresh", "--dry-run", "-n", "1", *ports)
        assert "was left by a cluster of which nothing runs any more" in said
        assert "would delete data/zookeeper and data/broker-1: 0.0 MB" in said
        assert "--yes" in yak(home, "up", "--fresh", "-n", "1", *ports, code=2)
        assert (data / "broker-1" / "meta.json").exists()
        assert "in use" in yak(home, "up", "--fresh", "--yes", "-n", "1", *ports, code=1)
    assert sorted(path.name for path in data.iterdir()) == [
        "broker-9", "logs", "mine", "yak.lock",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [
        ("--json",),
        ("--yes",),
        ("--dry-run",),
        ("-n", "0"),
        ("--ports", "x"),
        ("surplus",),
    ],
)
def test_what_makes_no_sense(home: Path, argv: tuple[str, ...]) -> None:
    assert "error: " in yak(home, "up", *argv, code=2)
    assert not (home / "data").exists()


def test_a_place_that_cannot_be(home: Path) -> None:
    """Not even by root."""
    said = yak(home, "up", "--ports", "any", "--data-dir", "/proc/yak-data", code=1)
    assert said.startswith("error: /proc/yak-data cannot be made: ")
    assert said.count("\n") == 1
