"""A failing run made small: fewer faults, deeds and clients, a shorter life, and the same break.

    from 9 faults, 3 deeds, 13 clients, 40 batches to 1, 0, 2, 10 in 61 tries

Rules:

* It is the same break if what is said of it begins with the same word (`agree:`, `shown:`, …).
* One thing is made less at a time, by halves first; what still breaks is kept, and all is tried
  again on that, until nothing can be less or `TRIES` are over.
* It is a function of the run, as a run is of its seed: the same seed is shrunk to the same story.
  What fails only with what a test has planted must be shrunk while that is planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tests.sim.world import Result, Setup, run

#: A tenth of a second each.
TRIES: Final = 300
#: What can be less, and the least of each.
_NUMBERS: Final = {
    "deeds": 0, "members": 0, "watchers": 0, "readers": 0, "senders": 0, "producers": 1,
    "batches": 1, "partitions": 1,
}  # fmt: skip


@dataclass
class Shrunk:
    """result: the smallest run that was found."""

    whole: Result
    result: Result
    tries: int

    def __str__(self) -> str:
        whole, small = _size(self.whole.setup), _size(self.result.setup)
        names = ("faults", "deeds", "clients", "batches")
        was = ", ".join(f"{count} {name}" for count, name in zip(whole, names, strict=True))
        return f"from {was} to {', '.join(map(str, small))} in {self.tries} tries"


def shrink(whole: Result, tries: int = TRIES) -> Shrunk:
    """The smallest run with the same break that so many tries come to."""
    assert whole.fault, "a run that held cannot be made smaller"
    shrunk = Shrunk(whole, whole, 0)
    while _step(shrunk, tries):
        pass
    return shrunk


def _step(shrunk: Shrunk, tries: int) -> bool:
    """Whether one thing could be made less."""
    for setup in _smaller(shrunk.result.setup):
        if shrunk.tries >= tries:
            return False
        shrunk.tries += 1
        result = run(setup.seed, setup)
        if _kind(result) == _kind(shrunk.whole):
            shrunk.result = result
            return True
    return False


def _kind(result: Result) -> str:
    return result.fault.partition(":")[0]


def _smaller(setup: Setup) -> Iterator[Setup]:
    """One thing less each, what leaves out most first."""
    faults = setup.faults
    size = len(faults)
    while size:
        for start in range(0, len(faults), size):
            yield replace(setup, faults=faults[:start] + faults[start + size :])
        size //= 2
    for name, least in _NUMBERS.items():
        has = getattr(setup, name)
        for less in sorted({least, has // 2, has - 1}):
            if least <= less < has:
                yield replace(setup, **{name: less})
    if len(setup.topics) > 1:
        yield replace(setup, topics=setup.topics[:1])
    if len(setup.groups) > 1:
        yield replace(setup, groups=setup.groups[:1])
    if setup.lively:
        yield replace(setup, lively=False)
    if setup.chaos_s > 1:
        yield replace(setup, chaos_s=setup.chaos_s / 2)


def _size(setup: Setup) -> tuple[int, int, int, int]:
    clients = setup.producers + setup.senders + setup.readers + setup.watchers + setup.members
    return len(setup.faults), setup.deeds, clients, setup.batches
