"""Whether anything valid follows a fault in the log: the difference between torn and damaged.

*Something valid* is a line that reads as an operation from the damaged one's index on, and that
proves itself: its sum follows from a line before it, or the body behind it has the crc that it
states.  It may begin anywhere, since the damage may have eaten the newline before it.

It does not read files, nor decide what the difference means.
"""

from __future__ import annotations

import re
from typing import Final

from yak.core import ops
from yak.core.ops import BrokenLine

#: From how many of the sums stated last an operation may follow to be proved: records may hold
#: what looks like a sum, too.
STATED_SUMS: Final = 16

#: Where an operation begins, and where a line states its sum.
_LANDMARK: Final = re.compile(rb'\{"index":\d+,"epoch":\d+,"time":\d+,"op":|"sum":"([0-9a-f]{8})"')


def find_valid(data: bytes, sums: tuple[str, ...], index: int, own: int) -> tuple[int, int] | None:
    """Position and index of the first operation in `data` that proves itself.

    own: position of the damaged line, which is no proof of anything.
    """
    stated: tuple[str, ...] = ()
    for landmark in _LANDMARK.finditer(data):
        if landmark[1] is not None:
            stated = (*stated[1 - STATED_SUMS :], landmark[1].decode())
        elif landmark.start() != own:
            found = _proved(data, landmark.start(), sums + stated)
            if found is not None and found >= index:
                return landmark.start(), found
    return None


def _proved(data: bytes, start: int, sums: tuple[str, ...]) -> int | None:
    """The index of the operation that begins here, if it reads as one and proves itself."""
    end = data.find(b"\n", start) + 1
    line = data[start:end]
    try:
        op = ops.decode(line)
    except BrokenLine:
        return None
    if isinstance(op, ops.Append) and op.size:
        body = data[end : end + op.size]
        if len(body) == op.size and ops.crc_of(body) == op.crc:
            return op.index
    for previous in sums:
        try:
            ops.check_sum(line, previous)
        except BrokenLine:
            continue
        return op.index
    return None
