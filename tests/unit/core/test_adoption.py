"""A yak-zk takes over a cluster whose brokers it refused, as short stories."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.documents import NEW, a_join, agreed, alive, suspect, there
from yak import messages as m
from yak.config import Settings
from yak.core import adoption, election, joins, orders
from yak.core.adoption import EPOCH_MARGIN, REFUSED_REMEMBERED, Refusals
from yak.core.document import Document, Liveness, Present, Replica
from yak.core.orders import Order
from yak.errors import Refused

NOBODY = Liveness({})


def were_refused(*joins: m.Join) -> Refusals:
    refusals = Refusals()
    for join in joins:
        refusals.remember(join, "it belongs to another cluster", 100.0)
    return refusals


def of_x(broker: int, **more: Any) -> m.Join:
    """A broker of cluster X, whose epochs have come to 5."""
    return a_join(broker, **{"cluster": "X", "end": (5, 40 + broker), "epoch": 5, **more})


THREE = were_refused(of_x(1), of_x(2), of_x(3))


def adopt(
    document: Document = NEW,
    living: Liveness = NOBODY,
    refusals: Refusals = THREE,
    **asked: Any,
) -> Order:
    request = m.Adopt(id=1, **asked)
    return adoption.adopt(document, living, refusals, request, 1_763_800_000_000)


def lost(order: Order) -> str:
    return "; ".join(order.answer.losses)


# -- what becomes of the document -----------------------------------------------------------------


def test_the_cluster_is_named_and_epochs_go_on_far_above_what_any_broker_knows() -> None:
    order = adopt(refusals=were_refused(of_x(1), of_x(2, epoch=7), of_x(3)))
    after = order.document
    assert (after.cluster, after.epoch, after.leader) == ("X", 7 + EPOCH_MARGIN, None)
    assert after.isr == (Replica(1, "d1"), Replica(2, "d2"), Replica(3, "d3"))
    assert sorted(after.brokers) == [1, 2, 3]
    assert [tell.event for tell in order.said] == ["ordered", "adopted"]
    assert after.elections[-1].reason.startswith("adopted by an operator: cluster X")


def test_an_epoch_that_was_only_seen_counts_as_given() -> None:
    assert adopt(refusals=were_refused(of_x(1, seen=(9, 1)))).document.epoch == 9 + EPOCH_MARGIN


def test_nobody_counts_as_whole_so_the_log_that_goes_furthest_leads_once_all_are_there() -> None:
    after = adopt().document
    assert {i: one.state for i, one in after.suspects.items()} == dict.fromkeys((1, 2, 3), "torn")
    ends = {"b1": (5, 41), "b2": (5, 90), "b3": (5, 43)}
    assert election.decide(after, Liveness(there(1, 2, b2=(5, 90))), 0)[0] is after
    growing = Liveness(there(1, 2, 3, **ends), unsettled=frozenset({3}))
    assert election.decide(after, growing, 0)[0] is after
    elected = election.decide(after, Liveness(there(1, 2, 3, **ends)), 0)[0]
    assert (elected.leader, elected.epoch, elected.isr_ids) == (2, after.epoch + 1, [1, 2, 3])


def test_the_adopted_join_and_stay_what_they_are() -> None:
    after = adopt().document
    joined, said = joins.take_in(after, of_x(2, inc="i2.2"), None)
    assert (joined.suspects[2].state, joined.suspects[2].inc, said) == ("torn", "i2.2", [])


def test_an_unclean_one_may_lead_if_no_log_goes_further_and_a_damaged_one_may_not() -> None:
    after = adopt(
        refusals=were_refused(of_x(1, state="unclean"), of_x(2, state="damaged"))
    ).document
    assert {i: one.state for i, one in after.suspects.items()} == {1: "torn", 2: "damaged"}


def test_the_isr_may_be_named() -> None:
    order = adopt(isr=[1, 3])
    assert order.document.isr_ids == [1, 3]
    assert sorted(order.document.suspects) == [1, 3]
    assert "broker 2 is left out; its log ends with operation 42 of epoch 5" in lost(order)
    order = adopt(isr=[1, 2])
    assert "broker 3 is left out; its log ends with operation 43 of epoch 5, further" in lost(order)


def test_an_older_copy_of_the_document_goes_on_with_what_it_knows() -> None:
    """Two have moved on without this yak-zk; 3 was down, and has joined again."""
    old = agreed(leader=None, suspects=suspect(3, "unclean"))
    refusals = were_refused(*(a_join(i, epoch=5, end=(5, 20)) for i in (1, 2)))
    order = adopt(old, Liveness(there(3)), refusals)
    after = order.document
    assert (after.cluster, after.epoch, after.isr_ids) == ("C", 5 + EPOCH_MARGIN, [1, 2, 3])
    assert [one.live for one in order.answer.brokers] == [False, False, True]
    alone = adopt(old, NOBODY, refusals)
    assert alone.document.isr_ids == [1, 2]
    assert "broker 3 was in sync in epoch 3, and has not come" in lost(alone)
    assert alone.document.suspects[3].state == "unclean", "what was known of it stays"


# -- who is refused -------------------------------------------------------------------------------


def refused(*args: Any, **asked: Any) -> Refused:
    with pytest.raises(Refused) as e:
        adopt(*args, **asked)
    return e.value


def test_there_must_be_something_to_adopt() -> None:
    assert "no broker of an existing cluster" in refused(refusals=Refusals()).message
    foreign = were_refused(a_join(1, cluster=None, end=(0, 9)))
    assert "no broker of an existing cluster" in refused(refusals=foreign).message


def test_of_two_clusters_one_must_be_named() -> None:
    two = were_refused(of_x(1), a_join(2, cluster="Y"))
    assert "these were refused: X, Y" in refused(refusals=two).message
    assert "these were refused: X, Y" in refused(refusals=two, cluster="Z").message
    assert adopt(refusals=two, cluster="Y").document.isr_ids == [2]


def test_the_isr_is_of_brokers_that_have_come() -> None:
    assert "isr: 4; of cluster X have come: 1, 2, 3" in refused(isr=[1, 4]).message
    assert "none is named" in refused(isr=[]).message


def test_a_cluster_of_its_own_is_not_given_up() -> None:
    assert "has brokers of its own" in refused(agreed(leader=None)).message
    assert "has brokers of its own" in refused(NEW, alive(4)).message


def test_a_sitting_leader_is_not_deposed() -> None:
    refusals = were_refused(a_join(2, epoch=5))
    error = refused(agreed(), alive(1), refusals)
    assert (error.name, "stop it first" in error.message) == ("INVALID_REQUEST", True)
    waiting = refused(agreed(), Liveness({}, presumed=frozenset({1})), refusals)
    assert waiting.name == "NO_LEADER"


# -- what may be lost -----------------------------------------------------------------------------


def test_how_many_copies_there_are_says_how_many_may_be_missing() -> None:
    assert "at least 2 brokers" in lost(adopt())
    assert "where 2 or more of the cluster's brokers are not among these" in lost(adopt())
    single = replace(NEW, settings=Settings(min_insync_replicas=1))
    assert "where 1 or more" in lost(adopt(single))


def test_who_is_not_whole_counts_as_missing() -> None:
    order = adopt(refusals=were_refused(of_x(1), of_x(2, state="unclean")))
    assert "broker 2 is unclean, and counts as missing" in lost(order)


# -- the plan -------------------------------------------------------------------------------------


def test_a_running_cluster_s_logs_grow_and_the_plan_stays() -> None:
    seen = adopt().answer.plan
    grown = were_refused(of_x(1, end=(5, 99)), of_x(2), of_x(3))
    orders.check_plan(adopt(refusals=grown), seen)


@pytest.mark.parametrize(
    "order",
    [
        adopt(replace(NEW, version=2)),
        adopt(isr=[1, 2]),
        adopt(refusals=were_refused(of_x(1), of_x(2), of_x(3), of_x(4))),
        adopt(refusals=were_refused(of_x(1), of_x(2), of_x(3, disk="dX"))),
        adopt(refusals=were_refused(of_x(1), of_x(2), of_x(3, epoch=6))),
    ],
    ids=["version", "isr", "one more", "another disk", "a later epoch"],
)
def test_another_adoption_is_another_plan(order: Order) -> None:
    with pytest.raises(Refused, match="look at it again"):
        orders.check_plan(order, adopt().answer.plan)


# -- who is remembered ----------------------------------------------------------------------------


def test_each_is_remembered_once_and_news_is_told_once() -> None:
    refusals = Refusals()
    assert refusals.remember(of_x(1), "why", 100.0)
    assert not refusals.remember(of_x(1, end=(5, 50)), "why", 101.0)
    assert refusals.remember(of_x(1, inc="i1.2"), "why", 102.0)
    (entry,) = refusals.entries(103.0)
    assert (entry.broker, entry.cluster, entry.epoch, entry.age_ms) == (1, "X", 5, 1000)


def test_one_that_was_taken_in_is_forgotten() -> None:
    refusals = were_refused(of_x(1), of_x(2))
    refusals.forget(of_x(1, inc="i1.2"))
    assert [one.request.broker for one in refusals.all()] == [2]
    refusals.forget(of_x(2, disk="dX"))
    assert [one.request.broker for one in refusals.all()] == [2], "another disk is another broker"


def test_the_memory_is_bounded_and_keeps_the_newest() -> None:
    refusals = were_refused(*(of_x(i) for i in range(1, REFUSED_REMEMBERED + 3)))
    assert [one.request.broker for one in refusals.all()] == list(range(3, REFUSED_REMEMBERED + 3))


def test_a_live_broker_speaks_for_itself() -> None:
    """Refused before, and taken in since by the same old copy of the document."""
    refusals = were_refused(a_join(1, epoch=5, end=(5, 20)))
    living = Liveness({1: Present("i1.2", "d1", (3, 9), (3, 12))})
    order = adopt(agreed(leader=None), living, refusals)
    assert [one.live for one in order.answer.brokers] == [True]
    assert order.document.suspects[1].inc == "i1.2"
