"""`yak explain` and `yak top` on a real cluster whose leader was killed, read by half.

One cluster for all of them: they only look.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, run_command
from tests.support.logfiles import find, read_oplog
from tests.support.process import command, environment, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Broker 1 led, and was killed; of ten records four were acknowledged by group g."""
    with Cluster(tmp_path_factory.mktemp("explained")) as cluster:
        assert cluster.leader() == 1
        with cluster.connect_leader() as wire:
            wire.ok("create_topic", topic="orders", partitions=2)
            producer = wire.ok("register", role="producer", client="app", topics=["orders"])
            number = producer["producer"]
            wire.produce("orders", 1, ["a"] * 6, producer=number, sequence=0)
            wire.produce("orders", 1, ["b"] * 4, producer=number, sequence=6)
            member = wire.ok("register", role="consumer", client="c", group="g", topics=["orders"])
            identity = {"group": "g", "member": member["member"], "generation": 1}
            wire.ok("ack", **identity, offsets=[["orders", 1, 4]])
            wire.ok("deregister", group="g", member=member["member"])
        cluster.wait_level()
        cluster.kill(1)
        cluster.wait_leader(other_than=1)
        cluster.wait_isr([2, 3])
        yield cluster


def explained(cluster: Cluster, *argv: str, zk: bool = True) -> dict[str, Any]:
    assert cluster.zk_address is not None
    at = "{}:{}".format(*cluster.zk_address) if zk else "127.0.0.1:1"
    ended = cluster.run("yak", "explain", *argv, "--zk", at, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def kinds(answer: dict[str, Any]) -> list[str]:
    return [cause["kind"] for cause in answer["chain"]]


def index_of(cluster: Cluster, op: str, **fields: Any) -> int:
    """The index of the first such operation, by the log's own bytes."""
    index: int = find(read_oplog(cluster.data_dir(2)), op=op, **fields)[0]["index"]
    return index


def test_why_broker_2_leads(cluster: Cluster) -> None:
    def whole() -> dict[str, Any] | None:  # what broker 3 says of it comes a moment later
        answer = explained(cluster, "leader", ".")
        return answer if {"serving", "following"} <= set(kinds(answer)) else None

    answer = wait_until(whole, "brokers 2 and 3 have told of epoch 2")
    assert answer is not None
    assert answer["answer"].startswith("broker 2 leads epoch 2 since")
    told = kinds(answer)
    assert told.index("died") < told.index("elected") < told.index("lead") < told.index("serving")
    (lead,) = [cause for cause in answer["chain"] if cause["kind"] == "lead"]
    assert lead["index"] == index_of(cluster, "lead", broker=2)
    assert answer["unknown"] == []


def test_who_is_in_sync(cluster: Cluster) -> None:
    answer = explained(cluster, "isr", ".")
    assert "brokers 2 and 3 are in sync in epoch 2, of 1, 2 and 3" in answer["answer"]
    assert "broker 1 is not: it died at" in answer["answer"]


def test_where_a_record_is(cluster: Cluster) -> None:
    answer = explained(cluster, "offset", "orders/1@3", ".")
    index = index_of(cluster, "append", partition=1, offset=0)
    assert f"orders/1@3 is operation {index}, written by broker 1 in epoch 1" in answer["answer"]
    assert "and committed; group g has acknowledged it" in answer["answer"]
    whats = [cause["what"] for cause in answer["chain"]]
    assert "the files of brokers 1, 2 and 3 hold it" in whats
    assert "it counts as committed once brokers 1, 2 and 3, in sync then, have it" in whats
    (ack,) = [cause for cause in answer["chain"] if cause["kind"] == "ack"]
    assert ack["index"] == index_of(cluster, "ack", group="g")
    later = explained(cluster, "offset", "orders/1@4", ".")
    assert later["answer"].endswith("group g has not")


def test_the_same_from_a_running_cluster_alone(cluster: Cluster) -> None:
    files, asked = (explained(cluster, "offset", "orders/1@7", *d) for d in ((".",), ()))
    for answer in (files, asked):
        (append,) = [cause for cause in answer["chain"] if cause["kind"] == "append"]
        assert append["index"] == index_of(cluster, "append", partition=1, offset=6)
    assert any("no log is here" in text or "not here" in text for text in asked["unknown"])
    assert explained(cluster, "leader")["answer"].startswith("broker 2 leads epoch 2 since")
    assert explained(cluster, "leader", zk=False)["answer"] == "broker 2 leads epoch 2"
    assert "6 records yet to acknowledge" in explained(cluster, "group", "g")["answer"]
    assert "10 records" in explained(cluster, "topic", "orders")["answer"]


def test_a_topic_a_group_and_a_client(cluster: Cluster) -> None:
    topic = explained(cluster, "topic", "orders", ".")
    assert "2 partitions and 10 records" in topic["answer"]
    assert "10 records by app" in topic["answer"]
    group = explained(cluster, "group", "g", ".")
    assert "group g has 6 records yet to acknowledge, in 1 partition" in group["answer"]
    assert {"register", "assign", "ack", "deregister", "lag"} <= set(kinds(group))
    client = explained(cluster, "client", "app", ".")
    assert "client app wrote 10 records" in client["answer"]
    member = explained(cluster, "client", "c", ".")
    assert "acknowledged in group g" in member["answer"]


@pytest.mark.parametrize(
    "argv", ["offset orders/1@10", "offset orders/2@0", "group nobody", "topic none", "client none"]
)
def test_what_is_not_there(cluster: Cluster, argv: str) -> None:
    ended = cluster.run("yak", "explain", *argv.split(), ".")
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: ")
    assert len(ended.stderr.splitlines()) == 1


def test_for_people_and_with_nothing_to_tell_from(cluster: Cluster) -> None:
    ended = cluster.run("yak", "explain", "leader", "zookeeper")
    assert ended.returncode == 0
    assert b"broker 1's session ended: " in ended.stdout
    elsewhere = cluster.directory / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    ended = run_command("yak", "explain", "leader", "-b", "127.0.0.1:1", cwd=elsewhere)
    assert ended.returncode == 1
    assert b"there is nothing to tell from" in ended.stderr


# -- yak top, yak status --------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of 80 columns and 24 lines, and all that it has drawn."""

    def __init__(self, argv: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.popen = subprocess.Popen(
            [command(argv[0]), *argv[1:]],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm", COLUMNS="80", LINES="24"),
            start_new_session=True,
        )
        os.close(theirs)
        self.drawn = ""

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait(self, words: str) -> None:
        """Until it has drawn this, from now on."""
        since = len(self.drawn)
        wait_until(
            lambda: self._read() and words in self.drawn[since:],
            lambda: f"{words!r} is drawn; so far: {self.drawn[-3000:]}",
        )

    def _read(self) -> bool:
        while select.select([self._ours], [], [], 0)[0]:
            try:
                self.drawn += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:  # it has ended
                break
        return True

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        os.close(self._ours)


def test_top_on_a_terminal(cluster: Cluster) -> None:
    assert cluster.zk_address is not None
    zk = "{}:{}".format(*cluster.zk_address)
    terminal = Terminal(
        ["yak", "top", "--interval", "200ms", "-b", cluster.bootstrap([2, 3]), "--zk", zk]
    )
    try:
        terminal.wait("broker 1 is down")
        terminal.wait("what happened last, and why")
        assert "Traceback" not in terminal.drawn
        terminal.type(b"q")
        assert terminal.popen.wait(20) == 0
    finally:
        terminal.close()


def test_top_without_a_terminal(cluster: Cluster) -> None:
    ended = cluster.run("yak", "top")
    assert ended.returncode == 1
    assert b"yak status --watch" in ended.stderr


def test_status_has_it_all_once(cluster: Cluster) -> None:
    assert cluster.zk_address is not None
    zk = "{}:{}".format(*cluster.zk_address)
    plain = cluster.run("yak", "status", "--zk", zk).stdout.decode()
    assert "broker 1 is down; brokers 2 and 3 are in sync" in plain
    told = json.loads(cluster.run("yak", "status", "--zk", zk, "--json").stdout)
    assert told["health"]["level"] == "warn"
    ages = {one["id"]: one["heartbeat_age_ms"] for one in told["brokers"]}
    assert ages[1] is None
    assert ages[2] is not None
    assert all(one["status"]["memory"] > 0 for one in told["brokers"] if one["status"])
    assert told["coordinator"]["memory"] > 0
    assert "died" in [one["event"] for one in told["coordinator"]["events"]]
    (topic,) = [one for one in told["topics"] if one["topic"] == "orders"]
    assert [one["high_watermark"] for one in topic["partitions"]] == [0, 10]
    assert topic["groups"][0]["lag"] == 6
