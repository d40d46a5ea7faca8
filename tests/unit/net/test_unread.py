"""Who is cut off where all clients together leave too much unread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.support.server_stage import Client as Wire
from tests.support.server_stage import Recorder, Run, stage
from yak import messages as m
from yak.net.server import ServerConnection
from yak.net.unread import MADE_AT_ONCE, Client, Unread


class Reader(Client):
    """A client that holds what it was written, until it `reads`."""

    def __init__(self, number: int, since: float = 0.0) -> None:
        self.number = number
        self.unread_since = since
        self.held = 0
        self.cut = False

    @property
    def unsent_bytes(self) -> int:
        return self.held

    def abort(self) -> None:
        self.cut = True
        self.held = 0


Rounds = list[Callable[[], None]]


@pytest.fixture
def rounds() -> Rounds:
    """What is to be called in the loop's next round."""
    return []


def write(unread: Unread, reader: Reader, size: int) -> None:
    reader.held += size
    unread.wrote(reader, size)


def test_who_reads_is_never_cut_however_much_it_is_sent(rounds: Rounds) -> None:
    unread, reader, other = Unread(100, rounds.append), Reader(1), Reader(2)
    for _ in range(1000):
        write(unread, reader, 90)
        reader.held = 0
        write(unread, other, 90)
        other.held = 0
    assert not reader.cut
    assert not other.cut


def test_who_has_not_read_for_longest_is_cut_and_no_more_than_needed(rounds: Rounds) -> None:
    unread = Unread(100, rounds.append)
    first, second, third = (Reader(n, since) for n, since in ((1, 5.0), (2, 3.0), (3, 9.0)))
    for reader in (first, second, third):
        write(unread, reader, 40)
    assert [reader.cut for reader in (first, second, third)] == [False, True, False]
    write(unread, third, 20)
    assert not first.cut, "100 bytes are allowed"


def test_the_last_one_is_not_cut_for_what_it_alone_leaves(rounds: Rounds) -> None:
    unread, one = Unread(100, rounds.append), Reader(1)
    for _ in range(5):
        write(unread, one, 90)
    assert not one.cut


def test_a_round_makes_only_so_much(rounds: Rounds) -> None:
    unread, reader = Unread(10**9, rounds.append), Reader(1)
    made: list[int] = []

    def make() -> None:
        made.append(len(made))
        write(unread, reader, MADE_AT_ONCE // 2)
        reader.held = 0

    while unread.room_now:
        make()
    assert len(made) == 2
    for _ in range(5):
        unread.make_later(reader, make)
    for count in (4, 6, 7):
        (next_round,) = rounds
        rounds.clear()
        next_round()
        assert len(made) == count
    assert unread.room_now
    rounds.pop()()
    assert not rounds, "with nothing to make the rounds end"


def test_clients_that_stop_reading_hold_no_more_than_the_limit(run: Run) -> None:
    """Over real sockets, each of which takes some megabytes; who reads is served all the while."""
    body = b"x" * 8_000_000
    limit = 12_000_000

    async def play() -> None:
        handler = Recorder(answering=False)
        async with stage(handler, max_unread_bytes=limit, max_unsent_bytes=10_000_000) as on:

            async def serve(client: Wire, id_: int) -> None:
                client.ask(id_)
                await handler.until(lambda: bool(handler.taken))
                connection, request, _ = handler.taken.pop()
                connection.answer(request.id, m.Done(), [body])
                connection.flush()

            good = await on.dial()
            for number in range(8):
                await serve(await on.dial_slow(), number)
                held = sum(one.unsent_bytes for one in on.server.connections.values())
                assert held <= limit + len(body), "the limit, and the answer that exceeded it"
                await serve(good, number)
                assert await good.receive() == ({"id": number, "ok": True}, body)
            assert len(handler.gone) >= 4
            assert all(one.number != 1 for one in handler.gone)

    run(play())


def test_small_answers_of_one_turn_count_before_they_are_written(run: Run) -> None:
    """Ten thousand polls that one append wakes are answered in one turn, and leave at its end."""
    body = b"x" * 900_000

    async def play() -> None:
        handler = Recorder(answering=False)
        async with stage(handler) as on:
            clients = [await on.dial() for _ in range(40)]
            for number, client in enumerate(clients):
                client.ask(number)
            await handler.until(lambda: len(handler.taken) == len(clients))
            made = 0

            def make(connection: ServerConnection, id_: m.RequestId) -> None:
                nonlocal made
                made += 1
                connection.answer(id_, m.Done(), [body])

            for connection, request, _ in handler.taken:
                connection.when_room(partial(make, connection, request.id))
            assert made == -(-MADE_AT_ONCE // len(body)), "the others wait for the next rounds"
            for number, client in enumerate(clients):
                assert (await client.receive())[0]["id"] == number
            assert not handler.gone

    run(play())


def test_what_is_made_later_is_made_of_each_client_in_turn(rounds: Rounds) -> None:
    """One that asked a hundred times does not keep the others waiting for all of it."""
    unread = Unread(10**9, rounds.append)
    greedy, modest = Reader(1), Reader(2)
    write(unread, greedy, MADE_AT_ONCE)
    made: list[Reader] = []
    for reader in (*[greedy] * 100, modest):
        unread.make_later(reader, lambda reader=reader: made.append(reader))  # type: ignore[misc]  # now
    rounds.pop()()
    assert made[:2] == [greedy, modest]
    assert len(made) == 101
