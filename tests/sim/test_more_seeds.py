"""The second half of the simulated runs, in a module of its own: another process may try it."""

from __future__ import annotations

import pytest

from tests.sim.test_sim import CHUNK, SEEDS, nothing_is_lost


@pytest.mark.parametrize("first", range(SEEDS + 1, 2 * SEEDS + 1, CHUNK))
def test_nothing_is_lost_whatever_falls_together(first: int) -> None:
    nothing_is_lost(range(first, first + CHUNK))
