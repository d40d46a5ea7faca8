"""Families of samples, and the text of them that Prometheus reads.

    gauge, counter, histogram      a family, cut into pieces of PIECE samples
    text(families)                 the exposition format, piece by piece, giving way in between

Rules:

* Who gathers reads everything that belongs together at once, without an `await`; only then is it
  written down, which takes ten times as long, and is what the loop must not be held up by.
* A family without samples is left out.
* Of what may be many (partitions, groups) a gatherer tells as many as METRICS_MAX_… in config.py
  says, and how many it left out.

Names and escaping are prometheus_client's; what is told is the gatherers' (of_….py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from yak.net.timing import Histogram

#: Samples that are written down at a time: some 1.5 ms.
PIECE: Final = 100

#: The format of `text`.
MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: The labels' values, and the sample's.
Row: TypeAlias = tuple[tuple[str, ...], float]


def gauge(name: str, meaning: str, labels: Sequence[str], rows: Sequence[Row]) -> Iterator[Metric]:
    """What goes up and down.  labels: their names."""
    for at in range(0, len(rows), PIECE):
        family = GaugeMetricFamily(name, meaning, labels=labels)
        for values, value in rows[at : at + PIECE]:
            family.add_metric(values, value)
        yield family


def counter(
    name: str, meaning: str, labels: Sequence[str], rows: Sequence[Row]
) -> Iterator[Metric]:
    """What only grows while the process lives.  name: without `_total`, which is added."""
    for at in range(0, len(rows), PIECE):
        family = CounterMetricFamily(name, meaning, labels=labels)
        for values, value in rows[at : at + PIECE]:
            family.add_metric(values, value)
        yield family


def single(**values: tuple[str, float]) -> Iterator[Metric]:
    """Gauges without labels: name=(meaning, value)."""
    for name, (meaning, value) in values.items():
        yield from gauge(name, meaning, (), [((), value)])


def counted(**values: tuple[str, float]) -> Iterator[Metric]:
    """Counters without labels: name=(meaning, value); the name without `_total`."""
    for name, (meaning, value) in values.items():
        yield from counter(name, meaning, (), [((), value)])


def histogram(
    name: str, meaning: str, label: str | None, by_label: Mapping[str, Histogram]
) -> Iterator[Metric]:
    """label: the name of the one label; None where there is none, and then one histogram."""
    for value, one in by_label.items():
        family = HistogramMetricFamily(name, meaning, labels=() if label is None else (label,))
        bounds = [*map(str, one.bounds), "+Inf"]
        buckets = [(bound, float(n)) for bound, n in zip(bounds, one.cumulated(), strict=True)]
        family.add_metric(() if label is None else (value,), buckets, one.sum)
        yield family


async def text(families: Iterable[Metric]) -> bytes:
    """As Prometheus reads them; pieces of one family follow one another."""
    pieces: list[bytes] = []
    last = ""
    for family in families:
        piece = generate_latest(_One(family))
        if family.name == last:  # HELP and TYPE stand once
            piece = piece.split(b"\n", 2)[2]
        last = family.name
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)


class _One(Collector):
    """A family as prometheus_client takes many."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)
