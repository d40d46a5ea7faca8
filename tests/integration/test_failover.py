"""The leader dies, or hangs, while clients write and read.

Writers and readers are those of tests/support/history.py: raw sockets, judged by its rules.
Nothing acknowledged is lost, nothing is stored twice, nothing that was shown vanishes.
"""

from __future__ import annotations

import time

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.history import Reader, Writer, closing_read, judge
from tests.support.logfiles import oplog_bytes, read_oplog
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire, record

#: FAST's session time-out and a half, and generous slack for a loaded machine.
FAILOVER_S = 6.0


class Traffic:
    """Two writers and two readers on one partition."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        with cluster.connect_leader() as wire:
            wire.ok("create_topic", topic="orders", partitions=1)
        self.writers = [Writer(cluster, f"w{n}", "orders", 0) for n in (1, 2)]
        self.readers = [Reader(cluster, f"r{n}", "orders", 0) for n in (1, 2)]
        for client in (*self.writers, *self.readers):
            client.start()
        self.wait_progress()

    def wait_progress(self, more: int = 20) -> None:
        for client in (*self.writers, *self.readers):
            client.wait_progress(more)

    def finish(self) -> None:
        """End all clients and judge what they saw, on every broker that lives."""
        for client in (*self.writers, *self.readers):
            client.finish()
        self.cluster.wait_level(self.cluster.live)
        for broker in self.cluster.live:
            with self.cluster.connect(broker) as wire:
                judge(closing_read(wire, "orders", 0), self.writers, self.readers)


@pytest.mark.parametrize("fsync", ["always", "never"])
def test_the_leader_is_killed_in_the_midst_of_it_all(make_cluster: MakeCluster, fsync: str) -> None:
    cluster = make_cluster(fsync=fsync)
    traffic = Traffic(cluster)
    old, epoch = cluster.wait_leader(), cluster.epoch()
    assert old == 1, "the lowest id present"
    cluster.kill(old)
    assert cluster.wait_leader(other_than=old) == 2, "the lowest live in-sync id"
    assert cluster.epoch() > epoch
    traffic.wait_progress()
    cluster.start(old)
    cluster.wait_isr([1, 2, 3])
    traffic.wait_progress()
    assert cluster.leader() == 2, "a lower id that comes back does not take over"
    traffic.finish()
    for client in (*traffic.writers, *traffic.readers):
        assert client.longest_gap_s() < FAILOVER_S
    logs = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert logs[0] == logs[1] == logs[2]
    read_oplog(cluster.data_dir(1))


def test_the_leader_hangs_in_the_midst_of_it_all(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    traffic = Traffic(cluster)
    cluster.pause(1)
    assert cluster.wait_leader(other_than=1) == 2
    traffic.wait_progress()
    cluster.resume(1)
    cluster.wait_isr([1, 2, 3])
    traffic.wait_progress()
    traffic.finish()
    logs = [oplog_bytes(cluster.data_dir(broker)) for broker in cluster.ids]
    assert logs[0] == logs[1] == logs[2]


def test_a_leader_that_hung_speaks_for_nobody_when_it_wakes(make_cluster: MakeCluster) -> None:
    """What lay in its sockets while it slept is refused, or not answered at all."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.produce("t", 0, ["before"])
        cluster.pause(1)
        asked = [
            wire.post("produce", record("in its sleep"), topic="t", partition=0, count=1, acks=acks)
            for acks in ("all", 1)
        ]
        asked.append(wire.post("list_offsets", partitions=[["t", 0]], at="latest"))
        cluster.wait_leader(other_than=1)
        with cluster.connect_leader() as new:
            new.produce("t", 0, ["after"])
        cluster.resume(1)
        try:
            answers = [wire.answer_to(request_id)[0] for request_id in asked]
        except OSError:
            answers = []
        for answer in answers:
            assert answer["ok"] is False, answer
            assert answer["retriable"] is True, answer
    cluster.wait_isr([1, 2, 3])
    cluster.wait_level()
    with cluster.connect(1) as wire:
        assert closing_read(wire, "t", 0) == ["before", "after"]


def test_a_follower_dies_and_writes_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    traffic = Traffic(cluster)
    cluster.kill(3)
    cluster.wait_isr([1, 2])
    traffic.wait_progress()
    cluster.start(3)
    cluster.wait_isr([1, 2, 3])
    traffic.finish()


def test_leader_after_leader_dies(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    traffic = Traffic(cluster)
    epochs = [cluster.epoch()]
    for _ in range(3):
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.wait_leader(other_than=leader)
        epochs.append(cluster.epoch())
        traffic.wait_progress(10)
        cluster.start(leader)
        cluster.wait_isr(cluster.ids)
    traffic.finish()
    assert epochs == sorted(set(epochs)), "every leader had an epoch of its own"
    assert sum(writer.duplicates for writer in traffic.writers) >= 0


def test_a_batch_sent_again_after_a_change_of_leader_is_stored_once(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        producer = wire.ok("register", role="producer", topics=["t"])["producer"]
        first = wire.produce("t", 0, ["a", "b"], producer=producer, sequence=0)
        _fire_and_forget(cluster, producer)
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    with cluster.connect_leader() as wire:
        again = wire.produce("t", 0, ["a", "b"], producer=producer, sequence=0)
        assert again["duplicate"] is True
        assert again["offset"] == first["offset"] == 0
        assert again["time"] == first["time"]
        # Its answer was lost with the leader: it may be there, and then it is a duplicate.
        third = wire.produce("t", 0, ["c"], producer=producer, sequence=2)
        assert third["offset"] == 2
        wire.refused(
            "OUT_OF_ORDER_SEQUENCE",
            "produce",
            record("e"),
            topic="t",
            partition=0,
            count=1,
            producer=producer,
            sequence=9,
        )
        assert closing_read(wire, "t", 0) == ["a", "b", "c"]


def _fire_and_forget(cluster: Cluster, producer: int) -> None:
    """A batch whose answer nobody waits for."""
    with cluster.connect_leader() as wire:
        fields = {"topic": "t", "partition": 0, "count": 1, "producer": producer, "sequence": 2}
        wire.send({"type": "produce", "id": 1, **fields}, record("c"))


def test_members_and_acknowledgements_outlive_the_leader(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.produce("t", 0, range(10))
        session: Fields = {"group": "g", "topics": ["t"], "session_ms": 60_000}
        member = wire.ok("register", role="consumer", **session)
        identity = {"group": "g", "member": member["member"], "generation": member["generation"]}
        wire.ok("ack", **identity, offsets=[["t", 0, 4]])
        wire.ok("heartbeat", **identity, delivered=[["t", 0, 9]])
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    with cluster.connect_leader() as wire:
        (entry,) = wire.ok("group", group="g")["partitions"]
        assert (entry["acked"], entry["delivered"], entry["member"]) == (4, 4, member["member"])
        assert wire.ok("heartbeat", **identity)["generation"] == member["generation"]
        wire.ok("ack", **identity, offsets=[["t", 0, 6]])
        wire.ok("heartbeat", **identity, delivered=[["t", 0, 8]])
        (entry,) = wire.ok("group", group="g")["partitions"]
        assert (entry["acked"], entry["delivered"]) == (6, 8)


# -- Too few replicas -----------------------------------------------------------------------------


def test_what_is_not_on_the_replicas_is_not_shown_and_not_acknowledged(
    make_cluster: MakeCluster,
) -> None:
    """Both followers hang: logged, unknown, invisible; then refused; then all is well again."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.produce("t", 0, ["before"])
        cluster.wait_level()
        cluster.pause(2)
        cluster.pause(3)
        fields = {"topic": "t", "partition": 0, "count": 1}
        asked = wire.post("produce", record("in doubt"), **fields, timeout_ms=200)
        at_once = wire.post("produce", record("acks 1"), **fields, acks=1)
        assert wire.answer_to(asked)[0]["error"] == "REQUEST_TIMED_OUT"
        assert wire.answer_to(at_once)[0]["offset"] == 2
        assert wire.high_watermark("t", 0) == 1
        assert closing_read(wire, "t", 0) == ["before"]
        _wait_refused(wire)
        assert wire.high_watermark("t", 0) == 1
        cluster.resume(2)
        cluster.resume(3)
        wait_until(
            lambda: wire.ask("produce", record("after"), **fields)[0]["ok"],
            "with the followers back, writes go on",
        )
        values = closing_read(wire, "t", 0)
    assert values == ["before", "in doubt", "acks 1", "after"]


def _wait_refused(wire: Wire) -> None:
    """Until the leader knows that it is alone: then it refuses before it logs."""

    def look() -> bool:
        answer, _ = wire.ask("register", role="producer", topics=[], timeout_ms=100)
        return bool(answer.get("error") == "NOT_ENOUGH_REPLICAS")

    wait_until(look, "too few replicas are refused", 15)


def test_a_lone_broker_says_which_option_it_needs(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[1], in_sync=False)
    with cluster.connect(1) as wire:
        wait_until(lambda: wire.ok("metadata")["leader"] == 1, "it is elected")
        answer = wire.refused("NOT_ENOUGH_REPLICAS", "create_topic", topic="t")
        assert "--min-insync-replicas" in answer["message"]
        assert wire.ok("metadata")["topics"] == {}
        wire.refused("NOT_ENOUGH_REPLICAS", "register", role="producer", topics=["t"])


def test_a_lone_broker_that_may_be_alone_serves(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[4], zk_options=("--min-insync-replicas", "1"))
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        assert wire.produce("t", 0, ["alone"])["offset"] == 0


def test_five_brokers_two_die(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(ids=[2, 3, 5, 8, 13])
    traffic = Traffic(cluster)
    cluster.kill(*sorted(cluster.ids, key=lambda broker: broker != cluster.leader())[:2])
    cluster.wait_leader()
    traffic.wait_progress()
    traffic.finish()


def test_metadata_tells_who_is_gone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    cluster.wait_isr([2, 3])

    def live(broker: int) -> dict[int, bool]:
        with cluster.connect(broker) as wire:
            answer = wire.ok("metadata")
        assert answer["leader"] == 2
        return {entry["id"]: entry["live"] for entry in answer["brokers"]}

    wait_until(lambda: live(2) == live(3) == {1: False, 2: True, 3: True}, "both know it")


def test_a_replica_that_is_cut_off_for_long_stops_speaking(make_cluster: MakeCluster) -> None:
    """Leader and coordinator hang: what a follower has may be old, and it says so by NO_LEADER."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire, cluster.connect(3) as other:
        wire.ok("create_topic", topic="t", partitions=1)
        wire.produce("t", 0, ["seen"])
        cluster.wait_level()
        assert closing_read(other, "t", 0) == ["seen"]
        assert cluster.zk is not None
        cluster.zk.pause()
        cluster.pause(1)
        cut_off_at = time.monotonic()

        def cut_off() -> bool:
            entry, operations = other.fetch("t", 0, 0)
            assert operations or entry["error"] == "NO_LEADER", entry
            return "error" in entry

        wait_until(cut_off, "it says NO_LEADER", 15)
        assert time.monotonic() - cut_off_at > 1.0, "not before the session time-out"
        other.refused("NOT_LEADER", "create_topic", topic="u")
        cluster.zk.resume()
        cluster.resume(1)
        wait_until(lambda: not cut_off(), "it speaks again", 15)


def test_failover_is_quick(make_cluster: MakeCluster) -> None:
    """A killed leader's port refuses connections: nobody waits for its session to end."""
    cluster = make_cluster(zk_options=())
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
    killed_at = time.monotonic()
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    with cluster.connect_leader() as wire:
        wire.produce("t", 0, ["after"])
    assert time.monotonic() - killed_at < 2.0, "below the session time-out"
