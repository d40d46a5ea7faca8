"""Search: every state that a scene can come to, the nearest first; or random walks.

A state that was met is remembered by its hash of 64 bits, so that millions fit into memory.  Two
states with one hash would be taken for one: at two million states the chance of that is one in
ten million.  How a state was come to is remembered by the number of the step that led to it, and
told by taking these steps once more.

Breadth first: the first break found is a shortest one.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.model import broker, coordinator
from tests.model.coordinator import Step
from tests.model.judge import check
from tests.model.rules import Scene
from tests.model.state import State, Violation

#: Of the steps of a walk so many are no faults, or nothing would ever be committed.
QUIET: Final = 0.9
#: Steps of one walk.
WALK_STEPS: Final = 150


@dataclass(frozen=True)
class Found:
    """What came of it.  verdict: "broken", "holds", or "unfinished"; trace: how it broke."""

    verdict: str
    states: int
    depth: int
    seconds: float
    why: str = ""
    trace: list[str] = field(default_factory=list)


def steps(scene: Scene, s: State) -> Iterator[Step]:
    """All that can happen next.  A Violation raised within is a broken promise, too."""
    yield from coordinator.steps(scene, s)
    for i in range(scene.n):
        yield from broker.steps(scene, s, i)


class _Paths:
    """How each state was come to: from which one, by which of its steps."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.parents = array("q", [-1])
        self.numbers = array("H", [0])

    def add(self, parent: int, number: int) -> int:
        self.parents.append(parent)
        self.numbers.append(number)
        return len(self.parents) - 1

    def story(self, i: int) -> list[str]:
        numbers = []
        while i > 0:
            numbers.append(self.numbers[i])
            i = self.parents[i]
        s, told = self.scene.initial(), []
        for number in reversed(numbers):
            what, s = next(one for k, one in enumerate(steps(self.scene, s)) if k == number)
            told.append(what)
        return told


def search(scene: Scene, max_states: int = 20_000_000, max_seconds: float = 3600.0) -> Found:
    began = time.perf_counter()
    start = scene.initial()
    paths, seen, depth = _Paths(scene), {hash(start)}, 0
    level = [(0, start)]
    while level:
        found: list[tuple[int, State]] = []
        depth += 1
        for parent, s in level:
            at = parent
            try:
                for number, (_, after) in enumerate(steps(scene, s)):
                    key = hash(after)
                    if key in seen:
                        continue
                    seen.add(key)
                    at = paths.add(parent, number)
                    check(scene, after)
                    found.append((at, after))
                    at = parent
            except Violation as broken:
                took = time.perf_counter() - began
                return Found("broken", len(seen), depth, took, str(broken), paths.story(at))
        level = found
        took = time.perf_counter() - began
        if level and (len(seen) > max_states or took > max_seconds):
            return Found("unfinished", len(seen), depth, took)
    return Found("holds", len(seen), depth, time.perf_counter() - began)


def reachable(scene: Scene) -> Iterator[State]:
    """Every state that the scene can come to, the nearest first."""
    start = scene.initial()
    level, seen = [start], {hash(start)}
    while level:
        yield from level
        found = []
        for s in level:
            for _, after in steps(scene, s):
                if hash(after) not in seen:
                    seen.add(hash(after))
                    found.append(after)
        level = found


#: What a fault's description has in it.
_FAULTS: Final = (
    *("killed", "loses power", "crashes", "damaged", "replaced", "for dead", "resigns"),
    *("restarts", "loses its", "runs out"),
)


def walk(scene: Scene, seconds: float, seed: int) -> Found:
    """Random walks, for scenes that are too large to exhaust.  states: steps taken."""
    chance, began, taken = random.Random(seed), time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        s, told = scene.initial(), []
        try:
            for _ in range(WALK_STEPS):
                options = list(steps(scene, s))
                quiet = [one for one in options if not any(word in one[0] for word in _FAULTS)]
                pool = quiet if quiet and chance.random() < QUIET else options
                if not pool:
                    break
                what, s = chance.choice(pool)
                told.append(what)
                taken += 1
                check(scene, s)
        except Violation as broken:
            took = time.perf_counter() - began
            return Found("broken", taken, len(told), took, str(broken), told)
    return Found("holds", taken, WALK_STEPS, time.perf_counter() - began)
