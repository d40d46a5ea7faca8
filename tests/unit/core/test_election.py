"""The rules of election, each as a short story: what was agreed, what happened, what is agreed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.documents import NEW, a_join, agreed, alive, decide, suspect, take_in, there
from yak import messages as m
from yak.config import Settings
from yak.core import election
from yak.core.document import (
    ELECTIONS_REMEMBERED,
    Document,
    Liveness,
    Present,
    Replica,
)
from yak.errors import Refused


def proposal(*isr: int, epoch: int = 3, version: int = 12, **incs: str) -> m.ProposeIsr:
    """b4="i4.1" names an incarnation."""
    named = {name.removeprefix("b"): inc for name, inc in incs.items()}
    return m.ProposeIsr(id=1, epoch=epoch, version=version, isr=list(isr), incs=named)


def change(document: Document, request: m.ProposeIsr, *brokers: int, by: int = 1) -> Document:
    return election.change_isr(document, by, request, there(*brokers))[0]


# -- bootstrap ------------------------------------------------------------------------------------


def test_bootstrap_the_lowest_id_present_begins_alone_in_sync() -> None:
    document = decide(NEW, alive(3, 2, bootstrap=True))
    assert (document.epoch, document.leader, document.isr) == (1, 2, (Replica(2, "d2"),))
    assert document.leader_inc == "i2.1"


def test_bootstrap_waits_until_it_may() -> None:
    assert decide(NEW, alive(1, 2)) is NEW
    assert decide(NEW, alive(bootstrap=True)) is NEW


# -- who leads ------------------------------------------------------------------------------------


def test_elect_isr_the_lowest_live_member_of_the_isr_leads() -> None:
    document = decide(agreed(leader=2, isr=(2, 3, 4)), alive(1, 3, 4))
    assert (document.epoch, document.leader, document.leader_inc) == (4, 3, "i3.1")


def test_a_lower_id_that_comes_back_does_not_take_over() -> None:
    document = agreed(leader=2)
    assert decide(document, alive(1, 2, 3)) is document


def test_elect_isr_nobody_leads_where_no_member_of_the_isr_lives() -> None:
    document = decide(agreed(isr=(1, 2)), alive(3, 4))
    assert (document.epoch, document.leader, document.leader_inc) == (3, None, "")
    assert "1 is not there, 2 is not there" in document.elections[-1].reason
    assert decide(document, alive(3, 4)) is document, "said once"


@pytest.mark.parametrize("state", ["torn", "unclean", "damaged"])
def test_not_whole_members_are_passed_over(state: m.LogState) -> None:
    document = decide(agreed(suspects=suspect(2, state)), alive(2, 3))
    assert document.leader == 3
    assert document.suspects == suspect(2, state)


def test_drop_dead_down_to_the_floor_and_of_the_dead_the_lowest_stay() -> None:
    document = decide(agreed(isr=(1, 2, 3, 4)), alive(4))
    assert (document.leader, document.isr_ids) == (4, [1, 4])
    document = decide(agreed(isr=(1, 2, 3)), alive(2, 3))
    assert (document.leader, document.isr_ids) == (2, [2, 3])


def test_drop_dead_keeps_all_below_the_floor() -> None:
    document = decide(agreed(isr=(1, 2)), alive(2))
    assert (document.leader, document.isr_ids) == (2, [1, 2])


def test_new_epoch_for_a_leader_that_was_restarted_even_if_it_is_elected_again() -> None:
    document = agreed()
    restarted = Liveness({**there(2, 3), 1: Present("i1.2", "d1", (3, 9))})
    after = decide(document, restarted)
    assert (after.epoch, after.leader, after.leader_inc) == (4, 1, "i1.2")
    assert after.elections[-1].reason.startswith("leader 1 was restarted")


def test_new_epoch_also_where_nobody_else_led_meanwhile() -> None:
    document = decide(agreed(leader=None), alive(1, 2, 3))
    assert (document.epoch, document.leader) == (4, 1)


def test_a_leader_that_joins_damaged_leads_no_longer() -> None:
    document = take_in(agreed(), a_join(1, state="damaged"))
    assert decide(document, alive(1, 2, 3)).leader == 2


def test_zk_grace_who_has_not_been_heard_of_is_not_dead() -> None:
    document = agreed()
    assert decide(document, alive(2, presumed=frozenset({1, 3}))) is document
    restarted = agreed(leader=2)
    living = Liveness({2: Present("i2.2", "d2", (3, 9))}, presumed=frozenset({1, 3}))
    after = decide(restarted, living)
    assert (after.leader, after.isr_ids) == (2, [1, 2, 3])


def test_cooldown_who_resigned_is_passed_over() -> None:
    vacated = election.vacate(agreed(), 1, 3)
    assert decide(vacated, alive(1, 2, 3, cooling=frozenset({1}))).leader == 2


def test_cooldown_but_not_where_nobody_else_is_electable_nor_in_the_same_breath() -> None:
    vacated = election.vacate(agreed(isr=(1, 2)), 1, 3)
    resting = alive(1, cooling=frozenset({1}), resting=frozenset({1}))
    assert decide(vacated, resting) is vacated
    assert decide(vacated, alive(1, cooling=frozenset({1}))).leader == 1


# -- torn -----------------------------------------------------------------------------------------

TORN = {**suspect(1, "torn"), **suspect(2, "torn"), **suspect(3, "damaged")}


def test_torn_the_one_that_goes_furthest_leads_once_every_member_has_joined() -> None:
    document = agreed(leader=None, suspects=TORN)
    ends = Liveness(there(1, 2, 3, b1=(3, 7), b2=(3, 8), b3=(3, 99)))
    after = decide(document, ends)
    assert (after.epoch, after.leader, after.isr_ids) == (4, 2, [1, 2, 3])
    assert set(after.suspects) == {1, 3}, "the election makes it whole"


def test_torn_a_later_epoch_goes_further_than_a_longer_log() -> None:
    document = agreed(leader=None, suspects=TORN)
    ends = Liveness(there(1, 2, 3, b1=(2, 99), b2=(3, 8)))
    assert decide(document, ends).leader == 2
    even = Liveness(there(1, 2, 3, b1=(3, 8), b2=(3, 8)))
    assert decide(document, even).leader == 1


def test_torn_nobody_while_a_member_is_missing() -> None:
    document = agreed(leader=None, suspects=TORN)
    assert decide(document, alive(1, 2)) is document


def test_settled_nobody_while_one_has_yet_to_say_where_its_log_ends() -> None:
    document = agreed(leader=None, suspects=TORN)
    growing = Liveness(there(1, 2, 3, b1=(3, 7), b2=(3, 8)), unsettled=frozenset({1}))
    assert decide(document, growing) is document


def test_settled_is_nothing_to_wait_for_where_one_is_whole() -> None:
    document = agreed(leader=None, suspects=suspect(1, "torn"))
    assert decide(document, alive(1, 2, 3, unsettled=frozenset({1, 2, 3}))).leader == 2


def test_torn_a_whole_one_goes_first_however_short() -> None:
    document = agreed(leader=None, suspects=suspect(1, "torn"))
    ends = Liveness(there(1, 2, 3, b1=(3, 99), b2=(3, 1)))
    assert decide(document, ends).leader == 2


@pytest.mark.parametrize("state", ["unclean", "damaged"])
def test_damaged_and_unclean_never_lead(state: m.LogState) -> None:
    document = agreed(leader=None, isr=(1,), suspects=suspect(1, state))
    assert decide(document, alive(1)) is document
    document = agreed(isr=(1,), suspects=suspect(1, state))
    assert f"1 is {state}" in decide(document, alive(1)).elections[-1].reason


# -- the ISR --------------------------------------------------------------------------------------


def refused(document: Document, request: m.ProposeIsr, *brokers: int, by: int = 1) -> str:
    with pytest.raises(Refused) as e:
        change(document, request, *brokers, by=by)
    return e.value.name


def test_the_leader_expands_and_shrinks() -> None:
    document = change(agreed(isr=(1, 2)), proposal(1, 2, 3, b3="i3.1"), 1, 2, 3)
    assert document.isr == (Replica(1, "d1"), Replica(2, "d2"), Replica(3, "d3"))
    assert change(agreed(), proposal(1, 3), 1, 2, 3).isr_ids == [1, 3]


def test_fence_zk_the_sitting_leader_alone_on_top_of_what_it_saw() -> None:
    assert refused(agreed(), proposal(2, 3), 1, 2, 3, by=2) == "STALE_EPOCH"
    assert refused(agreed(), proposal(1, 3, epoch=2), 1, 2, 3) == "STALE_EPOCH"
    assert refused(agreed(), proposal(1, 3, version=11), 1, 2, 3) == "STALE_EPOCH"
    assert refused(agreed(leader=None), proposal(1, 3), 1, 2, 3) == "STALE_EPOCH"


def test_expand_inc_who_enters_is_the_process_that_caught_up() -> None:
    pair = agreed(isr=(1, 2))
    assert refused(pair, proposal(1, 2, 3, b3="i3.0"), 1, 2, 3) == "STALE_EPOCH"
    assert refused(pair, proposal(1, 2, 3), 1, 2, 3) == "STALE_EPOCH"
    assert refused(pair, proposal(1, 2, 3, b3="i3.1"), 1, 2) == "STALE_EPOCH"


def test_expand_inc_holds_for_members_that_are_to_be_whole_again() -> None:
    document = agreed(suspects=suspect(2, "torn"))
    assert refused(document, proposal(1, 2, 3, b2="i2.0"), 1, 2, 3) == "STALE_EPOCH"


def test_a_proposal_that_names_its_incarnation_makes_a_member_whole_on_the_disk_it_has() -> None:
    document = take_in(agreed(), a_join(2, disk="dX", cluster=None, end=(0, 0), epoch=0))
    present = {**there(1, 3), 2: Present("i2.1", "dX", (0, 0))}
    request = proposal(1, 2, 3, b2="i2.1")
    after, (told,) = election.change_isr(document, 1, request, present)
    assert after.suspects == {}
    assert after.isr == (Replica(1, "d1"), Replica(2, "dX"), Replica(3, "d3"))
    assert told.fields["reason"] == "whole again: 2"


def test_a_proposal_that_does_not_name_it_leaves_a_suspect_one() -> None:
    document = agreed(suspects=suspect(2, "torn"))
    assert change(document, proposal(1, 2), 1, 2, 3).suspects == suspect(2, "torn")


def test_floor_nobody_leaves_below_min_insync_replicas() -> None:
    assert refused(agreed(isr=(1, 2)), proposal(1), 1, 2) == "NOT_ENOUGH_REPLICAS"
    alone = agreed(isr=(1, 2), settings=Settings(min_insync_replicas=1))
    assert change(alone, proposal(1), 1, 2).isr_ids == [1]


def test_floor_a_cluster_that_is_still_growing_may_grow() -> None:
    settings = Settings(min_insync_replicas=3)
    document = agreed(isr=(1,), settings=settings)
    assert change(document, proposal(1, 2, b2="i2.1"), 1, 2).isr_ids == [1, 2]


def test_the_leader_stays_in() -> None:
    assert refused(agreed(), proposal(2, 3), 1, 2, 3) == "INVALID_REQUEST"


def test_a_proposal_that_changes_nothing_is_granted_and_changes_nothing() -> None:
    document = agreed()
    assert change(document, proposal(1, 2, 3), 1, 2, 3) is document


def test_only_the_sitting_leader_resigns() -> None:
    for broker, epoch in ((2, 3), (1, 2)):
        with pytest.raises(Refused, match="resigns"):
            election.vacate(agreed(), broker, epoch)
    assert election.vacate(agreed(), 1, 3).leader is None


# -- the record -----------------------------------------------------------------------------------


def test_each_decision_is_told_and_remembered_with_its_reason() -> None:
    living = alive(2, 3, gone={1: "its port refuses connections"})
    after, (told,) = election.decide(agreed(), living, 77)
    assert told.event == "elected"
    assert told.fields["reason"] == (
        "leader 1 is gone: its port refuses connections; broker 2 is the lowest live in-sync id; "
        "dropped from the ISR, as dead: 1"
    )
    assert after.elections[-1] == m.Election(
        time=77, epoch=4, leader=2, reason=told.fields["reason"]
    )


def test_the_record_is_bounded() -> None:
    document = agreed()
    for _ in range(2 * ELECTIONS_REMEMBERED):
        document = decide(replace(document, leader=None), alive(1, 2))
    assert len(document.elections) == ELECTIONS_REMEMBERED
