"""How long a gone producer's sequences are kept, whatever the wall clock does."""

from __future__ import annotations

import pytest

from tests.support.playbook import LONE, WALL_MS, Playbook, a_view
from yak import messages as m
from yak.core import ops
from yak.core.ops import Op

DAY_S = 24 * 3600
DAY_MS = DAY_S * 1000


def elected(gone_ms: int) -> Playbook:
    """It leads, with a producer in its log that was gone at that wall time."""
    log: list[Op] = [
        ops.Lead(index=1, epoch=1, time=gone_ms, broker=1),
        ops.Register(
            index=2, epoch=1, time=gone_ms, role="producer", client="p", topics=[], producer=1
        ),
        ops.Deregister(index=3, epoch=1, time=gone_ms, reason="expired", producer=1),
    ]
    return Playbook(log=log, epoch=1).elected(a_view(isr=[1], settings=LONE), lease_s=10**9)


@pytest.mark.parametrize("days", [-365, 0, 365])
def test_a_new_leaders_clock_forgets_nobody(days: int) -> None:
    """Only time that a leader has seen pass counts."""
    book = elected(WALL_MS + days * DAY_MS)
    book.wait(5)
    assert book.ask(m.Heartbeat(id=1, producer=1)).ok
    assert book.state.producers[1].gone_ms is None


@pytest.mark.parametrize("days", [-365, 0, 365])
def test_it_is_forgotten_after_the_retention(days: int) -> None:
    book = elected(WALL_MS + days * DAY_MS)
    book.jump(DAY_S - 10)
    book.wait(1)
    assert 1 in book.state.producers
    book.jump(10)
    book.wait(1)
    assert 1 not in book.state.producers
