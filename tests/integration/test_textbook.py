"""A course's commands, pasted; and what helps a newcomer: completion, the doctor, brokers' words.

All of it on the shared cluster.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.process import command, environment
from tests.support.wire import Wire


def kafka(
    cluster: Cluster, script: str, *options: str, stdin: str = "", code: int = 0
) -> tuple[str, str]:
    """stdout and stderr of one of Kafka's scripts, once it ended as expected."""
    server = ("--bootstrap-server", cluster.bootstrap())
    ended = run_command("yak", f"kafka-{script}", *server, *options, stdin=stdin.encode())
    assert ended.returncode == code, ended
    return ended.stdout.decode(), ended.stderr.decode()


def test_topics(shared: Cluster, name: str) -> None:
    sizes = ("--partitions", "2", "--replication-factor", "3")
    config = ("--config", "retention.ms=86400000", "--config", "min.insync.replicas=2")
    topic = ("--topic", name)
    out, err = kafka(shared, "topics", "--create", *topic, *sizes, *config)
    assert out == f"Created topic {name}.\n"
    assert err.startswith("note: min.insync.replicas is not set")
    assert "exists already" in kafka(shared, "topics", "--create", *topic, code=1)[1]
    assert kafka(shared, "topics", "--create", "--if-not-exists", *topic) == ("", "")
    many = kafka(shared, "topics", "--create", "--topic", "x", "--replication-factor", "4", code=1)
    assert "larger than the number of brokers, 3" in many[1]
    assert name in kafka(shared, "topics", "--list")[0].splitlines()
    kafka(shared, "topics", "--alter", *topic, "--partitions", "3")
    first, *rest = kafka(shared, "topics", "--describe", *topic)[0].splitlines()
    members = dict(part.split(": ", 1) for part in first.split("\t"))
    assert members.pop("TopicId")
    assert members == {
        "Topic": name,
        "PartitionCount": "3",
        "ReplicationFactor": "3",
        "Configs": "retention.ms=86400000",
    }
    leader = shared.wait_leader()
    assert rest == [
        f"\tTopic: {name}\tPartition: {n}\tLeader: {leader}\tReplicas: 1,2,3\tIsr: 1,2,3\tElr: \t"
        "LastKnownElr: "
        for n in range(3)
    ]
    assert kafka(shared, "topics", "--describe", "--unavailable-partitions", *topic)[0] == ""
    kafka(shared, "topics", "--delete", *topic)
    assert "does not exist" in kafka(shared, "topics", "--delete", *topic, code=1)[1]
    kafka(shared, "topics", "--delete", "--if-exists", *topic)


def test_lines_in_and_records_out(shared: Cluster, topic: str) -> None:
    at = ("--topic", topic)
    keyed = ("--property", "parse.key=true", "--reader-property", "key.separator=:")
    acks = ("--producer-property", "acks=all", "--request-required-acks", "all")
    assert kafka(shared, "console-producer", *at, *keyed, *acks, stdin="k:a\nl:b\n") == ("", "")
    whole = ("--reader-property", "parse.headers=true", "--property", "parse.key=true")
    kafka(shared, "console-producer", *at, *whole, stdin="h:1,i:2\tm\tc\n")
    bad = kafka(shared, "console-producer", *at, *keyed, stdin="nothing\n", code=1)
    assert "line 1 has no key.separator" in bad[1]

    shown = ("--property", "print.key=true", "--formatter-property", "print.headers=true")
    where = ("--property", "print.offset=true", "--formatter-property", "key.separator=|")
    out, err = kafka(
        shared, "console-consumer", *at, *shown, *where, "--from-beginning", "--max-messages", "3"
    )
    assert out.splitlines() == [
        "Offset:0|NO_HEADERS|k|a",
        "Offset:1|NO_HEADERS|l|b",
        "Offset:2|h:1,i:2|m|c",
    ]
    assert err == "Processed a total of 3 messages\n"
    one = ("--partition", "0", "--offset", "1", "--max-messages", "1")
    assert kafka(shared, "console-consumer", *at, *one)[0] == "b\n"
    out, err = kafka(shared, "console-consumer", *at, "--timeout-ms", "100")
    assert (out, err.splitlines()[-1]) == ("", "Processed a total of 0 messages")


def test_a_line_of_a_course_as_it_stands_there(shared: Cluster, name: str) -> None:
    """With the script's path and ending; and the partitioner by which courses spread records."""
    at = ("--bootstrap-server", shared.bootstrap(), "--topic", name)

    def pasted(script: str, *options: str, stdin: bytes = b"", code: int = 0) -> str:
        ended = run_command("yak", script, *at, *options, stdin=stdin)
        assert ended.returncode == code, ended
        return (ended.stdout + ended.stderr).decode()

    turns = "partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner"
    sent = (b"".join(b"k\t%d\n" % n for n in range(6)), "--property", "parse.key=true")
    pasted("kafka-topics.sh", "--create", "--partitions", "3")
    said = pasted(
        "bin/kafka-console-producer.sh", "--producer-property", turns, *sent[1:], stdin=sent[0]
    )
    assert said == ""
    load = ("--num-records", "6", "--record-size", "3", "--throughput", "-1")
    perf = ("--producer-props", f"bootstrap.servers={shared.bootstrap()}", turns)
    assert pasted("kafka-producer-perf-test.sh", *load, *perf).startswith("6 records sent")
    for number in ("0", "1", "2"):
        one = ("--partition", number, "--offset", "earliest", "--max-messages", "4")
        lines = pasted("bin/kafka-console-consumer.sh", *one).splitlines()
        assert lines == [
            number,
            str(int(number) + 3),
            "xxx",
            "xxx",
            "Processed a total of 4 messages",
        ]
    said = pasted("bin/kafka-configs.sh", "--alter", code=2)
    assert "yak has no kafka-configs; instead: `yak kafka-topics --alter" in said


def test_the_partitioner_of_a_topic_that_is_not_there_makes_it(shared: Cluster, name: str) -> None:
    turns = ("--producer-property", "partitioner.class=x.RoundRobinPartitioner")
    kafka(shared, "console-producer", "--topic", name, *turns, stdin="a\nb\n")
    both = ("--from-beginning", "--max-messages", "2", "--property", "print.partition=true")
    out, _ = kafka(shared, "console-consumer", "--topic", name, *both)
    assert sorted(out.split()) == ["Partition:0", "Partition:1", "a", "b"]
    other = ("--producer-property", "partitioner.class=my.Own")
    assert (
        "no Java classes" in kafka(shared, "console-producer", "--topic", name, *other, code=2)[1]
    )


def test_several_groups_go_back_at_once(shared: Cluster, topic: str, name: str) -> None:
    kafka(shared, "console-producer", "--topic", topic, stdin="a\n")
    reading = ("--topic", topic, "--from-beginning", "--max-messages", "1")
    groups = [f"{name}-1", f"{name}-2"]
    for group in groups:
        assert kafka(shared, "console-consumer", "--group", group, *reading)[0] == "a\n"
    both = ("--group", groups[0], "--group", groups[1])
    back = ("--reset-offsets", "--topic", topic, "--to-earliest", "--execute")
    out, _ = kafka(shared, "consumer-groups", *both, *back)
    assert out.split()[4:] == [*(groups[0], topic, "0", "0"), *(groups[1], topic, "0", "0")]
    for group in groups:
        assert kafka(shared, "console-consumer", "--group", group, *reading)[0] == "a\n"
    wrong = kafka(shared, "consumer-groups", "--all-groups", *both, *back, code=2)[1]
    assert "either --group NAME, or --all-groups" in wrong


def test_groups(shared: Cluster, topic: str, name: str) -> None:
    group = ("--group", f"{name}-g")
    assert (
        run_command(
            "yak", "produce", topic, "-q", "-b", shared.bootstrap(), stdin=b"a\nb\nc\n"
        ).returncode
        == 0
    )
    reading = ("--topic", topic, *group, "--from-beginning", "--max-messages", "2")
    assert kafka(shared, "console-consumer", *reading)[0] == "a\nb\n"
    assert f"{name}-g" in kafka(shared, "consumer-groups", "--list")[0].splitlines()

    out, err = kafka(shared, "consumer-groups", "--describe", *group)
    assert "has no active members" in err
    header, row = out.strip().splitlines()
    assert header.split()[:6] == [
        *("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"),
    ]
    assert row.split() == [f"{name}-g", topic, "0", "2", "3", "1", "-", "-", "-"]
    state = kafka(shared, "consumer-groups", "--describe", *group, "--state")[0]
    assert state.split()[-2:] == ["Empty", "0"]
    none = kafka(shared, "consumer-groups", "--describe", "--group", "none", code=1)
    assert "does not exist" in none[1]

    back = ("--reset-offsets", "--topic", topic, "--to-earliest")
    planned, warned = kafka(shared, "consumer-groups", *group, *back)
    assert "--execute" in warned
    assert planned.split()[-4:] == [f"{name}-g", topic, "0", "0"]
    assert kafka(shared, "console-consumer", *reading[:-1], "1")[0] == "c\n", "it was only shown"
    kafka(shared, "consumer-groups", *group, *back, "--execute")
    assert kafka(shared, "console-consumer", *reading)[0] == "a\nb\n"
    assert "was successful" in kafka(shared, "consumer-groups", "--delete", *group)[0]


def test_performance(shared: Cluster, topic: str) -> None:
    load = ("--num-records", "500", "--record-size", "100", "--throughput", "-1")
    props = (
        "--producer-props",
        f"bootstrap.servers={shared.bootstrap()}",
        "acks=all",
        "linger.ms=1",
    )
    ended = run_command("yak", "kafka-producer-perf-test", "--topic", topic, *load, *props)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.decode()
    assert said.startswith("500 records sent, "), said
    for word in ("records/sec (", "MB/sec), ", "ms avg latency", "ms max latency", "ms 99.9th."):
        assert word in said


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (("topics", "--zookeeper", "localhost:2181", "--list"), "--bootstrap-server"),
        (("topics", "--create", "--topic", "x", "--config", "cleanup.policy=compact"), "compact"),
        (("console-consumer", "--topic", "__consumer_offsets"), "yak group describe"),
        (("console-consumer", "--include", "a.*"), "--topic NAME"),
        (("console-producer", "--topic", "x", "--line-reader", "my.Reader"), "yak produce -J"),
        (("consumer-groups", "--delete-offsets", "--group", "g"), "--reset-offsets"),
    ],
)
def test_what_yak_does_instead_is_said(
    shared: Cluster, line: tuple[str, ...], instead: str
) -> None:
    assert instead in kafka(shared, *line, code=2)[1]


def _completed(cluster: Cluster, program: str, line: str) -> list[str]:
    """What bash is offered at the end of this line."""
    words = line.split(" ")
    asked = {
        f"_{program.replace('-', '_').upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "YAK_BOOTSTRAP": cluster.bootstrap(),
    }
    ended = subprocess.run(
        [command(program)], env=environment(**asked), capture_output=True, text=True, timeout=60
    )
    assert ended.stderr == ""
    return [offer.partition(",")[2] for offer in ended.stdout.splitlines() if offer]


def test_a_shell_completes_what_the_cluster_knows(shared: Cluster, topic: str) -> None:
    joined = ("-g", f"{topic}-g", "--from-beginning", "-e")
    assert shared.run("yak-consume", topic, *joined).returncode == 0
    begun = topic[:-1]
    assert topic in _completed(shared, "yak-consume", f"yak-consume {begun}")
    assert topic in _completed(shared, "yak", f"yak topic describe {begun}")
    assert f"{topic}-g" in _completed(shared, "yak", f"yak group describe {begun}")
    assert f"{topic}-g" in _completed(shared, "yak-consume", f"yak-consume t -g {begun}")
    assert _completed(shared, "yak", "yak broker describe 2") == ["2"]
    assert "kafka-topics" in _completed(shared, "yak", "yak kafka-t")
    assert _completed(shared, "yak-consume", f"yak-consume -b 127.0.0.1:1 {begun}") == []


def test_the_doctor(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """On a cluster of its own: the shared one's yak-zk remembers whom other tests had it refuse."""
    cluster = make_cluster()
    assert cluster.zk_address is not None
    zk = "{}:{}".format(*cluster.zk_address)
    well = cluster.run("yak", "doctor", "--zk", zk, "--data-dir", str(tmp_path), "--json")
    report = json.loads(well.stdout)
    assert well.returncode == (0 if report["ok"] else 1)
    failed = [step for step in report["steps"] if step["state"] == "failed"]
    assert [step for step in failed if step["step"] not in ("disk", "files")] == []
    names = [step["step"] for step in report["steps"]]
    assert names == [
        *("address", "tcp", "hello") * 3,
        *("metadata", "broker 1", "broker 2", "broker 3", "yak-zk", "clocks", "disk", "files"),
    ]

    ill = run_command("yak", "doctor", "-b", f"{zk},{cluster.bootstrap([1])}")
    assert ill.returncode == 1
    said = ill.stdout.decode()
    assert "it is yak, but no broker" in said
    assert "1 not ok" in said.splitlines()[-1]


def test_brokers(shared: Cluster, leader: Wire) -> None:
    listed = json.loads(shared.run("yak", "broker", "list", "--json").stdout)
    assert [one["id"] for one in listed] == [1, 2, 3]
    assert all(one["live"] and one["in_sync"] and one["state"] == "whole" for one in listed)
    assert sorted(one["role"] for one in listed) == ["follower", "follower", "leader"]
    table = shared.run("yak", "broker", "list").stdout.decode().splitlines()
    assert table[0].split()[:3] == ["id", "address", "role"]
    said = shared.run("yak", "broker", "describe", "2")
    assert said.returncode == 0
    assert said.stdout.decode().splitlines()[0] == "broker 2"
    assert re.search(r"^memory  .* MiB$", said.stdout.decode(), re.MULTILINE)
    leads = next(str(one["id"]) for one in listed if one["role"] == "leader")
    said = shared.run("yak", "broker", "describe", leads)
    assert b" ms behind, in sync; " in said.stdout
    unknown = shared.run("yak", "broker", "describe", "9")
    assert (unknown.returncode, b"1, 2 and 3" in unknown.stderr) == (1, True)
    mixed = shared.run("yak", "broker", "--port", "5", "list")
    assert (mixed.returncode, b"--port is for running" in mixed.stderr) == (2, True)
