"""`yak topic` and `yak group` where they change something: what they ask, say, and do."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

import pytest

from tests.support.cluster import Cluster, run_command
from tests.support.process import command, environment, wait_until
from tests.support.wire import Fields, Wire


def yak(cluster: Cluster, *argv: str, code: int = 0) -> str:
    """What a command prints: on stdout where it succeeds, else on stderr."""
    ended = cluster.run("yak", *argv)
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    assert b"Traceback" not in ended.stderr
    return (ended.stdout if code == 0 else ended.stderr).decode()


def shown(cluster: Cluster, *argv: str) -> Any:
    return json.loads(yak(cluster, *argv, "--json"))


def answered(cluster: Cluster, keys: bytes, *argv: str) -> tuple[int, str]:
    """The exit code and the screen of a command on a terminal where somebody types `keys`."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [command("yak"), *argv, "-b", cluster.bootstrap()],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
    ) as process:
        os.close(slave)
        os.write(master, keys)
        screen = b""
        try:
            while data := os.read(master, 4096):
                screen += data
        except OSError:  # the other side has closed the terminal
            pass
        finally:
            os.close(master)
        return process.wait(20), screen.decode()


def entry_of(leader: Wire, topic: str) -> Fields:
    entry: Fields = leader.ok("metadata", topics=[topic])["topics"][topic]
    return entry


def filled(leader: Wire, name: str, *counts: int) -> None:
    """A topic whose partitions hold so many records."""
    leader.ok("create_topic", topic=name, partitions=len(counts))
    for partition, count in enumerate(counts):
        leader.produce(name, partition, range(count))


def test_a_topic_is_altered_and_back(shared: Cluster, leader: Wire, name: str) -> None:
    yak(shared, "topic", "create", name, "--partitions", "2", "--config", "retention_ms=5")
    said = yak(shared, "topic", "alter", name, "--partitions", "3", "--dry-run")
    assert said == f"would alter topic {name}: add 1 partition, from 2 to 3\n"
    assert entry_of(leader, name)["partitions"] == 2
    alter = ("--partitions", "3", "--config", "segment_bytes=2048", "--unset", "retention_ms")
    made = shown(shared, "topic", "alter", name, *alter)
    assert made == {**entry_of(leader, name), "topic": name}
    assert (made["partitions"], made["config"]) == (3, {"segment_bytes": 2048})
    for wrong in (("--config", "colour=1"), ("--unset", "colour"), ("--partitions", "3")):
        assert "error: " in yak(shared, "topic", "alter", name, *wrong, code=1)
    yak(shared, "topic", "alter", name, code=2)
    yak(shared, "topic", "alter", name + "x", "--partitions", "9", code=1)
    assert entry_of(leader, name)["config"] == {"segment_bytes": 2048}


def test_a_topic_is_deleted_once_it_is_confirmed(shared: Cluster, leader: Wire, name: str) -> None:
    filled(leader, name, 3, 2)
    leader.ok("ack", group=name, offsets=[[name, 0, 1]])
    refusal = yak(shared, "topic", "delete", name, code=2)
    assert "add --yes" in refusal
    assert f"2 partitions with 5 records, and what group {name} acknowledged" in refusal
    facts = shown(shared, "topic", "delete", name, "--yes", "--dry-run")
    assert facts["dry_run"] is True
    assert (facts["records"], facts["groups"]) == (5, [name])
    assert entry_of(leader, name)["partitions"] == 2
    code, screen = answered(shared, b"n\n", "topic", "delete", name)
    assert (code, "nothing was done" in screen) == (1, True)
    assert entry_of(leader, name)["partitions"] == 2
    code, screen = answered(shared, b"y\n", "topic", "delete", name)
    assert (code, f"topic {name} is deleted" in screen) == (0, True)
    assert entry_of(leader, name)["error"] == "UNKNOWN_TOPIC"
    assert "no topic" in yak(shared, "topic", "delete", name, "--yes", code=1)


def test_a_topic_is_trimmed(shared: Cluster, leader: Wire, name: str) -> None:
    filled(leader, name, 10, 4)
    assert "[1] ends at 4" in yak(shared, "topic", "trim", name, "--before", "5", "--yes", code=1)
    assert leader.fetch(name, 0, 0)[0]["start"] == 0
    said = yak(shared, "topic", "trim", name, "--partition", "0", "--before", "5", "--dry-run")
    assert said == f"would forget 5 records: {name}[0] below 5\n"
    yak(shared, "topic", "trim", name, "--partition", "0", "--before", "5", "--yes")
    facts = shown(shared, "topic", "trim", name, "--all", "--yes")
    assert [(row["was"], row["start"]) for row in facts["partitions"]] == [(5, 10), (0, 4)]
    described = shown(shared, "topic", "describe", name)["partitions"]
    assert [(row["start"], row["high_watermark"]) for row in described] == [(10, 10), (4, 4)]


def test_a_topic_is_trimmed_by_time(shared: Cluster, leader: Wire, name: str) -> None:
    filled(leader, name, 3)
    first = leader.produce(name, 0, ["later"])["time"]
    # What was logged in the very same millisecond stays as well.
    (at,) = leader.ok("list_offsets", partitions=[[name, 0]], at=first)["offsets"]
    facts = shown(shared, "topic", "trim", name, "--before", f"@{first}", "--yes")
    assert facts["partitions"][0]["start"] == at[2]
    facts = shown(shared, "topic", "trim", name, "--before", f"@{first + 86_400_000}", "--yes")
    assert facts["partitions"][0]["start"] == 4


def test_a_group_is_moved_while_nobody_is_in_it(shared: Cluster, leader: Wire, name: str) -> None:
    filled(leader, name, 10, 4)
    leader.ok("ack", group=name, offsets=[[name, 0, 7], [name, 1, 4]])

    def stands() -> list[int]:
        rows = leader.ok("group", group=name)["partitions"]
        return [row["acked"] for row in rows]

    said = yak(shared, "group", "seek", name, "--to", "beginning", "--dry-run")
    assert "back by 11 records" in said
    assert stands() == [7, 4]
    for to, expected in (
        ("beginning", [0, 0]),
        ("end", [10, 4]),
        ("-3", [7, 1]),
        ("2", [2, 2]),
        ("@2099-01-01T00:00:00Z", [10, 4]),
        ("@0", [0, 0]),
    ):
        yak(shared, "group", "seek", name, name, "--to", to, "--yes")
        assert stands() == expected, to
    yak(shared, "group", "seek", name, name, "--partition", "1", "--to", "3", "--yes")
    assert stands() == [0, 3]
    assert "above the high watermark" in yak(
        shared, "group", "seek", name, name, "--to", "11", "--yes", code=1
    )
    assert stands() == [0, 3]
    yak(shared, "group", "seek", name, name + "x", "--to", "end", "--yes", code=1)


def test_a_group_with_members_is_left_alone(shared: Cluster, leader: Wire, name: str) -> None:
    filled(leader, name, 3)
    member = leader.ok("register", role="consumer", client="c", group=name, topics=[name])
    seek = ("group", "seek", name, name, "--to", "end", "--yes")
    for argv in (seek, ("group", "delete", name, "--yes")):
        refusal = yak(shared, *argv, code=1)
        assert "GROUP_NOT_EMPTY" in refusal
        assert "1 member (c); stop" in refusal
    leader.ok("deregister", group=name, member=member["member"])
    yak(shared, *seek)
    assert "add --yes" in yak(shared, "group", "delete", name, code=2)
    facts = shown(shared, "group", "delete", name, "--yes")
    assert facts == {"group": name, "partitions": 1, "topics": [name]}
    assert name not in leader.ok("groups")["groups"]
    assert "no group" in yak(shared, "group", "delete", name, "--yes", code=1)


@pytest.mark.parametrize(
    ("kind", "verbs"),
    [("topic", ["create", "alter", "delete", "trim"]), ("group", ["seek", "delete"])],
)
def test_help_has_examples_and_every_change_a_dry_run(kind: str, verbs: list[str]) -> None:
    assert b"Examples" in run_command("yak", kind, "--help").stdout
    for verb in verbs:
        assert b"--dry-run" in run_command("yak", kind, verb, "--help").stdout


def test_a_consumer_goes_on_where_its_group_was_moved(
    shared: Cluster, leader: Wire, name: str
) -> None:
    filled(leader, name, 5)
    consume = ("yak-consume", name, "-g", name, "-n", "1")
    shared.run(*consume, "--from-beginning")
    wait_until(lambda: not leader.ok("group", group=name)["members"], "it has left")
    yak(shared, "group", "seek", name, "--to", "3", "--yes")
    ended = shared.run(*consume, "-f", "%o\\n")
    assert ended.stdout == b"3\n", ended.stderr
