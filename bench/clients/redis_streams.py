"""redis-py with hiredis: pipelines of XADD with WAIT 2 behind, XREAD, XREADGROUP with XACK."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import redis
import redis.asyncio
import uvloop

from bench.clients.common import (
    Clock,
    Options,
    age,
    measured,
    parse,
    report,
    send_at_rate,
)

_PIPELINE = 1000
_REPLICAS = 2
_PATIENCE_MS = 10_000


def _client(options: Options) -> redis.Redis:
    host, _, port = options.address.partition(":")
    return redis.Redis(host=host, port=int(port))


def produce(options: Options) -> None:
    client = _client(options)
    value = {b"v": b"x" * options.size}
    client.xadd(options.topic, value)
    clock = Clock()
    sent = 0
    while sent < options.records:
        pipeline = client.pipeline(transaction=False)
        count = min(_PIPELINE, options.records - sent)
        for _ in range(count):
            pipeline.xadd(options.topic, value)
        pipeline.execute_command("WAIT", _REPLICAS, _PATIENCE_MS)
        if pipeline.execute()[-1] != _REPLICAS:
            raise SystemExit("WAIT: the replicas do not have it")
        sent += count
    report(sent, clock.seconds)


def consume(options: Options) -> None:
    client: Any = _client(options)
    count, last = 0, b"0"
    if options.group:
        try:
            client.xgroup_create(options.topic, options.group, id="0")
        except redis.ResponseError as e:
            if "BUSYGROUP" not in str(e):
                raise
    clock, seconds = Clock(), 0.0
    while count < options.records:
        if options.group:
            found = client.xreadgroup(
                options.group, f"c{os.getpid()}", {options.topic: ">"}, count=10_000, block=2000
            )
        else:
            found = client.xread({options.topic: last}, count=10_000, block=2000)
        if not found:
            break
        entries = found[0][1]
        if options.group:
            client.xack(options.topic, options.group, *(entry[0] for entry in entries))
        count, last = count + len(entries), entries[-1][0]
        seconds = clock.seconds  # the others of a group may take all that is left
    report(count, seconds)


async def e2e(options: Options) -> None:
    host, _, port = options.address.partition(":")
    # One pipeline a record, each on a connection of its own while it waits for the replicas.
    writer: Any = redis.asyncio.Redis(host=host, port=int(port), max_connections=options.records)
    reader: Any = redis.asyncio.Redis(host=host, port=int(port))
    first = await writer.xadd(options.topic, {b"v": b"0" * options.size})
    took: list[float] = []
    waiting: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    async def receive() -> None:
        last: Any = first
        while len(took) < options.records:
            found = await reader.xread({options.topic: last}, count=10_000, block=10_000)
            if not found:
                return
            entries = found[0][1]
            took.extend(age(fields[b"v"]) for _, fields in entries)
            last = entries[-1][0]

    async def acknowledged(value: bytes) -> None:
        pipeline = writer.pipeline(transaction=False)
        pipeline.xadd(options.topic, {b"v": value})
        pipeline.execute_command("WAIT", _REPLICAS, _PATIENCE_MS)
        if (await pipeline.execute())[-1] != _REPLICAS:
            raise RuntimeError("WAIT: the replicas do not have it")

    def ended(task: asyncio.Task[None]) -> None:
        waiting.discard(task)
        if error := task.exception():
            failed.append(error)
            receiving.cancel()

    async def send(value: bytes) -> None:
        if failed:
            raise failed[0]
        task = asyncio.ensure_future(acknowledged(value))
        waiting.add(task)
        task.add_done_callback(ended)

    receiving = asyncio.ensure_future(receive())
    clock = Clock()
    await send_at_rate(options, send)
    with contextlib.suppress(asyncio.CancelledError):
        await receiving
    if failed:
        raise failed[0]
    await asyncio.gather(*waiting)
    report(len(took), clock.seconds, measured(options, took))


if __name__ == "__main__":
    _options = parse()
    if _options.kind == "e2e":
        uvloop.run(e2e(_options))
    else:
        {"produce": produce, "consume": consume}[_options.kind](_options)
