"""What a leader does for clients: the gate, batches and their duplicates, acknowledgements."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import LONE, Playbook, Scribe, a_view
from yak import messages as m
from yak.config import Limits
from yak.core import events as e


def a_produce(id_: int, **more: Any) -> m.Produce:
    """A batch of two to t[0], unless `more` says otherwise."""
    return m.Produce(id=id_, **{"topic": "t", "partition": 0, "count": 2, **more})


def with_topic(book: Playbook, topic: str = "t", partitions: int = 1, **config: int) -> Playbook:
    book.ask(m.CreateTopic(id=book.a_id(), topic=topic, partitions=partitions, config=config))
    return book


def with_producer(book: Playbook) -> int:
    answer = book.ask(m.Register(id=book.a_id(), role="producer", topics=["t"]))
    assert isinstance(answer, m.ProducerAnswer)
    return answer.producer


@pytest.fixture
def book() -> Playbook:
    """A lone leader, and topic t with one partition."""
    return with_topic(Playbook.alone())


# -- the gate -------------------------------------------------------------------------------------


def test_with_too_few_replicas_nothing_is_written() -> None:
    book, two, three = Playbook.of_three()
    with_topic(book)
    two.holds()
    three.holds()
    book.ask(a_produce(0))
    two.holds()
    three.holds()
    book.wait(1.6)  # longer than the replica lag, without a `replicate`
    before = len(book.disk.ops)
    for request in (
        a_produce(1),
        m.CreateTopic(id=2, topic="u"),
        m.Register(id=3, role="producer", topics=["t"]),
        m.Ack(id=4, group="g", offsets=[("t", 0, 0)]),
        m.DeleteTopic(id=5, topic="t"),
        m.Trim(id=6, topic="t", partition=0, before=1),
    ):
        answer = book.ask(request)
        assert (answer.error, answer.retriable) == ("NOT_ENOUGH_REPLICAS", True)
        assert "--min-insync-replicas 1" in answer.message
    assert len(book.disk.ops) == before


def test_once_they_are_heard_of_again_writing_goes_on() -> None:
    book, two, three = Playbook.of_three()
    with_topic(book)
    two.holds()
    three.holds()
    book.wait(1.6)
    two.holds()
    assert book.ask(a_produce(1)) is None
    assert book.written() == ["append"]


def test_too_much_that_waits_for_the_followers_is_refused() -> None:
    book = with_topic(Playbook.alone(limits=Limits(max_uncommitted_bytes=1100)))
    book.disk.slow = True
    assert book.ask(a_produce(1), size=30) is None
    assert book.ask(a_produce(2), size=30) is None
    refusal = book.ask(a_produce(3), size=30)
    assert refusal.error == "OVERLOADED"
    assert "max_uncommitted_bytes is 1100" in refusal.message
    book.sync()
    assert book.ask(a_produce(4), size=30) is None
    assert book.written() == ["append"]


def test_a_stopping_leader_takes_nothing_new_while_it_waits_for_what_is_under_way(
    book: Playbook,
) -> None:
    book.disk.slow = True
    book.ask(a_produce(1))
    book.tell(e.Stop())
    assert book.ask(a_produce(2)).error == "SHUTTING_DOWN"
    book.sync()
    assert book.answer(1).offset == 0


# -- produce --------------------------------------------------------------------------------------


def test_a_batch_is_answered_when_it_is_committed_and_not_before() -> None:
    book, two, three = Playbook.of_three()
    with_topic(book)
    two.holds()
    three.holds()
    assert book.ask(a_produce(1, count=3)) is None
    two.holds()
    assert book.answer(1) is None
    three.holds()
    answer = book.answer(1)
    assert (answer.offset, answer.count, answer.partitions) == (0, 3, 1)
    assert answer.time == book.now.wall_ms


def test_batches_of_one_turn_lie_one_after_the_other(book: Playbook) -> None:
    body = e.Body(20, "00000000")
    book.tell(*(e.Asked(1, a_produce(n, count=n), body) for n in (1, 2, 3)))
    assert [book.answer(n, 1).offset for n in (1, 2, 3)] == [0, 1, 3]


def test_a_batch_for_what_does_not_exist_is_refused(book: Playbook) -> None:
    assert book.ask(a_produce(1, topic="nope")).error == "UNKNOWN_TOPIC"
    assert book.ask(a_produce(2, partition=1)).error == "UNKNOWN_PARTITION"
    assert book.ask(a_produce(3, topic_id="t999")).error == "UNKNOWN_TOPIC"
    assert book.ask(a_produce(4, topic_id=book.state.topics["t"].topic_id)).ok


def test_a_batch_may_be_as_large_as_its_topic_says(book: Playbook) -> None:
    with_topic(book, "small", max_batch_bytes=100)
    assert book.ask(a_produce(1, topic="small"), size=100).ok
    refusal = book.ask(a_produce(2, topic="small"), size=101)
    assert refusal.error == "BATCH_TOO_LARGE"
    assert "100" in refusal.message
    assert book.ask(a_produce(3), size=Limits().max_batch_bytes).ok
    assert book.ask(a_produce(4), size=Limits().max_batch_bytes + 1).error == "BATCH_TOO_LARGE"


def test_acks_1_waits_for_the_leader_s_disk_alone() -> None:
    book, *_ = Playbook.of_three()
    with_topic(book)
    book.disk.slow = True
    assert book.ask(a_produce(1, acks=1)) is None
    book.sync()
    assert book.answer(1).offset == 0
    assert book.state.ends.get(("t", 0), 0) == 0


def test_acks_1_and_0_need_the_lease() -> None:
    """Rule `lease`: what is not answered at commit."""
    book = with_topic(Playbook.alone(lease_s=1))
    book.jump(1)
    assert book.ask(a_produce(1, acks=1)).error == "NO_LEADER"
    book.ask(a_produce(2, acks=0))
    assert book.written() == []
    assert book.ask(a_produce(3)).offset == 0, "what is answered at commit goes on without"


def test_acks_1_looks_at_the_lease_again_when_the_disk_is_done() -> None:
    book = with_topic(Playbook.alone(lease_s=1))
    book.disk.slow = True
    assert book.ask(a_produce(1, acks=1)) is None
    book.jump(1)
    book.sync()
    assert book.answer(1).error == "NO_LEADER"


def test_a_lease_that_was_renewed_meanwhile_answers_acks_1() -> None:
    book = with_topic(Playbook.alone(lease_s=1))
    book.disk.slow = True
    book.ask(a_produce(1, acks=1))
    book.jump(0.9)
    book.renew_lease()
    book.jump(0.9)
    book.sync()
    assert book.answer(1).offset == 0


def test_acks_0_is_never_answered_and_its_refusals_are_counted(book: Playbook) -> None:
    assert book.ask(a_produce(1, acks=0)) is None
    assert book.written() == ["append"]
    assert book.ask(a_produce(2, acks=0, topic="nope")) is None
    assert book.node.dropped == 1
    book.wait(40)
    assert book.answer(1) is None
    assert book.answer(2) is None


# -- duplicates -----------------------------------------------------------------------------------


def test_a_batch_sent_again_is_stored_once_and_answered_as_the_first_time(book: Playbook) -> None:
    p = with_producer(book)
    first = book.ask(a_produce(1, producer=p, sequence=0))
    book.wait(5)
    again = book.ask(a_produce(2, producer=p, sequence=0))
    assert (again.offset, again.time, again.duplicate) == (first.offset, first.time, True)
    assert book.written() == []
    assert book.node.counts.duplicates == 1


def test_what_is_not_committed_is_a_duplicate_already() -> None:
    """Rule `dedupe_tail`."""
    book = with_topic(Playbook.alone())
    p = with_producer(book)
    book.disk.slow = True
    book.ask(a_produce(1, producer=p, sequence=0))
    book.ask(a_produce(2, producer=p, sequence=0))
    assert book.written() == []


def test_a_duplicate_is_answered_when_the_original_is_committed() -> None:
    """Rule `dup_ack_wait`."""
    book = with_topic(Playbook.alone())
    p = with_producer(book)
    book.disk.slow = True
    book.ask(a_produce(1, producer=p, sequence=0))
    assert book.ask(a_produce(2, producer=p, sequence=0)) is None
    book.ask(a_produce(3, producer=p, sequence=2))
    book.sync(len(book.disk.ops) - 1)
    assert book.answer(2).offset == 0
    assert book.answer(3) is None


def test_the_answer_to_a_duplicate_tells_of_no_partition_that_is_not_committed() -> None:
    """It could vanish with its leader, and the producer would send to it for ever."""
    book = with_topic(Playbook.alone())
    p = with_producer(book)
    book.ask(a_produce(1, producer=p, sequence=0))
    book.disk.slow = True
    assert book.ask(m.CreatePartitions(id=2, topic="t", partitions=5)) is None
    assert book.ask(a_produce(3, producer=p, sequence=0)).partitions == 1
    book.sync(len(book.disk.ops))
    assert book.answer(2).partitions == 5
    assert book.ask(a_produce(4, producer=p, sequence=0)).partitions == 5


def test_one_older_than_the_five_remembered_has_no_offset_any_more(book: Playbook) -> None:
    p = with_producer(book)
    for n in range(6):
        book.ask(a_produce(n, producer=p, sequence=2 * n))
    again = book.ask(a_produce(10, producer=p, sequence=0))
    assert (again.offset, again.time, again.duplicate) == (None, None, True)


def test_a_gap_is_refused_with_what_is_expected(book: Playbook) -> None:
    """Rule `seq_gap`."""
    p = with_producer(book)
    book.ask(a_produce(1, producer=p, sequence=0))
    refusal = book.ask(a_produce(2, producer=p, sequence=4))
    assert (refusal.error, refusal.expected) == ("OUT_OF_ORDER_SEQUENCE", 2)
    assert book.written() == []


def test_pipelined_batches_follow_one_another_before_any_is_committed(book: Playbook) -> None:
    p = with_producer(book)
    book.disk.slow = True
    for n in range(5):
        book.ask(a_produce(n, producer=p, sequence=2 * n))
        assert book.written() == ["append"]


def test_a_new_leader_knows_the_sequences_from_the_log() -> None:
    scribe = Scribe()
    scribe.topic()
    scribe.producer(7)
    scribe.append(2, producer=7, sequence=0)
    book = Playbook(log=scribe.log, epoch=1).elected(a_view(isr=[1], settings=LONE))
    again = book.ask(a_produce(1, producer=7, sequence=0))
    assert (again.offset, again.duplicate) == (0, True)
    assert book.ask(a_produce(2, producer=7, sequence=5)).error == "OUT_OF_ORDER_SEQUENCE"
    assert book.ask(a_produce(3, producer=7, sequence=2)).offset == 2


def test_a_duplicate_is_answered_even_while_nothing_may_be_written() -> None:
    """It was stored: only the answer was lost."""
    scribe = Scribe()
    scribe.topic()
    scribe.producer(7)
    scribe.append(2, producer=7, sequence=0)
    book, two, three = Playbook.of_three(log=scribe.log, epoch=1)
    two.holds()
    three.holds()
    book.wait(1.6)
    assert book.ask(a_produce(1, producer=7, sequence=0)).duplicate is True


def test_each_partition_has_sequences_of_its_own() -> None:
    book = with_topic(Playbook.alone(), partitions=2)
    p = with_producer(book)
    assert book.ask(a_produce(1, producer=p, sequence=0)).offset == 0
    assert book.ask(a_produce(2, producer=p, sequence=0, partition=1)).offset == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"producer": 1}, "INVALID_REQUEST"),
        ({"sequence": 0}, "INVALID_REQUEST"),
        ({"producer": 1, "sequence": 0, "acks": 1}, "INVALID_REQUEST"),
        ({"producer": 99, "sequence": 0}, "UNKNOWN_PRODUCER"),
    ],
)
def test_producer_and_sequence_are_a_pair_with_acks_all(
    book: Playbook, fields: dict[str, Any], error: str
) -> None:
    with_producer(book)
    assert book.ask(a_produce(1, **fields)).error == error


def test_a_refusal_from_what_the_cluster_knows_needs_the_lease() -> None:
    """A leader that was replaced unawares would refuse what is right."""
    book = with_topic(Playbook.alone(lease_s=1))
    p = with_producer(book)
    book.jump(1)
    assert book.ask(a_produce(1, producer=p, sequence=4)).error == "NO_LEADER"
    assert book.ask(a_produce(2, topic="made by another leader")).error == "NO_LEADER"


def test_a_refusal_that_speaks_of_this_broker_alone_needs_none() -> None:
    book, *_ = Playbook.of_three(lease_s=1)
    book.wait(1.6)
    assert book.ask(m.CreateTopic(id=1, topic="t")).error == "NOT_ENOUGH_REPLICAS"


# -- acknowledgements -----------------------------------------------------------------------------


def an_ack(id_: int, *offsets: tuple[str, int, int], **more: Any) -> m.Ack:
    return m.Ack(id=id_, group="g", offsets=list(offsets), **more)


def acked(book: Playbook) -> int | None:
    return book.state.acked_by("g", ("t", 0))


def test_an_ack_is_answered_once_committed(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.disk.slow = True
    assert book.ask(an_ack(2, ("t", 0, 4))) is None
    book.sync()
    assert book.answer(2).ok
    assert acked(book) == 4


def test_a_lower_ack_is_ok_and_changes_nothing(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.ask(an_ack(2, ("t", 0, 4)))
    assert book.ask(an_ack(3, ("t", 0, 2))).ok
    assert book.written() == []
    assert acked(book) == 4


def test_an_ack_that_repeats_one_under_way_waits_for_it(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.disk.slow = True
    book.ask(an_ack(2, ("t", 0, 4)))
    assert book.ask(an_ack(3, ("t", 0, 4))) is None
    book.sync()
    assert book.answer(3).ok


def test_above_the_high_watermark_an_ack_is_refused_whole(book: Playbook) -> None:
    with_topic(book, "u")
    book.ask(a_produce(1, count=10))
    refusal = book.ask(an_ack(2, ("t", 0, 4), ("u", 0, 1)))
    assert (refusal.error, refusal.start, refusal.high_watermark) == ("OFFSET_OUT_OF_RANGE", 0, 0)
    assert acked(book) is None


def test_what_is_not_committed_is_above_the_high_watermark(book: Playbook) -> None:
    book.disk.slow = True
    book.ask(a_produce(1, count=10))
    assert book.ask(an_ack(2, ("t", 0, 4))).error == "OFFSET_OUT_OF_RANGE"


def test_a_topic_made_again_begins_at_0_before_its_creation_is_committed(book: Playbook) -> None:
    """The one of that name that State still has is not the one that is meant."""
    book.ask(a_produce(1, count=10))
    book.disk.slow = True
    book.ask(m.DeleteTopic(id=2, topic="t"))
    with_topic(book)
    assert book.ask(an_ack(3, ("t", 0, 4))).high_watermark == 0
    latest = book.ask(m.ListOffsets(id=4, partitions=[("t", 0)], at="latest"))
    assert latest.offsets == [("t", 0, 0)]


def test_what_is_meant_for_a_deleted_topic_does_not_reach_the_one_made_after_it(
    book: Playbook,
) -> None:
    old = {"t": book.state.topics["t"].topic_id}
    book.ask(m.DeleteTopic(id=1, topic="t"))
    with_topic(book)
    book.ask(a_produce(2, count=10))
    now = {"t": book.state.topics["t"].topic_id}
    late: list[m.ClientRequest] = [
        a_produce(3, topic_id=old["t"]),
        an_ack(4, ("t", 0, 4), topic_ids=old),
        m.ListOffsets(id=5, partitions=[("t", 0)], at="latest", topic_ids=old),
    ]
    assert [book.ask(request).error for request in late] == ["UNKNOWN_TOPIC"] * 3
    assert acked(book) is None
    assert book.ask(an_ack(6, ("t", 0, 4), topic_ids=now)).ok
    assert book.ask(a_produce(7, topic_id=now["t"])).ok
    assert book.ask(an_ack(8, ("t", 0, 4), topic_ids={"nope": "t1"})).error == "UNKNOWN_TOPIC"


def test_an_ack_for_what_does_not_exist_is_refused(book: Playbook) -> None:
    assert book.ask(an_ack(1, ("nope", 0, 0))).error == "UNKNOWN_TOPIC"
    assert book.ask(an_ack(2, ("t", 1, 0))).error == "UNKNOWN_PARTITION"


def a_member(book: Playbook) -> dict[str, Any]:
    request = m.Register(id=book.a_id(), role="consumer", group="g", topics=["t"])
    answer = book.ask(request)
    return {"member": answer.member, "generation": answer.generation}


def test_while_a_group_has_members_only_they_acknowledge(book: Playbook) -> None:
    member = a_member(book)
    assert book.ask(an_ack(1, ("t", 0, 0))).error == "GROUP_NOT_EMPTY"
    assert book.ask(an_ack(2, ("t", 0, 0), **member)).ok
    assert book.ask(an_ack(3, ("t", 0, 0), member="?")).error == "UNKNOWN_MEMBER"


def test_an_older_generation_of_a_known_member_is_accepted_unless_it_asks_to_be_fenced(
    book: Playbook,
) -> None:
    book.ask(a_produce(1, count=10))
    member = a_member(book)
    a_member(book)
    assert book.ask(an_ack(2, ("t", 0, 3), **member)).ok
    refusal = book.ask(an_ack(3, ("t", 0, 4), **member, fence=True))
    assert refusal.error == "STALE_GENERATION"
    assert acked(book) == 3


def test_only_from_outside_a_reset_moves_back(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.ask(an_ack(2, ("t", 0, 8)))
    assert book.ask(an_ack(3, ("t", 0, 5), reset=True)).ok
    assert acked(book) == 5
    member = a_member(book)
    assert book.ask(an_ack(4, ("t", 0, 1), **member, reset=True)).error == "INVALID_REQUEST"


def test_there_is_a_most_of_groups() -> None:
    book = with_topic(Playbook.alone(limits=Limits(max_groups=1)))
    assert book.ask(m.Ack(id=1, group="g", offsets=[("t", 0, 0)])).ok
    refusal = book.ask(m.Ack(id=2, group="h", offsets=[("t", 0, 0)]))
    assert refusal.error == "OVERLOADED"
    assert "max_groups is 1" in refusal.message
    assert book.ask(m.Ack(id=3, group="g", offsets=[("t", 0, 0)])).ok


@pytest.mark.parametrize("name", ["", "g" * 250])
def test_a_group_has_a_name_of_some_length(book: Playbook, name: str) -> None:
    refusal = book.ask(m.Ack(id=1, group=name, offsets=[("t", 0, 0)]))
    assert (refusal.error, "249" in refusal.message) == ("INVALID_REQUEST", True)


# -- what is answered from memory -----------------------------------------------------------------


def test_offsets_are_told_from_what_is_committed(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.disk.slow = True
    book.ask(a_produce(2, count=5))
    where = [("t", 0)]
    latest = book.ask(m.ListOffsets(id=3, partitions=where, at="latest"))
    assert latest.offsets == [("t", 0, 10)]
    earliest = book.ask(m.ListOffsets(id=4, partitions=where, at="earliest"))
    assert earliest.offsets == [("t", 0, 0)]
    by_time = book.ask(m.ListOffsets(id=5, partitions=where, at=77))
    assert isinstance(by_time, e.FindOffsets)
    assert (by_time.at_ms, by_time.partitions, by_time.bounds) == (77, where, [(0, 10)])
    unknown = book.ask(m.ListOffsets(id=6, partitions=[("t", 1)], at="latest"))
    assert unknown.error == "UNKNOWN_PARTITION"


def test_a_group_is_told_with_all_that_is_known_of_it(book: Playbook) -> None:
    book.ask(a_produce(1, count=10))
    book.ask(an_ack(2, ("t", 0, 4)))
    member = a_member(book)
    answer = book.ask(m.GroupInfo(id=3, group="g"))
    (entry,) = answer.partitions
    assert (entry.acked, entry.lag, entry.member) == (4, 6, member["member"])
    assert book.ask(m.Groups(id=4)).groups == ["g"]


def test_what_is_answered_from_memory_needs_the_lease() -> None:
    """Rule `lease`."""
    book = with_topic(Playbook.alone(lease_s=1))
    book.jump(1)
    for request in (
        m.ListOffsets(id=1, partitions=[("t", 0)], at="latest"),
        m.ListOffsets(id=2, partitions=[("t", 0)], at=5),
        m.GroupInfo(id=3, group="g"),
        m.Groups(id=4),
    ):
        assert book.ask(request).error == "NO_LEADER"


def test_what_is_answered_from_memory_carries_the_lease_s_end() -> None:
    """It is looked at once more just before the answer leaves."""
    book = with_topic(Playbook.alone(lease_s=1))
    end = book.now.mono + 1
    book.ask(m.Groups(id=1))
    (answer,) = book.seen(e.ReplyLeased)
    assert answer.until == pytest.approx(end)
    assert book.ask(m.ListOffsets(id=2, partitions=[("t", 0)], at=5)).until == pytest.approx(end)
