"""What an operator orders, as short stories: what was agreed, who is there, what would be done."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.documents import NEW, agreed, alive, suspect, there
from yak import messages as m
from yak.core import election, orders
from yak.core.document import Document, Known, Liveness, Present, Replica
from yak.core.orders import Order
from yak.errors import Refused

#: Power was cut everywhere: of the ISR both are unclean; 3 had fallen behind before.
POWER_CUT = replace(
    agreed(leader=None, isr=(1, 2), suspects={**suspect(1, "unclean"), **suspect(2, "unclean")}),
    brokers={i: Known("127.0.0.1", 9091 + i, f"d{i}") for i in (1, 2, 3)},
)
ALL = Liveness(there(1, 2, 3, b1=(3, 7), b2=(3, 9), b3=(2, 4)))


def elect(document: Document, living: Liveness, broker: int) -> Order:
    return orders.elect(document, living, broker, 1_763_800_000_000)


def refused(document: Document, living: Liveness, broker: int) -> Refused:
    with pytest.raises(Refused) as e:
        elect(document, living, broker)
    return e.value


def lost(order: Order) -> str:
    return "; ".join(order.answer.losses)


def entry(order: Order, broker: int) -> m.OrderEntry:
    return next(one for one in order.answer.brokers if one.broker == broker)


# -- a planned move -------------------------------------------------------------------------------


def test_a_whole_member_takes_over_in_a_new_epoch_and_nothing_is_lost() -> None:
    order = elect(agreed(), alive(1, 2, 3), 2)
    after = order.document
    assert (after.epoch, after.leader, after.leader_inc, after.isr_ids) == (4, 2, "i2.1", [1, 2, 3])
    assert order.answer.losses == []
    assert order.answer.would == "move the lead from broker 1 to broker 2, in epoch 4"
    assert after.elections[-1].reason == "ordered by an operator: broker 2 takes over from broker 1"
    assert [tell.event for tell in order.said] == ["elected"]


def test_a_move_is_possible_while_nobody_leads_also_to_one_that_rests() -> None:
    resting = alive(1, 2, cooling=frozenset({1}), resting=frozenset({1}))
    order = elect(agreed(leader=None, isr=(1, 2)), resting, 1)
    assert order.document.leader == 1
    assert order.answer.would == "move the lead to broker 1, in epoch 4"


def test_a_move_leaves_the_others_as_they_are() -> None:
    document = agreed(suspects=suspect(3, "torn"))
    after = elect(document, alive(1, 2), 2).document
    assert (after.isr_ids, after.suspects) == ([1, 2, 3], suspect(3, "torn"))


# -- who is refused -------------------------------------------------------------------------------


def test_nonsense_is_refused_with_what_there_is() -> None:
    assert "known are: 1, 2, 3" in refused(agreed(), alive(1, 2), 9).message
    assert "not here" in refused(agreed(), alive(1, 2), 3).message
    assert "leads already" in refused(agreed(), alive(1, 2), 1).message
    no_epoch = replace(NEW, brokers={1: Known("127.0.0.1", 9092, "d1")})
    assert "no epoch" in refused(no_epoch, alive(1), 1).message


def test_who_may_lack_something_is_not_ordered_past_a_leader_that_has_it_all() -> None:
    outside = replace(agreed(isr=(1, 2)), brokers=POWER_CUT.brokers)
    for document, broker in ((outside, 3), (agreed(suspects=suspect(2, "unclean")), 2)):
        error = refused(document, alive(1, 2, 3), broker)
        assert (error.name, "broker 1 leads" in error.message) == ("INVALID_REQUEST", True)


def test_nor_past_one_that_is_about_to_be_elected() -> None:
    document = replace(POWER_CUT, suspects=suspect(2, "unclean"))
    resting = ALL._replace(cooling=frozenset({1}), resting=frozenset({1}))
    assert "broker 1 has it all" in refused(document, resting, 2).message
    torn = replace(POWER_CUT, suspects={**suspect(1, "torn"), **suspect(2, "unclean")})
    assert "broker 1 is elected without an order" in refused(torn, ALL, 2).message


def test_what_is_not_known_yet_is_waited_for() -> None:
    """NO_LEADER is retriable: who asks, asks again."""
    started = Liveness(there(2), presumed=frozenset({1}))
    assert refused(POWER_CUT, started, 2).name == "NO_LEADER"
    growing = ALL._replace(unsettled=frozenset({1}))
    error = refused(POWER_CUT, growing, 2)
    assert (error.name, "brokers 1 have yet to say" in error.message) == ("NO_LEADER", True)


def test_an_empty_log_is_no_leader_of_a_cluster_that_had_one() -> None:
    wiped = Liveness({**there(2), 1: Present("i1.1", "dX", (0, 0))})
    assert "empty" in refused(POWER_CUT, wiped, 1).message


# -- an election that the rules do not make -------------------------------------------------------


@pytest.mark.parametrize("state", ["torn", "unclean", "damaged"])
def test_one_that_the_rules_pass_over_leads_and_is_whole(state: m.LogState) -> None:
    document = agreed(leader=None, isr=(1, 2), suspects=suspect(2, state))
    order = elect(document, alive(2), 2)
    after = order.document
    assert (after.epoch, after.leader, after.leader_inc, after.suspects) == (4, 2, "i2.1", {})
    assert state in order.answer.would
    assert after.elections[-1].reason.startswith("ordered by an operator: broker 2, which is ")
    assert [tell.event for tell in order.said] == ["ordered", "elected"]
    assert order.said[0].fields["losses"] == order.answer.losses


def test_the_others_stay_in_the_isr_so_that_nothing_is_committed_without_them() -> None:
    after = elect(POWER_CUT, ALL, 2).document
    assert (after.isr_ids, after.suspects) == ([1, 2], suspect(1, "unclean"))


def test_drop_dead_holds_down_to_the_floor() -> None:
    suspects = {**suspect(3, "unclean")}
    after = elect(agreed(leader=None, suspects=suspects), alive(3), 3).document
    assert after.isr_ids == [1, 3]
    assert "dropped from the ISR, as dead: 2" in after.elections[-1].reason


def test_one_that_was_not_in_sync_enters_the_isr_with_its_leading() -> None:
    order = elect(POWER_CUT, ALL, 3)
    assert order.document.isr_ids == [1, 2, 3]
    assert order.document.isr[2] == Replica(3, "d3")
    assert "was not in sync and whose log ends with operation 4 of epoch 2" in order.answer.would
    assert "others acknowledged without it" in lost(order)


def test_a_member_on_another_disk_is_in_sync_with_that_one() -> None:
    """Else its next start would make it damaged again."""
    document = agreed(leader=None, isr=(1, 2), suspects=suspect(2, "damaged"))
    copied = Liveness({2: Present("i2.1", "dX", (3, 8))})
    after = elect(document, copied, 2).document
    assert after.isr[1] == Replica(2, "dX")


def test_the_elected_leads_until_something_happens() -> None:
    after = elect(POWER_CUT, ALL, 2).document
    assert election.decide(after, ALL, 0)[0] is after


# -- what may be lost -----------------------------------------------------------------------------


def test_where_its_log_ends_and_who_goes_further_is_said() -> None:
    order = elect(POWER_CUT, ALL, 1)
    assert order.answer.losses == [
        "what was acknowledged after operation 7 of epoch 3, where the log of broker 1 ends",
        "broker 1 is unclean: it said so",
        "the log of broker 2 goes further, to operation 9 of epoch 3: what it has after operation "
        "7 of epoch 3 is lost: elect 2 rather than this one",
    ]
    assert (entry(order, 2).end, entry(order, 2).live) == ((3, 9), True)


def test_a_later_epoch_goes_further_than_a_longer_log() -> None:
    ends = Liveness(there(1, 2, b1=(2, 99), b2=(3, 8)))
    assert "the log of broker 2 goes further" in lost(elect(POWER_CUT, ends, 1))
    assert "goes further" not in lost(elect(POWER_CUT, ends, 2))


def test_a_whole_member_that_is_away_is_named_first_of_all_remedies() -> None:
    document = agreed(leader=None, isr=(1, 2), suspects=suspect(2, "unclean"))
    assert "start it, and it is elected without an order" in lost(elect(document, alive(2), 2))


def test_of_one_that_is_gone_what_was_last_heard_counts() -> None:
    gone = Liveness(there(2, b2=(3, 9)), ends={1: (3, 12)})
    said = lost(elect(POWER_CUT, gone, 2))
    assert "the log of broker 1 goes further, to operation 12 of epoch 3" in said
    assert "rather than" not in said
    assert entry(elect(POWER_CUT, gone, 2), 1).end == (3, 12)
    unheard = lost(elect(POWER_CUT, Liveness(there(2)), 2))
    assert "broker 1 was in sync, is unclean and not here: it may have more" in unheard


# -- the plan -------------------------------------------------------------------------------------


def test_an_order_that_is_still_the_same_is_carried_out() -> None:
    order = elect(POWER_CUT, ALL, 2)
    later = orders.elect(POWER_CUT, ALL, 2, 1_763_800_099_999)
    orders.check_plan(later, order.answer.plan)


@pytest.mark.parametrize(
    ("document", "living"),
    [
        (replace(POWER_CUT, version=13), ALL),
        (replace(POWER_CUT, epoch=4), ALL),
        (POWER_CUT, Liveness(there(2, 3, b2=(3, 9), b3=(2, 4)))),
        (POWER_CUT, Liveness(there(1, 2, 3, b1=(3, 8), b2=(3, 9), b3=(2, 4)))),
    ],
    ids=["another version", "another epoch", "one left", "a log grew"],
)
def test_one_that_has_become_another_is_refused(document: Document, living: Liveness) -> None:
    seen = elect(POWER_CUT, ALL, 2).answer.plan
    with pytest.raises(Refused, match="look at it again") as e:
        orders.check_plan(elect(document, living, 2), seen)
    assert e.value.name == "STALE_EPOCH"


def test_a_move_does_not_depend_on_where_logs_end() -> None:
    """They grow all the time while somebody leads."""
    seen = elect(agreed(), alive(1, 2), 2).answer.plan
    orders.check_plan(elect(agreed(), Liveness(there(1, 2, b2=(3, 99))), 2), seen)
    with pytest.raises(Refused):
        orders.check_plan(elect(agreed(), alive(1, 2, 3), 3), seen)
