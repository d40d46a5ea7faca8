"""Copying the log, rule by rule: what the leader counts, and whom it waits for.

The leader's side; the follower's is test_replication_follower.py's, and who lags, leaves and comes
back by time test_replication_lag.py's.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import Peer, Playbook, a_batch, a_lead, a_topic, a_view
from yak import messages as m
from yak.core import events as e
from yak.core.log import Log
from yak.core.ops import Op
from yak.core.replication import PROPOSE_AGAIN_S

#: What an earlier leader left.
INHERITED: list[Op] = [a_lead(1), a_topic(2), *(a_batch(n, n - 3) for n in (3, 4, 5))]


def write(book: Playbook) -> int:
    """One more operation; its index."""
    book.ask(m.CreateTopic(id=book.a_id(), topic=f"topic-{len(book.disk.ops)}", partitions=1))
    assert book.written() == ["create_topic"]
    return len(book.disk.ops)


def of_two(**more: Any) -> tuple[Playbook, Peer, Peer]:
    """Broker 1 leads epoch 3, 2 is in sync and follows; 3 lives, and is not in the ISR."""
    book = Playbook(**more).elected(a_view(isr=[1, 2]))
    two, three = Peer(book, 2), Peer(book, 3)
    two.follow()
    two.holds()
    return book, two, three


def proposals(book: Playbook) -> list[tuple[list[int], dict[int, str]]]:
    """(isr, incs) of what the last turn asked yak-zk for."""
    return [(effect.isr, effect.incs) for effect in book.seen(e.ProposeIsr)]


# -- commit ---------------------------------------------------------------------------------------


def test_commit_all_isr() -> None:
    """C is the least that all of the ISR hold."""
    book, two, three = Playbook.of_three()
    first = write(book)
    second = write(book)
    two.holds(second)
    assert book.committed == first - 1
    three.holds(first)
    assert book.committed == first
    three.holds(second)
    assert book.committed == second


def test_self_durable() -> None:
    """What the leader's own disk does not have does not count, whoever else holds it."""
    book, two, three = Playbook.of_three()
    book.disk.slow = True
    index = write(book)
    two.holds()
    three.holds()
    assert book.committed == index - 1
    second = write(book)
    two.holds()
    three.holds()
    book.sync(index)
    assert book.committed == index
    book.sync(second)
    assert book.committed == second


def test_an_isr_below_the_floor_commits_nothing() -> None:
    book = Playbook().elected(a_view(isr=[1]))
    assert book.committed == 0
    two = Peer(book, 2)
    two.follow()
    two.holds()
    assert proposals(book) == [([1, 2], {2: "i2.1"})]
    book.tell(e.ViewChanged(a_view(isr=[1, 2], version=13)))
    assert book.committed == 1


def test_match_reset() -> None:
    """What was acknowledged on an older connection does not count on a new one."""
    book, two, three = Playbook.of_three()
    index = write(book)
    two.holds()
    two.follow()
    three.holds()
    assert book.committed == index - 1
    two.holds()
    assert book.committed == index


def test_a_connection_that_ended_holds_nothing() -> None:
    book, two, three = Playbook.of_three()
    index = write(book)
    two.holds()
    two.closes()
    three.holds()
    assert book.committed == index - 1


# -- who may speak as a follower ------------------------------------------------------------------


def a_replicate(book: Playbook, from_: int, **more: Any) -> m.Replicate:
    return m.Replicate(id=book.a_id(), from_=from_, **{"broker": 2, "epoch": 3, **more})


@pytest.mark.parametrize("epoch", [2, 4])
def test_fence_follower(epoch: int) -> None:
    """Frames of another epoch are refused, older and newer ones."""
    _, two, _ = Playbook.of_three()
    two.epoch = epoch
    assert two.holds().error == "STALE_EPOCH"
    assert two.follow().error == "STALE_EPOCH"


def test_without_an_agreed_follow_on_this_connection_nothing_is_copied() -> None:
    book, two, three = Playbook.of_three()
    index = write(book)
    stranger = a_replicate(book, index + 1)
    assert book.ask(stranger, conn=9999).error == "INVALID_REQUEST"
    old = two.conn
    two.follow()
    assert book.ask(a_replicate(book, index + 1), conn=old).error == "INVALID_REQUEST"
    three.holds()
    assert book.committed == index - 1


def test_a_follower_holds_no_less_than_it_said_and_no_more_than_there_is() -> None:
    book, two, _ = Playbook.of_three()
    end = len(book.disk.ops)
    assert two.holds(end - 1).error == "INVALID_REQUEST"
    assert two.holds(end + 1).error == "INVALID_REQUEST"


def test_a_start_that_yak_zk_has_not_told_of_is_refused() -> None:
    book, two, three = Playbook.of_three()
    two.inc = "i2.2"
    assert two.follow().error == "STALE_EPOCH"
    book.tell(e.ViewChanged(a_view(incs={2: "i2.2"})))
    assert isinstance(two.follow(), e.SendFollowAnswer)
    three.broker = 7
    assert three.follow().error == "STALE_EPOCH"


def test_follow_is_answered_with_the_common_prefix() -> None:
    book, *_ = Playbook.of_three(log=INHERITED, epoch=1)
    theirs = Log([(1, 1), (2, 4)], 9, 0)
    answer = Peer(book, 2).follow(theirs)
    assert (answer.epoch, answer.truncate_to) == (3, 4)


def test_whoever_does_not_lead_has_no_followers() -> None:
    book = Playbook()
    book.tell(e.Joined(a_view(2)))
    peer = Peer(book, 3)
    assert peer.follow().error == "STALE_EPOCH"
    assert peer.holds().error == "STALE_EPOCH"


# -- what is sent ---------------------------------------------------------------------------------


def test_operations_are_sent_as_soon_as_there_are_some_before_they_are_durable() -> None:
    book, two, _ = Playbook.of_three()
    book.disk.slow = True
    index = write(book)
    sent = {effect.conn: effect for effect in book.seen(e.SendOps)}
    answer = sent[two.conn]
    assert (answer.epoch, answer.first, answer.last) == (3, index, index)
    assert answer.committed == index - 1


def test_the_news_of_a_commit_is_sent_at_once() -> None:
    book, two, three = Playbook.of_three()
    index = write(book)
    two.holds()
    assert not book.seen(e.SendOps)
    three.holds()
    assert book.committed == index
    answers = {effect.conn: effect for effect in book.seen(e.SendOps)}
    assert sorted(answers) == [two.conn, three.conn]
    for answer in answers.values():
        assert (answer.first, answer.last, answer.committed) == (index + 1, index, index)


def test_what_a_connection_was_told_is_not_told_again() -> None:
    book, two, three = Playbook.of_three()
    write(book)
    two.holds()
    three.holds()
    assert book.seen(e.SendOps)
    two.holds()
    three.holds()
    book.wait(0.2)
    assert not book.seen(e.SendOps)


def test_a_poll_ends_empty_when_its_time_is_over() -> None:
    book, two, _ = Playbook.of_three()
    book.wait(0.1)
    two.holds()
    book.wait(0.45)
    assert two.conn not in [effect.conn for effect in book.seen(e.SendOps)]
    book.wait(0.1)
    answer = next(effect for effect in book.seen(e.SendOps) if effect.conn == two.conn)
    assert answer.last < answer.first


# -- the ISR grows --------------------------------------------------------------------------------


def test_expand_first_and_expand_keep() -> None:
    """A joining follower is waited for from before its proposal is sent until the answer."""
    book, two, three = of_two()
    three.follow()
    three.holds()
    assert proposals(book) == [([1, 2, 3], {3: "i3.1"})]
    index = write(book)
    two.holds()
    assert book.committed == index - 1
    book.tell(e.CoordinatorLost("no answer"))
    for _ in range(100):  # a time-out is not an answer
        book.wait(0.4)
        two.holds()
    assert book.committed == index - 1
    book.tell(e.IsrAnswered(12, ok=False, message="another version"))
    assert book.committed == index


def test_news_of_who_is_live_answers_no_proposal() -> None:
    book, two, three = of_two()
    three.follow()
    three.holds()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 2])))
    index = write(book)
    two.holds()
    assert book.committed == index - 1


def test_what_yak_zk_accepts_counts_once_its_document_is_here() -> None:
    book, two, three = of_two()
    three.follow()
    three.holds()
    book.tell(e.IsrAnswered(12, ok=True, message=""))
    index = write(book)
    two.holds()
    assert book.committed == index - 1, "3 is still waited for"
    book.tell(e.ViewChanged(a_view(isr=[1, 2, 3], version=13)))
    assert book.committed == index - 1
    three.holds()
    assert book.committed == index


def test_a_document_that_changed_for_another_reason_answers_the_proposal_too() -> None:
    """It was made at a version that is no more; whoever still deserves it is proposed anew."""
    book, _, three = of_two()
    three.follow()
    three.holds()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], version=13)))
    (effect,) = book.seen(e.ProposeIsr)
    assert (effect.version, effect.isr) == (13, [1, 2, 3])


def test_one_proposal_at_a_time() -> None:
    book, _, three = of_two()
    three.follow()
    three.holds()
    assert len(proposals(book)) == 1
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 3])))
    book.wait(0.3)
    assert proposals(book) == []


def test_a_refused_proposal_is_made_again_a_little_later() -> None:
    book, two, three = of_two()
    three.follow()
    three.holds()
    book.tell(e.IsrAnswered(12, ok=False, message="not now"))
    assert proposals(book) == []
    book.wait(PROPOSE_AGAIN_S - 0.01)
    assert proposals(book) == []
    book.wait(0.2)
    assert proposals(book) == [([1, 2, 3], {3: "i3.1"})]
    book.tell(e.IsrAnswered(11, ok=False, message="late, about another one"))
    index = write(book)
    two.holds()
    assert book.committed == index - 1


def test_a_new_session_with_yak_zk_is_asked_again() -> None:
    book, _, three = of_two()
    three.follow()
    three.holds()
    book.tell(e.CoordinatorLost("it broke"), e.Joined(a_view(isr=[1, 2])))
    assert proposals(book) == [([1, 2, 3], {3: "i3.1"})]


def test_without_a_session_nothing_new_is_proposed() -> None:
    book, _, three = of_two()
    book.tell(e.CoordinatorLost("it broke"))
    three.follow()
    three.holds()
    assert proposals(book) == []
    book.tell(e.Joined(a_view(isr=[1, 2])))
    assert len(proposals(book)) == 1


def test_expand_start() -> None:
    """It must hold all that the leader inherited, and this epoch's `lead`, whatever C is."""
    book, _, three = of_two(log=INHERITED, epoch=1)
    start = len(INHERITED) + 1
    three.follow(Log([(1, 1)], start, 0))
    three.holds(start - 1)
    assert proposals(book) == []
    three.holds(start)
    assert proposals(book) == [([1, 2, 3], {3: "i3.1"})]


def test_a_follower_below_c_does_not_join() -> None:
    book, two, three = of_two()
    index = write(book)
    two.holds()
    assert book.committed == index
    three.follow()
    three.holds(index - 1)
    assert proposals(book) == []
    three.holds(index)
    assert len(proposals(book)) == 1


def test_expand_inc() -> None:
    """Another start of that broker than the one that has caught up is not proposed."""
    book, _, three = of_two()
    three.follow()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], incs={3: "i3.2"})))
    three.holds()
    assert proposals(book) == []


def test_whoever_is_reported_gone_is_not_proposed() -> None:
    book, _, three = of_two()
    three.follow()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 2])))
    three.holds()
    assert proposals(book) == []


@pytest.mark.parametrize("state", ["torn", "damaged", "unclean"])
def test_a_member_that_is_not_whole_is_made_whole_by_matching_again(state: m.LogState) -> None:
    """The set stays the same; what counts is the incarnation that the proposal names."""
    book = Playbook().elected(a_view(states={2: state}))
    two, three = Peer(book, 2), Peer(book, 3)
    three.follow()
    three.holds()
    assert proposals(book) == []
    two.follow()
    two.holds()
    assert proposals(book) == [([1, 2, 3], {2: "i2.1"})]


# -- the ISR shrinks ------------------------------------------------------------------------------


def test_shrink_after() -> None:
    """A leaving follower is waited for until yak-zk has confirmed."""
    book, two, _ = Playbook.of_three()
    book.tell(e.ViewChanged(a_view(live=[1, 2])))
    assert proposals(book) == [([1, 2], {})]
    index = write(book)
    two.holds()
    book.tell(e.IsrAnswered(12, ok=True, message=""))
    assert book.committed == index - 1
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 2], version=13)))
    assert book.committed == index


def test_floor() -> None:
    """No proposal goes below min_insync_replicas."""
    book, *_ = of_two()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1])))
    assert proposals(book) == []
    book.wait(10)
    assert proposals(book) == []


# -- giving up ------------------------------------------------------------------------------------


def resigned(book: Playbook) -> bool:
    return bool(book.seen(e.Resign))


def test_a_leader_whom_no_live_member_follows_resigns() -> None:
    book, *_ = Playbook.of_three()
    book.wait(2.9)
    assert not resigned(book)
    book.wait(0.3)
    assert resigned(book)


def test_one_that_is_followed_by_any_stays() -> None:
    book, two, _ = Playbook.of_three()
    for _ in range(20):
        book.wait(0.4)
        assert not resigned(book)
        two.holds()


def test_those_who_are_gone_need_not_follow() -> None:
    book, *_ = Playbook.of_three()
    book.tell(e.ViewChanged(a_view(live=[1])))
    book.wait(10)
    assert not resigned(book)


def test_whoever_has_just_come_is_given_time_to_follow() -> None:
    book, *_ = Playbook.of_three()
    book.tell(e.ViewChanged(a_view(live=[1])))
    book.wait(10)
    book.tell(e.ViewChanged(a_view()))
    book.wait(2.9)
    assert not resigned(book)
    book.wait(0.3)
    assert resigned(book)


def test_a_lone_leader_never_resigns() -> None:
    book = Playbook.alone()
    book.wait(10)
    assert not resigned(book)
