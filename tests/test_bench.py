"""The benchmark runs, and its arithmetic is right; how fast anything is, is no test."""

from __future__ import annotations

import os

import pytest

from bench.contest import Plan, run
from bench.job import WORKLOADS
from bench.meter import cpu_seconds, machine_seconds, memory_mib
from bench.steady import hold
from tests.support.process import wait_until


def test_a_row_says_what_a_run_did() -> None:
    produce = next(one for one in WORKLOADS if one.name == "produce")
    rows = run([produce], Plan(rounds=1, scale=0.2, peers=False))  # CPU is counted by 10 ms
    assert [row["contestant"] for row in rows] == ["yak/send_many", "yak/send"]
    for row in rows:
        assert row["records"] == 200_000
        assert row["rate"] == pytest.approx(row["records"] / row["seconds"], rel=0.01)
        assert row["clients_cpu"] > 0
        assert row["servers_cpu"] > 0
        assert row["memory_mib"] > 30
        assert row["quiet"] == (row["others_cores"] < 0.1)


def test_every_workload_has_yak_in_it_and_a_name_of_its_own() -> None:
    assert len({one.name for one in WORKLOADS}) == len(WORKLOADS)
    for workload in WORKLOADS:
        assert workload.contestants[0].startswith("yak/"), "ratios are to the first of these"


def test_cpu_and_memory_of_this_very_process_are_seen() -> None:
    before, machine = cpu_seconds(os.getpid()), machine_seconds()

    def work() -> bool:  # both clocks tick a hundred times a second, and not together
        used = sum(range(200_000)) > 0 and cpu_seconds(os.getpid()) > before
        return used and machine_seconds() > machine

    wait_until(work, "CPU was used")
    assert memory_mib(os.getpid()) > 10
    assert cpu_seconds(2**22 + 1) == 0


def test_a_cluster_under_full_load_is_watched() -> None:
    found = hold(minutes=0.05)
    assert found["records_in"] > 1000
    assert found["records_out"] > 1000
    assert found["timed"]["records"] == 150
    assert [one for one in found["alarms"] if one["event"] != "isr_changed"] == []
