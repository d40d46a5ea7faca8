"""A process's pages: /metrics, /healthz and /readyz, whoever's they are.

    /metrics    everything that the process tells, and what it takes of the machine
    /healthz    200 while it lives, its loop turns, and nothing of its own hangs; else 503
    /readyz     200 while it may serve; else 503, and why not

Both say why in JSON.  A stopped or stuck process answers nobody, which is an answer, too.  Pages
on a thread of their own look whether the loop of which they speak still turns.

What is told is a `Figures`'s: of_broker.py, of_zk.py, of_clients.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from yak.metrics.exposition import MEDIA_TYPE, gauge, histogram, text
from yak.model import Address
from yak.net.pages import Page, Pages
from yak.net.timing import LoopLag
from yak.version import VERSION

#: A loop that has not turned for so long is stuck: what would hold it up so long is a bug.
STUCK_S: Final = 5.0


class Word(NamedTuple):
    """Whether all is well, and if not why.  facts: what else a person would ask."""

    well: bool
    reason: str = ""
    facts: Mapping[str, Any] = MappingProxyType({})


class Figures(Protocol):
    """What a kind of process tells of itself; all is called on its loop."""

    def families(self) -> Iterator[Metric]:
        """Those of whose parts some must agree are read before the first is yielded."""

    def health(self) -> Word: ...

    def readiness(self) -> Word: ...


class Station:
    """The open pages of one process.  `close` it."""

    def __init__(self, process: str, figures: Figures, lag: LoopLag | None) -> None:
        self._process = process
        self._figures = figures
        self._lag = LoopLag() if lag is None else lag
        self._closes_lag = lag is None
        self._of_process = ProcessCollector(registry=None)
        self._pages: Pages | None = None

    @classmethod
    async def open(
        cls, where: Address, process: str, figures: Figures, lag: LoopLag | None = None
    ) -> Station:
        """process: as "broker-1".  lag: of the loop it speaks of, where that is another one.

        Raises Fatal where nobody can listen there.
        """
        station = cls(process, figures, lag)
        try:
            station._pages = await Pages.open(
                where,
                {
                    "/metrics": station._metrics,
                    "/healthz": station._healthz,
                    "/readyz": station._readyz,
                },
            )
        except BaseException:
            station.close()
            raise
        return station

    @property
    def address(self) -> Address:
        assert self._pages is not None
        return self._pages.address

    @property
    def line(self) -> str:
        """What its user is told."""
        return f"metrics on http://{self.address}/metrics"

    def close(self) -> None:
        if self._closes_lag:
            self._lag.close()
        if self._pages is not None:
            self._pages.close()

    async def _metrics(self) -> Page:
        families = chain(self._own(), self._figures.families(), self._of_process.collect())
        return Page(await text(families), MEDIA_TYPE)

    def _own(self) -> Iterator[Metric]:
        row = ((self._process, VERSION), 1.0)
        yield from gauge("yak_build_info", "Which process this is.", ("process", "version"), [row])
        yield from histogram(
            "yak_event_loop_lag_seconds",
            "How late the event loop was with what was due, looked at ten times a second.",
            None,
            {"": self._lag.lag},
        )

    async def _healthz(self) -> Page:
        silent = time.monotonic() - self._lag.looked_at
        word = self._figures.health()
        if silent > STUCK_S:
            word = Word(well=False, reason=f"its loop has not turned for {silent:.0f} s")
        return self._page("healthy", word)

    async def _readyz(self) -> Page:
        return self._page("ready", self._figures.readiness())

    def _page(self, what: str, word: Word) -> Page:
        said = {what: word.well, "reason": word.reason, "process": self._process, **word.facts}
        status = HTTPStatus.OK if word.well else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(msgspec.json.encode(said) + b"\n", "application/json", status)
