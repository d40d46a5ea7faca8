"""Where a record is: for every offset of every log the operation that really holds it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.evidence import event, log_of, tick, told, whats
from tests.support.playbook import Scribe
from yak import messages as m
from yak.core import ops
from yak.explain.facts import Explanation, Facts, Unexplained
from yak.explain.questions import Question, explain


def at(offset: int, partition: int = 0, topic: str = "t") -> Question:
    return Question("offset", topic, partition, offset)


@pytest.fixture
def scribe() -> Scribe:
    """Three records and two more, all by producer 7; group g has acknowledged four."""
    scribe = Scribe()
    scribe.write(ops.Lead, broker=3)
    scribe.topic()
    tick(scribe).producer(7, "billing-app")
    tick(scribe).append(3, producer=7, sequence=0)
    tick(scribe).append(2, producer=7, sequence=3)
    tick(scribe).member("c1")
    tick(scribe).ack(4, member="c1")
    return scribe


def test_the_whole_chain(scribe: Scribe) -> None:
    isr = event("yak-zk", "isr_changed", -5, epoch=1, leader=3, isr=[2, 3], reason="caught up: 2")
    question = at(3)
    logs = [log_of(question, scribe.log, broker=2), log_of(question, scribe.log[:5], broker=3)]
    answer = explain(question, Facts(logs=logs, events=[isr]))
    assert answer.answer == (
        "t/0@3 is operation 5, written by broker 3 in epoch 1 at 2025-11-22 08:26:43.000Z, and "
        "committed; group g has acknowledged it"
    )
    assert whats(answer) == [
        "producer 7 registered, as client billing-app",
        "t/0@3 is in operation 5, with records 3 to 4: written by broker 3 in epoch 1 for producer "
        "7 (billing-app), its sequence 3 (20 bytes)",
        "it counts as committed once brokers 2 and 3, in sync then, have it",
        "the files of brokers 2 and 3 hold it",
        "it is committed: group g has acknowledged it",
        "group g acknowledged it in operation 7 by c1 (client c1)",
    ]
    assert [one.index for one in answer.chain] == [3, 5, None, 5, 5, 7]


def test_what_is_behind_the_acknowledgement_waits(scribe: Scribe) -> None:
    answer = told(at(4), scribe.log)
    assert answer.answer.endswith("group g has not")
    assert whats(answer, "waits") == [
        "group g has not acknowledged it: its next offset there is 4; no member reads the partition"
    ]
    assert any("whether operation 5 is committed" in text for text in answer.unknown)


def test_what_was_delivered_the_leader_knows(scribe: Scribe) -> None:
    row = m.GroupPartition(
        topic="t", partition=0, acked=4, delivered=5, high_watermark=5, lag=1, member="c1"
    )
    groups = {"g": m.GroupAnswer(generation=1, members=[], partitions=[row])}
    answer = told(at(4), scribe.log, groups=groups)
    assert "it was delivered to c1, which has yet to say so" in whats(answer, "waits")[0]


def test_another_log_s_end_does_not_hold_it(scribe: Scribe) -> None:
    """An old leader's unfinished tail has another operation at that index."""
    question = at(3)
    other = Scribe()
    for op in scribe.log[:4]:
        other.state.apply(op)
        other.log.append(op)
    other.epoch, other.time = 2, other.state.time
    other.append(2)
    logs = [log_of(question, scribe.log, broker=2), log_of(question, other.log, broker=1)]
    assert "the files of broker 2 hold it" in whats(explain(question, Facts(logs=logs)), "held")


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (at(5), "t/0@5 has not been written: the next offset of t/0 is 5; there are t/0@0 to 4"),
        (at(0, partition=3), "topic t has no partition 3: it has 1 partition, 0 to 0"),
        (at(0, topic="x"), "there is no topic x: topics that there are: t"),
    ],
)
def test_what_is_not_there(scribe: Scribe, question: Question, words: str) -> None:
    with pytest.raises(Unexplained, match=words):
        told(question, scribe.log)


def test_what_was_trimmed_is_told_by_its_operation(scribe: Scribe) -> None:
    tick(scribe).write(ops.Trim, topic="t", partition=0, before=3)
    answer = told(at(1), scribe.log)
    assert "it is forgotten since: t/0 begins at 3" in answer.answer
    assert whats(answer, "trim") == ["operation 8 trimmed it away: t/0 begins at 3 from then on"]


def test_a_log_that_begins_later_says_so(scribe: Scribe) -> None:
    question = at(0)
    stored = next(op for op in scribe.log if isinstance(op, ops.Append))
    cut = log_of(question, scribe.log, first=7, checkpoint=6)
    answer = explain(question, Facts(logs=[cut]))
    assert "nothing here has its operation any more" in answer.answer
    found = log_of(question, scribe.log, first=7, checkpoint=6, stored=stored)
    answer = explain(question, Facts(logs=[found]))
    assert "t/0@0 is operation 4" in answer.answer
    assert "and committed" in answer.answer
    assert "(billing-app)" in whats(answer, "append")[0]  # the checkpoint knows the producer
    assert whats(answer, "ack") == ["group g acknowledged it in operation 7 by c1 (client c1)"]


def test_a_running_cluster_is_enough(scribe: Scribe) -> None:
    sent = scribe.log[3]
    assert isinstance(sent, ops.Append)
    row = m.GroupPartition(
        topic="t", partition=0, acked=4, delivered=4, high_watermark=5, lag=1, member=None
    )
    groups = {"g": m.GroupAnswer(generation=1, members=[], partitions=[row])}
    answer = told(at(2), ends=[(0, 5)], fetched=sent, groups=groups)
    assert "t/0@2 is operation 4" in answer.answer
    assert "a broker gives it to readers" in whats(answer, "committed")[0]
    assert "who acknowledged it in group g, and when: no log is here" in answer.unknown


def test_a_topic_that_was_made_again_is_another_one(scribe: Scribe) -> None:
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t2")
    scribe.topic()
    with pytest.raises(Unexplained, match="has not been written"):
        told(at(0), scribe.log)
    scribe.append(1)
    answer = told(at(0), scribe.log)
    assert "operation 10" in answer.answer
    assert "no group reads its partition" in answer.answer


def test_the_first_acknowledgement_counts_since_the_group_was_behind(scribe: Scribe) -> None:
    scribe.ack(5, member="c1")
    assert [one.index for one in told(at(3), scribe.log).chain if one.kind == "ack"] == [7]
    scribe.leaves("c1")
    scribe.ack(0, reset=True)
    scribe.ack(4)
    assert [one.index for one in told(at(3), scribe.log).chain if one.kind == "ack"] == [11]
    scribe.write(ops.Deregister, reason="deleted", group="g")
    scribe.ack(5)
    assert [one.index for one in told(at(3), scribe.log).chain if one.kind == "ack"] == [13]


# -- every log ------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "ack", "reset", "trim", "again", "lead", "forget"]),
        st.integers(0, 1),
        st.integers(1, 4),
        st.sampled_from(["g", "h"]),
    ),
    max_size=25,
)


def _written(steps: list[tuple[str, int, int, str]]) -> Scribe:
    """A log by these steps; those that make no sense are left out."""
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic(partitions=2)
    for what, partition, number, group in steps:
        state, end = scribe.state, scribe.state.ends["t", partition]
        tick(scribe)
        match what:
            case "append":
                scribe.append(number, partition=partition)
            case "ack":
                scribe.ack(min(end, 2 * number), partition, group)
            case "reset":
                scribe.ack(min(end, number), partition, group, reset=True)
            case "trim" if state.start(("t", partition)) <= min(end, number):
                scribe.write(ops.Trim, topic="t", partition=partition, before=min(end, number))
            case "again":
                scribe.write(ops.DeleteTopic, topic="t", topic_id=state.topics["t"].topic_id)
                scribe.topic(partitions=2)
            case "lead":
                scribe.epoch += 1
                scribe.write(ops.Lead, broker=1 + scribe.epoch % 3)
            case "forget" if group in state.groups:
                scribe.write(ops.Deregister, reason="deleted", group=group)
            case _:
                pass
    return scribe


def _holder(scribe: Scribe, partition: int, offset: int) -> ops.Append:
    """What holds an offset, by looking at all that was written since the topic was made."""
    made = scribe.state.topics["t"].created
    (found,) = [
        op
        for op in scribe.log[made:]
        if isinstance(op, ops.Append)
        and op.partition == partition
        and op.offset <= offset < op.offset + op.count
    ]
    return found


def _first_ack(scribe: Scribe, group: str, partition: int, offset: int) -> int:
    """The operation since which a group has been beyond an offset without a break."""
    since = None
    for op in scribe.log[scribe.state.topics["t"].created :]:
        if isinstance(op, ops.Deregister) and op.group == group:
            since = None
        if isinstance(op, ops.Ack) and op.group == group and op.offsets[0][1] == partition:
            if op.offsets[0][2] > offset:
                since = since or op.index
            elif op.reset is True:
                since = None
    assert since is not None
    return since


def _check(scribe: Scribe, partition: int, offset: int, answer: Explanation) -> None:
    state, op = scribe.state, _holder(scribe, partition, offset)
    (cause,) = [one for one in answer.chain if one.kind == "append"]
    assert (cause.index, cause.epoch, cause.time) == (op.index, op.epoch, op.time)
    acked = {g for g in state.groups if (state.acked_by(g, ("t", partition)) or 0) > offset}
    by: dict[str, Any] = {one.what.split()[1]: one for one in answer.chain if one.kind == "ack"}
    assert set(by) == acked
    for group, one in by.items():
        assert one.index == _first_ack(scribe, group, partition, offset)
    forgotten = offset < state.start(("t", partition))
    assert ("forgotten" in answer.answer) == forgotten == bool(whats(answer, "trim"))


@settings(deadline=None, max_examples=100)
@given(_STEPS)
def test_every_offset_of_every_log(steps: list[tuple[str, int, int, str]]) -> None:
    scribe = _written(steps)
    for partition in (0, 1):
        end = scribe.state.ends["t", partition]
        for offset in range(end):
            question = at(offset, partition)
            _check(scribe, partition, offset, told(question, scribe.log))
        with pytest.raises(Unexplained):
            told(at(end, partition), scribe.log)


@settings(deadline=None, max_examples=100)
@given(_STEPS, st.data())
def test_a_cut_log_claims_nothing_false(
    steps: list[tuple[str, int, int, str]], data: st.DataObject
) -> None:
    """From any operation on, with any checkpoint that reaches it: right, or not known."""
    scribe = _written(steps)
    first = data.draw(st.integers(1, len(scribe.log)), "first")
    checkpoint = data.draw(st.integers(first - 1, len(scribe.log)), "checkpoint")
    for partition in (0, 1):
        for offset in range(scribe.state.ends["t", partition]):
            question = at(offset, partition)
            log = log_of(question, scribe.log, first=first, checkpoint=checkpoint)
            answer = explain(question, Facts(logs=[log]))
            op = _holder(scribe, partition, offset)
            written = [one.index for one in answer.chain if one.kind == "append"]
            assert written == ([op.index] if op.index >= first else [])
            assert written or any("which operation held" in text for text in answer.unknown)
            state = scribe.state
            acked = {g for g in state.groups if (state.acked_by(g, ("t", partition)) or 0) > offset}
            assert {w.split()[1] for w in whats(answer, "ack")} == acked
