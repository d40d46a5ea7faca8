"""Processes that somebody else started: whether a pid is still the one that was meant, and its end.

* Pids come again.  A process is known by its pid and by what it was `born` with: on Linux the
  boot's id and the tick at which it began, elsewhere what `ps` says.  One that has ended and that
  its parent has not looked at is gone, too.
* It is asked to end (SIGTERM), and killed after a grace.

Whose children they are does not matter; what became of them only their parent learns.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from yak.config import BOOT_ID_PATH

#: Where the kernel does not tell of an end, it is looked for this often, in seconds.
_LOOK_EVERY_S: Final = 0.02
#: `ps` answers at once, or is stuck.
_PS_S: Final = 5.0
#: After SIGKILL only the kernel has something left to do.
_KILLED_S: Final = 5.0


class Pid(NamedTuple):
    """One process."""

    pid: int
    born: str

    @property
    def alive(self) -> bool:
        return self.born != "" and born(self.pid) == self.born


def born(pid: int) -> str:
    """What tells this process from any other one of that pid; "" where there is none."""
    if sys.platform == "linux":
        try:
            # The name, in brackets, may hold anything; after it come the state and 19 numbers.
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path(BOOT_ID_PATH).read_text(encoding="ascii").strip()
        except OSError:
            return ""
        return "" if words[0] in "ZX" else f"{boot[:8]}-{words[19]}"
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(  # noqa: S603 -- no word of it is anybody else's
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 -- the system's own
            capture_output=True,
            text=True,
            timeout=_PS_S,
            check=False,
        )
        state, _, began = said.stdout.strip().partition(" ")
        return "" if state.startswith("Z") else began.strip()
    return ""


def stopped(pid: int) -> bool:
    """Whether it was sent SIGSTOP, and no SIGCONT since."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(  # noqa: S603 -- no word of it is anybody else's
            ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607 -- the system's own
            capture_output=True,
            text=True,
            timeout=_PS_S,
            check=False,
        )
        return said.stdout.startswith("T")
    return False


def end(processes: Sequence[Pid], grace_s: float) -> list[Pid]:
    """Ask them all to end, and wait; returns those that had to be killed."""
    return _await_ends(processes, signal.SIGTERM, grace_s)


def kill(processes: Sequence[Pid]) -> None:
    """kill -9, and they are gone."""
    _await_ends(processes, signal.SIGKILL, _KILLED_S)


def _await_ends(processes: Sequence[Pid], number: int, grace_s: float) -> list[Pid]:
    there = [one for one in processes if one.alive]
    for one in there:
        with suppress(ProcessLookupError):
            os.kill(one.pid, number)
            os.kill(one.pid, signal.SIGCONT)  # a stopped one would never hear of it
    deadline = time.monotonic() + grace_s
    late = [one for one in there if not _ends(one, deadline)]
    if late and number != signal.SIGKILL:
        kill(late)
    return late


def _ends(process: Pid, deadline: float) -> bool:
    """Wait until it has ended, or until then."""
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # another system, or gone
        while process.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True
    try:
        if not process.alive:
            return True
        left_ms = max(0, int((deadline - time.monotonic()) * 1000))
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(left_ms))
    finally:
        os.close(fd)
