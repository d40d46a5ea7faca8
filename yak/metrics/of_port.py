"""What a broker's and yak-zk's port and story tell: connections, bytes, requests, events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric

from yak.metrics.exposition import counted, counter, histogram, single
from yak.model import Now
from yak.net.server import Server
from yak.net.timing import RequestTimes


class Events:
    """How often each event of the story was told.  A listener of Story."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def __call__(self, event: str, fields: Mapping[str, Any], /) -> None:
        self.told[event] += 1

    def families(self) -> Iterator[Metric]:
        yield from counter(
            "yak_events",
            "What was told in events.jsonl and on stderr, by the event's name.",
            ("event",),
            [((event,), times) for event, times in sorted(self.told.items())],
        )


def of_port(server: Server) -> Iterator[Metric]:
    """Connections and bytes."""
    yield from single(
        yak_connections=("Connections of clients and followers.", len(server.connections)),
        yak_inflight_bytes=(
            "Memory of unanswered requests: max_inflight_bytes.",
            server.room.bytes,
        ),
        yak_partial_bytes=("Bytes of unfinished frames: max_partial_bytes.", server.partial_bytes),
    )
    yield from counted(
        yak_connections_opened=("Connections that were accepted.", server.opened),
        yak_received_bytes=("Bytes that came over connections.", server.bytes_in),
        yak_sent_bytes=("Bytes of answers to connections.", server.bytes_out),
    )


def of_requests(times: RequestTimes) -> Iterator[Metric]:
    """How long they took, and what was refused."""
    yield from histogram(
        "yak_request_seconds",
        "From a request's decoding to its answer, by type; a long poll's is mostly waiting.",
        "type",
        dict(sorted(times.answered.items())),
    )
    yield from counter(
        "yak_requests_refused",
        "Requests that were answered with an error, by type and error.",
        ("type", "error"),
        [(key, count) for key, count in sorted(times.refused.items())],
    )


def now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1_000_000)
