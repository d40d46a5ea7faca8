"""confluent-kafka: `produce` one by one, `produce_batch`, `consume` of lists.

The producer is idempotent with acks=all, and lingers 5 ms, librdkafka's default and its best.  The
way `produce` calls `poll` now and then, as its users must.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from confluent_kafka import Consumer, Producer

from bench.clients.common import Clock, Gaps, Options, parse, report

_CHUNK = 10_000
#: Nothing for so long: there is no more.  Longer than a rebalance takes.
_AT_THE_END_S = 10


def _producer(options: Options, **more: Any) -> Producer:
    settings = {
        "bootstrap.servers": options.address,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        "batch.size": 1_000_000,
        "message.max.bytes": 10_000_000,
    }
    return Producer({**settings, **more})


def produce(options: Options) -> None:
    producer = _producer(options)
    value = b"x" * options.size
    producer.produce(options.topic, value)
    producer.flush()
    clock = Clock()
    if options.way == "produce_batch":
        rest = options.records
        while rest:
            batch = [{"value": value} for _ in range(min(_CHUNK, rest))]
            taken = producer.produce_batch(options.topic, batch)
            rest -= taken
            producer.poll(0 if taken == len(batch) else 0.01)
    else:
        for number in range(options.records):
            while True:
                try:
                    producer.produce(options.topic, value)
                    break
                except BufferError:
                    producer.poll(0.01)
            if number % 1000 == 0:
                producer.poll(0)
    left = producer.flush(120)
    report(options.records - left, clock.seconds)


def consume(options: Options) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": options.address,
            "group.id": options.group or uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": bool(options.group),
            "fetch.min.bytes": 1,
        }
    )
    consumer.subscribe([options.topic])
    got = consumer.consume(1, 60)
    clock = Clock()
    count, seconds = len(got), 0.0
    # A member of a group reads to the end: its share of the partitions is not its part of all.
    while options.group or count < options.records:
        records = consumer.consume(_CHUNK, _AT_THE_END_S)
        if not records:
            break
        for record in records:
            record.value()
        count, seconds = count + len(records), clock.seconds
    consumer.close()
    report(count, seconds)


def gap(options: Options) -> None:
    producer = _producer(options, **{"linger.ms": 0})
    gaps = Gaps()

    def told(error: object, _: object) -> None:
        if error is None:
            gaps.acknowledged()
        else:
            gaps.failed += 1

    began = time.perf_counter()
    for number in range(options.records):
        while (pause := began + number / options.rate - time.perf_counter()) > 0:
            producer.poll(min(pause, 0.001))
        producer.produce(options.topic, b"x" * options.size, on_delivery=told)
    producer.flush(60)
    gaps.report()


if __name__ == "__main__":
    _options = parse()
    {"produce": produce, "consume": consume, "gap": gap}[_options.kind](_options)
