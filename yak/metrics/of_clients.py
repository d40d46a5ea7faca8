"""What yak-produce and yak-consume tell: records, what was sent again, lost or missed, and the lag.

Both run on a thread of their own, and so do their pages: what they tell of themselves they read
there.  A library's user who wants this in a program of their own passes `producer.statistics` and
`consumer.positions` to the exporter that the program has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Protocol

from prometheus_client.metrics_core import Metric

from yak.config import METRICS_MAX_PARTITIONS
from yak.metrics.exposition import Row, counted, gauge, single
from yak.metrics.station import Word
from yak.model import TopicPartition
from yak.net.sender import Statistics


class _Producer(Protocol):
    @property
    def statistics(self) -> Statistics: ...

    @property
    def buffered_bytes(self) -> int: ...

    @property
    def leader(self) -> str | None: ...


class _Consumer(Protocol):
    @property
    def positions(self) -> dict[TopicPartition, int]: ...

    @property
    def high_watermarks(self) -> Mapping[TopicPartition, int | None]: ...

    @property
    def missed(self) -> int: ...

    @property
    def source(self) -> str | None: ...


class ProducerFigures:
    """A producer's."""

    def __init__(self, producer: _Producer) -> None:
        self._producer = producer

    def health(self) -> Word:
        return Word(well=True)

    def readiness(self) -> Word:
        leader = self._producer.leader
        if leader is None:
            return Word(
                well=False, reason="it knows no leader: it has not looked, or there is none"
            )
        return Word(well=True, facts={"leader": leader})

    def families(self) -> Iterator[Metric]:
        numbers = self._producer.statistics
        yield from counted(
            yak_producer_records=("Records that were taken to be sent.", numbers.sent),
            yak_producer_acknowledged=("Records that were acknowledged.", numbers.acknowledged),
            yak_retransmissions=("Records sent again, each time.", numbers.retransmitted),
            yak_producer_lost=("Records that were given up.", numbers.lost),
        )
        yield from single(
            yak_producer_buffered_bytes=(
                "Bytes of records without an outcome: buffer_bytes.",
                self._producer.buffered_bytes,
            )
        )


class ConsumerFigures:
    """A consumer's.  printed: how many records it has printed."""

    def __init__(self, consumer: _Consumer, printed: Callable[[], int]) -> None:
        self._consumer = consumer
        self._printed = printed

    def health(self) -> Word:
        return Word(well=True)

    def readiness(self) -> Word:
        if self._consumer.source is None:
            return Word(well=False, reason="it has not asked any broker for records yet")
        return Word(well=True, facts={"source": self._consumer.source})

    def families(self) -> Iterator[Metric]:
        consumer = self._consumer
        places = sorted(consumer.positions.items())[:METRICS_MAX_PARTITIONS]
        ends = consumer.high_watermarks
        positions: list[Row] = [((topic, str(n)), offset) for (topic, n), offset in places]
        lags: list[Row] = [
            ((where[0], str(where[1])), max(0, end - offset))
            for where, offset in places
            if (end := ends.get(where)) is not None
        ]
        labels = ("topic", "partition")
        return chain(
            counted(
                yak_consumer_records=("Records that were printed.", self._printed()),
                yak_consumer_missed=(
                    "Records that were trimmed away before they were read.",
                    consumer.missed,
                ),
            ),
            gauge("yak_consumer_position", "The next offset to hand out.", labels, positions),
            gauge("yak_consumer_lag", "Records up to the end that was last told.", labels, lags),
        )
