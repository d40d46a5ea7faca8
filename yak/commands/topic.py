"""`yak topic create|list|describe|alter|delete|trim`.

What changes something has `--dry-run`; what destroys asks first (confirm.py).

Not here: what would happen, in words (plans.py); what a topic's name or config may be: the
leader knows that, and says so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
import msgspec

from yak.admin import TopicReport
from yak.commands.completing import complete_topic
from yak.commands.confirm import confirmed, only_said
from yak.commands.options import (
    COUNT,
    PAIR,
    examples,
    option_bootstrap,
    option_dry_run,
    option_json,
    option_yes,
)
from yak.commands.output import echo_json, many, table
from yak.commands.plans import alteration, config_text, deletion, trimming
from yak.commands.reaching import Admin
from yak.commands.starts import Last, Start, StartType
from yak.errors import YakError
from yak.messages import TopicAnswer


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_TOPIC"},
    epilog=examples(
        "yak topic create orders --partitions 3",
        "yak topic create logs --config segment_bytes=1048576",
        "yak topic list",
        "yak topic describe orders --json",
        "yak topic alter orders --partitions 6 --config retention_ms=86400000",
        "yak topic trim orders --before @2026-11-22 --dry-run",
        "yak topic delete orders --yes",
    ),
)
def topic() -> None:
    """Create, list, describe, alter, trim and delete topics."""


@topic.command(
    epilog=examples(
        "yak topic create orders",
        "yak topic create orders --partitions 12 --config retention_ms=86400000",
    )
)
@click.argument("name", metavar="TOPIC")
@click.option("--partitions", type=COUNT, help="How many; the broker's default if left out.")
@click.option(
    "--config",
    type=PAIR,
    multiple=True,
    help="A setting, as segment_bytes=1048576; may be given several times.",
)
@option_dry_run
@option_bootstrap
@option_json
def create(
    *,
    name: str,
    partitions: int | None,
    config: tuple[tuple[str, str], ...],
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Make a topic."""
    settings = {key: _json_or_text(value) for key, value in config}
    with Admin(bootstrap) as admin:
        if dry_run:
            _check_absent(admin, name)
        number = "the broker's default number of" if partitions is None else f"{partitions:,}"
        what = f"create topic {name} with {number} partitions"
        what += f" and {config_text(settings)}" if settings else ""
        facts = {"topic": name, "partitions": partitions, "config": settings}
        if only_said(what, dry_run=dry_run, as_json=as_json, facts=facts):
            return
        made = admin.create_topic(name, partitions, settings)
    if as_json:
        echo_json(_made(made))
    else:
        click.echo(f"topic {made.topic} has {many(made.partitions, 'partition')}")


def _check_absent(admin: Admin, name: str) -> None:
    try:
        admin.topic(name)
    except YakError as e:
        if e.name != "UNKNOWN_TOPIC":
            raise
    else:
        raise click.ClickException(f"topic {name} exists already: this would be refused")


@topic.command(name="list")
@option_bootstrap
@option_json
def list_(*, bootstrap: str, as_json: bool) -> None:
    """List all topics."""
    with Admin(bootstrap) as admin:
        topics = admin.topics()
    if as_json:
        echo_json(topics)
    elif topics:
        rows = [
            (name, entry.partitions or 0, config_text(entry.config or {}))
            for name, entry in topics.items()
        ]
        click.echo(table(("topic", "partitions", "config"), rows))
    else:
        click.echo("no topics: `yak topic create NAME` makes one, and so does a producer", err=True)


@topic.command()
@click.argument("name", metavar="TOPIC", shell_complete=complete_topic)
@option_bootstrap
@option_json
def describe(*, name: str, bootstrap: str, as_json: bool) -> None:
    """Show one topic, and how far its partitions reach."""
    with Admin(bootstrap) as admin:
        report = admin.topic(name)
    if as_json:
        echo_json(report)
    else:
        click.echo(_described(report))


@topic.command(
    epilog=examples(
        "yak topic alter orders --partitions 6",
        "yak topic alter orders --config retention_ms=86400000 --config segment_bytes=1048576",
        "yak topic alter orders --unset retention_ms     back to the default",
    )
)
@click.argument("name", metavar="TOPIC", shell_complete=complete_topic)
@click.option("--partitions", type=COUNT, help="The new total: a topic grows, and never shrinks.")
@click.option(
    "--config", type=PAIR, multiple=True, help="A setting to set, as NAME=VALUE; repeatable."
)
@click.option("--unset", multiple=True, help="A setting that goes back to its default; repeatable.")
@option_dry_run
@option_bootstrap
@option_json
def alter(
    *,
    name: str,
    partitions: int | None,
    config: tuple[tuple[str, str], ...],
    unset: tuple[str, ...],
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Change a topic's settings, or let it have more partitions.

    A record with a key goes by the new number of partitions from then on, so the records of a
    key may lie in two of them.
    """
    settings = {key: _json_or_text(value) for key, value in config}
    if not settings and not unset and partitions is None:
        raise click.UsageError("say what to alter: --partitions, --config or --unset")
    with Admin(bootstrap) as admin:
        report = admin.topic(name)
        plan = alteration(report, partitions, settings, unset)
        if only_said(plan.what, dry_run=dry_run, as_json=as_json, facts=plan.facts):
            return
        made = _altered(admin, report, partitions, settings, unset)
    if as_json:
        echo_json(_made(made))
    else:
        now = config_text(made.config) or "no settings of its own"
        click.echo(f"topic {made.topic} has {many(made.partitions, 'partition')}, {now}")


def _altered(
    admin: Admin,
    report: TopicReport,
    partitions: int | None,
    config: dict[str, Any],
    unset: Collection[str],
) -> TopicAnswer:
    """The settings first: where they are refused, the partitions stay as they were."""
    topic, topic_id = report.topic, report.topic_id
    if config or unset:
        made = admin.alter_topic(topic, config, unset=unset, topic_id=topic_id)
        if partitions is None:
            return made
    assert partitions is not None
    return admin.create_partitions(topic, partitions, topic_id=topic_id)


@topic.command(
    epilog=examples(
        "yak topic delete orders                 asks first",
        "yak topic delete orders --dry-run",
        "yak topic delete orders --yes           does not ask",
    )
)
@click.argument("name", metavar="TOPIC", shell_complete=complete_topic)
@option_yes
@option_dry_run
@option_bootstrap
@option_json
def delete(*, name: str, yes: bool, dry_run: bool, bootstrap: str, as_json: bool) -> None:
    """Delete a topic: its records, and what groups acknowledged of it.

    Whoever still produces to it makes another one of that name, unless the brokers run with
    --no-auto-create.
    """
    with Admin(bootstrap) as admin:
        report = admin.topic(name)
        plan = deletion(admin, report)
        if not confirmed(plan.what, yes=yes, dry_run=dry_run, as_json=as_json, facts=plan.facts):
            return
        admin.delete_topic(name, topic_id=report.topic_id)
    if as_json:
        echo_json(plan.facts)
    else:
        click.echo(f"topic {name} is deleted")


@topic.command(
    epilog=examples(
        "yak topic trim orders --before @2026-11-22T00:00:00Z      what was logged before then",
        "yak topic trim orders --partition 0 --before 4000         what lies below offset 4000",
        "yak topic trim orders --all --dry-run",
    )
)
@click.argument("name", metavar="TOPIC", shell_complete=complete_topic)
@click.option(
    "--partition",
    "partitions",
    type=click.IntRange(min=0),
    multiple=True,
    help="Only this partition; repeatable.  [default: all]",
)
@click.option(
    "--before",
    type=StartType(),
    help="The first offset to keep, or @TIME (ms or ISO 8601): what was logged before then goes.",
)
@click.option("--all", "everything", is_flag=True, help="Forget all that there is.")
@option_yes
@option_dry_run
@option_bootstrap
@option_json
def trim(
    *,
    name: str,
    partitions: tuple[int, ...],
    before: Start | None,
    everything: bool,
    yes: bool,
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Forget a topic's oldest records.

    Files are freed as a whole, once all that is in one is forgotten.
    """
    if everything == (before is not None):
        raise click.UsageError("say how much to forget: either --before OFFSET|@TIME, or --all")
    if isinstance(before, str | Last):
        raise click.UsageError("--before: say an offset, or @TIME")
    with Admin(bootstrap) as admin:
        report = admin.topic(name)
        plan = trimming(admin, report, partitions, before)
        if not confirmed(plan.what, yes=yes, dry_run=dry_run, as_json=as_json, facts=plan.facts):
            return
        rows = plan.facts["partitions"]
        starts = {row["partition"]: row["start"] for row in rows if row["forgotten"]}
        admin.trim(name, starts, topic_id=report.topic_id)
    if as_json:
        echo_json(plan.facts)
    else:
        header = ("partition", "start", "forgotten")
        click.echo(table(header, [[row[key] for key in header] for row in rows]))


def _made(made: TopicAnswer) -> dict[str, Any]:
    return {
        "topic": made.topic,
        "topic_id": made.topic_id,
        "partitions": made.partitions,
        "config": made.config,
    }


def _described(report: TopicReport) -> str:
    rows = [
        (one.partition, one.start, one.high_watermark, one.high_watermark - one.start)
        for one in report.partitions
    ]
    config = config_text(report.config)
    return f"topic {report.topic}  id {report.topic_id}{'  ' + config if config else ''}\n" + table(
        ("partition", "start", "high watermark", "records"), rows
    )


def _json_or_text(value: str) -> Any:
    """A number is a number; what is no JSON is left to the leader to refuse."""
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
