"""yak.net.rounds: turns, without a loop."""

from __future__ import annotations

from collections.abc import Callable

from yak.net.rounds import BODY_WORK, HEADER_WORK, ROUND, SHARE, Rounds, pause_s, reading, work
from yak.protocol import Frame, TooLarge


class Loop:
    """What was called for its next round."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def turn(self) -> None:
        (due,) = self.due
        self.due.clear()
        due()


class Client:
    """Takes its share as long as it has something."""

    def __init__(self, rounds: Rounds, has: int) -> None:
        self.rounds, self.has, self.taken = rounds, has, 0

    def its_turn(self) -> int:
        share = min(SHARE, self.has)
        self.has -= share
        self.taken += share
        if self.has:
            self.rounds.join(self)
        return share


def test_all_get_the_same_in_turn_and_a_round_ends() -> None:
    loop = Loop()
    rounds = Rounds(loop.due.append)
    clients = [Client(rounds, 2000) for _ in range(20)]
    for client in clients:
        rounds.join(client)
    for _ in range(200):
        loop.turn()
        assert max(c.taken for c in clients) - min(c.taken for c in clients) <= SHARE
    taken = sum(client.taken for client in clients)
    assert 200 * (ROUND - 2 * SHARE) < taken <= 200 * (ROUND + SHARE)


def test_one_alone_gets_the_whole_round() -> None:
    loop = Loop()
    rounds = Rounds(loop.due.append)
    client = Client(rounds, 1000)
    rounds.join(client)
    loop.turn()
    assert client.taken > ROUND // 2


def test_with_nobody_waiting_the_rounds_end_and_begin_again() -> None:
    loop = Loop()
    rounds = Rounds(loop.due.append)
    for _ in range(2):
        client = Client(rounds, SHARE)
        rounds.join(client)
        loop.turn()
        assert client.taken == SHARE
        loop.turn()
        assert loop.due == []


def test_what_arrives_is_taken_at_once_up_to_a_round() -> None:
    """Of all together; then a share each, as where somebody waits already."""
    loop = Loop()
    rounds = Rounds(loop.due.append)
    assert rounds.at_once == ROUND
    rounds.took(ROUND - SHARE - 1)
    assert rounds.at_once == SHARE + 1
    rounds.took(SHARE + 1)
    assert rounds.at_once == SHARE
    loop.turn()
    assert rounds.at_once == ROUND
    rounds.join(Client(rounds, 1000))
    assert rounds.at_once == SHARE


def test_work_grows_with_the_bytes() -> None:
    assert work(TooLarge(1)) == work(Frame(b"{}", b"")) == 1
    assert work(Frame(b"x" * 10 * HEADER_WORK, b"y" * 5 * BODY_WORK)) == 16
    assert reading(SHARE * BODY_WORK) == 0
    assert reading(2 * SHARE * BODY_WORK) == 2 * SHARE
    assert 0 < pause_s(0) < pause_s(500_000) < 2
