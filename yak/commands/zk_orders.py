"""`yak zk status|elect|adopt`: what an operator asks of yak-zk, and orders.

    $ yak zk elect 2
    broker  in sync  state    here  log ends with
         1  yes      unclean  yes   operation 41 of epoch 3
         2  yes      unclean  yes   operation 43 of epoch 3
    what may be lost by it:
      - what was acknowledged after operation 43 of epoch 3, where the log of broker 2 ends
      - broker 2 is unclean: it joined with its log unclean
    This would elect broker 2, which is unclean and whose log ends with …, with 1, 2 in sync.
    Go on? [y/N]:

* An order is first looked at.  What was looked at is what is done: if anything has changed until
  the answer came, yak-zk refuses, and nothing was done.
* Where nothing may be lost (the lead moves to a broker that has all), nothing is asked.

Exit code of `status` 1 if no broker leads, as that of `yak status`.

Not here: who may be elected, and what may be lost; yak-zk says that (core/orders.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from yak.admin import Admin
from yak.commands.confirm import confirmed, only_said
from yak.commands.options import (
    ADDRESS,
    COUNT,
    examples,
    option_dry_run,
    option_json,
    option_yes,
    running_zk,
)
from yak.commands.output import Cell, echo_json, listed, table
from yak.config import DEFAULT_ZK
from yak.errors import YakError
from yak.messages import CoordinatorStatus, OrderAnswer

#: So many of the last elections are shown; `--json` has all that yak-zk remembers.
ELECTIONS_SHOWN: Final = 5

#: What to do where the answer to the order itself did not come.
_MAYBE_DONE: Final = "the order may have been done all the same: look at `yak zk status`"

_option_zk = click.option(
    "--zk",
    "address",
    type=ADDRESS,
    default=running_zk,
    show_default=f"that of `yak up`, else {DEFAULT_ZK}",
    envvar="YAK_ZK",
    help="Where yak-zk listens.",
)


@click.command(epilog=examples("yak zk status", "yak zk status --json | jq .refused"))
@_option_zk
@option_json
def status(*, address: str, as_json: bool) -> int:
    """Show who is here, who was refused, and why the leader leads."""
    with _asking("yak-zk-status") as admin:
        found = admin.coordinator(address)
    if as_json:
        echo_json(_without_ok(found))
    else:
        click.echo(_described(found))
    return 0 if found.leader is not None else 1


@click.command(
    epilog=examples(
        "yak zk elect 2                moves the lead, if broker 2 is in sync and whole",
        "yak zk elect 2 --dry-run      what may be lost, if it is not",
    )
)
@click.argument("broker", type=COUNT)
@_option_zk
@option_yes
@option_dry_run
@option_json
def elect(*, broker: int, address: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Have a broker lead: to move the lead, or where yak-zk elects nobody.

    A broker that is in sync and whole takes over from the leader, and nothing is lost.  Any other
    one may lack what was acknowledged.  It is elected only where yak-zk finds nobody that has it
    all, and what may be lost is said before; others may have to be started again, or even
    emptied (docs/operations.md).
    """
    with _asking("yak-zk-elect") as admin:
        _order(
            lambda plan: admin.elect(address, broker, plan=plan),
            lambda done: f"broker {done.leader} leads epoch {done.epoch}",
            yes=yes,
            dry_run=dry_run,
            as_json=as_json,
        )


@click.command(
    epilog=examples(
        "yak zk adopt --dry-run        whose brokers were refused, and what may be lost",
        "yak zk adopt --isr 1,2        without waiting for broker 3",
    )
)
@click.option("--cluster", metavar="ID", help="The cluster to adopt.  [default: the only one]")
@click.option(
    "--isr",
    metavar="N,N,…",
    callback=lambda _context, _option, value: _numbers(value),
    help="Who must have come before one of them is elected.  [default: all that were refused]",
)
@_option_zk
@option_yes
@option_dry_run
@option_json
def adopt(
    *,
    cluster: str | None,
    isr: list[int] | None,
    address: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take over a cluster whose yak-zk has lost its state.

    Such brokers are refused, and remembered.  Adopted, they are waited for; once all have joined,
    the one whose log goes furthest leads.  A running broker joins by itself, one that has ended
    must be started again.
    """
    with _asking("yak-zk-adopt") as admin:
        _order(
            lambda plan: admin.adopt(address, cluster, isr, plan=plan),
            lambda done: (
                f"cluster {done.cluster} is adopted: brokers "
                f"{listed([str(i) for i in done.isr])} are waited for"
            ),
            yes=yes,
            dry_run=dry_run,
            as_json=as_json,
        )


@contextmanager
def _asking(client: str) -> Iterator[Admin]:
    """An Admin that says of yak-zk, not of a broker, that it is not there."""
    try:
        with Admin(client=client) as admin:
            yield admin
    except YakError as error:
        if error.name == "CONNECTION" and error.hint != _MAYBE_DONE:
            error.hint = "is yak-zk running there? `yak-zk` starts it; --zk HOST:PORT names another"
        raise


def _numbers(text: str | None) -> list[int] | None:
    """`1,2,3`"""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and part.isascii() for part in parts):
        raise click.BadParameter(f"{text!r}: say brokers' numbers, as 1,2,3")
    return [int(part) for part in parts]


def _order(
    give: Callable[[str | None], OrderAnswer],
    said: Callable[[OrderAnswer], str],
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Look, ask where something may be lost, and have the very same done."""
    order = give(None)
    facts = _without_ok(order)
    if order.losses and not (as_json and dry_run):
        click.echo(_shown(order), err=not dry_run)
    if order.losses:
        go_on = confirmed(order.would, yes=yes, dry_run=dry_run, as_json=as_json, facts=facts)
    else:
        go_on = not only_said(order.would, dry_run=dry_run, as_json=as_json, facts=facts)
    if not go_on:
        return
    try:
        done = give(order.plan)
    except YakError as error:
        if error.name in ("CONNECTION", "TIMEOUT"):
            error.hint = _MAYBE_DONE
        raise
    if as_json:
        echo_json(_without_ok(done))
    else:
        click.echo(said(done))


def _without_ok(answer: OrderAnswer | CoordinatorStatus) -> dict[str, Any]:
    """An answer's facts; `would` and `dry_run` come from the confirmation."""
    facts: dict[str, Any] = msgspec.to_builtins(answer)
    del facts["ok"]
    return facts


def _shown(order: OrderAnswer) -> str:
    rows: list[list[Cell]] = [
        [
            one.broker,
            "yes" if one.in_sync else "no",
            one.state,
            "yes" if one.live else "no",
            _operation(one.end),
        ]
        for one in order.brokers
    ]
    lines = [table(("broker", "in sync", "state", "here", "log ends with"), rows)]
    lines += ["what may be lost by it:", *(f"  - {loss}" for loss in order.losses)]
    return "\n".join(lines)


def _operation(end: tuple[int, int] | None) -> str | None:
    if end is None:
        return None
    return f"operation {end[1]} of epoch {end[0]}" if end != (0, 0) else "nothing"


# -- status ---------------------------------------------------------------------------------------


def _described(found: CoordinatorStatus) -> str:
    leads = "nobody leads" if found.leader is None else f"broker {found.leader} leads"
    isr = ", ".join(map(str, found.isr)) or "nobody"
    lines = [f"cluster {found.cluster}  epoch {found.epoch}  {leads}  in sync: {isr}"]
    lines.append(_sessions(found) if found.sessions else "no broker has joined yet")
    if found.refused:
        lines += ["", "refused, and to be had by `yak zk adopt`:", _refused(found)]
    if found.elections:
        lines += ["", "the last elections:", _elections(found)]
    return "\n".join(lines)


def _sessions(found: CoordinatorStatus) -> str:
    rows: list[list[Cell]] = [
        [
            one.broker,
            f"{one.host}:{one.port}",
            "yes" if one.live else "no",
            None if one.heartbeat_age_ms is None else f"{one.heartbeat_age_ms} ms ago",
            "yes" if one.broker in found.isr else "no",
            f"{one.state}: {one.why}" if one.why else one.state,
            _operation(one.end),
        ]
        for one in found.sessions
    ]
    header = ("broker", "address", "here", "heard", "in sync", "state", "log ends with")
    return table(header, rows)


def _refused(found: CoordinatorStatus) -> str:
    rows: list[list[Cell]] = [
        [
            one.broker,
            f"{one.host}:{one.port}",
            one.cluster,
            one.epoch,
            one.state,
            _operation(one.end),
            f"{one.age_ms / 1000:.0f} s ago",
        ]
        for one in found.refused
    ]
    header = ("broker", "address", "cluster", "epoch", "state", "log ends with", "refused")
    return table(header, rows)


def _elections(found: CoordinatorStatus) -> str:
    rows: list[list[Cell]] = [
        [
            datetime.fromtimestamp(one.time / 1000, UTC).isoformat(timespec="milliseconds")[:23]
            + "Z",
            one.epoch,
            one.leader,
            one.reason,
        ]
        for one in found.elections[-ELECTIONS_SHOWN:]
    ]
    return table(("time", "epoch", "leader", "reason"), rows)
