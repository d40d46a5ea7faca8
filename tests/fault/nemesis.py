"""Who chooses which fault is made, on whom, when, and for how long: all by the seed.

An act is a single fault, or several for some seconds, up to three of them at any time.  After each
act nothing is done until all are in sync and records are acknowledged; how long that took after
the last undoing is the recovery time: of that kind, or of "together".

Kinds are drawn from a shuffled deck, so that each had its turn before one comes again; the leader
is chosen more often than others.  What must not overlap (`apart`) waits for another turn, and what
`loses` begins an act, when all is well.

Every fault is undone in a `finally`; what fails then is raised when all are.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.fault import disks, links, machine, processes
from tests.fault.fault import Fault, UnableError
from tests.fault.field import Field
from tests.fault.roads import ZK

#: Every kind there is.
KINDS: Final[tuple[type[Fault], ...]] = (
    *processes.FAULTS,
    *links.FAULTS,
    *disks.FAULTS,
    *machine.FAULTS,
)
#: Faults at one time.
AT_ONCE: Final = 3
#: How long an act of several goes on making new ones, from and to.
ACT_S: Final = (6.0, 14.0)
#: And at most so much longer, where something goes on that takes several steps.
LONGER_S: Final = 30.0
#: Between two beginnings within it.
GAP_S: Final = (0.0, 0.5)
#: A look at what is under way.
TICK_S: Final = 0.02
#: The share of acts that are of one fault.
SINGLE: Final = 0.35
#: How often the leader is chosen where a broker is.
LEADER: Final = 0.4
TOGETHER: Final = "together"


@dataclass
class Span:
    """When a fault was under way, by the monotonic clock."""

    what: str
    began: float
    ended: float = float("inf")


@dataclass
class Active:
    fault: Fault
    victim: int | None
    until: float
    done: bool = False
    span: Span | None = None


class Nemesis:
    """See the module's text.  `act` again and again; `tick` is called meanwhile."""

    def __init__(
        self,
        field: Field,
        chance: random.Random,
        kinds: Sequence[type[Fault]],
        tick: Callable[[], None],
    ) -> None:
        #: kind -> how many were made.
        self.made: Counter[str] = Counter()
        #: kind -> why it cannot be done here.
        self.missing: dict[str, str] = {}
        #: "kind: why" of those that could not be made at that time.
        self.unable: Counter[str] = Counter()
        #: kind, or "together" -> seconds until all was well again.
        self.healed_s: dict[str, list[float]] = defaultdict(list)
        #: How many were under way at once -> how often one began then.
        self.at_once: Counter[int] = Counter()
        self._field = field
        self._chance = chance
        self._tick = tick
        self._kinds = [kind for kind in kinds if not self._is_missing(kind)]
        self._deck: deque[type[Fault]] = deque()
        #: Of the next acts.
        self._first: deque[type[Fault]] = deque()
        #: Nothing was done in this act yet.
        self._all_is_well = True
        #: Every fault that was made.
        self.spans: list[Span] = []
        self._active: list[Active] = []

    def _is_missing(self, kind: type[Fault]) -> bool:
        why = kind().missing(self._field)
        if why:
            self.missing[kind.kind] = why
        return bool(why)

    def without(self, word: str, why: str) -> None:
        """Kinds that have the word in their name are skipped."""
        for kind in [kind for kind in self._kinds if word in kind.kind]:
            self._kinds.remove(kind)
            self.missing[kind.kind] = why

    def act(self) -> None:
        """One act, and what comes after it.  Raises AssertionError where it does not heal."""
        single = self._chance.random() < SINGLE
        before, self._all_is_well = self.made.copy(), True
        ended_at = time.monotonic()
        try:
            if single:
                self._begin()
            else:
                self._together()
            while self._active:
                self._turn()
            ended_at = time.monotonic()
        finally:
            self._end_all()
        kinds = list((self.made - before).elements())
        self._field.wait_whole()
        if self._field.afterwards:
            while self._field.afterwards:
                self._field.afterwards.pop()()
            self._field.wait_whole()
        if kinds:
            healed = time.monotonic() - ended_at
            self.healed_s[kinds[0] if len(kinds) == 1 else TOGETHER].append(healed)
            self._field.tell(f"all is well again {healed:.1f} s after that")

    def _together(self) -> None:
        """For its time, and until what takes several steps has taken them."""
        until = time.monotonic() + self._chance.uniform(*ACT_S)
        next_at = 0.0
        while (now := time.monotonic()) < until or (self._steps_left() and now < until + LONGER_S):
            if now >= next_at and len(self._active) < AT_ONCE:
                self._begin()
                next_at = time.monotonic() + self._chance.uniform(*GAP_S)
            self._turn()

    def _steps_left(self) -> bool:
        return any(not active.done for active in self._active)

    def _turn(self) -> None:
        """End what has had its time, and has come to its end."""
        for active in list(self._active):
            active.done = active.done or active.fault.go_on(self._field)
            if active.done and time.monotonic() >= active.until:
                self._end(active)
        self._field.look()
        self._tick()
        time.sleep(TICK_S)

    # -- beginning and ending ----------------------------------------------------------------------

    def _begin(self) -> None:
        kind = self._draw()
        active = Active(kind(), self._victim(kind), 0.0)
        shortest, longest = kind.lasts_s
        lasts_s = shortest + (longest - shortest) * self._chance.random() ** 2
        chance = random.Random(self._chance.getrandbits(64))
        if not self._fits(active):
            (self._first if kind.loses else self._deck).append(kind)
            return
        self._active.append(active)
        self._all_is_well = False
        began = time.monotonic()
        try:
            what = active.fault.begin(self._field, active.victim, chance)
        except UnableError as e:
            self.unable[f"{kind.kind}: {e}"] += 1
            self._end(active)
            return
        active.until = time.monotonic() + lasts_s
        active.span = Span(f"{kind.kind}: {what}", began)
        self.spans.append(active.span)
        self.made[kind.kind] += 1
        self.at_once[len(self._active)] += 1
        self._field.tell(f"[{sum(self.made.values())}] {kind.kind}, {lasts_s:.1f} s: {what}")

    def _draw(self) -> type[Fault]:
        if self._first and self._all_is_well:
            return self._first.popleft()
        if not self._deck:
            cards = [kind for kind in self._kinds for _ in range(kind.share)]
            self._chance.shuffle(cards)
            self._deck.extend(cards)
        return self._deck.popleft()

    def _victim(self, kind: type[Fault]) -> int | None:
        if kind.whom in ("all", "zk"):
            return None if kind.whom == "all" else ZK
        those = self._field.brokers if kind.whom == "broker" else self._field.everyone
        chosen, wants_leader = self._chance.choice(those), self._chance.random() < LEADER
        leader = self._field.leader() if wants_leader else None
        return chosen if leader is None else leader

    def _fits(self, new: Active) -> bool:
        """Into what is under way."""
        if new.fault.loses and not self._all_is_well:
            return False
        return not any(
            new.fault.apart
            and new.fault.apart == other.fault.apart
            and (new.victim == other.victim or None in (new.victim, other.victim))
            for other in self._active
        )

    def _end(self, active: Active) -> None:
        self._active.remove(active)
        active.fault.end(self._field)
        if active.span is not None:
            active.span.ended = time.monotonic()
            self._field.tell(f"{active.fault.kind} is over")

    def _end_all(self) -> None:
        """Also after a failure: the first one is raised, the others are its notes."""
        errors: list[Exception] = []
        while self._active:
            try:
                self._end(self._active[0])
            except Exception as e:  # noqa: BLE001 -- the others have to be undone, too
                errors.append(e)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"and also: {other!r}")
            raise errors[0]
