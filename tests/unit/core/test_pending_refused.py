"""What clients are told when the leader's disk refuses what was written."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support.playbook import CLIENT, CRC, Playbook
from yak import messages as m
from yak.core import events as e


def test_what_the_disk_did_not_take_is_a_definite_no_and_the_rest_is_unknown() -> None:
    """No follower was sent it, so it cannot come back; what is on the disk may be committed."""
    book, _, _ = Playbook.of_three()
    book.ask(m.CreateTopic(id=1, topic="t", timeout_ms=60_000))
    written = book.node.log.next - 1
    node, now = book.node, book.now
    refused = m.Produce(id=2, topic="t", partition=0, count=1)
    alone = replace(refused, id=3, acks=1)
    for request in (refused, alone):
        node.hear(e.Asked(CLIENT, request, e.Body(20, CRC)), now)
    node.act(now)  # the stage's disk never had them
    book.tell(e.StorageFailed("no space left", written))
    for id_ in (2, 3):
        answer = book.answer(id_)
        assert (answer.error, answer.retriable) == ("STORAGE_ERROR", True)
        assert "no space left" in answer.message
    assert book.answer(1).error == "REQUEST_TIMED_OUT"
    assert node.log.next == written + 1
    book.wait(0.2)
    assert book.seen(e.Resign) != []
    assert book.ask(m.GroupInfo(id=4, group="g")).error == "NO_LEADER"
