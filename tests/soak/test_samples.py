"""Costs: what is read from /proc, and what counts as growth."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.soak.samples import (
    MIB,
    Sample,
    Sampler,
    courses,
    flatness,
    lives,
    look_at_directory,
    look_at_process,
)
from tests.support.process import wait_until

#: A process of known costs; each line that it is sent is one descriptor and one thread more.
KNOWN = """
import os, sys, threading
print("ready", flush=True)
kept = []
for _ in sys.stdin:
    kept.append(open(os.devnull))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("more", flush=True)
"""


def test_a_process_is_seen_as_it_is() -> None:
    """Another one than this, where libraries of other tests keep threads of their own."""
    with subprocess.Popen(
        [sys.executable, "-c", KNOWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        sample = look_at_process(1.0, "it", process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        more = look_at_process(1.0, "it", process.pid)
        process.stdin.close()
    assert sample is not None
    assert more is not None
    assert sample.rss > MIB
    assert sample.threads == 1
    assert (more.fds, more.threads) == (sample.fds + 1, 2)
    assert look_at_process(1.0, "nobody", 2**22 + 1) is None


def test_a_file_of_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "b").hardlink_to(tmp_path / "deep" / "a")
    (tmp_path / "c").write_bytes(b"1")
    sample = look_at_directory(0, "d", tmp_path)
    assert (sample.bytes, sample.files) == (6, 2)


def test_the_sampler_looks_until_it_is_told(tmp_path: Path) -> None:
    sampler = Sampler(lambda: {"me": os.getpid()}, {"disk": tmp_path}, 0.01)
    sampler.start()
    wait_until(lambda: len(sampler.samples) > 3, "a few samples")
    sampler.finish()
    assert {sample.name for sample in sampler.samples} == {"me", "disk"}


def series(*values: float, pid: int = 1, step: float = 1.0) -> list[Sample]:
    """A process's memory in MiB over the time."""
    return [
        Sample(at * step, "p", pid, rss=int(value * MIB), fds=20, threads=1)
        for at, value in enumerate(values)
    ]


def grown(samples: list[Sample], length_s: float) -> list[str]:
    return [growth.field for growth in flatness(samples, length_s) if growth.grown]


def test_what_grows_steadily_is_found() -> None:
    assert grown(series(*range(100, 200)), 100) == ["rss"]
    assert grown(series(*[100] * 100), 100) == []


def test_warming_up_is_no_growth() -> None:
    assert grown(series(*[30] * 10, *[100] * 90), 100) == []


def test_a_peak_is_no_growth() -> None:
    assert grown(series(*[100] * 70, *[300] * 5, *[100] * 25), 100) == []


def test_log_and_partition_files_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    with path.open("w"):
        opened = look_at_process(1.0, "me", os.getpid())
    closed = look_at_process(1.0, "me", os.getpid())
    assert opened is not None
    assert closed is not None
    assert (opened.segments, opened.fds) == (closed.segments + 1, closed.fds)


def test_files_are_kept_open_up_to_the_brokers_limit() -> None:
    many = [Sample(float(at), "p", 1, fds=9, segments=5 * at, threads=1) for at in range(100)]
    assert grown(many, 100) == []
    assert grown([one._replace(segments=one.segments + 30) for one in many], 100) == ["segments"]


def test_a_few_samples_say_nothing() -> None:
    assert flatness(series(*range(100, 118)), 18) == []


def test_descriptors_and_disk_are_looked_at() -> None:
    samples = [Sample(float(at), "p", 1, fds=20 + at // 5, threads=1) for at in range(100)]
    samples += [Sample(float(at), "d", bytes=at * MIB) for at in range(100)]
    assert grown(samples, 100) == ["bytes", "fds"]


def test_the_course_of_a_series_is_its_start_middle_end_and_slope() -> None:
    (rss,) = [c for c in courses(series(*range(100, 200)), 100) if c.field == "rss"]
    at = (rss.start / MIB, rss.middle / MIB, rss.end / MIB)
    assert at == (115, 155, 194.5)
    assert round(rss.per_hour / MIB) == 3600
    assert courses(series(*range(100, 150)), 100) == [], "it was gone at the end"


def test_descriptors_that_come_and_go_are_no_leak() -> None:
    samples = [
        Sample(float(at), "p", 1, fds=60 + at % 10 * (5 if at > 55 else 2)) for at in range(100)
    ]
    assert grown(samples, 100) == []
    leak = [sample._replace(fds=sample.fds + int(sample.at) // 4) for sample in samples]
    assert grown(leak, 100) == ["fds"]


def test_a_leak_that_restarts_hide_shows_in_one_life() -> None:
    """Each life doubles; the halves of the run are alike."""
    samples: list[Sample] = []
    for life in range(4):
        leak = series(*range(60, 160), pid=life + 1, step=3.0)
        samples += [sample._replace(at=sample.at + life * 300) for sample in leak]
    assert grown(samples, 1200) == []
    assert [growth.grown for growth in lives(samples)] == [True] * 4
    assert lives(series(*[60.0] * 100, step=3.0))[0].grown is False
    assert lives(series(*range(60, 100))) == [], "too short a life to tell"
