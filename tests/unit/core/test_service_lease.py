"""An ack that changes nothing: who may say so."""

from __future__ import annotations

from tests.support.playbook import Playbook
from yak import messages as m

ACK = [("t", 0, 0)]


def test_an_ack_that_changes_nothing_is_answered_at_once_within_the_lease() -> None:
    book = Playbook.alone()
    book.ask(m.CreateTopic(id=1, topic="t"))
    assert book.ask(m.Ack(id=2, group="g", offsets=ACK)).ok
    assert book.ask(m.Ack(id=3, group="g", offsets=ACK)).ok
    assert book.written() == []


def test_without_a_lease_it_is_answered_at_commit() -> None:
    """Another leader may have moved the group back meanwhile; the log would refuse this one."""
    book = Playbook.alone(lease_s=5)
    book.ask(m.CreateTopic(id=1, topic="t"))
    assert book.ask(m.Ack(id=2, group="g", offsets=ACK)).ok
    book.wait(6)
    book.disk.slow = True
    assert book.ask(m.Ack(id=3, group="g", offsets=ACK)) is None
    assert book.written() == ["ack"]
    book.sync()
    assert book.answer(3).ok
