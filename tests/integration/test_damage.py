"""Torn and damaged files: what may be cut is cut, what may not is kept, and the cluster lives.

"Torn" is what a crash in the middle of a write leaves: the last operation is not whole.
"Damaged" is everything else: there the broker says what and where, keeps the files aside, and
is filled by the leader.  One kind after the other, and how each is told: test_told.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.history import closing_read
from tests.support.logfiles import oplog_bytes, read_oplog, segments, topic_bytes
from tests.support.process import wait_until
from tests.support.wire import records

VICTIM = 3


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Forty batches of ten in one partition, the same on three replicas; the victim is dead."""
    cluster = make_cluster(zk_options=("--oplog-segment-bytes", "6000"))
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        for first in range(0, 400, 10):
            body = records(f"value {number:04}" for number in range(first, first + 10))
            wire.ok("produce", body, topic="t", partition=0, count=10)
    cluster.wait_level()
    last = read_oplog(cluster.data_dir(VICTIM))[-1]
    wait_until(
        lambda: any(last.line in data for data in topic_bytes(cluster.data_dir(VICTIM)).values()),
        "the partition file is no longer behind the log",
    )
    cluster.kill(VICTIM)
    return cluster


def last_segment(cluster: Cluster, broker: int = VICTIM) -> Path:
    return segments(cluster.data_dir(broker) / "oplog")[-1]


def check_whole(cluster: Cluster) -> None:
    """Everybody is in sync, with the same bytes, and the records are all there."""
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    logs = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert all(log == logs[0] for log in logs)
    read_oplog(cluster.data_dir(VICTIM))
    expected = [f"value {number:04}" for number in range(400)]
    for broker in cluster.ids:
        with cluster.connect(broker) as wire:
            assert closing_read(wire, "t", 0)[:400] == expected


def check_filled(cluster: Cluster, *expected: object) -> None:
    """The victim names the place, keeps every byte of its log aside, and has all again."""
    before = oplog_bytes(cluster.data_dir(VICTIM))
    with cluster.connect_leader() as wire:
        wire.produce("t", 0, ["life goes on"])
    cluster.start(VICTIM)
    check_whole(cluster)
    said = cluster.brokers[VICTIM].stderr()
    for word in ("damaged", *expected):
        assert str(word) in said, said
    assert oplog_bytes(cluster.data_dir(VICTIM) / "damaged" / "1") == before


def test_a_torn_tail_is_cut_and_the_broker_rejoins(cluster: Cluster) -> None:
    for cut in (1, 2, 30, 150):
        path = last_segment(cluster)
        path.write_bytes(path.read_bytes()[:-cut])
        cluster.start(VICTIM)
        check_whole(cluster)
        assert "torn" in cluster.brokers[VICTIM].stderr(), f"{cut} bytes were missing"
        cluster.kill(VICTIM)


def test_rubbish_behind_the_last_operation_is_cut(cluster: Cluster) -> None:
    for rubbish in (b"{", b"\x00" * 4096, b'{"index":', b"\xff" * 10, b"\n"):
        path = last_segment(cluster)
        path.write_bytes(path.read_bytes() + rubbish)
        cluster.start(VICTIM)
        check_whole(cluster)
        assert "torn" in cluster.brokers[VICTIM].stderr(), rubbish[:10]
        cluster.kill(VICTIM)


def test_every_log_torn_at_once(cluster: Cluster) -> None:
    """A crash of all in the midst of a write that nobody had acknowledged."""
    cluster.kill(1, 2)
    for broker, rubbish in ((1, b'{"index":'), (2, b'{"in'), (3, b"{")):
        path = last_segment(cluster, broker)
        path.write_bytes(path.read_bytes() + rubbish)
    cluster.start(1, 2, 3)
    check_whole(cluster)


def test_damage_in_the_middle_is_never_cut(cluster: Cluster) -> None:
    path = segments(cluster.data_dir(VICTIM) / "oplog")[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    check_filled(cluster, path.name)


def test_a_missing_segment(cluster: Cluster) -> None:
    path = segments(cluster.data_dir(VICTIM) / "oplog")[1]
    path.unlink()
    check_filled(cluster)


def test_partition_files_are_made_again_from_the_log(cluster: Cluster) -> None:
    expected = topic_bytes(cluster.data_dir(VICTIM))
    shutil.rmtree(cluster.data_dir(VICTIM) / "topics")
    cluster.start(VICTIM)
    check_whole(cluster)
    wait_until(
        lambda: topic_bytes(cluster.data_dir(VICTIM)) == expected, "the same files as before"
    )


def test_a_follower_that_lost_everything_gets_it_again(cluster: Cluster) -> None:
    shutil.rmtree(cluster.data_dir(VICTIM))
    cluster.start(VICTIM)
    check_whole(cluster)


def test_a_leader_that_lost_everything_is_not_elected(cluster: Cluster) -> None:
    """An empty disk under the lowest id: another in-sync one leads, and nothing is lost."""
    cluster.start(VICTIM)
    cluster.wait_isr(cluster.ids)
    cluster.kill(1, 2, 3)
    shutil.rmtree(cluster.data_dir(1))
    cluster.start(1)
    wait_until(lambda: cluster.status(1), "it answers")
    assert cluster.leader() is None, "alone, with nothing, it may not lead"
    cluster.start(2, 3)
    assert cluster.wait_leader() in (2, 3)
    check_whole(cluster)


def test_an_unfinished_state_json_of_yak_zk_is_ignored(cluster: Cluster) -> None:
    """A temporary file that was never renamed says nothing."""
    cluster.start(VICTIM)
    epoch = cluster.epoch()
    assert cluster.zk is not None
    cluster.zk.kill()
    state = (cluster.zk_dir / "state.json").read_bytes()
    for suffix in (".tmp", ".new"):
        (cluster.zk_dir / f"state.json{suffix}").write_bytes(state[: len(state) // 2])
    cluster.restart_zk()
    check_whole(cluster)
    assert cluster.epoch() == epoch


def test_yak_log_stops_at_a_torn_tail_and_says_so(cluster: Cluster) -> None:
    expected = read_oplog(cluster.data_dir(VICTIM))
    path = last_segment(cluster)
    path.write_bytes(path.read_bytes()[:-5])
    ended = run_command("yak", "log", str(cluster.data_dir(VICTIM)), "--json")
    assert [json.loads(line)["index"] for line in ended.stdout.splitlines()] == [
        operation.fields["index"] for operation in expected[:-1]
    ]
    assert b"torn" in ended.stderr
    assert b"Traceback" not in ended.stderr
