"""A producer whose topic is deleted and made again, against scripted brokers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_broker import SILENT, Ask, Result
from tests.support.fake_cluster import producing
from yak.core.partitioner import partition_of
from yak.errors import UndeliveredError, YakError

pytestmark = pytest.mark.asyncio


async def test_a_topic_deleted_is_made_again() -> None:
    async with producing({}) as (town, producer):
        await (await producer.send("new", 0, partition=0)).result()
        town.delete("new")
        await producer.send("new", 1, partition=0)
        await producer.flush(10)
        assert town.values("new") == [1]


async def test_what_is_in_flight_goes_to_the_topic_that_was_made_again() -> None:
    """Whether the old one had stored it or not: once, in order, with one outcome each."""
    held: list[Ask] = []

    def hold(ask: Ask) -> Result:
        held.append(ask)
        return SILENT

    async with producing(batch_records=2) as (town, producer):
        await (await producer.send("t", -1)).result()
        town[1].on("produce", hold)
        sent = [await producer.send("t", n) for n in range(20)]
        await town[1].until(lambda: len(held) == 5)
        stored = town.produce(held[0])  # its answer is late, and still good
        town.produce(held[1])  # stored, and never answered
        town.delete("t")
        town.make("t", 1)
        town[1].on("produce", town.produce)
        held[0].later(stored)
        for ask in held[2:]:
            ask.later(town.produce(ask))
        town[1].hang_up()
        await producer.flush(10)
        assert town.values("t") == list(range(2, 20))
        places = [await one.result() for one in sent]
        assert [place.offset for place in places] == [1, 2, *range(18)]
        late = town.produce(held[3])
        assert late["error"] == "UNKNOWN_TOPIC", "a late copy must not reach the new topic"
        assert producer.statistics.lost == 0


async def test_idle_partitions_begin_anew_as_well() -> None:
    """Their next number, in the old topic, would be a gap in the new one."""
    async with producing({"t": 2}) as (town, producer):
        for partition in (0, 1):
            await (await producer.send("t", 0, partition=partition)).result()
        town.delete("t")
        town.make("t", 2)
        for partition in (0, 1):
            await (await producer.send("t", 1, partition=partition)).result()
        assert (town.values("t", 0), town.values("t", 1)) == ([1], [1])


async def test_partitions_that_are_no_more_give_back_their_records() -> None:
    async with producing({"t": 4}) as (town, producer):
        for n in range(8):
            await producer.send("t", n, partition=n % 4)
        await producer.flush(10)
        town.delete("t")
        town.make("t", 2)
        for n in range(8, 16):
            await producer.send("t", n, partition=n % 4)
        with pytest.raises(UndeliveredError, match="made again with 2 partitions") as caught:
            await producer.flush(10)
        assert sorted(record.value for record in caught.value.records) == [10, 11, 14, 15]
        assert (town.values("t", 0), town.values("t", 1)) == ([8, 12], [9, 13])
        for n in range(20):
            await producer.send("t", n, key=f"k{n}")
        await producer.flush(10)
        for n in range(20):
            assert n in town.values("t", partition_of(f"k{n}".encode(), 2))
        town.topics["t"] = 4
        producer._accumulator.topic("t").grow(4)
        await (await producer.send("t", "grown", partition=3)).result()
        assert town.values("t", 3) == ["grown"]


async def test_an_idle_producer_hears_of_another_topic_and_makes_none() -> None:
    async with producing({"t": 4}, metadata_max_age_ms=20) as (town, producer):
        await (await producer.send("t", 0, partition=3)).result()
        town.delete("t")
        asked = len(town[1].asks("metadata")) + len(town[2].asks("metadata"))
        await town[1].until(
            lambda: len(town[1].asks("metadata")) + len(town[2].asks("metadata")) > asked + 3
        )
        assert town.topics == {}
        town.make("t", 2)
        topic = producer._accumulator.topic("t")
        await town[1].until(lambda: topic.topic_id == town.topic_ids["t"])
        with pytest.raises(YakError) as caught:
            await producer.send("t", 1, partition=3)
        assert caught.value.name == "UNKNOWN_PARTITION"
        await (await producer.send("t", 1, partition=1)).result()


async def test_ids_do_not_pile_up_over_topics_made_again() -> None:
    async with producing({"t": 1}, metadata_max_age_ms=20) as (town, producer):
        town.session_ms = 100
        for n in range(20):
            await (await producer.send("t", n)).result()
            town.delete("t")
            town.make("t", 1)
        assert town.given_ids >= 20
        await town[1].until(lambda: len(town.producers) == 1)
        await (await producer.send("t", "last")).result()
        assert town.values("t") == ["last"]


@pytest.mark.parametrize("acks", [1, 0])
async def test_what_is_not_numbered_goes_to_whatever_topic_has_the_name(acks: Any) -> None:
    async with producing({"t": 1}, acks=acks) as (town, producer):
        await producer.send("t", 0)
        await producer.flush(5)
        await town[1].until(lambda: town.values("t") == [0])
        town.delete("t")
        town.make("t", 1)
        await producer.send("t", 1)
        await producer.flush(5)
        await town[1].until(lambda: town.values("t") == [1])
        assert all("topic_id" not in ask.request for ask in town[1].asks("produce"))
