"""What a change of a topic or a group would do: in words, and as facts for programs.

Each plan is found out before anything is done, so that a question, a refusal and a dry run say
the same (confirm.py).  `what` continues "would …"; `facts` are members of the JSON document, whose
names stay as they are.

    alteration      set retention_ms=5 (now the default); add 3 partitions, from 3 to 6
    deletion        delete topic orders: 3 partitions with 1,200 records, and what …
    trimming        forget 400 records: orders[0] below 200, orders[1] below 200
    seeking         move group billing: orders[0] from 41 to 0; back by 41 records, …
    group_deletion  delete group billing: what it acknowledged of 3 partitions (orders)

What surely would be refused raises ClickException here, before anybody is asked.

Not here: doing it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click

from yak.admin import Admin, PartitionReport, Place, TopicReport
from yak.commands.output import listed, many
from yak.commands.starts import At, Last, Start
from yak.messages import GroupAnswer
from yak.model import TopicPartition

#: Groups that are asked what they acknowledged of a topic: each is a question of its own.
GROUPS_ASKED: Final = 100


class Plan(NamedTuple):
    """See the module's text."""

    what: str
    facts: dict[str, Any]


def place(start: Start) -> Place:
    """What `beginning`, `end`, N, -N and @TIME are to the library."""
    match start:
        case Last(0):
            return "end"
        case Last(count):
            return -count
        case At(ms):
            return datetime.fromtimestamp(ms / 1000, UTC)
        case "beginning" | "end" | int():
            return start
        case _:
            raise click.UsageError(f"{start!r}: say beginning, end, N, -N or @TIME")


# -- topics ---------------------------------------------------------------------------------------


def config_text(config: Mapping[str, Any]) -> str:
    """`retention_ms=5 segment_bytes=1024`"""
    return " ".join(f"{name}={value}" for name, value in sorted(config.items()))


def alteration(
    report: TopicReport, partitions: int | None, config: Mapping[str, Any], unset: Collection[str]
) -> Plan:
    """Settings are checked by the leader alone."""
    have = len(report.partitions)
    said = [f"set {key}={value} (now {_now(report, key)})" for key, value in config.items()]
    said += [f"unset {key} (now {_now(report, key)})" for key in unset]
    if partitions is not None:
        if partitions <= have:
            raise click.ClickException(
                f"topic {report.topic} has {many(have, 'partition')}: --partitions is the new "
                f"total and must be larger, not {partitions}"
            )
        said.append(f"add {many(partitions - have, 'partition')}, from {have:,} to {partitions:,}")
    facts = {
        "topic": report.topic,
        "partitions": have if partitions is None else partitions,
        "set": dict(config),
        "unset": list(unset),
    }
    return Plan(f"alter topic {report.topic}: {'; '.join(said)}", facts)


def _now(report: TopicReport, key: str) -> str:
    return str(report.config.get(key, "the default"))


def deletion(admin: Admin, report: TopicReport) -> Plan:
    """Also which groups lose what they acknowledged, where they are not too many to ask."""
    groups: list[str] | None = admin.groups()
    if groups is not None:
        groups = None if len(groups) > GROUPS_ASKED else _with_topic(admin, groups, report.topic)
    records = sum(one.high_watermark - one.start for one in report.partitions)
    what = (
        f"delete topic {report.topic}: {many(len(report.partitions), 'partition')} with "
        f"{many(records, 'record')}"
    )
    if groups is None:
        what += ", and what groups acknowledged of it"
    elif groups:
        noun = "group" if len(groups) == 1 else "groups"
        what += f", and what {noun} {listed(groups)} acknowledged of it"
    facts = {
        "topic": report.topic,
        "topic_id": report.topic_id,
        "partitions": len(report.partitions),
        "records": records,
        "groups": groups,
    }
    return Plan(what, facts)


def _with_topic(admin: Admin, groups: Sequence[str], topic: str) -> list[str]:
    return [g for g in groups if any(row.topic == topic for row in admin.group(g).partitions)]


def trimming(
    admin: Admin, report: TopicReport, partitions: Collection[int], before: At | int | None
) -> Plan:
    """before: None forgets all.  partitions: none named means all of them."""
    topic, known = report.topic, {one.partition: one for one in report.partitions}
    for number in partitions:
        if number not in known:
            raise click.ClickException(
                f"topic {topic} has {many(len(known), 'partition')}, numbered from 0; there is no "
                f"{number}"
            )
    chosen = [known[number] for number in sorted(set(partitions) or known)]
    starts = _starts(admin, topic, chosen, before)
    rows = [
        {
            "partition": one.partition,
            "start": starts[one.partition],
            "was": one.start,
            "forgotten": starts[one.partition] - one.start,
        }
        for one in chosen
    ]
    changed = [row for row in rows if row["forgotten"]]
    records = many(sum(row["forgotten"] for row in changed), "record")
    where = listed([f"{topic}[{row['partition']}] below {row['start']:,}" for row in changed])
    what = f"forget {records}" + (f": {where}" if changed else f" of {topic}")
    return Plan(what, {"topic": topic, "topic_id": report.topic_id, "partitions": rows})


def _starts(
    admin: Admin, topic: str, chosen: Sequence[PartitionReport], before: At | int | None
) -> dict[int, int]:
    """Where each partition is to begin; never before it does now."""
    if before is None:
        return {one.partition: one.high_watermark for one in chosen}
    if isinstance(before, At):
        numbers = [one.partition for one in chosen]
        found = admin.find_offsets(topic, place(before), numbers)
        return {one.partition: max(one.start, found[topic, one.partition]) for one in chosen}
    for one in chosen:
        if one.high_watermark < before:
            raise click.ClickException(
                f"{topic}[{one.partition}] ends at {one.high_watermark:,}, below {before:,}: "
                "nothing was trimmed; name a --partition that reaches so far, or say --all"
            )
    return {one.partition: max(one.start, before) for one in chosen}


# -- groups ---------------------------------------------------------------------------------------


def check_empty(name: str, group: GroupAnswer) -> None:
    """Raises ClickException while the group has members: it is theirs to move on."""
    if group.members:
        clients = listed([member.client or member.member for member in group.members])
        raise click.ClickException(
            f"GROUP_NOT_EMPTY: group {name} has {many(len(group.members), 'member')} ({clients}); "
            "stop them first"
        )


def seeking(name: str, group: GroupAnswer, offsets: Mapping[TopicPartition, int]) -> Plan:
    """offsets: where the group is to go on."""
    stands = {(row.topic, row.partition): row.acked for row in group.partitions}
    rows: list[dict[str, Any]] = []
    moves: list[str] = []
    again = skipped = 0
    for (topic, number), to in sorted(offsets.items()):
        was = stands.get((topic, number))
        rows.append({"topic": topic, "partition": number, "was": was, "to": to})
        moves.append(f"{topic}[{number}] from {'nowhere' if was is None else f'{was:,}'} to {to:,}")
        again += max(0, (was or 0) - to)
        skipped += max(0, to - (to if was is None else was))
    what = f"move group {name}: {listed(moves)}"
    what += f"; back by {many(again, 'record')}, which come again" if again else ""
    what += f"; on by {many(skipped, 'record')}, which are passed over" if skipped else ""
    return Plan(what, {"group": name, "partitions": rows})


def group_deletion(name: str, group: GroupAnswer) -> Plan:
    acked = [row for row in group.partitions if row.acked is not None]
    topics = sorted({row.topic for row in acked})
    what = f"delete group {name}"
    if acked:
        what += f": what it acknowledged of {many(len(acked), 'partition')} ({listed(topics)})"
    return Plan(what, {"group": name, "partitions": len(acked), "topics": topics})
