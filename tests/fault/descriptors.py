"""File descriptors of a running process, taken away by connections that only hold them.

    with Crowd(pid, address, room=40):      a limit so far above what it has open now, and
        ...                                 more clients at its door than it can take

Its limit is lowered by prlimit, and is what it was after `close`; so are its connections.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from pathlib import Path
from typing import Final

from tests.support.wire import Address

#: Clients that come beyond those that the process has room for: they wait at its door.
BEYOND: Final = 40
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")


def open_count(pid: int) -> int:
    """Descriptors that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_s(pid: int) -> float:
    """Processor time that it has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


class Crowd:
    """Connections that say nothing, as many as the process may take, and some more."""

    def __init__(self, pid: int, address: Address, *, room: int) -> None:
        self.pid = pid
        self._limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self._sockets: list[socket.socket] = []
        #: What it may have open while the crowd is there.
        self.limit = min(open_count(pid) + room, self._limits[1])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (self.limit, self._limits[1]))
        try:
            for _ in range(room + BEYOND):
                self._sockets.append(socket.create_connection(address, timeout=5))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, seconds: float) -> float:
        """The share of one processor that the process uses for so long."""
        before, began = cpu_s(self.pid), time.monotonic()
        time.sleep(seconds)
        return (cpu_s(self.pid) - before) / (time.monotonic() - began)

    def close(self) -> None:
        """The crowd leaves, and the limit is what it was."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self._limits)
