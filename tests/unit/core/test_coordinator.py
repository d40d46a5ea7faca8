"""Sessions and what becomes of them, as stories: events in, effects out, in their order."""

from __future__ import annotations

from tests.support.coordinator_stage import Stage, only, refused, told
from yak import messages as m
from yak.config import Settings
from yak.core.coordinator import TICK_S, Probe, Publish, Save
from yak.core.document import Replica, Suspect
from yak.core.events import HangUp, Reply, Tell

# -- joining, and the first epoch -----------------------------------------------------------------


def test_a_cluster_forms_a_while_after_the_first_broker_came() -> None:
    stage = Stage()
    stage.join(2)
    stage.run(0.15)
    stage.join(1)
    assert stage.document.epoch == 0
    stage.run(0.1)
    assert (stage.document.epoch, stage.document.leader) == (1, 1)
    assert stage.document.isr == (Replica(1, "d1"),)


def test_bootstrap_counts_from_the_first_broker_that_stayed() -> None:
    stage = Stage()
    stage.join(1)
    stage.ask(1, m.Leave(id=9))
    stage.run(1.0)
    stage.join(2)
    assert stage.document.epoch == 0
    stage.run(0.25)
    assert stage.document.leader == 2


def test_zk_durable_what_is_told_was_saved_before() -> None:
    stage = Stage()
    assert [type(effect) for effect in stage.effects] == [Save, Publish]
    answer = stage.join(1)
    kinds = [type(effect) for effect in stage.effects]
    assert kinds.index(Save) == 0 < kinds.index(Tell) < kinds.index(Reply)
    assert isinstance(answer, m.JoinAnswer)
    (save,) = only(stage.effects, Save)
    assert answer.view.version == save.document.version == stage.document.version
    effects = stage.run(0.25)
    (save,), (publish,) = only(effects, Save), only(effects, Publish)
    assert effects.index(save) < effects.index(publish)
    assert publish.view.leader == save.document.leader == 1


def test_a_broken_log_is_on_record_before_its_join_is_answered() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.join(12, inc="i2.2", state="unclean")
    save = stage.effects[0]
    assert isinstance(save, Save)
    assert save.document.suspects[2].state == "unclean"
    assert told(stage.effects) == ["joined", "not_whole"]


def test_another_disk_waits_until_a_session_without_a_connection_has_ended() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.close(2)
    assert refused(stage.join(12, disk="dX")) == "NO_LEADER"
    stage.brain.probed(2, "i2.1", "its port refuses connections", stage.now)
    assert isinstance(stage.join(12, disk="dX"), m.JoinAnswer)


def test_a_join_is_published_to_the_others() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.join(3)
    (publish,) = only(stage.effects, Publish)
    assert sorted(publish.conns) == [1, 2]
    assert [(b.id, b.live, b.inc) for b in publish.view.brokers] == [
        (1, True, "i1.1"),
        (2, True, "i2.1"),
        (3, True, "i3.1"),
    ]


def test_a_refused_join_changes_nothing() -> None:
    stage = Stage()
    stage.settle(1, 2)
    before = stage.document
    assert refused(stage.join(12, disk="dX")) == "CLUSTER_MISMATCH"
    assert refused(stage.join(3, cluster="X")) == "CLUSTER_MISMATCH"
    assert stage.document is before
    assert set(stage.brain.sessions) == {1, 2}


def test_the_same_disk_replaces_the_old_session_whose_frames_are_ignored() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.join(12, inc="i2.2")
    assert [effect.conn for effect in only(stage.effects, HangUp)] == [2]
    assert refused(stage.ask(2, m.Leave(id=9))) == "STALE_EPOCH"
    assert stage.close(2) == []
    assert stage.brain.sessions[2].conn == 12


def test_a_connection_speaks_for_one_broker() -> None:
    stage = Stage()
    stage.join(1)
    assert refused(stage.join(1, broker=2, disk="d2")) == "INVALID_REQUEST"


def test_a_leader_that_joins_with_a_new_incarnation_gets_a_new_epoch() -> None:
    stage = Stage()
    stage.settle(1, 2)
    answer = stage.join(11, inc="i1.2")
    assert isinstance(answer, m.JoinAnswer)
    assert (answer.view.epoch, answer.view.leader) == (2, 1)


def test_a_leader_that_reconnects_leads_on() -> None:
    stage = Stage()
    stage.settle(1, 2)
    before = stage.document
    stage.close(1)
    stage.join(11)
    assert stage.document == before
    assert only(stage.effects, Save) == []


def test_without_a_session_nothing_can_be_asked_for() -> None:
    stage = Stage()
    stage.settle(1, 2)
    requests: list[m.CoordinatorRequest] = [
        m.Beat(id=1, number=1, heard=0),
        m.ProposeIsr(id=1, epoch=1, version=1, isr=[1], incs={}),
        m.Resign(id=1, epoch=1, reason="?"),
        m.Leave(id=1),
    ]
    for request in requests:
        assert refused(stage.ask(99, request)) == "STALE_EPOCH"


# -- death ----------------------------------------------------------------------------------------


def test_silence_is_death() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    effects = stage.run(2.2, 2, 3)
    assert stage.document.leader == 2
    assert stage.document.isr_ids == [2, 3]
    assert [effect.conn for effect in only(effects, HangUp)] == [1]
    reason = stage.document.elections[-1].reason
    assert reason.startswith("leader 1 is gone: silent for 2")


def test_those_who_beat_live() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    before = stage.document
    stage.run(10.0, 1, 2, 3)
    assert stage.document is before


def test_a_one_way_cut_is_death_too() -> None:
    stage = Stage()
    stage.settle(1, 2)
    for _ in range(7):
        stage.numbers[1] = (0, stage.numbers[1][1])  # it hears nothing of what we answer
        stage.run(0.25, 1, 2)
    assert stage.document.leader == 1
    stage.run(0.2, 2)
    assert stage.document.leader == 2


def test_a_closed_session_is_probed_and_dies_at_once_on_proof() -> None:
    stage = Stage()
    stage.settle(1, 2)
    assert stage.close(1)[1:] == [Probe(1, "i1.1", "127.0.0.1", 9092)]
    assert stage.document.leader == 1
    effects = stage.brain.probed(1, "i1.1", "its port refuses connections", stage.now)
    assert told(effects) == ["died", "elected"]
    assert stage.document.leader == 2


def test_a_closed_session_without_proof_dies_of_silence() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.close(1)
    stage.run(1.5, 2)
    assert stage.document.leader == 1
    stage.run(0.75, 2)
    assert stage.document.leader == 2


def test_late_news_of_a_probe_is_dropped() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.close(1)
    stage.join(11)
    assert stage.brain.probed(1, "i1.1", "refused", stage.now) == []
    stage.close(11)
    assert stage.brain.probed(1, "i1.0", "refused", stage.now) == []
    assert stage.document.leader == 1


def test_goodbye_is_death_at_once_without_a_probe() -> None:
    stage = Stage()
    stage.settle(1, 2)
    assert stage.ask(1, m.Leave(id=9)).ok
    assert stage.document.leader == 2
    assert told(stage.effects) == ["left", "elected"]
    assert stage.close(1) == []


def test_the_death_of_a_follower_is_published_and_the_isr_is_left_to_the_leader() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    before = stage.document
    stage.ask(3, m.Leave(id=9))
    (publish,) = only(stage.effects, Publish)
    assert [(b.id, b.live) for b in publish.view.brokers] == [(1, True), (2, True), (3, False)]
    assert stage.document is before


# -- when to be asked again -----------------------------------------------------------------------


def test_time_is_felt_often_where_an_election_waits_for_it_and_seldom_where_none_does() -> None:
    stage = Stage()
    assert stage.brain.next_deadline(stage.time) == stage.time + TICK_S
    stage.settle(1, 2)
    stage.run(3.0, 1, 2)
    calm = stage.brain.next_deadline(stage.time) - stage.time
    assert TICK_S < calm <= stage.brain.window / 4
    stage = stage.restarted()
    assert stage.brain.next_deadline(stage.time) == stage.time + TICK_S, "they are presumed alive"


def test_a_session_s_end_is_not_missed() -> None:
    """Asked only when it says so, it declares a silent broker dead within two milliseconds."""
    stage = Stage()
    stage.settle(1, 2)
    stage.run(3.0, 1, 2)
    silent_since = stage.brain.sessions[1].seen
    while stage.document.leader == 1:
        stage.time = stage.brain.next_deadline(stage.time)
        stage.beat(2)
        stage.brain.tick(stage.now)
    silence = stage.time - silent_since
    assert 2.0 < silence < 2.0 + 0.002


# -- our own absence ------------------------------------------------------------------------------


def test_time_in_which_we_did_not_run_counts_against_nobody() -> None:
    stage = Stage()
    stage.settle(1, 2)
    before = stage.document
    stage.time += 60.0
    assert told(stage.brain.tick(stage.now)) == ["stalled"]
    stage.run(5.0, 1, 2)
    assert stage.document is before
    stage.time += 60.0
    stage.run(2.5, 2)
    assert stage.document.leader == 2


def test_zk_grace_after_a_restart_nobody_is_dead_for_a_session() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    stage = stage.restarted()
    stage.join(2)
    answer = stage.ask(77, m.ClusterQuery(id=1))
    assert isinstance(answer, m.JoinAnswer)
    assert [(b.id, b.live, b.inc) for b in answer.view.brokers] == [
        (1, True, ""),
        (2, True, "i2.1"),
        (3, True, ""),
    ]
    stage.run(1.9, 2)
    assert (stage.document.epoch, stage.document.leader) == (1, 1)
    effects = stage.run(0.2, 2)
    assert (stage.document.epoch, stage.document.leader) == (2, 2)
    assert stage.document.isr_ids == [1, 2]
    assert only(effects, Publish)[-1].conns == [2]


def test_zk_grace_the_sitting_leader_goes_on_in_its_epoch() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage = stage.restarted()
    stage.join(2)
    stage.join(1)
    stage.run(5.0, 1, 2)
    assert (stage.document.epoch, stage.document.leader) == (1, 1)


def test_zk_grace_silence_in_it_is_no_death_either() -> None:
    long = Settings(session_ms=6000)
    stage = Stage(settings=long)
    stage.settle(1, 2)
    stage = Stage(stage.document)  # with the default session_ms of 2000
    stage.join(1)
    stage.run(5.9)
    assert stage.document.leader == 1
    stage.join(2)
    stage.run(0.2)
    assert stage.document.leader == 2


def test_zk_grace_who_came_back_and_died_is_dead() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage = stage.restarted()
    stage.join(1)
    stage.join(2)
    stage.ask(1, m.Leave(id=9))
    assert stage.document.leader == 2


def test_zk_grace_is_as_long_when_we_did_not_run_in_it() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage = stage.restarted()
    stage.join(2)
    stage.time += 60.0
    stage.run(1.5, 2)
    assert stage.document.leader == 1
    stage.run(0.6, 2)
    assert stage.document.leader == 2


def test_a_restarted_process_brings_its_settings_into_the_document() -> None:
    stage = Stage()
    stage.settle(1, 2)
    before = stage.document
    stage = Stage(before, settings=Settings(min_insync_replicas=1))
    assert stage.document.settings.min_insync_replicas == 1
    assert stage.document.version == before.version + 1
    assert type(stage.effects[0]) is Save


# -- the leader's wishes --------------------------------------------------------------------------


def test_an_isr_change_is_saved_answered_and_published_in_this_order() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    answer = stage.propose(1, (1, 2), {})
    assert [type(effect) for effect in stage.effects] == [Save, Tell, Reply, Publish]
    assert answer == m.IsrAnswer(version=stage.document.version, isr=[1, 2])


def test_a_proposal_on_an_older_version_is_refused() -> None:
    stage = Stage()
    stage.settle(1, 2, 3)
    version = stage.document.version
    assert stage.propose(1, (1, 2), {}).ok
    late = m.ProposeIsr(id=3, epoch=1, version=version, isr=[1, 3], incs={})
    assert refused(stage.ask(1, late)) == "STALE_EPOCH"
    assert stage.document.isr_ids == [1, 2]


def test_a_proposal_made_before_a_log_was_known_to_be_broken_is_refused() -> None:
    stage = Stage()
    stage.settle(1, 2)
    version = stage.document.version
    stage.join(12, inc="i2.2", state="unclean")
    late = m.ProposeIsr(id=3, epoch=1, version=version, isr=[1, 2], incs={"2": "i2.2"})
    assert refused(stage.ask(1, late)) == "STALE_EPOCH"
    assert stage.document.suspects[2] == Suspect(
        state="unclean", disk="d2", inc="i2.2", why="it joined with its log unclean"
    )


def test_cooldown_a_leader_that_resigned_comes_back_only_when_it_has_passed() -> None:
    stage = Stage()
    stage.settle(1, 2)
    assert stage.ask(1, m.Resign(id=4, epoch=1, reason="nobody follows")).ok
    assert told(stage.effects) == ["resigned", "elected"]
    assert stage.document.leader == 2
    assert stage.document.elections[-1].reason.startswith("leader 1 resigned: nobody follows; ")
    stage.join(3)
    stage.run(1.0, 1, 2, 3)
    stage.ask(2, m.Leave(id=5))
    assert stage.document.leader == 1, "nobody else was electable"
    stage.join(12, inc="i2.2")
    stage.ask(1, m.Resign(id=4, epoch=stage.document.epoch, reason="again"))
    assert stage.document.leader == 2
    stage.run(5.0, 1, 12)
    stage.ask(12, m.Resign(id=4, epoch=stage.document.epoch, reason="now I"))
    assert stage.document.leader == 1


def test_cooldown_the_only_one_electable_is_elected_again_but_not_in_the_same_breath() -> None:
    stage = Stage()
    stage.join(1)
    stage.run(0.25, 1)
    stage.ask(1, m.Resign(id=4, epoch=1, reason="the disk is full"))
    stage.run(0.2, 1)
    assert stage.document.leader is None
    stage.run(0.1, 1)
    assert stage.document.isr_ids == [stage.document.leader] == [1]
    assert stage.document.epoch == 2


def test_a_resignation_from_another_epoch_is_refused() -> None:
    stage = Stage()
    stage.settle(1, 2)
    assert refused(stage.ask(1, m.Resign(id=4, epoch=0, reason="late"))) == "STALE_EPOCH"
    assert refused(stage.ask(2, m.Resign(id=4, epoch=1, reason="not mine"))) == "STALE_EPOCH"
    assert stage.document.leader == 1


# -- what anybody may know ------------------------------------------------------------------------


def test_status_knows_ages_states_and_the_last_elections() -> None:
    stage = Stage()
    stage.settle(1, 2)
    stage.run(1.0, 1)
    stage.join(3, state="torn")
    stage.ask(2, m.Leave(id=9))
    answer = stage.ask(77, m.Status(id=1))
    assert isinstance(answer, m.CoordinatorStatus)
    assert [(s.broker, s.live, s.heartbeat_age_ms, s.state) for s in answer.sessions] == [
        (1, True, 250, "whole"),
        (2, False, None, "whole"),
        (3, True, 0, "torn"),
    ]
    assert [(e.epoch, e.leader) for e in answer.elections] == [(1, 1)]
