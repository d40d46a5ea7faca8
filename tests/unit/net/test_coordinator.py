"""A broker's session with yak-zk, against a scripted one on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from yak import messages as m
from yak.config import Limits, Settings
from yak.errors import Fatal, Refused
from yak.model import Address
from yak.net.coordinator import CoordinatorSession
from yak.net.server import Server, ServerConnection
from yak.protocol import RequestDecoder, error_answer

PATIENCE_S = 20.0
FAST = Settings(heartbeat_ms=20, session_ms=400, lease_ms=200)


def a_view(version: int = 1, settings: Settings = FAST) -> m.ClusterView:
    return m.ClusterView(
        cluster="C", version=version, epoch=1, leader=1, isr=[1], settings=settings, brokers=[]
    )


class Zk:
    """Answers joins and heartbeats as the real one does, unless a test takes that over."""

    server: Server

    def __init__(self) -> None:
        self.joins: list[m.Join] = []
        self.beats: list[m.Beat] = []
        #: Whatever came, by kind, for `next`.
        self.seen: asyncio.Queue[m.Request] = asyncio.Queue()
        self.number = 0
        self.refusal: Refused | None = None
        #: Right behind the answer to a join.
        self.pushes: list[m.ClusterView] = []
        self.silent: set[type[m.Request]] = set()
        #: Heartbeats are answered, but renew nothing after this one.
        self.renew_up_to = 1_000_000
        self.connection: ServerConnection

    async def start(self, port: int = 0) -> Address:
        decoder = RequestDecoder(m.CoordinatorRequest)
        self.server = await Server.start("127.0.0.1", port, decoder, self, Limits())
        return self.server.address

    async def next(self, kind: type[m.Request]) -> Any:
        while True:
            request = await self.seen.get()
            if isinstance(request, kind):
                return request

    def opened(self, connection: ServerConnection, /) -> None:
        self.connection = connection

    def received(self, connection: ServerConnection, request: Any, _body: Any, /) -> None:
        self.seen.put_nowait(request)
        if type(request) in self.silent:
            connection.done(request.id)
            return
        answer: m.Answer
        match request:
            case m.Join() if self.refusal is None:
                self.joins.append(request)
                self.number = 0
                answer = m.JoinAnswer(view=a_view())
            case m.Beat() if self.refusal is None:
                self.beats.append(request)
                self.number += 1
                heard = min(request.number, self.renew_up_to)
                answer = m.BeatAnswer(number=self.number, heard=heard)
            case m.ProposeIsr() if self.refusal is None:
                answer = m.IsrAnswer(version=2, isr=request.isr)
            case _ if self.refusal is None:
                answer = m.Done()
            case _:
                answer = error_answer(self.refusal)
        connection.answer(request.id, answer)
        if isinstance(request, m.Join):
            for view in self.pushes:
                connection.push(view)

    def closed(self, connection: ServerConnection, /) -> None:
        """The broker will be back."""


class Broker:
    """What a broker tells its session, and hears of it."""

    def __init__(self, address: Address, *, wait_s: float = PATIENCE_S) -> None:
        self.views: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
        self.leases: asyncio.Queue[float] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.answers: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()
        self.may_beat = True
        self.end = self.seen = (0, 0)
        self.session = CoordinatorSession(
            address,
            identity=self.identity,
            may_beat=lambda: self.may_beat,
            on_view=lambda view, joined: self.views.put_nowait((view.version, joined)),
            on_lease=self.leases.put_nowait,
            on_lost=self.lost.put_nowait,
            wait_s=wait_s,
        )

    def identity(self) -> m.Join:
        return m.Join(
            id=0,
            broker=1,
            host="127.0.0.1",
            port=9092,
            cluster=None,
            disk="d1",
            inc="i1.1",
            state="whole",
            end=self.end,
            epoch=0,
            seen=self.seen,
        )

    def propose(self) -> None:
        self.session.propose_isr(1, 1, [1, 2], {2: "i2.1"}, self.answered)

    def answered(self, ok: bool, message: str) -> None:
        self.answers.put_nowait((ok, message))


@asynccontextmanager
async def running(zk: Zk) -> AsyncIterator[Broker]:
    """A broker whose session runs, against a yak-zk that listens."""
    address = await zk.start()
    broker = Broker(address)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(broker.session.run())
        yield broker
        await broker.session.leave()
        await task
        await zk.server.close(0.0)


Story = Callable[[Zk, Broker], Awaitable[None]]


def play(story: Story, *pushes: m.ClusterView) -> None:
    """pushes: what yak-zk sends right behind its answer to a join."""

    async def played() -> None:
        zk = Zk()
        zk.pushes = list(pushes)
        async with running(zk) as broker:
            await story(zk, broker)

    asyncio.run(played())


def test_a_join_brings_the_view_and_a_lease_and_heartbeats_follow() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        assert await broker.views.get() == (1, True)
        join_lease = await broker.leases.get()
        assert zk.joins[0].disk == "d1"
        first = await zk.next(m.Beat)
        assert (first.number, first.heard) == (1, 0)
        second = await zk.next(m.Beat)
        assert (second.number, second.heard) == (2, 1)
        assert await broker.leases.get() > join_lease

    play(story)


def test_a_heartbeat_says_where_the_log_ends_by_then() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        first = await zk.next(m.Beat)
        assert (first.end, first.seen) == ((0, 0), (0, 0))
        broker.end, broker.seen = (1, 7), (1, 3)
        while (later := await zk.next(m.Beat)).end == (0, 0):
            pass
        assert (later.end, later.seen) == ((1, 7), (1, 3))

    play(story)


def test_views_come_in_order_the_answer_to_the_join_first() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        for expected in ((1, True), (2, False), (3, False)):
            assert await broker.views.get() == expected
        zk.connection.push(a_view(4))
        assert await broker.views.get() == (4, False)

    play(story, a_view(2), a_view(3))


def test_a_lease_counts_from_the_heartbeat_that_yak_zk_says_it_heard() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        zk.renew_up_to = 2
        leases = [await broker.leases.get() for _ in range(6)]
        assert leases == sorted(leases)
        assert leases[1] > leases[0]
        assert leases[2] == leases[3] == leases[4] == leases[5]

    play(story)


def test_no_heartbeat_leaves_while_the_broker_may_not_beat() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await zk.next(m.Beat)
        broker.may_beat = False
        before = len(zk.beats)
        broker.propose()  # goes on its way all the same
        await zk.next(m.ProposeIsr)
        await asyncio.sleep(5 * FAST.heartbeat_ms / 1000)
        assert len(zk.beats) <= before + 1, "one may have been on its way"
        broker.may_beat = True
        await zk.next(m.Beat)

    play(story)


def test_no_join_either_while_it_may_not_beat() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await zk.next(m.Beat)
        broker.may_beat = False
        zk.connection.close("gone")
        await broker.lost.get()
        await asyncio.sleep(5 * FAST.heartbeat_ms / 1000)
        assert len(zk.joins) == 1
        broker.may_beat = True
        await zk.next(m.Join)

    play(story)


def test_after_a_loss_it_says_so_and_joins_as_it_is_by_then() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        assert await broker.views.get() == (1, True)
        broker.end = (1, 7)
        zk.connection.close("gone")
        assert "closed" in await broker.lost.get()
        assert await broker.views.get() == (1, True)
        assert [join.end for join in zk.joins] == [(0, 0), (1, 7)]
        again = await zk.next(m.Beat)
        while again.number != 1:
            again = await zk.next(m.Beat)
        assert again.heard == 0, "numbers belong to a session"

    play(story)


def test_a_yak_zk_that_does_not_answer_is_left() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.leases.get()
        zk.silent.add(m.Beat)
        assert "has not answered for 400 ms" in await broker.lost.get()
        zk.silent.clear()
        await zk.next(m.Join)

    play(story)


def test_a_refused_heartbeat_means_that_the_session_is_gone() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await zk.next(m.Beat)
        zk.refusal = Refused("STALE_EPOCH", "no session on this connection")
        assert "no session" in await broker.lost.get()
        zk.refusal = None
        await zk.next(m.Join)
        while len(zk.joins) < 2:
            await zk.next(m.Join)

    play(story)


def test_yak_zk_may_be_away_for_long_once_it_was_joined() -> None:
    async def played() -> None:
        zk = Zk()
        address = await zk.start()
        broker = Broker(address, wait_s=0.0)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            task = group.create_task(broker.session.run())
            await broker.views.get()
            await zk.server.close(0.0)
            await broker.lost.get()
            await asyncio.sleep(0.3)  # time for some attempts, all refused
            assert not task.done()
            await zk.start(address.port)
            assert await broker.views.get() == (1, True)
            await broker.session.leave()
            await task
        await zk.server.close(0.0)

    asyncio.run(played())


def test_a_proposal_is_granted_or_refused() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.views.get()
        broker.propose()
        request = await zk.next(m.ProposeIsr)
        assert (request.isr, request.incs) == ([1, 2], {"2": "i2.1"})
        assert await broker.answers.get() == (True, "")
        broker.may_beat = False
        zk.refusal = Refused("STALE_EPOCH", "look at it again")
        broker.propose()
        ok, message = await broker.answers.get()
        assert not ok
        assert "look at it again" in message
        zk.refusal = None

    play(story)


def test_a_proposal_without_a_session_is_a_no() -> None:
    async def played() -> None:
        broker = Broker(Address("127.0.0.1", 1))
        broker.propose()
        assert broker.answers.empty(), "never from within the call"
        ok, _ = await broker.answers.get()
        assert not ok

    asyncio.run(played())


@pytest.mark.parametrize("how", ["lost", "internal"])
def test_a_proposal_without_a_definite_answer_stays_unknown(how: str) -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.views.get()
        if how == "lost":
            zk.silent.add(m.ProposeIsr)
        else:
            broker.may_beat = False
            zk.refusal = Refused("INTERNAL", "a bug")
        broker.propose()
        await zk.next(m.ProposeIsr)
        zk.refusal = None
        zk.connection.close("gone")
        await broker.lost.get()
        assert broker.answers.empty()
        broker.may_beat = True

    play(story)


def test_a_resignation_is_sent() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.views.get()
        broker.session.resign(1, "nobody follows")
        request = await zk.next(m.Resign)
        assert (request.epoch, request.reason) == (1, "nobody follows")

    play(story)


def test_a_goodbye_is_said_and_ends_the_run_without_a_loss() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.views.get()
        await broker.session.leave()
        await zk.next(m.Leave)
        assert broker.lost.empty()

    play(story)


# -- the first join -------------------------------------------------------------------------------


def run_in_vain(broker: Callable[[], Broker]) -> Fatal:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await broker().session.run()

    with pytest.raises(Fatal) as e:
        asyncio.run(bounded())
    assert "\n" not in e.value.message
    return e.value


def test_nobody_there_ends_in_one_clear_line() -> None:
    error = run_in_vain(lambda: Broker(Address("127.0.0.1", 1), wait_s=0.1))
    assert "no yak-zk answers at 127.0.0.1:1, tried for 0.1 s (--zk-wait)" in error.message
    assert "--zk HOST:PORT" in error.message


def test_one_that_never_answers_the_join_ends_so_too() -> None:
    async def played() -> None:
        zk = Zk()
        zk.silent.add(m.Join)
        address = await zk.start()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Fatal, match="no yak-zk answers"):
                await Broker(address, wait_s=0.2).session.run()
        await zk.server.close(0.0)

    asyncio.run(played())


def test_a_refusal_ends_the_first_join_at_once() -> None:
    async def played() -> None:
        zk = Zk()
        zk.refusal = Refused("CLUSTER_MISMATCH", "broker 1 belongs to cluster X, not C")
        address = await zk.start()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Fatal, match=r"refuses this broker.*cluster X, not C"):
                await Broker(address, wait_s=PATIENCE_S).session.run()
        await zk.server.close(0.0)

    asyncio.run(played())


def test_a_refusal_after_the_first_join_is_no_reason_to_stop() -> None:
    async def story(zk: Zk, broker: Broker) -> None:
        await broker.views.get()
        zk.refusal = Refused("CLUSTER_MISMATCH", "who are you?")
        zk.connection.close("gone")
        await broker.lost.get()
        await zk.next(m.Join)
        await zk.next(m.Join)
        zk.refusal = None
        assert await broker.views.get() == (1, True)

    play(story)
