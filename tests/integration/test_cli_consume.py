"""yak-consume, as it is used."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.process import Process, command, environment, wait_until
from tests.support.wire import Wire, record


@pytest.fixture
def filled(shared: Cluster, leader: Wire, topic: str) -> str:
    """0 to 9 in one partition, on every replica."""
    for number in range(10):
        leader.produce(topic, 0, [str(number)])
    shared.wait_level()
    return topic


def shown(cluster: Cluster, *argv: str, code: int = 0) -> list[str]:
    """The lines that yak-consume prints before it ends by itself."""
    ended = cluster.run("yak-consume", *argv)
    assert ended.returncode == code, ended.stderr
    assert b"Traceback" not in ended.stderr
    return ended.stdout.decode().splitlines()


def wait_lines(process: Process, count: int) -> None:
    """Until it has printed so many."""
    wait_until(lambda: process.stdout().count("\n") >= count, f"{process.name} prints {count}")


def numbers(first: int, stop: int = 10) -> list[str]:
    return [str(number) for number in range(first, stop)]


@pytest.mark.parametrize("replica", ["any", "leader", "1", "2", "3"])
def test_every_replica_serves(shared: Cluster, filled: str, replica: str) -> None:
    argv = (filled, "--from-beginning", "-e", "--read-from", replica)
    assert shown(shared, *argv) == numbers(0)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("beginning", numbers(0)),
        ("0", numbers(0)),
        ("7", numbers(7)),
        ("-3", numbers(7)),
        ("-100", numbers(0)),
        ("end", []),
        ("10", []),
    ],
)
def test_where_to_start(shared: Cluster, filled: str, start: str, expected: list[str]) -> None:
    assert shown(shared, filled, "-o", start, "-e") == expected


def test_start_at_a_time(shared: Cluster, leader: Wire, topic: str) -> None:
    first = leader.produce(topic, 0, ["old"])["time"]
    wait_until(lambda: time.time() * 1000 > first + 5, "the clock goes on")
    second = leader.produce(topic, 0, ["new"])["time"]
    iso = datetime.fromtimestamp(second / 1000, UTC).isoformat(timespec="milliseconds")
    for at in (f"@{second}", f"@{iso}"):
        assert shown(shared, topic, "-o", at, "-e") == ["new"], at
    assert shown(shared, topic, "-o", f"@{first}", "-e") == ["old", "new"]
    assert shown(shared, topic, "-o", f"@{second + 60_000}", "-e") == []


def test_it_starts_at_the_end_and_says_what_it_left_out(shared: Cluster, filled: str) -> None:
    ended = shared.run("yak-consume", filled, "-e")
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert b"--from-beginning" in ended.stderr


def test_it_waits_for_what_comes(shared: Cluster, leader: Wire, filled: str) -> None:
    process = shared.spawn_client("yak-consume", filled, "-n", "2")
    wait_until(lambda: "--from-beginning" in process.stderr(), "it stands at the end")
    leader.produce(filled, 0, ["ten", "eleven", "twelve"])
    assert process.wait() == 0, process.stderr()
    assert process.stdout() == "ten\neleven\n"


def test_when_to_stop(shared: Cluster, filled: str) -> None:
    beginning = (filled, "--from-beginning")
    assert shown(shared, *beginning, "-n", "4") == numbers(0, 4)
    started = time.monotonic()
    assert shown(shared, *beginning, "--timeout", "700ms") == numbers(0)
    assert time.monotonic() - started > 0.6
    assert shown(shared, *beginning, "-e", "--expect", "10") == numbers(0)
    assert shown(shared, *beginning, "--timeout", "500ms", "--expect", "11", code=1) == numbers(0)
    assert shown(shared, *beginning, "-e", "--expect", "11", code=1) == numbers(0)


def test_chosen_partitions(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=3)
    for partition in range(3):
        leader.produce(name, partition, [f"p{partition}"])
    assert shown(shared, name, "--from-beginning", "-e", "-p", "1") == ["p1"]
    assert sorted(shown(shared, name, "--from-beginning", "-e")) == ["p0", "p1", "p2"]


def test_values_are_printed_as_they_are(shared: Cluster, leader: Wire, topic: str) -> None:
    """A string's text as it is, other JSON in its compact form."""
    body = (
        b'{"value":"two\\nlines"}\n{ "value" : {"a" : [1, 2]} }\n{"value":"gr\xc3\xbc\xc3\x9f"}\n'
    )
    leader.ok("produce", body + record(17), topic=topic, partition=0, count=4)
    expected = ["two", "lines", '{"a":[1,2]}', "grüß", "17"]
    assert shown(shared, topic, "--from-beginning", "-e") == expected


def test_json(shared: Cluster, leader: Wire, topic: str) -> None:
    line = record({"x": 1}, key="k", headers=[["h", None]], timestamp=1763800000000)
    leader.ok("produce", line + record("text"), topic=topic, partition=0, count=2)
    first, second = [
        json.loads(line) for line in shown(shared, topic, "--from-beginning", "-e", "-J")
    ]
    assert first["topic"] == topic
    assert (first["partition"], first["offset"]) == (0, 0)
    assert (first["key"], first["value"]) == ("k", {"x": 1})
    assert first["headers"] == [["h", None]]
    assert first["timestamp"] == 1763800000000
    assert (second["offset"], second["value"]) == (1, "text")


def test_formats(shared: Cluster, leader: Wire, topic: str) -> None:
    """kcat's tokens: topic, partition, offset, key, value, headers, timestamp, sizes."""
    line = record("väl", key="kéy", headers=[["a", "b"], ["c", "d"]], timestamp=17)
    leader.ok("produce", line, topic=topic, partition=0, count=1)
    form = r"%t|%p|%o|%k|%s|%h|%T|%S|%K|100%%\t.\n"
    assert shown(shared, topic, "--from-beginning", "-e", "-f", form) == [
        f"{topic}|0|0|kéy|väl|a=b,c=d|17|4|4|100%\t."
    ]


# -- Groups ---------------------------------------------------------------------------------------


def acked(wire: Wire, group: str) -> list[int | None]:
    return [entry["acked"] for entry in wire.ok("group", group=group)["partitions"]]


def test_a_group_acknowledges_what_was_printed_and_resumes(
    shared: Cluster, leader: Wire, filled: str
) -> None:
    member = (filled, "-g", filled, "-e")
    assert shown(shared, *member, "--from-beginning", "-n", "4") == numbers(0, 4)
    assert acked(leader, filled) == [4]
    assert shown(shared, *member) == numbers(4)
    assert shown(shared, *member, "--from-beginning") == [], "where it stands comes first"
    assert acked(leader, filled) == [10]
    assert leader.ok("group", group=filled)["members"] == []


def test_a_groups_member_that_is_killed_acknowledged_no_more_than_it_printed(
    shared: Cluster, leader: Wire, topic: str
) -> None:
    for first in range(0, 20_000, 1000):
        leader.produce(topic, 0, range(first, first + 1000))
    process = shared.spawn_client("yak-consume", topic, "-g", topic, "--from-beginning")
    wait_lines(process, 100)
    process.kill()
    printed = process.stdout().count("\n")
    (stands,) = acked(leader, topic)
    assert (stands or 0) <= printed
    assert process.stdout().split("\n")[: printed - 1] == numbers(0, printed - 1)


def test_ctrl_c_acknowledges_leaves_and_exits_0(shared: Cluster, leader: Wire, filled: str) -> None:
    process = shared.spawn_client("yak-consume", filled, "-g", filled, "--from-beginning")
    wait_lines(process, 10)
    process.signal(signal.SIGINT)
    assert process.wait() == 0, process.stderr()
    assert "Traceback" not in process.stderr()
    assert acked(leader, filled) == [10]
    assert leader.ok("group", group=filled)["members"] == []


def test_on_a_terminal_the_prompt_is_not_behind_ctrl_c(shared: Cluster, filled: str) -> None:
    outer, inner = pty.openpty()
    argv = [command("yak-consume"), filled, "-b", shared.bootstrap(), "-o", "9"]
    process = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env=environment())
    os.close(inner)
    try:
        assert os.read(outer, 100) == b"9\r\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert os.read(outer, 100) == b"\r\n"
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def leave_after(lines: int, *argv: str) -> int:
    """Read so many lines of yak-consume's, 0, 1, …, and leave: its exit code.  It says nothing."""
    with subprocess.Popen(
        [command("yak-consume"), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for n in range(lines):
                assert process.stdout.readline() == b"%d\n" % n
            assert process.poll() is None, "it has more, or waits for it"
            process.stdout.close()
            code = process.wait(20)
        finally:
            process.kill()
        assert process.stderr.read() == b""
    return code


def test_a_broken_pipe_is_quiet(shared: Cluster, leader: Wire, topic: str) -> None:
    """yak-consume TOPIC | head -1."""
    for first in range(0, 50_000, 5000):
        leader.produce(topic, 0, range(first, first + 5000))
    assert leave_after(1, topic, "-b", shared.bootstrap(), "--from-beginning") == 0


def test_a_reader_who_leaves_is_noticed_while_nothing_comes(shared: Cluster, filled: str) -> None:
    """yak-consume TOPIC | head -1, of a topic that fits into the pipe."""
    assert leave_after(10, filled, "-b", shared.bootstrap(), "-o", "0") == 0


def test_without_stdout_it_is_as_if_nobody_read_it(shared: Cluster, filled: str) -> None:
    """yak-consume TOPIC >&-, as some supervisors start what they start."""
    line = f"{command('yak-consume')} {filled} -b {shared.bootstrap()} -o beginning -n 10 >&-"
    ended = subprocess.run(
        ["sh", "-c", line], env=environment(), capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


# -- Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hung"])
def test_it_reads_on_when_the_broker_that_it_reads_from_dies(
    make_cluster: MakeCluster, hangs: bool
) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.produce("t", 0, range(10))
    processes = {
        replica: cluster.spawn_client(
            *("yak-consume", "t", "--from-beginning", "-n", "20", "--read-from", replica)
        )
        for replica in ("any", "leader", "1", "2")
    }
    for process in processes.values():
        wait_lines(process, 10)
    cluster.pause(1) if hangs else cluster.kill(1)
    cluster.wait_leader(other_than=1)
    with cluster.connect_leader() as wire:
        wire.produce("t", 0, range(10, 20))
    for replica in ("any", "leader", "2", "1"):
        if replica == "1":
            cluster.resume(1) if hangs else cluster.start(1)
        assert processes[replica].wait() == 0, processes[replica].stderr()
        assert processes[replica].stdout().splitlines() == numbers(0, 20), replica


def test_nobody_answers() -> None:
    ended = run_command("yak-consume", "t", "-b", "127.0.0.1:1", "--timeout", "1s", "--expect", "1")
    assert ended.returncode == 1
    assert b"127.0.0.1:1" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("t", "--no-such-option"),
        ("t", "-b", "nonsense"),
        ("t", "-n", "few"),
        ("t", "-n", "-1"),
        ("t", "-p", "one"),
        ("t", "-o", "somewhere"),
        ("t", "-o", "@yesterdayish"),
        ("t", "--timeout", "soon"),
        ("t", "--read-from", "nobody"),
    ],
)
def test_usage(argv: tuple[str, ...]) -> None:
    ended = run_command("yak-consume", *argv)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == b""
    assert b"Traceback" not in ended.stderr


def test_who_waits_for_a_cluster_says_so_and_leaves_at_once(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # at which nobody listens
        reserved.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{reserved.getsockname()[1]}"
        process = Process("consume", ("yak-consume", "t", "-e", "-b", where), tmp_path)
        try:
            said = f"waiting for the cluster at {where}: cannot connect to {where}"
            wait_until(lambda: process.stderr().startswith(said), process.report)
            process.signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait() == 0
            assert time.monotonic() - began < 2.5, "it was asked for 5 s"
            assert process.stdout() == ""
        finally:
            process.close()
