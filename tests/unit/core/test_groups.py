"""How a partition moves in two steps, so that no two members ever hold one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import UNSET

from tests.support.playbook import Scribe
from yak.core import groups, ops
from yak.core.groups import NOBODY


@pytest.fixture
def scribe() -> Scribe:
    """Topic t has two partitions, and a holds both since generation 1."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.member("a")
    share_out(scribe)
    return scribe


def share_out(scribe: Scribe) -> list[ops.Owner]:
    generation = scribe.state.group("g").generation + 1
    rows = groups.shared_out(scribe.state, "g", generation)
    scribe.owners(*rows)
    return rows


def released(scribe: Scribe, member: str, generation: int, *owned: tuple[str, int]) -> set[int]:
    """The partitions of t that a report releases."""
    group = scribe.state.group("g")
    free = groups.released(group, member, generation, list(owned))
    return {partition for _, partition in free}


def test_the_first_member_has_all_at_once(scribe: Scribe) -> None:
    assert scribe.state.group("g").assigned("a") == [("t", 0), ("t", 1)]


def test_a_partition_leaves_its_old_member_at_once_and_enters_nowhere_yet(scribe: Scribe) -> None:
    scribe.member("b")
    assert share_out(scribe) == [("t", 0, "a", None, None), ("t", 1, "b", "a", 2)]
    group = scribe.state.group("g")
    assert group.assigned("a") == [("t", 0)]
    assert group.assigned("b") == []


def test_it_enters_when_the_old_member_has_reported_that_generation_without_it(
    scribe: Scribe,
) -> None:
    scribe.member("b")
    share_out(scribe)
    assert released(scribe, "a", 2, ("t", 0)) == {1}
    scribe.owners(*groups.after_release(scribe.state.group("g"), {("t", 1)}))
    assert scribe.state.group("g").assigned("b") == [("t", 1)]
    assert scribe.state.group("g").moving == frozenset()


def test_a_report_of_an_older_generation_releases_nothing(scribe: Scribe) -> None:
    """It was written before the member knew; it may take up the partition after it."""
    scribe.member("b")
    share_out(scribe)
    assert released(scribe, "a", 1, ("t", 0)) == set()


def test_a_report_that_still_has_it_releases_nothing(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    assert released(scribe, "a", 2, ("t", 0), ("t", 1)) == set()


def test_a_report_of_a_later_generation_releases_too(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    assert released(scribe, "a", 9, ("t", 0)) == {1}


def test_owned_left_out_is_what_was_assigned(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    assert groups.released(scribe.state.group("g"), "a", 2, UNSET) == {("t", 1)}


@pytest.mark.parametrize("member", ["b", "c"])
def test_nobody_else_releases_what_a_holds(scribe: Scribe, member: str) -> None:
    scribe.member("b")
    scribe.member("c")
    share_out(scribe)
    assert scribe.state.group("g").moving
    assert released(scribe, member, 9) == set()


def test_if_the_old_member_is_gone_it_enters_at_once(scribe: Scribe) -> None:
    scribe.member("b")
    scribe.leaves("a")
    assert share_out(scribe) == [("t", 0, "b", None, None), ("t", 1, "b", None, None)]


def test_if_the_holder_goes_while_it_moves_it_enters_at_once(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    scribe.leaves("a")
    assert ("t", 1, "b", None, None) in share_out(scribe)


def test_a_partition_that_moves_on_still_waits_for_its_first_holder(scribe: Scribe) -> None:
    """b never had it, so only a counts, since the generation in which it lost it."""
    scribe.member("b")
    share_out(scribe)
    scribe.leaves("b")
    scribe.member("c")
    assert ("t", 1, "c", "a", 2) in share_out(scribe)


def test_one_that_comes_back_to_its_holder_is_its_own_again(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    scribe.leaves("b")
    assert ("t", 1, "a", None, None) in share_out(scribe)


def test_after_a_release_what_else_moves_goes_on_moving(scribe: Scribe) -> None:
    scribe.write(ops.CreatePartitions, topic="t", partitions=4)
    share_out(scribe)
    scribe.member("b")
    share_out(scribe)
    group = scribe.state.group("g")
    assert group.moving == {("t", 2), ("t", 3)}
    rows = groups.after_release(group, {("t", 3)})
    assert rows[2:] == [("t", 2, "b", "a", 3), ("t", 3, "b", None, None)]


def test_a_new_leader_waits_for_the_holders_that_the_log_names(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    again = Scribe()
    for op in scribe.log:
        again.state.apply(op)
    assert released(again, "a", 2, ("t", 0), ("t", 1)) == set()
    assert released(again, "a", 2, ("t", 0)) == {1}


def test_what_grew_goes_to_whoever_has_less(scribe: Scribe) -> None:
    scribe.write(ops.CreatePartitions, topic="t", partitions=3)
    assert ("t", 2, "a", None, None) in share_out(scribe)


def test_a_topic_that_nobody_wants_or_that_is_not_there_is_nobody_s(scribe: Scribe) -> None:
    scribe.topic("unwanted")
    scribe.member("a", "t", "not there")
    assert [row[0] for row in share_out(scribe)] == ["t", "t"]


def test_what_nobody_wants_any_more_is_waited_for_until_its_holder_has_let_it_go(
    scribe: Scribe,
) -> None:
    """Another member may come to want it meanwhile."""
    scribe.topic("u")
    scribe.member("a", "u")
    assert share_out(scribe)[:2] == [("t", 0, NOBODY, "a", 2), ("t", 1, NOBODY, "a", 2)]
    scribe.member("b", "t")
    assert share_out(scribe)[0] == ("t", 0, "b", "a", 2)
    assert released(scribe, "a", 2, ("t", 1)) == {0}


def test_a_topic_made_again_waits_for_who_held_the_one_before(scribe: Scribe) -> None:
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    assert share_out(scribe) == [("t", 0, NOBODY, "a", 2), ("t", 1, NOBODY, "a", 2)]
    scribe.member("b")
    scribe.topic("t", partitions=2)
    assert share_out(scribe) == [("t", 0, "a", None, None), ("t", 1, "b", "a", 2)]


def test_what_nobody_wants_and_nobody_holds_is_forgotten(scribe: Scribe) -> None:
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    share_out(scribe)
    assert groups.after_release(scribe.state.group("g"), {("t", 1)}) == [
        ("t", 0, NOBODY, "a", 2),
    ]
    scribe.leaves("a")
    assert share_out(scribe) == []


def test_a_group_that_is_shared_out_stays_as_it_is(scribe: Scribe) -> None:
    scribe.member("b")
    share_out(scribe)
    assert scribe.state.group("g").moving, "nor does what moves hurry"
    assert groups.overdue(scribe.state) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda scribe: scribe.member("b"),
        lambda scribe: scribe.write(ops.Deregister, reason="expired", group="g", member="a"),
        lambda scribe: scribe.write(ops.DeleteTopic, topic="t", topic_id="t1"),
        lambda scribe: scribe.write(ops.CreatePartitions, topic="t", partitions=3),
    ],
)
def test_what_was_not_shared_out_after_a_change_is_overdue(
    scribe: Scribe, change: Callable[[Scribe], object]
) -> None:
    change(scribe)
    assert groups.overdue(scribe.state) == ["g"]
    share_out(scribe)
    assert groups.overdue(scribe.state) == []


def test_the_groups_that_want_a_topic(scribe: Scribe) -> None:
    scribe.member("x", "other", group="h")
    scribe.member("y", "t", "other", group="f")
    assert groups.subscribers(scribe.state, "t") == ["f", "g"]
    assert groups.subscribers(scribe.state, "other") == ["f", "h"]
    assert groups.subscribers(scribe.state, "nobody's") == []
