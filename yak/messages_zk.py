"""What brokers, operators and yak-zk say to each other: section 5 of docs/protocol.md.

yak/messages.py has the rules, and names all of this again: it is what others import.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from yak.config import Settings
from yak.messages_base import Answer, Count, Epoch, Id, Index, Request, Status

#: How a broker's log came out of its last stop; replication.md, "Disk".
LogState: TypeAlias = Literal["whole", "torn", "damaged", "unclean"]


class Join(Request, tag="join", kw_only=True):
    """A broker opens its session.  cluster: null from an empty data directory.

    end: [epoch, index] of the last operation it holds, [0, 0] if none.  epoch: the highest
    epoch it has taken part in.  seen: [epoch, version] of the cluster document that it stood on
    when it held that, [0, 0] before its first one.  lineage: the marks of its data directory's
    runs of which yak-zk may have heard, newest last; empty where that does not count.
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
    seen: tuple[Epoch, Count] = (0, 0)
    lineage: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The newest of its lineage, "" without one."""
        return self.lineage[-1] if self.lineage else ""


class Beat(Request, tag="heartbeat", kw_only=True):
    """A broker's heartbeat: its own number, and the last one it heard from yak-zk.

    end, seen: as in a join; left out, they are what they were.
    """

    number: Count
    heard: Count
    end: tuple[Epoch, Index] | UnsetType = UNSET
    seen: tuple[Epoch, Count] | UnsetType = UNSET


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
    """A broker says goodbye: its session ends now, by its own will.

    mark: the newest of its data directory's lineage; "" where that does not count.
    """

    mark: str = ""


class ClusterQuery(Request, tag="cluster", kw_only=True):
    """Anybody asks for the cluster document."""


class Elect(Request, tag="elect", kw_only=True):
    """An operator orders that a broker leads.

    plan: from the answer that the operator looked at; left out, it is only said what would be.
    """

    broker: Id
    plan: str | UnsetType = UNSET


class Adopt(Request, tag="adopt", kw_only=True):
    """An operator orders that this yak-zk takes over a cluster whose brokers it refused.

    cluster: the only one that there is, if left out.  isr: who must have come before anybody is
    elected; all that were refused, if left out.  plan: as in Elect.
    """

    cluster: str | UnsetType = UNSET
    isr: list[Id] | UnsetType = UNSET
    plan: str | UnsetType = UNSET


CoordinatorRequest: TypeAlias = (
    Join | Beat | ProposeIsr | Resign | Leave | ClusterQuery | Elect | Adopt | Status
)


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


class OrderEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A broker as an order found it.  end: [epoch, index] of its log, null if it never said."""

    broker: int
    live: bool
    in_sync: bool
    state: LogState
    end: tuple[int, int] | None
    why: str = ""


class OrderAnswer(Answer, kw_only=True):
    """To elect and adopt: what was done, or what would be.

    plan: names this very answer, for the request that has it done.  would: what is done, in words
    that follow "would".  losses: what may be lost by it, in words.  epoch, leader, isr: as they
    are after it.  brokers: as they are before it.
    """

    done: bool
    plan: str
    would: str
    losses: list[str]
    cluster: str
    epoch: int
    leader: int | None
    isr: list[int]
    brokers: list[OrderEntry]


class SessionEntry(msgspec.Struct, kw_only=True):
    broker: int
    host: str
    port: int
    live: bool
    heartbeat_age_ms: int | None
    state: LogState
    #: Why it is not whole.
    why: str = ""
    #: [epoch, index] of its log's last operation, as last heard; null where it never said.
    end: tuple[int, int] | None = None


class RefusedEntry(msgspec.Struct, kw_only=True):
    """A join that was refused with CLUSTER_MISMATCH, for the operator to look at."""

    broker: int
    host: str
    port: int
    cluster: str | None
    disk: str
    state: LogState
    end: tuple[int, int]
    epoch: int
    age_ms: int
    why: str


class Happened(msgspec.Struct, kw_only=True):
    """One line of yak-zk's events.jsonl."""

    time: int
    event: str
    fields: dict[str, Any]


class CoordinatorStatus(Answer, kw_only=True):
    """events: the last ones of this process, oldest first.  memory: bytes, as a broker's."""

    role: str = "coordinator"
    cluster: str
    version: int
    epoch: int
    leader: int | None
    isr: list[int]
    settings: Settings
    sessions: list[SessionEntry]
    elections: list[Election]
    refused: list[RefusedEntry] = msgspec.field(default_factory=list)
    uptime_s: float = 0.0
    events: list[Happened] = msgspec.field(default_factory=list)
    memory: int = 0
