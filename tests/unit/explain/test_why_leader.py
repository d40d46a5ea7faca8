"""Why a broker leads, and why these are in sync: from events, elections and logs."""

from __future__ import annotations

import pytest

from tests.support.evidence import a_document, event, log_of, told, whats
from tests.support.playbook import WALL_MS, Scribe
from yak import messages as m
from yak.config import Settings
from yak.core import ops
from yak.core.ops import Op
from yak.explain.facts import Event, Unexplained
from yak.explain.questions import Question

LEADER, ISR = Question("leader"), Question("isr")
REFUSED = "its port refuses connections"
WHY = (
    f"leader 1 is gone: {REFUSED}; broker 2 is the lowest live in-sync id; dropped from the ISR, "
    "as dead: 1"
)

#: Broker 1 leads, is joined by two, and is killed.
EVENTS = [
    event("yak-zk", "joined", 0, broker=1, state="whole", inc="a", end=[0, 0]),
    event("yak-zk", "elected", 100, epoch=1, leader=1, isr=[1], reason="a new cluster"),
    event("broker-1", "isr_proposed", 195, epoch=1, isr=[1, 2, 3], broker=3, reason="caught up"),
    event("yak-zk", "isr_changed", 200, epoch=1, leader=1, isr=[1, 2, 3], reason="caught up: 2, 3"),
    event("yak-zk", "disconnected", 5000, broker=1),
    event("yak-zk", "died", 5001, broker=1, reason=REFUSED),
    event("yak-zk", "elected", 5002, epoch=2, leader=2, isr=[2, 3], reason=WHY),
    event("broker-2", "serving", 5010, epoch=2, index=3),
]


def the_log() -> list[Op]:
    scribe = Scribe()
    scribe.write(ops.Lead, broker=1)
    scribe.topic()
    scribe.epoch, scribe.time = 2, WALL_MS + 5003
    scribe.write(ops.Lead, broker=2)
    return scribe.log


def test_a_killed_leader() -> None:
    answer = told(LEADER, the_log(), events=EVENTS)
    assert "broker 2 leads epoch 2 since 2025-11-22 08:26:45.002Z" in answer.answer
    assert whats(answer) == [
        "broker 1 led in epoch 1: a new cluster",
        "brokers 1, 2 and 3 were in sync until then (caught up: 2, 3)",
        "the connection between broker 1 and yak-zk ended",
        f"broker 1's session ended: {REFUSED}",
        f"yak-zk elected broker 2 for epoch 2: {WHY}; in sync from then on: 2 and 3",
        "broker 2 wrote the epoch's first operation, 3, to the log: whoever follows drops what it "
        "has beyond the leader's log",
        "broker 2 serves clients in epoch 2: operation 3 is committed",
    ]
    assert [one.time for one in answer.chain] == sorted(one.time or 0 for one in answer.chain)
    assert (answer.chain[-2].index, answer.chain[-2].epoch) == (3, 2)


def test_files_do_not_say_who_runs_now() -> None:
    assert told(LEADER, the_log(), events=EVENTS).answer.startswith("by the files, broker 2 leads")


def test_what_others_do_meanwhile_is_not_told() -> None:
    others = [
        event("yak-zk", "stalled", 50, ms=900, reason="this process did not run"),
        event("yak-zk", "left", 4000, broker=3, reason="it said goodbye"),
        event("yak-zk", "disconnected", 6000, broker=1),
    ]
    answer = told(LEADER, the_log(), events=sorted([*EVENTS, *others]))
    assert not [what for what in whats(answer) if "goodbye" in what or "did not run" in what]
    assert len(whats(answer, "disconnected")) == 1


def test_what_was_done_to_it_on_purpose_is_told() -> None:
    kill = {"kind": "kill", "command": "yak chaos kill-leader", "for_ms": 5000}
    hurt = [
        event("chaos", "fault", 4900, members=[3], **kill),
        event("chaos", "fault", 4998, members=[1], **kill),
        event("chaos", "fault_ended", 9000, members=[1], **kill),
    ]
    answer = told(LEADER, the_log(), events=sorted([*EVENTS, *hurt], key=lambda one: one.time))
    assert whats(answer, "fault") == ["broker 1 was killed by `yak chaos kill-leader`, for 5 s"], (
        "and what was done to others is not"
    )
    answer = told(ISR, the_log(), events=sorted([*EVENTS, *hurt], key=lambda one: one.time))
    assert len(whats(answer, "fault")) == 2
    assert whats(answer, "fault_ended") == ["broker 1 was started again"]


def test_nobody_leads() -> None:
    why = "leader 2 is gone: silent; no in-sync broker is electable"
    gone = event("yak-zk", "vacated", 9000, epoch=2, leader=None, isr=[2, 3], reason=why)
    answer = told(LEADER, the_log(), events=[*EVENTS, gone])
    assert "nobody leads since" in answer.answer
    assert why in answer.answer
    assert whats(answer, "elected")[-1].startswith("yak-zk elected nobody")


def test_without_events_its_last_elections_are_told() -> None:
    elections = [
        m.Election(time=WALL_MS + epoch, epoch=epoch, leader=1, reason=f"the {epoch}th")
        for epoch in range(1, 9)
    ]
    answer = told(LEADER, document=a_document(epoch=8, elections=elections))
    assert "broker 1 leads epoch 8" in answer.answer
    assert len(whats(answer)) == 6
    assert "2 earlier elections are left out" in answer.unknown


def test_a_broker_alone_does_not_know_why() -> None:
    word = _word(broker=2, leader=2, epoch=7, isr=[2, 3])
    answer = told(LEADER, statuses={2: word})
    assert answer.answer == "broker 2 leads epoch 7"
    assert "yak-zk decided it" in answer.unknown[0]


def test_logs_alone_say_who_began() -> None:
    answer = told(LEADER, the_log())
    assert answer.answer.startswith("by the files, broker 2 leads epoch 2")
    assert any("yak-zk decides that" in text for text in answer.unknown)


@pytest.mark.parametrize("question", [LEADER, ISR])
def test_nothing_is_known(question: Question) -> None:
    with pytest.raises(Unexplained, match="--zk"):
        told(question)


def _word(*, broker: int, leader: int, epoch: int, isr: list[int]) -> m.StatusAnswer:
    return m.StatusAnswer(
        broker=broker,
        cluster="C",
        role="leader",
        epoch=epoch,
        leader=leader,
        isr=isr,
        state="whole",
        log_start=1,
        log_end=10,
        committed=9,
        applied=9,
        lease_ms=1000,
        followers=[],
    )


# -- the ISR --------------------------------------------------------------------------------------


def test_who_is_outside_and_why() -> None:
    answer = told(ISR, the_log(), events=EVENTS, document=a_document([2, 3], epoch=2))
    assert answer.answer == (
        "brokers 2 and 3 are in sync in epoch 2, of 1, 2 and 3; broker 1 is not: it died at "
        f"2025-11-22 08:26:45.001Z ({REFUSED})"
    )
    assert whats(answer, "isr_changed", "elected") == [
        "yak-zk elected broker 1 for epoch 1: a new cluster; in sync from then on: 1",
        "in sync from then on: 1, 2 and 3 (caught up: 2, 3)",
        f"yak-zk elected broker 2 for epoch 2: {WHY}; in sync from then on: 2 and 3",
    ]
    assert "broker 1 proposed brokers 1, 2 and 3 as in sync (broker 3: caught up)" in whats(answer)


def _outside(*more: Event) -> str:
    events = [*EVENTS[:4], *more]
    return told(ISR, events=events, document=a_document([1, 2], epoch=1)).answer


def test_who_lags_lives() -> None:
    behind = "behind for more than 1500 ms"
    answer = _outside(
        event("yak-zk", "joined", 250, broker=3, state="whole", inc="c", end=[1, 1]),
        event("broker-1", "isr_proposed", 290, epoch=1, isr=[1, 2], broker=3, reason=behind),
        event("yak-zk", "isr_changed", 300, epoch=1, leader=1, isr=[1, 2], reason="left behind: 3"),
    )
    assert (
        f"broker 3 is not: left behind at 2025-11-22 08:26:40.300Z, and lives ({behind})" in answer
    )


def test_who_has_come_has_not_caught_up_yet() -> None:
    answer = _outside(
        event("yak-zk", "isr_changed", 300, epoch=1, leader=1, isr=[1, 2], reason="left behind: 3"),
        event("yak-zk", "died", 310, broker=3, reason="silent"),
        event("yak-zk", "joined", 400, broker=3, state="torn", inc="d", end=[1, 1]),
    )
    assert "broker 3 is not: it joined at 2025-11-22 08:26:40.400Z, and has not caught up" in answer


def test_who_is_dead_may_count_as_in_sync() -> None:
    """The floor: nobody leaves an ISR that has no more than --min-insync-replicas."""
    events = [*EVENTS, event("yak-zk", "died", 7000, broker=3, reason="silent for 2018 ms")]
    answer = told(ISR, events=events, document=a_document([2, 3], epoch=2)).answer
    assert "broker 3 counts as in sync, but is gone since 2025-11-22 08:26:47.000Z" in answer
    assert "no fewer than 2 may be in sync" in answer
    assert "writes wait" in answer


def test_yak_zk_s_own_word_is_the_newest() -> None:
    told_now = m.CoordinatorStatus(
        cluster="C", version=9, epoch=3, leader=3, isr=[3], settings=Settings(), sessions=[],
        elections=[],
    )  # fmt: skip
    answer = told(ISR, events=EVENTS, document=a_document([2, 3], epoch=2), coordinator=told_now)
    assert answer.answer.startswith("broker 3 is in sync in epoch 3, of 1, 2 and 3")


def test_without_events_only_elections_are_told() -> None:
    elections = [m.Election(time=WALL_MS, epoch=1, leader=1, reason="a new cluster")]
    answer = told(ISR, document=a_document(elections=elections))
    assert "all that there are" in answer.answer
    assert whats(answer) == ["yak-zk elected broker 1 for epoch 1: a new cluster"]
    assert any("events.jsonl" in text for text in answer.unknown)


def test_the_log_that_reaches_furthest_is_the_first() -> None:
    log = the_log()
    logs = [log_of(LEADER, log, broker=2), log_of(LEADER, log[:2], broker=1)]
    assert "broker 2 leads epoch 2" in told(LEADER, logs=logs).answer
