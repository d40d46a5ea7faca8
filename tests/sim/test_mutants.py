"""The simulator has teeth: with a rule of safety taken out, it finds the break."""

from __future__ import annotations

from functools import partial

import pytest

from tests.model import rules as model
from tests.sim.mutant_table import MODEL_NAMES, RULES, SCENT, without
from tests.sim.mutants import BEFORE, hunt
from tests.sim.world import run, setup_of

#: Seeds that are tried at most; those in SCENT need a few dozen.
SEEDS = 400


def test_every_rule_has_a_mutant_that_is_found() -> None:
    assert set(RULES) == set(SCENT)


def test_every_rule_of_the_model_has_a_mutant() -> None:
    missing = {rule for rule in model.RULES if MODEL_NAMES.get(rule, rule) not in RULES}
    assert not missing, "patch it out of the real code, in one of the modules of mutant_table.py"
    assert set(MODEL_NAMES) <= set(model.RULES)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rule", SCENT)
def test_without_a_rule_the_simulator_finds_the_break(rule: str) -> None:
    area, first = SCENT[rule]
    found = hunt(partial(without, rule), range(first, first + SEEDS), area)
    assert found is not None, f"{SEEDS} seeds of area {area} from {first} on: nothing was noticed"
    with without(rule):
        again = run(found.setup.seed, setup_of(found.setup.seed, area))
    assert again.story == found.story, "the mutant remembers something of an earlier run"
    whole = run(found.setup.seed, setup_of(found.setup.seed, area))
    assert not whole.fault, f"it is broken with the rule, too: {whole.report()}"


@pytest.mark.parametrize("rule", BEFORE)
def test_of_two_lines_either_holds(rule: str) -> None:
    area, seed = SCENT[rule]
    for one in (RULES[rule], BEFORE[rule]):
        with one():
            result = run(seed, setup_of(seed, area))
        assert not result.fault, f"{one.__name__} is missed by itself: {result.report()}"
