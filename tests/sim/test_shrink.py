"""A run that fails is made small, and fails in the same way."""

from __future__ import annotations

import pytest

from tests.sim.mutant_table import RULES, SCENT
from tests.sim.mutants import hunt
from tests.sim.shrink import shrink
from tests.sim.world import run, setup_of


def test_a_break_is_shown_by_less_and_always_by_the_same() -> None:
    rule = "match_reset"
    area, first = SCENT[rule]
    found = hunt(RULES[rule], range(first, first + 400), area)
    assert found is not None
    with RULES[rule]():
        small, again = shrink(found, tries=40), shrink(found, tries=40)
    assert small.result.fault.split(":")[0] == found.fault.split(":")[0]
    assert small.result.story == again.result.story
    assert len(small.result.setup.faults) < len(found.setup.faults), str(small)
    assert len(small.result.story) < len(found.story), str(small)


def test_what_holds_is_not_made_smaller() -> None:
    with pytest.raises(AssertionError, match="held"):
        shrink(run(1, setup_of(1)))
