"""The one operation log: its form on disk, and that it is the same bytes everywhere.

Read and proved by tests/support/logfiles.py, which knows the protocol's text and no code.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import (
    NO_SUM,
    check_line,
    find,
    oplog_bytes,
    partition_dir,
    read_oplog,
    read_partition,
    segments,
    split_segment,
    topic_bytes,
)
from tests.support.process import command, environment, wait_until
from tests.support.wire import Fields, Wire, record, records


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in which every kind of operation was written; its tests only look."""
    with Cluster(tmp_path_factory.mktemp("lived-in")) as cluster:
        live_in(cluster)
        yield cluster


def live_in(cluster: Cluster) -> None:
    """Every kind of operation, once or twice."""
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="orders", partitions=2, config={"retention_ms": 86_400_000})
        producer = wire.ok("register", role="producer", client="p", topics=["orders"])["producer"]
        wire.produce("orders", 0, ["a", {"x": 2}], producer=producer, sequence=0)
        wire.produce("orders", 0, ["b"], acks=1)
        wire.produce("orders", 1, ["grüß 🐂"])
        member = wire.ok("register", role="consumer", client="c", group="g", topics=["orders"])
        identity = {"group": "g", "member": member["member"], "generation": member["generation"]}
        wire.ok("ack", **identity, offsets=[["orders", 0, 2]])
        wire.ok("deregister", group="g", member=member["member"])
        wire.ok("deregister", producer=producer)
    cluster.wait_level()


def settled(cluster: Cluster) -> None:
    """Partition files may be a little behind the log: until all replicas' are the same."""
    cluster.wait_level()
    wait_until(
        lambda: (
            len({json.dumps(_sizes(cluster, broker)) for broker in cluster.ids}) == 1
            and _sizes(cluster, 1) == _sizes_in_log(cluster)
        ),
        "the partition files hold what the log holds",
    )


def _sizes(cluster: Cluster, broker: int) -> dict[str, int]:
    """Bytes of operations in each partition's files."""
    sizes: dict[str, int] = {}
    for path, data in topic_bytes(cluster.data_dir(broker)).items():
        place = path.rpartition("/")[0]
        sizes[place] = sizes.get(place, 0) + len(data) - data.index(b"\n") - 1
    return dict(sorted(sizes.items()))


def _sizes_in_log(cluster: Cluster) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for line, fields, body in read_oplog(cluster.data_dir(1)):
        if fields["op"] == "append":
            place = f"{fields['topic']}/{fields['partition']}"
            sizes[place] = sizes.get(place, 0) + len(line) + len(body)
    return dict(sorted(sizes.items()))


def test_every_line_proves_itself_and_all_before_it(lived_in: Cluster) -> None:
    log = read_oplog(lived_in.data_dir(1))
    kinds = {operation.fields["op"] for operation in log}
    assert kinds >= {"lead", "create_topic", "register", "append", "ack", "assign", "deregister"}
    assert log[0].fields["op"] == "lead"
    with pytest.raises(AssertionError, match="sum is not"):
        check_line(log[1].line, NO_SUM)


def test_a_reader_that_leaves_is_no_error_of_yak_log(lived_in: Cluster) -> None:
    """As `yak log | head -1`: quiet, and exit code 0."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        argv = [command("yak"), "log", str(lived_in.data_dir(1)), "--bodies"]
        done = subprocess.run(
            argv, stdout=gone, stderr=subprocess.PIPE, env=environment(), timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_first_file_begins_with_its_header(lived_in: Cluster) -> None:
    (path,) = segments(lived_in.data_dir(1) / "oplog")
    assert path.name == "00000000000000000001.jsonl"
    header, _ = split_segment(path)
    assert list(header.items()) == [("format", 1), ("first", 1), ("sum", NO_SUM)]


def test_an_append_has_the_form_of_the_protocol(lived_in: Cluster) -> None:
    log = read_oplog(lived_in.data_dir(1))
    operation = next(op for op in log if op.fields["op"] == "append")
    assert list(operation.fields)[:10] == [
        *("index", "epoch", "time", "op", "topic", "partition", "offset", "count", "size", "crc"),
    ]
    assert list(operation.fields)[10:] == ["producer", "sequence", "sum"]
    assert operation.body == record("a") + record({"x": 2})
    assert b" " not in operation.line, "one line, without spaces"
    later = [op.fields for op in log if op.fields["op"] == "append"][1:]
    assert all("producer" not in fields and "sequence" not in fields for fields in later)


def test_the_operations_tell_what_happened(lived_in: Cluster) -> None:
    log = read_oplog(lived_in.data_dir(1))
    (created,) = find(log, op="create_topic")
    assert (created["topic"], created["partitions"]) == ("orders", 2)
    assert created["config"] == {"retention_ms": 86_400_000}
    assert [op["role"] for op in find(log, op="register")] == ["producer", "consumer"]
    assert [op["offsets"] for op in find(log, op="ack")] == [[["orders", 0, 2]]]
    assert [op["reason"] for op in find(log, op="deregister")] == ["asked", "asked"]


def test_every_line_on_disk_is_json_in_utf8(lived_in: Cluster) -> None:
    """`cat` and `jq` read all of it."""
    settled(lived_in)
    for broker in lived_in.ids:
        paths = list(lived_in.data_dir(broker).rglob("*.jsonl"))
        assert len(paths) >= 4, "events.jsonl, oplog, two partitions"
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                json.loads(line)
        assert json.loads((lived_in.data_dir(broker) / "meta.json").read_text())["broker"] == broker
    assert json.loads((lived_in.zk_dir / "state.json").read_text())


def test_replicas_are_the_same_byte_for_byte(lived_in: Cluster) -> None:
    settled(lived_in)
    first, *others = [oplog_bytes(lived_in.data_dir(broker)) for broker in lived_in.ids]
    assert all(other == first for other in others)
    first, *others = [topic_bytes(lived_in.data_dir(broker)) for broker in lived_in.ids]
    assert all(other == first for other in others)
    assert {path.split("/")[0] for path in first} == {"orders"}


def test_log_file_partition_file_and_wire_hold_the_same_bytes(lived_in: Cluster) -> None:
    settled(lived_in)
    log = read_oplog(lived_in.data_dir(1))
    for partition, count in ((0, 2), (1, 1)):
        logged = [
            operation
            for operation in log
            if operation.fields["op"] == "append" and operation.fields["partition"] == partition
        ]
        assert len(logged) == count
        for broker in lived_in.ids:
            assert read_partition(lived_in.data_dir(broker), "orders", partition) == logged
            with lived_in.connect(broker) as wire:
                assert wire.read_all("orders", partition) == logged


def test_a_topic_is_a_directory_and_a_partition_one_in_it(lived_in: Cluster) -> None:
    settled(lived_in)
    for broker in lived_in.ids:
        for partition in (0, 1):
            directory = partition_dir(lived_in.data_dir(broker), "orders", partition)
            assert [path.name for path in directory.iterdir()] == ["00000000000000000000.jsonl"]
            header, _ = split_segment(directory / "00000000000000000000.jsonl")
            assert list(header.items()) == [("format", 1), ("first", 0)]


def test_bad_input_leaves_no_trace_in_the_log(shared: Cluster, leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=1)
    end = shared.wait_level()
    bad: list[tuple[str, Fields, bytes]] = [
        ("produce", {"topic": name, "partition": 0, "count": 1}, b"{}\n"),
        ("produce", {"topic": name, "partition": 3, "count": 1}, b'{"value":1}\n'),
        ("create_topic", {"topic": name}, b""),
        ("create_topic", {"topic": "a/b"}, b""),
        ("register", {"role": "producer", "topics": ["a/b"]}, b""),
        ("ack", {"group": name, "offsets": [[name, 0, 5]]}, b""),
        ("deregister", {"producer": 2**40}, b""),
        ("no_such_type", {}, b""),
    ]
    for kind, fields, body in bad:
        answer, _ = leader.ask(kind, body, **fields)
        assert answer["ok"] is False, (kind, fields, answer)
    log = read_oplog(shared.data_dir(shared.wait_leader()))
    since = [operation.fields for operation in log if operation.fields["index"] >= end]
    assert not [fields for fields in since if name in json.dumps(fields)], since


SMALL_SEGMENTS = ("--oplog-segment-bytes", "100000")


def test_the_log_rolls_into_segments_the_same_on_every_replica(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(zk_options=SMALL_SEGMENTS)
    body = records("x" * 100 for _ in range(50))
    large = record("y" * 300_000)
    with cluster.connect_leader() as wire:
        topic: dict[str, Any] = {"topic": "t", "partition": 0}
        wire.ok("create_topic", topic="t", partitions=1, config={"segment_bytes": 100_000})
        for number in range(60):
            wire.ok("produce", body, **topic, count=50)
            if number == 30:
                wire.ok("produce", large, **topic, count=1)
    settled(cluster)
    first, *others = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert len(first) >= 4
    assert all(other == first for other in others)
    assert sum(len(data) > 100_000 for data in first.values()) == 1, "but for the one large one"
    assert len(read_oplog(cluster.data_dir(2))) >= 63
    _check_partition_segments(cluster, body * 31 + large + body * 29)


def _check_partition_segments(cluster: Cluster, expected: bytes) -> None:
    for broker in cluster.ids:
        operations = read_partition(cluster.data_dir(broker), "t", 0)
        assert b"".join(op.body for op in operations) == expected
        assert len(segments(partition_dir(cluster.data_dir(broker), "t", 0))) >= 4
        with cluster.connect(broker) as wire:
            assert wire.read_all("t", 0) == operations


def test_segments_survive_a_restart(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(zk_options=SMALL_SEGMENTS)
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        for _ in range(40):
            wire.ok(
                "produce", records("x" * 100 for _ in range(50)), topic="t", partition=0, count=50
            )
    cluster.wait_level()
    before = oplog_bytes(cluster.data_dir(1))
    cluster.restart(*cluster.ids)
    with cluster.connect_leader() as wire:
        wire.produce("t", 0, ["one more"])
        assert wire.high_watermark("t", 0) == 2001
    cluster.wait_level()
    after = oplog_bytes(cluster.data_dir(1))
    assert all(after[name].startswith(data) for name, data in before.items())
    settled(cluster)
    assert oplog_bytes(cluster.data_dir(3)) == after
