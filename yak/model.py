"""The small nouns that everybody shares.  No behaviour beyond their own form."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

#: The largest integer on the wire: what a double, and so every JSON library, holds exactly.
MAX_INT: Final = 2**53 - 1

#: The highest port there is.
MAX_PORT: Final = 65_535

#: Sequences count 0 … 2**31-1 and then begin again at 0.
SEQUENCE_SPAN: Final = 2**31

#: Batches that are remembered, and may be in flight, per producer and partition.
BATCHES_REMEMBERED: Final = 5

#: A topic and the number of one of its partitions.
TopicPartition: TypeAlias = tuple[str, int]

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def is_topic_name(name: str) -> bool:
    """1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`: also a safe directory name."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


class Address(NamedTuple):
    """Where a process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address that `HOST:PORT` or `[IPV6]:PORT` names.  Raises ValueError, which says why."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as [::1]:9092")
    if not colon or not host:
        raise ValueError(f"{text!r} is no address: say HOST:PORT, as 127.0.0.1:9092")
    if not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ValueError(f"{text!r}: say a port from 0 to {MAX_PORT}, as 127.0.0.1:9092")
    return Address(host, int(port))


def parse_addresses(text: str) -> list[Address]:
    """One address or several, with commas between them.  Raises ValueError, also for none."""
    parts = [part for part in text.split(",") if part.strip()]
    return [parse_address(part) for part in parts or [text]]


class Now(NamedTuple):
    """The two clocks, handed to the core with every event.

    mono: seconds on a monotonic clock; every time-out is measured on it.
    wall_ms: milliseconds since 1970; only ever written into operations.
    """

    mono: float
    wall_ms: int


class RecordMetadata(NamedTuple):
    """Where a sent record is.

    offset: None where the broker does not say: with acks 0, and for a batch that proved to be a
    duplicate of one so old that its offset is no longer remembered.
    timestamp: when the leader logged it, in ms since 1970; None where the offset is.
    """

    topic: str
    partition: int
    offset: int | None
    timestamp: int | None


#: A record's headers: names (which may come again) and values.
Headers: TypeAlias = list[tuple[str, str | None]]


class Origin(NamedTuple):
    """What the records of one operation share."""

    topic: str
    partition: int
    time: int
    epoch: int
    consumer: Any = None


_NOWHERE: Final = Origin("", 0, 0, 0)


class Record(msgspec.Struct, gc=False, eq=False):
    """One record as a consumer is handed it.

    value: any JSON as Python has it, or bytes that are no UTF-8; None is a tombstone.
    key: None, a string, or bytes that are no UTF-8.  headers: [(name, value or None)].
    timestamp: the record's own, else `time` (both in ms since 1970).
    raw: it could not be decoded; value is its whole line, as text or (if no UTF-8) as bytes.
    offset: -1 on a record that was sent and not acknowledged.

    It is what a line is decoded into, for speed.  The fields that are not on the wire have names
    there that no producer writes; whoever decodes sets them.
    """

    value: Any
    key: Any = None
    headers: Headers = []
    timestamp: int | None = None
    enc: str | None = None
    offset: int = msgspec.field(default=-1, name="yak:offset")
    raw: bool = msgspec.field(default=False, name="yak:raw")
    origin: Origin = msgspec.field(default=_NOWHERE, name="yak:origin")

    @property
    def topic(self) -> str:
        return self.origin.topic

    @property
    def partition(self) -> int:
        return self.origin.partition

    @property
    def time(self) -> int:
        """When the leader logged it, in ms since 1970."""
        return self.origin.time

    @property
    def epoch(self) -> int:
        """The epoch of the leader that logged it."""
        return self.origin.epoch

    def ack(self) -> Any:
        """Acknowledge it, and with it everything before it in its partition.

        On an AsyncConsumer this is awaited.
        """
        if self.origin.consumer is None:
            raise TypeError("a record that no consumer handed out cannot be acknowledged")
        return self.origin.consumer.ack(self)

    def __repr__(self) -> str:
        return f"Record({self.topic}[{self.partition}]@{self.offset} {self.key!r}: {self.value!r})"
