"""How partitions are shared out: examples first, then the rules as properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

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
