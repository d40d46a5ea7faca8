"""Which ports `yak up` gives to its processes, by --ports and --metrics-port.

    --ports any            any free ones
    --ports 19000          yak-zk's, and the brokers' one after the other behind it
    --ports 2181,9092,…    yak-zk's, and each broker's
    --metrics-port 9308    yak-zk's page of metrics; broker N's is N further

Not here: taking them (yak.local.ports).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from yak.commands.output import many
from yak.local.cluster import HOST, Ports
from yak.model import MAX_PORT


def chosen_ports(
    given: list[int] | None, ids: Sequence[int], host: str = HOST, metrics: int | None = None
) -> Ports:
    """given: as PortsType reads --ports.  ids: of the brokers, ascending.  Raises UsageError."""
    if metrics is not None and metrics + ids[-1] > MAX_PORT:
        raise click.UsageError(f"--metrics-port {metrics}: {MAX_PORT} is the highest port there is")
    return dataclasses.replace(_chosen(given, ids), host=host, metrics=metrics)


def _chosen(given: list[int] | None, ids: Sequence[int]) -> Ports:
    if given is None:
        return Ports.usual(ids)
    if given == [0]:
        return Ports.free(ids)
    if len(given) == 1:
        given = list(range(given[0], given[0] + len(ids) + 1))
    if len(given) != len(ids) + 1 or given[-1] > MAX_PORT:
        raise click.UsageError(
            f"--ports: {many(len(ids), 'broker')} and yak-zk need {len(ids) + 1} ports up to "
            f"{MAX_PORT}, yak-zk's first"
        )
    zk, *rest = given
    return Ports(zk, dict(zip(ids, rest, strict=True)))
