"""`yak broker list|describe`: what brokers say of themselves.

    id  address         role      in sync  live  state
     1  127.0.0.1:9092  leader    yes      yes   whole
     2  127.0.0.1:9093  follower  yes      yes   whole
     3  127.0.0.1:9094  -         no       no    down
    broker 3 is down: cannot connect to 127.0.0.1:9094: Connection refused

Each is asked for itself, so that this works while nobody leads, and while some are down.

Not here: the cluster as a whole (status.py), running a broker (broker.py).
"""

from __future__ import annotations

from typing import Any, Final

import click
import msgspec

from yak.admin import Admin
from yak.commands.completing import complete_broker
from yak.commands.options import COUNT, examples, option_bootstrap, option_json
from yak.commands.output import (
    Cell,
    echo_json,
    echo_wrapped,
    listed,
    table,
    window_width,
    wrapped,
)
from yak.commands.reaching import Waiting
from yak.config import MIB
from yak.net.reports import BrokerReport, ClusterReport

#: Of a status, what is shown beside it, or is no news.
_ELSEWHERE: Final = frozenset(("ok", "role", "broker", "host", "port"))


@click.command(
    name="list", epilog=examples("yak broker list", "yak broker list --json | jq '.[].address'")
)
@option_bootstrap
@option_json
def list_(*, bootstrap: str, as_json: bool) -> None:
    """List all brokers that the cluster has known."""
    report = _asked(bootstrap, "yak-broker-list")
    if as_json:
        echo_json([_facts(one, report) for one in report.brokers])
        return
    header = ("id", "address", "role", "in sync", "live", "state")
    rows: list[list[Cell]] = []
    for one in report.brokers:
        facts = _facts(one, report)
        state = facts["state"] if one.status is not None else "down"
        words = ["yes" if facts[name] else "no" for name in ("in_sync", "live")]
        rows.append([one.id, facts["address"], facts["role"], *words, state])
    click.echo(table(header, rows))
    for one in report.brokers:
        if one.status is None:
            echo_wrapped(f"broker {one.id} is down: {one.error}")


@click.command(epilog=examples("yak broker describe 2", "yak broker describe 2 --json | jq .fsync"))
@click.argument("broker", type=COUNT, shell_complete=complete_broker)
@option_bootstrap
@option_json
def describe(*, broker: int, bootstrap: str, as_json: bool) -> int:
    """Show one broker by its own word.  Exit code 1 if it does not answer."""
    report = _asked(bootstrap, "yak-broker-describe")
    found = next((one for one in report.brokers if one.id == broker), None)
    if found is None:
        known = listed([str(one.id) for one in report.brokers])
        raise click.ClickException(f"the cluster knows no broker {broker}; there are {known}")
    facts = _facts(found, report)
    status = None if found.status is None else _status(found)
    if as_json:
        echo_json({**facts, "status": status})
    else:
        lines = {name: facts[name] for name in ("address", "live", "in_sync", "role", "error")}
        width = max(map(len, [*lines, *(status or {})])) + 2
        shown = {**lines, **(status or {})}
        click.echo(f"broker {broker}")
        for name, value in shown.items():
            if value not in (None, "", []):
                head = f"{name.replace('_', ' '):<{width}}"
                for line in wrapped(_shown(name, value), window_width(), head, " " * width):
                    click.echo(line)
    return 0 if status is not None else 1


def _asked(bootstrap: str, client: str) -> ClusterReport:
    with Admin(bootstrap, client=client, on_waiting=Waiting(bootstrap)) as admin:
        return admin.status()


def _facts(one: BrokerReport, report: ClusterReport) -> dict[str, Any]:
    return {
        "id": one.id,
        "address": str(one.address),
        "live": one.status is not None,
        "role": None if one.status is None else one.status.role,
        "in_sync": one.id in report.isr,
        "state": None if one.status is None else one.status.state,
        "error": one.error or None,
    }


def _status(one: BrokerReport) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(one.status)
    return {name: value for name, value in shown.items() if name not in _ELSEWHERE}


def _shown(name: str, value: Any) -> str:
    match name:
        case "memory":
            return f"{value / MIB:,.1f} MiB"
        case "followers":
            return "; ".join(
                f"{one['id']} has all up to {one['matched']:,}, {one['lag_ms']:,} ms behind, "
                f"{'in sync' if one['in_sync'] else 'not in sync'}"
                for one in value
            )
        case _:
            return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        if not all(isinstance(item, dict) for item in value):
            return ", ".join(map(str, value))
        return "; ".join("  ".join(f"{k} {v}" for k, v in item.items()) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
