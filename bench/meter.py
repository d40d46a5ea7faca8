"""CPU seconds and memory of processes, and how busy the machine was with other things.

From /proc alone.  A machine is called quiet only if other processes took less than QUIET_CORES
meanwhile, of all its cores.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUIET_CORES: Final = 0.1
#: What a benchmark touches before it begins, if so much is free.
WARM_BYTES: Final = 8 << 30
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """seconds: on the wall.  others_cores: taken by processes that are not ours."""

    seconds: float
    servers_cpu: float
    clients_cpu: float
    others_cores: float

    @property
    def quiet(self) -> bool:
        return self.others_cores < QUIET_CORES


class Meter:
    """From its making on."""

    def __init__(self, servers: Iterable[int]) -> None:
        self._servers = list(servers)
        self._busy = machine_seconds()
        self._cpu = sum(map(cpu_seconds, self._servers))
        self._own = _own_seconds()
        self._wall = time.monotonic()

    def stop(self, clients_cpu: float) -> Usage:
        seconds = time.monotonic() - self._wall
        servers = sum(map(cpu_seconds, self._servers)) - self._cpu
        busy = machine_seconds() - self._busy
        own = _own_seconds() - self._own  # this process, and the clients that it waited for
        others = max(0.0, busy - servers - own) / seconds
        return Usage(seconds, servers, clients_cpu, others)


def warm_memory(size: int) -> None:
    """Touch free memory once: a virtual machine is given a page when it first uses it.

    That takes several times as long as copying it full (here 5 s for a GB), and whoever writes
    files first would pay for all that come after.
    """
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    size = min(size, int(lines["MemAvailable"].split()[0]) * 1024 // 2)
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1


def cpu_seconds(pid: int) -> float:
    """All threads, user and system; 0 of a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mib(pid: int) -> float:
    """Resident, in MiB: a page that several processes share counts for each."""
    return _memory(f"/proc/{pid}/status", "VmRSS:")


def memory_share_mib(pid: int) -> float:
    """Proportional, in MiB: a shared page counts once, over all that share it."""
    return _memory(f"/proc/{pid}/smaps_rollup", "Pss:")


def _memory(path: str, name: str) -> float:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def machine_seconds() -> float:
    """What all cores did since the start: all but idle, waiting, and what others' machines took."""
    user, nice, system, _idle, _wait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
