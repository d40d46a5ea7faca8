"""yak's clients for the growth curves: into and out of many topics, many members, many connections.

    produce   `--topics` topics, each chunk of 10,000 records into the next one
    consume   one consumer of all of them, from their beginnings
    group     `--members` members of a group in this process, which share `--partitions`
    hold      `--connections` connections, each with a fetch that waits; until standard input ends

As bench/clients/common.py has it: one JSON document with `records` and `seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import uvloop

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


async def group(bootstrap: str, topic: str, records: int, members: int, partitions: int) -> None:
    """Time runs from when the partitions are shared out: who comes later waits for a heartbeat of
    whoever holds them, as in any group.  What was read before is not counted."""
    found = before = 0
    settled = ended = 0.0
    complete = asyncio.Event()

    async def read(consumer: AsyncConsumer) -> None:
        nonlocal found, before, settled, ended
        while not complete.is_set():
            got = await consumer.poll(timeout=0.5)  # `found += await …` would lose the others'
            found += len(got)
            if not settled and is_shared_out():
                before, settled = found, clock.seconds
            if found >= records and not complete.is_set():
                ended = clock.seconds  # the others still wait for more
                complete.set()

    def is_shared_out() -> bool:
        held = [len(one.positions) for one in consumers]
        return all(held) and sum(held) >= partitions

    consumers = [
        AsyncConsumer(topic, bootstrap=bootstrap, group="all", start="beginning", max_records=CHUNK)
        for _ in range(members)
    ]
    clock = Clock()
    await asyncio.gather(*(one.start() for one in consumers))
    try:
        async with asyncio.timeout(10 * PATIENCE_S):
            await asyncio.gather(*map(read, consumers))
    except TimeoutError:
        held = [f"{one.member}: {one.positions}" for one in consumers]
        raise SystemExit("\n".join([f"{found} of {records} came", *held])) from None
    finally:
        await asyncio.gather(*(one.close() for one in consumers))
    if not settled:
        raise SystemExit(f"all {found} were read before {partitions} partitions had their members")
    report(found - before, ended - settled, settled_seconds=round(settled, 3))


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
            m.Fetch(id=0, partitions=((topic, 0, MAX_INT),), max_bytes=1000, wait_ms=HELD_MS)
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
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--connections", type=int, default=0)
    options = parser.parse_args()
    topics = [f"{options.topic}-{number}" for number in range(options.topics)]
    if options.kind == "produce":
        produce(options.address, topics, options.records, options.size)
    elif options.kind == "consume":
        consume(options.address, topics, options.records)
    elif options.kind == "group":
        members, partitions = options.members, options.partitions
        uvloop.run(group(options.address, topics[0], options.records, members, partitions))
    else:
        asyncio.run(hold(options.address, topics[0], options.connections))


if __name__ == "__main__":
    main()
