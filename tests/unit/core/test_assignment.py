"""How partitions are shared out: examples first, then the rules as properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import process_time
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from yak.core import assignment
from yak.core.assignment import assign
from yak.model import TopicPartition

MEMBERS = st.dictionaries(
    st.sampled_from("abcdefg"), st.sets(st.sampled_from(["t", "u", "v"])), max_size=7
)
PARTITIONS = st.dictionaries(st.sampled_from(["t", "u", "v"]), st.integers(0, 9))
CURRENT = st.dictionaries(
    st.tuples(st.sampled_from(["t", "u", "v", "gone"]), st.integers(0, 11)),
    st.sampled_from("abcdefgz"),
    max_size=30,
)


def test_the_first_members_share_evenly() -> None:
    assert assign({"a": ["t"], "b": ["t"]}, {"t": 3}, {}) == {
        ("t", 0): "a",
        ("t", 1): "b",
        ("t", 2): "a",
    }


def test_a_newcomer_takes_only_its_share() -> None:
    before = assign({"a": ["t"], "b": ["t"]}, {"t": 6}, {})
    after = assign({"a": ["t"], "b": ["t"], "c": ["t"]}, {"t": 6}, before)
    assert Counter(after.values()) == {"a": 2, "b": 2, "c": 2}
    assert sum(before[where] != after[where] for where in before) == 2


def test_what_a_dead_member_had_goes_to_the_others_and_nothing_else_moves() -> None:
    before = assign({"a": ["t"], "b": ["t"], "c": ["t"]}, {"t": 7}, {})
    after = assign({"a": ["t"], "b": ["t"]}, {"t": 7}, before)
    assert all(after[where] == owner for where, owner in before.items() if owner != "c")
    assert sorted(Counter(after.values()).values()) == [3, 4]


def test_an_empty_group_owns_nothing() -> None:
    assert assign({}, {"t": 3}, {("t", 0): "a"}) == {}


def test_only_subscribers_own() -> None:
    shared = assign({"a": ["t", "u"], "b": ["u"]}, {"t": 2, "u": 4, "v": 1}, {})
    assert shared[("t", 0)] == shared[("t", 1)] == "a"
    assert Counter(shared.values()) == {"a": 3, "b": 3}
    assert ("v", 0) not in shared


def test_ten_thousand_partitions_among_a_hundred_members_take_well_under_a_second() -> None:
    members = {f"m{i:03}": ["t"] for i in range(100)}
    worst: dict[TopicPartition, str] = {("t", i): "m000" for i in range(10_000)}
    started = process_time()
    after = assign(members, {"t": 10_000}, worst)
    assert process_time() - started < 1.0
    assert set(Counter(after.values()).values()) == {100}


@given(MEMBERS, PARTITIONS, CURRENT)
def test_every_subscribed_partition_has_one_owner_who_subscribes_it(
    members: Mapping[str, set[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> None:
    shared = assign(members, partitions, current)
    wanted = {topic for topics in members.values() for topic in topics}
    assert set(shared) == {
        (topic, i) for topic, n in partitions.items() if topic in wanted for i in range(n)
    }
    assert all(topic in members[member] for (topic, _), member in shared.items())


@given(MEMBERS, PARTITIONS, CURRENT)
def test_no_move_could_make_two_members_more_equal(
    members: Mapping[str, set[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> None:
    shared = assign(members, partitions, current)
    loads = Counter(shared.values())
    for (topic, _), owner in shared.items():
        for other, topics in members.items():
            assert topic not in topics or loads[owner] <= loads[other] + 1


@given(MEMBERS, PARTITIONS, CURRENT)
def test_a_balanced_assignment_stays_as_it_is(
    members: Mapping[str, set[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> None:
    shared = assign(members, partitions, current)
    assert assign(members, partitions, shared) == shared


@given(MEMBERS, PARTITIONS, CURRENT)
def test_the_order_of_the_input_does_not_matter(
    members: Mapping[str, set[str]],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
) -> None:
    turned = assign(
        dict(reversed(list(members.items()))),
        dict(reversed(list(partitions.items()))),
        dict(reversed(list(current.items()))),
    )
    assert turned == assign(members, partitions, current)


@given(st.integers(1, 6), st.integers(0, 30), st.data())
def test_with_one_subscription_as_few_as_possible_move(
    size: int, count: int, data: st.DataObject
) -> None:
    names = [f"m{i}" for i in range(size)]
    owners = data.draw(st.lists(st.sampled_from(names), min_size=count, max_size=count))
    current: dict[TopicPartition, str] = {("t", i): owner for i, owner in enumerate(owners)}
    after = assign({name: ["t"] for name in names}, {"t": count}, current)
    least, extra = divmod(count, size)
    held = sorted(Counter(dict.fromkeys(names, 0) | Counter(owners)).values(), reverse=True)
    quotas = [least + 1] * extra + [least] * (size - extra)
    too_many = sum(max(0, have - quota) for have, quota in zip(held, quotas, strict=True))
    assert sum(current[where] != owner for where, owner in after.items()) == too_many


def is_balanced(shared: Mapping[TopicPartition, str], members: Mapping[str, set[str]]) -> bool:
    loads = Counter(shared.values())
    return all(
        loads[owner] <= loads[other] + 1
        for (topic, _), owner in shared.items()
        for other, topics in members.items()
        if topic in topics
    )


def moved(
    before: Mapping[TopicPartition, str],
    after: Mapping[TopicPartition, str],
    members: Mapping[str, set[str]],
) -> list[TopicPartition]:
    """What left an owner that could have kept it."""
    return [
        where
        for where, owner in before.items()
        if where in after and after[where] != owner and where[0] in members.get(owner, ())
    ]


@given(st.sets(st.sampled_from("abcdefg"), min_size=2), PARTITIONS, CURRENT, st.data())
def test_who_leaves_moves_only_what_was_its_own(
    names: set[str],
    partitions: Mapping[str, int],
    current: Mapping[TopicPartition, str],
    data: st.DataObject,
) -> None:
    members = {name: {"t", "u"} for name in names}
    before = assign(members, partitions, current)
    del members[data.draw(st.sampled_from(sorted(names)))]
    assert moved(before, assign(members, partitions, before), members) == []


@given(st.sets(st.sampled_from("abcdef")), PARTITIONS, CURRENT)
def test_who_comes_takes_its_share_and_nobody_else_gains(
    names: set[str], partitions: Mapping[str, int], current: Mapping[TopicPartition, str]
) -> None:
    members = {name: {"t", "u"} for name in names}
    before = assign(members, partitions, current)
    members["new"] = {"t", "u"}
    after = assign(members, partitions, before)
    assert {after[where] for where in moved(before, after, members)} <= {"new"}


@given(MEMBERS, PARTITIONS, st.sampled_from(["t", "u", "v"]), st.integers(1, 9))
def test_new_partitions_move_old_ones_only_for_balance(
    members: Mapping[str, set[str]], partitions: Mapping[str, int], topic: str, more: int
) -> None:
    """Handed to the idlest, they are the last to make anybody the busiest."""
    before = assign(members, partitions, {})
    grown = {**partitions, topic: partitions.get(topic, 0) + more}
    after = assign(members, grown, before)
    assert is_balanced(after, members)
    if len({frozenset(topics) for topics in members.values()}) == 1:
        assert moved(before, after, members) == []


@given(MEMBERS, PARTITIONS, CURRENT)
def test_what_is_told_without_looking_at_the_members_is_what_looking_at_them_gives(
    members: dict[str, list[str]],
    partitions: dict[str, int],
    current: dict[tuple[str, int], str],
) -> None:
    with patch.object(assignment, "_one_each", lambda *_: False):
        looked = assign(members, partitions, current)
    assert assign(members, partitions, current) == looked
    with patch.object(assignment, "_one_each", lambda *_: False):
        again = assign(members, partitions, looked)
    assert assign(members, partitions, looked) == again


def test_the_next_of_thousands_of_members_is_not_shared_out_among_all() -> None:
    members = {f"m{number}": ["t"] for number in range(3)}
    before = assign(members, {"t": 3}, {})
    members["late"] = ["t"]
    with patch.object(assignment, "_by_subscribers", side_effect=AssertionError):
        assert assign(members, {"t": 3}, before) == before
    members["new"] = ["u"]
    assert assign(members, {"t": 3, "u": 1}, before) == {**before, ("u", 0): "new"}


def test_a_thousand_topics_of_different_subscribers_take_well_under_a_second() -> None:
    topics = [f"t{i:03}" for i in range(1000)]
    members = {f"m{i:02}": set(topics[i : i + 400] + topics[: i * 7]) for i in range(60)}
    partitions = dict.fromkeys(topics, 10)
    started = process_time()
    before = assign(members, partitions, {})
    gone = members.pop("m30")
    after = assign(members, partitions, before)
    assert assign({**members, "m30": gone}, partitions, after)
    assert process_time() - started < 3.0
