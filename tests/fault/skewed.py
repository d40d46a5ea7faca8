"""Runs one of the project's commands by a wall clock that is off: `skewed.py FILE COMMAND ...`.

FILE says by how many seconds (clocks.py writes it); it is read again at each look at the clock,
so that the clock of a running process jumps as soon as the file changes.  The monotonic clock is
the machine's own, as it is when an administrator sets the time.

It is started as a program, before anything of yak is imported, and is no module of the tests.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import entry_points

_NS = 1_000_000_000


def main() -> None:
    file, command = sys.argv[1:3]
    # Held open: the clock must not depend on a free descriptor.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    true_ns = time.time_ns

    def off_ns() -> int:
        return int(float(os.pread(fd, 64, 0)) * _NS)

    def time_ns() -> int:
        return true_ns() + off_ns()

    time.time_ns = time_ns
    time.time = lambda: time_ns() / _NS
    name = command.rpartition("/")[2]
    (entry,) = entry_points(group="console_scripts", name=name)
    sys.argv = sys.argv[2:]
    sys.exit(entry.load()())


main()
