"""`yak topic create|list|describe`.

Not here: what a topic's name or config may be; the leader knows that, and says so.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from yak.admin import Admin, TopicReport
from yak.commands.options import (
    COUNT,
    PAIR,
    examples,
    option_bootstrap,
    option_json,
)
from yak.commands.output import echo_json, many, table


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_TOPIC"},
    epilog=examples(
        "yak topic create orders --partitions 3",
        "yak topic create logs --config segment_bytes=1048576",
        "yak topic list",
        "yak topic describe orders --json",
    ),
)
def topic() -> None:
    """Create, list and describe topics."""


@topic.command()
@click.argument("name", metavar="TOPIC")
@click.option("--partitions", type=COUNT, help="How many; the broker's default if left out.")
@click.option(
    "--config",
    type=PAIR,
    multiple=True,
    help="A setting, as segment_bytes=1048576; may be given several times.",
)
@option_bootstrap
@option_json
def create(
    *,
    name: str,
    partitions: int | None,
    config: tuple[tuple[str, str], ...],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Make a topic."""
    settings = {key: _json_or_text(value) for key, value in config}
    with Admin(bootstrap) as admin:
        made = admin.create_topic(name, partitions, settings)
    if as_json:
        echo_json({"topic": made.topic, "topic_id": made.topic_id, "partitions": made.partitions})
    else:
        click.echo(f"topic {made.topic} has {many(made.partitions, 'partition')}")


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
            (name, entry.partitions or 0, _config(entry.config or {}))
            for name, entry in topics.items()
        ]
        click.echo(table(("topic", "partitions", "config"), rows))
    else:
        click.echo("no topics: `yak topic create NAME` makes one, and so does a producer", err=True)


@topic.command()
@click.argument("name", metavar="TOPIC")
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


def _described(report: TopicReport) -> str:
    rows = [
        (one.partition, one.start, one.high_watermark, one.high_watermark - one.start)
        for one in report.partitions
    ]
    config = _config(report.config)
    return f"topic {report.topic}  id {report.topic_id}{'  ' + config if config else ''}\n" + table(
        ("partition", "start", "high watermark", "records"), rows
    )


def _config(config: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(config.items()))


def _json_or_text(value: str) -> Any:
    """A number is a number; what is no JSON is left to the leader to refuse."""
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
