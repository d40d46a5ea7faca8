"""Section 4 of the protocol: consumers, their heartbeats and acknowledgements, and the group.

Members here beat by hand, so that every step of a generation can be looked at; what becomes of
members that die is in test_groups.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.members import Member, positions, settle
from tests.support.process import wait_until
from tests.support.wire import Fields, Wire

# -- register -------------------------------------------------------------------------------------


def test_a_lone_member_gets_everything(leader: Wire, name: str) -> None:
    member = Member(leader, name, name)
    assert member.assignment == [(name, 0), (name, 1), (name, 2)], "the topic was made for it"
    assert set(member.offsets.values()) == {None}
    assert isinstance(member.member, str)
    assert leader.ok("metadata", topics=[name])["topics"][name]["partitions"] == 3


def test_register_of_a_consumer_needs_a_group(leader: Wire, topic: str) -> None:
    answer = leader.refused("INVALID_REQUEST", "register", role="consumer", topics=[topic])
    assert "group" in answer["message"]


@pytest.mark.parametrize("session_ms", [1000, 300_000])
def test_the_shortest_and_the_longest_session(leader: Wire, name: str, session_ms: int) -> None:
    leader.ok("register", role="consumer", group=name, topics=[], session_ms=session_ms)


def test_renewing_keeps_the_generation_unless_topics_change(leader: Wire, name: str) -> None:
    member = Member(leader, name, name)
    generation = member.generation
    assert member.renew(name)["member"] == member.member
    assert member.generation == generation
    member.renew(name, name + "-b")
    assert member.generation > generation
    settle(member)
    assert len(member.assignment) == 6


def test_a_member_that_nobody_knows_cannot_renew(leader: Wire, name: str) -> None:
    fields: Fields = {"role": "consumer", "group": name, "member": "nobody", "topics": [name]}
    leader.refused("UNKNOWN_MEMBER", "register", **fields)


def test_deregister_ends_a_membership(leader: Wire, name: str) -> None:
    member = Member(leader, name, name)
    member.leave()
    leader.refused("UNKNOWN_MEMBER", "heartbeat", **member.identity)
    leader.refused("UNKNOWN_MEMBER", "deregister", group=name, member=member.member)
    leader.refused("UNKNOWN_MEMBER", "ack", **member.identity, offsets=[[name, 0, 0]])
    assert leader.ok("group", group=name)["members"] == []


# -- heartbeats and generations -------------------------------------------------------------------


def test_a_heartbeat_of_the_present_generation_is_short(leader: Wire, name: str) -> None:
    member = Member(leader, name, name)
    answer = member.beat()
    assert answer["generation"] == member.generation
    assert "assignment" not in answer
    leader.refused("UNKNOWN_MEMBER", "heartbeat", **{**member.identity, "member": "x"})
    leader.refused("UNKNOWN_MEMBER", "heartbeat", **{**member.identity, "group": name + "x"})


def test_a_heartbeat_of_an_older_generation_is_told_all(leader: Wire, name: str) -> None:
    first = Member(leader, name, name)
    first.ack(name, 1, 0)
    old = first.generation
    Member(leader, name, name)
    answer = first.beat()
    assert answer["generation"] > old
    assert "assignment" in answer
    assert "offsets" in answer


def test_a_partition_moves_in_two_steps(leader: Wire, name: str) -> None:
    """It enters the new member's assignment only once the old one has reported without it."""
    first = Member(leader, name, name)
    held = first.assignment
    second = Member(leader, name, name)
    assert second.assignment == [], "everything is still the first one's"

    first.beat(owned=held)
    kept = first.assignment
    assert 1 <= len(kept) < 3, "some were taken from it"
    second.beat(owned=[])
    assert second.assignment == [], "the first one has not yet let go"

    first.beat(owned=held)
    second.beat(owned=[])
    assert second.assignment == [], "it reported that it still holds them"

    first.beat(owned=kept)
    settle(first, second)
    assert first.assignment == kept
    assert sorted(first.assignment + second.assignment) == held


def test_who_says_nothing_of_what_it_owns_owns_what_it_was_assigned(
    leader: Wire, name: str
) -> None:
    first = Member(leader, name, name)
    second = Member(leader, name, name)
    old = first.generation
    first.wire.ok("heartbeat", **{**first.identity, "generation": old})
    second.beat(owned=[])
    assert second.assignment == []
    first.beat()
    first.beat()
    wait_until(lambda: second.beat(owned=second.assignment) and second.assignment, "it moves")
    settle(first, second)
    assert sorted(first.assignment + second.assignment) == [(name, n) for n in range(3)]


def test_what_a_leaving_member_had_goes_to_the_others(leader: Wire, name: str) -> None:
    first, second = Member(leader, name, name), Member(leader, name, name)
    settle(first, second)
    first.leave()
    settle(second)
    assert second.assignment == [(name, 0), (name, 1), (name, 2)]


def test_members_share_evenly_and_each_partition_has_one_owner(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=10)
    members = [Member(leader, name, name) for _ in range(4)]
    settle(*members)
    shares = [member.assignment for member in members]
    assert sorted(place for share in shares for place in share) == [(name, n) for n in range(10)]
    assert {len(share) for share in shares} == {2, 3}


def test_only_subscribers_get_a_topics_partitions(leader: Wire, name: str) -> None:
    a, b = Member(leader, name, name + "-a"), Member(leader, name, name + "-b")
    settle(a, b)
    assert {topic for topic, _ in a.assignment} == {name + "-a"}
    assert {topic for topic, _ in b.assignment} == {name + "-b"}
    assert len(a.assignment) == len(b.assignment) == 3


# -- ack ------------------------------------------------------------------------------------------


@pytest.fixture
def filled(leader: Wire, topic: str) -> str:
    """Offsets 0 to 9 in partition 0."""
    leader.produce(topic, 0, range(10))
    return topic


def test_an_ack_sets_the_larger_of_what_was_and_what_is_given(
    leader: Wire, name: str, filled: str
) -> None:
    member = Member(leader, name, filled)
    for offset, stands in ((0, 0), (4, 4), (2, 4), (4, 4), (10, 10)):
        member.ack(filled, 0, offset)
        assert positions(leader, name)[filled, 0]["acked"] == stands
    assert Member(leader, name, filled).renew(filled)["ok"]
    member.leave()


def test_where_the_group_stands_is_told_to_who_comes_next(
    leader: Wire, name: str, filled: str
) -> None:
    member = Member(leader, name, filled)
    member.ack(filled, 0, 7)
    member.leave()
    assert Member(leader, name, filled).offsets == {(filled, 0): 7}


def test_an_ack_above_the_high_watermark_is_refused(leader: Wire, name: str, filled: str) -> None:
    member = Member(leader, name, filled)
    answer = leader.refused(
        "OFFSET_OUT_OF_RANGE", "ack", **member.identity, offsets=[[filled, 0, 11]]
    )
    assert (answer["start"], answer["high_watermark"]) == (0, 10)
    assert positions(leader, name)[filled, 0]["acked"] is None


def test_one_bad_entry_refuses_the_whole(leader: Wire, name: str) -> None:
    member = Member(leader, name, name)
    leader.produce(name, 0, range(5))
    for bad, error in (
        ([name, 1, 1], "OFFSET_OUT_OF_RANGE"),
        ([name, 9, 0], "UNKNOWN_PARTITION"),
        (["no" + name, 0, 0], "UNKNOWN_TOPIC"),
    ):
        for entries in ([[name, 0, 3], bad], [bad, [name, 0, 3]]):
            leader.refused(error, "ack", **member.identity, offsets=entries)
    assert positions(leader, name)[name, 0]["acked"] is None


def test_an_older_generation_is_accepted_unless_it_is_fenced(
    leader: Wire, name: str, filled: str
) -> None:
    member = Member(leader, name, filled)
    old = member.generation
    Member(leader, name, filled)
    assert member.beat()["generation"] > old
    member.ack(filled, 0, 3, generation=old)
    leader.refused(
        "STALE_GENERATION",
        "ack",
        **{**member.identity, "generation": old},
        offsets=[[filled, 0, 4]],
        fence=True,
    )
    member.ack(filled, 0, 5, fence=True)
    assert positions(leader, name)[filled, 0]["acked"] == 5


def test_a_stranger_cannot_acknowledge(leader: Wire, name: str, filled: str) -> None:
    Member(leader, name, filled)
    fields: Fields = {"group": name, "generation": 1, "offsets": [[filled, 0, 1]]}
    leader.refused("UNKNOWN_MEMBER", "ack", member="stranger", **fields)
    leader.refused("GROUP_NOT_EMPTY", "ack", group=name, offsets=[[filled, 0, 1]])
    assert positions(leader, name)[filled, 0]["acked"] is None


def test_from_outside_an_empty_group_is_moved_also_back(
    leader: Wire, name: str, filled: str
) -> None:
    def stands() -> Any:
        return positions(leader, name)[filled, 0]["acked"]

    leader.ok("ack", group=name, offsets=[[filled, 0, 8]])
    assert stands() == 8
    leader.ok("ack", group=name, offsets=[[filled, 0, 2]])
    assert stands() == 8
    leader.ok("ack", group=name, offsets=[[filled, 0, 2]], reset=True)
    assert stands() == 2
    leader.refused("OFFSET_OUT_OF_RANGE", "ack", group=name, offsets=[[filled, 0, 11]], reset=True)
    assert Member(leader, name, filled).offsets == {(filled, 0): 2}


# -- group ----------------------------------------------------------------------------------------


def test_the_group_says_what_has_reached_whom(leader: Wire, name: str, filled: str) -> None:
    member = Member(leader, name, filled, client="reader-7")
    member.ack(filled, 0, 3)
    member.beat(delivered=[[filled, 0, 8]])
    answer = leader.ok("group", group=name)
    assert answer["generation"] == member.generation
    (entry,) = answer["members"]
    assert (entry["member"], entry["client"]) == (member.member, "reader-7")
    assert entry["assignment"] == [[filled, 0]]
    assert positions(leader, name) == {
        (filled, 0): {
            "topic": filled,
            "partition": 0,
            "acked": 3,
            "delivered": 8,
            "high_watermark": 10,
            "lag": 7,
            "member": member.member,
        }
    }


def test_a_group_that_never_acknowledged_lags_from_the_start(
    leader: Wire, name: str, filled: str
) -> None:
    Member(leader, name, filled)
    entry = positions(leader, name)[filled, 0]
    assert (entry["acked"], entry["lag"]) == (None, 10)


def test_an_unknown_group_is_empty(leader: Wire, name: str) -> None:
    answer = leader.ok("group", group=name)
    assert (answer["members"], answer["partitions"]) == ([], [])


def test_positions_outlive_the_members(shared: Cluster, leader: Wire, filled: str) -> None:
    group = filled + "-group"
    member = Member(leader, group, filled)
    member.ack(filled, 0, 6)
    member.leave()
    entry = positions(leader, group)[filled, 0]
    assert (entry["acked"], entry["lag"], entry["member"]) == (6, 4, None)
    assert shared.leader() is not None
