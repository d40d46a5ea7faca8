"""`yak topic|group|status|log`, and the same commands under both of their names."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.integration.conftest import CALM
from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.logfiles import read_oplog
from tests.support.process import command, environment, wait_until
from tests.support.wire import Wire
from yak.net.reports import PROBE_S


def yak(cluster: Cluster, *argv: str, code: int = 0) -> str:
    """What a command prints."""
    ended = cluster.run("yak", *argv)
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    assert b"Traceback" not in ended.stderr
    return (ended.stdout if code == 0 else ended.stderr).decode()


def test_topics_are_created_listed_and_described(shared: Cluster, leader: Wire, name: str) -> None:
    yak(shared, "topic", "create", name, "--partitions", "4", "--config", "retention_ms=1000")
    entry = leader.ok("metadata", topics=[name])["topics"][name]
    assert (entry["partitions"], entry["config"]) == (4, {"retention_ms": 1000})
    assert name in yak(shared, "topic", "list")
    assert name in json.dumps(json.loads(yak(shared, "topic", "list", "--json")))
    leader.produce(name, 3, ["a", "b"])
    described = yak(shared, "topic", "describe", name)
    assert name in described
    assert "retention_ms" in described
    assert entry["topic_id"] in json.dumps(
        json.loads(yak(shared, "topic", "describe", name, "--json"))
    )


def test_what_cannot_be_created_is_explained(shared: Cluster, name: str) -> None:
    yak(shared, "topic", "create", name)
    assert name in yak(shared, "topic", "create", name, code=1)
    assert "colour" in yak(shared, "topic", "create", name + "x", "--config", "colour=red", code=1)
    assert name + "y" in yak(shared, "topic", "describe", name + "y", code=1)


def test_status_shows_every_broker(shared: Cluster) -> None:
    plain = yak(shared, "status")
    assert "leader" in plain
    assert plain.count("follower") >= 2
    for _, port in shared.addresses.values():
        assert str(port) in plain
    whole = json.dumps(json.loads(yak(shared, "status", "--json")))
    assert "committed" in whole


def test_status_when_some_are_down(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(zk_options=CALM)
    leader = cluster.wait_leader()
    cluster.pause(leader)
    began = time.monotonic()
    assert f"broker {leader} leads epoch 1 and does not answer" in yak(cluster, "status")
    assert time.monotonic() - began < 2 * PROBE_S, "those that answer wait for it once"
    cluster.resume(leader)
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    plain = yak(cluster, "status")
    assert str(cluster.addresses[1][1]) in plain
    assert "leader" in plain
    json.loads(yak(cluster, "status", "--json"))
    cluster.kill(2, 3)
    assert yak(cluster, "status", code=1)


def test_the_log_one_line_an_operation(shared: Cluster, leader: Wire, topic: str) -> None:
    leader.produce(topic, 0, ["a", "b"])
    shared.wait_level()
    expected = read_oplog(shared.data_dir(1))
    for directory in (shared.data_dir(1), shared.data_dir(1) / "oplog"):
        ended = run_command("yak", "log", str(directory), "--json")
        assert ended.returncode == 0, ended.stderr
        lines = ended.stdout.splitlines(keepends=True)
        assert lines[: len(expected)] == [operation.line for operation in expected]
    plain = run_command("yak", "log", str(shared.data_dir(1)))
    assert plain.returncode == 0
    shown = plain.stdout.decode().splitlines()
    assert len(shown) >= len(expected)
    assert any("append" in line and topic in line for line in shown)


@pytest.mark.parametrize("argv", [("/no/such/dir",), ("/",)])
def test_no_log_there(argv: tuple[str, ...]) -> None:
    ended = run_command("yak", "log", *argv)
    assert ended.returncode in (1, 2)
    assert b"Traceback" not in ended.stderr
    assert ended.stderr.strip()


def test_groups_are_listed(shared: Cluster, leader: Wire, topic: str) -> None:
    leader.produce(topic, 0, ["a"])
    leader.ok("ack", group=topic, offsets=[[topic, 0, 1]])
    assert topic in yak(shared, "group", "list").split()
    assert topic in json.loads(yak(shared, "group", "list", "--json"))
    assert "0" in yak(shared, "group", "describe", topic)


@pytest.mark.parametrize("name", ["zk", "broker", "produce", "consume"])
def test_the_same_command_under_two_names(name: str) -> None:
    one = run_command("yak", name, "--help")
    other = run_command(f"yak-{name}", "--help")
    assert one.returncode == other.returncode == 0
    assert _options(one) == _options(other)
    assert b"xample" in one.stdout


def _options(ended: subprocess.CompletedProcess[bytes]) -> list[str]:
    words = ended.stdout.decode().split()
    return [word for word in words if word.startswith("--")]


def test_an_error_is_one_line_in_a_pipe_and_folded_between_words_on_a_terminal() -> None:
    argv = [command("yak"), "topic", "list", "-b", "nowhere"]
    ended = subprocess.run(argv, capture_output=True, timeout=20, env=environment(), check=False)
    [whole] = ended.stderr.decode().splitlines()
    assert len(whole) > 40
    outer, inner = pty.openpty()
    narrow = environment(COLUMNS="40")
    ended = subprocess.run(argv, stderr=inner, timeout=20, env=narrow, check=False)
    lines = os.read(outer, 1 << 16).decode().splitlines()
    os.close(inner)
    os.close(outer)
    assert ended.returncode == 2
    assert max(map(len, lines)) <= 40
    assert " ".join(lines) == whole


def test_as_a_module() -> None:
    argv = [sys.executable, "-m", "yak", "--version"]
    ended = subprocess.run(argv, capture_output=True, timeout=20, env=environment(), check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def test_the_environment_names_the_brokers(shared: Cluster, leader: Wire, topic: str) -> None:
    leader.produce(topic, 0, ["from the environment"])
    env: dict[str, Any] = environment(YAK_BOOTSTRAP=shared.bootstrap())
    argv = [command("yak-consume"), topic, "--from-beginning", "-e"]
    ended = subprocess.run(argv, capture_output=True, timeout=20, env=env, check=False)
    assert ended.stdout == b"from the environment\n", ended.stderr


def test_one_broker_of_the_bootstrap_is_enough(shared: Cluster, leader: Wire, topic: str) -> None:
    leader.produce(topic, 0, ["found"])
    shared.wait_level()
    for broker in shared.ids:
        bootstrap = f"127.0.0.1:1,{shared.bootstrap([broker])}"
        sent = run_command("yak-produce", topic, "-b", bootstrap, stdin=b"sent\n")
        assert sent.returncode == 0, sent.stderr
        argv = ("yak-consume", topic, "--from-beginning", "-n", "1", "-b", bootstrap)
        assert run_command(*argv).stdout == b"found\n"
    assert leader.high_watermark(topic, 0) == 4


def test_a_real_publish_while_the_leader_dies(make_cluster: MakeCluster) -> None:
    """The walk of the demo: every line once, in order per partition, from another broker."""
    cluster = make_cluster()
    lines = [f"line {number} {'x' * 60}" for number in range(60_000)]
    path = cluster.directory / "lines.txt"
    path.write_text("\n".join(lines) + "\n")
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="book", partitions=3)
        process = cluster.spawn_client(
            "yak-produce", "book", "-l", str(path), "--batch-bytes", "20000"
        )
        wait_until(lambda: sum(wire.high_watermark("book", p) for p in range(3)) > 2000, "it runs")
    cluster.kill(1)
    assert process.wait(60) == 0, process.stderr()
    assert f"acknowledged {len(lines)}" in process.stderr()
    ended = cluster.run("yak-consume", "book", "--from-beginning", "-e", "-J", "--read-from", "3")
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in ended.stdout.splitlines()]
    assert sorted(record["value"] for record in records) == sorted(lines)
    for partition in range(3):
        numbers = [int(r["value"].split()[1]) for r in records if r["partition"] == partition]
        assert numbers == sorted(numbers)
