"""What the log adds up to: one operation after the other, and as a layer over what is committed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.playbook import WALL_MS, Scribe, a_batch, a_lead
from yak.core import ops
from yak.core.ops import Op
from yak.core.snapshot import describe, restore
from yak.core.state import _MAPPINGS, State
from yak.model import BATCHES_REMEMBERED


@pytest.fixture
def scribe() -> Scribe:
    """Topic t with two partitions."""
    scribe = Scribe()
    scribe.topic(partitions=2)
    return scribe


def content(state: State) -> dict[str, Any]:
    """All that a State holds; two with the same content decide the same."""
    mappings = {name: dict(getattr(state, name)) for name in _MAPPINGS}
    return mappings | {"index": state.index, "next_producer": state.next_producer}


# -- the order of the log -------------------------------------------------------------------------


def test_only_the_next_operation_is_applied() -> None:
    state = State()
    state.apply(a_lead(1))
    with pytest.raises(AssertionError, match="operation 3 after 1"):
        state.apply(a_lead(3))
    with pytest.raises(AssertionError, match="operation 1 after 1"):
        state.apply(a_lead(1))


def test_an_epoch_never_falls_and_time_never_goes_back() -> None:
    state = State()
    state.apply(a_lead(1, epoch=3))
    with pytest.raises(AssertionError, match="epoch 2 after 3"):
        state.apply(a_lead(2, epoch=2))
    earlier = a_lead(2, epoch=3)
    earlier.time = WALL_MS - 1
    with pytest.raises(AssertionError, match="time"):
        state.apply(earlier)


def test_an_offset_that_is_not_the_next_one_is_impossible(scribe: Scribe) -> None:
    with pytest.raises(AssertionError, match="offset 5, expected 0"):
        scribe.state.apply(a_batch(2, offset=5))


# -- topics ---------------------------------------------------------------------------------------


def test_a_topic_s_partitions_begin_empty(scribe: Scribe) -> None:
    state = scribe.state
    assert dict(state.ends) == {("t", 0): 0, ("t", 1): 0}
    assert state.start(("t", 0)) == 0
    assert state.topic_partitions("t") == [("t", 0), ("t", 1)]


def test_a_batch_moves_the_end_by_its_count(scribe: Scribe) -> None:
    scribe.append(3)
    scribe.append(2)
    assert scribe.state.ends["t", 0] == 5
    assert scribe.state.ends["t", 1] == 0


def test_a_topic_grows(scribe: Scribe) -> None:
    scribe.append(3)
    scribe.write(ops.CreatePartitions, topic="t", partitions=3)
    assert dict(scribe.state.ends) == {("t", 0): 3, ("t", 1): 0, ("t", 2): 0}
    assert scribe.state.topics["t"].partitions == 3


def test_a_topic_s_config_is_replaced(scribe: Scribe) -> None:
    scribe.write(ops.AlterTopic, topic="t", config={"retention_ms": 5})
    assert scribe.state.topics["t"].config == {"retention_ms": 5}


def test_trimming_moves_the_start(scribe: Scribe) -> None:
    scribe.append(5)
    scribe.write(ops.Trim, topic="t", partition=0, before=3)
    assert scribe.state.start(("t", 0)) == 3
    with pytest.raises(AssertionError):
        scribe.write(ops.Trim, topic="t", partition=0, before=6)


def test_deleting_a_topic_takes_offsets_acknowledgements_and_sequences_with_it(
    scribe: Scribe,
) -> None:
    scribe.topic("kept")
    scribe.producer(1)
    scribe.append(5, producer=1, sequence=0)
    scribe.append(1, "kept", producer=1, sequence=0)
    scribe.ack(2)
    scribe.write(ops.Trim, topic="t", partition=0, before=1)
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    state = scribe.state
    assert dict(state.ends) == {("kept", 0): 1}
    assert not state.acked
    assert not state.starts
    scribe.topic("t")
    assert state.topics["t"].topic_id != "t1"
    assert state.batches(1, "t", 0) == (), "they are of the topic before it"
    assert [batch.sequence for batch in state.batches(1, "kept", 0)] == [0]
    scribe.append(1, producer=1, sequence=0)
    assert [batch.offset for batch in state.batches(1, "t", 0)] == [0]


def test_what_deleted_topics_leave_of_a_producer_is_no_more_than_what_it_writes_to(
    scribe: Scribe,
) -> None:
    scribe.topic("kept")
    scribe.producer(1)
    scribe.append(1, "kept", producer=1, sequence=0)
    for number in range(100):
        scribe.topic(f"t{number}")
        scribe.append(1, f"t{number}", producer=1, sequence=0)
        scribe.write(ops.DeleteTopic, topic=f"t{number}", topic_id="x")
        state = scribe.state
        assert len(state.sequences) <= 4
        assert set(state.producers[1].written) == set(state.sequences)
    assert (1, "kept", 0) in scribe.state.sequences
    scribe.write(ops.Deregister, reason="forgotten", producer=1)
    assert not scribe.state.sequences


def test_a_checkpoint_keeps_what_is_in_force(scribe: Scribe) -> None:
    scribe.producer(1)
    scribe.append(1, producer=1, sequence=0)
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t1")
    scribe.topic("t")
    again = restore(describe(scribe.state))
    assert again.batches(1, "t", 0) == ()
    assert again.producers == scribe.state.producers
    assert again.sequences == scribe.state.sequences
    assert again.topics == scribe.state.topics


# -- producers ------------------------------------------------------------------------------------


def test_the_last_five_batches_of_a_producer_are_remembered(scribe: Scribe) -> None:
    scribe.producer(7)
    for sequence in range(7):
        scribe.append(1, producer=7, sequence=sequence)
    batches = scribe.state.batches(7, "t", 0)
    assert [b.sequence for b in batches] == [2, 3, 4, 5, 6]
    assert len(batches) == BATCHES_REMEMBERED
    assert [b.offset for b in batches] == [2, 3, 4, 5, 6]
    assert batches[-1].index == scribe.state.index


def test_an_anonymous_batch_leaves_no_trace_of_a_producer(scribe: Scribe) -> None:
    scribe.append(3)
    assert not scribe.state.sequences


def test_a_silent_producer_is_gone_and_its_sequences_stay(scribe: Scribe) -> None:
    scribe.producer(1)
    scribe.append(1, producer=1, sequence=0)
    scribe.write(ops.Deregister, reason="expired", producer=1)
    assert scribe.state.producers[1].gone_ms == WALL_MS
    assert scribe.state.sequences[1, "t", 0]
    scribe.producer(1)
    assert scribe.state.producers[1].gone_ms is None
    assert scribe.state.producers[1].written == ((1, "t", 0),)


@pytest.mark.parametrize("reason", ["asked", "forgotten"])
def test_a_producer_that_leaves_takes_its_sequences_with_it(scribe: Scribe, reason: str) -> None:
    scribe.producer(1)
    scribe.producer(2)
    scribe.append(1, producer=1, sequence=0)
    scribe.append(1, producer=2, sequence=0)
    scribe.write(ops.Deregister, reason=reason, producer=1)
    assert list(scribe.state.producers) == [2]
    assert list(scribe.state.sequences) == [(2, "t", 0)]


def test_a_producer_s_number_is_never_given_twice(scribe: Scribe) -> None:
    scribe.producer(1)
    scribe.producer(2)
    scribe.write(ops.Deregister, reason="asked", producer=2)
    assert scribe.state.next_producer == 3


# -- groups ---------------------------------------------------------------------------------------


def test_an_acknowledgement_sets_the_larger_offset(scribe: Scribe) -> None:
    scribe.append(5)
    scribe.ack(3)
    scribe.ack(2)
    assert scribe.state.acked_by("g", ("t", 0)) == 3
    assert scribe.state.acked_by("g", ("t", 1)) is None
    assert scribe.state.acked_by("other", ("t", 0)) is None


def test_only_a_reset_moves_back(scribe: Scribe) -> None:
    scribe.append(5)
    scribe.ack(3)
    scribe.ack(1, reset=True)
    assert scribe.state.acked_by("g", ("t", 0)) == 1


def test_an_acknowledgement_makes_its_group_known(scribe: Scribe) -> None:
    scribe.ack(0)
    assert "g" in scribe.state.groups


def test_what_a_member_owns_is_its_own_once_nobody_else_may_hold_it(scribe: Scribe) -> None:
    scribe.member("a")
    scribe.member("b")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "b", "a", 1))
    group = scribe.state.group("g")
    assert group.assigned("a") == [("t", 0)]
    assert group.assigned("b") == []
    assert group.moving == {("t", 1)}
    assert group.owners["t", 1].held_by == "a"


def test_a_generation_only_grows(scribe: Scribe) -> None:
    scribe.member("a")
    scribe.owners()
    with pytest.raises(AssertionError):
        scribe.write(ops.Assign, group="g", generation=1, owners=[])


def test_a_deleted_group_takes_its_offsets_with_it(scribe: Scribe) -> None:
    scribe.append(5)
    scribe.ack(3)
    scribe.ack(4, group="other")
    scribe.write(ops.Deregister, reason="deleted", group="g")
    assert "g" not in scribe.state.groups
    assert scribe.state.acked_by("g", ("t", 0)) is None
    assert scribe.state.acked_by("other", ("t", 0)) == 4


# -- Pending --------------------------------------------------------------------------------------


def a_long_story() -> list[Op]:
    """Every kind of operation, on things that come, change and go."""
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic("t", 2)
    scribe.producer(1)
    scribe.append(2, producer=1, sequence=0)
    scribe.member("a")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "a", None, None))
    scribe.ack(1)
    scribe.append(2, producer=1, sequence=2)
    scribe.write(ops.CreatePartitions, topic="t", partitions=3)
    scribe.member("b")
    scribe.owners(("t", 0, "a", None, None), ("t", 1, "b", "a", 2), ("t", 2, "b", None, None))
    scribe.write(ops.Deregister, reason="expired", producer=1)
    scribe.write(ops.AlterTopic, topic="t", config={"retention_ms": 1})
    scribe.write(ops.Trim, topic="t", partition=0, before=1)
    scribe.append(1, producer=1, sequence=4)
    scribe.leaves("a")
    scribe.leaves("b")
    scribe.write(ops.Deregister, reason="forgotten", producer=1)
    scribe.write(ops.DeleteTopic, topic="t", topic_id="t2")
    scribe.write(ops.Deregister, reason="deleted", group="g")
    scribe.topic("t", 1)
    scribe.producer(2)
    scribe.append(1, producer=2, sequence=0)
    return scribe.log


STORY = a_long_story()


@given(applied=st.integers(0, len(STORY)), settled=st.integers(0, len(STORY)), data=st.data())
def test_pending_reads_like_the_state_that_will_have_been(
    applied: int, settled: int, data: st.DataObject
) -> None:
    """Begun at any operation, however far the committed state has followed, settled or not."""
    begun = data.draw(st.integers(0, applied))
    whole, base = State(), State()
    for op in STORY[:begun]:
        base.apply(op)
    pending = State.over(base)
    for op in STORY[begun:]:
        pending.apply(op)
    for op in STORY:
        whole.apply(op)
    for op in STORY[begun:applied]:
        base.apply(op)
    pending.settle(min(settled, applied))
    assert content(pending) == content(whole)


def test_pending_that_is_all_applied_holds_nothing() -> None:
    base = State()
    pending = State.over(base)
    for op in STORY:
        pending.apply(op)
    for op in STORY:
        base.apply(op)
        pending.settle(op.index)
    assert [getattr(pending, name).unsettled for name in _MAPPINGS] == [0] * len(_MAPPINGS)


def test_pending_leaves_the_committed_state_alone() -> None:
    base = State()
    for op in STORY[:8]:
        base.apply(op)
    before = content(base)
    pending = State.over(base)
    for op in STORY[8:]:
        pending.apply(op)
    assert content(base) == before
