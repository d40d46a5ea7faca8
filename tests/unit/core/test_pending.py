"""Who waits for what the leader has decided: answered when it is applied, or told "unknown"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import Scribe, a_lead
from yak import messages as m
from yak.core import events as e
from yak.core import ops
from yak.core.log import Log
from yak.core.pending import ENTRY_BYTES, OPERATION_BYTES, Pending
from yak.model import Now

NOW = Now(100.0, 5000)
DONE = m.Done()


class Stage:
    """A leader of epoch 1 that has applied its `lead`."""

    def __init__(self) -> None:
        scribe = Scribe()
        self.state = scribe.state
        self.log = Log([], 1, 0)
        lead = scribe.write(ops.Lead, broker=1)
        self.log.append(lead)
        self.log.durable = 1
        self.out: list[e.Effect] = []
        self.pending = Pending(1, self.state, self.log, self.out)

    def write(self, topic: str, now: Now = NOW) -> int:
        op = self.pending.append(
            ops.CreateTopic, now, topic=topic, topic_id="x", partitions=1, config={}
        )
        return op.index

    def apply(self) -> None:
        """The next operation is committed."""
        op = self.log.recent[self.state.index]
        self.state.apply(op)
        self.pending.applied(op)

    def answers(self) -> list[tuple[m.RequestId, str]]:
        """(request, "" or its error) in the order in which they left."""
        replies = [x for x in self.out if isinstance(x, e.Reply | e.ReplyLeased)]
        return [(x.id, getattr(x.answer, "error", "")) for x in replies]


def a_request(id_: int, timeout_ms: int = 30_000) -> m.Logged:
    return m.DeleteTopic(id=id_, topic="t", timeout_ms=timeout_ms)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_it_begins_empty_on_what_is_applied_to_the_end() -> None:
    log = Log([], 1, 0)
    log.append(a_lead(1))
    with pytest.raises(AssertionError, match="before `lead` was applied"):
        Pending(1, Scribe().state, log, [])


def test_the_tail_has_what_was_written_and_state_has_not(stage: Stage) -> None:
    stage.write("t")
    assert "t" in stage.pending.tail.topics
    assert "t" not in stage.state.topics
    (effect,) = stage.out
    assert isinstance(effect, e.AppendOp)
    assert (effect.op.index, effect.op.epoch, effect.op.time) == (2, 1, stage.log.time)
    stage.apply()
    assert "t" in stage.state.topics
    assert stage.pending.tail.topics.unsettled == 0  # type: ignore[attr-defined]  # an Overlay


def test_the_leader_s_clock_goes_back_and_the_log_s_does_not(stage: Stage) -> None:
    later = stage.log.time + 10
    stage.write("t", Now(100, later))
    stage.write("u", Now(100, later - 5))
    assert [op.time for op in stage.log.recent][1:] == [later, later]


def test_an_answer_waits_for_its_operation(stage: Stage) -> None:
    for n in (2, 3):
        stage.pending.when(stage.write(f"t{n}"), 1, a_request(n), DONE, NOW)
    assert stage.answers() == []
    stage.apply()
    assert stage.answers() == [(2, "")]
    stage.apply()
    assert stage.answers() == [(2, ""), (3, "")]
    assert stage.pending.idle


def test_what_is_applied_already_is_answered_at_once(stage: Stage) -> None:
    stage.pending.when(1, 1, a_request(1), DONE, NOW)
    assert stage.answers() == [(1, "")]


def test_a_promise_is_made_from_what_is_applied(stage: Stage) -> None:
    def answer() -> m.Answer:
        assert "t" in stage.state.topics
        return DONE

    stage.pending.when(stage.write("t"), 1, a_request(1), answer, NOW)
    stage.apply()
    assert stage.answers() == [(1, "")]


def test_who_has_waited_too_long_is_told_that_the_outcome_is_unknown(stage: Stage) -> None:
    stage.pending.when(stage.write("t"), 1, a_request(1, 500), DONE, NOW)
    assert stage.pending.next_deadline() == 100.5
    stage.pending.tick(Now(100.4, 0))
    assert stage.answers() == []
    stage.pending.tick(Now(100.5, 0))
    assert stage.answers() == [(1, "REQUEST_TIMED_OUT")]
    stage.apply()
    assert stage.answers() == [(1, "REQUEST_TIMED_OUT")], "each is answered once"
    assert "t" in stage.state.topics, "the operation stands"


def test_who_was_answered_in_time_is_not_told_again(stage: Stage) -> None:
    stage.pending.when(stage.write("t"), 1, a_request(1, 500), DONE, NOW)
    stage.apply()
    stage.pending.tick(Now(200, 0))
    assert stage.answers() == [(1, "")]


def test_an_answer_that_has_left_asks_for_no_more_turns(stage: Stage) -> None:
    stage.pending.when(stage.write("t"), 1, a_request(1, 500), DONE, NOW)
    stage.apply()
    assert stage.pending.next_deadline() == float("inf")


def test_when_the_leader_steps_down_everybody_is_told_that_the_outcome_is_unknown(
    stage: Stage,
) -> None:
    index = stage.write("t")
    stage.pending.when(index, 1, a_request(1), DONE, NOW)
    stage.pending.when_durable(index, 1, a_request(2), DONE, NOW)
    stage.pending.abandon("it steps down")
    assert stage.answers() == [(1, "REQUEST_TIMED_OUT"), (2, "REQUEST_TIMED_OUT")]
    assert stage.pending.idle
    stage.pending.tick(Now(1000, 0))
    assert len(stage.answers()) == 2


def test_acks_1_waits_for_the_disk_and_not_for_the_commit(stage: Stage) -> None:
    stage.pending.lease_until = 150.0
    index = stage.write("t")
    stage.pending.when_durable(index, 1, a_request(1), DONE, NOW)
    stage.log.durable = index
    stage.pending.durable(index)
    reply = stage.out[-1]
    assert isinstance(reply, e.ReplyLeased)
    assert reply.until == 150.0
    stage.apply()
    assert stage.answers() == [(1, "")]


def test_acks_1_that_is_on_the_disk_already_is_answered_at_once(stage: Stage) -> None:
    stage.pending.when_durable(1, 1, a_request(1), DONE, NOW)
    assert stage.answers() == [(1, "")]


def test_a_disk_that_is_not_there_yet_answers_nobody(stage: Stage) -> None:
    index = stage.write("t")
    stage.pending.when_durable(index, 1, a_request(1), DONE, NOW)
    stage.pending.durable(index - 1)
    assert stage.answers() == []


def test_bytes_are_counted_until_they_are_applied(stage: Stage) -> None:
    stage.write("t")
    stage.apply()
    batch: dict[str, Any] = {"offset": 0, "count": 1, "size": 70, "crc": "0"}
    stage.pending.append(ops.Append, NOW, e.Body(70, "0"), topic="t", partition=0, **batch)
    assert stage.pending.bytes == OPERATION_BYTES + 70
    stage.apply()
    assert stage.pending.bytes == 0


def test_what_an_operation_names_counts_too(stage: Stage) -> None:
    """Else acknowledgements, which have no body, could fill a leader that nobody follows."""
    stage.write("t")
    stage.apply()
    offsets = [("t", 0, 0)] * 100
    stage.pending.append(ops.Ack, NOW, group="g", offsets=offsets)
    assert stage.pending.bytes == OPERATION_BYTES + 100 * ENTRY_BYTES
    stage.pending.append(ops.CreatePartitions, NOW, topic="t", partitions=50)
    assert stage.pending.bytes == 2 * OPERATION_BYTES + 150 * ENTRY_BYTES
    stage.apply()
    stage.apply()
    assert stage.pending.bytes == 0


def test_nobody_waits_once_everybody_has_timed_out(stage: Stage) -> None:
    """A leader that stops need not stay for them."""
    stage.pending.when(stage.write("t"), 1, a_request(1, 500), DONE, NOW)
    assert not stage.pending.idle
    stage.pending.tick(Now(101, 0))
    assert stage.pending.idle
