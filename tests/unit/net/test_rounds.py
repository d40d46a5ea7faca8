"""yak.net.rounds: turns, without a loop."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.turns import Turns
from yak.net.rounds import (
    ALONE,
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
    is_light,
    pause_s,
    reading,
    work,
)
from yak.protocol import Frame, TooLarge

#: How many things one client reads at a time, where a test does not say.
READ: Final = 500


class Client:
    """Takes its share until what it has read is done, and reads again as long as there is more.

    price: the work of one thing.  read: how many of them it reads at a time.
    """

    def __init__(
        self, loop: Turns, rounds: Rounds, has: int, price: int = 1, read: int = READ
    ) -> None:
        self.loop, self.rounds = loop, rounds
        self.has, self.price, self.read = has, price, read
        self.here, self.taken, self.light = min(has, read), 0, True

    @property
    def backlog(self) -> int:
        return self.here * self.price

    def come(self) -> None:
        self.here = min(self.has, self.read)
        self.rounds.join(self)

    def its_turn(self) -> int:
        share = min(max(self.rounds.share // self.price, 1), self.here)
        self.here -= share
        self.has -= share
        self.taken += share
        if self.here:
            self.rounds.join(self)
        elif self.has:
            self.loop.call_soon(self.come)
        return share * self.price


def busy(loop: Turns, rounds: Rounds, count: int, price: int = 1) -> list[Client]:
    """So many who always want more."""
    clients = [Client(loop, rounds, 10**6, price) for _ in range(count)]
    for client in clients:
        client.come()
    return clients


def test_all_get_the_same_in_turn_but_for_a_read_and_a_round_ends() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    clients = [Client(loop, rounds, 2000) for _ in range(20)]
    for client in clients:
        client.come()
    for _ in range(READ // SHARE):
        loop.turn()
        assert max(c.taken for c in clients) - min(c.taken for c in clients) <= SHARE
    for _ in range(200 - READ // SHARE):
        loop.turn()
        assert max(c.taken for c in clients) - min(c.taken for c in clients) <= READ
    taken = sum(client.taken for client in clients)
    assert 200 * (ROUND - 2 * SHARE) < taken <= 200 * (ROUND + SHARE)


def test_one_alone_gets_the_whole_round() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    client = Client(loop, rounds, 1000)
    client.come()
    loop.turn()
    assert client.taken > ROUND // 2


def test_with_nobody_waiting_the_rounds_end_and_begin_again() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for _ in range(2):
        client = Client(loop, rounds, SHARE)
        client.come()
        loop.turn()
        assert client.taken == SHARE
        loop.turn()
        assert loop.soon == []


def test_what_arrives_is_taken_at_once_up_to_a_round() -> None:
    """Of all together; then a share each, as where somebody waits already."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    assert rounds.at_once(light=True) == ROUND
    rounds.took(ROUND - SHARE - 1)
    assert rounds.at_once(light=True) == SHARE + 1
    rounds.took(SHARE + 1)
    assert rounds.at_once(light=True) == SHARE
    loop.turn()
    assert rounds.at_once(light=True) == ROUND
    Client(loop, rounds, 1000).come()
    assert rounds.at_once(light=True) == SHARE


def test_a_share_is_smaller_where_many_wait() -> None:
    """All of them may arrive in one round of the loop, and of each a share is taken at once."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    shares = []
    for _ in range(1000):
        busy(loop, rounds, 1)
        shares.append(rounds.share)
    assert shares == sorted(shares, reverse=True)
    assert (shares[CROWD - 2], shares[CROWD - 1], shares[-1]) == (SHARE, SHARE // 2, 1)


def test_nothing_is_taken_at_once_of_who_waits_for_much_where_others_wait() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    assert rounds.at_once(light=False) == ROUND
    rounds.took(ROUND)
    assert (rounds.at_once(light=True), rounds.at_once(light=False)) == (SHARE, 0)
    loop.turn()
    Client(loop, rounds, 1000).come()
    assert (rounds.at_once(light=True), rounds.at_once(light=False)) == (SHARE, 0)


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
        assert rounds.at_once(light=True) == shares
        assert rounds.at_once(light=False) == 0
        loop.turn()


@pytest.mark.parametrize("crowd", [1, 20, 1000])
def test_who_was_silent_comes_before_all_who_ask_for_much_until_it_has_made_up(crowd: int) -> None:
    """However many they are, and whatever has gathered of its own during a stall."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    light = Client(loop, rounds, 40)
    busy(loop, rounds, crowd, price=100)
    for _ in range(2 * crowd + 5):
        loop.turn()
    light.come()
    loop.turn()
    assert light.taken > 0, "in the next round"
    while light.has:
        before = light.taken
        loop.turn()
        assert light.taken > before


def test_a_light_client_catches_up_among_light_ones_who_have_more_of_what_is_dear() -> None:
    """As fast as if each had an equal part; else a stall would last as long as they go on."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for _ in range(4):
        Client(loop, rounds, 10**6, read=LIGHT).come()

    def turns(count: int) -> None:
        for _ in range(count):
            loop.turn()
            loop.now += 4 * ROUND_S

    turns(100)
    assert rounds.share == 1
    light = Client(loop, rounds, LIGHT // 3)
    light.come()
    turns(5 * LIGHT // 3)
    assert not light.has


def test_who_waits_for_much_comes_behind_who_does_not() -> None:
    """He may have little here: thousands of long polls come one by one."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    crowd = [Client(loop, rounds, 10**6, read=1) for _ in range(1000)]
    for client in crowd:
        client.light = False
        client.come()
    loop.turn()
    late = Client(loop, rounds, LIGHT)
    late.come()
    for _ in range(LIGHT):
        loop.turn()
    assert not late.has


@pytest.mark.parametrize(
    ("unanswered", "answered", "light"),
    [(0, 0, True), (1, 0, True), (2, 0, False), (5, 10, True), (LIGHT, 1000, True),
     (LIGHT + 1, 1000, False)],
)  # fmt: skip
def test_light_is_who_waits_for_little_and_had_as_much(
    unanswered: int, answered: int, *, light: bool
) -> None:
    assert is_light(unanswered, answered) == light


def test_who_has_much_has_a_turn_in_each_round_whatever_comes_of_others() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    for _ in range(ROUND):
        Client(loop, rounds, 10**6, read=2).come()
    [heavy] = busy(loop, rounds, 1)
    for number in range(1, 50):
        loop.turn()
        assert heavy.taken >= number


def test_a_turn_that_fails_costs_nobody_else_his() -> None:
    class Failing(Client):
        def its_turn(self) -> int:
            super().its_turn()
            raise ZeroDivisionError

    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    failing = Failing(loop, rounds, 1)
    failing.come()
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    other = Client(loop, rounds, 1)
    other.come()
    failing.has = failing.here = 1
    failing.come()
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    assert (failing.taken, other.taken) == (2, 1)


def test_who_comes_anew_again_and_again_does_not_come_before_others() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    [old] = busy(loop, rounds, 1)
    new = 0
    for _ in range(100):
        client = Client(loop, rounds, ROUND, read=ROUND)
        client.come()
        loop.turn()
        new += client.taken
    assert old.taken > new / 4


def test_who_was_silent_for_long_has_not_saved_up() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    old = busy(loop, rounds, 2)
    for _ in range(1000):
        loop.turn()
    before = [client.taken for client in old]
    late = Client(loop, rounds, 10**6)
    late.come()
    for _ in range(100):
        loop.turn()
    shares = [late.taken, *(client.taken - b for client, b in zip(old, before, strict=True))]
    assert max(shares) - min(shares) <= READ


def test_who_asks_for_dear_things_gets_the_fewer_of_them() -> None:
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    cheap, dear = Client(loop, rounds, 10**6), Client(loop, rounds, 10**6, 50, 10)
    cheap.come()
    dear.come()
    for _ in range(2000):
        loop.turn()
    assert 40 < cheap.taken / dear.taken < 60


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
    clients = busy(loop, rounds, 20)
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
    assert rounds.at_once(light=True) == ALONE
    assert rounds.largest == ROUND


def test_a_share_is_smaller_where_a_request_costs_more_than_a_round_and_comes_back() -> None:
    """A large group's next member costs a thousand times what reading its request does."""
    loop = Turns()
    rounds = Rounds(loop, lambda: loop.now)
    clients = busy(loop, rounds, 4)
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
    clients = [Client(loop, rounds, 1) for _ in range(crowd)]
    for client in clients:
        rounds.pause(client, 0)
    heard = []
    while sum(client.taken for client in clients) < crowd:
        loop.turn()
        heard.append(sum(client.taken for client in clients))
    assert loop.now > crowd / PAUSING * REFUSED_PAUSE_S * 0.9
    assert heard[15] > 0, "who came first had not so long to wait"
    rounds.pause(alone := Client(loop, rounds, 1), 0)
    for _ in range(15):
        loop.turn()
    assert alone.taken
