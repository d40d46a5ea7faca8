"""`yak bench` on a real cluster: what it says it did is what lies there."""

from __future__ import annotations

import json
from typing import Any

from tests.support.cluster import Cluster, run_command
from yak import Admin


def bench(cluster: Cluster, *argv: str) -> dict[str, Any]:
    done = run_command("yak", "bench", *argv, "-b", cluster.bootstrap(), "--json", timeout_s=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_produced_is_what_is_consumed(shared: Cluster, name: str) -> None:
    put = bench(shared, "produce", "--topic", name, "-n", "25000", "--size", "100")
    assert (put["records"], put["bytes"]) == (25_000, 2_500_000)
    assert put["records_per_second"] > 0
    with Admin(shared.bootstrap()) as admin:
        there = sum(one.high_watermark for one in admin.topic(name).partitions)
    assert there == 25_001, "and the one that made the topic known"
    got = bench(shared, "consume", "--topic", name)
    assert (got["records"], got["bytes"] > put["bytes"]) == (25_001, True)
    assert bench(shared, "consume", "--topic", name, "-n", "10000", "-g", name)["records"] >= 10_000


def test_sent_alone_at_a_rate_every_record_has_its_latency(shared: Cluster, name: str) -> None:
    put = bench(shared, "produce", "--topic", name, "--num-records", "100", "--throughput", "500")
    assert set(put["latency_ms"]) == {"p50", "p95", "p99", "p99.9", "max"}
    assert 0 < put["latency_ms"]["p50"] <= put["latency_ms"]["max"]
    assert put["seconds"] >= 99 / 500
    assert bench(shared, "produce", "--topic", name, "-n", "50", "--alone")["latency_ms"] == {}


def test_end_to_end_leaves_no_topic_behind(shared: Cluster) -> None:
    seen = bench(shared, "e2e", "--rate", "200", "--seconds", "2")
    assert seen["records"] == 400
    assert 0 < seen["latency_ms"]["p50"] <= seen["latency_ms"]["p99"]
    with Admin(shared.bootstrap()) as admin:
        assert seen["topic"] not in admin.topics()


def test_what_cannot_be_measured_is_said(shared: Cluster, name: str) -> None:
    small = run_command("yak", "bench", "e2e", "--size", "10", "-b", shared.bootstrap())
    assert (small.returncode, b"at least 22 bytes" in small.stderr) == (2, True), small.stderr
    with Admin(shared.bootstrap()) as admin:
        admin.create_topic(name, 2)
    argv = ("produce", "--topic", name, "--partitions", "3", "-b", shared.bootstrap())
    other = run_command("yak", "bench", *argv)
    assert other.returncode == 1
    assert f"topic {name} is there and has 2 partitions, not 3" in other.stderr.decode()
