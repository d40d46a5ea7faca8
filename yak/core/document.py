"""The cluster document, and who is there: what the rules of election are about.

The document is all that the cluster has agreed on.  yak-zk writes it to state.json before it
tells anyone; it is compared and set as a whole, and could one day lie in ZooKeeper or etcd:

    {"format":1,"cluster":"5f0c…","version":12,"epoch":3,"leader":1,"leader_inc":"9b1e…",
     "isr":[{"id":1,"disk":"77aa…"},{"id":2,"disk":"c0de…"}],"suspects":{},
     "brokers":{"1":{"host":"127.0.0.1","port":9092,"disk":"77aa…"}, …},
     "settings":{…},"elections":[…]}

What it does not do: it decides nothing; the rules are in core/election.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from yak import messages as m
from yak.config import Settings

#: Elections that the document remembers, for `status`; all of them are in events.jsonl.
ELECTIONS_REMEMBERED: Final = 20


class Replica(msgspec.Struct, frozen=True):
    """A member of the ISR: the broker, and the very disk that holds the log."""

    id: int
    disk: str


class Suspect(msgspec.Struct, frozen=True):
    """A broker that is not whole.  state, why: as first reported; disk, inc: as last joined."""

    state: m.LogState
    disk: str
    inc: str
    why: str


class Known(msgspec.Struct, frozen=True):
    """A broker that has joined at some time: where it listened, on which disk.

    inc, mark: the last process that was taken in, and the newest mark of its disk's lineage; ""
    where it was not said.
    """

    host: str
    port: int
    disk: str
    inc: str = ""
    mark: str = ""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """All that the cluster has agreed on.  Replaced, never changed.

    epoch: the newest that was given; 0 before the first.  leader_inc: the incarnation that was
    elected, "" without a leader.  isr: ascending by id.
    Invariant: a leader is in the ISR, and whole when elected.
    """

    format: int = 1
    cluster: str
    version: int = 0
    epoch: int = 0
    leader: int | None = None
    leader_inc: str = ""
    isr: tuple[Replica, ...] = ()
    suspects: dict[int, Suspect] = {}
    brokers: dict[int, Known] = {}
    settings: Settings
    elections: tuple[m.Election, ...] = ()

    @property
    def isr_ids(self) -> list[int]:
        return [replica.id for replica in self.isr]


class Present(NamedTuple):
    """What a live session says of its broker.

    end: (epoch, index) of its log's last operation.  seen: (epoch, version) of the document that
    the broker stood on when its log ended there.
    """

    inc: str
    disk: str
    end: tuple[int, int]
    seen: tuple[int, int] = (0, 0)


class Liveness(NamedTuple):
    """Who is there, as the rules need it.

    present: live sessions.  presumed: not heard of since yak-zk started, and not declared dead.
    cooling: resigned a while ago.  resting: resigned just now.  bootstrap: whether a first
    leader may be chosen by now.  gone: why a session ended, for the reasons given.  unsettled:
    of those present, whose log may have grown since they said where it ends.  ends: of those
    that are gone, what they last said of it.
    """

    present: Mapping[int, Present]
    presumed: frozenset[int] = frozenset()
    cooling: frozenset[int] = frozenset()
    resting: frozenset[int] = frozenset()
    bootstrap: bool = False
    gone: Mapping[int, str] = {}
    unsettled: frozenset[int] = frozenset()
    ends: Mapping[int, tuple[int, int]] = {}
