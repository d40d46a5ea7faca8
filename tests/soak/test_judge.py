"""The judge of a long run: a good history passes, and each kind of fault is found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.judge import Life, Verdict, judge
from tests.soak.notes import Note

END = 100.0


class Run:
    """Notes of a small run over one topic, in which everything is well.

    Producer p sends a … d, two at a time, to partition 0; group g reads and acknowledges them;
    reader r reads them; both replicas have them.
    """

    def __init__(self) -> None:
        self.lives = [Life("t", "t1", (0.0, 0.1), groups=frozenset("g"), starts={0: 0})]
        self.notes: list[Note] = []
        self.sent("p", 1, "ab", 0)
        self.sent("p", 3, "cd", 2)
        self.read("r", None, 5, "abcd", 0)
        self.read("m", "g", 5, "ab", 0)
        self.acked("m", 6, 0, 1)
        self.read("n", "g", 7, "cd", 2)
        for replica in ("one", "two"):
            self.lives[0].closing[replica] = {0: dict(enumerate("abcd"))}

    def note(self, op: str, proc: str, at: float, **fields: Any) -> None:
        self.notes.append({"op": op, "proc": proc, "t0": at, "t1": at + 1, **fields})

    def sent(self, proc: str, at: float, values: str, offset: int | None, **more: Any) -> None:
        self.note("begin", proc, at, topic="t", values=list(values))
        places = [None if offset is None else offset + n for n in range(len(values))]
        msgs = [["t", 0, place, value] for place, value in zip(places, values, strict=True)]
        result = "info" if offset is None else "ok"
        self.note("send", proc, at, **{"result": result, "msgs": msgs, **more})

    def read(self, proc: str, group: str | None, at: float, values: str, offset: int) -> None:
        msgs = [["t", 0, place, value] for place, value in enumerate(values, offset)]
        self.note("poll", proc, at, result="ok", group=group, msgs=msgs)

    def acked(self, proc: str, at: float, *offsets: int) -> None:
        msgs = [["t", 0, offset] for offset in offsets]
        self.note("ack", proc, at, result="ok", group="g", msgs=msgs)

    def closing(self, values: dict[int, str], *replicas: str) -> None:
        for replica in replicas or ("one", "two"):
            self.lives[0].closing[replica] = {0: values}

    def verdict(self) -> Verdict:
        return judge(self.notes, self.lives, END)

    def found(self) -> set[str]:
        return set(self.verdict().anomalies)


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_good_run_shows_nothing(run: Run) -> None:
    verdict = run.verdict()
    assert (verdict.count, verdict.lines()) == (0, [])
    assert (verdict.acknowledged, verdict.delivered) == (4, 8)
    assert verdict.longest_gap() == 2
    assert verdict.gaps()[0][1] - verdict.gaps()[0][0] == 2
    assert judge([], run.lives, END).longest_gap() == -1


def test_what_one_replica_lost_is_lost_and_vanished(run: Run) -> None:
    run.closing({0: "a", 2: "c", 3: "d"}, "two")
    assert run.found() == {"lost", "vanished"}


def test_what_lies_below_the_start_is_nobodys_loss(run: Run) -> None:
    run.closing({2: "c", 3: "d"})
    assert run.found() == {"lost", "vanished"}
    run.lives[0].starts = {0: 2}
    assert run.found() == set()


def test_a_value_that_nobody_sent(run: Run) -> None:
    run.read("r", None, 9, "z", 4)
    assert run.found() == {"phantom"}


def test_a_value_that_only_a_replica_has(run: Run) -> None:
    run.closing({**dict(enumerate("abcd")), 4: "z"}, "one")
    assert "phantom" in run.found()


def test_a_value_read_before_it_was_sent(run: Run) -> None:
    run.notes = [n for n in run.notes if n["proc"] != "p"]
    run.sent("p", 20, "abcd", 0)
    assert run.found() == {"phantom"}


def test_a_value_that_stands_twice(run: Run) -> None:
    run.closing(dict(enumerate("abcda")))
    assert "duplicate" in run.found()


def test_two_values_at_one_offset(run: Run) -> None:
    run.sent("q", 9, "e", 3)
    assert "two-values" in run.found()


def test_a_batch_of_which_only_a_part_is_there(run: Run) -> None:
    run.sent("q", 9, "ef", None)
    run.closing(dict(enumerate("abcde")))
    run.lives[0].groups = frozenset()
    assert run.found() == {"torn-batch"}


def test_an_unknown_send_may_be_there_or_not(run: Run) -> None:
    run.sent("q", 9, "ef", None)
    assert run.found() == set()
    run.note("begin", "q", 11, topic="t", values=["g"])  # killed before it knew
    assert run.found() == set()
    run.closing(dict(enumerate("abcdef")))
    run.read("n", "g", 12, "ef", 4)
    assert run.found() == set()


def test_a_producers_sends_out_of_order(run: Run) -> None:
    run.sent("q", 9, "f", 5)
    run.sent("q", 9.5, "e", 4)
    run.closing(dict(enumerate("abcdef")))
    run.read("n", "g", 12, "ef", 4)
    assert run.found() == {"order"}


def test_a_send_that_overtakes_one_that_was_acknowledged(run: Run) -> None:
    run.sent("q", 9, "f", 5)
    run.sent("s", 20, "e", 4)
    run.closing(dict(enumerate("abcdef")))
    run.read("n", "g", 30, "ef", 4)
    assert run.found() == {"realtime"}


def test_a_reader_that_goes_back_or_jumps(run: Run) -> None:
    run.read("r", None, 9, "d", 3)
    assert run.found() == {"poll-order"}
    run.notes = [n for n in run.notes if n["proc"] != "r"]
    run.read("r", None, 9, "a", 0)
    run.read("r", None, 11, "c", 2)
    assert run.found() == {"poll-order"}


def test_a_member_may_be_handed_again_what_was_not_acknowledged(run: Run) -> None:
    run.read("m", "g", 9, "cd", 2)
    assert run.found() == set()


def test_a_group_is_handed_again_what_it_acknowledged(run: Run) -> None:
    run.read("n", "g", 9, "b", 1)
    assert run.found() == {"again"}
    run.note("dazed", "n", 8)
    assert run.found() == set()


def test_a_group_that_never_got_one(run: Run) -> None:
    run.notes = [n for n in run.notes if n["proc"] not in ("m", "n")]
    run.read("m", "g", 5, "a", 0)
    run.read("n", "g", 7, "cd", 2)
    run.lives[0].groups = frozenset()
    assert run.found() == {"skipped"}
    run.lives[0].groups = frozenset("g")
    assert run.found() == {"skipped", "missed"}


def test_where_a_topic_forgets_a_reader_may_find_gaps(run: Run) -> None:
    run.notes = [n for n in run.notes if n["proc"] not in ("m", "n", "r")]
    run.read("m", "g", 7, "d", 3)
    run.read("r", None, 9, "a", 0)
    run.read("r", None, 11, "d", 3)
    run.closing({3: "d"})
    run.lives[0].starts = {0: 3}
    assert run.found() == {"poll-order", "missed"}
    run.lives[0].forgets = True
    assert run.found() == set()
    run.closing({}, "two")
    assert run.found() == {"lost", "vanished"}, "what it still has to have is judged as ever"


def test_a_group_that_never_got_the_end(run: Run) -> None:
    run.sent("q", 9, "e", 4)
    run.closing(dict(enumerate("abcde")))
    assert run.found() == {"missed"}


def test_a_group_may_miss_the_end_of_what_was_deleted_and_not_its_beginning(run: Run) -> None:
    run.lives[0].deleted = (40.0, 41.0)
    run.lives[0].closing = {}
    run.sent("q", 9, "e", 4)
    assert run.found() == set()
    run.notes = [n for n in run.notes if n["proc"] != "m"]
    assert run.found() == {"missed"}


def test_one_name_may_be_another_topic_later(run: Run) -> None:
    run.lives[0].deleted = (40.0, 41.0)
    run.lives[0].closing = {}
    run.lives[0].groups = frozenset()
    run.lives.append(Life("t", "t9", (42.0, 43.0), starts={0: 0}))
    run.sent("p", 50, "e", 0)
    run.lives[1].closing = {"one": {0: {0: "e"}}}
    assert run.found() == set()
    run.sent("p", 39, "x", 4)  # may be of either: not judged
    assert run.found() == set()
    assert run.verdict().set_aside == 0
    run.sent("p", 39.5, "y", None, topic_id="t9")
    run.note("send", "q", 40.5, result="ok", msgs=[["t", 0, 1, "v"]])
    run.notes[-1]["t1"] = 45.0
    assert run.verdict().set_aside == 1
    assert run.found() == set()


def hold(run: Run, proc: str, begin: float, end: float | None, session_s: float = 5.0) -> None:
    where = {"group": "g", "topic": "t", "part": 0}
    run.note("beat", proc, begin, group="g", session_s=session_s)
    run.note("held", proc, begin, **where)
    if end is not None:
        run.note("let", proc, end, **where)


def test_two_members_that_hold_one_partition(run: Run) -> None:
    hold(run, "m", 10, 12)
    hold(run, "n", 12, 14)
    assert run.found() == set()
    hold(run, "o", 13.5, 15)
    assert run.found() == {"two-holders"}


@pytest.mark.parametrize("end", [None, 30.0])
def test_who_is_not_heard_of_holds_for_a_session(run: Run, end: float | None) -> None:
    """Whether it died, or woke up later and then learned that it had been expelled."""
    hold(run, "m", 10, end)
    hold(run, "n", 15, 16)
    assert run.found() == set()
    hold(run, "o", 14.5, 14.9)
    assert run.found() == {"two-holders"}
