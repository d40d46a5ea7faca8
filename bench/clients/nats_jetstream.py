"""nats-py on uvloop: JetStream, a window of publishes whose acknowledgements are awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bench.clients.common import (
    Clock,
    Gaps,
    Options,
    age,
    measured,
    parse,
    report,
    send_at_rate,
)

_WINDOW = 1000
_PATIENCE_S = 30


async def _connect(options: Options) -> tuple[Any, Any]:
    connection = await nats.connect(options.address.split(","), pending_size=256 * 1024 * 1024)
    return connection, connection.jetstream(timeout=_PATIENCE_S)


async def produce(options: Options) -> None:
    connection, stream = await _connect(options)
    value, subject = b"x" * options.size, f"{options.topic}.0"
    await stream.publish(subject, value)
    clock = Clock()
    for start in range(0, options.records, _WINDOW):
        count = min(_WINDOW, options.records - start)
        await asyncio.gather(
            *(stream.publish(subject, value, timeout=_PATIENCE_S) for _ in range(count))
        )
    report(options.records, clock.seconds)
    await connection.close()


async def consume(options: Options) -> None:
    connection, stream = await _connect(options)
    subscription = await stream.pull_subscribe(
        f"{options.topic}.>",
        durable=options.group or None,
        config=ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL),
    )
    clock = Clock()
    count = 0
    while count < options.records:
        count += len(await subscription.fetch(min(_WINDOW, options.records - count), timeout=30))
    report(count, clock.seconds)
    await connection.close()


async def e2e(options: Options) -> None:
    connection, stream = await _connect(options)
    subject = f"{options.topic}.0"
    took: list[float] = []
    done = asyncio.Event()

    async def on_message(message: Any) -> None:
        took.append(age(message.data))
        if len(took) >= options.records:
            done.set()

    await stream.subscribe(
        f"{options.topic}.>",
        cb=on_message,
        config=ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.NEW),
        manual_ack=True,
    )
    waiting: set[asyncio.Task[Any]] = set()

    async def send(value: bytes) -> None:
        task = asyncio.ensure_future(stream.publish(subject, value, timeout=_PATIENCE_S))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    clock = Clock()
    await send_at_rate(options, send)
    await asyncio.wait_for(done.wait(), 30)
    report(len(took), clock.seconds, measured(options, took))
    await connection.close()


async def gap(options: Options) -> None:
    """A publish that fails is sent again, as a user must."""
    connection, stream = await _connect(options)
    gaps, subject = Gaps(), f"{options.topic}.0"
    waiting: set[asyncio.Task[Any]] = set()

    async def publish(value: bytes) -> None:
        while True:
            try:
                await stream.publish(subject, value, timeout=1)
            except Exception:  # noqa: BLE001 -- whatever it is, it is sent again
                gaps.failed += 1
                await asyncio.sleep(0.05)
            else:
                gaps.acknowledged()
                return

    async def send(value: bytes) -> None:
        task = asyncio.ensure_future(publish(value))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    await send_at_rate(options, send)
    if waiting:
        await asyncio.wait(waiting, timeout=60)
    gaps.report()
    await connection.close()


if __name__ == "__main__":
    _options = parse()
    uvloop.run(
        {"produce": produce, "consume": consume, "e2e": e2e, "gap": gap}[_options.kind](_options)
    )
