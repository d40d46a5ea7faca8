"""Many records at once, cut into pieces that each fit into a batch.

* Records with keys are sorted by partition first; within a partition they keep their order.
* A piece is encoded whole.  How many records it takes is estimated from the size of those
  before; one that comes out too large is cut smaller and encoded again, which is rare.

It neither queues nor sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from yak.core.records import Key, encode_pairs, encode_values
from yak.model import Headers

#: Records that are encoded first, to learn how large they are.
_FIRST: Final = 256
#: How much of a batch an estimate fills: sizes differ a little.
_FILL: Final = 0.97


class Piece(NamedTuple):
    """partition: None where the batches decide.  places: whose records they are, in the input."""

    partition: int | None
    lines: bytes
    places: Sequence[int]


class Many(NamedTuple):
    """What `send_many` was given.  keys: one for each value; None: `key` for all."""

    values: Sequence[Any]
    key: Key = None
    keys: Sequence[Key] | None = None
    headers: Headers | None = None
    partition: int | None = None


def cut(
    many: Many, partition_of: Callable[[str | bytes], int], batch_bytes: int, batch_records: int
) -> Iterator[Piece]:
    """Encode everything, piece by piece.  Raises YakError INVALID_RECORD, ValueError."""
    size = partial(_sized, batch_bytes=batch_bytes, batch_records=batch_records)
    values, key, keys, headers, partition = many
    everything = range(len(values))
    if keys is None:
        if partition is None and key is not None:
            partition = partition_of(key)
        if key is None and headers is None:
            return size(partition, everything, lambda at: encode_values(_of(values, at)))
        keys = [key] * len(values)
    elif len(keys) != len(values):
        raise ValueError(f"{len(values)} values and {len(keys)} keys")
    given = keys

    def encode(at: Sequence[int]) -> bytes:
        return encode_pairs(_of(given, at), _of(values, at), headers)

    if partition is not None or many.keys is None:
        return size(partition, everything, encode)
    places: dict[int | None, list[int]] = {}
    for place, one in enumerate(given):
        places.setdefault(None if one is None else partition_of(one), []).append(place)
    return (piece for number, some in places.items() for piece in size(number, some, encode))


def _sized(
    partition: int | None,
    places: Sequence[int],
    encode: Callable[[Sequence[int]], bytes],
    *,
    batch_bytes: int,
    batch_records: int,
) -> Iterator[Piece]:
    at, step = 0, min(_FIRST, batch_records)
    while at < len(places):
        some = places[at : at + step]
        lines = encode(some)
        if len(lines) > batch_bytes and len(some) > 1:
            step = max(1, min(len(some) - 1, int(_FILL * batch_bytes * len(some) / len(lines))))
            continue
        yield Piece(partition, lines, some)
        at += len(some)
        step = max(1, min(batch_records, int(_FILL * batch_bytes * len(some) / len(lines))))


def _of(items: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    if isinstance(places, range):
        return items[places.start : places.stop]
    return [items[place] for place in places]
