"""Plans of faults, made from a seed.

A plan is a list of Fault, each a plain value, so that a run can be repeated with some of them
left out.  A fault has a time.  One with `on` waits, from then on, for a step of the protocol to
be told (a broker takes the lead, an ISR is proposed, …) and falls right behind it; one with a
`fuse` falls so many steps (writes, messages) later, in the middle of a turn.  So most faults
fall between two steps that belong together.

Chance alone seldom puts together what it takes to break a rule; so there are patterns as well, a
few faults behind one step: `_window`, `_relay`, `_takeover`, `_several`, `_between`, `_upkeep`.

How each fault is carried out is faults.py's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.sim.world import Setup

#: Kind, weight, and how long it lasts at most, in seconds.
_KINDS: Final[tuple[tuple[str, float, float], ...]] = (
    ("kill", 5.0, 1.5),
    ("power", 3.0, 1.5),
    ("stop", 0.7, 1.0),
    ("pause", 3.0, 3.0),
    ("isolate", 3.0, 3.5),
    ("cut", 4.0, 3.5),
    ("break", 4.0, 0.0),
    ("lag", 1.0, 1.5),
    ("clock", 0.5, 0.0),
    ("full", 1.0, 1.0),
    ("slow", 1.0, 2.0),
    ("eio", 0.4, 0.5),
    ("wipe", 1.0, 1.5),
    ("damage", 1.0, 1.0),
    ("silent", 1.0, 3.0),
    ("blackout", 0.4, 1.0),
)
#: Steps of the protocol behind which faults fall.
STEPS: Final = (
    "leading",
    "serving",
    "elected",
    "isr_proposed",
    "isr_changed",
    "follower_agreed",
    "following",
    "stepped_down",
    "joined",
    "leader_link_lost",
    "resigning",
    "started",
)
#: Steps behind which a few faults together are the hardest: who counts changes there.
CRITICAL: Final = (
    "isr_proposed",
    "isr_changed",
    "follower_agreed",
    "leading",
    "elected",
    "started",
)
#: What operations that change topics and groups go through on a broker.
PASSES: Final = ("wrote", "copied", "applies", "applies")
OPERATIONS: Final = (
    "assign",
    "assign",
    "deregister",
    "delete_topic",
    "delete_topic",
    "create_topic",
    "create_partitions",
    "trim",
)
#: What a broker goes through while it makes a checkpoint, lets go of what that covers, gives a
#: copy or is given one.
UPKEEP: Final = (
    "checkpoints",
    "checkpoints",
    "checkpoint",
    "tidies",
    "log_cut",
    "copy_offered",
    "copying",
    "copying",
    "installs",
    "begins_anew",
    "started",
)
#: A fuse's longest count.
FUSE: Final = 30


@dataclass(frozen=True)
class Fault:
    """target, other: "leader", "follower", "any", "zk"; who told the step, "teller", and whom it
    is about, "subject".  other: the far end of a cut; both: both ways for certain.  Times in
    seconds; at: since the beginning; after: since the step.
    """

    at: float
    kind: str
    target: str
    lasts: float = 0.0
    on: str = ""
    after: float = 0.0
    fuse: int | None = None
    other: str = "any"
    both: bool = False


def plan(rng: random.Random, setup: Setup) -> list[Fault]:
    """Faults for one run, of what it is about: `setup.area`."""
    faults: list[Fault] = []
    if setup.area in ("isr", "power"):
        for _ in range(rng.randint(3, 4)):
            faults += rng.choice((_window, _window, _relay))(rng, setup)
    elif setup.area == "takeover":
        for _ in range(rng.randint(2, 3)):
            faults += _takeover(rng, setup)
    elif setup.area == "topics":
        faults += [_one(rng, setup, list(_KINDS)) for _ in range(rng.randint(0, 3))]
        for _ in range(rng.randint(1, 4)):
            faults += rng.choice((_between, _between, _between, _takeover))(rng, setup)
    elif setup.area == "upkeep":
        faults += [_one(rng, setup, list(_KINDS)) for _ in range(rng.randint(0, 2))]
        for _ in range(rng.randint(2, 4)):
            faults += rng.choice((_upkeep, _upkeep, _loss))(rng, setup)
    else:
        kinds = [kind for kind in _KINDS if rng.random() < 0.5] or list(_KINDS)
        faults += [_one(rng, setup, kinds) for _ in range(rng.randint(0, 3 + int(setup.chaos_s)))]
        for _ in range(rng.randint(0, 2)):
            faults += rng.choice((_several, _window, _takeover, _relay, _between))(rng, setup)
    return sorted(faults, key=lambda fault: fault.at)


def _one(rng: random.Random, setup: Setup, kinds: list[tuple[str, float, float]]) -> Fault:
    pool = list(_KINDS) if rng.random() < 0.1 else kinds
    kind, _, most = rng.choices(pool, weights=[weight for _, weight, _ in pool])[0]
    target = rng.choices(("leader", "follower", "any", "zk"), weights=(5, 3, 2, 1))[0]
    on = rng.choice(STEPS) if rng.random() < 0.35 else ""
    if on and rng.random() < 0.6:
        target = rng.choice(("teller", "subject"))
    return Fault(
        at=_time(rng, setup),
        kind=kind,
        target=target,
        lasts=most * rng.random() ** 2 * (1.5 if rng.random() < 0.1 else 1.0),
        on=on,
        fuse=int(FUSE * rng.random() ** 2) if rng.random() < 0.6 else None,
        other=rng.choice(("any", "zk", "leader")),
    )


def _several(rng: random.Random, setup: Setup) -> list[Fault]:
    """Behind any step: links between those it concerns are cut, and somebody dies meanwhile."""
    at, on = _time(rng, setup), rng.choice(CRITICAL)
    ends = ("leader", "subject", "zk", "any")
    faults = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        one, other = rng.sample(ends, 2)
        faults.append(_cut(rng, at, on, one, other))
    return faults + _deaths(rng, at, on)


def _window(rng: random.Random, setup: Setup) -> list[Fault]:
    """The ISR is about to change: a follower falls behind, and leaves or comes back.

    Behind that step the leader does not hear what yak-zk makes of it (or yak-zk of the leader),
    does not reach the follower, and dies: whoever is elected then must have been waited for.
    """
    at = _time(rng, setup)
    how = rng.choice(("kill", "power", "isolate", "pause", "cut"))
    if setup.area == "power":
        how = "power"
    lasts = 0.2 + 1.3 * rng.random()
    faults = [Fault(at, how, "follower", lasts, other="leader", both=True)]
    at, on = at + 0.02, rng.choice(("joining", "joining", "leaving", "isr_changed"))
    one, other = rng.choice((("leader", "zk"), ("zk", "leader")))
    faults.append(_cut(rng, at, on, one, other))
    if rng.random() < 0.8:
        one, other = rng.choice((("leader", "subject"), ("subject", "leader")))
        faults.append(_cut(rng, at, on, one, other))
    return faults + _deaths(rng, at, on) + _next(rng, at)


def _relay(rng: random.Random, setup: Setup) -> list[Fault]:
    """A follower is left behind, the leader commits without it and dies before it can tell.

    So the next leader does not know how far was committed when that follower comes back.
    """
    at, lag = _time(rng, setup), setup.settings.replica_lag_ms / 1000
    faults = [Fault(at, "cut", "follower", lag + 0.5 * rng.random(), other="leader", both=True)]
    after = 0.006 * rng.random()
    faults.append(Fault(at + 0.02, "kill", "leader", 2.0 * rng.random(), "isr_changed", after))
    return faults + _next(rng, at + 0.1)


def _next(rng: random.Random, at: float) -> list[Fault]:
    """What may befall the leader that comes after."""
    if rng.random() < 0.4:
        return []
    on = rng.choice(("leading", "follower_agreed", "joining", "joining", "isr_changed"))
    at += 0.1 + 0.4 * rng.random()
    cut = _cut(rng, at, on, "leader", rng.choice(("subject", "subject", "any", "zk")))
    return [cut, *_deaths(rng, at, on)]


def _takeover(rng: random.Random, setup: Setup) -> list[Fault]:
    """A leader goes in the middle of its work; so does, perhaps, the one that takes over."""
    at = _time(rng, setup)
    if rng.random() < 0.3:
        # yak-zk starts again, and does not hear of the leader at first.
        cut = Fault(at, "cut", "leader", 0.2 + rng.random(), other="zk", both=True)
        return [cut, Fault(at, "kill", "zk", 0.1 * rng.random()), *_next(rng, at)]
    how = rng.choice(("kill", "power", "isolate", "pause", "cut"))
    fuse = int(FUSE * rng.random()) if rng.random() < 0.5 else None
    faults = [Fault(at, how, "leader", 2.0 * rng.random(), fuse=fuse, other="zk")]
    on = rng.choice(("elected", "leading", "follower_agreed", "serving", "following"))
    if rng.random() < 0.5:
        faults.append(_cut(rng, at, on, "leader", rng.choice(("any", "subject", "follower"))))
    return faults + _deaths(rng, at, on)


def _between(rng: random.Random, setup: Setup) -> list[Fault]:
    """An operation that changes topics or groups is on its way, and whoever has it dies or hangs:
    in the middle of carrying it out, or before the next operation of the same breath is known.
    """
    at = _time(rng, setup)
    on = f"{rng.choice(PASSES)} {rng.choice(OPERATIONS)}"
    how = rng.choice(("kill", "kill", "power", "pause", "silent"))
    target = rng.choice(("teller", "teller", "leader"))
    fuse = int(12 * rng.random() ** 2)
    faults = [Fault(at, how, target, 2.0 * rng.random() ** 2, on, 0.0, fuse)]
    if rng.random() < 0.3:
        faults.insert(0, _cut(rng, at, on, "leader", rng.choice(("follower", "zk"))))
    return faults + (_next(rng, at) if rng.random() < 0.3 else [])


def _upkeep(rng: random.Random, setup: Setup) -> list[Fault]:
    """A checkpoint, a cut of the log or a copy is under way, and one of its ends dies of it."""
    at, on = _time(rng, setup), rng.choice(UPKEEP)
    how = rng.choice(("kill", "kill", "power", "power", "pause", "full", "wipe"))
    target = rng.choice(("teller", "teller", "teller", "leader", "subject"))
    fuse = int(FUSE * rng.random() ** 2)
    return [Fault(at, how, target, 1.5 * rng.random() ** 2, on, 0.0, fuse)]


def _loss(rng: random.Random, setup: Setup) -> list[Fault]:
    """A disk loses what it held; then one end of the copy dies, perhaps in the middle of it."""
    at = _time(rng, setup)
    how = rng.choice(("wipe", "wipe", "damage"))
    target = rng.choice(("leader", "follower", "follower", "any"))
    faults = [Fault(at, how, target, rng.random() ** 2)]
    for _ in range(rng.choice((0, 1, 2))):
        on = rng.choice(("copying", "copying", "copy_offered", "installs", "begins_anew"))
        death = rng.choice(("kill", "kill", "power", "pause"))
        whose = rng.choice(("teller", "subject", "leader"))
        fuse = int(2 * FUSE * rng.random() ** 2)
        faults.append(Fault(at, death, whose, rng.random() ** 2, on, 0.0, fuse))
    return faults


def _cut(rng: random.Random, at: float, on: str, one: str, other: str) -> Fault:
    after = 0.3 * rng.random() if rng.random() < 0.2 else 0.0
    return Fault(at, "cut", one, 0.1 + 2.5 * rng.random() ** 2, on, after, None, other)


def _deaths(rng: random.Random, at: float, on: str) -> list[Fault]:
    faults = []
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("kill", "power", "pause", "kill", "power", "isolate"))
        target = rng.choice(("leader", "leader", "leader", "leader", "subject", "follower"))
        after = 0.02 + 0.8 * rng.random() ** 2
        fuse = int(FUSE * rng.random()) if rng.random() < 0.3 else None
        faults.append(Fault(at, kind, target, 2.5 * rng.random(), on, after, fuse))
    return faults


def _time(rng: random.Random, setup: Setup) -> float:
    return round(0.3 + rng.random() * 0.8 * setup.chaos_s, 4)
