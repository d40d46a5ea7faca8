"""The log's most recent operations in memory: what followers and partition files want next.

Entries are (line, body) by index, without a gap, up to the log's end.  Those at the front are
forgotten once there are more bytes than the limit; whoever wants them then reads the file.

    Invariant: first + the number of entries = the log's next index.
    Invariant: bytes <= max_bytes, but for a single larger entry.
"""

from __future__ import annotations

from typing import Final

from yak.storage.disk import Buffer

#: Enough for followers a few seconds behind; small beside the 150 MB of a whole cluster.
MAX_TAIL_BYTES: Final = 32 * 1024 * 1024
#: What an entry costs beside its bytes: a tuple and two objects' heads.
ENTRY_OVERHEAD_BYTES: Final = 200


class Tail:
    """See the module.

    first: index of the first entry that is held, or the next index where none is.
    _gone: entries at the list's beginning that are forgotten, but not yet removed.
    """

    def __init__(self, next_index: int, max_bytes: int = MAX_TAIL_BYTES) -> None:
        self.first = next_index
        self._max_bytes = max_bytes
        self._entries: list[tuple[bytes, Buffer]] = []
        self._gone = 0
        self._bytes = 0

    @property
    def next_index(self) -> int:
        return self.first + len(self._entries) - self._gone

    def add(self, line: bytes, body: Buffer) -> None:
        self._entries.append((line, body))
        self._bytes += len(line) + len(body) + ENTRY_OVERHEAD_BYTES
        if self._bytes > self._max_bytes:
            self._forget()

    def get(self, index: int) -> tuple[bytes, Buffer] | None:
        """The entry, or None where it is no longer held."""
        if index < self.first:
            return None
        return self._entries[self._gone + index - self.first]

    def take(self, first: int, last: int, max_bytes: int) -> tuple[int, list[Buffer]]:
        """As many entries as fit, at least one; `first` must be held."""
        assert self.first <= first <= last < self.next_index, (self.first, first, last)
        start = self._gone + first - self.first
        buffers: list[Buffer] = []
        count = 0
        for position in range(start, start + last - first + 1):
            line, body = self._entries[position]
            max_bytes -= len(line) + len(body)
            if max_bytes < 0 and count:
                break
            buffers.append(line)
            if body:
                buffers.append(body)
            count += 1
        return count, buffers

    def cut(self, next_index: int) -> None:
        """Forget the entries from `next_index` on."""
        start = max(self._gone + next_index - self.first, self._gone)
        for line, body in self._entries[start:]:
            self._bytes -= len(line) + len(body) + ENTRY_OVERHEAD_BYTES
        del self._entries[start:]
        self.first = min(self.first, next_index)

    def forget(self, first: int) -> None:
        """Let go of what is before `first`: the log does not have it any more."""
        while self.first < min(first, self.next_index):
            self._drop()
        self._tidy()

    def _forget(self) -> None:
        while self._bytes > self._max_bytes and self._gone < len(self._entries) - 1:
            self._drop()
        self._tidy()

    def _drop(self) -> None:
        """The first entry goes."""
        line, body = self._entries[self._gone]
        self._entries[self._gone] = (b"", b"")  # lets go of the bytes at once
        self._bytes -= len(line) + len(body) + ENTRY_OVERHEAD_BYTES
        self._gone += 1
        self.first += 1

    def _tidy(self) -> None:
        if self._gone > len(self._entries) // 2:  # removing is a copy: rarely, and half at once
            del self._entries[: self._gone]
            self._gone = 0
