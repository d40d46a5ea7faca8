"""`yak kafka-consumer-groups`: Kafka's script for groups, in terms of `yak group`.

    GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  …  CLIENT-ID
    billing         orders          0          41              57              16   …  c1

HOST is `-`: yak does not tell where a member runs.  As Kafka's script, `--reset-offsets` only shows
what it would do unless `--execute` is said, and `--delete` asks nothing.

Not here: which offsets a reset means (kafka_resets.py); yak's own manner (group.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from yak.commands import kafka_resets
from yak.commands.completing import complete_group, complete_topic
from yak.commands.kafka_options import (
    one_of,
    option_bootstrap_server,
    option_files,
    properties,
    refused,
    without_effect,
)
from yak.commands.options import examples, option_version
from yak.commands.plans import check_empty
from yak.commands.reaching import Admin
from yak.messages import GroupAnswer, MemberEntry
from yak.model import TopicPartition

_MISSING: Final = "-"
_WIDE: Final = 15
_OFFSETS: Final = (
    *("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"),
    *("CONSUMER-ID", "HOST", "CLIENT-ID"),
)


@click.command(
    "kafka-consumer-groups",
    context_settings={"auto_envvar_prefix": "YAK_KAFKA_CONSUMER_GROUPS"},
    epilog=examples(
        "yak kafka-consumer-groups --bootstrap-server localhost:9092 --list",
        "yak kafka-consumer-groups --bootstrap-server localhost:9092 \\",
        "    --describe --group billing --members",
        "yak kafka-consumer-groups --bootstrap-server localhost:9092 \\",
        "    --group billing --topic orders --reset-offsets --to-earliest --execute",
        "yak group --help                         the same, in yak's own manner",
    ),
)
@option_bootstrap_server
@click.option("--list", "list_", is_flag=True, help="List groups.")
@click.option("--describe", is_flag=True, help="Show where groups stand, and who is in them.")
@click.option("--delete", is_flag=True, help="Forget groups, without asking.")
@click.option("--reset-offsets", "reset", is_flag=True, help="Let a group go on elsewhere.")
@click.option("--group", "groups", multiple=True, shell_complete=complete_group, help="Its name.")
@click.option("--all-groups", is_flag=True, help="All of them.")
@click.option("--members", is_flag=True, help="With --describe: who is in it.")
@click.option("--offsets", is_flag=True, help="With --describe: where it stands (the default).")
@click.option(
    "--state",
    is_flag=False,
    flag_value="",
    help="With --describe: how it is.  With --list: also the state, and only these states.",
)
@click.option("--type", "kind", is_flag=False, flag_value="", help="With --list: also the type.")
@click.option("--verbose", is_flag=True, help="With --describe: more columns.")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    shell_complete=complete_topic,
    help="With --reset-offsets: TOPIC, or TOPIC:0,2.",
)
@click.option("--all-topics", is_flag=True, help="With --reset-offsets: all the group's.")
@kafka_resets.options
@click.option("--execute", is_flag=True, help="Do it.")
@click.option("--dry-run", is_flag=True, help="Only show it (the default).")
@click.option("--export", is_flag=True, help="Print it as CSV, for --from-file.")
@option_files("--command-config", into="files", text="Settings of the client, a file.")
@without_effect("--timeout", why="yak waits 30 s for a leader")
@refused(
    "--delete-offsets",
    instead="yak forgets a group as a whole (--delete), or moves it (--reset-offsets)",
    value=False,
)
@refused("--validate-regex", instead="yak's groups do not subscribe by regular expressions")
@refused("--zookeeper", instead="Kafka dropped it, too; say --bootstrap-server HOST:PORT")
@option_version
def kafka_consumer_groups(
    *,
    bootstrap: str,
    list_: bool,
    describe: bool,
    delete: bool,
    reset: bool,
    files: tuple[Path, ...],
    **options: Any,
) -> None:
    """Do what kafka-consumer-groups.sh does, by its options.  Yak's own is `yak group`."""
    action = one_of({"list": list_, "describe": describe, "delete": delete, "reset-offsets": reset})
    properties(files, ())  # nothing in them changes what an admin does; that they are there counts
    with Admin(bootstrap, client="kafka-consumer-groups") as admin:
        if action == "list":
            _list(admin, state=options["state"], kind=options["kind"])
        elif action == "reset-offsets":
            _reset(admin, **options)
        else:
            known = admin.groups()
            names = known if options["all_groups"] else list(options["groups"])
            if not names and not options["all_groups"]:
                raise click.UsageError(f"--{action} needs --group NAME, or --all-groups")
            for name in names:
                _check_known(name, known)
            _delete(admin, names) if delete else _describe(admin, names, **options)


def _check_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise click.ClickException(
            f"consumer group '{name}' does not exist; --list shows those that do"
        )


def _list(admin: Admin, *, state: str | None, kind: str | None) -> None:
    names = admin.groups()
    if state is None and kind is None:
        for name in names:
            click.echo(name)
        return
    wanted = {part.strip().lower() for part in (state or "").split(",") if part.strip()}
    rows = [
        [
            "GROUP",
            *(["TYPE"] if kind is not None else []),
            *(["STATE"] if state is not None else []),
        ]
    ]
    for name in names:
        found = _state(admin.group(name))
        if not wanted or found.lower() in wanted:
            rows.append(
                [
                    name,
                    *(["Consumer"] if kind is not None else []),
                    *([found] if state is not None else []),
                ]
            )
    click.echo(columns(rows, [_WIDE + 10, 20, 20]))


def _state(group: GroupAnswer) -> str:
    return "Stable" if group.members else "Empty"


def _describe(
    admin: Admin,
    names: Sequence[str],
    *,
    members: bool,
    offsets: bool,
    state: str | None,
    verbose: bool,
    **_: Any,
) -> None:
    for name in names:
        group = admin.group(name)
        if not group.members:
            click.echo(f"\nConsumer group '{name}' has no active members.", err=True)
        if members and not offsets:
            click.echo("\n" + described_members(name, group, verbose=verbose))
        elif state is not None and not offsets:
            click.echo("\n" + _described_state(admin, name, group))
        else:
            click.echo("\n" + described_offsets(name, group))


def described_offsets(name: str, group: GroupAnswer) -> str:
    """One line a partition; members without one come last."""
    clients = {member.member: member.client for member in group.members}
    rows = [list(_OFFSETS)]
    for one in group.partitions:
        stands = [_MISSING] if one.acked is None else [str(one.acked)]
        lag = [_MISSING] if one.acked is None else [str(one.lag)]
        who = [one.member or _MISSING, _MISSING, clients.get(one.member or "", _MISSING)]
        where = [name, one.topic, str(one.partition)]
        rows.append([*where, *stands, str(one.high_watermark), *lag, *who])
    busy = {one.member for one in group.partitions}
    rows += [
        [name, *[_MISSING] * 5, member.member, _MISSING, member.client]
        for member in group.members
        if member.member not in busy
    ]
    return columns(rows, [_WIDE, _WIDE, 10, 15, 15, 15, _WIDE, _WIDE, 0])


def described_members(name: str, group: GroupAnswer, *, verbose: bool) -> str:
    """One line a member."""
    rows = [["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS"]]
    rows[0] += ["CURRENT-EPOCH", "CURRENT-ASSIGNMENT"] if verbose else []
    for member in group.members:
        row = [name, member.member, _MISSING, member.client, str(len(member.assignment))]
        rows.append([*row, *([str(member.generation), _assigned(member)] if verbose else [])])
    return columns(rows, [_WIDE, _WIDE, _WIDE, _WIDE, 15, 15, 0])


def _assigned(member: MemberEntry) -> str:
    """`orders:0,1;clicks:0`"""
    by_topic: defaultdict[str, list[str]] = defaultdict(list)
    for topic, number in sorted(member.assignment):
        by_topic[topic].append(str(number))
    return ";".join(f"{t}:{','.join(ns)}" for t, ns in by_topic.items()) or _MISSING


def _described_state(admin: Admin, name: str, group: GroupAnswer) -> str:
    known = admin.metadata([])
    leader = next((b for b in known.brokers if b.id == known.leader), None)
    coordinator = _MISSING if leader is None else f"{leader.host}:{leader.port}  ({leader.id})"
    rows = [
        ["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"],
        [name, coordinator, "cooperative-sticky", _state(group), str(len(group.members))],
    ]
    return columns(rows, [_WIDE, 25, 20, 20, 0])


def _delete(admin: Admin, names: Sequence[str]) -> None:
    for name in names:
        check_empty(name, admin.group(name))
    for name in names:
        admin.delete_group(name)
    listed = ", ".join(f"'{name}'" for name in names)
    click.echo(f"Deletion of requested consumer groups ({listed}) was successful.")


def _reset(
    admin: Admin,
    *,
    groups: tuple[str, ...],
    all_groups: bool,
    topics: tuple[str, ...],
    all_topics: bool,
    execute: bool,
    dry_run: bool,
    export: bool,
    **options: Any,
) -> None:
    if execute and dry_run:
        raise click.UsageError("--execute and --dry-run contradict each other")
    if all_groups == bool(groups):
        raise click.UsageError("--reset-offsets needs either --group NAME, or --all-groups")
    place = kafka_resets.place(options)
    found: dict[str, dict[TopicPartition, int]] = {}
    for name in admin.groups() if all_groups else groups:
        group = admin.group(name)
        check_empty(name, group)
        scope = kafka_resets.scope(group, topics, all_topics=all_topics, place=place)
        found[name] = kafka_resets.offsets(admin, group, scope, place)
    if execute:
        for name, offsets in found.items():
            admin.seek_group(name, offsets)
    elif not dry_run and not export:
        click.echo("WARN: this only shows what would be done: add --execute to do it", err=True)
    if export:
        for offsets in found.values():
            click.echo(kafka_resets.as_csv(offsets))
        return
    rows = [["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]]
    rows += [
        [name, topic, str(number), str(offset)]
        for name, offsets in found.items()
        for (topic, number), offset in sorted(offsets.items())
    ]
    click.echo("\n" + columns(rows, [30, 30, 10, _WIDE]))


def columns(rows: Sequence[Sequence[str]], least: Iterable[int]) -> str:
    """As Kafka's scripts print: each column as wide as its widest cell, and `least` at least."""
    widths = [
        max(width, *map(len, column))
        for width, column in zip(least, zip(*rows, strict=True), strict=False)
    ]
    lines = (
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)
