"""How a session ages, and that no lease outlives it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak import messages as m
from yak.core.document import Present
from yak.core.heartbeat import NUMBERS_REMEMBERED, Session
from yak.errors import Refused
from yak.model import Address

SESSION, LEASE = 2.0, 1.3
WINDOW = SESSION - LEASE


def joined(at: float = 0.0) -> Session:
    return Session(7, Address("127.0.0.1", 9092), Present("i", "d", (0, 0)), at)


def beat(session: Session, number: int, heard: int, at: float) -> m.BeatAnswer:
    return session.beat(m.Beat(id=number, number=number, heard=heard), at, WINDOW)


def test_a_session_counts_from_when_the_number_that_came_back_was_sent() -> None:
    session = joined(at=10.0)
    assert beat(session, 1, 0, 10.25).number == 1
    assert session.seen == 10.0
    answer = beat(session, 2, 1, 10.5)
    assert (answer.number, answer.heard) == (2, 2)
    assert session.seen == 10.25


def test_a_broker_that_does_not_hear_us_ages_however_often_it_beats() -> None:
    session = joined()
    answers = [beat(session, k, 0, k * 0.25) for k in range(1, 9)]
    assert session.seen == 0.0
    assert [answer.heard for answer in answers] == [1, 2, 2, 2, 2, 2, 2, 2]


def test_a_late_echo_renews_nothing_but_the_next_one_does() -> None:
    session = joined()
    assert beat(session, 1, 0, 0.8).heard == 0
    assert beat(session, 2, 1, 1.05).heard == 2
    assert session.seen == 0.8


def test_an_older_echo_after_a_newer_one_takes_nothing_back() -> None:
    session = joined()
    beat(session, 1, 0, 0.25)
    beat(session, 2, 1, 0.5)
    assert beat(session, 3, 0, 0.6).heard == 2
    assert session.seen == 0.25


def test_a_number_that_was_never_sent_is_refused() -> None:
    with pytest.raises(Refused, match="heard: 1 was never sent"):
        beat(joined(), 1, 1, 0.1)


def test_what_is_remembered_is_bounded_and_a_forgotten_echo_renews_nothing() -> None:
    session = joined()
    for number in range(1, NUMBERS_REMEMBERED + 2):
        beat(session, number, 0, 0.0)
    assert beat(session, 9999, 0, 0.0).heard < 9999
    assert beat(session, 10_000, NUMBERS_REMEMBERED, 0.0).heard == 10_000


def test_time_in_which_we_did_not_run_is_given_back() -> None:
    session = joined()
    beat(session, 1, 0, 0.25)
    session.give_back(5.0)
    assert session.seen == 5.0
    assert beat(session, 2, 1, 5.3).heard == 2


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1.5),  # seconds until the broker's next heartbeat
            st.floats(0, 1.5),  # its way to us, at least as long as the one before took
            st.floats(0, 1.5),  # our answer's way back
            st.floats(0, 3.0),  # how long we did not run before we took it
        ),
        max_size=30,
    )
)
def test_no_lease_outlives_its_session(steps: list[tuple[float, float, float, float]]) -> None:
    """Whatever the delays: at the moment of expiry every lease that was granted has ended."""
    session = joined()
    sent_at = {0: 0.0}
    coming: list[tuple[float, m.BeatAnswer]] = []
    heard, now, taken, lease = 0, 0.0, 0.0, LEASE
    for number, (pause, there, back, lost) in enumerate(steps, 1):
        now += pause
        heard = max([heard, *(answer.number for at, answer in coming if at <= now)])
        sent_at[number] = now
        taken = max(taken, now + there) + lost
        if lost > WINDOW:
            session.give_back(lost)
        if taken - session.seen > SESSION:
            break
        answer = beat(session, number, heard, taken)
        coming.append((taken + back, answer))
        lease = max(lease, sent_at[answer.heard] + LEASE)
        assert session.seen + SESSION >= lease - 1e-9
