"""What the core knows of its own log; where two logs part (rule `truncate_deep`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.playbook import a_batch, a_lead
from yak.core.log import Log


def a_log(*epochs: int) -> Log:
    """A log of which each operation's epoch is given: a_log(1, 1, 3) ends at index 3."""
    log = Log([], 1, 0)
    for index, epoch in enumerate(epochs, 1):
        log.append(a_lead(index, epoch))
    return log


def test_an_empty_log() -> None:
    log = Log([], 1, 0)
    assert (log.next, log.durable, log.end, log.epochs) == (1, 0, (0, 0), [])


def test_appending_notes_where_each_epoch_begins() -> None:
    log = a_log(1, 1, 3, 3, 4)
    assert log.epochs == [(1, 1), (3, 3), (4, 5)]
    assert log.end == (4, 5)
    assert [op.index for op in log.recent] == [1, 2, 3, 4, 5]


def test_what_is_appended_is_not_durable_yet() -> None:
    assert a_log(1, 1).durable == 0


def test_the_time_of_the_log_never_goes_back() -> None:
    log = Log([], 1, 0)
    log.append(a_batch(1, time=50))
    log.append(a_batch(2, time=40))
    assert log.time == 50


def test_a_gap_and_a_falling_epoch_are_impossible() -> None:
    with pytest.raises(AssertionError, match="operation 5 at the log's end 3"):
        a_log(2, 2).append(a_lead(5, 2))
    with pytest.raises(AssertionError, match="epoch 1 after 2"):
        a_log(2, 2).append(a_lead(3, 1))


def test_truncation_forgets_epochs_operations_and_durability() -> None:
    log = a_log(1, 1, 3, 3, 4)
    log.durable = 4
    log.truncate(3)
    assert (log.next, log.durable, log.epochs) == (3, 2, [(1, 1)])
    assert [op.index for op in log.recent] == [1, 2]


def test_truncation_in_the_middle_of_an_epoch_keeps_it() -> None:
    log = a_log(1, 1, 3, 3)
    log.truncate(4)
    assert (log.end, log.epochs) == ((3, 3), [(1, 1), (3, 3)])


def test_truncation_never_lengthens_a_log() -> None:
    with pytest.raises(AssertionError):
        a_log(1, 1).truncate(4)


@pytest.mark.parametrize(
    ("mine", "theirs", "common"),
    [
        ((), (), 1),
        ((1, 1), (), 1),
        ((1, 1, 1), (1,), 2),
        ((1,), (1, 1, 1), 2),
        ((1, 1, 3), (1, 1, 2, 2), 3),  # they have what another leader wrote
        ((1, 3), (1, 1, 3), 2),  # epoch 3 began elsewhere: it is another leader's
        ((1, 1, 2, 4), (1, 1, 3, 3, 3), 3),  # `truncate_deep`: below the last epoch of both
        ((2, 2), (1, 1), 1),
    ],
)
def test_where_two_logs_part(mine: tuple[int, ...], theirs: tuple[int, ...], common: int) -> None:
    other = a_log(*theirs)
    assert a_log(*mine).common_prefix(other.epochs, other.next) == common


EPOCHS = st.lists(st.integers(1, 5), max_size=9).map(sorted)


@given(mine=EPOCHS, theirs=EPOCHS)
def test_where_two_logs_part_by_comparing_every_operation(
    mine: list[int], theirs: list[int]
) -> None:
    """An operation is known by its index, its epoch and where that epoch began."""
    one, other = a_log(*mine), a_log(*theirs)
    equal = 0
    for a, b in zip(operations(mine), operations(theirs), strict=False):
        if a != b:
            break
        equal += 1
    assert one.common_prefix(other.epochs, other.next) == equal + 1
    assert other.common_prefix(one.epochs, one.next) == equal + 1


def operations(epochs: list[int]) -> list[tuple[int, int]]:
    return [(epoch, epochs.index(epoch)) for epoch in epochs]
