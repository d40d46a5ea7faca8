"""Who is cut off where all clients together leave too much unread."""

from __future__ import annotations

from functools import partial

from tests.support.server_stage import Client as Wire
from tests.support.server_stage import Recorder, Run, stage
from tests.support.turns import Turns
from yak import messages as m
from yak.config import MIB
from yak.net.server import ServerConnection
from yak.net.unread import LOOK_S, MADE_AT_ONCE, MUCH, PATIENCE_S, Client, Unread


class Reader(Client):
    """A client that holds what it was written, until it `reads`."""

    def __init__(self, number: int, since: float = 0.0) -> None:
        self.number = number
        self.unread_since = since
        self.choked = False
        self.held = 0
        self.read = 0
        self.cut = False

    @property
    def unsent_bytes(self) -> int:
        return self.held

    @property
    def read_bytes(self) -> int:
        return self.read

    def abort(self) -> None:
        self.cut = True
        self.held = 0

    def reads(self) -> None:
        self.read += self.held
        self.held = 0


class Stage(Turns):
    """Answers of `size` to be made; a turn takes a look's time.  made: whose, in that order."""

    def __init__(self, limit: int) -> None:
        super().__init__(LOOK_S)
        self.unread = Unread(limit, self, lambda: self.now)
        self.made: list[Reader] = []

    def write(self, reader: Reader, size: int) -> None:
        if not reader.held:
            reader.unread_since = self.now
        reader.held += size
        self.unread.wrote(reader, size)

    def ask(self, reader: Reader, size: int) -> None:
        def make() -> None:
            self.made.append(reader)
            self.write(reader, size)

        self.unread.when_room(reader, size, make)


def test_who_reads_is_never_cut_however_much_it_is_sent() -> None:
    stage, reader, other = Stage(100), Reader(1), Reader(2)
    for _ in range(1000):
        for one in (reader, other):
            stage.write(one, 90)
            one.reads()
    assert not reader.cut
    assert not other.cut


def test_beyond_the_limit_who_has_not_read_for_longest_is_cut_and_no_more_than_needed() -> None:
    stage = Stage(100)
    first, second, third = readers = [Reader(n) for n in range(3)]
    for stage.now, reader in ((5.0, first), (3.0, second), (9.0, third)):
        stage.write(reader, 40)
    assert [reader.cut for reader in readers] == [False, True, False]
    stage.write(third, 20)
    assert not first.cut, "100 bytes are allowed"


def test_the_last_one_is_not_cut_for_what_it_alone_leaves() -> None:
    stage, one = Stage(100), Reader(1)
    for _ in range(5):
        stage.write(one, 90)
    assert not one.cut


def test_a_round_makes_only_so_much() -> None:
    stage, reader = Stage(10**9), Reader(1)
    for _ in range(7):
        stage.ask(reader, MADE_AT_ONCE // 2)
    for count in (2, 4, 6, 7):
        assert len(stage.made) == count
        stage.turn()
    stage.turn()
    stage.turn()
    assert not stage.soon, "with nothing to make the rounds end"
    assert not stage.later


def test_what_is_made_later_is_made_of_each_client_in_turn() -> None:
    """One that asked a hundred times does not keep the others waiting for all of it."""
    stage, greedy, modest = Stage(10**9), Reader(1), Reader(2)
    for _ in range(100):
        stage.ask(greedy, MADE_AT_ONCE)
    stage.ask(modest, MADE_AT_ONCE)
    for _ in range(2):
        stage.turn()
    assert stage.made == [greedy, greedy, modest]


def test_clients_that_read_nothing_share_half_of_the_limit() -> None:
    """And whoever reads goes on with the rest, though he asks when they have asked before."""
    stage = Stage(40 * MIB)
    stopped = [Reader(n) for n in range(50)]
    for reader in stopped:
        stage.ask(reader, MIB)
    for _ in range(50):
        stage.turn()
    assert sum(reader.held for reader in stopped) == 20 * MIB
    assert not any(reader.cut for reader in stopped), "it is not long yet"
    reader, fresh = Reader(50), Reader(51)
    reader.read = MUCH
    for _ in range(10):
        stage.ask(reader, MIB)
        stage.turn()
        assert stage.made.pop() is reader
        reader.reads()
    stage.ask(fresh, MIB)
    stage.turn()
    assert fresh not in stage.made, "nobody knows whether it reads"


def test_where_many_wait_those_who_have_not_read_for_long_go_one_at_a_time() -> None:
    stage = Stage(40 * MIB)
    stopped = [Reader(n) for n in range(30)]
    for reader in stopped:
        stage.ask(reader, MIB)
    while sum(reader.held for reader in stopped) < 20 * MIB:
        stage.turn()
    assert not any(reader.cut for reader in stopped), "it is not long yet"
    stage.now = PATIENCE_S + 1
    gone = 0
    for _ in range(100):
        stage.turn()
        before, gone = gone, sum(reader.cut for reader in stopped)
        assert gone - before <= 1
        assert [reader.number for reader in stopped if reader.cut] == list(range(gone))
        assert sum(reader.held for reader in stopped) <= 20 * MIB
    assert len(stage.made) == 30, "all had theirs"
    assert gone == 10, "nobody waits any more"


def test_who_is_choked_or_gone_is_made_nothing() -> None:
    stage, choked, gone = Stage(10**9), Reader(1), Reader(2)
    choked.choked = True
    stage.write(gone, MADE_AT_ONCE)
    for reader in (choked, choked, gone):
        stage.ask(reader, MIB)
        assert stage.unread.waits(reader)
    stage.unread.forget(gone)
    for _ in range(5):
        stage.turn()
    assert not stage.made
    choked.choked = False
    stage.unread.reads_on(choked)
    stage.turn()
    stage.turn()
    assert stage.made == [choked, choked]
    assert not stage.unread.waits(choked)


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
