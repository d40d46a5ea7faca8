"""`yak group list|describe|seek|delete`: which records have reached which consumer.

    topic   partition  member  client  delivered  acked  high watermark  lag
    orders          0  c1-9f   c1             57     43              60   17

delivered: handed to the member, as its last heartbeat said.  acked: received for good; `-` where
the group has never acknowledged.  lag: what is not acknowledged yet.

A group is moved and deleted from outside only while it has no members; both ask first.

Not here: what these numbers follow from (yak.core.delivery), and what would happen, in words
(plans.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click

from yak.admin import Place
from yak.commands.completing import complete_group, complete_topic
from yak.commands.confirm import confirmed
from yak.commands.options import (
    examples,
    option_bootstrap,
    option_dry_run,
    option_json,
    option_yes,
)
from yak.commands.output import Cell, echo_json, many, table
from yak.commands.plans import check_empty, group_deletion, place, seeking
from yak.commands.reaching import Admin
from yak.commands.starts import Start, StartType
from yak.messages import GroupAnswer
from yak.model import TopicPartition


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_GROUP"},
    epilog=examples(
        "yak group list",
        "yak group describe billing",
        "yak group describe billing --json",
        "yak group seek billing orders --to beginning",
        "yak group delete billing --yes",
    ),
)
def group() -> None:
    """List, describe, move and delete consumer groups."""


@group.command(name="list")
@option_bootstrap
@option_json
def list_(*, bootstrap: str, as_json: bool) -> None:
    """List all groups."""
    with Admin(bootstrap) as admin:
        groups = admin.groups()
    if as_json:
        echo_json(groups)
    elif groups:
        click.echo("\n".join(groups))
    else:
        click.echo("no groups: `yak consume TOPIC -g NAME` makes one", err=True)


@group.command()
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@option_bootstrap
@option_json
def describe(*, name: str, bootstrap: str, as_json: bool) -> None:
    """Show who has what: delivered, acknowledged, and how far behind."""
    with Admin(bootstrap) as admin:
        answer = admin.group(name)
    if as_json:
        echo_json(
            {
                "group": name,
                "generation": answer.generation,
                "members": answer.members,
                "partitions": answer.partitions,
            }
        )
    elif not answer.members and not answer.partitions:
        click.echo(f"group {name} has no members and has never acknowledged anything", err=True)
    else:
        click.echo(_described(name, answer))


@group.command(
    epilog=examples(
        "yak group seek billing orders --to beginning              everything once more",
        "yak group seek billing --to end                           in all topics that it reads",
        "yak group seek billing orders --partition 0 --to 4000",
        "yak group seek billing orders --to @2026-11-22T09:00:00Z --dry-run",
    )
)
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@click.argument("topics", metavar="[TOPIC]...", nargs=-1, shell_complete=complete_topic)
@click.option(
    "--to",
    "start",
    type=StartType(),
    required=True,
    help="beginning, end, an offset, -N (N before the end), or @TIME (ms or ISO 8601).",
)
@click.option(
    "--partition",
    "partitions",
    type=click.IntRange(min=0),
    multiple=True,
    help="Only this partition of the topic; repeatable.  [default: all]",
)
@option_yes
@option_dry_run
@option_bootstrap
@option_json
def seek(
    *,
    name: str,
    topics: tuple[str, ...],
    start: Start,
    partitions: tuple[int, ...],
    yes: bool,
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Let a group without members go on somewhere else.

    TOPIC left out: all topics that the group has acknowledged anything of.
    """
    if start == "stored":
        raise click.UsageError("--to: say beginning, end, N, -N or @TIME")
    if partitions and len(topics) != 1:
        raise click.UsageError("--partition goes with exactly one TOPIC")
    with Admin(bootstrap) as admin:
        stands = admin.group(name)
        check_empty(name, stands)
        wanted = topics or sorted({row.topic for row in stands.partitions})
        if not wanted:
            raise click.ClickException(f"group {name} has acknowledged nothing: name the TOPIC")
        offsets = _found(admin, wanted, place(start), partitions)
        plan = seeking(name, stands, offsets)
        if not confirmed(plan.what, yes=yes, dry_run=dry_run, as_json=as_json, facts=plan.facts):
            return
        admin.seek_group(name, offsets)
    if as_json:
        echo_json(plan.facts)
    else:
        header = ("topic", "partition", "was", "to")
        rows = [[row[key] for key in header] for row in plan.facts["partitions"]]
        click.echo(table(header, rows))


def _found(
    admin: Admin, topics: Iterable[str], to: Place, partitions: Collection[int]
) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    for topic in topics:
        found |= admin.find_offsets(topic, to, partitions or None)
    return found


@group.command()
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@option_yes
@option_dry_run
@option_bootstrap
@option_json
def delete(*, name: str, yes: bool, dry_run: bool, bootstrap: str, as_json: bool) -> None:
    """Forget a group without members, and all that it acknowledged."""
    with Admin(bootstrap) as admin:
        if name not in admin.groups():
            raise click.ClickException(
                f"there is no group {name}; `yak group list` shows those that there are"
            )
        stands = admin.group(name)
        check_empty(name, stands)
        plan = group_deletion(name, stands)
        if not confirmed(plan.what, yes=yes, dry_run=dry_run, as_json=as_json, facts=plan.facts):
            return
        admin.delete_group(name)
    if as_json:
        echo_json(plan.facts)
    else:
        click.echo(f"group {name} is deleted")


def _described(name: str, answer: GroupAnswer) -> str:
    clients = {member.member: member.client for member in answer.members}
    idle = [m for m in answer.members if not any(p.member == m.member for p in answer.partitions)]
    rows: list[list[Cell]] = [
        [
            one.topic,
            one.partition,
            one.member,
            clients.get(one.member) if one.member is not None else None,
            one.delivered,
            one.acked,
            one.high_watermark,
            one.lag,
        ]
        for one in answer.partitions
    ]
    rows += [[None, None, m.member, m.client, None, None, None, None] for m in idle]
    title = (
        f"group {name}  generation {answer.generation}  {many(len(answer.members), 'member')}  "
        f"lag {sum(one.lag for one in answer.partitions):,}"
    )
    header = (
        "topic", "partition", "member", "client", "delivered", "acked", "high watermark", "lag",
    )  # fmt: skip
    return f"{title}\n{table(header, rows)}"
