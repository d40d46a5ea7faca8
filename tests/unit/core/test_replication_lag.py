"""Who leaves the ISR for being behind, who comes back, and how a follower keeps in touch."""

from __future__ import annotations

import pytest

from tests.support.playbook import Peer, Playbook, a_batch, a_lead, a_topic, a_view
from yak import messages as m
from yak.config import Settings
from yak.core import events as e
from yak.core.ops import Op

LAG_S = Settings().replica_lag_ms / 1000


def proposed(book: Playbook) -> list[list[int]]:
    """The ISRs that the last `wait` or `tell` asked yak-zk for."""
    return [effect.isr for effect in book.seen(e.ProposeIsr)]


def keeps_up(book: Playbook, seconds: float, *peers: Peer) -> list[list[int]]:
    """The peers poll all the while; what the leader proposed meanwhile."""
    came: list[list[int]] = []
    end = book.now.mono + seconds
    while book.now.mono < end:
        book.wait(min(0.4, end - book.now.mono))
        came += proposed(book)
        for peer in peers:
            peer.holds()
    return came


def test_a_lost_link_is_not_a_lag() -> None:
    book, two, three = Playbook.of_three()
    assert keeps_up(book, 3 * LAG_S, two, three) == []
    two.closes()
    assert proposed(book) == []
    assert keeps_up(book, LAG_S - 0.2, three) == []
    two.follow()
    two.holds()
    assert keeps_up(book, LAG_S, two, three) == []


def test_who_does_not_come_back_has_to_leave_after_the_lag() -> None:
    book, two, three = Playbook.of_three()
    assert keeps_up(book, 3 * LAG_S, two, three) == []
    two.closes()
    assert keeps_up(book, LAG_S - 0.2, three) == []
    assert keeps_up(book, 0.4, three) == [[1, 3]]


def test_coming_back_behind_gives_no_more_time() -> None:
    book, two, three = Playbook.of_three()
    book.ask(m.CreateTopic(id=1, topic="t"))
    three.holds()
    assert keeps_up(book, LAG_S - 0.5, three) == []
    two.follow()
    two.holds(1)
    assert keeps_up(book, 1.0, three) == [[1, 3]]


def test_a_silent_follower_that_holds_everything_comes_back_only_when_it_is_heard() -> None:
    """In an idle log it has all there is: it would join and leave for as long as it is silent."""
    book, two, three = Playbook.of_three()
    assert [1, 3] in keeps_up(book, 2 * LAG_S + 0.5, three)
    book.tell(e.ViewChanged(a_view(isr=[1, 3], version=13)))
    assert proposed(book) == []
    assert keeps_up(book, 1.0, three) == []
    two.holds()
    assert proposed(book) == [[1, 2, 3]]


def loaded(
    book: Playbook, ends: list[int], seconds: float, behind_s: float, slow: Peer, other: Peer
) -> set[str]:
    """The log grows all the while, and `slow` always has what there was so long ago, never all.

    ends: where the log ended, after each step so far.  The ISRs that were proposed."""
    step_s = 0.1
    came: set[str] = set()
    for _ in range(round(seconds / step_s)):
        end = book.node.log.next
        book.ask(m.CreateTopic(id=end, topic=f"t{end}"))
        came |= {str(isr) for isr in proposed(book)}
        ends.append(book.node.log.next - 1)
        other.holds()
        slow.holds(ends[max(0, len(ends) - 1 - round(behind_s / step_s))])
        came |= {str(isr) for isr in proposed(book)}
        book.wait(step_s)
        came |= {str(isr) for isr in proposed(book)}
    return came


@pytest.mark.parametrize("behind_s", [0.1, 0.3, 1.0])
def test_who_never_has_everything_stays_while_it_is_not_far_behind(behind_s: float) -> None:
    """Under full load there is always more: what counts is how long it takes to come."""
    book, two, three = Playbook.of_three()
    assert loaded(book, [], 4 * LAG_S, behind_s, two, three) == set()
    (entry,) = [one for one in book.node.status(book.now).followers if one.id == 2]
    assert behind_s * 1000 <= entry.lag_ms <= behind_s * 1000 + 350


def test_who_is_further_behind_leaves_and_comes_back_when_it_is_not() -> None:
    book, two, three = Playbook.of_three()
    ends: list[int] = []
    assert loaded(book, ends, 3 * LAG_S, LAG_S + 0.5, two, three) == {"[1, 3]"}
    book.tell(e.ViewChanged(a_view(isr=[1, 3], version=13)))
    assert loaded(book, ends, 3 * LAG_S, LAG_S + 0.5, two, three) == set()
    book.ask(m.CreateTopic(id=book.node.log.next, topic="last"))
    three.holds()
    two.holds()
    assert proposed(book) == [[1, 2, 3]]


def test_a_follower_that_follows_anew_is_not_left_waiting_on_its_older_connection() -> None:
    book, two, _ = Playbook.of_three()
    older = two.conn
    two.follow()
    assert [effect.conn for effect in book.seen(e.HangUp)] == [older]
    book.tell(e.Closed(older))
    two.holds()
    assert [entry.id for entry in book.node.status(book.now).followers] == [2, 3]


@pytest.mark.parametrize("field", ["next", "epochs"])
def test_a_follow_that_counts_from_nought_is_refused(field: str) -> None:
    book, _, _ = Playbook.of_three()
    request = m.Follow(id=1, broker=2, inc="i2.1", epoch=3, epochs=[(3, 1)], next=2, sum="00000000")
    setattr(request, field, 0 if field == "next" else [(3, 1), (4, 0)])
    answer = book.ask(request, conn=2900)
    assert isinstance(answer, m.ErrorAnswer)
    assert answer.error == "INVALID_REQUEST"


# -- The follower's side --------------------------------------------------------------------------


def following(settings: Settings | None = None) -> Playbook:
    """Broker 1 follows broker 2, holds all that it has, and waits for more."""
    log: list[Op] = [a_lead(1), a_topic(2)]
    book = Playbook(log=log, epoch=1)
    book.tell(e.Joined(a_view(2, epoch=3, settings=settings)))
    (dial,) = book.seen(e.Dial)
    book.tell(e.LinkUp(dial.link))
    answer = m.FollowAnswer(epoch=3, truncate_to=3, sum="00000000")
    book.tell(e.FollowAnswered(dial.link, answer))
    return book


@pytest.mark.parametrize("lag_ms", [1500, 60_000])
def test_an_idle_leader_is_heard_well_within_the_session(lag_ms: int) -> None:
    settings = Settings(replica_lag_ms=lag_ms)
    (asked,) = following(settings).seen(e.SendReplicate)
    assert asked.wait_ms <= min(settings.session_ms, lag_ms) / 2


def test_a_follower_whose_disk_refuses_asks_again_a_little_later() -> None:
    """And not at once: the leader would send the same megabytes again and again."""
    book = following()
    (asked,) = book.seen(e.SendReplicate)
    copied = e.Copied(
        asked.link,
        m.ReplicateAnswer(epoch=3, from_=3, committed=2, count=1),
        [a_batch(3, epoch=3)],
    )
    node = book.node
    node.hear(copied, book.now)
    node.act(book.now)  # the stage's disk never had it
    book.tell(e.StorageFailed("no space left", 2))
    assert node.log.next == 3
    assert book.seen(e.Dial) == []
    assert [effect.link for effect in book.seen(e.Undial)] == [asked.link]
    book.wait(0.5)
    assert book.seen(e.Dial) == []
    book.wait(1.0)
    (again,) = book.seen(e.Dial)
    (saved,) = book.seen(e.SaveEpoch)
    assert saved.epoch == 3, "what it refused may have been that"
    assert again.link > asked.link
    book.tell(copied)
    assert node.log.next == 3, "news of the old link is dropped"
