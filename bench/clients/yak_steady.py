"""yak's clients for bench/steady.py, each for so many seconds:

    produce          batches into twelve partitions
    produce-alone    batches into one
    consume-any      what `produce` sends, from whoever has it
    consume-leader   what `produce-alone` sends, from the leader
    timed            a record at a time, RATE a second: how long until it is acknowledged

As bench/clients/common.py has it: one JSON document with `records`.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Literal

from bench.clients.common import Gaps
from yak import Consumer, Producer
from yak.commands.measuring import quantiles

CHUNK = 1000
RATE = 50
_VALUES = ["x" * 98] * CHUNK


def produce(bootstrap: str, topic: str, seconds: float) -> dict[str, object]:
    sent, until = 0, time.monotonic() + seconds
    with Producer(bootstrap=bootstrap) as producer:
        while time.monotonic() < until:
            producer.send_many(topic, _VALUES)
            sent += CHUNK
        producer.flush()
    return {"records": sent}


def consume(
    bootstrap: str, topic: str, seconds: float, source: Literal["any", "leader"]
) -> dict[str, object]:
    """A reader that retention overtakes goes on at the log's start."""
    found, until = 0, time.monotonic() + seconds
    with Consumer(topic, bootstrap=bootstrap, start="beginning", read_from=source) as consumer:
        while (left := until - time.monotonic()) > 0:
            found += len(consumer.poll(timeout=min(1.0, left)))
    return {"records": found}


def timed(bootstrap: str, seconds: float) -> dict[str, object]:
    gaps = Gaps()
    took: list[float] = []
    with Producer(bootstrap=bootstrap) as producer:
        began = time.monotonic()
        for number in range(int(seconds * RATE)):
            pause = began + number / RATE - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            sent = time.monotonic()

            def told(_: object, sent: float = sent) -> None:
                gaps.acknowledged()
                took.append(time.monotonic() - sent)

            producer.send("timed", "x").add_done_callback(told)
        producer.flush(60)
    return {
        "records": gaps.count,
        "gap_ms": round(gaps.longest * 1000, 1),
        "latency_ms": quantiles(took),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role")
    parser.add_argument("--address", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    match options.role:
        case "produce":
            found = produce(options.address, "shared", options.seconds)
        case "produce-alone":
            found = produce(options.address, "alone", options.seconds)
        case "consume-any":
            found = consume(options.address, "shared", options.seconds, "any")
        case "consume-leader":
            found = consume(options.address, "alone", options.seconds, "leader")
        case _:
            found = timed(options.address, options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
