"""A described State, made again: equal in all that it holds, and in all that follows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.annals import Annals, content
from yak.core.snapshot import Snapshot, describe, restore
from yak.core.state import State


def encoded(state: State) -> bytes:
    return msgspec.json.encode(describe(state))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 250))
def test_a_state_is_made_again_from_what_was_described(seed: int, count: int) -> None:
    found = Annals(seed, appends=6)
    found.go_on(count)
    assert content(restore(describe(found.state))) == content(found.state)
    again = restore(msgspec.json.decode(encoded(found.state), type=Snapshot))
    assert content(again) == content(found.state)
    before = encoded(again)
    for op, _ in found.go_on(40):  # the restored one goes on as the other does
        again.apply(op)
    assert content(again) == content(found.state)
    assert before != encoded(again)


def test_the_histories_have_all_of_it() -> None:
    """A property over histories in which nothing happens would prove nothing."""
    seen: set[str] = set()
    for seed in range(40):
        found = Annals(seed, appends=6)
        for _ in range(6):
            found.go_on(30)
            state = found.state
            seen |= {
                name
                for name, there in {
                    "holder": any(group.moving for group in state.groups.values()),
                    "nobody": any(
                        o.owner == "" for g in state.groups.values() for o in g.owners.values()
                    ),
                    "gone": any(p.gone_ms is not None for p in state.producers.values()),
                    "trimmed": bool(state.starts),
                    "emptied": any(start == state.ends[tp] for tp, start in state.starts.items()),
                    "sequences": any(len(b) > 1 for b in state.sequences.values()),
                    "acked by none": any(not by for by in state.acked.values()),
                    "no member": any(not group.members for group in state.groups.values()),
                }.items()
                if there
            }
    assert len(seen) == 8, seen


@pytest.mark.parametrize("seed", range(10))
def test_what_was_described_stays_as_it_was(seed: int) -> None:
    """It is described from a copy, in a thread, while the broker goes on."""
    found = Annals(seed, appends=6)
    found.go_on(100)
    copied, then = found.state.copy(), content(found.state)
    described = encoded(found.state)
    again = restore(describe(found.state))
    found.go_on(200)
    assert content(copied) == then
    assert encoded(copied) == described
    assert content(again) == then


def test_an_empty_state_is_a_few_words() -> None:
    assert content(restore(describe(State()))) == content(State())
    assert len(encoded(State())) < 250
