"""A producer's sequences in one partition: is this batch new, known, or out of order?

Sequences count records from 0 to 2**31 - 1 and begin again at 0, so "before" and "after" are
halves of a circle.  The last five batches are remembered; as many may be in flight.

    remembered (sequence, count): (4, 2) (6, 1) (7, 3) (10, 2) (12, 2)      expected: 14

    asked    | verdict
    ---------+-----------------------------------------------------------------
    14       | new
    7, of 3  | known: that batch
    7, of 2  | refused: the same sequence with another count
    8        | refused: it lies inside a batch
    2        | forgotten: it was stored, but where is no longer known
    15       | refused: a gap (rule `seq_gap`)

It does not know partitions, nor whether what is remembered is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from yak.core.state import Batch
from yak.errors import Refused
from yak.model import BATCHES_REMEMBERED, SEQUENCE_SPAN

#: Further back than half the circle is ahead.
_HALF: Final = SEQUENCE_SPAN // 2


class Forgotten:
    """A batch that was stored before the remembered ones."""


FORGOTTEN: Final = Forgotten()


def find(batches: Sequence[Batch], sequence: int, count: int) -> Batch | Forgotten | None:
    """The batch that `sequence` repeats; None if it is the next one.  Raises Refused."""
    last = batches[-1] if batches else None
    expected = (last.sequence + last.count) % SEQUENCE_SPAN if last else 0
    if sequence == expected:
        return None
    for batch in batches:
        if batch.sequence == sequence:
            if batch.count == count:
                return batch
            raise Refused(
                "INVALID_REQUEST",
                f"`count` is {count}, but the batch of sequence {sequence} had {batch.count}",
            )
    behind = (expected - sequence) % SEQUENCE_SPAN
    if behind <= sum(batch.count for batch in batches):
        raise Refused(
            "INVALID_REQUEST",
            f"`sequence` {sequence} lies inside a batch that began elsewhere",
        )
    # With fewer remembered, the first one of all is among them: nothing came before it.
    if behind <= _HALF and len(batches) == BATCHES_REMEMBERED:
        return FORGOTTEN
    raise Refused(
        "OUT_OF_ORDER_SEQUENCE",
        f"sequence {sequence} leaves a gap in this producer's batches; expected {expected}",
        expected=expected,
    )
