"""aiokafka on uvloop: `send` without waiting for each, `getmany`."""

from __future__ import annotations

import asyncio
import uuid

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.clients.common import (
    Clock,
    Options,
    age,
    measured,
    parse,
    report,
    send_at_rate,
)

_IN_FLIGHT = 10_000


async def produce(options: Options) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=options.address, acks="all", linger_ms=5, max_batch_size=1_000_000
    )
    await producer.start()
    value = b"x" * options.size
    await producer.send_and_wait(options.topic, value)
    clock = Clock()
    last = None
    for number in range(options.records):
        last = await producer.send(options.topic, value)
        if number % _IN_FLIGHT == 0:
            await last
    if last is not None:
        await last
    await producer.flush()
    report(options.records, clock.seconds)
    await producer.stop()


async def consume(options: Options) -> None:
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.address,
        group_id=options.group or uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=bool(options.group),
        max_poll_records=10_000,
    )
    await consumer.start()
    count = sum(map(len, (await consumer.getmany(timeout_ms=60_000, max_records=1)).values()))
    clock = Clock()
    while count < options.records:
        found = await consumer.getmany(timeout_ms=10_000)
        if not found:
            break
        count += sum(map(len, found.values()))
    report(count, clock.seconds)
    await consumer.stop()


async def e2e(options: Options) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=options.address, acks="all", linger_ms=0)
    consumer = AIOKafkaConsumer(bootstrap_servers=options.address, fetch_max_wait_ms=500)
    await producer.start()
    await producer.send_and_wait(options.topic, b"0" * options.size)
    await consumer.start()
    consumer.assign([TopicPartition(options.topic, 0)])
    await consumer.seek_to_end()
    await consumer.position(TopicPartition(options.topic, 0))
    took: list[float] = []

    async def receive() -> None:
        while len(took) < options.records:
            found = await consumer.getmany(timeout_ms=10_000)
            if not found:
                return
            took.extend(age(one.value) for records in found.values() for one in records)

    receiving = asyncio.ensure_future(receive())
    clock = Clock()
    await send_at_rate(options, lambda value: producer.send(options.topic, value))
    await receiving
    report(len(took), clock.seconds, measured(options, took))
    await producer.stop()
    await consumer.stop()


if __name__ == "__main__":
    _options = parse()
    uvloop.run({"produce": produce, "consume": consume, "e2e": e2e}[_options.kind](_options))
