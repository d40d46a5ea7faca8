"""`python -m tests.model`: search all that can happen to a small cluster, for a broken promise.

--suite        every scene with all rules on, then each rule off in the scene that shows it
--off RULE     that scene alone, and the story of the break
--hold NAME    one scene with all rules on
--walk S       random walks for S seconds, in a scene that is too large to exhaust
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from tests.model.rules import RULES, Scene
from tests.model.scenes import BREAKS, HOLDS, without
from tests.model.search import Found, search, walk
from tests.model.state import Faults

#: A scene for random walks.
WIDE: Final = Scene(
    Faults(
        kills=4,
        tears=3,
        cuts=1,
        expiries=6,
        resigns=2,
        zk_restarts=2,
        isr_changes=6,
    ),
    values=4,
    generations=2,
    epochs=9,
)


def show(title: str, found: Found, *, story: bool) -> None:
    sys.stdout.write(
        f"{title:42} {found.verdict:11} {found.states:9} states  depth {found.depth:3}  "
        f"{found.seconds:7.1f} s  {found.why}\n"
    )
    for number, what in enumerate(found.trace if story else (), 1):
        sys.stdout.write(f"    {number:2}. {what}\n")
    sys.stdout.flush()


def hold(name: str) -> bool:
    """Whether no promise can be broken in this scene."""
    found = search(HOLDS[name])
    show(name, found, story=True)
    return found.verdict == "holds"


def break_(rule: str, *, story: bool) -> bool:
    """Whether the rule is missed."""
    found = search(without(rule))
    show(f"without {rule}", found, story=story)
    return found.verdict == "broken"


def suite() -> bool:
    held = [hold(name) for name in HOLDS]
    missed = [break_(rule, story=False) for rule in BREAKS]
    sys.stdout.write(
        f"{sum(held)} of {len(held)} scenes hold; {sum(missed)} of {len(missed)} rules are missed "
        "when they are off\n"
    )
    return all(held) and all(missed)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", action="store_true")
    parser.add_argument("--off", metavar="RULE", choices=sorted(RULES))
    parser.add_argument("--hold", metavar="NAME", choices=list(HOLDS))
    parser.add_argument("--walk", metavar="S", type=float)
    parser.add_argument("--seed", type=int, default=1, help="of --walk")
    options = parser.parse_args()
    good = True
    if options.off:
        good = break_(options.off, story=True)
    if options.hold:
        good &= hold(options.hold)
    if options.walk:
        found = walk(WIDE, options.walk, options.seed)
        show(f"random walks, seed {options.seed}", found, story=True)
        good &= found.verdict == "holds"
    if options.suite:
        good &= suite()
    if not (options.off or options.hold or options.walk or options.suite):
        parser.print_help()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
