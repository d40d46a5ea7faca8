"""The small nouns that everybody shares.  No behaviour beyond their own form."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

#: The largest integer on the wire: what a double, and so every JSON library, holds exactly.
MAX_INT: Final = 2**53 - 1

#: Sequences count 0 … 2**31-1 and then begin again at 0.
SEQUENCE_SPAN: Final = 2**31

#: Batches that are remembered, and may be in flight, per producer and partition.
BATCHES_REMEMBERED: Final = 5

#: A topic and the number of one of its partitions.
TopicPartition: TypeAlias = tuple[str, int]

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def is_topic_name(name: str) -> bool:
    """1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`: also a safe directory name."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


class Address(NamedTuple):
    """Where a process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Now(NamedTuple):
    """The two clocks, handed to the core with every event.

    mono: seconds on a monotonic clock; every time-out is measured on it.
    wall_ms: milliseconds since 1970; only ever written into operations.
    """

    mono: float
    wall_ms: int
