"""yak.net.rounds: turns, without a loop."""

from __future__ import annotations

import pytest

from tests.support.turns import Turns
from yak.net.rounds import (
    BODY_WORK,
    CROWD,
    HEADER_WORK,
    LIGHT,
    PAUSING,
    READ_WORK,
    REFUSED_PAUSE_S,
    ROUND,
    ROUND_S,
    SHARE,
    Rounds,
    pause_s,
    reading,
    work,
)
from yak.protocol import Frame, TooLarge


class Client:
    """Takes its share as long as it has something."""

    def __init__(self, rounds: Rounds, has: int) -> None:
        self.rounds, self.has, self.taken = rounds, has, 0

    def its_turn(self) -> int:
        share = min(self.rounds.share, self.has)
        self.has -= share
        self.taken += share
        if self.has:
            self.rounds.join(self)
        return share


def test_all_get_the_same_in_turn_and_a_round_ends() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    clients = [Client(rounds, 2000) for _ in range(20)]
    for client in clients:
        rounds.join(client)
    for _ in range(200):
        loop.turn()
        assert max(c.taken for c in clients) - min(c.taken for c in clients) <= SHARE
    taken = sum(client.taken for client in clients)
    assert 200 * (ROUND - 2 * SHARE) < taken <= 200 * (ROUND + SHARE)


def test_one_alone_gets_the_whole_round() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    client = Client(rounds, 1000)
    rounds.join(client)
    loop.turn()
    assert client.taken > ROUND // 2


def test_with_nobody_waiting_the_rounds_end_and_begin_again() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for _ in range(2):
        client = Client(rounds, SHARE)
        rounds.join(client)
        loop.turn()
        assert client.taken == SHARE
        loop.turn()
        assert loop.soon == []


def test_what_arrives_is_taken_at_once_up_to_a_round() -> None:
    """Of all together; then a share each, as where somebody waits already."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    assert rounds.at_once(0) == ROUND
    rounds.took(ROUND - SHARE - 1)
    assert rounds.at_once(0) == SHARE + 1
    rounds.took(SHARE + 1)
    assert rounds.at_once(0) == SHARE
    loop.turn()
    assert rounds.at_once(0) == ROUND
    rounds.join(Client(rounds, 1000))
    assert rounds.at_once(0) == SHARE


def test_a_share_is_smaller_where_many_wait() -> None:
    """All of them may arrive in one round of the loop, and of each a share is taken at once."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    shares = []
    for _ in range(1000):
        rounds.join(Client(rounds, 1000))
        shares.append(rounds.share)
    assert shares == sorted(shares, reverse=True)
    assert (shares[CROWD - 2], shares[CROWD - 1], shares[-1]) == (SHARE, SHARE // 2, 1)


def test_nothing_is_taken_at_once_of_who_waits_for_much_where_others_wait() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    assert rounds.at_once(LIGHT + 1) == ROUND
    rounds.took(ROUND)
    assert (rounds.at_once(LIGHT), rounds.at_once(LIGHT + 1)) == (SHARE, 0)
    loop.turn()
    rounds.join(Client(rounds, 1000))
    assert (rounds.at_once(LIGHT), rounds.at_once(LIGHT + 1)) == (SHARE, 0)


def test_after_a_whole_round_a_light_client_gets_the_less_at_once_the_more_requests_cost() -> None:
    """Or a few of them would make the others wait for a round each."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for price_s, shares in ((ROUND_S / 200, 8), (ROUND_S / 70, 4), (ROUND_S, 1)):
        for _ in range(60):
            rounds.took(SHARE)
            loop.now += SHARE * price_s
            loop.turn()
        rounds.took(ROUND)
        assert rounds.at_once(0) == shares
        assert rounds.at_once(LIGHT + 1) == 0
        loop.turn()


def test_work_grows_with_the_bytes() -> None:
    assert work(TooLarge(1)) == work(Frame(b"{}", b"")) == 1
    assert work(Frame(b"x" * 10 * HEADER_WORK, b"y" * 5 * BODY_WORK)) == 16
    assert reading(SHARE * BODY_WORK) == 0
    assert reading(SHARE * READ_WORK) == SHARE
    assert 0 < pause_s(0) < pause_s(500_000) < 2


@pytest.mark.parametrize(
    ("rounds_long", "least", "most"), [(0.05, 100, ROUND), (10, 8, 40), (100, 1, 2)]
)
def test_a_round_is_as_much_as_takes_its_time(rounds_long: float, least: int, most: int) -> None:
    """rounds_long: what 128 units of work take, with all that comes of it; and it changes."""
    seconds = rounds_long * ROUND_S
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    clients = [Client(rounds, 10**6) for _ in range(20)]
    for client in clients:
        rounds.join(client)
    for _ in range(2):
        for number in range(60):
            before = sum(client.taken for client in clients)
            loop.turn()
            took = sum(client.taken for client in clients) - before
            loop.now += took * seconds / ROUND
            if number > 30:
                assert least <= took <= most + SHARE
                assert took * seconds / ROUND < 2 * ROUND_S
        assert rounds.largest == SHARE


def test_a_large_part_is_taken_at_once_whatever_a_round_is() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for _ in range(20):
        rounds.took(SHARE)
        loop.now += 0.1
        loop.turn()
    assert rounds.at_once(0) == 1
    assert rounds.largest == ROUND


def test_a_share_is_smaller_where_a_request_costs_more_than_a_round_and_comes_back() -> None:
    """A large group's next member costs a thousand times what reading its request does."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    clients = [Client(rounds, 10**6) for _ in range(4)]
    for client in clients:
        rounds.join(client)
    for seconds, share in ((0.002, 1), (0.000_01, SHARE), (0.002, 1)):
        for _ in range(200):
            before = sum(client.taken for client in clients)
            loop.turn()
            loop.now += seconds * (sum(client.taken for client in clients) - before)
        assert rounds.share == share


def test_the_more_there_are_who_pause_the_longer_each_does() -> None:
    loop = Turns(seconds=REFUSED_PAUSE_S / 10)
    rounds = Rounds(loop, lambda: loop.now)
    crowd = 20 * PAUSING
    clients = [Client(rounds, 1) for _ in range(crowd)]
    for client in clients:
        rounds.pause(client, 0)
    heard = []
    while sum(client.taken for client in clients) < crowd:
        loop.turn()
        heard.append(sum(client.taken for client in clients))
    assert loop.now > crowd / PAUSING * REFUSED_PAUSE_S * 0.9
    assert heard[15] > 0, "who came first had not so long to wait"
    rounds.pause(alone := Client(rounds, 1), 0)
    for _ in range(15):
        loop.turn()
    assert alone.taken
