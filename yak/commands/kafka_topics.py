"""`yak kafka-topics`: Kafka's script for topics, as courses use it, in terms of `yak topic`.

    Topic: orders  TopicId: t2  PartitionCount: 1  ReplicationFactor: 3  Configs:
        Topic: orders  Partition: 0  Leader: 1  Replicas: 1,2,3  Isr: 1,2,3  Elr:  LastKnownElr:

In yak one broker leads all partitions, every broker has every topic, and what is not in sync is
not electable: so the leader, the replicas and the ISR are the same in each line, and Elr is empty.
As Kafka's script, it asks nothing before it deletes.

Not here: yak's own manner, with questions, --dry-run and --json (topic.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from msgspec import UNSET

from yak.commands.completing import complete_topic
from yak.commands.kafka_options import (
    one_of,
    option_bootstrap_server,
    option_files,
    properties,
    refused,
    without_effect,
)
from yak.commands.kafka_properties import kafka_config, topic_config, topic_config_name
from yak.commands.options import COUNT, PAIR, examples, option_version
from yak.commands.reaching import Admin
from yak.errors import YakError
from yak.messages import MetadataAnswer, TopicEntry

_MIN_ISR: Final = "yak's ISR never falls below yak-zk's --min-insync-replicas; see `yak status`"


class Wanted(NamedTuple):
    """What the options say."""

    topic: str | None
    partitions: int | None
    replicas: int | None
    config: tuple[tuple[str, str], ...]
    unset: tuple[str, ...]
    if_exists: bool
    if_not_exists: bool
    overridden: bool
    under_replicated: bool
    unavailable: bool

    def name(self, action: str) -> str:
        """The topic that this action needs.  Raises UsageError without one."""
        if not self.topic:
            raise click.UsageError(f"--{action} needs --topic NAME")
        return self.topic


@click.command(
    "kafka-topics",
    context_settings={"auto_envvar_prefix": "YAK_KAFKA_TOPICS"},
    epilog=examples(
        "yak kafka-topics --bootstrap-server localhost:9092 --create --topic orders \\",
        "    --partitions 3 --replication-factor 3 --config retention.ms=86400000",
        "yak kafka-topics --bootstrap-server localhost:9092 --list",
        "yak kafka-topics --bootstrap-server localhost:9092 --describe --topic orders",
        "yak kafka-topics --bootstrap-server localhost:9092 --delete --topic orders",
        "yak topic --help                         the same, in yak's own manner",
    ),
)
@option_bootstrap_server
@click.option("--create", is_flag=True, help="Make a topic.")
@click.option("--list", "list_", is_flag=True, help="List topics.")
@click.option("--describe", is_flag=True, help="Show topics and their partitions.")
@click.option("--alter", is_flag=True, help="Let a topic have more partitions.")
@click.option("--delete", is_flag=True, help="Delete topics, without asking.")
@click.option(
    "--topic",
    shell_complete=complete_topic,
    help="Its name; but for --create, a regular expression, several with commas between.",
)
@click.option("--partitions", type=COUNT, help="How many.")
@click.option(
    "--replication-factor", "replicas", type=int, help="In yak, every broker has every topic."
)
@click.option("--config", type=PAIR, multiple=True, help="A setting, by Kafka's name.")
@click.option("--delete-config", "unset", multiple=True, help="Back to its default (--alter).")
@click.option("--if-exists", is_flag=True, help="Nothing to alter, describe, delete is no error.")
@click.option("--if-not-exists", is_flag=True, help="A topic that is there is no error.")
@click.option(
    "--topics-with-overrides", "overridden", is_flag=True, help="Only topics with settings."
)
@click.option(
    "--under-replicated-partitions",
    "under_replicated",
    is_flag=True,
    help="Only those that not all brokers have.",
)
@click.option(
    "--unavailable-partitions",
    "unavailable",
    is_flag=True,
    help="Only those that nobody leads.",
)
@option_files("--command-config", into="files", text="Settings of the client, a file.")
@without_effect("--exclude-internal", why="yak has no internal topics", value=False)
@without_effect("--partition-size-limit-per-response", why="yak answers with all at once")
@refused("--zookeeper", instead="Kafka dropped it, too; say --bootstrap-server HOST:PORT")
@refused("--replica-assignment", instead="yak keeps every partition on every broker")
@refused("--topic-id", instead="name the topic: --topic NAME")
@refused("--under-min-isr-partitions", instead=_MIN_ISR, value=False)
@refused("--at-min-isr-partitions", instead=_MIN_ISR, value=False)
@option_version
def kafka_topics(
    *,
    bootstrap: str,
    create: bool,
    list_: bool,
    describe: bool,
    alter: bool,
    delete: bool,
    files: tuple[Path, ...],
    **wanted: Any,
) -> None:
    """Do what Kafka's kafka-topics.sh does, by its options.  Yak's own is `yak topic`."""
    action = one_of(
        {
            "create": create,
            "list": list_,
            "describe": describe,
            "alter": alter,
            "delete": delete,
        }
    )
    properties(files, ())  # nothing in them changes what an admin does; that they are there counts
    with Admin(bootstrap, client="kafka-topics") as admin:
        _ACTIONS[action](admin, Wanted(**wanted))


def _create(admin: Admin, wanted: Wanted) -> None:
    name = wanted.name("create")
    config = topic_config(wanted.config)
    _check_replicas(admin, wanted.replicas)
    config.tell()
    try:
        admin.create_topic(name, wanted.partitions, config.settings)
    except YakError as e:
        if e.name != "TOPIC_EXISTS" or not wanted.if_not_exists:
            raise
    else:
        click.echo(f"Created topic {name}.")


def _check_replicas(admin: Admin, replicas: int | None) -> None:
    if replicas in (None, -1):
        return
    brokers = len(admin.metadata([]).brokers)
    if replicas < 1:
        raise click.UsageError("--replication-factor is 1 or more")
    if replicas > brokers:
        raise click.ClickException(
            f"replication factor {replicas} is larger than the number of brokers, {brokers}"
        )
    if replicas < brokers:
        click.echo(f"note: yak keeps every topic on all its {brokers} brokers", err=True)


def _list(admin: Admin, wanted: Wanted) -> None:
    for name in _matching(admin.topics(), wanted.topic):
        click.echo(name)


def _describe(admin: Admin, wanted: Wanted) -> None:
    known = admin.metadata()
    for name, entry in _chosen(known.topics, wanted, "describe").items():
        if wanted.overridden and not entry.config:
            continue
        partial = wanted.under_replicated or wanted.unavailable
        if not partial:
            click.echo(described(name, entry, known))
        if not wanted.overridden and (not partial or _is_wanting(known, wanted)):
            for number in range(_partitions(entry)):
                click.echo(described_partition(name, number, known))


def _is_wanting(known: MetadataAnswer, wanted: Wanted) -> bool:
    lacks = wanted.under_replicated and len(known.isr) < len(known.brokers)
    return lacks or (wanted.unavailable and known.leader is None)


def described(name: str, entry: TopicEntry, known: MetadataAnswer) -> str:
    """The line of a topic."""
    config = {} if entry.config is UNSET else entry.config
    return (
        f"Topic: {name}\tTopicId: {entry.topic_id or '-'}\tPartitionCount: {_partitions(entry)}\t"
        f"ReplicationFactor: {len(known.brokers)}\tConfigs: {kafka_config(config)}"
    )


def described_partition(name: str, number: int, known: MetadataAnswer) -> str:
    """The line of a partition."""
    replicas = ",".join(str(broker.id) for broker in sorted(known.brokers, key=lambda b: b.id))
    leader = "none" if known.leader is None else str(known.leader)
    isr = ",".join(map(str, sorted(known.isr)))
    return (
        f"\tTopic: {name}\tPartition: {number}\tLeader: {leader}\tReplicas: {replicas}\t"
        f"Isr: {isr}\tElr: \tLastKnownElr: "
    )


def _alter(admin: Admin, wanted: Wanted) -> None:
    wanted.name("alter")
    if wanted.partitions is None and not wanted.config and not wanted.unset:
        raise click.UsageError("--alter needs --partitions (or --config, --delete-config)")
    config = topic_config(wanted.config)
    unset = [topic_config_name(name) for name in wanted.unset]
    config.tell()
    for name in _chosen(admin.topics(), wanted, "alter"):
        if config.settings or unset:
            admin.alter_topic(name, config.settings, unset=unset)
        if wanted.partitions is not None:
            admin.create_partitions(name, wanted.partitions)


def _delete(admin: Admin, wanted: Wanted) -> None:
    wanted.name("delete")
    for name in _chosen(admin.topics(), wanted, "delete"):
        admin.delete_topic(name)


def _chosen(topics: Mapping[str, TopicEntry], wanted: Wanted, action: str) -> dict[str, TopicEntry]:
    chosen = _matching(topics, wanted.topic)
    if wanted.topic and not chosen and not wanted.if_exists:
        raise click.ClickException(
            f"topic {wanted.topic!r} does not exist, so there is nothing to {action}; --list shows "
            "those that do, and --if-exists makes this no error"
        )
    return chosen


def _matching(topics: Mapping[str, TopicEntry], pattern: str | None) -> dict[str, TopicEntry]:
    if not pattern:
        return dict(sorted(topics.items()))
    try:
        # As Kafka reads it: a comma is an "or", blanks and quotes around are not meant.
        fits = re.compile(pattern.strip("\"' ").replace(",", "|").replace(" ", "")).fullmatch
    except re.error as e:
        raise click.UsageError(f"--topic {pattern}: no regular expression: {e}") from e
    return {name: entry for name, entry in sorted(topics.items()) if fits(name)}


def _partitions(entry: TopicEntry) -> int:
    return entry.partitions if isinstance(entry.partitions, int) else 0


_ACTIONS: Final[Mapping[str, Callable[[Admin, Wanted], None]]] = {
    "create": _create,
    "list": _list,
    "describe": _describe,
    "alter": _alter,
    "delete": _delete,
}
