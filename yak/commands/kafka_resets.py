"""Where `yak kafka-consumer-groups --reset-offsets` lets a group go on.

    --to-earliest  --to-latest  --to-current  --to-offset N  --shift-by N
    --to-datetime 2026-11-22T09:41:00.000     UTC, where it names no zone
    --by-duration PT1H30M                     so long before now
    --from-file FILE                          lines of TOPIC,PARTITION,OFFSET, as --export prints

As in Kafka, an offset outside of what a partition holds becomes its nearest end, and a partition
that the group never acknowledged anything of stands at its end.

Not here: moving the group, and showing it (kafka_consumer_groups.py).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from yak.admin import Admin, PartitionReport
from yak.messages import GroupAnswer
from yak.model import TopicPartition

F = TypeVar("F", bound=Callable[..., Any])

#: What the options say: a word, a number, a moment, or the file's rows.
Place = str | int | datetime | dict[TopicPartition, int]
#: Which partitions; None where all of a topic's are meant.
Scope = Mapping[str, Sequence[int] | None]

_DURATION: Final = re.compile(
    r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)


class _Shift(int):
    """So many records on, or back."""


def options(command: F) -> F:
    """Those that say where to."""
    for decorate in reversed(
        (
            click.option("--to-earliest", is_flag=True, help="To the first record there is."),
            click.option("--to-latest", is_flag=True, help="To the end."),
            click.option("--to-current", is_flag=True, help="Where it stands."),
            click.option("--to-offset", type=int, help="To this offset."),
            click.option("--shift-by", type=int, help="So many records on, or back (-N)."),
            click.option("--to-datetime", help="To YYYY-MM-DDThh:mm:ss.sss."),
            click.option("--by-duration", help="So long before now: PT1H, P1DT2H30M."),
            click.option(
                "--from-file",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="As CSV: TOPIC,PARTITION,OFFSET.",
            ),
        )
    ):
        command = decorate(command)
    return command


def place(said: Mapping[str, Any]) -> Place:
    """The one that was said.  Raises UsageError."""
    found: list[Place] = [
        *(["beginning"] if said["to_earliest"] else []),
        *(["end"] if said["to_latest"] else []),
        *(["current"] if said["to_current"] else []),
        *([said["to_offset"]] if said["to_offset"] is not None else []),
        *([_Shift(said["shift_by"])] if said["shift_by"] is not None else []),
        *([parse_moment(said["to_datetime"])] if said["to_datetime"] else []),
        *([datetime.now(UTC) - parse_duration(said["by_duration"])] if said["by_duration"] else []),
        *([read_csv(said["from_file"].read_text())] if said["from_file"] else []),
    ]
    if len(found) != 1:
        raise click.UsageError(
            "say exactly one of --to-earliest, --to-latest, --to-current, --to-offset, --shift-by, "
            "--to-datetime, --by-duration, --from-file"
        )
    return found[0]


def scope(group: GroupAnswer, topics: Sequence[str], *, all_topics: bool, place: Place) -> Scope:
    """Which partitions are meant.  Raises UsageError."""
    if isinstance(place, dict):
        return {topic: [n for t, n in place if t == topic] for topic, _ in place}
    if all_topics == bool(topics):
        raise click.UsageError("--reset-offsets needs either --topic TOPIC, or --all-topics")
    if all_topics:
        return dict.fromkeys(sorted({one.topic for one in group.partitions}))
    found: dict[str, list[int] | None] = {}
    for text in topics:
        topic, colon, numbers = text.partition(":")
        if colon and not re.fullmatch(r"\d+(,\d+)*", numbers):
            raise click.UsageError(f"--topic {text}: say TOPIC, or TOPIC:0,1")
        found[topic] = [int(n) for n in numbers.split(",")] if colon else None
    return found


def offsets(
    admin: Admin, group: GroupAnswer, scope: Scope, place: Place
) -> dict[TopicPartition, int]:
    """Where each partition is to go on."""
    found: dict[TopicPartition, int] = {}
    for topic, numbers in scope.items():
        report = {one.partition: one for one in admin.topic(topic).partitions}
        chosen = list(report) if numbers is None else list(numbers)
        for number in chosen:
            if number not in report:
                raise click.ClickException(f"topic {topic} has no partition {number}")
        if isinstance(place, datetime):
            found |= admin.find_offsets(topic, place, chosen)
            continue
        stands = {one.partition: one.acked for one in group.partitions if one.topic == topic}
        for number in chosen:
            wanted = place[topic, number] if isinstance(place, dict) else place
            found[topic, number] = _within(report[number], stands.get(number), wanted)
    return found


def _within(report: PartitionReport, stands: int | None, wanted: str | int | datetime) -> int:
    current = report.high_watermark if stands is None else stands
    if isinstance(wanted, _Shift):
        wanted = current + wanted
    elif not isinstance(wanted, int):
        ends = {"beginning": report.start, "end": report.high_watermark, "current": current}
        wanted = ends[str(wanted)]
    return max(report.start, min(wanted, report.high_watermark))


def parse_moment(text: str) -> datetime:
    """Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise click.UsageError(f"--to-datetime {text}: say 2026-11-22T09:41:00.000") from e
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration, in days at most.  Raises UsageError."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()[1:]):
        raise click.UsageError(f"--by-duration {text}: say PT1H, PT30M or P1DT2H")
    sign, *numbers = found.groups()
    days, hours, minutes, seconds = (float(number or 0) for number in numbers)
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    return -length if sign else length


def read_csv(text: str) -> dict[TopicPartition, int]:
    """Raises UsageError, which names the line."""
    found: dict[TopicPartition, int] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row:
            continue
        try:
            topic, partition, offset = row[-3:]  # before them, some versions name the group
            found[topic, int(partition)] = int(offset)
        except ValueError as e:
            raise click.UsageError(f"--from-file, line {number}: say TOPIC,PARTITION,OFFSET") from e
    return found


def as_csv(offsets: Mapping[TopicPartition, int]) -> str:
    """What `read_csv` reads."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        (topic, number, offset) for (topic, number), offset in sorted(offsets.items())
    )
    return out.getvalue().rstrip("\n")
