"""A broker with a damaged file: when it goes on, gives the lead away, and begins anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.playbook import LONE, Peer, Playbook, a_lead, a_topic, a_view
from yak import messages as m
from yak.config import DAMAGE_WAIT_S
from yak.core import events as e
from yak.core.log import Log
from yak.core.ops import Op

INHERITED: list[Op] = [a_lead(1), a_topic(2)]
PRODUCE: dict[str, Any] = {"topic": "t", "partition": 0, "count": 1}
FOUND = e.FileDamaged("t/0: no crc")
NEEDED = e.FileDamaged("t/0: no crc", needed=True)


def of_two(**view: Any) -> tuple[Playbook, Peer]:
    """Broker 1 leads; 2 is in sync, 3 is not, though it lives."""
    book = Playbook(log=INHERITED, epoch=1).elected(a_view(isr=[1, 2], **view))
    two = Peer(book, 2)
    two.follow()
    two.holds()
    return book, two


def resigned(book: Playbook) -> bool:
    return any(isinstance(effect, e.Resign) for effect in book.story)


def begins_anew(book: Playbook) -> int:
    return sum(isinstance(effect, e.Rebuild) for effect in book.story)


def wait(book: Playbook, seconds: float, *peers: Peer) -> None:
    """While these follow."""
    end = book.now.mono + seconds
    while book.now.mono < end:
        book.wait(min(0.3, end - book.now.mono))
        for peer in peers:
            peer.holds()


def test_a_follower_begins_anew_at_once_and_says_so_once() -> None:
    book = Playbook(2, log=INHERITED, epoch=1)
    book.tell(e.Joined(a_view(1)))
    book.tell(FOUND, FOUND)
    book.tell(FOUND)
    book.wait(1)
    assert begins_anew(book) == 1
    assert book.told("file_damaged") == [{"reason": FOUND.message, "alone": False}]


def follower(found: e.FileDamaged = FOUND, me: int = 2, **view: Any) -> Playbook:
    """It follows broker 1, and has found something."""
    book = Playbook(me, log=INHERITED, epoch=1)
    book.tell(e.Joined(a_view(1, **view)))
    book.tell(found)
    return book


def test_a_follower_that_is_missed_waits_for_who_is_on_the_way() -> None:
    """Of two in sync it would leave one, which alone acknowledges nothing."""
    book = follower(isr=[1, 2])
    book.wait(DAMAGE_WAIT_S / 2)
    assert not begins_anew(book)
    assert book.told("file_damaged") == [{"reason": FOUND.message, "alone": False}]
    book.tell(e.ViewChanged(a_view(1, isr=[1, 2, 3], version=13)))
    assert begins_anew(book) == 1
    book.wait(1)
    assert begins_anew(book) == 1


def test_a_follower_that_is_missed_does_not_wait_for_ever() -> None:
    book = follower(isr=[1, 2])
    book.wait(DAMAGE_WAIT_S - 1)
    assert not begins_anew(book)
    book.tell(FOUND)
    book.wait(1.2)
    assert begins_anew(book) == 1


def test_a_follower_that_waits_takes_a_member_that_is_not_whole_for_one_on_the_way() -> None:
    book = follower(isr=[1, 2, 3], states={3: "torn"})
    book.wait(1)
    assert not begins_anew(book)
    book.tell(e.ViewChanged(a_view(1, isr=[1, 2, 3], version=13)))
    assert begins_anew(book) == 1


@pytest.mark.parametrize(
    "book",
    [
        pytest.param(lambda: follower(isr=[1, 2], live=[1, 2]), id="nobody is on the way"),
        pytest.param(lambda: follower(me=3, isr=[1, 2]), id="it is not in the ISR"),
        pytest.param(lambda: follower(isr=[1, 2], settings=LONE), id="one is enough"),
        pytest.param(
            lambda: follower(e.FileDamaged("log", of_log=True), isr=[1, 2]), id="it is the log"
        ),
        pytest.param(lambda: follower(NEEDED, isr=[1, 2]), id="found as a leader"),
    ],
)
def test_a_follower_that_is_not_missed_or_not_sound_waits_for_nobody(
    book: Callable[[], Playbook],
) -> None:
    assert begins_anew(book()) == 1


def test_a_log_that_proves_damaged_while_it_waits_ends_that() -> None:
    book = follower(isr=[1, 2])
    assert not begins_anew(book)
    book.tell(e.FileDamaged("the log", of_log=True))
    assert begins_anew(book) == 1


def test_a_leader_resigns_where_all_are_in_sync_and_erases_nothing_before_another_leads() -> None:
    book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
    book.tell(FOUND)
    wait(book, 1, two, three)
    assert resigned(book)
    (resigning,) = book.told("resigning")
    assert FOUND.message in resigning["reason"]
    assert not begins_anew(book)
    book.ask(m.Produce(id=1, **PRODUCE))
    two.holds()
    three.holds()
    assert book.answer(1).offset == 0, "until then it leads"
    book.tell(e.ViewChanged(a_view(None, epoch=3, version=13)))
    assert not begins_anew(book), "nobody leads"
    book.tell(e.ViewChanged(a_view(2, epoch=4, version=14)))
    assert begins_anew(book) == 1


def test_a_leader_waits_for_who_is_on_the_way() -> None:
    """And acknowledges meanwhile; with the third in sync it gives the lead away."""
    book, two = of_two()
    book.tell(FOUND)
    wait(book, DAMAGE_WAIT_S / 2, two)
    assert book.ask(m.Produce(id=1, **PRODUCE)) is None
    two.holds()
    assert book.answer(1).offset == 0
    assert not resigned(book)
    three = Peer(book, 3)
    three.follow()
    three.holds()
    wait(book, 0.2, two, three)
    assert not resigned(book), "it is not in the ISR before yak-zk says so"
    book.tell(e.ViewChanged(a_view(isr=[1, 2, 3], version=13)))
    wait(book, 0.2, two, three)
    assert resigned(book)
    assert not begins_anew(book)


def test_it_does_not_wait_for_ever() -> None:
    book, two = of_two()
    book.tell(FOUND)
    wait(book, DAMAGE_WAIT_S - 1, two)
    assert not resigned(book)
    book.tell(FOUND)
    wait(book, 1.2, two)
    assert resigned(book)


def test_nobody_is_waited_for_who_is_gone() -> None:
    book, two = of_two()
    book.tell(FOUND)
    wait(book, 0.3, two)
    assert not resigned(book)
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 2], version=13)))
    wait(book, 0.2, two)
    assert resigned(book)


@pytest.mark.parametrize("before", [True, False])
def test_nobody_is_waited_for_who_lacks_what_is_damaged(before: bool) -> None:
    """From here it would never have it."""
    book, two = of_two()
    if before:
        book.tell(FOUND)
        wait(book, 0.3, two)
        assert not resigned(book)
    book.tell(NEEDED)
    wait(book, 0.2, two)
    assert resigned(book)
    assert len(book.told("file_damaged")) == 1


def alone(kind: str) -> Playbook:
    """Nobody else may have what it has, though in some of these another one is heard."""
    if kind == "one":
        return Playbook.alone(log=INHERITED, epoch=1)
    if kind == "torn":
        states: dict[int, m.LogState] = {2: "torn"}
        return of_two(states=states)[0]
    if kind == "silent":
        book = of_two()[0]
        book.jump(5)
        return book
    book = Playbook(log=INHERITED, epoch=1).elected(a_view(isr=[1], settings=LONE))
    Peer(book, 2).follow(Log([(1, 1)], 3, 0))
    return book


@pytest.mark.parametrize("kind", ["one", "torn", "silent", "outside"])
@pytest.mark.parametrize("found", [FOUND, NEEDED], ids=["found", "needed"])
def test_a_leader_without_an_heir_keeps_what_it_has(kind: str, found: e.FileDamaged) -> None:
    book = alone(kind)
    book.tell(found)
    end = book.now.mono + DAMAGE_WAIT_S + 5
    while book.now.mono < end:
        book.wait(1)
    assert book.told("file_damaged") == [{"reason": FOUND.message, "alone": True}]
    assert FOUND.message not in str(book.told("resigning"))
    assert not begins_anew(book)


def test_an_heir_that_comes_later_is_given_the_lead() -> None:
    book = alone("one")
    book.tell(FOUND)
    book.wait(1)
    assert not resigned(book)
    two = Peer(book, 2)
    two.follow()
    two.holds()
    book.tell(e.ViewChanged(a_view(isr=[1, 2], live=[1, 2], version=13, settings=LONE)))
    wait(book, 0.2, two)
    assert resigned(book)


def test_one_that_is_elected_again_resigns_again_or_stays_alone() -> None:
    """yak-zk had nobody else: the heir died as this one resigned."""
    book, two, three = Playbook.of_three(log=INHERITED, epoch=1)
    book.tell(FOUND)
    wait(book, 0.2, two, three)
    assert resigned(book)
    book.tell(e.ViewChanged(a_view(1, epoch=4, isr=[1, 2], live=[1], version=14)))
    book.story.clear()
    book.wait(3)
    assert not resigned(book)
    assert not begins_anew(book)
    assert book.node.role is not None


def test_a_broker_without_a_role_looks_again_when_it_has_one() -> None:
    book = Playbook(2, log=INHERITED, epoch=1)
    book.tell(FOUND)
    book.wait(1)
    assert book.told("file_damaged") == [{"reason": FOUND.message, "alone": True}]
    assert not begins_anew(book)
    book.tell(e.Joined(a_view(1)))
    assert begins_anew(book) == 1
