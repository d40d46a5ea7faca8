"""/metrics, /healthz and /readyz of real processes, as a scraper and a probe see them.

One cluster for all; the tests stand in the order in which its life goes on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import CALM
from tests.support.cluster import Cluster, run_command
from tests.support.process import Process, wait_until
from tests.support.wire import Wire, records

#: What the queries of kafka_exporter's own dashboard and alerts need: names, and their labels.
KAFKA_EXPORTER: Final = {
    "kafka_brokers": set(),
    "kafka_topic_partitions": {"topic"},
    "kafka_topic_partition_current_offset": {"topic", "partition"},
    "kafka_topic_partition_oldest_offset": {"topic", "partition"},
    "kafka_topic_partition_leader": {"topic", "partition"},
    "kafka_topic_partition_replicas": {"topic", "partition"},
    "kafka_topic_partition_in_sync_replica": {"topic", "partition"},
    "kafka_topic_partition_under_replicated_partition": {"topic", "partition"},
    "kafka_consumergroup_members": {"consumergroup"},
    "kafka_consumergroup_current_offset": {"consumergroup", "topic", "partition"},
    "kafka_consumergroup_current_offset_sum": {"consumergroup", "topic"},
    "kafka_consumergroup_lag": {"consumergroup", "topic", "partition"},
    "kafka_consumergroup_lag_sum": {"consumergroup", "topic"},
}

OPERATIONS: Final = Path(__file__).parents[2] / "docs/operations.md"

_METRICS: Final = re.compile(r"metrics on http://([^\s/]+):(\d+)/metrics")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("metrics"),
        zk_options=[*CALM, "--metrics-port", "0"],
        broker_options=["--metrics-port", "0"],
    ) as cluster:
        yield cluster


class Scrape:
    """One look at /metrics."""

    def __init__(self, written: str) -> None:
        self.families = {one.name: one for one in text_string_to_metric_families(written)}
        self.samples = [s for family in self.families.values() for s in family.samples]

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """By the labels' values, in the order of the labels' names."""
        found = [sample for sample in self.samples if sample.name == name]
        return {tuple(v for _, v in sorted(s.labels.items())): s.value for s in found}

    def __getitem__(self, name: str) -> float:
        """Of a name without labels."""
        (value,) = self.all(name).values()
        return value

    def under(self, prefix: str) -> set[str]:
        return {sample.name for sample in self.samples if sample.name.startswith(prefix)}


def where(process: Process | None) -> tuple[str, int]:
    """Where its pages are, as it says itself."""
    assert process is not None

    def look() -> re.Match[str] | None:
        return _METRICS.search(process.stdout() + process.stderr())

    found = wait_until(look, f"{process.name} says where its metrics are")
    assert found is not None
    return found[1], int(found[2])


def get(process: Process | None, path: str, timeout_s: float = 15.0) -> tuple[int, str, str]:
    """The status, the media type and the body."""
    with contextlib.closing(
        http.client.HTTPConnection(*where(process), timeout=timeout_s)
    ) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def scrape(process: Process | None) -> Scrape:
    status, kind, body = get(process, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Scrape(body)


def probe(process: Process | None, path: str) -> tuple[int, dict[str, Any]]:
    status, _, body = get(process, path)
    return status, json.loads(body)


def until_ready(process: Process | None, status: int, reason: str = "") -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found, said = probe(process, "/readyz")
        return said if found == status and said["reason"].startswith(reason) else None

    said = wait_until(look, f"/readyz answers {status}, {reason!r}")
    assert said is not None
    return said


@pytest.fixture
def leader(cluster: Cluster) -> Iterator[Wire]:
    with cluster.connect_leader() as wire:
        yield wire


def test_the_leader_tells_what_kafka_exporter_tells(cluster: Cluster, leader: Wire) -> None:
    leader.ok("create_topic", topic="orders", partitions=2)
    leader.produce("orders", 0, range(10))
    leader.produce("orders", 1, range(4))
    leader.ok("trim", topic="orders", partition=0, before=3)
    leader.ok("ack", group="billing", offsets=[["orders", 0, 7], ["orders", 1, 0]])
    told = scrape(cluster.brokers[cluster.wait_leader()])
    for name, labels in KAFKA_EXPORTER.items():
        found = [sample for sample in told.samples if sample.name == name]
        assert found, name
        assert all(set(sample.labels) == labels for sample in found), name
        assert told.families[name].type == "gauge"
    assert told["kafka_brokers"] == 3
    assert told.all("kafka_topic_partitions") == {("orders",): 2}
    by_partition = {
        "current_offset": (10, 4),
        "oldest_offset": (3, 0),
        "leader": (1, 1),
        "replicas": (3, 3),
        "in_sync_replica": (3, 3),
        "under_replicated_partition": (0, 0),
    }
    for name, values in by_partition.items():
        by_place = told.all(f"kafka_topic_partition_{name}")
        assert by_place == {("0", "orders"): values[0], ("1", "orders"): values[1]}, name
    assert told.all("kafka_consumergroup_lag") == {
        ("billing", "0", "orders"): 3,
        ("billing", "1", "orders"): 4,
    }
    assert told.all("kafka_consumergroup_lag_sum") == {("billing", "orders"): 7}
    assert told.all("kafka_consumergroup_current_offset_sum") == {("billing", "orders"): 7}
    assert told.all("kafka_consumergroup_members") == {("billing",): 0}


def test_followers_tell_of_themselves_alone(cluster: Cluster) -> None:
    """What a dashboard adds up over all brokers must count once."""
    cluster.wait_level()
    for broker in (2, 3):
        told = scrape(cluster.brokers[broker])
        assert told.under("kafka_") == set()
        assert told.all("yak_broker_role")["follower",] == 1
        assert sum(told.all("yak_broker_role").values()) == 1
        assert (told["yak_epoch"], told["yak_leader_id"], told["yak_in_sync"]) == (1, 1, 1)
        assert (told["yak_partitions"], told["yak_topics"]) == (2, 1)
        assert told["yak_committed_index"] == told["yak_log_end_index"] - 1
        assert 0 <= told["yak_heartbeat_age_seconds"] < 20
        assert 10e6 < told["process_resident_memory_bytes"] < 200e6


def test_requests_bytes_and_connections(cluster: Cluster, leader: Wire) -> None:
    first = scrape(cluster.brokers[1])
    leader.produce("orders", 0, ["x" * 1000])
    leader.refused("UNKNOWN_TOPIC", "list_offsets", partitions=[["nothing", 0]], at="latest")
    told = scrape(cluster.brokers[1])
    count = {kind: value for (kind,), value in told.all("yak_request_seconds_count").items()}
    assert count["produce"] - first.all("yak_request_seconds_count")["produce",] == 1
    assert count["replicate"] > 0
    buckets = told.all("yak_request_seconds_bucket")
    assert buckets["+Inf", "produce"] == count["produce"]
    assert told.all("yak_requests_refused_total") == {("UNKNOWN_TOPIC", "list_offsets"): 1}
    assert told["yak_received_bytes_total"] - first["yak_received_bytes_total"] > 1000
    assert told["yak_sent_bytes_total"] > first["yak_sent_bytes_total"]
    assert told["yak_connections"] >= 3, "two followers, and this one"
    assert told["yak_connections_opened_total"] >= told["yak_connections"]
    assert told.all("yak_follower_lag_operations").keys() == {("2",), ("3",)}
    assert told["yak_event_loop_lag_seconds_count"] > first["yak_event_loop_lag_seconds_count"] - 1


def test_what_comes_twice_and_what_is_handed_out_again(cluster: Cluster, leader: Wire) -> None:
    number = leader.ok("register", role="producer", topics=["orders"])["producer"]
    for _ in range(2):
        header = {"type": "produce", "id": 1, "topic": "orders", "partition": 1, "count": 2}
        leader.request({**header, "producer": number, "sequence": 0}, records([1, 2]))
    joined = leader.ok("register", role="consumer", topics=["orders"], group="shop")
    who = {"group": "shop", "member": joined["member"]}
    at = [["orders", 0, 9], ["orders", 1, 2]]
    leader.ok("ack", **who, generation=joined["generation"], offsets=[["orders", 0, 5]])
    leader.ok("heartbeat", **who, generation=joined["generation"], delivered=at)
    told = scrape(cluster.brokers[1])
    assert told.all("kafka_consumergroup_members")["shop",] == 1
    # It reads orders, and never acknowledged anything of partition 1.
    assert told.all("kafka_consumergroup_current_offset")["shop", "1", "orders"] == -1
    assert told.all("kafka_consumergroup_lag")["shop", "1", "orders"] == -1
    assert (told["yak_duplicate_batches_total"], told["yak_redeliveries_total"]) == (1, 0)
    leader.ok("deregister", **who)
    assert scrape(cluster.brokers[1])["yak_redeliveries_total"] == (9 - 5) + 2


def test_yak_zk_tells_who_lives_and_why_who_leads(cluster: Cluster) -> None:
    told = scrape(cluster.zk)
    assert told.all("yak_elections_total")["new_cluster",] == 1
    assert sum(told.all("yak_elections_total").values()) == 1
    assert (told["yak_epoch"], told["yak_leader_id"], told["yak_isr_size"]) == (1, 1, 3)
    assert told["yak_isr_expansions_total"] >= 1
    assert told.all("yak_broker_live") == {("1",): 1, ("2",): 1, ("3",): 1}
    ages = told.all("yak_heartbeat_age_seconds")
    assert set(ages) == {("1",), ("2",), ("3",)}
    assert all(0 <= age < 20 for age in ages.values())
    assert told.all("yak_events_total")["elected",] == 1


def test_the_document_names_everything_that_is_told(cluster: Cluster) -> None:
    documented = set(re.findall(r"`((?:yak|kafka)_[a-z_]+)[`{]", OPERATIONS.read_text("utf-8")))
    told: set[str] = set()
    for process in (cluster.zk, *cluster.brokers.values()):
        families = scrape(process).families.values()
        told |= {one.name + "_total" * (one.type == "counter") for one in families}
    told = {name for name in told if not name.startswith("process_")}
    clients = {name for name in documented if name.startswith(("yak_producer_", "yak_consumer_"))}
    assert told - documented == set(), "docs/operations.md, Metrics"
    assert documented - told - clients == {"yak_retransmissions_total"}, "nobody tells it"


def test_all_are_healthy_and_ready(cluster: Cluster) -> None:
    for process in (cluster.zk, *cluster.brokers.values()):
        assert probe(process, "/healthz")[0] == 200
        status, said = probe(process, "/readyz")
        assert (status, said["ready"], said["reason"]) == (200, True, "")
        assert (said["epoch"], said["leader"], said["isr"]) == (1, 1, [1, 2, 3])


def test_clients_tell_of_themselves(cluster: Cluster) -> None:
    consumer = cluster.spawn_client(
        *("yak-consume", "lines", "-g", "readers", "--from-beginning", "--metrics-port", "0")
    )
    producer = cluster.spawn_client(
        "yak-produce", "lines", "--metrics-port", "0", stdin=subprocess.PIPE
    )
    assert producer.popen.stdin is not None
    producer.popen.stdin.write(b"one\ntwo\nthree\n")
    producer.popen.stdin.flush()
    wait_until(
        lambda: scrape(producer)["yak_producer_acknowledged_total"] == 3, "three are acknowledged"
    )
    told = scrape(producer)
    assert (told["yak_producer_records_total"], told["yak_producer_lost_total"]) == (3, 0)
    assert (told["yak_retransmissions_total"], told["yak_producer_buffered_bytes"]) == (0, 0)
    assert probe(producer, "/readyz")[0] == probe(producer, "/healthz")[0] == 200
    wait_until(lambda: scrape(consumer)["yak_consumer_records_total"] == 3, "three are printed")
    told = scrape(consumer)
    assert sum(told.all("yak_consumer_position").values()) == 3
    assert sum(told.all("yak_consumer_lag").values()) == 0
    assert probe(consumer, "/readyz")[0] == probe(consumer, "/healthz")[0] == 200
    producer.popen.stdin.close()
    assert producer.wait() == 0, producer.stderr()
    assert consumer.terminate() == 0, consumer.stderr()
    assert consumer.stdout() == "one\ntwo\nthree\n", "stdout is for records"


def test_a_port_in_use_is_one_line(cluster: Cluster) -> None:
    port = str(where(cluster.zk)[1])
    for argv in (
        ["yak-zk", "--port", "0", "--data-dir", str(cluster.directory / "other")],
        ["yak-broker", "--id", "9", "--port", "0", "--data-dir", str(cluster.directory / "nine")],
        ["yak-produce", "t", "-b", cluster.bootstrap()],
        ["yak-consume", "t", "-b", cluster.bootstrap()],
    ):
        done = run_command(*argv, "--metrics-port", port)
        assert done.returncode == 1
        said = done.stderr.decode().splitlines()
        assert said[-1].startswith(f"error: --metrics-port: cannot listen on 127.0.0.1:{port}: ")
        assert "Traceback" not in done.stderr.decode()


def test_the_pages_are_where_the_broker_listens_and_nowhere_else(cluster: Cluster) -> None:
    host, port = where(cluster.brokers[1])
    assert host == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_stopped_process_answers_no_probe(cluster: Cluster) -> None:
    cluster.pause(3)
    with pytest.raises(TimeoutError):
        get(cluster.brokers[3], "/healthz", timeout_s=0.5)
    cluster.resume(3)
    assert probe(cluster.brokers[3], "/healthz")[0] == 200


def test_a_leader_dies(cluster: Cluster) -> None:
    until_ready(cluster.brokers[3], 200)
    cluster.wait_isr([1, 2, 3])
    before = scrape(cluster.zk)
    cluster.kill(1)
    assert cluster.wait_leader(other_than=1) == 2
    told = scrape(cluster.zk)
    assert told.all("yak_elections_total")["died",] == 1
    assert told["yak_isr_shrinks_total"] - before["yak_isr_shrinks_total"] == 1
    assert told.all("yak_broker_live")["1",] == 0
    assert until_ready(cluster.zk, 200)["isr"] == [2, 3]
    told = scrape(cluster.brokers[2])
    assert told["kafka_brokers"] == 2
    assert set(told.all("kafka_topic_partition_under_replicated_partition").values()) == {1}
    assert set(told.all("kafka_topic_partition_leader").values()) == {2}
    assert told.all("kafka_topic_partition_current_offset")["0", "orders"] == 11


def test_who_cannot_serve_is_not_ready(cluster: Cluster) -> None:
    cluster.kill(3)
    until_ready(cluster.zk, 503, "1 in-sync brokers live, min_insync_replicas is 2")
    cluster.kill(2)
    until_ready(cluster.zk, 503, "nobody leads")
    cluster.start(1)
    said = until_ready(cluster.brokers[1], 503)
    assert said["ready"] is False
    assert said["reason"] in ("it is leaderless", "it is starting")
    assert probe(cluster.brokers[1], "/healthz")[0] == 200
    cluster.start(2, 3)
    for process in (cluster.zk, *cluster.brokers.values()):
        until_ready(process, 200)
