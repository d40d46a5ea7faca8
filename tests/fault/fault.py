"""What a fault is: something that is done to the cluster, stays for a while, and is undone.

    prepared     once, before any process starts: what the machine has to have ready (a context
                 manager of a module of faults, as links.py's; a module that needs none has none)
    missing      asked once; why it cannot be done here
    begin        does it, and says what was done
    go_on        what takes its time: called again and again until it says that this was all
    end          undoes it, in a `finally`: also where `begin` raised half way, and more than once

An object is one application.  Each module lists its kinds in `FAULTS`.  What is chosen at random
comes from the `chance` that `begin` is given, which the seed decides.

A fault changes only what this run made: its processes, its links, its directories.  It never
waits for the cluster to heal: nemesis.py does, when it has ended.
"""

from __future__ import annotations

import random
from typing import ClassVar, Literal, TypeAlias

from tests.fault.field import Field

Whom: TypeAlias = Literal["broker", "zk", "process", "all"]


class UnableError(Exception):
    """The fault could not be made this time, and why; nothing was done, or `end` undoes it."""


class Fault:
    """See the module's text."""

    #: What the report calls it.
    kind: ClassVar[str]
    #: How long it may stay, from and to; `begin` does not wait for it.
    lasts_s: ClassVar[tuple[float, float]] = (0.2, 4.0)
    #: Faults with the same word never overlap on one victim; none means that all may.
    apart: ClassVar[str] = ""
    #: Whom it is done to: a broker, yak-zk (0), a process (either), or None: all of them.
    whom: ClassVar[Whom] = "broker"
    #: Whether what a broker holds is lost by it: then all have to be in sync before, and none
    #: loses anything more until all are again.  It begins an act.
    loses: ClassVar[bool] = False
    #: How often it comes, against others.
    share: ClassVar[int] = 1

    def missing(self, field: Field) -> str:
        """ "", or why it cannot be done on this machine, or to this cluster."""
        return ""

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        """Do it; what was done, in a sentence.  Raises UnableError."""
        raise NotImplementedError

    def go_on(self, field: Field) -> bool:
        """The next step of what has several; True where nothing is left but `end`."""
        return True

    def end(self, field: Field) -> None:
        """Undo it, wherever `begin` came to."""
        raise NotImplementedError
