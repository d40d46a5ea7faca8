"""Cluster documents and brokers as the coordinator's rules meet them, for their tests.

Broker k has disk dk and runs as incarnation ik.1; the cluster is C.
"""

from __future__ import annotations

from typing import Any

from yak import messages as m
from yak.config import Settings
from yak.core import election, joins
from yak.core.document import Document, Known, Liveness, Present, Replica, Suspect

NEW = Document(cluster="C", settings=Settings())


def there(*brokers: int, **ends: tuple[int, int]) -> dict[int, Present]:
    """Live sessions, each with incarnation i<id>.1 on disk d<id>; b2=(3, 7) gives a log's end."""
    return {i: Present(inc=f"i{i}.1", disk=f"d{i}", end=ends.get(f"b{i}", (3, 9))) for i in brokers}


def alive(*brokers: int, **more: Any) -> Liveness:
    return Liveness(present=there(*brokers), **more)


def agreed(leader: int | None = 1, isr: tuple[int, ...] = (1, 2, 3), **more: Any) -> Document:
    """Epoch 3, version 12."""
    return Document(
        cluster="C",
        version=12,
        epoch=3,
        leader=leader,
        leader_inc=f"i{leader}.1" if leader else "",
        isr=tuple(Replica(i, f"d{i}") for i in isr),
        brokers={i: Known("127.0.0.1", 9091 + i, f"d{i}") for i in isr},
        **{"settings": Settings(), **more},
    )


def suspect(broker: int, state: m.LogState) -> dict[int, Suspect]:
    return {broker: Suspect(state=state, disk=f"d{broker}", inc=f"i{broker}.1", why="it said so")}


def a_join(broker: int, **more: Any) -> m.Join:
    usual: dict[str, Any] = {
        "id": 0,
        "broker": broker,
        "host": "127.0.0.1",
        "port": 9091 + broker,
        "cluster": "C",
        "disk": f"d{broker}",
        "inc": f"i{broker}.1",
        "state": "whole",
        "end": (3, 9),
        "epoch": 3,
    }
    return m.Join(**{**usual, **more})


def decide(document: Document, living: Liveness) -> Document:
    """The document alone, without what is told."""
    return election.decide(document, living, 1_763_800_000_000)[0]


def take_in(
    document: Document, request: m.Join, live: Present | None = None, **more: bool
) -> Document:
    """Likewise."""
    return joins.take_in(document, request, live, **more)[0]
