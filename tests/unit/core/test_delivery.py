"""Which records have reached which consumer: what is acknowledged, and what its holder reports."""

from __future__ import annotations

import pytest

from tests.support.playbook import Scribe
from yak import messages as m
from yak.core import ops
from yak.core.counts import Counts
from yak.core.delivery import Delivery


@pytest.fixture
def scribe() -> Scribe:
    """Topic t has 10 records in partition 0 and none in 1; a holds both in group g."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.append(10)
    scribe.member("a")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "a", None, None))
    return scribe


def partition(delivery: Delivery, scribe: Scribe, number: int = 0) -> m.GroupPartition:
    return delivery.describe(scribe.state, "g").partitions[number]


def test_nothing_was_delivered_and_nothing_acknowledged(scribe: Scribe) -> None:
    entry = partition(Delivery(), scribe)
    assert (entry.acked, entry.delivered, entry.high_watermark, entry.lag) == (None, None, 10, 10)


def test_between_acked_and_delivered_lies_what_is_under_way(scribe: Scribe) -> None:
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    scribe.ack(4)
    entry = partition(delivery, scribe)
    assert (entry.acked, entry.delivered, entry.lag, entry.member) == (4, 7, 6, "a")


def test_delivered_is_never_below_acked(scribe: Scribe) -> None:
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("t", 0, 2)])
    scribe.ack(4)
    assert partition(delivery, scribe).delivered == 4


def test_a_report_is_in_full_and_replaces_the_one_before(scribe: Scribe) -> None:
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    delivery.report(scribe.state, "g", "a", [("t", 1, 0)])
    assert partition(delivery, scribe, 0).delivered is None
    assert partition(delivery, scribe, 1).delivered == 0


def test_after_a_change_of_owner_it_is_what_was_acknowledged(scribe: Scribe) -> None:
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    scribe.ack(4)
    scribe.member("b")
    scribe.owners(("t", 0, "b", None, None), ("t", 1, "a", None, None))
    entry = partition(delivery, scribe)
    assert (entry.delivered, entry.member) == (4, "b")


def test_a_new_leader_knows_nothing_of_it_until_the_next_report(scribe: Scribe) -> None:
    scribe.ack(4)
    assert partition(Delivery(), scribe).delivered == 4


def test_while_a_partition_moves_its_holder_s_word_counts(scribe: Scribe) -> None:
    delivery = Delivery()
    scribe.member("b")
    scribe.owners(("t", 0, "b", "a", 2), ("t", 1, "a", None, None))
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    entry = partition(delivery, scribe)
    assert (entry.delivered, entry.member) == (7, "a")
    scribe.owners(("t", 0, "b", None, None), ("t", 1, "a", None, None))
    entry = partition(delivery, scribe)
    assert (entry.delivered, entry.member) == (None, "b")


def test_a_late_report_of_its_former_holder_does_not_hide_the_holder_s(scribe: Scribe) -> None:
    delivery = Delivery()
    scribe.member("b")
    scribe.owners(("t", 0, "b", None, None), ("t", 1, "a", None, None))
    delivery.report(scribe.state, "g", "b", [("t", 0, 5)])
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    assert partition(delivery, scribe).delivered == 5


def test_reports_of_what_nobody_has_are_not_kept(scribe: Scribe) -> None:
    """Else a client that comes and goes would fill the leader's memory."""
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("no such topic", n, 1) for n in range(100)])
    assert sum(map(len, delivery._reported.values())) == 0


def test_lag_counts_from_where_the_log_begins(scribe: Scribe) -> None:
    scribe.write(ops.Trim, topic="t", partition=0, before=3)
    assert partition(Delivery(), scribe).lag == 7
    scribe.ack(1)
    assert partition(Delivery(), scribe).lag == 7


def test_a_group_s_members_and_what_each_was_assigned(scribe: Scribe) -> None:
    scribe.member("b")
    scribe.owners(("t", 0, "b", "a", 2), ("t", 1, "a", None, None))
    answer = Delivery().describe(scribe.state, "g")
    assert answer.generation == 2
    assert [(x.member, x.assignment) for x in answer.members] == [("a", [("t", 1)]), ("b", [])]


def test_an_unknown_group_is_empty(scribe: Scribe) -> None:
    answer = Delivery().describe(scribe.state, "?")
    assert (answer.generation, answer.members, answer.partitions) == (0, [], [])


def test_what_was_acknowledged_without_members_is_shown_too() -> None:
    scribe = Scribe()
    scribe.topic()
    scribe.append(3)
    scribe.ack(2)
    entry = partition(Delivery(), scribe)
    assert (entry.acked, entry.delivered, entry.lag, entry.member) == (2, 2, 1, None)


def test_partitions_of_a_deleted_topic_are_not_shown(scribe: Scribe) -> None:
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    assert Delivery().describe(scribe.state, "g").partitions == []


def test_a_deleted_group_is_forgotten(scribe: Scribe) -> None:
    delivery = Delivery()
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    delivery.forget_group("g")
    assert partition(delivery, scribe).delivered is None


# -- what is counted ------------------------------------------------------------------------------


def test_what_was_handed_out_and_not_acknowledged_is_redelivered(scribe: Scribe) -> None:
    counts = Counts()
    delivery = Delivery(counts)
    delivery.report(scribe.state, "g", "a", [("t", 0, 7), ("t", 1, 0)])
    scribe.ack(4)
    delivery.report(scribe.state, "g", "a", [("t", 0, 8), ("t", 1, 0)])
    assert counts.redelivered == 0, "it still holds them"
    delivery.gone(scribe.state, "g", "a")
    assert counts.redelivered == 4
    delivery.gone(scribe.state, "g", "a")
    assert counts.redelivered == 4, "once"


def test_what_is_let_go_acknowledged_is_not(scribe: Scribe) -> None:
    counts = Counts()
    delivery = Delivery(counts)
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    scribe.ack(7)
    delivery.report(scribe.state, "g", "a", [("t", 1, 0)])
    assert counts.redelivered == 0


def test_what_is_let_go_unacknowledged_is(scribe: Scribe) -> None:
    counts = Counts()
    delivery = Delivery(counts)
    scribe.trim(5)
    delivery.report(scribe.state, "g", "a", [("t", 0, 7)])
    delivery.report(scribe.state, "g", "a", [("t", 1, 0)])
    assert counts.redelivered == 2, "of what is still there"
