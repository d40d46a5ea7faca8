"""What yak-zk tells: who leads and why that changed, who lives, how old each heartbeat is.

Elections and changes of the ISR are counted here and nowhere else, since here they are decided.
An election's reason is a sentence in the story; here it is one of REASONS, by how the sentence
begins, so that it can be counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from yak import messages as m
from yak.core.coordinator import Coordinator
from yak.metrics.exposition import Row, counted, counter, gauge, single
from yak.metrics.of_port import Events, now, of_port, of_requests
from yak.metrics.station import Word
from yak.net.server import Server
from yak.net.timing import RequestTimes

#: A kind of reason, and the words by which the sentence is known: the first that it has.
REASONS: Final[Mapping[str, str]] = {
    "new_cluster": "a new cluster",
    "ordered": "ordered by an operator",
    "left": "it said goodbye",
    "silent": "is gone: silent for",
    "died": " is gone: ",
    "resigned": " resigned: ",
    "restarted": " was restarted",
    "not_whole": " is not whole: ",
}
#: Nobody had led before.
VACANT: Final = "vacant"


def reason_kind(sentence: str) -> str:
    """What kind of reason an election's sentence gives."""
    cause = sentence.partition("; ")[0]
    return next((kind for kind, words in REASONS.items() if words in cause), VACANT)


class ZkFigures:
    """See the module."""

    def __init__(self, times: RequestTimes, isr: frozenset[int]) -> None:
        """isr: as it is at the start."""
        self.events = Events()
        self.times = times
        self.elections: Counter[str] = Counter(dict.fromkeys((*REASONS, VACANT), 0))
        self.isr_shrinks = self.isr_expansions = 0
        self._isr = isr
        self._core: Coordinator | None = None
        self._server: Server | None = None

    def begin(self, core: Coordinator, server: Server) -> None:
        """It listens, and tells of itself from now on."""
        server.times = self.times
        self._core, self._server = core, server

    def __call__(self, event: str, fields: Mapping[str, Any], /) -> None:
        """A listener of the story."""
        self.events(event, fields)
        if event == "elected":
            self.elections[reason_kind(str(fields["reason"]))] += 1
        if event in ("elected", "isr_changed"):
            self._isr_is(frozenset(fields["isr"]))

    def _isr_is(self, isr: frozenset[int]) -> None:
        self.isr_shrinks += bool(self._isr - isr)
        self.isr_expansions += bool(self._isr and isr - self._isr)  # a new cluster's is none
        self._isr = isr

    def health(self) -> Word:
        return Word(well=True)

    def readiness(self) -> Word:
        if self._core is None:
            return Word(well=False, reason="it starts")
        status = self._core.status(now())
        facts = {name: getattr(status, name) for name in ("epoch", "leader", "isr")}
        reason = why_not_ready(status)
        return Word(well=not reason, reason=reason, facts=facts)

    def families(self) -> Iterator[Metric]:
        told = [self.events.families(), of_requests(self.times), self._decided()]
        if self._core is not None and self._server is not None:
            status = self._core.status(now())
            told += [of_port(self._server), _of_document(status), _of_sessions(status)]
        return chain.from_iterable(told)

    def _decided(self) -> Iterator[Metric]:
        rows: list[Row] = [((kind,), times) for kind, times in self.elections.items()]
        meaning = "Elections since the start of yak-zk, by why there was one."
        yield from counter("yak_elections", meaning, ("reason",), rows)
        yield from counted(
            yak_isr_shrinks=("How often brokers left the ISR.", self.isr_shrinks),
            yak_isr_expansions=("How often brokers came into the ISR.", self.isr_expansions),
        )


def why_not_ready(status: m.CoordinatorStatus) -> str:
    """ "" where the cluster can acknowledge: somebody leads, and enough of the ISR live."""
    if status.leader is None:
        return "nobody leads: `yak zk status` says why"
    live = {one.broker for one in status.sessions if one.live}
    here, needed = len(live & set(status.isr)), status.settings.min_insync_replicas
    if here < needed:
        return f"{here} in-sync brokers live, min_insync_replicas is {needed}"
    return ""


def _of_document(status: m.CoordinatorStatus) -> Iterator[Metric]:
    yield from single(
        yak_epoch=("The present epoch.", status.epoch),
        yak_leader_id=("Who leads; 0: nobody.", status.leader or 0),
        yak_isr_size=("Brokers in sync.", len(status.isr)),
        yak_min_insync_replicas=("Fewer may not acknowledge.", _floor(status)),
        yak_document_version=("Changes of the cluster document.", status.version),
        yak_brokers=("Brokers that the cluster has known.", len(status.sessions)),
        yak_brokers_refused=("Brokers that belong to another cluster.", len(status.refused)),
    )


def _floor(status: m.CoordinatorStatus) -> int:
    return status.settings.min_insync_replicas


def _of_sessions(status: m.CoordinatorStatus) -> Iterator[Metric]:
    sessions = status.sessions
    live: list[Row] = [((str(one.broker),), int(one.live)) for one in sessions]
    yield from gauge("yak_broker_live", "1 for a broker with a session.", ("broker",), live)
    in_sync: list[Row] = [((str(one.broker),), int(one.broker in status.isr)) for one in sessions]
    yield from gauge("yak_broker_in_sync", "1 for a broker in the ISR.", ("broker",), in_sync)
    ages: list[Row] = [
        ((str(one.broker),), one.heartbeat_age_ms / 1000)
        for one in sessions
        if one.heartbeat_age_ms is not None
    ]
    meaning = "Since the heartbeat that a broker's session counts from."
    yield from gauge("yak_heartbeat_age_seconds", meaning, ("broker",), ages)
