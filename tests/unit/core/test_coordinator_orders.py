"""Operators, and brokers whose logs decide, as stories: events in, effects out, in their order."""

from __future__ import annotations

from tests.support.coordinator_stage import Stage, refused, told
from yak import messages as m
from yak.core.adoption import EPOCH_MARGIN
from yak.core.coordinator import Publish, Save
from yak.core.events import Reply, Tell

OPERATOR = 99


def torn_cluster() -> Stage:
    """Two brokers in sync, both of which come back torn; broker 1 led."""
    stage = Stage()
    stage.settle(1, 2)
    stage.logs = {1: (1, 12), 2: (1, 14)}
    stage.join(11, inc="i1.2", state="torn", end=(1, 12))
    stage.join(12, inc="i2.2", state="torn", end=(1, 10))
    return stage


def leads(stage: Stage) -> tuple[int | None, int]:
    return stage.document.leader, stage.document.epoch


def look(stage: Stage, broker: int) -> m.OrderAnswer:
    answer = stage.ask(OPERATOR, m.Elect(id=5, broker=broker))
    assert isinstance(answer, m.OrderAnswer), answer
    assert not answer.done
    assert [type(effect) for effect in stage.effects] == [Reply], "looking changes nothing"
    return answer


def give(stage: Stage, broker: int, plan: str) -> m.Answer:
    return stage.ask(OPERATOR, m.Elect(id=6, broker=broker, plan=plan))


# -- settled: a log's end counts once nobody can make it grow -------------------------------------


def test_settled_what_a_join_said_is_not_enough() -> None:
    stage = torn_cluster()
    assert stage.document.leader is None
    stage.run(0.2)
    assert stage.document.leader is None
    stage.run(0.25, 11, 12)
    assert leads(stage) == (2, 3), "at 14, not 10 as it joined"


def test_settled_all_must_have_said_it() -> None:
    stage = torn_cluster()
    stage.run(1.0, 11)
    assert stage.document.leader is None


def test_settled_what_was_said_while_another_led_does_not_count() -> None:
    stage = torn_cluster()
    seen = (stage.document.epoch, stage.document.version)
    stage.run(0.3, 11, 12)
    assert stage.document.leader == 2
    stage.join(22, inc="i2.3", state="torn", end=(1, 11))
    for conn, end in ((11, (1, 12)), (22, (1, 11))):
        heard, number = stage.numbers[conn]
        stage.ask(conn, m.Beat(id=2, number=number + 1, heard=heard, end=end, seen=seen))
    stage.run(0.1)
    assert stage.document.leader is None


def test_a_heartbeat_without_an_end_leaves_it_as_it_was() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.logs[2] = (1, 20)
    stage.beat(2)
    del stage.logs[2]
    stage.beat(2)
    assert stage.brain.sessions[2].present.end == (1, 20)


# -- elect ----------------------------------------------------------------------------------------


def test_a_move_is_saved_before_it_is_answered_and_published() -> None:
    stage = Stage()
    stage.settle(1, 2)
    plan = look(stage, 2).plan
    answer = give(stage, 2, plan)
    assert isinstance(answer, m.OrderAnswer)
    assert (answer.done, answer.leader, answer.epoch) == (True, 2, 2)
    save, tell, reply, publish = stage.effects
    assert isinstance(save, Save)
    assert (save.document.leader, save.document.version) == (2, stage.document.version)
    assert isinstance(tell, Tell)
    assert "ordered by an operator" in tell.fields["reason"]
    assert isinstance(reply, Reply)
    assert isinstance(publish, Publish)
    assert sorted(publish.conns) == [1, 2]


def test_lease_a_leader_that_was_replaced_alive_is_not_left_behind_before_it_knows() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    give(stage, 2, look(stage, 2).plan)
    assert refused(stage.propose(2, (2, 3), {})) == "STALE_EPOCH"
    stage.run(1.2, 1, 2, 3)
    assert refused(stage.propose(2, (2, 3), {})) == "STALE_EPOCH"
    stage.run(0.2, 1, 2, 3)
    assert stage.propose(2, (2, 3), {}).ok


def test_lease_one_that_is_dead_thinks_nothing_and_the_others_may_leave() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    give(stage, 2, look(stage, 2).plan)
    assert stage.propose(2, (1, 2), {}).ok
    assert stage.propose(2, (1, 2, 3), {"3": "i3.1"}).ok
    stage.ask(1, m.Leave(id=9))
    assert stage.propose(2, (2, 3), {}).ok


def test_lease_who_was_replaced_before_the_last_one_is_not_forgotten() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    give(stage, 2, look(stage, 2).plan)
    stage.run(0.5, 1, 2, 3)
    give(stage, 3, look(stage, 3).plan)
    assert refused(stage.propose(3, (2, 3), {})) == "STALE_EPOCH"
    stage.run(0.9, 1, 2, 3)
    assert stage.propose(3, (2, 3), {}).ok


def test_lease_who_was_replaced_before_a_restart_is_not_forgotten() -> None:
    """The document does not say who led before: anybody in sync may have, present or not."""
    stage = Stage()
    stage.settle(1, 2, 3)
    give(stage, 2, look(stage, 2).plan)
    stage = stage.restarted()
    stage.join(2)
    assert refused(stage.propose(2, (2, 3), {})) == "STALE_EPOCH"
    stage.join(1)
    assert refused(stage.propose(2, (2, 3), {})) == "STALE_EPOCH"
    stage.run(1.4, 1, 2)
    assert stage.propose(2, (2, 3), {}).ok


def test_an_order_that_was_looked_at_before_something_changed_is_refused() -> None:
    stage = Stage()
    stage.settle(1, 2)
    plan = look(stage, 2).plan
    stage.join(3)
    before = stage.document
    assert refused(give(stage, 2, plan)) == "STALE_EPOCH"
    assert stage.document is before
    assert refused(give(stage, 2, "")) == "STALE_EPOCH"


def test_an_order_is_given_once() -> None:
    stage = Stage()
    stage.settle(1, 2)
    plan = look(stage, 2).plan
    give(stage, 2, plan)
    assert refused(give(stage, 2, plan)) == "INVALID_REQUEST"
    assert stage.document.epoch == 2


def test_brokers_that_all_lost_power_wait_for_an_order() -> None:
    stage = Stage()
    stage.settle(1, 2)
    for conn, end in ((11, (1, 12)), (12, (1, 14))):
        stage.logs[conn % 10] = end
        stage.join(conn, inc=f"i{conn}", state="unclean", end=end)
    assert refused(stage.ask(OPERATOR, m.Elect(id=5, broker=1))) == "NO_LEADER", "not settled yet"
    stage.run(5.0, 11, 12)
    assert stage.document.leader is None
    answer = look(stage, 1)
    assert any("elect 2 rather" in loss for loss in answer.losses)
    give(stage, 2, look(stage, 2).plan)
    assert leads(stage) == (2, 3)
    assert told(stage.effects) == ["ordered", "elected"]


def test_what_one_that_left_last_said_is_known() -> None:
    stage = torn_cluster()
    stage.beat(12)
    stage.ask(12, m.Leave(id=9))
    stage.beat(11)
    losses = look(stage, 1).losses
    assert any("broker 2 goes further, to operation 14 of epoch 1" in loss for loss in losses)


# -- adopt ----------------------------------------------------------------------------------------


def of_x(stage: Stage, conn: int, **more: object) -> m.Answer:
    fields = {"cluster": "X", "end": (5, 40), "epoch": 5, **more}
    return stage.join(conn, **fields)


def test_the_refused_are_remembered_and_told_once() -> None:
    stage = Stage()
    assert refused(of_x(stage, 1)) == "CLUSTER_MISMATCH"
    assert told(stage.effects) == ["refused"]
    of_x(stage, 1, end=(5, 44))
    assert told(stage.effects) == []
    stage.run(1.0)
    status = stage.ask(OPERATOR, m.Status(id=4))
    assert isinstance(status, m.CoordinatorStatus)
    (entry,) = status.refused
    assert (entry.broker, entry.end, entry.age_ms) == (1, (5, 44), 1000)
    assert "yak zk adopt" in entry.why


def test_a_refusal_for_another_reason_is_no_candidate() -> None:
    stage = Stage()
    assert refused(stage.join(1, broker=0)) == "INVALID_REQUEST"
    assert told(stage.effects) == []


def test_an_adopted_cluster_elects_when_all_its_brokers_have_settled() -> None:
    stage = Stage()
    stage.logs = {1: (5, 44), 2: (5, 46), 3: (5, 40)}
    for broker in stage.logs:
        of_x(stage, broker)
    answer = stage.ask(OPERATOR, m.Adopt(id=5))
    assert isinstance(answer, m.OrderAnswer)
    done = stage.ask(OPERATOR, m.Adopt(id=6, plan=answer.plan))
    assert isinstance(done, m.OrderAnswer)
    assert (done.done, done.cluster, done.epoch, done.leader) == (True, "X", 5 + EPOCH_MARGIN, None)
    assert isinstance(stage.effects[0], Save)
    for broker in (1, 2):
        of_x(stage, broker)
    stage.run(1.0, 1, 2)
    assert stage.document.leader is None, "3 might go further"
    of_x(stage, 3)
    stage.run(0.3, 1, 2, 3)
    assert leads(stage) == (2, 6 + EPOCH_MARGIN)
    status = stage.ask(OPERATOR, m.Status(id=4))
    assert isinstance(status, m.CoordinatorStatus)
    assert status.refused == []
    assert [one.end for one in status.sessions] == [(5, 44), (5, 46), (5, 40)]


def test_a_document_that_waits_for_its_brokers_waits_on_after_a_restart() -> None:
    stage = Stage()
    for broker in (1, 2):
        of_x(stage, broker)
    answer = stage.ask(OPERATOR, m.Adopt(id=5))
    assert isinstance(answer, m.OrderAnswer)
    stage.ask(OPERATOR, m.Adopt(id=6, plan=answer.plan))
    again = stage.restarted()
    again.logs = {1: (5, 44), 2: (5, 46)}
    for broker in (1, 2):
        of_x(again, broker)
    again.run(3.0, 1, 2)
    assert again.document.leader == 2
