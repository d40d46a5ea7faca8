"""Which partition a record goes to: by its key as Kafka does it, or sticky where it has none.

* A key's partition is `(murmur2(key bytes) & 0x7fffffff) % partitions`: 32-bit murmur2 with
  Kafka's seed, so that a key is where any Kafka client would put it.  Never `hash()`, which
  differs from one process to the next.
* A key's bytes are the UTF-8 of a string; bytes are themselves.
* Records without a key stay with one partition until its batch is full, then move on to the
  next: few large batches instead of many small ones.  Each topic starts where chance (the
  caller's) says, so that many producers do not all begin with partition 0.

It holds no records and does not know which batch is full: the producer tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

#: Kafka's seed and murmur2's two constants.
_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_R: Final = 24
_MASK: Final = 0xFFFFFFFF

#: Hashes of recent keys that are remembered; most topics have fewer keys than this.
KEYS_REMEMBERED: Final = 65_536

#: (key's bytes, number of partitions) -> partition
Partitioner: TypeAlias = Callable[[bytes, int], int]


@lru_cache(maxsize=KEYS_REMEMBERED)
def murmur2(data: bytes) -> int:
    """32-bit murmur2 with Kafka's seed, unsigned.  Source: Austin Appleby's MurmurHash2."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> _R)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class Sticky:
    """The partition of a topic's records without a key.

    partition: where they go until `move_on`.
    """

    __slots__ = ("partition",)

    def __init__(self, first: int) -> None:
        assert first >= 0
        self.partition = first

    def move_on(self, partitions: int, left: int) -> None:
        """The batch in partition `left` is full; a late word about another one is ignored."""
        if self.partition == left:
            self.partition = (left + 1) % partitions
