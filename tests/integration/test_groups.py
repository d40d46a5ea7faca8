"""Members that fall silent, die or leave; what they were sent and did not acknowledge."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.logfiles import find, read_oplog
from tests.support.process import Process, wait_until
from tests.support.wire import Fields, Wire


def join(wire: Wire, group: str, topic: str, session_ms: int) -> Fields:
    """A member's identity; `assignment` and `offsets` of the answer stay in it."""
    answer = wire.ok(
        "register",
        role="consumer",
        group=group,
        topics=[topic],
        session_ms=session_ms,
    )
    answer["identity"] = {
        "group": group,
        "member": answer["member"],
        "generation": answer["generation"],
    }
    return answer


def test_silence_ends_a_membership_and_its_partitions_move(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=2)
        silent = join(wire, "g", "t", 1000)
        beating = join(wire, "g", "t", 2000)
        own: Fields = {**beating["identity"], "owned": []}

        def moved() -> bool:
            answer = wire.ok("heartbeat", **own)
            own["generation"] = answer["generation"]
            if "assignment" in answer:
                own["owned"] = answer["assignment"]
            return len(own["owned"]) == 2

        started = time.monotonic()
        wait_until(moved, "the silent member's partitions are taken from it", 15)
        assert time.monotonic() - started > 0.7, "not before its session was over"
        wire.refused("UNKNOWN_MEMBER", "heartbeat", **silent["identity"])
        wire.refused("UNKNOWN_MEMBER", "ack", **silent["identity"], offsets=[["t", 0, 0]])
    cluster.wait_level()
    (gone,) = find(read_oplog(cluster.data_dir(3)), op="deregister", reason="expired")
    assert (gone["group"], gone["member"]) == ("g", silent["member"])


def test_heartbeats_and_acks_keep_a_member(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        member = join(wire, "g", "t", 1500)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            assert wire.ok("heartbeat", **member["identity"])["ok"]
            time.sleep(0.2)
    assert find(read_oplog(cluster.data_dir(1)), op="deregister") == []


def test_a_new_leader_gives_every_member_a_full_session(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        member = join(wire, "g", "t", 4000)
    time.sleep(1.5)  # a good part of its session passes under the old leader
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    led_since = time.monotonic()
    with cluster.connect_leader() as wire:
        wait_until(lambda: not wire.ok("group", group="g")["members"], "it expires in the end", 20)
        assert time.monotonic() - led_since > 3.5, "the clock began anew with the new leader"
        wire.refused("UNKNOWN_MEMBER", "heartbeat", **member["identity"])


# -- Real consumers -------------------------------------------------------------------------------

PARTITIONS = 4
RECORDS = 400


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """400 numbers over four partitions."""
    cluster = make_cluster()
    with cluster.connect_leader() as wire:
        wire.ok("create_topic", topic="t", partitions=PARTITIONS)
        for partition in range(PARTITIONS):
            wire.produce("t", partition, range(partition, RECORDS, PARTITIONS))
    return cluster


def consumer(cluster: Cluster, *options: str) -> Process:
    return cluster.spawn_client("yak-consume", "t", "-g", "g", *options)


def shown(process: Process) -> list[int]:
    """The whole lines that it has printed."""
    return [int(line) for line in process.stdout().split("\n")[:-1] if line]


def owners(cluster: Cluster) -> list[str | None]:
    """Who has each partition, by what the leader says."""
    with cluster.connect_leader() as wire:
        return [entry["member"] for entry in wire.ok("group", group="g")["partitions"]]


def lag(cluster: Cluster) -> int:
    with cluster.connect_leader() as wire:
        partitions = wire.ok("group", group="g")["partitions"]
    return sum(entry["lag"] for entry in partitions) if len(partitions) == PARTITIONS else -1


def test_two_members_share_and_one_dies(cluster: Cluster) -> None:
    """What the dead one acknowledged is not seen again; what it did not, is."""
    first, second = (consumer(cluster, "--from-beginning") for _ in (1, 2))
    wait_until(lambda: len(set(owners(cluster))) == 2 and None not in owners(cluster), "they share")
    wait_until(lambda: lag(cluster) == 0, "everything is acknowledged")
    assert sorted(set(shown(first) + shown(second))) == list(range(RECORDS))

    first.kill()
    with cluster.connect_leader() as wire:
        for partition in range(PARTITIONS):
            values = range(RECORDS + partition, RECORDS * 2, PARTITIONS)
            wire.produce("t", partition, values)
    wait_until(lambda: lag(cluster) == 0, "the other one has read all that came later")
    later = [value for value in shown(second) if value >= RECORDS]
    assert sorted(later) == list(range(RECORDS, RECORDS * 2)), "each once, by the one that lives"
    assert len(set(owners(cluster))) == 1
    second.signal(signal.SIGINT)
    assert second.wait() == 0
    assert owners(cluster) == [None] * PARTITIONS, "it left the group as it went"


def test_what_was_not_acknowledged_is_delivered_again(cluster: Cluster) -> None:
    """A member is sent everything, acknowledges a part, and dies."""
    with cluster.connect_leader() as wire:
        member = join(wire, "g", "t", 1000)
        places = [["t", partition, 0] for partition in range(PARTITIONS)]
        _, body = wire.ask("fetch", partitions=places)
        assert len(body) > RECORDS
        delivered = [["t", partition, RECORDS // PARTITIONS] for partition in range(PARTITIONS)]
        wire.ok("heartbeat", **member["identity"], delivered=delivered)
        wire.ok("ack", **member["identity"], offsets=[["t", 0, 60], ["t", 1, 100]])
        partitions = wire.ok("group", group="g")["partitions"]
        assert [entry["lag"] for entry in partitions] == [40, 0, 100, 100]
    second = cluster.run(
        *("yak-consume", "t", "-g", "g", "--from-beginning", "-n", "240", "--timeout", "15s")
    )
    seen = sorted(int(line) for line in second.stdout.split())
    expected = [n for n in range(RECORDS) if n % 4 in (2, 3) or (n % 4 == 0 and n // 4 >= 60)]
    assert seen == expected, second.stderr


def test_a_member_that_hangs_is_replaced_and_does_not_disturb(cluster: Cluster) -> None:
    first = consumer(cluster, "--from-beginning")
    wait_until(lambda: lag(cluster) == 0, "it has read all")
    first.pause()
    second = consumer(cluster)
    (old,) = set(owners(cluster))
    wait_until(lambda: old not in owners(cluster) and None not in owners(cluster), "it is replaced")
    with cluster.connect_leader() as wire:
        wire.produce("t", 0, ["1000", "1001"])
    wait_until(lambda: shown(second) == [1000, 1001], "the new one gets what is new, and only that")
    first.resume()
    wait_until(lambda: len(set(owners(cluster))) == 2, "the old one, awake, is a member again")
    assert sorted(shown(first)) == list(range(RECORDS)), "and was not given anything twice"


def test_consumers_go_on_when_the_leader_dies(cluster: Cluster) -> None:
    first, second = (consumer(cluster, "--from-beginning") for _ in (1, 2))
    wait_until(lambda: lag(cluster) == 0, "everything is acknowledged")
    cluster.kill(1)
    cluster.wait_leader(other_than=1)
    with cluster.connect_leader() as wire:
        for partition in range(PARTITIONS):
            wire.produce("t", partition, range(RECORDS + partition, RECORDS * 2, PARTITIONS))
    wait_until(lambda: lag(cluster) == 0, "they read on")
    seen = shown(first) + shown(second)
    assert sorted(set(seen)) == list(range(RECORDS * 2))
    for process in (first, second):
        process.signal(signal.SIGINT)
        assert process.wait() == 0, process.stderr()


def test_yak_group_describe_tells_who_has_what(cluster: Cluster) -> None:
    with cluster.connect_leader() as wire:
        member = join(wire, "g", "t", 60_000)
        wire.ok("ack", **member["identity"], offsets=[["t", 1, 30]])
        wire.ok("heartbeat", **member["identity"], delivered=[["t", 1, 50]])
    plain = cluster.run("yak", "group", "describe", "g")
    assert plain.returncode == 0, plain.stderr
    row = next(line.split() for line in plain.stdout.decode().splitlines() if " 30 " in line)
    assert {"t", "1", "30", "50", "100", "70"} <= set(row), row
    described = json.loads(cluster.run("yak", "group", "describe", "g", "--json").stdout)
    entry = next(entry for entry in described["partitions"] if entry["partition"] == 1)
    assert (entry["acked"], entry["delivered"], entry["lag"]) == (30, 50, 70)
    assert entry["member"] == member["member"]
