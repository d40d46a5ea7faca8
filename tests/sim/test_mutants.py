"""The simulator has teeth: with a rule of safety taken out, it finds the break."""

from __future__ import annotations

import pytest

from tests.sim.mutant_table import RULES, SCENT, SHADOWED
from tests.sim.mutants import hunt
from tests.sim.world import run, setup_of

#: Seeds that are tried at most; those in SCENT need a few dozen.
SEEDS = 400


def test_every_rule_has_a_mutant_that_is_found() -> None:
    assert set(RULES) == set(SCENT) | SHADOWED
    assert not set(SCENT) & SHADOWED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rule", SCENT)
def test_without_a_rule_the_simulator_finds_the_break(rule: str) -> None:
    area, first = SCENT[rule]
    found = hunt(RULES[rule], range(first, first + SEEDS), area)
    assert found is not None, f"{SEEDS} seeds of area {area} from {first} on: nothing was noticed"
    whole = run(found.setup.seed, setup_of(found.setup.seed, area))
    assert not whole.fault, f"it is broken with the rule, too: {whole.report()}"
