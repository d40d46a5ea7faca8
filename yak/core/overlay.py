"""A mapping laid over another: reads fall through, writes stay on top until they settle.

The leader decides on State plus Pending, its uncommitted tail.  Pending is the same State with
the same `apply`, whose mappings are overlays over the committed ones.  When the operations that
wrote an entry have been applied below too, the entry *settles*: it is dropped from the top,
since the base now holds the same value.  So the top holds only what is uncommitted.

Values must be immutable (or never changed in place), since both layers may share them.  The base
changes by what was written here first, and by nothing else, while an overlay lies on it.

It does not know what an operation is: it asks its `clock` for the index of the one that writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Stands in the top for an entry that is deleted while the base still has it.
_GONE: Final[Any] = object()


class Clock(Protocol):
    """index: of the operation that writes now."""

    index: int


class Overlay(MutableMapping[K, V]):
    """Reads through to `base`; keeps its own writes until `settle`."""

    __slots__ = ("_base", "_clock", "_last", "_length", "_top", "_writes")

    def __init__(self, base: Mapping[K, V], clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._top: dict[Any, V] = {}
        #: Index of the last write of each entry of _top.
        self._last: dict[Any, int] = {}
        #: (index, key) of every write, ascending.  Invariant: every key of _top stands here.
        self._writes: deque[tuple[int, K]] = deque()
        #: Of both layers as one: only a write changes it, since the base follows what is written.
        self._length = len(base)

    def __getitem__(self, key: K) -> V:
        if key not in self._top:
            return self._base[key]
        value = self._top[key]
        if value is _GONE:
            raise KeyError(key)
        return value

    def get(self, key: K, default: Any = None) -> Any:
        """As dict's; written out because it is on the road of every produced batch."""
        if key not in self._top:
            return self._base.get(key, default)
        value = self._top[key]
        return default if value is _GONE else value

    def __contains__(self, key: object) -> bool:
        if key not in self._top:
            return key in self._base
        return self._top[key] is not _GONE

    def __setitem__(self, key: K, value: V) -> None:
        index = self._clock.index
        assert not self._writes or self._writes[-1][0] <= index
        self._length += (value is not _GONE) - (key in self)
        self._top[key] = value
        self._last[key] = index
        self._writes.append((index, key))

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self[key] = _GONE

    def __iter__(self) -> Iterator[K]:
        for key, value in self._top.items():
            if value is not _GONE:
                yield key
        for key in self._base:
            if key not in self._top:
                yield key

    def __len__(self) -> int:
        """Kept, not counted: limits are looked up at each request, over a million entries."""
        return self._length

    def settle(self, index: int) -> None:
        """Operations up to `index` have been applied to the base as well."""
        writes = self._writes
        while writes and writes[0][0] <= index:
            _, key = writes.popleft()
            if self._last.get(key, index + 1) <= index:
                del self._top[key], self._last[key]

    @property
    def unsettled(self) -> int:
        """How many entries the top holds."""
        return len(self._top)
