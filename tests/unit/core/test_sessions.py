"""Silence, by the clock that is handed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yak.core.sessions import SPARE_ENTRIES, Sessions


def silent(sessions: Sessions[str], now: float) -> list[str]:
    return sorted(sessions.expired(now))


def test_whoever_is_silent_for_a_whole_session_is_taken_out_once() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.open("a", 10, now=100)
    assert silent(sessions, 109.9) == []
    assert silent(sessions, 110) == ["a"]
    assert silent(sessions, 120) == []
    assert "a" not in sessions


def test_whoever_is_heard_of_has_a_session_from_then_on() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.open("a", 10, now=100)
    sessions.touch("a", 108)
    assert silent(sessions, 117.9) == []
    assert silent(sessions, 118) == ["a"]


def test_a_touch_opens_no_session() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.touch("a", 100)
    assert "a" not in sessions
    assert silent(sessions, 1000) == []


def test_whoever_has_left_is_not_silent() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.open("a", 10, now=100)
    sessions.close("a")
    assert silent(sessions, 1000) == []


def test_opened_again_with_a_shorter_session_the_shorter_one_counts() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.open("a", 100, now=100)
    sessions.open("a", 5, now=101)
    assert sessions.next_deadline() <= 106
    assert silent(sessions, 106) == ["a"]


def test_a_restart_gives_everybody_a_full_session() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.open("a", 10, now=100)
    sessions.open("b", 20, now=100)
    sessions.restart(109)
    assert silent(sessions, 118.9) == []
    assert silent(sessions, 119) == ["a"]
    assert silent(sessions, 129) == ["b"]


def test_without_anybody_there_is_no_deadline() -> None:
    assert Sessions[str]().next_deadline() == float("inf")


def test_who_comes_and_goes_leaves_nothing_behind() -> None:
    """A gone producer is remembered for a day: an entry for each return would last as long."""
    sessions: Sessions[str] = Sessions()
    for n in range(10_000):
        sessions.open("a", 86_400, now=n)
        sessions.close("a")
        sessions.open(f"once {n}", 86_400, now=n)
        sessions.close(f"once {n}")
    sessions.open("b", 86_400, now=10_000)
    assert len(sessions._heap) <= SPARE_ENTRIES + 2
    assert silent(sessions, 10_000 + 86_400) == ["b"]


def test_the_first_is_taken_out_before_its_time() -> None:
    sessions: Sessions[str] = Sessions()
    for number, key in enumerate("abcd"):
        sessions.open(key, 100, now=number)
    sessions.close("a")
    sessions.touch("b", 50)
    assert [sessions.take_first() for _ in range(4)] == ["c", "d", "b", None]
    assert not sessions
    assert silent(sessions, 1000) == []


STEP = st.tuples(
    st.sampled_from(["open", "touch", "close", "restart", "look", "take"]),
    st.sampled_from("abc"),
    st.integers(0, 8),
)


@given(st.lists(STEP, max_size=40))
def test_beside_a_plain_dict_of_deadlines(steps: list[tuple[str, str, int]]) -> None:
    sessions: Sessions[str] = Sessions()
    model: dict[str, tuple[int, int]] = {}
    now = 0
    for what, key, number in steps:
        now += number
        if what == "open":
            sessions.open(key, number + 1, now)
            model[key] = (number + 1, now + number + 1)
        elif what == "touch":
            sessions.touch(key, now)
            if key in model:
                model[key] = (model[key][0], now + model[key][0])
        elif what == "close":
            sessions.close(key)
            model.pop(key, None)
        elif what == "restart":
            sessions.restart(now)
            model = {k: (length, now + length) for k, (length, _) in model.items()}
        elif what == "take":
            taken = sessions.take_first()
            first = min((deadline for _, deadline in model.values()), default=None)
            assert (taken is None) == (first is None)
            if taken is not None:
                assert model.pop(taken)[1] == first
        else:
            gone = sorted(k for k, (_, deadline) in model.items() if deadline <= now)
            assert silent(sessions, now) == gone
            for k in gone:
                del model[k]
        assert all((k in sessions) == (k in model) for k in "abc")
        assert len(sessions) == len(model)
        assert sessions.next_deadline() <= min((d for _, d in model.values()), default=float("inf"))
