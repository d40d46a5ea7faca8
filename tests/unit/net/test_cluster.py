"""A client's view of the cluster against scripted brokers: finding the leader, and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.fake_broker import DROP, SILENT, Ask, FakeBroker, Result, Step, refuse
from yak import errors
from yak import messages as m
from yak.errors import RetriableError, YakError
from yak.model import Address
from yak.net.cluster import PROBE_EVERY_S, PROBE_S, SUSPECT_S, Cluster

pytestmark = pytest.mark.asyncio


class Town:
    """Three scripted brokers that agree on who leads, as `lead` says."""

    def __init__(self, brokers: list[FakeBroker]) -> None:
        self.brokers = brokers
        self.lead(1, 1)
        for broker in brokers:
            broker.on("metadata", self.metadata)

    def lead(self, leader: int | None, epoch: int) -> None:
        self.leader = leader
        self.epoch = epoch

    def metadata(self, _: Ask) -> Result:
        brokers = [
            {"id": b.id, "host": b.address.host, "port": b.address.port, "live": True}
            for b in self.brokers
        ]
        return {
            "cluster": "c",
            "epoch": self.epoch,
            "leader": self.leader,
            "isr": [1, 2, 3],
            "brokers": brokers,
            "topics": {},
        }

    def __getitem__(self, number: int) -> FakeBroker:
        return self.brokers[number - 1]

    def hint(self, number: int) -> Step:
        address = self[number].address
        leader = {"id": number, "host": address.host, "port": address.port}
        return refuse("NOT_LEADER", leader=leader)


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    async with FakeBroker(1) as one, FakeBroker(2) as two, FakeBroker(3) as three:
        yield Town([one, two, three])


def groups(*names: str) -> Step:
    return lambda _: {"groups": list(names)}


@asynccontextmanager
async def cluster(*bootstrap: Address) -> AsyncIterator[Cluster]:
    client = Cluster(bootstrap)
    try:
        yield client
    finally:
        await client.close()


async def _groups(
    client: Cluster, timeout_s: float = 10.0, *, repeatable: bool = True
) -> list[str]:
    answer, _ = await client.ask_leader(
        m.Groups(id=0), m.GroupsAnswer, timeout_s=timeout_s, repeatable=repeatable
    )
    return answer.groups


async def test_the_leader_is_found_from_any_broker() -> None:
    async with town() as t, cluster(t[3].address) as client:
        t[1].on("groups", groups("g"))
        assert await _groups(client) == ["g"]
        assert (client.epoch, client.leader) == (1, t[1].address)
        assert client.brokers == {n: t[n].address for n in (1, 2, 3)}


async def test_dead_addresses_in_the_list_are_passed_over() -> None:
    async with town() as t:
        t[2].stop()
        async with cluster(t[2].address, t[3].address) as client:
            t[1].on("groups", groups("g"))
            assert await _groups(client) == ["g"]
            assert (await client.metadata()).leader == 1


async def test_a_hint_is_followed_at_once() -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", t.hint(2))
        t[2].on("groups", groups("of two"))
        assert await _groups(client) == ["of two"]
        assert len(t[1].asks("groups")) == 1


async def test_two_stale_hints_that_point_at_each_other_end_at_the_deadline_without_spinning() -> (
    None
):
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", t.hint(2))
        t[2].on("groups", t.hint(1))
        with pytest.raises(errors.TimeoutError, match="as scripted"):
            await _groups(client, 0.5)
        assert len(t[1].asks("groups")) < 20


async def test_a_leader_that_died_is_replaced_by_the_one_that_others_name() -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", groups("one"))
        t[2].on("groups", groups("two"))
        assert await _groups(client) == ["one"]
        t[1].stop()
        asking = asyncio.ensure_future(_groups(client))
        await t[2].until(lambda: len(t[2].asks("metadata")) >= 3)
        assert not asking.done()
        t.lead(2, 2)
        assert await asking == ["two"]


async def test_a_hung_leader_is_left_as_soon_as_another_is_named() -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", groups("one"))
        t[2].on("groups", groups("two"))
        assert await _groups(client) == ["one"]
        t[1].hung = True
        loop = asyncio.get_running_loop()
        asking = asyncio.ensure_future(_groups(client, 30.0))
        started = loop.time()
        await t[2].until(lambda: len(t[2].asks("metadata")) >= 3)
        t.lead(2, 2)
        changed = loop.time()
        assert await asking == ["two"]
        assert changed - started >= SUSPECT_S
        assert loop.time() - changed < 2 * PROBE_EVERY_S + 0.3


async def test_a_slow_leader_that_still_leads_is_not_left() -> None:
    held: list[Ask] = []

    def hold(ask: Ask) -> Result:
        held.append(ask)
        return SILENT

    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", hold)
        asking = asyncio.ensure_future(_groups(client))
        await t[3].until(lambda: len(t[3].asks("metadata")) >= 3)
        held[0].later({"groups": ["late"]})
        assert await asking == ["late"]
        assert len(held) == 1


async def test_an_older_epoch_changes_nothing() -> None:
    async with town() as t, cluster(t[2].address) as client:
        t.lead(2, 5)
        await client.metadata()
        t.lead(1, 4)
        await client.metadata()
        assert (client.epoch, client.leader) == (5, t[2].address)


@pytest.mark.parametrize("name", ["NO_LEADER", "NOT_ENOUGH_REPLICAS", "OVERLOADED"])
async def test_what_changed_nothing_is_asked_again_whatever_it_is(name: str) -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", refuse(name), refuse(name), groups("g"))
        assert await _groups(client, repeatable=False) == ["g"]


@pytest.mark.parametrize("step", [refuse("REQUEST_TIMED_OUT"), lambda _: DROP])
async def test_what_is_in_doubt_is_asked_again_only_if_it_may_be(step: Step) -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", step, groups("g"))
        assert await _groups(client) == ["g"]
        t[1].on("groups", step, groups("g"))
        with pytest.raises(RetriableError) as caught:
            await _groups(client, repeatable=False)
        assert caught.value.name in ("REQUEST_TIMED_OUT", "CONNECTION")


async def test_what_no_repetition_heals_is_raised_at_once() -> None:
    async with town() as t, cluster(t[1].address) as client:
        for name in ("INVALID_TOPIC", "UNKNOWN_TOPIC"):
            t[1].on("groups", refuse(name, retriable=name == "UNKNOWN_TOPIC"))
            with pytest.raises(YakError) as caught:
                await _groups(client)
            assert caught.value.name == name


async def test_nobody_there_is_said_with_what_was_tried() -> None:
    async with FakeBroker() as broker:
        address = broker.address
    async with cluster(address) as client:
        with pytest.raises(errors.TimeoutError, match=str(address.port)) as caught:
            await _groups(client, 0.3)
        assert "cannot connect" in str(caught.value)
        with pytest.raises(errors.TimeoutError):
            await client.metadata(timeout_s=0.3)


async def test_a_leader_that_has_taken_it_and_does_not_answer_is_no_trouble_to_reach() -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", lambda _: SILENT)
        with pytest.raises(errors.TimeoutError, match="last trouble: none; does one of them lead"):
            await _groups(client, 0.3)


@pytest.mark.parametrize(
    ("leader", "steps", "why"),
    [
        (1, [refuse("NOT_ENOUGH_REPLICAS")], ["as scripted"]),
        (None, [groups("g")], ["no broker leads"]),
        (1, [lambda _: SILENT], []),
    ],
)
async def test_who_waits_is_told_why_unless_it_is_for_the_leader_s_own_work(
    leader: int | None, steps: list[Step], why: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yak.net.cluster.WAITING_S", 0.1)
    async with town() as t, cluster(t[1].address) as client:
        t.lead(leader, 1)
        t[1].on("groups", *steps)
        told: list[str] = []
        client.on_waiting = told.append
        with pytest.raises(errors.TimeoutError):
            await _groups(client, 0.6)
        assert len(told) >= 2 if why else not told, "again and again"
        assert all(word in text for word in why for text in told)


async def test_nobody_there_is_waited_for_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.net.cluster.WAITING_S", 0.2)
    async with FakeBroker() as broker:
        address = broker.address
    async with cluster(address) as client:
        told: list[str] = []
        client.on_waiting = told.append
        with pytest.raises(errors.TimeoutError):
            await client.metadata(timeout_s=0.3)
        assert len(told) == 1
        assert f"cannot connect to {address}" in told[0]


async def test_a_leader_that_takes_too_long_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yak.net.cluster.WAITING_S", 0.1)
    monkeypatch.setattr("yak.net.cluster.SLOW_S", 0.3)
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", lambda _: SILENT)
        told: list[str] = []
        client.on_waiting = told.append
        with pytest.raises(errors.TimeoutError):
            await _groups(client, 0.5)
        assert set(told) == {f"{t[1].address}, which leads, does not answer"}


async def test_any_broker_will_do_where_one_hangs() -> None:
    async with town() as t, cluster(t[1].address, t[2].address) as client:
        t[1].hung = True
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert (await client.metadata()).epoch == 1
        assert loop.time() - started < 2 * PROBE_S


async def test_closed_is_closed() -> None:
    async with town() as t, cluster(t[1].address) as client:
        t[1].on("groups", lambda _: SILENT)
        connection = await client.leader_connection()
        waiting = client.send_to(connection, m.Groups(id=0))
        await client.close()
        with pytest.raises(RetriableError):
            await waiting
        with pytest.raises(YakError) as caught:
            await _groups(client)
        assert caught.value.name == "CLOSED"
