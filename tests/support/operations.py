"""Operations for storage's tests: small ones, one after the other, as a leader would write them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from yak.core import ops
from yak.core.ops import NO_SUM, Op
from yak.storage.disk import Buffer

TOPIC = "orders"


def body_of(count: int, letter: str = "x", width: int = 8) -> bytes:
    """`count` records."""
    return (b'{"value":"%s"}\n' % (letter.encode() * width)) * count


def append_op(
    index: int, offset: int, body: bytes, *, epoch: int = 1, partition: int = 0, time: int = 0
) -> ops.Append:
    return ops.Append(
        index=index,
        epoch=epoch,
        time=time or 1000 + index,
        topic=TOPIC,
        partition=partition,
        offset=offset,
        count=body.count(b"\n"),
        size=len(body),
        crc=ops.crc_of(body),
    )


def lead(index: int, epoch: int = 1) -> ops.Lead:
    return ops.Lead(index=index, epoch=epoch, time=1000 + index, broker=1)


def create_topic(index: int, *, partitions: int = 1, **config: int) -> ops.CreateTopic:
    return ops.CreateTopic(
        index=index,
        epoch=1,
        time=1000 + index,
        topic=TOPIC,
        topic_id="t",
        partitions=partitions,
        config=dict(config),
    )


def mixed(
    count: int, *, seed: int = 0, first: int = 1, epoch: int = 1, width: int = 8
) -> list[tuple[Op, Buffer | None]]:
    """`lead`, then appends of 1 to 4 records and acks, in a seeded order."""
    rng = random.Random(seed)
    found: list[tuple[Op, Buffer | None]] = [(lead(first, epoch), None)]
    offset = 0
    for index in range(first + 1, first + count):
        if rng.random() < 0.3:
            ack = ops.Ack(
                index=index, epoch=epoch, time=1000 + index, group="g", offsets=[(TOPIC, 0, 1)]
            )
            found.append((ack, None))
            continue
        body = body_of(rng.randint(1, 4), "abc"[index % 3], width)
        op = append_op(index, offset, body, epoch=epoch)
        offset += op.count
        found.append((op, body))
    return found


def encoded(operations: Iterable[tuple[Op, Buffer | None]], previous: str = NO_SUM) -> list[bytes]:
    """Each operation's very bytes, line and body."""
    return list(_encoded(operations, previous))


def _encoded(operations: Iterable[tuple[Op, Buffer | None]], running: str) -> Iterator[bytes]:
    for op, body in operations:
        line, running = ops.encode(op, running)
        yield line + bytes(body or b"")
