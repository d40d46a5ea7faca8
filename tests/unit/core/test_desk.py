"""Where a request goes: what is refused wrote nothing; who wants a topic hears of its change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import LONE, Playbook, Scribe, a_view
from yak import messages as m
from yak.config import Limits

LIMITS = Limits(max_topics=2, max_groups=1, max_members=1, max_producers=1)


def test_a_new_leader_shares_out_what_the_old_one_could_not() -> None:
    """A member came, and whoever led then died before the `assign` was anywhere else."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    scribe.member("a")
    book = Playbook(log=scribe.log, epoch=1).elected(a_view(isr=[1], settings=LONE))
    book.wait(0.2)
    assert book.state.group("g").assigned("a") == [("t", 0), ("t", 1)]
    book.story.clear()
    book.wait(0.2)
    assert book.state.group("g").generation == 1, "once, and only where it is due"


@pytest.fixture
def book() -> Playbook:
    """Topic t, producer 1, and member a of group g; every limit is reached but that of topics."""
    book = Playbook.alone(limits=LIMITS)
    book.ask(m.CreateTopic(id="t", topic="t", partitions=2))
    book.ask(m.Register(id="p", role="producer", topics=["t"]))
    book.ask(m.Register(id="a", role="consumer", client="a", group="g", topics=["t"]))
    return book


REFUSED: list[tuple[m.BrokerRequest, str]] = [
    (m.CreateTopic(id=1, topic="t"), "TOPIC_EXISTS"),
    (m.CreatePartitions(id=1, topic="t", partitions=1), "INVALID_CONFIG"),
    (m.AlterTopic(id=1, topic="nope", config={}), "UNKNOWN_TOPIC"),
    (m.DeleteTopic(id=1, topic="nope"), "UNKNOWN_TOPIC"),
    (m.Trim(id=1, topic="nope", partition=0, before=0), "UNKNOWN_TOPIC"),
    (m.Trim(id=1, topic="t", partition=2, before=0), "UNKNOWN_PARTITION"),
    (m.Trim(id=1, topic="t", partition=0, before=1), "OFFSET_OUT_OF_RANGE"),
    (m.Register(id=1, role="producer", topics=["u"]), "OVERLOADED"),
    (m.Register(id=1, role="consumer", group="g", topics=["u"]), "OVERLOADED"),
    (m.Register(id=1, role="consumer", group="h", topics=["u"]), "OVERLOADED"),
    (m.Register(id=1, role="consumer", group="g", topics=["u", "/"]), "INVALID_TOPIC"),
    (m.Register(id=1, role="consumer", group="g", topics=["u", "v"]), "OVERLOADED"),
    (m.Register(id=1, role="consumer", topics=["u"]), "INVALID_REQUEST"),
    (m.Register(id=1, role="consumer", group="g", member="?", topics=["u"]), "UNKNOWN_MEMBER"),
    (m.Register(id=1, role="producer", topics=["u"], client="x" * 250), "INVALID_REQUEST"),
    (m.Deregister(id=1, producer=9), "UNKNOWN_PRODUCER"),
    (m.Deregister(id=1, group="g", member="?"), "UNKNOWN_MEMBER"),
    (m.Deregister(id=1, group="g"), "INVALID_REQUEST"),
    (m.Heartbeat(id=1, producer=9), "UNKNOWN_PRODUCER"),
    (m.Heartbeat(id=1, group="g", member="?", generation=1), "UNKNOWN_MEMBER"),
    (m.Heartbeat(id=1, group="g", member="?"), "INVALID_REQUEST"),
    (m.Heartbeat(id=1), "INVALID_REQUEST"),
    (m.Produce(id=1, topic="nope", partition=0, count=1), "UNKNOWN_TOPIC"),
    (m.Produce(id=1, topic="t", partition=0, count=1, producer=9, sequence=0), "UNKNOWN_PRODUCER"),
    (m.Ack(id=1, group="g", offsets=[("t", 0, 0)]), "GROUP_NOT_EMPTY"),
    (m.Ack(id=1, group="h", offsets=[("t", 0, 0)]), "OVERLOADED"),
    (m.ListOffsets(id=1, partitions=[("nope", 0)], at="latest"), "UNKNOWN_TOPIC"),
    (m.DeleteGroup(id=1, group="g"), "GROUP_NOT_EMPTY"),
]


@pytest.mark.parametrize(("request_", "error"), REFUSED)
def test_what_is_refused_wrote_nothing(
    book: Playbook, request_: m.BrokerRequest, error: str
) -> None:
    refusal = book.ask(request_)
    assert refusal.error == error
    assert refusal.message
    assert book.written() == []


def generation(book: Playbook) -> int:
    return book.state.group("g").generation


@pytest.mark.parametrize(
    "request_",
    [
        m.CreatePartitions(id=1, topic="t", partitions=3),
        m.DeleteTopic(id=1, topic="t"),
    ],
)
def test_whoever_wants_a_topic_shares_it_out_anew_in_the_same_breath(
    book: Playbook, request_: m.BrokerRequest
) -> None:
    before = generation(book)
    assert book.ask(request_).ok
    assert book.written()[1:] == ["assign"]
    assert generation(book) == before + 1


def test_a_topic_made_again_is_shared_out(book: Playbook) -> None:
    book.ask(m.DeleteTopic(id=1, topic="t"))
    assert book.state.group("g").assigned("a-4") == []
    book.ask(m.CreateTopic(id=2, topic="t", partitions=2))
    assert book.state.group("g").assigned("a-4") == [("t", 0), ("t", 1)]


@pytest.mark.parametrize(
    "request_",
    [
        m.AlterTopic(id=1, topic="t", config={"retention_ms": 5}),
        m.CreateTopic(id=1, topic="nobody's"),
        m.Produce(id=1, topic="t", partition=0, count=1),
        m.Trim(id=1, topic="t", partition=0, before=0),
        m.Ack(id=1, group="g", member="a-4", generation=1, offsets=[("t", 0, 0)]),
    ],
)
def test_what_does_not_touch_who_reads_what_leaves_the_generation(
    book: Playbook, request_: m.BrokerRequest
) -> None:
    before = generation(book)
    book.ask(request_)
    assert "assign" not in book.written()
    assert generation(book) == before


def test_a_creation_that_proves_to_be_the_second_shares_nothing_out(book: Playbook) -> None:
    book.ask(m.DeleteTopic(id=1, topic="t"))
    book.disk.slow = True
    book.ask(m.CreateTopic(id=2, topic="t"))
    assert book.written() == ["create_topic", "assign"]
    book.ask(m.CreateTopic(id=3, topic="t"))
    assert book.written() == []


def test_a_batch_keeps_its_producer_registered(book: Playbook) -> None:
    producing: dict[str, Any] = {"topic": "t", "partition": 0, "count": 1, "producer": 1}
    for n in range(4):
        book.wait(20)
        assert book.ask(m.Produce(id=n, **producing, sequence=n)).ok
    assert book.told("producer_expired") == []
