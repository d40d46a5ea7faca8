"""Copying the log, rule by rule: what a follower takes, cuts and acknowledges."""

from __future__ import annotations

import pytest

from tests.support.playbook import Playbook, a_batch, a_lead, a_topic, a_view, with_broker
from yak import messages as m
from yak.core import events as e
from yak.core.follower import MAX_UNAPPLIED, REDIAL_S
from yak.core.ops import Op

#: What an earlier leader left.
INHERITED: list[Op] = [a_lead(1), a_topic(2), *(a_batch(n, n - 3) for n in (3, 4, 5))]


class Following:
    """Broker 2 follows broker 1 in epoch 3; `link` is the one that stands."""

    def __init__(self, *log: Op, linked: bool = True, agreed: bool = True) -> None:
        self.book = Playbook(2, log=log, epoch=1)
        self.book.tell(e.Joined(a_view()))
        (dial,) = self.book.seen(e.Dial)
        self.dial, self.link = dial, dial.link
        if linked:
            self.book.tell(e.LinkUp(self.link))
        if linked and agreed:
            self.agree()

    def agree(self, truncate_to: int | None = None, epoch: int = 3) -> None:
        at = self.book.node.log.next if truncate_to is None else truncate_to
        answer = m.FollowAnswer(epoch=epoch, truncate_to=at, sum="aabbccdd")
        self.book.tell(e.FollowAnswered(self.link, answer))

    def copy(
        self, *ops: Op, committed: int = 0, from_: int | None = None, epoch: int = 3, **more: int
    ) -> None:
        """The leader's answer brings these operations."""
        first = self.book.node.log.next if from_ is None else from_
        answer = m.ReplicateAnswer(epoch=epoch, from_=first, committed=committed, count=len(ops))
        self.book.tell(e.Copied(more.get("link", self.link), answer, list(ops)))

    def acknowledged(self) -> list[int]:
        """Up to where the last turn told the leader that it holds everything."""
        return [effect.first - 1 for effect in self.book.seen(e.SendReplicate)]


def test_a_follower_dials_shows_its_log_is_told_where_to_cut_and_asks_for_more() -> None:
    f = Following(*INHERITED, linked=False)
    assert (f.dial.broker, f.dial.host, f.dial.port) == (1, "127.0.0.1", 9092)
    f.book.tell(e.LinkUp(f.link))
    (follow,) = f.book.seen(e.SendFollow)
    assert (follow.epoch, follow.epochs, follow.next) == (3, [(1, 1)], 6)
    f.agree(truncate_to=4)
    kinds = [type(effect) for effect in f.book.effects if not isinstance(effect, e.Tell)]
    assert kinds == [e.Truncate, e.SendReplicate]
    assert f.book.seen(e.Truncate) == [e.Truncate(4, "aabbccdd")]
    assert f.acknowledged() == [3]
    assert len(f.book.disk.ops) == 3


def test_the_sums_are_compared_even_where_nothing_is_cut() -> None:
    f = Following(*INHERITED)
    assert f.book.seen(e.Truncate) == [e.Truncate(6, "aabbccdd")]


@pytest.mark.parametrize("truncate_to", [1, 3, 4, 9])
def test_a_follower_never_cuts_below_its_own_c_nor_beyond_its_end(truncate_to: int) -> None:
    """Then it stops and keeps its files."""
    f = Following(*INHERITED)
    f.copy(committed=4)
    assert f.book.committed == 4
    f.book.tell(e.LinkDown(f.link, "lost"))
    f.book.wait(REDIAL_S)
    f.link = f.book.seen(e.Dial)[0].link
    f.book.tell(e.LinkUp(f.link))
    f.agree(truncate_to)
    assert f.book.seen(e.Halt)
    assert not f.book.seen(e.Truncate)
    assert len(f.book.disk.ops) == 5


def test_verified_commit() -> None:
    """The leader's C is taken only after truncation was agreed on this link."""
    f = Following(*INHERITED, agreed=False)
    f.copy(committed=5)
    assert f.book.committed == 0
    f.agree(truncate_to=4)
    assert f.book.committed == 0
    f.copy(committed=5)
    assert f.book.committed == 3


def test_ack_durable() -> None:
    """A follower acknowledges, and commits, what its disk has; not what it was sent."""
    f = Following(*INHERITED)
    f.book.disk.slow = True
    f.copy(a_lead(6, 3), a_batch(7, 3, epoch=3), committed=7)
    assert [type(x) for x in f.book.effects][:1] == [e.AppendCopied]
    assert f.acknowledged() == []
    assert f.book.committed == 5
    f.book.sync(6)
    assert f.acknowledged() == []
    assert f.book.committed == 6
    f.book.sync(7)
    assert f.acknowledged() == [7]
    assert f.book.committed == 7


def test_ack_durable_on_a_new_link() -> None:
    f = Following(*INHERITED)
    f.book.disk.slow = True
    f.copy(a_lead(6, 3))
    f.book.tell(e.LinkDown(f.link, "reset"))
    f.book.wait(REDIAL_S)
    f.link = f.book.seen(e.Dial)[0].link
    f.book.tell(e.LinkUp(f.link))
    f.agree()
    assert f.acknowledged() == []
    f.book.sync()
    assert f.acknowledged() == [6]


def test_a_recovered_log_is_acknowledged_at_once() -> None:
    assert Following(*INHERITED).acknowledged() == [5]


def test_the_news_of_a_commit_alone_is_acknowledged_too() -> None:
    f = Following(*INHERITED)
    f.copy(committed=3)
    assert (f.book.committed, f.acknowledged()) == (3, [5])


def test_c_never_goes_back() -> None:
    f = Following(*INHERITED)
    f.copy(committed=4)
    f.copy(committed=2)
    assert f.book.committed == 4


def test_late_news_is_dropped() -> None:
    """Of another link, of another epoch, or of another place than the log's end."""
    f = Following(*INHERITED)
    end = len(f.book.disk.ops)
    f.copy(a_lead(6, 3), committed=6, link=f.link - 1)
    f.copy(a_lead(6, 4), committed=6, epoch=4)
    f.copy(a_lead(5, 3), committed=6, from_=5)
    f.book.tell(e.LinkUp(f.link - 1), e.LinkDown(f.link - 1, "late"))
    assert (len(f.book.disk.ops), f.book.committed) == (end, 0)
    assert f.book.told("late_copy_dropped") == [{"first": 5}]
    assert not f.book.seen(e.SendFollow)
    f.copy(a_lead(6, 3))
    assert f.acknowledged() == [6]


def test_a_leader_of_another_epoch_is_not_followed() -> None:
    """A higher one either: yak-zk has to say so first."""
    f = Following(*INHERITED, agreed=False)
    f.agree(truncate_to=2, epoch=4)
    assert f.book.seen(e.Undial) == [e.Undial(f.link)]
    assert not f.book.seen(e.Truncate)
    f.book.wait(REDIAL_S)
    assert f.book.seen(e.Dial)


def test_a_follow_that_is_refused_is_tried_again_on_a_new_link() -> None:
    f = Following(*INHERITED, agreed=False)
    f.book.tell(e.FollowAnswered(f.link, None, "not yet"))
    assert f.book.seen(e.Undial)
    f.book.wait(REDIAL_S)
    (dial,) = f.book.seen(e.Dial)
    assert dial.link != f.link


def test_a_link_that_is_lost_again_and_again_is_told_once_for_each_reason() -> None:
    f = Following(*INHERITED)

    def lose(reason: str) -> int:
        f.book.tell(e.LinkDown(f.link, reason))
        told = len([tell for tell in f.book.seen(e.Tell) if tell.event == "leader_link_lost"])
        f.book.wait(REDIAL_S)
        f.link = f.book.seen(e.Dial)[0].link
        return told

    assert [lose(why) for why in ("reset", "refused", "refused", "refused")] == [1, 1, 0, 0]
    f.book.tell(e.LinkUp(f.link))
    f.agree()
    assert lose("refused") == 1, "it was well meanwhile"


def test_a_lost_link_is_dialled_again_and_agreed_anew() -> None:
    f = Following(*INHERITED)
    f.book.tell(e.LinkDown(f.link, "reset"))
    assert not f.book.seen(e.Dial)
    f.book.wait(REDIAL_S)
    (dial,) = f.book.seen(e.Dial)
    old, f.link = f.link, dial.link
    f.book.tell(e.LinkUp(dial.link))
    f.copy(a_lead(6, 3), committed=5)
    assert (len(f.book.disk.ops), f.book.committed) == (5, 0), "not agreed on this link"
    f.agree()
    f.copy(a_lead(6, 3), committed=5, link=old)
    assert len(f.book.disk.ops) == 5
    f.copy(a_lead(6, 3), committed=5)
    assert (len(f.book.disk.ops), f.book.committed) == (6, 5)


def test_a_silent_leader_s_link_is_given_up_after_the_session() -> None:
    f = Following(*INHERITED)
    f.book.wait(1.9)
    assert not f.book.seen(e.Dial)
    f.book.wait(0.2)
    assert f.book.seen(e.Undial)
    assert f.book.seen(e.Dial)


def test_what_comes_over_a_new_link_counts_once_it_was_agreed_there() -> None:
    f = Following(*INHERITED)
    f.book.wait(2.1)  # the leader is silent
    f.link = f.book.seen(e.Dial)[0].link
    f.copy(a_lead(6, 3), committed=5)
    assert (len(f.book.disk.ops), f.book.committed) == (5, 0)


def test_what_comes_late_over_a_lost_link_is_dropped() -> None:
    f = Following(*INHERITED)
    f.book.tell(e.LinkDown(f.link, "reset"))
    f.copy(a_lead(6, 3), committed=5)
    assert (len(f.book.disk.ops), f.book.committed) == (5, 0)


def test_one_s_own_slow_disk_is_not_the_leader_s_silence() -> None:
    f = Following(*INHERITED)
    f.book.disk.slow = True
    f.copy(a_lead(6, 3))
    f.book.wait(10)
    assert not f.book.seen(e.Undial)
    f.book.sync()
    assert f.acknowledged() == [6]


def test_a_new_epoch_is_followed_from_the_beginning() -> None:
    f = Following(*INHERITED)
    f.copy(committed=3)
    f.book.tell(e.ViewChanged(a_view(3, [2, 3], epoch=4, version=13)))
    assert f.book.seen(e.Undial) == [e.Undial(f.link)]
    (dial,) = f.book.seen(e.Dial)
    assert (dial.broker, dial.link > f.link) == (3, True)
    f.book.tell(e.LinkUp(dial.link))
    (follow,) = f.book.seen(e.SendFollow)
    assert follow.epoch == 4
    assert f.book.committed == 3, "what is committed stays so"


def test_a_document_of_the_same_epoch_leaves_the_link_alone() -> None:
    f = Following(*INHERITED)
    f.book.tell(e.ViewChanged(with_broker(a_view(version=13), 3, live=False)))
    assert not f.book.seen(e.Undial)
    f.copy(a_lead(6, 3))
    assert f.acknowledged() == [6]


# -- a follower that cannot keep up ----------------------------------------------------------------


def test_a_follower_that_has_too_much_to_apply_asks_for_no_more() -> None:
    """Whatever a leader has, it holds no whole log in memory."""
    f = Following(a_lead(1), a_topic(2))
    f.book.tell(e.FilesStuck("no room"))
    f.copy(*(a_batch(3 + n, n) for n in range(MAX_UNAPPLIED)), committed=MAX_UNAPPLIED + 2)
    assert f.book.state.index == 0
    assert f.acknowledged() == [], "on the disk, but two too many for the memory"
    f.book.wait(5)
    assert f.acknowledged() == []
    f.book.tell(e.FilesStuck(None))
    assert f.book.state.index == MAX_UNAPPLIED + 2
    assert f.acknowledged() == [MAX_UNAPPLIED + 2]


def test_what_is_not_committed_is_not_counted() -> None:
    """Else a follower that waits for another one would hold up the commit that it waits for."""
    f = Following(a_lead(1), a_topic(2))
    f.copy(*(a_batch(3 + n, n) for n in range(MAX_UNAPPLIED + 1)), committed=2)
    assert f.acknowledged() == [MAX_UNAPPLIED + 3]
