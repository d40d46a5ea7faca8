"""In flight: whatever goes wrong, the log holds each batch at most once and in order."""

from __future__ import annotations

from collections import deque

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from yak.core.inflight import LONGEST_PAUSE_S, Backoff, Entry, InFlight
from yak.model import BATCHES_REMEMBERED, SEQUENCE_SPAN

FAR = 1e9


def _sent(flight: InFlight[str], *items: str, count: int = 2) -> list[Entry[str]]:
    return [flight.add(item, count, FAR) for item in items]


def _items(entries: list[Entry[str]]) -> list[tuple[str, int]]:
    return [(entry.item, entry.sequence) for entry in entries]


def test_sequences_follow_each_other_and_five_are_the_limit() -> None:
    flight = InFlight[str]()
    entries = _sent(flight, *"abcde")
    assert [entry.sequence for entry in entries] == [0, 2, 4, 6, 8]
    assert not flight.has_room
    assert flight.acknowledged(entries[0])
    assert flight.has_room
    assert flight.add("f", 2, FAR).sequence == 10


def test_after_a_failure_all_is_sent_again_in_order_once_everything_was_answered() -> None:
    flight = InFlight[str]()
    a, b, c = _sent(flight, *"abc")
    flight.failed(a, now=0.0, chance=0.0, in_doubt=False)
    assert not flight.has_room
    assert flight.due(FAR) == []
    flight.out_of_order(b, now=0.0, chance=0.0)
    flight.out_of_order(c, now=0.0, chance=0.0)
    assert not flight.must_renew
    assert flight.due(0.0) == []
    resume_at = flight.next_at()
    assert resume_at is not None
    assert 0.0 < resume_at <= LONGEST_PAUSE_S
    assert _items(flight.due(resume_at)) == [("a", 0), ("b", 2), ("c", 4)]
    assert [entry.attempts for entry in flight] == [2, 2, 2]
    assert flight.due(FAR) == []


def test_those_behind_a_batch_refused_for_good_move_up() -> None:
    flight = InFlight[str]()
    a, b, c = _sent(flight, *"abc")
    flight.acknowledged(a)
    flight.rejected(b)
    assert not flight.has_room
    flight.out_of_order(c, now=0.0, chance=0.0)
    assert not flight.must_renew
    assert _items(flight.due(FAR)) == [("c", 2)]
    flight.acknowledged(c)
    assert flight.add("d", 1, FAR).sequence == 4


def test_a_refusal_heard_before_the_acknowledgement_in_front_of_it() -> None:
    flight = InFlight[str]()
    a, b, c = _sent(flight, *"abc")
    flight.rejected(b)
    flight.out_of_order(c, now=0.0, chance=0.0)
    flight.acknowledged(a)
    assert _items(flight.due(FAR)) == [("c", 2)]


def test_the_only_batch_refused_gives_its_sequence_to_the_next() -> None:
    flight = InFlight[str]()
    (a,) = _sent(flight, "a")
    flight.rejected(a)
    assert flight.add("b", 1, FAR).sequence == 0


def test_a_hole_in_front_of_a_batch_once_in_doubt_needs_a_new_producer() -> None:
    flight = InFlight[str]()
    a, b = _sent(flight, *"ab")
    for entry in (a, b):
        flight.failed(entry, now=0.0, chance=0.0, in_doubt=True)
    flight.due(FAR)
    flight.rejected(a)
    flight.out_of_order(b, now=0.0, chance=0.0)
    assert flight.must_renew
    assert flight.due(FAR) == []
    assert flight.renew() == []
    assert _items(flight.due(FAR)) == [("b", 0)]


def test_unknown_producer_gives_up_only_what_is_in_doubt() -> None:
    flight = InFlight[str]()
    a, b = _sent(flight, *"ab")
    flight.failed(a, now=0.0, chance=0.0, in_doubt=True)
    flight.failed(b, now=0.0, chance=0.0, in_doubt=False)
    for entry in flight.due(FAR):
        flight.forgotten(entry, now=0.0, chance=0.0)
    assert flight.must_renew
    assert [entry.item for entry in flight.renew()] == ["a"]
    assert _items(flight.due(FAR)) == [("b", 0)]


def test_renewed_without_anything_left_new_batches_may_go() -> None:
    flight = InFlight[str]()
    (a,) = _sent(flight, "a")
    flight.failed(a, now=0.0, chance=0.0, in_doubt=True)
    (a,) = flight.due(FAR)
    flight.forgotten(a, now=0.0, chance=0.0)
    assert flight.renew() == [a]
    assert flight.has_room
    assert flight.add("b", 1, FAR).sequence == 0


def test_out_of_order_with_nothing_in_front_means_that_the_log_lost_what_was_given_up() -> None:
    flight = InFlight[str]()
    flight.add("a", 2, deadline=1.0)
    b = flight.add("b", 2, FAR)
    assert [entry.item for entry in flight.expired(1.0)] == ["a"]
    flight.out_of_order(b, now=1.0, chance=0.0)
    assert flight.must_renew
    assert flight.renew() == []
    assert _items(flight.due(FAR)) == [("b", 0)]


def test_late_news_of_what_was_given_up_is_dropped() -> None:
    flight = InFlight[str]()
    a = flight.add("a", 1, deadline=1.0)
    flight.expired(1.0)
    assert not flight.acknowledged(a)
    assert not flight.failed(a, 1.0, 0.0, in_doubt=True)
    assert not flight.rejected(a)
    assert not flight.out_of_order(a, 1.0, 0.0)
    assert not flight.forgotten(a, 1.0, 0.0)
    assert len(flight) == 0


def test_sequences_begin_again_at_zero() -> None:
    flight = InFlight[str]()
    flight.acknowledged(flight.add("a", SEQUENCE_SPAN - 1, FAR))
    b, c = flight.add("b", 3, FAR), flight.add("c", 1, FAR)
    assert (b.sequence, c.sequence) == (SEQUENCE_SPAN - 1, 2)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12))
def test_pauses_double_up_to_the_longest(chances: list[float]) -> None:
    backoff = Backoff(0.1, 1.0)
    whole = [0.1, 0.2, 0.4, 0.8, *[1.0] * 8]
    for pause, chance in zip(whole, chances, strict=True):
        assert pause / 2 <= backoff.pause(chance) <= pause
    backoff.reset()
    assert backoff.pause(0.0) == pytest.approx(0.1)


def test_a_topic_made_again_is_sent_everything_from_the_beginning() -> None:
    flight = InFlight[str]()
    a, b, c = _sent(flight, *"abc")
    assert flight.acknowledged(a)
    flight.failed(b, now=0.0, chance=0.0, in_doubt=True)
    flight.failed(c, now=0.0, chance=0.0, in_doubt=False)
    flight.restart(5.0)
    assert _items(flight.due(5.0)) == [("b", 0), ("c", 2)]
    assert not b.in_doubt
    assert flight.has_room
    assert flight.add("d", 2, FAR).sequence == 4


def test_a_restart_with_nothing_in_flight_is_a_clean_slate() -> None:
    flight = InFlight[str]()
    (a,) = _sent(flight, "a")
    assert flight.acknowledged(a)
    flight.restart(0.0)
    assert flight.has_room
    assert flight.add("b", 2, FAR).sequence == 0


class _World:
    """A leader with a log, a wire that loses answers, and the producer's side of it.

    Requests are processed in order; `lose` ends the connection: what the leader has not read
    never arrives, and what it answered may be lost.  `make_again` deletes the topic and makes
    another of its name; what the old one held is in `old`.
    """

    def __init__(self) -> None:
        self.flight = InFlight[int]()
        self.now = 0.0
        self.made = 0
        self.producer = 0
        self.known = {0: 0}
        #: The topic that has the name, the newest that the producer has heard of, and the one
        #: that it sends to.
        self.topic = self.heard = self.mine = 0
        self.old: set[int] = set()
        self.log: list[int] = []
        self.stored: dict[tuple[int, int], int] = {}
        self.wire: deque[tuple[Entry[int], int, int, int]] = deque()
        self.answers: list[tuple[Entry[int], str]] = []
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.given_up: set[int] = set()

    def send(self, count: int, patience: float) -> None:
        if self.flight.has_room and self.mine == self.heard:
            entry = self.flight.add(self.made, count, self.now + patience)
            self.made += 1
            self.wire.append((entry, self.producer, entry.sequence, self.mine))

    def make_again(self) -> None:
        self.topic += 1
        self.old.update(self.log)
        self.log = []
        self.stored.clear()
        self.known = dict.fromkeys(self.known, 0)

    def process(self, mood: str) -> None:
        if not self.wire:
            return
        entry, producer, sequence, topic = self.wire.popleft()
        if topic != self.topic:
            word = "gone"
        elif entry.item % 7 == 3:  # a bad record: refused whenever it comes
            word = "rejected"
        elif producer not in self.known:
            word = "forgotten"
        elif (producer, sequence) in self.stored:
            assert self.stored[producer, sequence] == entry.item, "taken for another's duplicate"
            word = "ok"
        elif self.known[producer] != sequence:
            word = "out_of_order"
        elif mood == "refuse":
            word = "no"
        else:
            self.known[producer] = (sequence + entry.count) % SEQUENCE_SPAN
            self.stored[producer, sequence] = entry.item
            self.log.append(entry.item)
            word = "unknown" if mood == "time out" else "ok"
        self.answers.append((entry, word))

    def hear(self, which: int) -> None:
        if not self.answers:
            return
        entry, word = self.answers.pop(which % len(self.answers))
        self.news(entry, word)

    def news(self, entry: Entry[int], word: str) -> None:
        flight, now = self.flight, self.now
        match word:
            case "ok":
                if flight.acknowledged(entry):
                    self.acknowledged.add(entry.item)
            case "rejected":
                if flight.rejected(entry):
                    self.refused.add(entry.item)
            case "out_of_order":
                flight.out_of_order(entry, now, 0.5)
            case "forgotten":
                flight.forgotten(entry, now, 0.5)
            case "gone":
                flight.failed(entry, now, 0.5, in_doubt=False)
                self.heard = self.topic
            case _:
                flight.failed(entry, now, 0.5, in_doubt=word == "unknown")

    def lose(self) -> None:
        self.wire.clear()
        self.answers.clear()
        for entry in list(self.flight):
            if entry.out:
                self.news(entry, "unknown")

    def turn(self, seconds: float) -> None:
        self.now += seconds
        self.given_up |= {entry.item for entry in self.flight.expired(self.now)}
        if self.mine != self.heard and self.flight.quiet:
            self.mine = self.heard
            self.flight.restart(self.now)
        if self.flight.must_renew and self.flight.quiet:
            self.producer += 1
            self.known[self.producer] = 0
            self.given_up |= {entry.item for entry in self.flight.renew()}
        for entry in self.flight.due(self.now) if self.mine == self.heard else ():
            self.wire.append((entry, self.producer, entry.sequence, self.mine))

    def forget(self) -> None:
        self.known.pop(self.producer, None)

    def check(self) -> None:
        assert len(set(self.log)) == len(self.log), "stored twice"
        assert self.log == sorted(self.log), "stored out of order"
        assert self.acknowledged <= set(self.log) | self.old, "acknowledged and not in the log"
        assert not self.refused & set(self.log)
        entries = list(self.flight)
        assert len(entries) <= BATCHES_REMEMBERED
        assert [entry.ordinal for entry in entries] == sorted(entry.ordinal for entry in entries)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4), st.sampled_from([0.5, 5.0, FAR])),
        st.tuples(st.just("process"), st.sampled_from(["", "", "", "refuse", "time out"])),
        st.tuples(st.just("hear"), st.integers(0, 4)),
        st.tuples(st.just("lose")),
        st.tuples(st.just("turn"), st.sampled_from([0.0, 0.05, 1.0])),
        st.tuples(st.just("forget")),
        st.tuples(st.just("make_again")),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(_STEPS)
def test_the_log_holds_every_batch_once_and_in_order(steps: list[tuple[object, ...]]) -> None:
    world = _World()
    for name, *arguments in steps:
        getattr(world, str(name))(*arguments)
        world.check()
    world.lose()
    for _ in range(100):  # all is well again: it must come to an end
        world.turn(2.0)
        while world.wire or world.answers:
            world.process("")
            world.hear(0)
        world.check()
        if not len(world.flight):
            break
    assert not len(world.flight)
    assert world.acknowledged | world.refused | world.given_up == set(range(world.made))
    assert world.flight.has_room or world.flight.must_renew
