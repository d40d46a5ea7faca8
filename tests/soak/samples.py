"""What every process of a long run costs, sampled from /proc, and whether that stays flat.

A series is named by what a process *is* (`broker-2`), not by its pid: a broker that was started
again goes on in the same series.  The first tenth of a run warms up and is left out.  The rest
is cut into halves, and the second half's median (of descriptors the lower fifth: connections come
and go with clients, and a leak lifts the least that is open) may exceed the first's by

    memory        a tenth and 8 MiB    (allocators keep what they once had)
    descriptors   8                    (but for log and partition files)
    threads       2
    disk          a fifth and 8 MiB    (a log is cut a segment at a time, and copies lie about)

More than that is growth.  Log and partition files are kept open once they were used, up to the
broker's MAX_OPEN_FILES: more than that, at any time, is growth, too.

A *life* is one process between two starts: a life of more than `LIFE_S` may not end with more than
a quarter and 16 MiB above what it had after `SETTLED_S`, which finds what restarts would hide.

The numbers come from Linux's /proc alone.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from yak.storage.disk import MAX_OPEN_FILES

MIB = 1024 * 1024
#: A process that has run for so long has loaded what it needs.
SETTLED_S = 60.0
#: A life that is long enough to show a leak.
LIFE_S = 240.0
#: Samples that a half needs before its median says anything.
ENOUGH = 10

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """at: seconds since the run began.  pid 0: a directory, of which only `bytes` and `files`.

    fds: open but for `segments`, which are log and partition files.
    """

    at: float
    name: str
    pid: int = 0
    rss: int = 0
    fds: int = 0
    threads: int = 0
    cpu_s: float = 0.0
    bytes: int = 0
    files: int = 0
    segments: int = 0


class Allowance(NamedTuple):
    """How much more the second half may have: a share of the first's, and so much on top."""

    share: float
    more: float


#: field -> how much it may grow.
ALLOWED: dict[str, Allowance] = {
    "rss": Allowance(0.10, 8 * MIB),
    "fds": Allowance(0.0, 8),
    "threads": Allowance(0.0, 2),
    "bytes": Allowance(0.20, 8 * MIB),
}
#: Of a process.
FIELDS = ("rss", "fds", "segments", "threads")
_LIFE_ALLOWED = Allowance(0.25, 16 * MIB)


def look_at_process(at: float, name: str, pid: int) -> Sample | None:
    """A process's costs; None where it has ended."""
    root = Path(f"/proc/{pid}")
    try:
        stat = (root / "stat").read_text().rpartition(")")[2].split()
        opened = [_opened(root / "fd" / fd) for fd in os.listdir(root / "fd")]  # noqa: PTH208 -- names
    except OSError:
        return None
    if stat[0] == "Z":
        return None
    # The fields of proc(5), after the command's name: 14 utime, 15 stime, 20 threads, 24 rss.
    cpu_s = (int(stat[11]) + int(stat[12])) / _TICKS
    segments = sum(name.endswith(".jsonl") for name in opened)
    fds = len(opened) - segments
    return Sample(
        at, name, pid, int(stat[21]) * _PAGE, fds, int(stat[17]), cpu_s, segments=segments
    )


def _opened(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""  # closed while this looked


def look_at_directory(at: float, name: str, directory: Path) -> Sample:
    """What lies under a directory; a file of several names counts once."""
    seen: dict[int, int] = {}
    for folder, _, names in os.walk(directory):
        for entry in names:
            try:
                status = Path(folder, entry).stat()
            except FileNotFoundError:
                continue  # removed while this looked
            seen[status.st_ino] = status.st_size
    return Sample(at, name, bytes=sum(seen.values()), files=len(seen))


class Sampler(threading.Thread):
    """Looks at all of them every `every_s` until `finish`."""

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int]],
        directories: Mapping[str, Path],
        every_s: float,
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self.samples: list[Sample] = []
        self._pids = pids
        self._directories = directories
        self._every_s = every_s
        self._done = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        while not self._done.wait(self._every_s):
            at = time.monotonic() - self._began
            for name, pid in self._pids().items():
                sample = look_at_process(at, name, pid)
                if sample is not None:
                    self.samples.append(sample)
            for name, directory in self._directories.items():
                self.samples.append(look_at_directory(at, name, directory))

    def finish(self) -> None:
        self._done.set()
        self.join()


class Growth(NamedTuple):
    """A series before and after.  grown: by more than is allowed."""

    name: str
    field: str
    before: float
    after: float
    grown: bool

    def __str__(self) -> str:
        scale = MIB if self.field in ("rss", "bytes") else 1
        mark = "GROWN" if self.grown else "flat"
        return (
            f"{self.name:<12} {self.field:<8} {self.before / scale:10.1f} -> "
            f"{self.after / scale:10.1f}  {mark}"
        )


def flatness(samples: Iterable[Sample], length_s: float) -> list[Growth]:
    """Second half against first, for every series that both halves know well."""
    begin, middle = length_s * 0.1, length_s * 0.55
    halves: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for sample in samples:
        if begin <= sample.at <= length_s:
            fields = FIELDS if sample.pid else ("bytes",)
            for field in fields:
                halves[sample.name, field][sample.at >= middle].append(getattr(sample, field))
    found = []
    for (name, field), (first, second) in sorted(halves.items()):
        if min(len(first), len(second)) >= ENOUGH:
            before, after = (_level(field, half) for half in (first, second))
            if field == "segments":
                found.append(Growth(name, field, before, after, after > MAX_OPEN_FILES))
            else:
                found.append(_compare(name, field, before, after, ALLOWED[field]))
    return found


def _level(field: str, values: list[float]) -> float:
    if field == "segments":
        return max(values)
    return statistics.quantiles(values, n=5)[0] if field == "fds" else statistics.median(values)


def lives(samples: Iterable[Sample]) -> list[Growth]:
    """Each long life's memory: when it had settled, and at its end."""
    by_life: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.pid:
            by_life[sample.name, sample.pid].append(sample)
    found = []
    for (name, pid), life in sorted(by_life.items()):
        settled = [s.rss for s in life if s.at >= life[0].at + SETTLED_S]
        if life[-1].at - life[0].at >= LIFE_S and len(settled) >= ENOUGH:
            before = statistics.median(settled[: ENOUGH // 2])
            after = statistics.median(settled[-ENOUGH // 2 :])
            found.append(_compare(f"{name}/{pid}", "rss", before, after, _LIFE_ALLOWED))
    return found


class Course(NamedTuple):
    """A series over the whole run: medians of three of its tenths, and its slope in an hour.

    The first tenth is left out here, too: start is the second one.
    """

    name: str
    field: str
    start: float
    middle: float
    end: float
    per_hour: float

    def __str__(self) -> str:
        scale = MIB if self.field in ("rss", "bytes") else 1
        start, middle, end, slope = (value / scale for value in self[2:])
        return (
            f"{self.name:<12} {self.field:<8} {start:10.1f} {middle:10.1f} {end:10.1f} "
            f"{slope:+10.2f} an hour"
        )


def courses(samples: Iterable[Sample], length_s: float) -> list[Course]:
    """Of every series that was there from the start to the end."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        if length_s * 0.1 <= sample.at <= length_s:
            for field in FIELDS if sample.pid else ("bytes", "files"):
                series[sample.name, field].append((sample.at, getattr(sample, field)))
    found = []
    for (name, field), points in sorted(series.items()):
        tenths = [
            [value for at, value in points if begin <= at / length_s <= begin + 0.1]
            for begin in (0.1, 0.5, 0.9)
        ]
        if all(tenths) and len(points) >= 2 * ENOUGH:
            start, middle, end = (float(statistics.median(tenth)) for tenth in tenths)
            slope = statistics.linear_regression(*zip(*points, strict=True)).slope
            found.append(Course(name, field, start, middle, end, slope * 3600))
    return found


def _compare(name: str, field: str, before: float, after: float, allowed: Allowance) -> Growth:
    return Growth(name, field, before, after, after > before * (1 + allowed.share) + allowed.more)


def table(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """For the report: the most and the last of each series."""
    rows: dict[str, dict[str, Any]] = {}
    for sample in samples:
        row = rows.setdefault(sample.name, {"name": sample.name, "lives": set(), "cpu_s": {}})
        fields = FIELDS if sample.pid else ("bytes", "files")
        for field in fields:
            value = getattr(sample, field)
            row[f"max_{field}"] = max(value, row.get(f"max_{field}", 0))
            row[f"last_{field}"] = value
        if sample.pid:
            row["lives"].add(sample.pid)
            row["cpu_s"][sample.pid] = sample.cpu_s
    for row in rows.values():
        row["lives"] = len(row["lives"])
        row["cpu_s"] = round(sum(row["cpu_s"].values()), 1)
    return list(rows.values())
