"""Consumers against scripted brokers, and how a test takes from them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.fake_broker import Ask
from tests.support.fake_cluster import FakeCluster, fake_cluster
from yak.consumer import AsyncConsumer, Consumer
from yak.errors import YakError
from yak.model import Record


@asynccontextmanager
async def consuming(
    *values: Any, topics: dict[str, int] | None = None, **options: Any
) -> AsyncIterator[tuple[FakeCluster, AsyncConsumer]]:
    """A consumer that reads "t", which holds these values, from the beginning."""
    async with fake_cluster(topics=topics) as town:
        if values:
            town.append("t", 0, *values)
        options.setdefault("start", "beginning")
        options.setdefault("wait_ms", 50)
        consumer = AsyncConsumer("t", bootstrap=town.bootstrap, **options)
        try:
            yield town, consumer
        finally:
            with contextlib.suppress(YakError):
                await consumer.close()


async def take(consumer: AsyncConsumer, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(10):
        while len(records) < count:
            records += await consumer.poll(max_records=count - len(records))
    return records


async def values(consumer: AsyncConsumer, count: int) -> list[Any]:
    return [record.value for record in await take(consumer, count)]


def fetches(town: FakeCluster) -> list[Ask]:
    return [ask for broker in town.brokers for ask in broker.asks("fetch")]


async def until_acked(town: FakeCluster, offset: int, where: tuple[str, int] = ("t", 0)) -> None:
    await town[1].until(lambda: town.acked.get(where) == offset)


@asynccontextmanager
async def elsewhere(**options: Any) -> AsyncIterator[tuple[FakeCluster, Consumer]]:
    async with fake_cluster(topics={"t": 1}) as town:
        options = {"start": "beginning", "wait_ms": 50, **options}
        yield (
            town,
            await asyncio.to_thread(lambda: Consumer("t", bootstrap=town.bootstrap, **options)),
        )
