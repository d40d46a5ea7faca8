"""Producers and members: how they come, are heard, fall silent and go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import LONE, Playbook, Scribe, a_view
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.ops import Op


def with_topic(book: Playbook, topic: str = "t", partitions: int = 2) -> Playbook:
    book.ask(m.CreateTopic(id=book.a_id(), topic=topic, partitions=partitions))
    return book


@pytest.fixture
def book() -> Playbook:
    """A lone leader, and topic t with two partitions."""
    return with_topic(Playbook.alone(lease_s=1e9))


def a_producer(book: Playbook, *topics: str) -> Any:
    return book.ask(m.Register(id=book.a_id(), role="producer", topics=list(topics or ["t"])))


def a_member(book: Playbook, client: str, *topics: str, **more: Any) -> Any:
    """A member of group g."""
    request = m.Register(
        id=book.a_id(),
        role="consumer",
        client=client,
        topics=list(topics or ["t"]),
        **{"group": "g", **more},
    )
    return book.ask(request)


def beat(book: Playbook, member: str, generation: int, *owned: m.Where, **more: Any) -> Any:
    """A heartbeat in group g that holds `owned`."""
    fields = {"group": "g", "member": member, "generation": generation, "owned": list(owned)}
    return book.ask(m.Heartbeat(id=book.a_id(), **{**fields, **more}))


def assigned(book: Playbook, member: str) -> list[m.Where]:
    return book.state.group("g").assigned(member)


def gone(effects: list[e.Effect]) -> list[tuple[str, Any]]:
    """(reason, who) of each `deregister` that was written."""
    written = [x.op for x in effects if isinstance(x, e.AppendOp)]
    found = [op for op in written if isinstance(op, ops.Deregister)]
    return [(op.reason, op.member if isinstance(op.member, str) else op.producer) for op in found]


# -- producers: coming and going ------------------------------------------------------------------


def test_a_producer_is_given_a_number_and_its_topics(book: Playbook) -> None:
    answer = a_producer(book, "t", "new", "t")
    assert answer.producer == 1
    assert answer.session_ms == Limits().producer_session_ms
    sizes = {name: topic.partitions for name, topic in answer.topics.items()}
    assert sizes == {"t": 2, "new": 3}
    assert answer.topic_ids == {name: book.state.topics[name].topic_id for name in ("t", "new")}
    assert book.state.topics["new"].partitions == 3
    assert book.state.producers[1].topics == ("t", "new")


def test_two_that_come_before_either_is_committed_are_two(book: Playbook) -> None:
    book.disk.slow = True
    for n in (1, 2):
        book.ask(m.Register(id=n, role="producer", topics=[]))
    book.sync()
    assert [book.answer(n).producer for n in (1, 2)] == [1, 2]


def test_without_auto_create_what_is_missing_stays_missing() -> None:
    book = Playbook.alone(auto_create=False)
    refusal = a_producer(book, "t")
    assert refusal.error == "UNKNOWN_TOPIC"
    assert "--no-auto-create" in refusal.message
    assert a_member(book, "a", "t").error == "UNKNOWN_TOPIC"


def test_a_topic_that_a_producer_makes_is_shared_out_to_who_wanted_it(book: Playbook) -> None:
    member = a_member(book, "a", "t", "later").member
    book.ask(m.DeleteTopic(id=1, topic="later"))
    a_producer(book, "later")
    assert ("later", 0) in assigned(book, member)


def test_after_silence_a_producer_is_logged_as_gone_and_its_sequences_stay(book: Playbook) -> None:
    a_producer(book)
    batch: dict[str, Any] = {"topic": "t", "partition": 0, "count": 1, "producer": 1}
    book.ask(m.Produce(id=1, sequence=0, **batch))
    assert gone(book.wait(29)) == []
    assert gone(book.wait(1.5)) == [("expired", 1)]
    assert book.state.producers[1].gone_ms is not None
    assert book.ask(m.Produce(id=2, sequence=0, **batch)).duplicate is True


def test_its_next_batch_brings_it_back(book: Playbook) -> None:
    a_producer(book)
    book.wait(31)
    batch = m.Produce(id=1, topic="t", partition=0, count=1, producer=1, sequence=0)
    assert book.ask(batch).offset == 0
    assert book.written() == ["append", "register"]
    assert book.state.producers[1].gone_ms is None
    assert gone(book.wait(29)) == []
    assert gone(book.wait(1.5)) == [("expired", 1)], "it has a session again"


def test_its_next_heartbeat_brings_it_back(book: Playbook) -> None:
    a_producer(book)
    book.wait(31)
    assert book.ask(m.Heartbeat(id=1, producer=1)).ok
    assert book.state.producers[1].gone_ms is None


def test_heartbeats_keep_a_producer(book: Playbook) -> None:
    a_producer(book)
    for n in range(4):
        assert gone(book.wait(25)) == []
        assert book.ask(m.Heartbeat(id=n, producer=1)).ok


def test_what_is_silent_for_the_retention_is_forgotten() -> None:
    limits = Limits(producer_session_ms=1000, producer_retention_ms=5000)
    book = with_topic(Playbook.alone(limits=limits))
    a_producer(book)
    assert gone(book.wait(5.8)) == [("expired", 1)]
    assert gone(book.wait(0.5)) == [("forgotten", 1)]
    assert 1 not in book.state.producers
    assert book.ask(m.Heartbeat(id=1, producer=1)).error == "UNKNOWN_PRODUCER"


def test_a_producer_that_came_back_is_not_forgotten() -> None:
    limits = Limits(producer_session_ms=1000, producer_retention_ms=5000)
    book = with_topic(Playbook.alone(limits=limits))
    a_producer(book)
    book.wait(1.5)
    for n in range(10):
        book.ask(m.Heartbeat(id=n, producer=1))
        assert gone(book.wait(0.9)) == []


def test_a_producer_that_deregisters_is_unknown_at_once(book: Playbook) -> None:
    a_producer(book)
    book.disk.slow = True
    assert book.ask(m.Deregister(id=1, producer=1)) is None
    assert book.ask(m.Heartbeat(id=2, producer=1)).error == "UNKNOWN_PRODUCER"
    book.sync()
    assert book.answer(1).ok
    assert gone(book.wait(60)) == []
    assert a_producer(book) is None, "the disk is slow"
    book.sync()
    assert list(book.state.producers) == [2], "no number is given twice"


# -- members: coming, changing and going ----------------------------------------------------------


def test_the_first_member_is_told_where_its_group_stands(book: Playbook) -> None:
    book.ask(m.Produce(id=1, topic="t", partition=0, count=5))
    book.ask(m.Ack(id=2, group="g", offsets=[("t", 0, 3)]))
    answer = a_member(book, "a", session_ms=4000)
    assert (answer.generation, answer.session_ms) == (1, 4000)
    assert answer.assignment == [("t", 0), ("t", 1)]
    assert answer.offsets == [("t", 0, 3), ("t", 1, None)]
    assert answer.topics["t"].topic_id == book.state.topics["t"].topic_id


def test_a_member_is_told_once_it_is_committed(book: Playbook) -> None:
    book.disk.slow = True
    assert a_member(book, "a") is None


def test_topics_that_a_member_makes_are_in_its_assignment(book: Playbook) -> None:
    assert len(a_member(book, "a", "t", "new").assignment) == 5


def test_a_member_is_told_whose_offsets_it_is_given(book: Playbook) -> None:
    """A topic that was made again is another one; one that is not there is not spoken of."""
    first = a_member(book, "c", "t", "u")
    here = {name: (topic.topic_id, topic.partitions) for name, topic in first.topics.items()}
    assert here == {name: (book.state.topics[name].topic_id, n) for name, n in [("t", 2), ("u", 3)]}
    book.ask(m.DeleteTopic(id=book.a_id(), topic="u"))
    later = beat(book, first.member, first.generation)
    assert later.topics == {"t": first.topics["t"]}
    with_topic(book, "u", 1)
    again = beat(book, first.member, later.generation)
    assert again.topics["u"].partitions == 1
    assert again.topics["u"].topic_id != first.topics["u"].topic_id


def test_a_topic_that_is_gone_is_made_again_and_shared_out_to_all_who_want_it(
    book: Playbook,
) -> None:
    first = a_member(book, "a", "t", "u")
    other = a_member(book, "x", "u", group="h")
    book.ask(m.DeleteTopic(id=1, topic="u"))
    assert book.state.group("h").assigned(other.member) == []
    again = a_member(book, "a", "t", "u", member=first.member)
    assert len(again.assignment) == 5
    assert len(book.state.group("h").assigned(other.member)) == 3


def test_members_of_one_name_are_several(book: Playbook) -> None:
    assert a_member(book, "a").member != a_member(book, "a").member


def test_renewing_without_a_change_is_not_logged(book: Playbook) -> None:
    first = a_member(book, "a", "t", "u")
    again = a_member(book, "a", "u", "t", member=first.member)
    assert book.written() == []
    assert (again.member, again.generation) == (first.member, first.generation)
    assert again.assignment == first.assignment


def test_renewing_keeps_a_member(book: Playbook) -> None:
    first = a_member(book, "a")
    for _ in range(4):
        assert gone(book.wait(8)) == []
        a_member(book, "a", member=first.member)


def test_other_topics_bring_a_new_generation_and_another_session_none(book: Playbook) -> None:
    first = a_member(book, "a")
    longer = a_member(book, "a", member=first.member, session_ms=20_000)
    assert (book.written(), longer.generation) == (["register"], 1)
    more = a_member(book, "a", "t", "u", member=first.member)
    assert more.generation == 2
    assert len(more.assignment) == 5


def test_who_was_never_a_member_or_is_none_any_more_registers_anew(book: Playbook) -> None:
    assert a_member(book, "a", member="a-5").error == "UNKNOWN_MEMBER"
    assert beat(book, "a-5", 1).error == "UNKNOWN_MEMBER"


def test_there_is_a_most_of_members() -> None:
    book = with_topic(Playbook.alone(limits=Limits(max_members=1)))
    first = a_member(book, "a")
    refusal = a_member(book, "b")
    assert refusal.error == "OVERLOADED"
    assert "max_members is 1" in refusal.message
    assert a_member(book, "a", "u", member=first.member).ok
    assert a_member(book, "b", group="h").ok


def test_whoever_leaves_leaves_its_partitions(book: Playbook) -> None:
    a, b = a_member(book, "a").member, a_member(book, "b").member
    assert book.ask(m.Deregister(id=1, group="g", member=a)).ok
    assert assigned(book, b) == [("t", 0), ("t", 1)]
    assert beat(book, a, 2).error == "UNKNOWN_MEMBER"


def test_a_group_without_members_is_deleted_with_its_offsets(book: Playbook) -> None:
    book.ask(m.Ack(id=1, group="g", offsets=[("t", 0, 0)]))
    member = a_member(book, "a").member
    assert book.ask(m.DeleteGroup(id=2, group="g")).error == "GROUP_NOT_EMPTY"
    book.ask(m.Deregister(id=3, group="g", member=member))
    assert book.ask(m.DeleteGroup(id=4, group="g")).ok
    assert "g" not in book.state.groups
    assert book.state.acked_by("g", ("t", 0)) is None
    assert book.ask(m.DeleteGroup(id=5, group="g")).ok, "it is gone already"
    assert book.written() == []


def test_that_a_group_is_gone_already_is_said_within_the_lease_alone() -> None:
    book = Playbook.alone(lease_s=1)
    book.jump(1)
    assert book.ask(m.DeleteGroup(id=1, group="g")).error == "NO_LEADER"


def test_that_a_group_is_gone_is_said_once_its_deletion_is_committed(book: Playbook) -> None:
    book.ask(m.Ack(id=1, group="g", offsets=[("t", 0, 0)]))
    book.disk.slow = True
    assert book.ask(m.DeleteGroup(id=2, group="g")) is None
    assert book.ask(m.DeleteGroup(id=3, group="g")) is None
    book.sync()
    assert book.answer(2).ok
    assert book.answer(3).ok


# -- heartbeats -----------------------------------------------------------------------------------


def test_a_heartbeat_of_the_present_generation_is_told_no_more(book: Playbook) -> None:
    answer = beat(book, a_member(book, "a").member, 1, ("t", 0), ("t", 1))
    assert answer.generation == 1
    assert not isinstance(answer.assignment, list)


def test_a_heartbeat_of_an_older_one_is_told_what_is_its_own_now(book: Playbook) -> None:
    book.ask(m.Produce(id=1, topic="t", partition=0, count=5))
    a = a_member(book, "a").member
    book.ask(m.Ack(id=2, group="g", member=a, generation=1, offsets=[("t", 0, 3)]))
    a_member(book, "b")
    answer = beat(book, a, 1, ("t", 0), ("t", 1))
    assert (answer.generation, answer.assignment) == (2, [("t", 0)])
    assert answer.offsets == [("t", 0, 3)]
    assert answer.topics["t"].topic_id == book.state.topics["t"].topic_id


def test_a_partition_moves_when_its_holder_has_let_it_go(book: Playbook) -> None:
    a, b = a_member(book, "a").member, a_member(book, "b").member
    assert beat(book, a, 2, ("t", 0), ("t", 1)).generation == 2
    assert assigned(book, b) == []
    answer = beat(book, a, 2, ("t", 0))
    assert answer.generation == 3, "it is told at once of the generation that it brought about"
    assert answer.assignment == [("t", 0)]
    assert beat(book, b, 2).assignment == [("t", 1)]


def test_the_generation_that_a_release_brings_about_is_told_once_committed(book: Playbook) -> None:
    a = a_member(book, "a").member
    a_member(book, "b")
    book.disk.slow = True
    assert beat(book, a, 2, ("t", 0)) is None
    assert book.written() == ["assign"]


def test_a_release_that_is_committed_after_the_lease_ran_out_is_not_answered() -> None:
    """Its answer tells how the group stands, and by then another leader may have changed that."""
    book = with_topic(Playbook.alone(lease_s=1))
    a = a_member(book, "a").member
    a_member(book, "b")
    book.disk.slow = True
    id_ = book.a_id()
    owned = [("t", 0)]
    beats = m.Heartbeat(id=id_, group="g", member=a, generation=2, owned=owned)
    assert book.ask(beats) is None
    book.jump(1)
    book.sync()
    (answer,) = [answer for (_, asked), answer in book.answers.items() if asked == id_]
    assert answer.error == "NO_LEADER"


def test_a_generation_that_nobody_was_told_of_releases_nothing(book: Playbook) -> None:
    """It is not committed, so a member that names it does not know what it has lost."""
    a = a_member(book, "a").member
    book.disk.slow = True
    a_member(book, "b")
    assert beat(book, a, 99).generation == 1
    assert book.written() == []


def test_a_release_waits_while_nothing_may_be_written() -> None:
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.member("a")
    scribe.member("b")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "b", "a", 1))
    book, two, three = Playbook.of_three(log=scribe.log, epoch=1)
    two.holds()
    three.holds()
    book.wait(1.6)
    assert beat(book, "a", 1, ("t", 0)).generation == 1
    assert book.written() == []
    two.holds()
    assert beat(book, "a", 1, ("t", 0)) is None
    assert book.written() == ["assign"]


def test_what_was_delivered_is_reported_with_a_heartbeat(book: Playbook) -> None:
    book.ask(m.Produce(id=1, topic="t", partition=0, count=5))
    a = a_member(book, "a").member
    beat(book, a, 1, delivered=[("t", 0, 4)])
    (first, _) = book.ask(m.GroupInfo(id=2, group="g")).partitions
    assert (first.delivered, first.acked) == (4, None)


def test_what_is_not_logged_needs_the_lease() -> None:
    """Rule `lease`: heartbeats, and a register that only renews."""
    book = with_topic(Playbook.alone(lease_s=1))
    a = a_member(book, "a").member
    a_producer(book)
    book.jump(1)
    assert beat(book, a, 1).error == "NO_LEADER"
    assert a_member(book, "a", member=a).error == "NO_LEADER"
    assert book.ask(m.Heartbeat(id=1, producer=1)).error == "NO_LEADER"
    assert a_member(book, "b").ok, "what is answered at commit goes on without"


def test_without_the_lease_a_heartbeat_logs_nothing() -> None:
    limits = Limits(producer_session_ms=500)
    book = with_topic(Playbook.alone(lease_s=1, limits=limits))
    a = a_member(book, "a").member
    a_member(book, "b")
    a_producer(book)
    book.wait(0.8)
    assert book.state.producers[1].gone_ms is not None
    book.jump(0.3)
    assert beat(book, a, 2, ("t", 0)).error == "NO_LEADER"
    assert book.written() == []
    assert book.ask(m.Heartbeat(id=1, producer=1)).error == "NO_LEADER"
    assert book.written() == []


# -- silence --------------------------------------------------------------------------------------


def test_a_silent_member_is_logged_as_gone_and_its_partitions_move(book: Playbook) -> None:
    book.ask(m.Produce(id=1, topic="t", partition=0, count=5))
    a = a_member(book, "a", session_ms=2000).member
    book.ask(m.Ack(id=2, group="g", member=a, generation=1, offsets=[("t", 0, 3)]))
    b = a_member(book, "b").member
    beat(book, a, 2, ("t", 0), delivered=[("t", 0, 5)])
    assert gone(book.wait(1.9)) == []
    effects = book.wait(0.5)
    assert gone(effects) == [("expired", a)]
    assert book.told("member_expired") == [{"group": "g", "member": a}]
    answer = beat(book, b, 3)
    assert answer.assignment == [("t", 0), ("t", 1)]
    assert answer.offsets[0] == ("t", 0, 3), "delivered again from what was acknowledged"


def test_each_member_has_its_own_session(book: Playbook) -> None:
    a = a_member(book, "a", session_ms=2000).member
    b = a_member(book, "b", session_ms=4000).member
    assert gone(book.wait(2.5)) == [("expired", a)]
    assert gone(book.wait(2)) == [("expired", b)]


def test_heartbeats_keep_a_member(book: Playbook) -> None:
    a = a_member(book, "a", session_ms=2000).member
    for _ in range(5):
        assert gone(book.wait(1.5)) == []
        beat(book, a, 1)


def test_without_a_lease_nobody_expires_and_then_everybody_has_a_full_session() -> None:
    book = with_topic(Playbook.alone(lease_s=1.3))
    a = a_member(book, "a", session_ms=2000).member
    a_producer(book)
    assert gone(book.wait(60)) == []
    assert gone(keep_lease(book, 1.8)) == []
    assert gone(keep_lease(book, 0.7)) == [("expired", a)]
    assert gone(keep_lease(book, 27)) == []
    assert gone(keep_lease(book, 1.2)) == [("expired", 1)]


def test_without_a_lease_nobody_is_forgotten() -> None:
    limits = Limits(producer_session_ms=1000, producer_retention_ms=5000)
    book = with_topic(Playbook.alone(limits=limits, lease_s=4))
    a_producer(book)
    assert gone(book.wait(60)) == [("expired", 1)]


def test_a_lease_that_lapsed_unnoticed_has_lapsed() -> None:
    """The process stood still; when it goes on, yak-zk's next answer is there already."""
    book = with_topic(Playbook.alone(lease_s=1.3))
    a_member(book, "a", session_ms=2000)
    keep_lease(book, 1)
    book.jump(10)
    assert gone(keep_lease(book, 1.8)) == []
    assert len(gone(keep_lease(book, 0.4))) == 1


def keep_lease(book: Playbook, seconds: float) -> list[e.Effect]:
    """Time passes, and yak-zk answers each heartbeat."""
    came: list[e.Effect] = []
    end = book.now.mono + seconds
    while book.now.mono < end:
        book.renew_lease()
        came += book.effects
        came += book.wait(min(0.25, end - book.now.mono))
    return came


def test_a_new_leader_gives_everybody_a_full_session() -> None:
    scribe = Scribe()
    scribe.topic()
    scribe.member("a")
    scribe.producer(1)
    book = Playbook(log=scribe.log, epoch=1)
    book.jump(1000)
    book.elected(a_view(isr=[1], settings=LONE))
    assert gone(book.wait(9.8)) == []
    assert gone(book.wait(0.6)) == [("expired", "a")]
    assert gone(book.wait(19.6)) == []
    assert gone(book.wait(0.6)) == [("expired", 1)]


def test_silence_is_not_logged_while_nothing_may_be_written() -> None:
    scribe = Scribe()
    scribe.topic()
    scribe.member("a")
    book, two, three = Playbook.of_three(log=scribe.log, epoch=1)
    two.holds()
    three.holds()
    assert gone(book.wait(20)) == []
    two.holds()
    assert gone(book.wait(0.2)) == [("expired", "a")]


def test_whoever_left_does_not_expire_as_well(book: Playbook) -> None:
    a = a_member(book, "a").member
    a_producer(book)
    book.ask(m.Deregister(id=1, group="g", member=a))
    book.ask(m.Deregister(id=2, producer=1))
    assert gone(book.wait(60)) == []


def test_the_log_alone_says_who_is_there(book: Playbook) -> None:
    """A State that reads this leader's log knows every member and producer."""
    a_producer(book)
    a_member(book, "a")
    a_member(book, "b", group="h")
    again = Scribe()
    log: list[Op] = book.disk.ops
    for op in log:
        again.state.apply(op)
    assert dict(again.state.groups) == dict(book.state.groups)
    assert dict(again.state.producers) == dict(book.state.producers)
