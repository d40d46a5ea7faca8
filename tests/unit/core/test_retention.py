"""Retention: the core asks where segments end, and trims what nobody wants to keep."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from tests.support.playbook import Playbook
from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.retention import ASK_AT_ONCE

CHECK_S = Limits().retention_check_ms / 1000


def topic(book: Playbook, name: str = "t", partitions: int = 1, **config: int) -> None:
    request = m.CreateTopic(id=book.a_id(), topic=name, partitions=partitions, config=config)
    assert book.ask(request).ok


def alter(book: Playbook, name: str = "t", **config: int) -> Any:
    return book.ask(m.AlterTopic(id=book.a_id(), topic=name, config=config))


def produce(book: Playbook, name: str = "t", partition: int = 0, count: int = 10) -> Any:
    return book.ask(m.Produce(id=book.a_id(), topic=name, partition=partition, count=count))


def asked(effects: list[e.Effect]) -> list[e.TrimQuery]:
    """All that was asked for, question by question."""
    return [q for effect in effects if isinstance(effect, e.FindTrims) for q in effect.queries]


def trims(effects: list[e.Effect]) -> list[tuple[str, int, int]]:
    written = [x.op for x in effects if isinstance(x, e.AppendOp)]
    return [(op.topic, op.partition, op.before) for op in written if isinstance(op, ops.Trim)]


def answer(book: Playbook, *found: tuple[str, int, int]) -> list[tuple[str, int, int]]:
    """The shell found these; what was written of it."""
    return trims(book.tell(e.TrimsFound(list(found))))


@pytest.fixture
def book() -> Playbook:
    """A lone leader, and topic t of one partition, ten records and a megabyte."""
    book = Playbook.alone(lease_s=1e9)
    topic(book, retention_bytes=1_000_000)
    produce(book)
    return book


def test_it_asks_for_what_has_a_limit_and_records(book: Playbook) -> None:
    topic(book, "old", 2, retention_ms=60_000)
    topic(book, "free")
    topic(book, "unlimited", retention_ms=-1, retention_bytes=-1)
    for name in ("old", "free", "unlimited"):
        produce(book, name)
    effects = book.wait(CHECK_S)
    (question,) = [effect for effect in effects if isinstance(effect, e.FindTrims)]
    oldest = book.now.wall_ms - 60_000
    assert question.queries == [
        ("t", 0, None, 1_000_000),
        ("old", 0, pytest.approx(oldest, abs=CHECK_S * 1000), None),
    ]


def test_what_is_found_is_trimmed_on_all_and_told(book: Playbook) -> None:
    book.wait(CHECK_S)
    assert answer(book, ("t", 0, 4)) == [("t", 0, 4)]
    assert book.state.start(("t", 0)) == 4
    assert book.told("retention") == [{"offsets": {"t": 4}, "further_topics": 0}]
    late = book.ask(m.Fetch(id=1, partitions=(("t", 0, 3),)))
    assert [(entry.error, entry.start) for entry in late.entries] == [("OFFSET_OUT_OF_RANGE", 4)]


def test_there_is_one_question_a_round_and_none_before_the_last_was_answered(
    book: Playbook,
) -> None:
    assert len(asked(book.wait(CHECK_S * 5))) == 1
    assert answer(book) == []
    assert asked(book.wait(0.15)) == asked(book.story)[:1], "a round was due"
    answer(book)
    assert asked(book.wait(CHECK_S - 0.2)) == []
    assert len(asked(book.wait(0.3))) == 1


def test_a_topic_that_is_given_a_limit_is_looked_at_from_then_on(book: Playbook) -> None:
    topic(book, "late")
    produce(book, "late")
    book.wait(CHECK_S)
    answer(book)
    alter(book, "late", retention_bytes=5)
    assert asked(book.wait(CHECK_S)) == [("t", 0, None, 1_000_000), ("late", 0, None, 5)]


def test_a_limit_that_is_taken_away_meanwhile_trims_nothing(book: Playbook) -> None:
    book.wait(CHECK_S)
    alter(book, retention_bytes=-1)
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(CHECK_S * 3)) == []


def test_a_limit_that_is_raised_meanwhile_is_looked_at_anew(book: Playbook) -> None:
    book.wait(CHECK_S)
    book.disk.slow = True  # not committed yet, and promised all the same
    alter(book, retention_bytes=2_000_000)
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(CHECK_S * 2)) == [], "the files may still be another topic's"
    book.disk.slow = False
    book.sync()
    assert asked(book.wait(CHECK_S * 2)) == [("t", 0, None, 2_000_000)]


def test_a_topic_that_was_made_again_meanwhile_keeps_all(book: Playbook) -> None:
    book.wait(CHECK_S)
    book.ask(m.DeleteTopic(id=1, topic="t"))
    topic(book, retention_bytes=1_000_000)
    produce(book)
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(CHECK_S)) == [("t", 0, None, 1_000_000)]


def test_a_topic_that_is_gone_is_not_asked_for(book: Playbook) -> None:
    book.wait(CHECK_S)
    book.ask(m.DeleteTopic(id=1, topic="t"))
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(CHECK_S * 3)) == []


def test_the_start_never_goes_back_and_never_past_what_is_committed(book: Playbook) -> None:
    book.wait(CHECK_S)
    answer(book, ("t", 0, 4))
    for before in (3, 4, 11):
        book.wait(CHECK_S)
        assert answer(book, ("t", 0, before)) == []
    book.wait(CHECK_S)
    assert answer(book, ("t", 0, 10)) == [("t", 0, 10)], "all of it may go"
    assert asked(book.wait(CHECK_S)) == [], "and then there is nothing to look at"
    assert produce(book).offset == 10


def test_an_answer_that_nobody_waits_for_is_dropped(book: Playbook) -> None:
    assert answer(book, ("t", 0, 4)) == []


def test_ten_thousand_partitions_are_asked_for_a_thousand_at_a_time(book: Playbook) -> None:
    topic(book, "many", 3 * ASK_AT_ONCE, retention_bytes=1)
    for partition in range(3 * ASK_AT_ONCE):
        produce(book, "many", partition, 1)
    seen: list[e.TrimQuery] = []
    for _ in range(4):
        queries = asked(book.wait(0.11))
        assert 0 < len(queries) <= ASK_AT_ONCE
        answer(book, *[("many", q[1], 1) for q in queries if q[0] == "many"])
        seen += queries
    assert sorted(q[:2] for q in seen) == sorted(
        [("t", 0), *(("many", p) for p in range(3 * ASK_AT_ONCE))]
    )
    assert all(book.state.start(("many", p)) == 1 for p in range(3 * ASK_AT_ONCE))


def test_without_a_lease_nothing_is_trimmed() -> None:
    book = Playbook.alone(lease_s=60)
    topic(book, retention_bytes=1)
    produce(book)
    book.wait(CHECK_S)
    book.wait(61)
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(CHECK_S * 2)) == []
    book.renew_lease()
    assert len(asked(book.wait(0.2))) == 1


def test_with_too_few_replicas_nothing_is_trimmed() -> None:
    book, two, three = Playbook.of_three()
    topic_request = m.CreateTopic(id=1, topic="t", config={"retention_bytes": 1})
    book.ask(topic_request)
    book.ask(m.Produce(id=2, topic="t", partition=0, count=10))
    for peer in (two, three):
        peer.holds()
    assert len(asked(book.wait(0.2))) == 1
    for peer in (two, three):
        peer.closes()
    assert answer(book, ("t", 0, 4)) == []
    assert asked(book.wait(0.5)) == []


def test_a_stopping_leader_trims_nothing(book: Playbook) -> None:
    book.wait(CHECK_S)
    book.disk.slow = True
    produce(book)
    book.tell(e.Stop())
    assert answer(book, ("t", 0, 4)) == []


def test_a_fetch_that_waits_wakes_where_its_records_come_and_go_in_one_piece(
    book: Playbook,
) -> None:
    """Appended and trimmed before it could be sent: it is told where the log begins now."""
    book.ask(m.Fetch(id="poll", partitions=(("t", 0, 10),), wait_ms=60_000))
    book.wait(CHECK_S)
    book.disk.slow = True
    produce(book)
    book.sync(len(book.disk.ops) - 1)
    produce(book)
    answer(book, ("t", 0, 10))
    book.sync()
    sent = book.answer("poll")
    assert [(entry.error, entry.start) for entry in sent.entries] == [(UNSET, 10)]
