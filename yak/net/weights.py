"""What requests take of memory until they are answered, of one connection and of all.

They share max_inflight_bytes.  Half of it is for all alike, so much for each connection that there
may be: who wants little gets it, whatever others do.  The other half is for whoever comes first.

What a request takes is guessed from its header: a fetch of 20,000 partitions has 18 bytes for
each, and takes 560.  What is kept for a client beyond its requests (`keep`) counts as well.
"""

from __future__ import annotations

from typing import Final

from yak import messages as m
from yak.config import KIB, MIB, Limits
from yak.protocol import MAX_HEADER_VALUES

#: Itself and who waits for it; and for each byte by which its header is not small.
REQUEST_BYTES: Final = 1 * KIB
SMALL_HEADER: Final = 256
BYTES_PER_HEADER_BYTE: Final = 32
#: As many values as a header may hold take no more than this beside their bytes.
MOST_VALUES_BYTES: Final = 200 * MAX_HEADER_VALUES
#: A request that weighs more is refused, where there is no room, before it is looked into.
HEAVY_BYTES: Final = 2 * MIB


def weight_of(header_bytes: int) -> int:
    more = max(header_bytes - SMALL_HEADER, 0)
    return REQUEST_BYTES + min(BYTES_PER_HEADER_BYTE * more, 2 * more + MOST_VALUES_BYTES)


class Room:
    """What all connections share.  Invariant: bytes is the sum over their Weights."""

    def __init__(self, limits: Limits) -> None:
        self.bytes = 0
        self.shared = limits.max_inflight_bytes // 2
        self.own = self.shared // limits.max_connections


class Weights:
    """One connection's."""

    __slots__ = ("_by_id", "_kept", "_room", "bytes")

    def __init__(self, room: Room) -> None:
        #: Of all its requests, and what is kept.
        self.bytes = 0
        self._room = room
        #: By the request's id; of several with one id, which a client may do, the least last.
        #: Plain numbers, as long as they are: a list for each is one more object to look through.
        self._by_id: dict[m.RequestId, int | list[int]] = {}
        self._kept = 0

    def fits(self, weight: int) -> bool:
        """Whether there is room for one more request."""
        room = self._room
        return room.bytes + weight <= room.shared or self.bytes + weight <= room.own

    def add(self, id_: m.RequestId, weight: int) -> None:
        """A request waits for its answer."""
        self._count(weight)
        known = self._by_id.get(id_)
        if known is None:
            self._by_id[id_] = weight
        elif isinstance(known, int):
            self._by_id[id_] = [max(known, weight), min(known, weight)]
        else:
            known.append(weight)
            known.sort(reverse=True)

    def remove(self, id_: m.RequestId) -> None:
        """It is answered, if it was counted; of several with that id, the least."""
        known = self._by_id.get(id_)
        if known is None:
            return
        if isinstance(known, int):
            self._count(-known)
            del self._by_id[id_]
        else:
            self._count(-known.pop())
            if not known:
                del self._by_id[id_]

    def keep(self, size: int) -> None:
        """Count what is kept beyond requests, in place of what was before."""
        self._count(size - self._kept)
        self._kept = size

    def clear(self) -> None:
        """The connection is gone, and all that waited."""
        self._count(-self.bytes)
        self._by_id.clear()
        self._kept = 0

    def _count(self, change: int) -> None:
        self.bytes += change
        self._room.bytes += change
