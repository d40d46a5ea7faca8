"""How much memory this process takes up, for whoever asks how it is.

* What is said is at most FRESH_S old.  Reading it costs more than all else of a `status`: a hundred
  connections that asked for nothing else left each other, and every client, fewer than a hundred
  requests a second, so that whoever sent as many fell behind for as long as they went on.

It limits nothing: what may be held is counted where it is held (yak/config.py).
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

#: How old what is said may be.
FRESH_S: Final = 0.1
_STATM: Final = Path("/proc/self/statm")


class Memory:
    """As it was last read."""

    def __init__(self) -> None:
        self._bytes = 0
        self._fresh_until = float("-inf")

    def resident_bytes(self, now: float) -> int:
        """What is in memory now; 0 where the system does not tell.  now: monotonic."""
        if now >= self._fresh_until:
            self._bytes = _read()
            self._fresh_until = now + FRESH_S
        return self._bytes


def _read() -> int:
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()
