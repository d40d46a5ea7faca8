"""What `yak bench` does to a cluster, and the figures that come of it.

Rules:

* A record's value is a JSON string; its size is that of the string with its quotes.
* Time runs from the first call to the last acknowledgement, or the last record handed out; joining
  and making the topic are not in it.
* A latency is a record's own: from the call of `send` until it is acknowledged, or until it was
  handed to a consumer of the same process.  How much later than planned it was sent is `late`.
* CPU seconds are those of this process, all threads.

Not here: options and how figures are shown (bench.py); comparisons with others (the project's own
`bench/`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from yak.commands.reaching import Admin
from yak.consumer import AsyncConsumer, Consumer
from yak.errors import RetriableError, YakError
from yak.producer import AsyncProducer, Producer

#: So many records go to one `send_many`, and come of one `poll`.
CHUNK_RECORDS: Final = 10_000
#: The time when it was sent, at the beginning of a record of `e2e`: digits of nanoseconds.
_STAMP_DIGITS: Final = 20
#: The smallest record that holds a stamp in quotes.
LEAST_E2E_BYTES: Final = _STAMP_DIGITS + 2
#: How long `e2e` waits for the last records after the last was sent, in seconds.
_LAST_S: Final = 10.0
#: What nobody measures: the first records of `e2e` find caches cold.
_WARM_S: Final = 0.5
#: A pause of a paced sender that is shorter would be no pause.
_PAUSE_S: Final = 0.0005

_QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass
class Figures:
    """Of one run.  bytes: of values.  latency_ms, late_ms: quantiles and `max`, or nothing."""

    what: str
    topic: str
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    late_ms: dict[str, float] = field(default_factory=dict)

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Load:
    """records of `size` bytes; rate: a second, 0 as many as go; alone: one `send` for each."""

    records: int
    size: int
    rate: float = 0
    alone: bool = False
    acks: Literal["all", 0, 1] = "all"
    linger_ms: float = 0


class Watch:
    """Seconds on the wall and of CPU since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, figures: Figures) -> None:
        figures.seconds = time.perf_counter() - self._wall
        figures.cpu_seconds = time.process_time() - self._cpu


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99, p99.9 and max in milliseconds, by the nearest rank; {} of none."""
    if not seconds:
        return {}
    ranked = sorted(seconds)
    last = len(ranked) - 1
    found = {name: ranked[min(last, int(q * len(ranked)))] for name, q in _QUANTILES.items()}
    return {name: value * 1000 for name, value in {**found, "max": ranked[-1]}.items()}


def value_of(size: int) -> str:
    """A value that is `size` bytes in the log, 2 at least."""
    return "x" * max(0, size - 2)


def make_topic(bootstrap: str, topic: str, partitions: int | None) -> None:
    """Make it, unless it is there.  Raises YakError where it has other partitions."""
    with Admin(bootstrap) as admin:
        try:
            admin.create_topic(topic, partitions)
        except YakError as e:
            if e.name != "TOPIC_EXISTS":
                raise
            there = len(admin.topic(topic).partitions)
            if partitions not in (None, there):
                raise YakError(
                    f"topic {topic} is there and has {there} partitions, not {partitions}",
                    name="TOPIC_EXISTS",
                    hint=f"leave --partitions out, name another topic, or yak topic delete {topic}",
                ) from e


def delete_topic(bootstrap: str, topic: str) -> None:
    """What was made for one run only."""
    with Admin(bootstrap) as admin:
        admin.delete_topic(topic)


# -- produce --------------------------------------------------------------------------------------


def produce(bootstrap: str, topic: str, load: Load) -> Figures:
    """Send, and wait until all is acknowledged.  Raises UndeliveredError."""
    figures = Figures("produce", topic)
    with Producer(
        bootstrap=bootstrap, acks=load.acks, linger_ms=load.linger_ms, client="yak-bench"
    ) as producer:
        producer.send(topic, "the topic is known now").result(30)
        watch = Watch()
        if load.rate:
            _send_paced(producer, topic, load, figures)
        elif load.alone:
            send, value = producer.send, value_of(load.size)
            for _ in range(load.records):
                send(topic, value)
        else:
            values = [value_of(load.size)] * CHUNK_RECORDS
            for start in range(0, load.records, CHUNK_RECORDS):
                left = load.records - start
                producer.send_many(topic, values if left >= CHUNK_RECORDS else values[:left])
        producer.flush()
        watch.stop(figures)
    figures.records, figures.bytes = load.records, load.records * load.size
    return figures


def paced(records: int, rate: float) -> Iterator[tuple[float, float]]:
    """So many times: when it is, and when it was planned to be, on `time.perf_counter`.

    rate: a second; 0 as many as go.
    """
    begun = time.perf_counter()
    for number in range(records):
        now = time.perf_counter()
        due = begun + number / rate if rate else now
        while now < due:
            time.sleep(max(_PAUSE_S, due - now))
            now = time.perf_counter()
        yield now, due


def _send_paced(producer: Producer, topic: str, load: Load, figures: Figures) -> None:
    value = value_of(load.size)
    took: list[float] = []
    late: list[float] = []
    for now, due in paced(load.records, load.rate):
        late.append(now - due)

        def done(_: object, sent_at: float = now) -> None:
            took.append(time.perf_counter() - sent_at)

        producer.send(topic, value).add_done_callback(done)
    producer.flush()
    figures.latency_ms, figures.late_ms = quantiles(took), quantiles(late)


# -- consume --------------------------------------------------------------------------------------


def consume(bootstrap: str, topic: str, records: int | None, group: str | None) -> Figures:
    """Read from the beginning: so many, or all up to the end.

    With a group it goes on where the group stands.  Time runs until the last record came: a member
    may wait for more while others read the rest.  Raises RetriableError where nothing came for a
    while, and records are missing.
    """
    figures = Figures("consume", topic)
    with Consumer(
        topic,
        bootstrap=bootstrap,
        group=group,
        start="beginning",
        max_records=CHUNK_RECORDS,
        client="yak-bench",
    ) as consumer:
        watch = Watch()
        while records is None or figures.records < records:
            got = consumer.poll(timeout=_LAST_S)
            figures.records += len(got)
            for one in got:
                figures.bytes += len(one.value) + 2 if isinstance(one.value, str) else 0
            if got:
                watch.stop(figures)
            if not got or (records is None and consumer.at_end):
                break
    if records is not None and figures.records < records:
        raise RetriableError(
            f"{figures.records:,} of {records:,} records came, then none for {_LAST_S:g} s",
            name="TIMEOUT",
            hint=f"yak topic describe {topic} shows how many there are",
        )
    return figures


# -- end to end -----------------------------------------------------------------------------------


async def end_to_end(
    bootstrap: str, topic: str, load: Load, read_from: Literal["any", "leader"] = "any"
) -> Figures:
    """Send each record alone, at `rate`, to a consumer of this very loop."""
    figures = Figures("e2e", topic)
    warm = int(min(load.records, load.rate * _WARM_S))
    async with (
        AsyncProducer(
            bootstrap=bootstrap, linger_ms=load.linger_ms, client="yak-bench"
        ) as producer,
        AsyncConsumer(
            topic,
            bootstrap=bootstrap,
            start="end",
            read_from=read_from,
            max_records=CHUNK_RECORDS,
            client="yak-bench",
        ) as consumer,
    ):
        watch = Watch()
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(_receive(consumer, load.records))
            late = await _send_stamped(producer, topic, load)
        watch.stop(figures)
    took = receiving.result()
    figures.records, figures.bytes = len(took), len(took) * load.size
    figures.latency_ms, figures.late_ms = quantiles(took[warm:]), quantiles(late[warm:])
    return figures


async def _send_stamped(producer: AsyncProducer, topic: str, load: Load) -> list[float]:
    padding = value_of(load.size - _STAMP_DIGITS)
    late: list[float] = []
    begun = time.perf_counter()
    for number in range(load.records):
        due = begun + number / load.rate
        pause = due - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        late.append(max(0.0, time.perf_counter() - due))
        await producer.send(topic, f"{time.perf_counter_ns():0{_STAMP_DIGITS}d}{padding}")
    await producer.flush()
    return late


async def _receive(consumer: AsyncConsumer, records: int) -> list[float]:
    took: list[float] = []
    while len(took) < records:
        got = await consumer.poll(timeout=_LAST_S)
        now = time.perf_counter_ns()
        if not got:
            raise RetriableError(
                f"{len(took):,} of {records:,} records came, then none for {_LAST_S:g} s",
                name="TIMEOUT",
                hint="yak status shows the cluster; does somebody else use this topic?",
            )
        took += [(now - _stamp(one.value)) / 1e9 for one in got]
    return took


def _stamp(value: Any) -> int:
    """Raises YakError for a record of somebody else."""
    try:
        return int(value[:_STAMP_DIGITS])
    except (TypeError, ValueError) as e:
        raise YakError(
            f"a record that this run did not send: {value!r:.60}",
            name="INVALID_RECORD",
            hint="give --topic a name that nobody else uses",
        ) from e
