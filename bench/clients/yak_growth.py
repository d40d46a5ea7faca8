"""yak's clients for the growth curves: into and out of many topics, many members, many connections.

    produce   `--topics` topics, each chunk of 10,000 records into the next one
    consume   one consumer of all of them, from their beginnings
    group     `--members` members of a group in this process, until all is acknowledged
    hold      `--connections` connections, each with a fetch that waits; until standard input ends

As bench/clients/common.py has it: one JSON document with `records` and `seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bench.clients.common import Clock, report
from yak import AsyncConsumer, Consumer, Producer
from yak import messages as m
from yak.model import MAX_INT, parse_addresses
from yak.net.connection import Connection

CHUNK = 10_000
#: A consumer that gets nothing for so long gives up, in seconds.
PATIENCE_S = 30.0
#: How long one fetch of `hold` waits at the end of its partition, in milliseconds.
HELD_MS = 30_000


def produce(bootstrap: str, topics: Sequence[str], records: int, size: int) -> None:
    values = ["x" * (size - 2)] * CHUNK
    with Producer(bootstrap=bootstrap) as producer:
        for topic in topics:
            producer.send(topic, 0)
        producer.flush()
        clock = Clock()
        for number in range(records // CHUNK):
            producer.send_many(topics[number % len(topics)], values)
        producer.flush()
        report(records, clock.seconds)


def consume(bootstrap: str, topics: Sequence[str], records: int) -> None:
    with Consumer(*topics, bootstrap=bootstrap, start="beginning", max_records=CHUNK) as consumer:
        clock, found = Clock(), 0
        while found < records:
            got = consumer.poll(timeout=PATIENCE_S)
            assert got, f"{found} of {records} came"
            found += len(got)
        report(found, clock.seconds)


async def group(bootstrap: str, topic: str, records: int, members: int) -> None:
    """Time runs from when all have joined."""
    found = 0
    complete = asyncio.Event()

    async def read(consumer: AsyncConsumer) -> None:
        nonlocal found
        while not complete.is_set():
            got = await consumer.poll(timeout=0.5)  # `found += await …` would lose the others'
            found += len(got)
            if found >= records:
                complete.set()

    consumers = [
        AsyncConsumer(topic, bootstrap=bootstrap, group="all", start="beginning", max_records=CHUNK)
        for _ in range(members)
    ]
    clock = Clock()
    await asyncio.gather(*(one.start() for one in consumers))
    joined = clock.seconds
    try:
        async with asyncio.timeout(10 * PATIENCE_S):
            await asyncio.gather(*map(read, consumers))
        seconds = clock.seconds
    except TimeoutError:
        held = [f"{one.member}: {one.positions}" for one in consumers]
        raise SystemExit("\n".join([f"{found} of {records} came", *held])) from None
    finally:
        await asyncio.gather(*(one.close() for one in consumers))
    report(found, seconds, joined_seconds=joined)


async def hold(bootstrap: str, topic: str, count: int) -> None:
    addresses = parse_addresses(bootstrap)
    held = [
        await Connection.open(addresses[number % len(addresses)], timeout_s=PATIENCE_S)
        for number in range(count)
    ]
    print("held", flush=True)
    waiting = asyncio.gather(*(_wait(one, topic) for one in held))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def _wait(connection: Connection, topic: str) -> None:
    while True:
        await connection.send(
            m.Fetch(id=0, partitions=[(topic, 0, MAX_INT)], max_bytes=1000, wait_ms=HELD_MS)
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["produce", "consume", "group", "hold"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--topic", default="growth")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--topics", type=int, default=1)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--connections", type=int, default=0)
    options = parser.parse_args()
    topics = [f"{options.topic}-{number}" for number in range(options.topics)]
    if options.kind == "produce":
        produce(options.address, topics, options.records, options.size)
    elif options.kind == "consume":
        consume(options.address, topics, options.records)
    elif options.kind == "group":
        asyncio.run(group(options.address, topics[0], options.records, options.members))
    else:
        asyncio.run(hold(options.address, topics[0], options.connections))


if __name__ == "__main__":
    main()
