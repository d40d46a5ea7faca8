"""What a broker's core counts for whoever measures it; no decision depends on it.

They count from the process's start, through any number of roles.  Nothing here is in the log.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """duplicates: batches that came again and were in the log already.

    redelivered: records that a member had been handed and not acknowledged when it let their
    partition go, or was gone: they are delivered again.  As far as a leader had been told.
    """

    duplicates: int = 0
    redelivered: int = 0
