"""File descriptors that are left alone for what a process cannot do without.

The system gives every new file or connection the lowest number that is free.  One whose number is
among the last RESERVED_DESCRIPTORS below the limit was given when all before it were in use:
clients are not taken in then, and files that are held open only for speed are closed.  What is
left is for syncs, the checkpoint, meta.json, the leader and yak-zk.

The limit is looked at each time: an operator may change it while the process runs.  It counts
nothing and closes nothing.
"""

from __future__ import annotations

import resource

from yak.config import RESERVED_DESCRIPTORS


def is_reserved(fd: int) -> bool:
    """Whether this one was taken from the last that there are."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of a tiny limit, a quarter: somebody must be let in.
    return limit != resource.RLIM_INFINITY and fd >= limit - min(RESERVED_DESCRIPTORS, limit // 4)
