"""`yak group describe|list`: which records have reached which consumer, and which have not.

    topic   partition  member  client  delivered  acked  high watermark  lag
    orders          0  c1-9f   c1             57     43              60   17

delivered: handed to the member, as its last heartbeat said.  acked: received for good; `-` where
the group has never acknowledged.  lag: what is not acknowledged yet.

Not here: what these numbers follow from; that is yak.core.delivery.
"""

from __future__ import annotations

import click

from yak.admin import Admin
from yak.commands.options import examples, option_bootstrap, option_json
from yak.commands.output import Cell, echo_json, many, table
from yak.messages import GroupAnswer


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_GROUP"},
    epilog=examples("yak group list", "yak group describe billing", "yak group describe g --json"),
)
def group() -> None:
    """List and describe consumer groups."""


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
@click.argument("name", metavar="GROUP")
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
