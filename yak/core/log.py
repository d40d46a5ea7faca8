"""What the core knows of its own log: its ends, its epochs, and the operations to apply.

The bytes are the storage's.  The core counts: the next index, which epoch began where, how far
the disk has it, and the decoded operations that are not applied yet (`recent`), so that they
are decoded once.  After a restart the log is long and `recent` is empty: those are loaded back
as they prove committed.

Rule `truncate_deep`: two logs agree up to the end of the last epoch that both have *from the
same first index*; within that epoch up to the shorter one's end.  One leader wrote each epoch,
so equal (epoch, first index) means equal operations.  The epochs are kept from the first one on,
also where the operations themselves are no longer in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from yak.core.ops import Op


class Log:
    """first: of the oldest operation that the log still has (`next` in an empty one).

    next: the index of the operation to come.  durable: the last index that is on disk.
    """

    def __init__(
        self, epochs: Sequence[tuple[int, int]], next_: int, time: int, first: int = 1
    ) -> None:
        assert 1 <= first <= next_
        self.first = first
        self.next = next_
        #: What was recovered has been synced before the core hears of it.
        self.durable = next_ - 1
        #: The time of the last operation, in ms; the next one's is not below.
        self.time = time
        #: (epoch, its first index), ascending in both.
        self.epochs: list[tuple[int, int]] = list(epochs)
        #: Operations not applied yet.  Invariant: consecutive, and the last one is next - 1.
        self.recent: deque[Op] = deque()

    @property
    def end(self) -> tuple[int, int]:
        """(epoch, index) of the last operation, (0, 0) if there is none."""
        return (self.epochs[-1][0], self.next - 1) if self.epochs else (0, 0)

    def append(self, op: Op) -> None:
        assert op.index == self.next, f"operation {op.index} at the log's end {self.next}"
        last = self.epochs[-1][0] if self.epochs else 0
        assert op.epoch >= last, f"epoch {op.epoch} after {last}"
        if op.epoch > last:
            self.epochs.append((op.epoch, op.index))
        self.next = op.index + 1
        self.time = max(self.time, op.time)
        self.recent.append(op)

    def truncate(self, next_: int) -> None:
        """Forget everything from `next_` on."""
        assert self.first <= next_ <= self.next
        self.next = next_
        self.durable = min(self.durable, next_ - 1)
        while self.epochs and self.epochs[-1][1] >= next_:
            self.epochs.pop()
        while self.recent and self.recent[-1].index >= next_:
            self.recent.pop()

    def common_prefix(self, epochs: Sequence[tuple[int, int]], next_: int) -> int:
        """The next index that this log and one with these epochs and end share."""
        common = 1
        for k, (mine, theirs) in enumerate(zip(self.epochs, epochs, strict=False)):
            if mine != theirs:
                break
            my_end = self.epochs[k + 1][1] if k + 1 < len(self.epochs) else self.next
            their_end = epochs[k + 1][1] if k + 1 < len(epochs) else next_
            common = min(my_end, their_end)
            if my_end != their_end:
                break
        return common
