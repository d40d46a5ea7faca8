"""A broker without its world: its roles and how it changes them, the barrier, what it applies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import (
    LONE,
    WALL_MS,
    Peer,
    Playbook,
    a_batch,
    a_lead,
    a_topic,
    a_view,
)
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import node, ops
from yak.core.node import APPLY_AT_ONCE, RESIGN_AGAIN_S, STOP_GRACE_S
from yak.core.ops import Op

#: What an earlier leader left.
INHERITED: list[Op] = [a_lead(1), a_topic(2), *(a_batch(n, n - 3) for n in (3, 4, 5))]
PRODUCE: dict[str, Any] = {"topic": "t", "partition": 0, "count": 1}


def kinds(book: Playbook) -> list[type]:
    """The effects of the last turn, but for the story."""
    return [type(effect) for effect in book.effects if not isinstance(effect, e.Tell)]


def role(book: Playbook) -> str:
    answer = book.ask(m.Status(id=book.a_id()))
    assert isinstance(answer, m.StatusAnswer)
    return answer.role


# -- taking part ----------------------------------------------------------------------------------


def test_before_it_has_joined_a_broker_knows_nobody() -> None:
    book = Playbook()
    assert role(book) == "starting"
    assert book.ask(m.CreateTopic(id=1, topic="t")).error == "NO_LEADER"
    assert book.ask(m.Metadata(id=2)).leader is None
    assert book.ask(m.Hello(id=3)).cluster is None


def test_the_first_document_makes_the_directory_the_cluster_s() -> None:
    book = Playbook(2)
    book.tell(e.Joined(a_view()))
    assert kinds(book) == [e.SaveCluster, e.SaveEpoch, e.Dial]
    assert book.seen(e.SaveCluster) == [e.SaveCluster("C")]
    book.tell(e.ViewChanged(a_view(version=13)))
    assert kinds(book) == []


def test_one_step() -> None:
    """Taking the lead: follow nobody any more, persist the epoch, write `lead`."""
    book = Playbook(2, log=INHERITED, epoch=1)
    book.tell(e.Joined(a_view(1)))
    link = book.seen(e.Dial)[0].link
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=13)))
    assert kinds(book)[:3] == [e.Undial, e.SaveEpoch, e.AppendOp]
    assert book.seen(e.Undial) == [e.Undial(link)]
    assert book.seen(e.SaveEpoch) == [e.SaveEpoch(4)]
    (append,) = book.seen(e.AppendOp)
    assert append.op == ops.Lead(index=6, epoch=4, time=book.now.wall_ms, broker=2)


def test_the_log_s_time_does_not_go_back_with_a_new_leader_s_clock() -> None:
    late = a_lead(1)
    late.time = 9_000_000_000_000
    book = Playbook(log=[late], epoch=1).elected(a_view(isr=[1], settings=LONE))
    assert book.disk.ops[1].time == late.time


def test_new_epoch() -> None:
    """A broker that was restarted never leads an epoch that it took part in before."""
    book = Playbook(log=INHERITED, epoch=3)
    book.tell(e.Joined(a_view(1, epoch=3)))
    assert book.written() == []
    assert role(book) == "leaderless"
    assert book.told("lead_refused")
    assert book.ask(m.CreateTopic(id=1, topic="u")).error == "NO_LEADER"
    book.tell(e.ViewChanged(a_view(1, epoch=4, version=13)))
    assert book.written() == ["lead"]


def test_it_may_follow_in_an_epoch_that_it_took_part_in_before() -> None:
    book = Playbook(2, log=INHERITED, epoch=3)
    book.tell(e.Joined(a_view(1, epoch=3)))
    assert kinds(book) == [e.SaveCluster, e.Dial], "the epoch is on disk already"


@pytest.mark.parametrize(("epoch", "version"), [(3, 11), (2, 99)])
def test_a_late_document_is_dropped(epoch: int, version: int) -> None:
    book = Playbook.alone()
    book.tell(e.ViewChanged(a_view(2, [2, 3], epoch=epoch, version=version)))
    assert role(book) == "leader"
    assert book.told("late_view_dropped") == [{"epoch": epoch, "version": version}]


# -- the barrier ----------------------------------------------------------------------------------


def test_barrier() -> None:
    """Clients are served once this epoch's `lead` is applied, with all that it inherited."""
    book = Playbook(log=INHERITED, epoch=1).elected(a_view())
    two, three = Peer(book, 2), Peer(book, 3)
    two.follow()
    two.holds()
    assert role(book) == "taking the lead"
    for request in (m.Produce(id=1, **PRODUCE), m.Groups(id=2)):
        assert book.ask(request).error == "NO_LEADER"
    assert book.state.index == 0
    three.follow()
    three.holds(5)
    assert (book.state.index, role(book)) == (5, "taking the lead")
    three.holds(6)
    assert (book.state.index, role(book)) == (6, "leader")
    assert book.ask(m.Groups(id=3)).ok
    assert book.ask(m.Produce(id=4, **PRODUCE)) is None
    assert book.written() == ["append"]


def test_a_leader_that_cannot_begin_says_that_replicas_are_missing() -> None:
    book = Playbook().elected(a_view())
    assert book.ask(m.Produce(id=1, **PRODUCE)).error == "NOT_ENOUGH_REPLICAS"


# -- turns ----------------------------------------------------------------------------------------


def test_nobody_hears_of_what_is_not_there() -> None:
    """State and files first, then the answers; and the operation before all of them."""
    book = Playbook.alone()
    book.ask(m.CreateTopic(id=1, topic="t", partitions=1))
    assert kinds(book) == [e.AppendOp, e.Apply, e.Reply]
    book.ask(m.Fetch(id=2, partitions=(("t", 0, 0),), wait_ms=5000), conn=7)
    book.ask(m.Produce(id=3, **PRODUCE))
    assert kinds(book) == [e.AppendOp, e.Apply, e.Reply, e.SendRecords]


def test_whatever_is_heard_in_one_turn_goes_out_together() -> None:
    book = Playbook.alone()
    book.tell(*(e.Asked(n, m.CreateTopic(id=1, topic=f"t{n}")) for n in range(5)))
    assert kinds(book)[:5] == [e.AppendOp] * 5
    assert len(book.seen(e.Apply)) == 1


def test_what_the_disk_says_of_a_log_that_was_cut_counts_no_further() -> None:
    book = Playbook(2, log=INHERITED, epoch=1)
    book.tell(e.Joined(a_view(1)))
    (dial,) = book.seen(e.Dial)
    book.tell(
        e.LinkUp(dial.link),
        e.FollowAnswered(dial.link, m.FollowAnswer(epoch=3, truncate_to=4, sum="aabbccdd")),
        e.Durable(5),
    )
    assert book.node.log.durable == 3


def test_the_same_events_give_the_same_effects() -> None:
    def story() -> list[e.Effect]:
        book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
        for n in range(5):
            book.ask(m.Register(id=n, role="consumer", group="g", topics=["t"], client=f"c{n}"))
            two.holds()
            three.holds()
        book.wait(30)
        return book.story

    assert story() == story()


# -- what is applied ------------------------------------------------------------------------------


def following(me: int = 2, log: list[Op] = INHERITED) -> Playbook:
    """A follower of broker 1 in epoch 3, restarted with `log`, that has agreed with its leader."""
    book = Playbook(me, log=log, epoch=1)
    book.tell(e.Joined(a_view(1)))
    link = book.seen(e.Dial)[0].link
    answer = m.FollowAnswer(epoch=3, truncate_to=len(log) + 1, sum="aabbccdd")
    book.tell(e.LinkUp(link), e.FollowAnswered(link, answer))
    return book


def commit(book: Playbook, committed: int) -> None:
    """The leader says how far C is."""
    answer = m.ReplicateAnswer(epoch=3, from_=book.node.log.next, committed=committed, count=0)
    book.tell(e.Copied(book.node._link, answer, []))


def test_a_recovered_log_is_not_applied_before_it_proves_committed() -> None:
    book = following()
    assert book.state.index == 0
    commit(book, 4)
    assert book.seen(e.Load) == [e.Load(1, 4)]
    assert book.state.index == 4
    commit(book, 5)
    assert book.state.index == 5


def test_a_long_log_is_applied_a_bounded_piece_a_turn() -> None:
    log = [*INHERITED, *(a_batch(n, n - 3) for n in range(6, 2 * APPLY_AT_ONCE + 10))]
    book = following(log=log)
    commit(book, len(log))
    assert book.state.index == len(log)
    pieces = [len(effect.ops) for effect in book.seen(e.Apply)]
    assert len(pieces) == 3
    assert max(pieces) == APPLY_AT_ONCE


def test_what_is_in_memory_is_not_read_back() -> None:
    book = following()
    answer = m.ReplicateAnswer(epoch=3, from_=6, committed=7, count=2)
    copied: list[Op] = [a_lead(6, 3), a_batch(7, 3, epoch=3)]
    book.tell(e.Copied(book.node._link, answer, copied))
    assert book.seen(e.Load) == [e.Load(1, 5)], "the rest it has just been sent"
    assert book.state.index == 7


def test_operations_are_read_back_once() -> None:
    book = following()
    node, now = book.node, book.now
    answer = m.ReplicateAnswer(epoch=3, from_=6, committed=4, count=0)
    node.hear(e.Copied(node._link, answer, []), now)
    assert e.Load(1, 4) in node.act(now)
    assert not [effect for effect in node.act(now) if isinstance(effect, e.Load)]
    node.hear(e.Loaded(INHERITED[:4]), now)
    node.act(now)
    assert node.state.index == 4


def test_a_new_leader_goes_on_where_the_follower_stood() -> None:
    book = following()
    commit(book, 4)
    book.tell(e.ViewChanged(a_view(2, [2], epoch=4, version=13, settings=LONE)))
    assert (book.committed, book.state.index) == (6, 6)
    assert role(book) == "leader"


# -- stepping down --------------------------------------------------------------------------------


def test_a_leader_that_is_replaced_tells_whoever_waits_that_the_outcome_is_unknown() -> None:
    book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
    assert book.ask(m.Produce(id=1, **PRODUCE)) is None
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=13)))
    assert book.answer(1).error == "REQUEST_TIMED_OUT"
    assert "stepped_down" in [x.event for x in book.seen(e.Tell)]
    assert {x.conn for x in book.seen(e.HangUp)} == {two.conn, three.conn}
    assert role(book) == "follower"
    refusal = book.ask(m.Produce(id=2, **PRODUCE))
    assert (refusal.error, refusal.leader) == (
        "NOT_LEADER",
        m.LeaderHint(2, "127.0.0.1", 9093),
    )


def test_what_a_replaced_leader_wrote_is_decided_anew_by_the_next_one() -> None:
    """Pending goes with the epoch: nothing of it is left when this broker leads again."""
    book, *_ = Playbook.of_three()
    book.ask(m.CreateTopic(id=1, topic="t"))
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=13)))
    link = book.seen(e.Dial)[0].link
    cut = m.FollowAnswer(epoch=4, truncate_to=2, sum="aabbccdd")
    book.tell(e.LinkUp(link), e.FollowAnswered(link, cut))
    book.tell(e.ViewChanged(a_view(1, [1], epoch=5, version=14, settings=LONE)))
    assert book.ask(m.CreateTopic(id=2, topic="t")).ok


def test_while_nobody_leads_nothing_is_decided() -> None:
    book = Playbook.alone()
    book.tell(e.ViewChanged(a_view(None, epoch=4, version=13)))
    assert role(book) == "leaderless"
    assert book.ask(m.CreateTopic(id=1, topic="t")).error == "NO_LEADER"


def test_a_resignation_is_repeated_until_yak_zk_has_heard_it() -> None:
    book, *_ = Playbook.of_three()
    book.wait(3.2)
    (first,) = book.seen(e.Resign)
    assert first.epoch == 3
    book.wait(RESIGN_AGAIN_S + 0.2)
    assert book.seen(e.Resign) == [first]
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=13)))
    book.wait(10)
    assert book.seen(e.Resign) == []


# -- the disk -------------------------------------------------------------------------------------


def test_a_leader_whose_disk_refuses_resigns_and_acknowledges_nothing_of_it() -> None:
    book = Playbook.alone(log=INHERITED, epoch=1)
    book.disk.slow = True
    assert book.ask(m.Produce(id=1, **PRODUCE)) is None
    book.disk.ops.pop()
    book.tell(e.StorageFailed("no space left on device", 6))
    assert not book.answer(1).ok
    assert book.answer(1).retriable
    assert book.node.log.next == 7
    book.wait(0.2)
    assert book.seen(e.Resign)[0].epoch == 3
    assert book.ask(m.Produce(id=2, **PRODUCE)).error == "NO_LEADER"


def test_it_does_not_lead_on_before_yak_zk_has_answered_its_resignation() -> None:
    book = Playbook.alone()
    book.tell(e.StorageFailed("no space left on device", 1))
    book.tell(e.ViewChanged(a_view(1, [1], version=13, settings=LONE)))
    assert book.written() == []
    book.tell(e.ViewChanged(a_view(1, [1], epoch=4, version=14, settings=LONE)))
    assert book.written() == ["lead"]


def test_it_serves_reads_on_for_a_session() -> None:
    """It has only just lost its role; it is not cut off."""
    book = Playbook.alone(log=INHERITED, epoch=1)
    book.wait(60)
    book.tell(e.StorageFailed("no space left on device", 6))
    assert book.ask(m.Fetch(id=1, partitions=(("t", 0, 0),))).offsets == [0]
    book.wait(2.1)
    (entry,) = book.ask(m.Fetch(id=2, partitions=(("t", 0, 0),))).entries
    assert entry.error == "NO_LEADER"


# -- reads on a replica ---------------------------------------------------------------------------


def test_a_replica_serves_reads_until_it_has_not_heard_its_leader_for_a_session() -> None:
    book = following()
    commit(book, 5)
    fetch = [("t", 0, 0)]
    book.wait(1.9)
    assert book.ask(m.Fetch(id=1, partitions=tuple(fetch))).offsets == [0]
    assert book.ask(m.Fetch(id=2, partitions=(("t", 0, 3),), wait_ms=5000)) is None
    book.wait(0.2)
    for answer in (book.answer(2), book.ask(m.Fetch(id=3, partitions=tuple(fetch)))):
        assert answer.entries[0].error == "NO_LEADER"


def test_a_replica_wakes_whoever_waits_when_it_applies() -> None:
    book = following()
    commit(book, 2)
    assert book.ask(m.Fetch(id=1, partitions=(("t", 0, 0),), wait_ms=500)) is None
    commit(book, 3)
    assert book.answer(1).offsets == [0]


def test_whoever_waits_for_a_topic_hears_that_it_is_deleted() -> None:
    book = Playbook.alone(log=INHERITED, epoch=1)
    assert book.ask(m.Fetch(id=1, partitions=(("t", 0, 3),), wait_ms=500)) is None
    book.ask(m.DeleteTopic(id=2, topic="t"))
    assert book.answer(1).entries[0].error == "UNKNOWN_TOPIC"


def test_whoever_waits_for_a_topic_that_is_made_again_at_once_hears_it_too() -> None:
    """Its offsets are another topic's: whoever waited on would miss that one's first records."""
    book = Playbook.alone(log=INHERITED, epoch=1)
    assert book.ask(m.Fetch(id=1, partitions=(("t", 0, 3),), wait_ms=500)) is None
    both = (m.DeleteTopic(id=2, topic="t"), m.CreateTopic(id=3, topic="t", partitions=1))
    book.tell(*(e.Asked(7, request) for request in both))
    assert book.answer(1).entries[0].error == "UNKNOWN_TOPIC"
    assert book.answer(3, 7).ok


def test_whoever_waits_for_what_a_replica_trims_in_the_same_piece_hears_it() -> None:
    trim = ops.Trim(index=6, epoch=1, time=WALL_MS, topic="t", partition=0, before=3)
    book = following(log=[*INHERITED, trim])
    commit(book, 2)
    assert book.ask(m.Fetch(id=1, partitions=(("t", 0, 0),), wait_ms=500)) is None
    commit(book, 6)
    (entry,) = book.answer(1).entries
    assert (entry.error, entry.start) == ("OFFSET_OUT_OF_RANGE", 3)


def test_a_client_that_hung_up_is_not_answered() -> None:
    book = following()
    commit(book, 2)
    book.ask(m.Fetch(id=1, partitions=(("t", 0, 0),), wait_ms=500))
    book.tell(e.Closed(100))
    commit(book, 3)
    book.wait(1)
    assert book.answer(1) is None


# -- the lease ------------------------------------------------------------------------------------


def test_the_lease_counts_from_when_the_answered_heartbeat_was_sent() -> None:
    book = Playbook.alone(lease_s=0.1)
    book.wait(0.2)
    sent = book.now.mono
    book.jump(1)
    book.tell(e.LeaseRenewed(sent))
    assert book.ask(m.Groups(id=1)).ok
    book.wait(0.29)
    assert book.ask(m.Groups(id=2)).ok
    book.wait(0.02)
    assert book.ask(m.Groups(id=3)).error == "NO_LEADER"


def test_a_late_answer_does_not_shorten_it() -> None:
    book = Playbook.alone(lease_s=0.1)
    book.tell(e.LeaseRenewed(book.now.mono), e.LeaseRenewed(book.now.mono - 1))
    book.wait(1.2)
    assert book.ask(m.Groups(id=1)).ok


def test_heartbeats_answered_before_the_election_count() -> None:
    book = Playbook()
    book.tell(e.Joined(a_view(None, [1], epoch=2, version=11, settings=LONE)))
    book.tell(e.LeaseRenewed(book.now.mono))
    book.tell(e.ViewChanged(a_view(1, [1], settings=LONE)))
    assert book.ask(m.Groups(id=1)).ok


# -- what any broker answers ----------------------------------------------------------------------


def test_hello() -> None:
    book = Playbook.alone()
    answer = book.ask(m.Hello(id=1, protocol=1))
    assert (answer.protocol, answer.broker, answer.cluster) == (1, 1, "C")
    assert book.ask(m.Hello(id=2, protocol=2)).error == "UNSUPPORTED_VERSION"


def test_a_follower_knows_what_the_cluster_has_and_who_decides() -> None:
    book = following()
    commit(book, 2)
    answer = book.ask(m.Metadata(id=1), dialled="10.0.0.7")
    assert (answer.leader, list(answer.topics)) == (1, ["t"])
    assert {b.host for b in answer.brokers} == {"10.0.0.7"}
    hint = book.ask(m.CreateTopic(id=2, topic="u"), dialled="10.0.0.7").leader
    assert hint == m.LeaderHint(1, "10.0.0.7", 9092)


def test_status_counts_what_there_is() -> None:
    book, two, _ = Playbook.of_three(log=INHERITED, epoch=1)
    book.ask(m.Register(id=1, role="producer", topics=["t"]))
    two.holds()
    answer = book.ask(m.Status(id=2))
    assert (answer.role, answer.epoch, answer.leader, answer.isr) == ("leader", 3, 1, [1, 2, 3])
    assert (answer.log_end, answer.committed, answer.applied) == (8, 6, 6)
    assert (answer.topics, answer.partitions, answer.producers) == (1, 1, 0)
    assert [(f.id, f.matched, f.in_sync) for f in answer.followers] == [(2, 7, True), (3, 6, True)]
    assert answer.lease_ms > 0


# -- the end --------------------------------------------------------------------------------------


def test_a_follower_that_is_asked_to_stop_stops_at_once() -> None:
    book = following()
    book.tell(e.Stop())
    assert kinds(book) == [e.Undial, e.Finished]
    book.wait(10)
    assert not book.seen(e.Finished), "it is said once"


def test_a_stopping_leader_finishes_what_its_clients_wait_for() -> None:
    book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
    book.ask(m.Produce(id=1, **PRODUCE))
    book.tell(e.Stop())
    assert not book.seen(e.Finished)
    assert role(book) == "stopping"
    two.holds()
    three.holds()
    assert book.answer(1).offset == 3
    assert kinds(book)[-1] is e.Finished


def test_it_does_not_wait_for_ever() -> None:
    book, *_ = Playbook.of_three(log=INHERITED, epoch=1)
    book.ask(m.Produce(id=1, **PRODUCE))
    book.tell(e.Stop())
    book.wait(STOP_GRACE_S - 0.2)
    assert book.answer(1) is None
    book.wait(0.3)
    assert book.answer(1).error == "REQUEST_TIMED_OUT"
    assert book.seen(e.Finished)


def test_a_stopping_broker_takes_no_new_role() -> None:
    book = following()
    book.tell(e.Stop())
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=13)))
    assert book.written() == []
    assert book.ask(m.CreateTopic(id=1, topic="u")).error == "SHUTTING_DOWN"


def test_deadlines_are_asked_for_and_met() -> None:
    """Between two of them nothing would come of a turn, however often it is asked."""
    book, *_ = Playbook.of_three(log=INHERITED, epoch=1)
    book.ask(m.Fetch(id=1, partitions=(("t", 0, 3),), wait_ms=730))
    book.ask(m.Produce(id=2, **PRODUCE, timeout_ms=810))
    end = book.now.mono + 1
    while book.now.mono < end:
        deadline = book.node.next_deadline()
        assert deadline > book.now.mono
        book.jump((deadline - book.now.mono) / 2)
        assert book.tell(e.Tick()) == []
        book.jump(deadline - book.now.mono)
        book.tell(e.Tick())
    assert book.answer(1) is not None
    assert book.answer(2).error == "REQUEST_TIMED_OUT"


def test_an_idle_leader_need_not_be_woken_more_than_four_times_a_second() -> None:
    """What depends on silence is looked at when something else is, or after LATEST_BEAT_S."""
    book, two, three = Playbook.of_three()
    book.wait(1.0)
    two.holds()
    three.holds()
    turns, end = 0, book.now.mono + 1
    while (deadline := book.node.next_deadline()) < end:
        book.jump(deadline - book.now.mono)
        book.tell(e.Tick())
        turns += 1
    assert 1 <= turns <= 6, "and two polls end"


def test_followers_are_told_of_no_more_than_the_leader_s_own_state_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a record could be seen there, and its acknowledgement be refused here."""
    monkeypatch.setattr(node, "APPLY_AT_ONCE", 1)
    book, two, three = Playbook.of_three()
    last = book.node.log.next + 2
    book.tell(*(e.Asked(99, m.CreateTopic(id=n, topic=f"t{n}", partitions=1)) for n in (1, 2, 3)))
    two.holds(last)
    acknowledges = m.Replicate(id=book.a_id(), broker=3, epoch=3, from_=last + 1)
    book.node.hear(e.Asked(three.conn, acknowledges), book.now)
    book.node.hear(e.Asked(99, m.CreateTopic(id=4, topic="t4", partitions=1)), book.now)
    told = [x.committed for x in book.node.act(book.now) if isinstance(x, e.SendOps)]
    assert book.node.committed == last
    assert book.node.state.index == last - 2
    assert told == [last - 2, last - 2]


# -- partition files that take nothing -------------------------------------------------------------


def test_a_leader_whose_files_take_no_more_gives_way() -> None:
    book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
    book.tell(e.FilesStuck("topics/t/0: full (max_unflushed_bytes is 1)"))
    assert [tell.fields for tell in book.seen(e.Tell) if tell.event == "applying_waits"] == [
        {"reason": "topics/t/0: full (max_unflushed_bytes is 1)"}
    ]
    book.ask(m.Produce(id=1, **PRODUCE))
    applied = book.state.index
    two.holds()
    three.holds()
    assert book.committed == applied + 1
    assert book.state.index == applied, "nothing more is held in memory"
    book.wait(0.2)
    (resign,) = [effect for effect in book.story if isinstance(effect, e.Resign)]
    assert "max_unflushed_bytes" in resign.reason
    book.tell(e.FilesStuck(None))
    assert book.state.index == applied + 1
    assert book.answer(1).offset == 3


def test_a_lone_leader_keeps_the_lead_and_refuses_what_would_fill_it() -> None:
    book = Playbook.alone(limits=Limits(max_uncommitted_bytes=3000))
    book.ask(m.CreateTopic(id=1, topic="t"))
    book.tell(e.FilesStuck("full"))
    for n in (2, 3):
        assert book.ask(m.Produce(id=n, **PRODUCE)) is None
    book.wait(1)
    refusal = book.ask(m.Produce(id=4, **PRODUCE))
    refusal = refusal or book.ask(m.Produce(id=5, **PRODUCE))
    assert refusal.error == "OVERLOADED"
    assert not [effect for effect in book.story if isinstance(effect, e.Resign)]
    book.tell(e.FilesStuck(None))
    assert [book.answer(n).offset for n in (2, 3)] == [0, 1]
