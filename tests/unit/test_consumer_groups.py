"""A consumer in a group whose session, topics and partitions change under it; what it asks for."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.consuming import consuming, fetches, take, until_acked, values
from tests.support.fake_broker import SILENT
from tests.support.fake_cluster import FakeCluster, Stored
from yak.consumer import AsyncConsumer
from yak.errors import YakError

pytestmark = pytest.mark.asyncio

T0, T1 = ("t", 0), ("t", 1)


# -- the session ----------------------------------------------------------------------------------


async def test_a_member_whose_session_has_lapsed_hands_out_nothing_until_it_is_renewed() -> None:
    async with consuming(*range(4), group="g", session_ms=1000) as (town, consumer):
        assert await values(consumer, 2) == [0, 1]
        town[1].on("heartbeat", lambda _: SILENT)
        asked = len(town[1].asks("heartbeat"))
        await town[1].until(lambda: len(town[1].asks("heartbeat")) > asked)
        inbox = consumer._inbox
        inbox._clock = lambda: inbox._lapses_at
        assert await consumer.poll(0.2) == [], "what it holds may be another's by now"
        assert inbox.held_back
        town[1].on("heartbeat", town.heartbeat)
        inbox._clock = time.monotonic
        assert await values(consumer, 2) == [2, 3]
        assert len(town.members) == 1


async def test_a_member_that_was_replaced_meanwhile_drops_what_it_had_fetched() -> None:
    async with consuming(*range(4), group="g", session_ms=1000) as (town, consumer):
        await take(consumer, 2)
        await consumer.ack()
        town[1].on("heartbeat", lambda _: SILENT)
        inbox = consumer._inbox
        inbox._clock = lambda: float("inf")  # it was stopped for a long time
        town.members.clear()
        town.assignment = []
        assert await consumer.poll(0.1) == []
        town[1].on("heartbeat", town.heartbeat)
        inbox._clock = lambda: 0.0
        await town[1].until(lambda: len(town.members) == 1)
        assert await consumer.poll(0.3) == []
        assert consumer.assignment == []


# -- topics and partitions that come and go --------------------------------------------------------


async def test_partitions_added_under_a_group_are_read_from_their_beginning() -> None:
    async with consuming(1, group="g", session_ms=1000, start="end") as (town, consumer):
        await consumer.start()
        town.topics["t"] = 2
        town.append("t", 1, "first of all")
        town.append("t", 0, 2)
        town.assign(T0, T1)
        assert set(await values(consumer, 2)) == {"first of all", 2}
        await town[1].until(lambda: town.acked.get(T1) == 0)


async def test_a_topic_made_again_under_a_group_is_read_from_its_beginning() -> None:
    async with consuming(*range(5), group="g", session_ms=1000) as (town, consumer):
        await take(consumer, 5)
        await consumer.ack()
        assert town.acked[T0] == 5
        town.delete("t")
        town.make("t", 1)
        town.acked.clear()
        town.append("t", 0, "new", "newer")
        town.assign(T0)
        assert await values(consumer, 2) == ["new", "newer"]
        assert await consumer.poll(0.01) == []
        await until_acked(town, 2)
        assert {ask.request["topic_ids"]["t"] for ask in town[1].asks("ack")[-1:]} == {"t#2"}


async def test_records_of_a_topic_that_was_deleted_are_not_acknowledged() -> None:
    async with consuming(*range(5), group="g", session_ms=1000, commit="manual") as (
        town,
        consumer,
    ):
        record = (await take(consumer, 5))[-1]
        town.delete("t")
        town.assign()
        await town[1].until(lambda: consumer.assignment == [])
        with pytest.raises(YakError, match="not this member's any more"):
            await consumer.ack(record)
        assert town.acked.get(T0) in (None, 0)


async def test_leaving_a_topic_that_was_deleted_just_now_is_no_error() -> None:
    """Nobody will be given again what was handled of it; what stays is acknowledged."""
    topics = {"t": 1, "u": 1}
    async with consuming(*range(3), group="g", topics=topics) as (town, _):
        town.append("u", 0, "kept")
        async with AsyncConsumer(
            "t", "u", bootstrap=town.bootstrap, group="g", start="beginning", wait_ms=50
        ) as consumer:
            await take(consumer, 4)
            town.delete("t")
        assert town.acked[("u", 0)] == 1
        assert town.members == []


# -- where to begin, and where to go ---------------------------------------------------------------


async def test_where_a_group_never_was_is_an_error_if_so_wished() -> None:
    async with consuming(*range(5), group="g", start="error") as (town, consumer):
        with pytest.raises(YakError, match=r"never acknowledged anything in t\[0\]") as caught:
            await consumer.poll(5)
        assert caught.value.name == "NO_OFFSET"
        consumer.seek("t", 0, 3)
        assert await values(consumer, 2) == [3, 4]
        assert town.acked.get(T0) is None


def at_times(town: FakeCluster, *times: int) -> None:
    for at in times:
        line = b'{"value":%d}\n' % at
        town.log.setdefault(T0, []).append(Stored(None, None, [line], town.end("t", 0), at))


async def test_going_to_a_time_to_the_beginning_and_to_the_end() -> None:
    async with consuming(group="g", topics={"t": 1}) as (town, consumer):
        at_times(town, 1000, 2000, 3000)
        assert await values(consumer, 3) == [1000, 2000, 3000]
        assert await consumer.seek_to_time(1500) == {T0: 1}
        assert await values(consumer, 2) == [2000, 3000]
        assert await consumer.seek_to_time(datetime.fromtimestamp(3, UTC), [T0]) == {T0: 2}
        assert await values(consumer, 1) == [3000]
        assert await consumer.seek_to_time(9000) == {T0: 3}
        assert await consumer.seek_to_beginning([T0]) == {T0: 0}
        assert await values(consumer, 1) == [1000]
        assert await consumer.seek_to_end() == {T0: 3}
        at_times(town, 4000)
        assert await values(consumer, 1) == [4000]
        with pytest.raises(YakError, match=r"t\[7\] is not assigned"):
            await consumer.seek_to_end([("t", 7)])


# -- what many partitions cost ---------------------------------------------------------------------


def told(town: FakeCluster) -> list[int]:
    """How many partitions each fetch named."""
    return [len(ask.request["partitions"]) for ask in fetches(town)]


async def test_a_hundred_partitions_with_little_data_are_asked_for_as_one() -> None:
    """Named once; from then on a fetch names only the partition that has moved."""
    topics = {"t": 100}
    async with consuming(topics=topics, wait_ms=1000, max_bytes=10**6) as (town, consumer):
        await consumer.start()
        await town[1].until(lambda: bool(told(town)))
        for number in range(30):
            town.append("t", number, number)
            assert await values(consumer, 1) == [number]
        assert told(town)[0] == 100
        assert sum(told(town)[1:]) <= 30
        assert len(told(town)) <= 33


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_hundred_partitions_without_data_are_waited_for_in_one_request(group: Any) -> None:
    async with consuming(topics={"t": 100}, wait_ms=100, group=group) as (town, consumer):
        begun = asyncio.get_running_loop().time()
        assert await consumer.poll(0.5) == []
        most = (asyncio.get_running_loop().time() - begun) / 0.1 + 2
        assert len(fetches(town)) <= most
