"""A broker that finds a file of its own damaged, in the whole of a cluster."""

from __future__ import annotations

from tests.sim.plans import Fault
from tests.sim.test_golden import QUICK
from tests.sim.world import Setup, run


def test_it_gives_the_lead_away_once_who_is_on_the_way_is_in_sync_and_erases_nothing_before() -> (
    None
):
    """Of three brokers one is filled when the leader finds it: two whole logs are there all along,
    and only one would be while the leader is filled, if it did not wait."""
    faults = [
        Fault(1.0, "wipe", "b3", lasts=1.0),
        Fault(1.2, "spoil", "b1", on="follower_agreed", after=0.001),
    ]
    setup = Setup(seed=7, settings=QUICK, chaos_s=4.0, batches=20, even=True, faults=faults)
    story = tells(
        setup,
        "b1 file_damaged",
        "zk isr_changed epoch=1 leader=1 isr=[1, 2, 3] reason=caught up: 3",
        "b1 resigning",
        "zk elected epoch=2 leader=2",
        "b1 begins_anew",
        "b1 whole_again",
    )
    assert not [line for line in story if "isr=[2]" in line], "one whole log is not enough"


def test_a_follower_without_which_nothing_is_acknowledged_goes_on_until_another_is_in_sync() -> (
    None
):
    faults = [
        Fault(1.0, "wipe", "b3", lasts=1.0),
        Fault(1.2, "spoil", "b2", on="follower_agreed", after=0.001),
    ]
    setup = Setup(seed=7, settings=QUICK, chaos_s=4.0, batches=20, even=True, faults=faults)
    tells(
        setup,
        "b2 file_damaged",
        "zk isr_changed epoch=1 leader=1 isr=[1, 2, 3] reason=caught up: 3",
        "b2 begins_anew",
        "zk isr_changed epoch=1 leader=1 isr=[1, 3]",
        "b2 whole_again",
    )


def tells(setup: Setup, *parts: str) -> list[str]:
    """What happens, with these parts in this order."""
    result = run(setup.seed, setup)
    assert not result.fault, result.report()
    last = -1
    for part in parts:
        at = [number for number, line in enumerate(result.story) if part in line and number > last]
        assert at, f"{part!r} is missing after line {last}:\n{result.report(100)}"
        last = at[0]
    return result.story
