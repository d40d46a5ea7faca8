"""`yak kafka-console-producer`: Kafka's script that sends lines, in terms of `yak produce`.

As Kafka's script it says nothing of what was acknowledged, and prompts with `> ` on a terminal;
what was never acknowledged is listed, and the exit code is 1 then.

Not here: what a line is (kafka_records.py); acknowledgements, files, JSON (produce.py).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from yak.commands.completing import complete_topic
from yak.commands.feed import Feed, How
from yak.commands.interrupts import Interrupts
from yak.commands.kafka_options import (
    option_bootstrap_server,
    option_files,
    option_pairs,
    properties,
    refused,
    turns,
    without_effect,
)
from yak.commands.kafka_properties import acks, producer_settings
from yak.commands.kafka_records import line_reader
from yak.commands.options import COUNT, check_topic, examples, option_version
from yak.commands.produce import make_producer

_READER: Final = "LineMessageReader"


def _check_reader(_context: click.Context, _option: click.Parameter, name: str | None) -> None:
    if name and not name.endswith(_READER):
        raise click.UsageError(
            f"--line-reader {name}: yak has no Java classes; `yak produce -J` reads whole records"
        )


@click.command(
    "kafka-console-producer",
    context_settings={"auto_envvar_prefix": "YAK_KAFKA_CONSOLE_PRODUCER"},
    epilog=examples(
        "yak kafka-console-producer --bootstrap-server localhost:9092 --topic orders",
        "yak kafka-console-producer --bootstrap-server localhost:9092 \\",
        "    --topic orders --property parse.key=true --property key.separator=:",
        "yak produce --help              yak's own, which shows acknowledgements",
    ),
)
@option_bootstrap_server
@click.option("--topic", required=True, shell_complete=complete_topic, help="Where lines go.")
@option_pairs(
    *("--reader-property", "--property"),
    into="reader_pairs",
    text="parse.key, key.separator, parse.headers, headers.delimiter, headers.separator, "
    "headers.key.separator, ignore.error, null.marker.",
)
@option_files("--reader-config", into="reader_files", text="The same, from a file.")
@option_pairs(
    *("--command-property", "--producer-property"),
    into="pairs",
    text="acks, linger.ms, batch.size, client.id, delivery.timeout.ms, partitioner.class, …",
)
@option_files(
    *("--command-config", "--producer.config"), into="files", text="The same, from a file."
)
@click.option("--request-required-acks", "acks_said", help="all (or -1), 1 or 0.  [default: -1]")
@click.option("--batch-size", "--max-partition-memory-bytes", type=COUNT, help="Bytes of a batch.")
@click.option("--timeout", "linger_ms", type=int, help="How long a batch waits, in ms.")
@click.option("--max-block-ms", type=COUNT, help="How long to wait for room, in ms.")
@click.option("--max-memory-bytes", type=COUNT, help="Bytes that wait, in all.")
@click.option("--line-reader", hidden=True, expose_value=False, callback=_check_reader)
@click.option(
    "--compression-codec",
    is_flag=False,
    flag_value="gzip",
    hidden=True,
    expose_value=False,
    callback=lambda _context, _option, name: _note_codec(name),
)
@without_effect("--sync", why="nothing is forgotten: all is acknowledged at the end", value=False)
@without_effect("--message-send-max-retries", why="yak tries again until delivery.timeout.ms")
@without_effect("--retry-backoff-ms", why="yak chooses it")
@without_effect("--request-timeout-ms", why="yak tries again until delivery.timeout.ms")
@without_effect("--metadata-expiry-ms", why="yak learns of a new leader when there is one")
@without_effect("--socket-buffer-size", why="the system chooses it")
@refused("--zookeeper", instead="Kafka dropped it, too; say --bootstrap-server HOST:PORT")
@option_version
def kafka_console_producer(
    *,
    bootstrap: str,
    topic: str,
    reader_pairs: tuple[tuple[str, str], ...],
    reader_files: tuple[Path, ...],
    pairs: tuple[tuple[str, str], ...],
    files: tuple[Path, ...],
    acks_said: str | None,
    **options: Any,
) -> int:
    """Do what kafka-console-producer.sh does, by its options.  Yak's own is `yak produce`."""
    check_topic(topic)
    reader = line_reader(properties(reader_files, reader_pairs))
    found = producer_settings(properties(files, pairs))
    found.tell()
    settings = _said(acks_said, **options) | found.settings
    in_turn = turns(bootstrap, topic) if settings.pop("in_turn", False) else None
    whole = reader.has_key or reader.has_headers or reader.null is not None or in_turn is not None
    how = How(topic=topic, parse=reader.parse if whole else None, turns=in_turn)
    prompts = sys.stdin.isatty()
    producer = make_producer(bootstrap=bootstrap, **{"client": "console-producer", **settings})
    with Interrupts() as interrupts:
        return Feed(producer, how, interrupts, quiet=True, shows=False).run(None, prompts=prompts)


def _said(
    acks_said: str | None,
    *,
    batch_size: int | None,
    linger_ms: int | None,
    max_block_ms: int | None,
    max_memory_bytes: int | None,
) -> dict[str, Any]:
    """Those of the producer's settings that have an option of their own; properties win."""
    said = {
        "acks": None if acks_said is None else acks(acks_said),
        "batch_bytes": batch_size,
        "linger_ms": linger_ms,
        "max_block_ms": max_block_ms,
        "buffer_bytes": max_memory_bytes,
    }
    return {name: value for name, value in said.items() if value is not None}


def _note_codec(name: str | None) -> None:
    if name not in (None, "none"):
        click.echo(
            "note: --compression-codec has no effect: every byte of yak's log can be read", err=True
        )
