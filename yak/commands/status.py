"""`yak status`: the cluster as its brokers see it, each by its own word.

    cluster 5e0c…  epoch 3  broker 2 leads  in sync: 2, 3
    broker  address          role      epoch  in sync  log end  committed  behind  state
         1  127.0.0.1:9092   -             -  no             -          -       -  down: …
         2  127.0.0.1:9093   leader        3  yes           61         60       -  whole
         3  127.0.0.1:9094   follower      3  yes           61         60  3 ms    whole

behind: how long ago the follower last had all that the leader had, as the leader sees it.

Below it, what a broker found wrong with its disk since it started, mended or not:

    broker 3 found at 2026-11-22T09:41:00Z: torn: 12 bytes were cut from the log's end: …
        mended at 2026-11-22T09:41:01Z: all that the leader has is here, and in sync

Exit code 1 if no broker leads, so that scripts can wait for one.

Not here: yak-zk's own view, which `--zk` adds in one line: why this broker leads.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from yak.admin import Admin
from yak.commands.options import ADDRESS, examples, option_bootstrap, option_json
from yak.commands.output import Cell, echo_json, table
from yak.messages import CoordinatorStatus, Finding
from yak.net.reports import BrokerReport, ClusterReport


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_STATUS"},
    epilog=examples(
        "yak status",
        "yak status --zk 127.0.0.1:2181           and why this broker leads",
        "yak status --json | jq .leader",
    ),
)
@option_bootstrap
@click.option("--zk", type=ADDRESS, help="Ask yak-zk as well.")
@option_json
def status(*, bootstrap: str, zk: str | None, as_json: bool) -> int:
    """Show the cluster and each broker; works while some of them are down, and says which."""
    with Admin(bootstrap, client="yak-status") as admin:
        report = admin.status()
        coordinator = admin.coordinator(zk) if zk else None
    if as_json:
        echo_json({"coordinator": coordinator, **_as_dict(report)})
    else:
        click.echo(_described(report, coordinator))
    return 0 if report.leader is not None else 1


def _as_dict(report: ClusterReport) -> dict[str, object]:
    return {
        "cluster": report.cluster,
        "epoch": report.epoch,
        "leader": report.leader,
        "isr": report.isr,
        "brokers": [
            {
                "id": one.id,
                "address": str(one.address),
                "error": one.error or None,
                "status": one.status,
            }
            for one in report.brokers
        ],
    }


def _described(report: ClusterReport, coordinator: CoordinatorStatus | None) -> str:
    leads = "nobody leads" if report.leader is None else f"broker {report.leader} leads"
    lines = [
        f"cluster {report.cluster or '(none yet)'}  epoch {report.epoch}  {leads}  in sync: "
        + (", ".join(map(str, report.isr)) or "nobody")
    ]
    if coordinator is not None and coordinator.elections:
        lines.append(f"why: {coordinator.elections[-1].reason}")
    header = (
        "broker", "address", "role", "epoch", "in sync", "log end", "committed", "behind", "state",
    )  # fmt: skip
    lines.append(table(header, [_row(one, report) for one in report.brokers]))
    for one in report.brokers:
        for found in one.status.found if one.status is not None else ():
            lines += _found(one.id, found)
    return "\n".join(lines)


def _found(broker: int | None, found: Finding) -> list[str]:
    times = f" ({found.times} times)" if found.times > 1 else ""
    end = "not mended yet"
    if found.mended is not None:
        end = f"mended at {_when(found.mended)}: {found.how}"
    return [
        f"broker {broker} found at {_when(found.time)}: {found.kind}{times}: {found.what}",
        f"    {end}",
    ]


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(one: BrokerReport, report: ClusterReport) -> list[Cell]:
    in_sync = "yes" if one.id in report.isr else "no"
    if one.status is None:
        state = f"down: {one.error}"
        return [one.id, str(one.address), None, None, in_sync, None, None, None, state]
    word = one.status
    return [
        one.id,
        str(one.address),
        word.role,
        word.epoch,
        in_sync,
        word.log_end,
        word.committed,
        _behind(one, report),
        word.state,
    ]


def _behind(one: BrokerReport, report: ClusterReport) -> str | None:
    leader = report.broker(report.leader)
    for follower in leader.followers if leader is not None else []:
        if follower.id == one.id:
            return f"{follower.lag_ms} ms"
    return None
