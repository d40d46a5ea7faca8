"""The model: with all rules the promises hold, and each single rule is missed when it is off.

Here are the searches that take a few seconds at most; `make model` does them all, among them the
breaks of SLOW_BREAKS and the larger scenes.
"""

from __future__ import annotations

import pytest

from tests.model.rules import RULES, Scene
from tests.model.scenes import BREAKS, QUICK_HOLDS, SLOW_BREAKS, without
from tests.model.search import search, walk
from tests.model.state import Faults


def test_each_rule_has_a_scene() -> None:
    assert list(RULES) == list(BREAKS)
    assert set(BREAKS) > SLOW_BREAKS


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in SLOW_BREAKS])
def test_without_a_rule_a_promise_is_broken(rule: str) -> None:
    found = search(without(rule))
    assert found.verdict == "broken", found
    assert len(found.trace) in (found.depth, found.depth - 1), "the story leads there"


@pytest.mark.parametrize("name", list(QUICK_HOLDS))
def test_with_all_rules_every_promise_holds(name: str) -> None:
    found = search(QUICK_HOLDS[name])
    assert found.verdict == "holds", f"{found.why}: {found.trace}"


def test_a_search_comes_to_every_state_once() -> None:
    """The figures are those of an older, independent search with a set of whole states."""
    small = Scene(Faults(kills=1, powers=0, expiries=1), n=2)
    assert search(small).states == 1236
    assert search(Scene(Faults(expiries=1, isr_changes=1))).states == 6292


def test_a_search_that_is_cut_short_claims_nothing() -> None:
    assert search(Scene(Faults(kills=1)), max_states=100).verdict == "unfinished"


def test_walks_find_what_is_missing() -> None:
    found = walk(without("dedupe_tail"), seconds=30, seed=1)
    assert found.verdict == "broken"
