"""What brokers, operators and yak-zk say to each other: section 5 of docs/protocol.md.

yak/messages.py has the rules, and names all of this again: it is what others import.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from yak.config import Settings
from yak.messages_base import Answer, Count, Epoch, Id, Index, Request, Status

#: How a broker's log came out of its last stop; replication.md, "Disk".
LogState: TypeAlias = Literal["whole", "torn", "damaged", "unclean"]


class Join(Request, tag="join", kw_only=True):
    """A broker opens its session.  cluster: null from an empty data directory.

    end: [epoch, index] of the last operation it holds, [0, 0] if none.  epoch: the highest
    epoch it has taken part in.
    """

    broker: Id
    host: str
    port: Index
    cluster: str | None
    disk: str
    inc: str
    state: LogState
    end: tuple[Epoch, Index]
    epoch: Epoch


class Beat(Request, tag="heartbeat", kw_only=True):
    """A broker's heartbeat: its own number, and the last one it heard from yak-zk."""

    number: Count
    heard: Count


class ProposeIsr(Request, tag="isr", kw_only=True):
    """The leader asks for an ISR: a compare-and-set on (epoch, version).

    incs: {broker id: incarnation} for every member that the proposal adds or makes whole.
    """

    epoch: Epoch
    version: Count
    isr: list[Id]
    incs: dict[str, str]


class Resign(Request, tag="resign", kw_only=True):
    """The leader gives up its epoch."""

    epoch: Epoch
    reason: str


class Leave(Request, tag="leave", kw_only=True):
    """A broker says goodbye: its session ends now, by its own will."""


class ClusterQuery(Request, tag="cluster", kw_only=True):
    """Anybody asks for the cluster document."""


CoordinatorRequest: TypeAlias = Join | Beat | ProposeIsr | Resign | Leave | ClusterQuery | Status


class BrokerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A broker as yak-zk knows it.  inc: of its live session, "" without one."""

    id: int
    host: str
    port: int
    live: bool
    inc: str = ""
    state: LogState = "whole"


class ClusterView(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="cluster"):
    """The cluster document as yak-zk pushes it at every change.

    version counts the document's changes (not those of `brokers`' liveness); leader is null
    while there is none.
    """

    cluster: str
    version: int
    epoch: int
    leader: int | None
    isr: list[int]
    settings: Settings
    brokers: list[BrokerInfo]


# -- Answers --------------------------------------------------------------------------------------


class JoinAnswer(Answer, kw_only=True):
    """To join and cluster."""

    view: ClusterView


class BeatAnswer(Answer, kw_only=True):
    """number: yak-zk's own, to be echoed.

    heard: the newest of the broker's numbers that renewed its session, 0 for the join; a lease
    counts from when that one was sent.
    """

    number: int
    heard: int


class IsrAnswer(Answer, kw_only=True):
    version: int
    isr: list[int]


class Election(msgspec.Struct, kw_only=True):
    """One decision of yak-zk, for its status."""

    time: int
    epoch: int
    leader: int | None
    reason: str


class SessionEntry(msgspec.Struct, kw_only=True):
    broker: int
    host: str
    port: int
    live: bool
    heartbeat_age_ms: int | None
    state: LogState


class CoordinatorStatus(Answer, kw_only=True):
    role: str = "coordinator"
    cluster: str
    version: int
    epoch: int
    leader: int | None
    isr: list[int]
    settings: Settings
    sessions: list[SessionEntry]
    elections: list[Election]
    uptime_s: float = 0.0
