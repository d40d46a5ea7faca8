"""Sent and not acknowledged: one partition's batches on their way, and when to send them again.

    sequence   0      3      5      9          the producer's numbers in this partition
               [ A:3 ][ B:2 ][ C:4 ][ …        at most five batches, in the order of sending
                 ↑ first: nothing before it is missing in the log

Rules:

* A batch gets its sequence when it is first sent; each next one's is `sequence + count`, and
  after 2³¹−1 comes 0.  While one may be missing, nothing new is sent.
* **Go back and send again.**  The log takes no batch before the one in front of it.  So when one
  fails, wait until every request that is out was answered (or its connection ended), then send
  all that is not acknowledged once more, in order, with the same sequences: what the log has
  already, it answers as a duplicate.  Between two rounds lies a pause that doubles.
* A batch is *in doubt* when some request that carried it ended without a definite word.  The
  next definite word from a leader that knows the producer settles it.
* A batch refused for good, or expired while it was surely not in the log, leaves a hole: those
  behind it were refused for the hole, and take over its sequence.  If one of them was ever in
  doubt, an old copy with its old number may still be under way: then only a new producer id
  (`renew`) is safe.
* A batch that expires while in doubt is given up with its number.  Should the log lack it, the
  next one is refused although nothing stands before it, and that again asks for `renew`.
* The topic was deleted and made again: what the old one held is gone with it, so nothing is in
  doubt, and all goes out anew, numbered from 0 (`restart`).  Old requests that are still under
  way name the old topic's id, and are refused.
* UNKNOWN_PRODUCER: the log forgot what it had.  `renew` gives back what was in doubt: it may be
  in the log, and sending it under a new id could store it twice.  The rest goes out anew.

Times are seconds on a monotonic clock; chance (for the pause) is an argument in [0, 1).

It holds no bytes, sends nothing, and does not know what a batch is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from yak.model import BATCHES_REMEMBERED, SEQUENCE_SPAN

T = TypeVar("T")

#: The first pause before a batch is sent again, and the longest, in seconds.
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0


class Backoff:
    """Pauses that double, each shortened by chance to between a half and the whole of it.

    Invariant: first ≤ the unshortened pause ≤ most.
    """

    __slots__ = ("_first", "_most", "_next")

    def __init__(self, first: float = FIRST_PAUSE_S, most: float = LONGEST_PAUSE_S) -> None:
        assert 0 < first <= most
        self._first = first
        self._most = most
        self._next = first

    def pause(self, chance: float) -> float:
        """The next pause in seconds.  chance: in [0, 1)."""
        assert 0 <= chance < 1
        pause = self._next
        self._next = min(self._next * 2, self._most)
        return pause * (1 - chance / 2)

    def reset(self) -> None:
        """It worked: the next trouble begins with the first pause again."""
        self._next = self._first


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One batch on its way.

    sequence: of its first record.  count: of records.  deadline: when it is given up.
    attempts: how often it was sent.  out: a request that carries it has no answer yet.
    in_doubt: it may be in the log though nobody said so.  ordinal: its place among all ever sent.
    """

    item: T
    count: int
    sequence: int
    deadline: float
    ordinal: int
    attempts: int = 1
    out: bool = True
    in_doubt: bool = False


class InFlight(Generic[T]):
    """One partition's batches in flight, under one producer id.

    Invariants: at most `limit` entries; in the order of first sending; while there is no hole,
    the sequence of each is that of the one before plus its count.
    """

    def __init__(self, limit: int = BATCHES_REMEMBERED) -> None:
        assert limit >= 1
        self.limit = limit
        #: A new producer id is needed before anything can be sent: `renew`.
        self.must_renew = False
        self._entries: deque[Entry[T]] = deque()
        self._next_sequence = 0
        self._ordinal = 0
        #: Something failed: all is sent again at `_resume_at`, nothing new before.
        self._rewinding = False
        self._resume_at = 0.0
        self._backoff = Backoff()
        #: (ordinal, sequence) of the foremost batch that will never be in the log.
        self._hole: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries)

    @property
    def has_room(self) -> bool:
        """Whether `add` is allowed now."""
        return (
            len(self._entries) < self.limit
            and not self._rewinding
            and not self.must_renew
            and self._hole is None
        )

    @property
    def quiet(self) -> bool:
        """No request is out."""
        return not any(entry.out for entry in self._entries)

    def add(self, item: T, count: int, deadline: float) -> Entry[T]:
        """A new batch is sent now."""
        assert self.has_room
        assert 0 < count < SEQUENCE_SPAN
        self._ordinal += 1
        entry = Entry(item, count, self._next_sequence, deadline, self._ordinal)
        self._next_sequence = (self._next_sequence + count) % SEQUENCE_SPAN
        self._entries.append(entry)
        return entry

    # -- what became of a request -----------------------------------------------------------------

    def acknowledged(self, entry: Entry[T]) -> bool:
        """It is in the log.  False: late news of a batch that was given up before."""
        if not self._remove(entry):
            return False
        self._backoff.reset()
        self._mend()
        return True

    def failed(self, entry: Entry[T], now: float, chance: float, *, in_doubt: bool) -> bool:
        """The request did not succeed and the batch is to be sent again.

        in_doubt: nothing definite was said.  False: late news, as in `acknowledged`.
        """
        if entry not in self._entries:
            return False
        entry.out = False
        entry.in_doubt = entry.in_doubt or in_doubt
        if not self._rewinding:
            self._rewinding = True
            self._resume_at = now + self._backoff.pause(chance)
        self._mend()
        return True

    def out_of_order(self, entry: Entry[T], now: float, chance: float) -> bool:
        """OUT_OF_ORDER_SEQUENCE: a leader that knows the producer lacks what stands before it.

        So the batch, and whatever comes after it, is not in the log.
        """
        if entry not in self._entries:
            return False
        first = self._entries[0] is entry
        hole_before = self._hole is not None and self._hole[0] < entry.ordinal
        if first and not hole_before:
            # Nothing of ours stands before it: the log lacks a batch that was given up.
            self.must_renew = True
            for other in self._entries:
                other.in_doubt = False
        return self.failed(entry, now, chance, in_doubt=False)

    def forgotten(self, entry: Entry[T], now: float, chance: float) -> bool:
        """UNKNOWN_PRODUCER: the log no longer knows this producer id."""
        if entry not in self._entries:
            return False
        self.must_renew = True
        return self.failed(entry, now, chance, in_doubt=False)

    def rejected(self, entry: Entry[T]) -> bool:
        """The log refuses this batch for good; those behind it take over its sequence."""
        if not self._remove(entry):
            return False
        self._dig(entry)
        self._mend()
        return True

    # -- what time brings -------------------------------------------------------------------------

    def expired(self, now: float) -> list[Entry[T]]:
        """Give up what has passed its deadline, in order."""
        late = [entry for entry in self._entries if entry.deadline <= now]
        for entry in late:
            self._remove(entry)
            if not entry.out and not entry.in_doubt:
                self._dig(entry)
        if late:
            self._mend()
        return late

    def due(self, now: float) -> list[Entry[T]]:
        """What is to be sent again now, in order; it counts as sent."""
        if not self._rewinding or self.must_renew or not self.quiet or now < self._resume_at:
            return []
        assert self._hole is None, "mended as soon as all is quiet"
        self._rewinding = False
        for entry in self._entries:
            entry.out = True
            entry.attempts += 1
        return list(self._entries)

    def next_at(self) -> float | None:
        """When `due` or `expired` will have something to say; None: only after more news."""
        if not self._entries:
            return None
        deadline = min(entry.deadline for entry in self._entries)
        if self._rewinding and self.quiet and not self.must_renew:
            return min(deadline, self._resume_at)
        return deadline

    def renew(self) -> list[Entry[T]]:
        """A new producer id: sequences begin at 0.  Returns what is given up, being in doubt."""
        assert self.quiet, "an answer under the old id may still come"
        given_up = [entry for entry in self._entries if entry.in_doubt]
        self._entries = deque(entry for entry in self._entries if not entry.in_doubt)
        self.must_renew = False
        self._rewinding = self._rewinding and bool(self._entries)
        self._hole = None
        self._number_from(0)
        return given_up

    def restart(self, now: float) -> None:
        """Another topic has this partition's name: sequences begin at 0, and all is sent again."""
        assert self.quiet, "an answer about the old topic may still come"
        for entry in self._entries:
            entry.in_doubt = False
        self.must_renew = False
        self._rewinding = bool(self._entries)
        self._resume_at = now
        self._hole = None
        self._backoff.reset()
        self._number_from(0)

    # -- inside -----------------------------------------------------------------------------------

    def _remove(self, entry: Entry[T]) -> bool:
        if entry not in self._entries:
            return False
        self._entries.remove(entry)
        if not self._entries:
            self._rewinding = False
        return True

    def _dig(self, entry: Entry[T]) -> None:
        if entry.in_doubt or any(o.in_doubt and o.ordinal > entry.ordinal for o in self._entries):
            self.must_renew = True
        if self._hole is None or entry.ordinal < self._hole[0]:
            self._hole = (entry.ordinal, entry.sequence)

    def _mend(self) -> None:
        """Once nothing is out, close the hole: those behind it move up."""
        if self._hole is None or not self.quiet:
            return
        ordinal, sequence = self._hole
        behind = [entry for entry in self._entries if entry.ordinal > ordinal]
        if any(entry.in_doubt for entry in behind):
            self.must_renew = True
        for entry in behind:
            entry.in_doubt = False  # not in the log: what stood before them never was
        self._hole = None
        before = [entry for entry in self._entries if entry.ordinal < ordinal]
        self._number_from(before[0].sequence if before else sequence)

    def _number_from(self, sequence: int) -> None:
        for entry in self._entries:
            entry.sequence = sequence
            sequence = (sequence + entry.count) % SEQUENCE_SPAN
        self._next_sequence = sequence
