"""`yak verify` on a real cluster: while it runs, after its leader died, where a bit has flipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, MakeCluster, run_command
from tests.support.logfiles import segments
from tests.support.process import wait_until
from yak import Producer


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Some records in two topics; checkpoints and cuts of the log all the time."""
    cluster = make_cluster(
        broker_options=("--checkpoint-operations", "50", "--oplog-retain-bytes", "0")
    )
    fill(cluster, 300)
    return cluster


def fill(cluster: Cluster, count: int) -> None:
    with Producer(bootstrap=cluster.bootstrap(cluster.live)) as producer:
        for number in range(count):
            producer.send("t" if number % 3 else "u", {"number": number}).result(20)


def verify(cluster: Cluster, *argv: str) -> tuple[int, dict[str, Any]]:
    done = run_command("yak", "verify", *argv, "--json", timeout_s=60, cwd=cluster.directory)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_cluster_is_proved_while_it_runs_and_after_its_leader_died(cluster: Cluster) -> None:
    code, found = verify(cluster, str(cluster.directory))
    assert (code, found["faults"]) == (0, [])
    assert [Path(one["directory"]).name for one in found["directories"]] == [
        "broker-1", "broker-2", "broker-3",
    ]  # fmt: skip
    cluster.kill(cluster.wait_leader())
    fill(cluster, 100)
    code, found = verify(cluster, str(cluster.directory))
    assert (code, found["faults"]) == (0, [])
    cluster.start(*(broker for broker in cluster.ids if broker not in cluster.live))
    cluster.wait_isr(cluster.ids)
    cluster.wait_level()
    code, found = verify(cluster, "--bootstrap", cluster.bootstrap())
    assert (code, found["faults"], found["brokers"]) == (0, [], [1, 2, 3])
    assert found["records"] == 400


def test_a_bit_that_flipped_is_found_in_the_files_and_by_asking(cluster: Cluster) -> None:
    cluster.wait_level()
    home = cluster.data_dir(2)
    path = max(
        (path for path in (home / "topics").rglob("*.jsonl")), key=lambda path: path.stat().st_size
    )
    wait_until(lambda: b'"number":2' in path.read_bytes(), "it was flushed")
    data = bytearray(path.read_bytes())
    data[data.index(b'"number":2') + 9] ^= 1
    path.write_bytes(data)
    done = run_command("yak", "verify", str(cluster.directory), cwd=cluster.directory)
    assert done.returncode == 1
    said = done.stdout.decode()
    assert f"FAULT {path}, byte" in said
    assert "does not have the crc" in said
    assert "these replicas are not the same" in said
    assert '"number":3' in said, "both lines are shown"
    code, found = verify(cluster, "--bootstrap", cluster.bootstrap())
    assert code == 1
    assert any("STORAGE_ERROR" in fault["what"] for fault in found["faults"])


def test_two_logs_that_part_show_both_lines(cluster: Cluster) -> None:
    cluster.wait_level()
    cluster.kill(*cluster.ids)
    (*_, path) = segments(cluster.data_dir(3) / "oplog")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + b"".join(lines[3:]))
    code, found = verify(cluster, str(cluster.directory))
    assert code == 1
    assert any("broker-3/oplog" in fault["where"] for fault in found["faults"])


def test_what_is_no_data_directory_is_said(tmp_path: Path) -> None:
    done = run_command("yak", "verify", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert b"holds none" in done.stderr
    done = run_command("yak", "verify", str(tmp_path), "--bootstrap", "h:1", cwd=tmp_path)
    assert done.returncode == 2
