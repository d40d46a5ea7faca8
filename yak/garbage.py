"""Full garbage collections that do not look through everything that a process keeps.

Python looks through all objects each time a quarter more have been made: with a hundred thousand
topics that is a fifth of a second, in which nobody is answered.

* What a full collection has found alive is set aside (`gc.freeze`): the next one looks at what
  was made since then.
* What may wait by the hundred thousand (requests, and who waits for their answers) is not looked
  at: structs with `gc=False`, which are never part of a cycle, tuples and numbers.
* Cycles that die when they have been set aside are not found.  So where twice as much is set aside
  as at the last look through everything, and LEAST more, everything is looked through again: as
  often as what is kept doubles, and never while it stays as large as it is.
"""

from __future__ import annotations

import gc
from typing import Any, Final

#: Objects that are looked through within ten milliseconds or so.
LEAST: Final = 100_000


class Garbage:
    """Of this process, from `look_through` to `close`."""

    def __init__(self) -> None:
        #: Objects set aside: those that have gone since then are counted, too, until it matters.
        self._aside = 0
        #: As many as there were at the last look through everything.
        self._base = 0
        self._through = False

    def look_through(self) -> None:
        """Look through everything now, as in a process that has just begun."""
        if self._collected not in gc.callbacks:
            gc.callbacks.append(self._collected)
        self._take_back()
        gc.collect()

    def close(self) -> None:
        """Python's own ways again."""
        gc.callbacks.remove(self._collected)
        gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Python calls this before and after each collection."""
        if info["generation"] < 2:
            return
        if phase == "start":
            if self._aside > self._enough:
                self._aside = gc.get_freeze_count()
                if self._aside > self._enough:
                    self._take_back()
            return
        self._aside += len(gc.get_objects(generation=2))
        gc.freeze()
        if self._through:
            self._base, self._through = self._aside, False

    @property
    def _enough(self) -> int:
        return 2 * self._base + LEAST

    def _take_back(self) -> None:
        gc.unfreeze()
        self._aside, self._through = 0, True
