"""Wall clocks that jump while a process runs.

    clock = Clock(tmp_path / "clock-1")
    [*clock.before, "yak-broker", ...]          a command by this clock
    clock.set(-7200)                            it is two hours slow from now on

A jump is one write of one length, so that no process reads half of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.cluster import Cluster
from tests.support.process import Process

_LAUNCHER: Final = Path(__file__).with_name("skewed.py")


class Clock:
    """How far one process's wall clock is off, in a file that it looks at."""

    def __init__(self, path: Path) -> None:
        """Right, or as far off as its file says that it is."""
        self.path = path
        if not path.exists():
            path.write_text(_text(0.0))

    def set(self, off_s: float) -> None:
        with self.path.open("r+") as file:
            file.write(_text(off_s))

    @property
    def off_s(self) -> float:
        return float(self.path.read_text())

    @property
    def before(self) -> list[str]:
        """What comes before a command that is to go by this clock."""
        return [sys.executable, "-P", str(_LAUNCHER), str(self.path)]


def _text(off_s: float) -> str:
    return f"{off_s:+024.6f}\n"


class ClockedCluster(Cluster):
    """Each of its processes goes by a clock of its own; yak-zk's is 0."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.clocks = {n: Clock(directory / f"clock-{n}") for n in (0, *self.ids)}

    def spawn(self, name: str, argv: Sequence[str], **options: Any) -> Process:
        if argv[0] == "yak-zk":
            argv = [*self.clocks[0].before, *argv]
        elif argv[0] == "yak-broker":
            argv = [*self.clocks[int(name.rpartition("-")[2])].before, *argv]
        return super().spawn(name, argv, **options)
