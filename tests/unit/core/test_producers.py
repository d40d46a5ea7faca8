"""max_producers: who is forgotten for whom; and crowds.  Comings and goings: test_membership.py."""

from __future__ import annotations

from typing import Any

from tests.support.playbook import LONE, Playbook, Scribe, a_view
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.producers import EXPIRED_AT_ONCE

TWO = Limits(max_producers=2)


def a_producer(book: Playbook, *topics: str) -> Any:
    return book.ask(m.Register(id=book.a_id(), role="producer", topics=list(topics)))


def of_two() -> Playbook:
    """A lone leader that knows two producers, and no more."""
    book = Playbook.alone(lease_s=1e9, limits=TWO)
    assert [a_producer(book, "t").producer for _ in range(2)] == [1, 2]
    return book


def inherited(gone: list[int], limits: Limits) -> Playbook:
    """A new leader whose log has so many producers, gone in this order at three times."""
    log = Scribe()
    log.write(ops.Lead, broker=1)
    for number in range(1, len(gone) + 1):
        log.producer(number)
    for number in gone:
        log.time += 1000
        log.write(ops.Deregister, reason="expired", producer=number)
    book = Playbook(log=log.log, epoch=1, limits=limits)
    return book.elected(a_view(isr=[1], settings=LONE), lease_s=1e9)


def expired(effects: list[e.Effect]) -> list[int]:
    written = [x.op for x in effects if isinstance(x, e.AppendOp)]
    return [op.producer for op in written if isinstance(op, ops.Deregister)]  # type: ignore[misc]  # of producers


def test_with_all_of_them_here_one_more_is_refused() -> None:
    book = of_two()
    before = book.state.index
    refusal = a_producer(book, "t", "new")
    assert (refusal.error, refusal.retriable) == ("OVERLOADED", True)
    assert "max_producers is 2" in refusal.message
    assert book.state.index == before, "nor was its topic made"


def test_one_that_comes_takes_the_place_of_the_one_gone_longest() -> None:
    book = of_two()
    book.wait(10)
    book.ask(m.Heartbeat(id=1, producer=1))
    book.wait(31)
    assert a_producer(book).producer == 3
    assert book.written() == ["deregister", "register"]
    assert sorted(book.state.producers) == [1, 3], "2 was silent before 1"
    assert book.told("producer_forgotten") == [{"producer": 2, "reason": "max_producers"}]
    batch = m.Produce(id=2, topic="t", partition=0, count=1, producer=2, sequence=0)
    assert book.ask(batch).error == "UNKNOWN_PRODUCER"


def test_a_new_leader_forgets_the_one_gone_longest_too() -> None:
    book = inherited([3, 1, 2], Limits(max_producers=3))
    for left in ([1, 2, 4], [2, 4, 5], [4, 5, 6]):
        a_producer(book)
        assert sorted(book.state.producers) == left
    assert a_producer(book).error == "OVERLOADED"


def test_one_that_is_brought_back_is_not_forgotten() -> None:
    book = of_two()
    book.wait(31)
    for producer in (1, 2):
        book.ask(m.Heartbeat(id=producer, producer=producer))
    assert a_producer(book).error == "OVERLOADED"


def test_a_limit_that_was_lowered_is_reached_two_for_one() -> None:
    book = inherited(list(range(1, 9)), Limits(max_producers=4))
    for known in (7, 6, 5, 4):
        a_producer(book)
        assert len(book.state.producers) == known
    assert a_producer(book).error == "OVERLOADED", "all that are known are here"


def test_nobody_is_forgotten_for_one_that_is_refused_otherwise() -> None:
    book = of_two()
    book.wait(31)
    book.tell(e.Stop())
    assert a_producer(book).error == "SHUTTING_DOWN"
    assert sorted(book.state.producers) == [1, 2]


def test_a_crowd_that_falls_silent_is_logged_in_turns_that_stay_short() -> None:
    book = Playbook.alone(lease_s=1e9)
    for _ in range(2 * EXPIRED_AT_ONCE + 1):
        a_producer(book)
    book.wait(1)
    book.jump(31)
    counts = []
    for _ in range(4):
        counts.append(len(expired(book.tell(e.Tick()))))
        book.jump(0.2)
    assert counts == [EXPIRED_AT_ONCE, EXPIRED_AT_ONCE, 1, 0]
