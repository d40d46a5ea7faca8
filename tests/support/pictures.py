"""A picture of a cluster for `yak status` and `yak top`, without a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.support.playbook import WALL_MS
from yak import messages as m
from yak.commands.picture import Picture, TopicNow
from yak.config import Settings
from yak.model import Address
from yak.net.reports import BrokerReport, ClusterReport

MIB = 1024 * 1024


def a_status(broker: int, *, leader: int | None = 1, epoch: int = 3, **more: Any) -> m.StatusAnswer:
    followers = [
        m.FollowerStatus(id=one, matched=60, lag_ms=one, in_sync=True)
        for one in (1, 2, 3)
        if one != broker
    ]
    fields = {
        "broker": broker,
        "cluster": "5c961eb8-6877-4128-ad4d-d00c764a47f1",
        "role": "leader" if broker == leader else "follower",
        "epoch": epoch,
        "leader": leader,
        "isr": [1, 2, 3],
        "state": "whole",
        "log_start": 1,
        "log_end": 61,
        "committed": 60,
        "applied": 60,
        "lease_ms": 1000,
        "followers": followers if broker == leader else [],
        "topics": 1,
        "memory": 33 * MIB,
    }
    return m.StatusAnswer(**{**fields, **more})


def a_report(
    *, down: Iterable[int] = (), leader: int | None = 1, isr: list[int] | None = None, **more: Any
) -> ClusterReport:
    isr = [1, 2, 3] if isr is None else isr
    return ClusterReport(
        cluster="5c961eb8-6877-4128-ad4d-d00c764a47f1",
        epoch=3,
        leader=leader,
        isr=isr,
        brokers=[
            BrokerReport(
                id=one,
                address=Address("127.0.0.1", 9091 + one),
                status=None if one in down else a_status(one, leader=leader, isr=isr, **more),
                error=f"cannot connect to 127.0.0.1:{9091 + one}: Connection refused"
                if one in down
                else "",
            )
            for one in (1, 2, 3)
        ],
    )


def a_coordinator(**more: Any) -> m.CoordinatorStatus:
    fields: dict[str, Any] = {
        "cluster": "5c961eb8-6877-4128-ad4d-d00c764a47f1",
        "version": 9,
        "epoch": 3,
        "leader": 1,
        "isr": [1, 2, 3],
        "settings": Settings(),
        "sessions": [
            m.SessionEntry(
                broker=one,
                host="127.0.0.1",
                port=9091 + one,
                live=True,
                heartbeat_age_ms=100 + one,
                state="whole",
            )
            for one in (1, 2, 3)
        ],
        "elections": [
            m.Election(time=WALL_MS - 9000, epoch=1, leader=2, reason="a new cluster"),
            m.Election(time=WALL_MS - 2000, epoch=3, leader=1, reason="leader 2 is gone"),
        ],
        "events": [
            m.Happened(
                time=WALL_MS - 2001,
                event="died",
                fields={"broker": 2, "reason": "its port refuses connections"},
            ),
            m.Happened(
                time=WALL_MS - 2000,
                event="elected",
                fields={"epoch": 3, "leader": 1, "isr": [1, 3], "reason": "leader 2 is gone"},
            ),
        ],
    }
    return m.CoordinatorStatus(**{**fields, **more})


def a_group(*, acked: int = 43, delivered: int = 57, members: int = 1) -> m.GroupAnswer:
    """It reads two partitions of orders, one of them to the end."""
    names = [f"c{n}-19" for n in range(1, members + 1)]
    rows = [
        m.GroupPartition(
            topic="orders",
            partition=number,
            acked=acked,
            delivered=delivered,
            high_watermark=60,
            lag=60 - acked,
            member=names[number % members] if members else None,
        )
        for number in (0, 1)
    ]
    return m.GroupAnswer(
        generation=4,
        members=[
            m.MemberEntry(member=name, client="c", generation=4, assignment=[], topics=["orders"])
            for name in names
        ],
        partitions=rows,
    )


def a_picture(*, at: float = 100.0, end: int = 60, **more: Any) -> Picture:
    fields: dict[str, Any] = {
        "time": WALL_MS,
        "at": at,
        "report": a_report(),
        "coordinator": a_coordinator(),
        "topics": [TopicNow(topic="orders", partitions=[(0, end), (10, 60)])],
        "groups": {"billing": a_group()},
    }
    return Picture(**{**fields, **more})
