"""Processes end and come back: one, all of them, yak-zk; by SIGKILL and by SIGTERM."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.history import Writer, closing_read, judge
from tests.support.logfiles import find, oplog_bytes, read_oplog
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire, record


def filled(cluster: Cluster) -> Fields:
    """A topic with ten records, a group that stands at 4, a producer at sequence 10."""
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        producer = wire.ok("register", role="producer", topics=["t"])["producer"]
        wire.produce("t", 0, range(10), producer=producer, sequence=0)
        wire.ok("ack", group="g", offsets=[["t", 0, 4]])
        cluster_id = wire.ok("metadata")["cluster"]
    return {"producer": producer, "cluster": cluster_id}


def check_filled(cluster: Cluster, before: Fields) -> None:
    """All of it is there, and goes on where it was."""
    with cluster.connect_leader() as wire:
        assert wire.ok("metadata")["cluster"] == before["cluster"]
        assert [value for op in wire.read_all("t", 0) for value in op.values][:10] == [*range(10)]
        (entry,) = wire.ok("group", group="g")["partitions"]
        assert entry["acked"] == 4
        again = wire.produce("t", 0, range(10), producer=before["producer"], sequence=0)
        assert (again["duplicate"], again["offset"]) == (True, 0)
        member = wire.ok("register", role="consumer", group="g", topics=["t"])
        assert member["offsets"] == [["t", 0, 4]]
        wire.ok("deregister", group="g", member=member["member"])


@pytest.mark.parametrize("fsync", ["always", "never", "interval:50"])
def test_all_are_killed_and_started_again(make_cluster: MakeCluster, fsync: str) -> None:
    cluster = make_cluster(fsync=fsync)
    before = filled(cluster)
    epoch = cluster.epoch()
    cluster.kill(*cluster.ids)
    cluster.restart_zk()
    cluster.start(*cluster.ids)
    cluster.wait_isr(cluster.ids)
    assert cluster.epoch() > epoch, "a leader that started anew has an epoch of its own"
    check_filled(cluster, before)
    end = cluster.wait_level()
    assert end > 5
    read_oplog(cluster.data_dir(1))


def test_all_are_asked_to_end_and_started_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fsync="always")
    before = filled(cluster)
    assert cluster.zk is not None
    assert [cluster.terminate(broker) for broker in (3, 2, 1)] == [0, 0, 0]
    assert cluster.zk.terminate() == 0
    cluster.restart_zk()
    cluster.start(*cluster.ids)
    check_filled(cluster, before)
    cluster.wait_isr(cluster.ids)
    check_filled(cluster, before)


def test_brokers_may_start_before_yak_zk(make_cluster: MakeCluster) -> None:
    """They listen, answer `status`, and wait."""
    cluster = make_cluster()
    before = filled(cluster)
    assert cluster.zk is not None
    cluster.kill(*cluster.ids)
    cluster.zk.kill()
    cluster.start(*cluster.ids)
    for broker in cluster.ids:
        with cluster.connect(broker) as wire:
            assert wire.ok("status")["role"] != "leader"
            answer, _ = wire.ask("register", role="producer", topics=[])
            assert answer["error"] in ("NO_LEADER", "NOT_LEADER")
    cluster.restart_zk()
    check_filled(cluster, before)


def test_one_comes_back_catches_up_and_rejoins(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = filled(cluster)
    cluster.kill(2)
    cluster.wait_isr([1, 3])
    with cluster.connect_leader() as wire:
        for number in range(50):
            wire.produce("t", 0, [number])
    cluster.start(2)
    cluster.wait_isr([1, 2, 3])
    cluster.wait_level()
    assert oplog_bytes(cluster.data_dir(2)) == oplog_bytes(cluster.data_dir(1))
    with cluster.connect(2) as wire:
        assert len(closing_read(wire, "t", 0)) == 60
    check_filled(cluster, before)


def test_a_broker_that_comes_new_gets_everything(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[1, 2])
    filled(cluster)
    cluster.ids.append(7)
    cluster.start(7)
    cluster.wait_isr([1, 2, 7])
    cluster.wait_level()
    assert oplog_bytes(cluster.data_dir(7)) == oplog_bytes(cluster.data_dir(1))


def test_a_broker_may_come_back_on_another_port(make_cluster: MakeCluster) -> None:
    """Its new address reaches the other brokers, and so the clients."""
    cluster = make_cluster()
    filled(cluster)
    for broker in cluster.ids:
        old = cluster.addresses.pop(broker)
        cluster.restart(broker)
        assert cluster.addresses[broker] != old
        cluster.wait_isr(cluster.ids)
    with cluster.connect_leader() as wire:
        brokers = {b["id"]: (b["host"], b["port"]) for b in wire.ok("metadata")["brokers"]}
    assert brokers == cluster.addresses
    read = run_command(
        *("yak-consume", "t", "--from-beginning", "-e", "--read-from", "leader"),
        *("-b", cluster.bootstrap([3])),
    )
    assert read.stdout.split() == [str(number).encode() for number in range(10)]


def test_a_leader_that_is_asked_to_end_says_goodbye(make_cluster: MakeCluster) -> None:
    """Nobody waits for its session, and what was under way is answered or sent again."""
    cluster = make_cluster(zk_options=("--session-ms", "9000", "--lease-ms", "6000"))
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
    writer = Writer(cluster, "w", "t", 0)
    writer.start()
    writer.wait_progress(20)
    asked = time.monotonic()
    assert cluster.terminate(1) == 0
    assert cluster.wait_leader(other_than=1) == 2
    assert time.monotonic() - asked < 6, "less than the session time-out"
    writer.wait_progress(20)
    cluster.start(1)
    cluster.wait_isr(cluster.ids)
    writer.finish()
    with cluster.connect_leader() as wire:
        judge(closing_read(wire, "t", 0), [writer])


def test_a_long_poll_does_not_hold_up_the_end(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire, cluster.connect(3) as other:
        wire.ok("create_topic", topic="t", partitions=1)
        cluster.wait_level()
        for polling in (wire, other):
            polling.post("fetch", partitions=[["t", 0, 0]], wait_ms=60_000)
            polling.ok("status")
        asked = time.monotonic()
        assert cluster.terminate(1) == 0
        assert cluster.terminate(3) == 0
        assert time.monotonic() - asked < 10


def test_yak_zk_is_killed_and_comes_back(make_cluster: MakeCluster) -> None:
    """Its absence does not stop writes; the leader and the epoch stay; brokers come back alone."""
    cluster = make_cluster()
    before = filled(cluster)
    epoch = cluster.epoch()
    assert cluster.zk is not None
    cluster.zk.kill()
    with cluster.connect(1) as wire:
        for number in range(10):
            wire.produce("t", 0, [f"without {number}"])
        wait_until(lambda: _lease_is_over(wire), "without a lease acks=1 is refused")
        wire.produce("t", 0, ["still"])
    cluster.restart_zk()
    with cluster.connect(1) as wire:
        fields: Fields = {"topic": "t", "partition": 0, "count": 1, "acks": 1}
        wait_until(lambda: wire.ask("produce", record("1"), **fields)[0]["ok"], "a lease again")
    assert cluster.leader() == 1
    assert cluster.epoch() == epoch
    cluster.wait_isr([1, 2, 3])
    check_filled(cluster, before)
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    check_filled(cluster, before)


def _lease_is_over(wire: Wire) -> bool:
    answer, _ = wire.ask("list_offsets", partitions=[["t", 0]], at="latest")
    if answer["ok"]:
        return False
    assert answer["error"] == "NO_LEADER", answer
    refused, _ = wire.ask("produce", record("x"), topic="t", partition=0, count=1, acks=1)
    assert refused["error"] == "NO_LEADER", refused
    return True


def test_yak_zk_restarted_at_once_changes_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    epoch = cluster.epoch()
    for _ in range(3):
        cluster.restart_zk()
        with cluster.connect(1) as wire:
            wire.ok("register", role="producer", topics=[])
    cluster.wait_isr([1, 2, 3])
    assert (cluster.leader(), cluster.epoch()) == (1, epoch)


def test_the_leader_dies_while_yak_zk_is_away(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = filled(cluster)
    assert cluster.zk is not None
    cluster.zk.kill()
    cluster.kill(1)
    cluster.restart_zk()
    assert cluster.wait_leader(other_than=1) == 2
    check_filled(cluster, before)


def test_consumers_resume_after_a_restart_of_all(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    filled(cluster)
    argv = ("yak-consume", "t", "-g", "g", "-e")
    first = cluster.run(*argv, "-n", "3")
    assert first.stdout.split() == [b"4", b"5", b"6"], first.stderr
    cluster.kill(*cluster.ids)
    cluster.restart_zk()
    cluster.start(*cluster.ids)
    second = cluster.run(*argv)
    assert second.stdout.split() == [b"7", b"8", b"9"], second.stderr


def test_each_process_tells_its_story(make_cluster: MakeCluster) -> None:
    """Decisions with their reasons, one line an event, also in events.jsonl."""
    cluster = make_cluster()
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    lines = (cluster.zk_dir / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert all({"time", "event"} <= event.keys() for event in events)
    assert any(event.get("reason") for event in events)
    assert cluster.zk is not None
    assert "reason" in cluster.zk.stderr()
    assert (cluster.data_dir(2) / "events.jsonl").stat().st_size > 0
    assert cluster.brokers[2].stderr()
    assert [
        operation["broker"] for operation in find(read_oplog(cluster.data_dir(2)), op="lead")
    ] == [
        1,
        2,
    ]
