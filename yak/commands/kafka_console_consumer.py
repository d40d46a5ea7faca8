"""`yak kafka-console-consumer`: Kafka's script that prints records, in terms of `yak consume`.

It ends as Kafka's does, with `Processed a total of N messages` on stderr.  Without a group it reads
for itself: Kafka's script makes one up then, which nobody ever reads again.

Not here: how a record is printed (kafka_records.py); `-e`, `-n`, `-o` and the like (consume.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from yak.commands import kafka_records
from yak.commands.completing import complete_group, complete_topic
from yak.commands.drain import Drain, Until
from yak.commands.formats import Format
from yak.commands.interrupts import Interrupts
from yak.commands.kafka_options import (
    option_bootstrap_server,
    option_files,
    option_pairs,
    properties,
    refused,
    without_effect,
)
from yak.commands.kafka_properties import consumer_settings
from yak.commands.options import COUNT, check_topic, examples, option_version
from yak.commands.reaching import Waiting

#: Where Kafka keeps what groups acknowledged; a course may look at it.
_OFFSETS: Final = "__consumer_offsets"


@click.command(
    "kafka-console-consumer",
    context_settings={"auto_envvar_prefix": "YAK_KAFKA_CONSOLE_CONSUMER"},
    epilog=examples(
        "yak kafka-console-consumer --bootstrap-server localhost:9092 \\",
        "    --topic orders --from-beginning",
        "yak kafka-console-consumer --bootstrap-server localhost:9092 \\",
        "    --topic orders --group billing --property print.key=true",
        "yak consume --help              yak's own: -o -10, --since 1h, -e, -J, -f",
    ),
)
@option_bootstrap_server
@click.option("--topic", shell_complete=complete_topic, help="What to read.")
@click.option("--group", shell_complete=complete_group, help="Share the partitions with a group.")
@click.option("--from-beginning", is_flag=True, help="Also what is there already.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this one.")
@click.option("--offset", help="earliest, latest, or a number.  [default: latest]")
@click.option("--max-messages", type=COUNT, help="End after so many.")
@click.option("--timeout-ms", type=COUNT, help="End when nothing has come for so long.")
@option_pairs(
    *("--formatter-property", "--property"),
    into="format_pairs",
    text="print.timestamp, print.partition, print.offset, print.epoch, print.headers, print.key, "
    "print.value, key.separator, line.separator, headers.separator, null.literal.",
)
@option_files("--formatter-config", into="format_files", text="The same, from a file.")
@option_pairs(
    *("--command-property", "--consumer-property"),
    into="pairs",
    text="group.id, client.id, auto.offset.reset, …",
)
@option_files(
    *("--command-config", "--consumer.config"), into="files", text="The same, from a file."
)
@click.option("--formatter", help="DefaultMessageFormatter or NoOpMessageFormatter.")
@without_effect("--key-deserializer", why="keys are strings, and printed as they are")
@without_effect("--value-deserializer", why="values are JSON, and printed as they are")
@without_effect("--isolation-level", why="yak has no transactions: all is committed")
@without_effect("--skip-message-on-error", why="none fails to be printed", value=False)
@refused("--enable-systest-events", instead="it is for Kafka's own tests", value=False)
@refused("--include", "--whitelist", instead="one topic at a time: --topic NAME")
@refused("--zookeeper", instead="Kafka dropped it, too; say --bootstrap-server HOST:PORT")
@option_version
def kafka_console_consumer(
    *,
    bootstrap: str,
    topic: str | None,
    group: str | None,
    from_beginning: bool,
    partition: int | None,
    offset: str | None,
    max_messages: int | None,
    timeout_ms: int | None,
    formatter: str | None,
    format_pairs: tuple[tuple[str, str], ...],
    format_files: tuple[Path, ...],
    pairs: tuple[tuple[str, str], ...],
    files: tuple[Path, ...],
) -> int:
    """Do what kafka-console-consumer.sh does, by its options.  Yak's own is `yak consume`."""
    if not topic:
        raise click.UsageError("say --topic NAME")
    if topic == _OFFSETS:
        raise click.UsageError(
            f"yak has no {_OFFSETS}: `yak group describe` shows what groups acknowledged, and `yak "
            "log DIR` each operation"
        )
    check_topic(topic)
    show = _format(formatter, properties(format_files, format_pairs))
    found = consumer_settings(properties(files, pairs))
    found.tell()
    settings = dict(found.settings)
    begins = settings.pop("start", None)
    group = group or settings.pop("group", None)
    if group is not None and partition is not None:
        raise click.UsageError("--group and --partition contradict each other: the group shares")
    until = Until(records=max_messages, idle_s=None if timeout_ms is None else timeout_ms / 1000)
    say = Waiting(bootstrap)
    with Interrupts() as interrupts:
        drain = Drain(topic, group, show, until, interrupts, on_waiting=say, quiet=False)
        try:
            return drain.run(
                "beginning" if from_beginning else begins if offset is None else _start(offset),
                bootstrap=bootstrap,
                client=settings.get("client", "console-consumer"),
                partitions=() if partition is None else (partition,),
                read_from="any",
            )
        finally:
            click.echo(f"Processed a total of {drain.printed} messages", err=True)


def _start(text: str) -> str | int:
    named = {"earliest": "beginning", "latest": "end"}
    if text in named:
        return named[text]
    if not (text.isascii() and text.isdigit()):
        raise click.UsageError(f"--offset {text}: say earliest, latest, or a number from 0")
    return int(text)


def _format(name: str | None, said: dict[str, str]) -> Format:
    kind = (name or "DefaultMessageFormatter").rpartition(".")[2]
    if kind == "NoOpMessageFormatter":
        return lambda _record: b""
    if kind != "DefaultMessageFormatter":
        raise click.UsageError(
            f"--formatter {name}: yak has no Java classes; `yak consume -f` and -J print records "
            "as one likes, `yak group describe` shows what groups acknowledged"
        )
    return kafka_records.formatter(said)
