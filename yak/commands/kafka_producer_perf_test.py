"""`yak kafka-producer-perf-test`: Kafka's script that measures a producer, with its lines.

    5000 records sent, 1000.0 records/sec (0.10 MB/sec), 0.6 ms avg latency, 4.1 ms max latency.
    10000 records sent, 999.8 records/sec (0.10 MB/sec), 0.55 ms avg latency, 4.10 ms max latency, …

Each record is sent alone, and its latency is its own, as there.  A megabyte is 2^20 bytes, as
there.

Not here: sending many at a time, consumers, and from end to end (`yak bench`).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from yak.commands.completing import complete_topic
from yak.commands.kafka_options import option_files, properties, refused, turns, without_effect
from yak.commands.kafka_properties import producer_settings
from yak.commands.measuring import paced
from yak.commands.options import (
    BOOTSTRAP,
    COUNT,
    check_topic,
    examples,
    option_version,
    running_brokers,
)
from yak.commands.produce import make_producer
from yak.config import MIB

#: Of more records than this, so many latencies are kept: evenly chosen, as Kafka's script does.
KEPT_LATENCIES: Final = 500_000
_QUANTILES: Final = {"50th": 0.5, "95th": 0.95, "99th": 0.99, "99.9th": 0.999}
_SEVERAL: Final = ("--producer-props", "--command-property")


class _Command(click.Command):
    """One whose _SEVERAL take as many values as there are before the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))


def spread(args: Sequence[str]) -> list[str]:
    """`--producer-props a=1 b=2` as `--producer-props a=1 --producer-props b=2`."""
    found: list[str] = []
    several = ""
    for n, word in enumerate(args):
        if word.startswith("-"):
            several = word if word in _SEVERAL else ""
        elif several and args[n - 1] != several:
            found.append(several)
        found.append(word)
    return found


@click.command(
    "kafka-producer-perf-test",
    cls=_Command,
    context_settings={"auto_envvar_prefix": "YAK_KAFKA_PRODUCER_PERF_TEST"},
    epilog=examples(
        "yak kafka-producer-perf-test --topic perf --num-records 100000 \\",
        "    --record-size 100 --throughput -1 \\",
        "    --producer-props bootstrap.servers=localhost:9092 acks=all linger.ms=5",
        "yak bench --help                         yak's own, also for consumers",
    ),
)
@click.option(
    "--bootstrap-server", "bootstrap", type=BOOTSTRAP, help="Brokers; else bootstrap.servers."
)
@click.option("--topic", required=True, shell_complete=complete_topic, help="Where records go.")
@click.option("--num-records", "records", type=COUNT, required=True, help="How many.")
@click.option("--record-size", "size", type=COUNT, help="Bytes of each.")
@click.option(
    "--payload-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Its lines are the records, in any order.",
)
@click.option("--payload-delimiter", default="\\n", help="What ends one of them.  [default: \\n]")
@click.option("--payload-monotonic", is_flag=True, help="The records are 0, 1, 2, ….")
@click.option("--throughput", type=float, required=True, help="A second; -1: all that go.")
@click.option(
    *_SEVERAL,
    "pairs",
    multiple=True,
    help="Several NAME=VALUE: acks, linger.ms, batch.size, buffer.memory, bootstrap.servers, ….",
)
@option_files(
    *("--command-config", "--producer.config"), into="files", text="The same, from a file."
)
@click.option(
    "--reporting-interval",
    "interval_ms",
    type=COUNT,
    default=5000,
    show_default=True,
    help="How often to tell, in ms.",
)
@click.option("--warmup-records", "warmup", type=click.IntRange(min=0), default=0, help="Apart.")
@without_effect("--print-metrics", why="yak's producer keeps none but these figures", value=False)
@refused("--transactional-id", "--transaction-duration-ms", instead="yak has no transactions")
@option_version
def kafka_producer_perf_test(
    *,
    bootstrap: str | None,
    topic: str,
    records: int,
    throughput: float,
    pairs: tuple[str, ...],
    files: tuple[Path, ...],
    interval_ms: int,
    warmup: int,
    **payload: Any,
) -> None:
    """Do what kafka-producer-perf-test.sh does, by its options.  Yak's own is `yak bench`."""
    check_topic(topic)
    if warmup >= records:
        raise click.UsageError("--warmup-records must be less than --num-records")
    values = payloads(**payload)
    said = properties(files, [_pair(text) for text in pairs])
    found = producer_settings(said)
    found.tell()
    where = bootstrap or said.get("bootstrap.servers")
    where = where or os.environ.get("YAK_BOOTSTRAP") or running_brokers()
    settings = {"client": "perf-producer-client", **found.settings}
    in_turn = turns(where, topic) if settings.pop("in_turn", False) else None
    steady: Tally | None = None
    with make_producer(bootstrap=where, **settings) as producer:
        total = Tally(records, interval_ms)
        for number, (now, _) in enumerate(paced(records, max(0.0, throughput))):
            value = next(values)
            if warmup and number == warmup:
                steady = Tally(records - warmup, interval_ms)
            tallies = [total] if steady is None else [total, steady]
            partition = None if in_turn is None else next(in_turn)
            producer.send(topic, value, partition=partition).add_done_callback(
                _Done(tallies, now, len(value))
            )
            total.tell_window()
        producer.flush()
    click.echo(total.summary())
    if steady is not None:
        click.echo(steady.summary(" steady state"))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text!r}: say NAME=VALUE")
    return name, value


def payloads(
    *, size: int | None, payload_file: Path | None, payload_delimiter: str, payload_monotonic: bool
) -> Iterator[str]:
    """The values, without end.  Raises UsageError unless exactly one way is said."""
    if (size is not None) + (payload_file is not None) + payload_monotonic != 1:
        raise click.UsageError(
            "say exactly one of --record-size, --payload-file, --payload-monotonic"
        )
    if size is not None:
        return _same("x" * size)
    if payload_file is None:
        return _counted()
    end = payload_delimiter.replace("\\n", "\n")
    lines = [line for line in payload_file.read_text(encoding="utf-8").split(end) if line]
    if not lines:
        raise click.UsageError(f"--payload-file {payload_file}: there is nothing in it")
    return _any_of(lines)


def _same(value: str) -> Iterator[str]:
    while True:
        yield value


def _counted() -> Iterator[str]:
    number = 0
    while True:
        yield str(number)
        number += 1


def _any_of(values: Sequence[str]) -> Iterator[str]:
    while True:
        yield random.choice(values)


class _Done:
    """What is called when a record is acknowledged, or is not: then it does not count."""

    __slots__ = ("_at", "_size", "_tallies")

    def __init__(self, tallies: Sequence[Tally], at: float, size: int) -> None:
        self._tallies, self._at, self._size = tallies, at, size

    def __call__(self, sent: Any) -> None:
        if sent.exception() is None:
            took_ms = (time.perf_counter() - self._at) * 1000
            for tally in self._tallies:
                tally.add(took_ms, self._size)


class Tally:
    """Latencies and bytes of what was acknowledged, in all and since the last line.

    Counted on the producer's thread, told on the main one: a line may miss the newest record.
    """

    def __init__(self, records: int, interval_ms: float, now: float | None = None) -> None:
        self._interval_s = interval_ms / 1000
        self._every = max(1, records // KEPT_LATENCIES)
        self._kept: list[float] = []
        self._begun = self._window_begun = time.perf_counter() if now is None else now
        self.count = self._bytes = self._window_count = self._window_bytes = 0
        self._sum = self._most = self._window_sum = self._window_most = 0.0

    def add(self, took_ms: float, size: int) -> None:
        """One record was acknowledged."""
        if self.count % self._every == 0:
            self._kept.append(took_ms)
        self.count += 1
        self._bytes += size
        self._sum += took_ms
        self._most = max(self._most, took_ms)
        self._window_count += 1
        self._window_bytes += size
        self._window_sum += took_ms
        self._window_most = max(self._window_most, took_ms)

    def tell_window(self, now: float | None = None) -> None:
        """A line, if it is time for one."""
        now = time.perf_counter() if now is None else now
        elapsed = now - self._window_begun
        if elapsed < self._interval_s or not self._window_count:
            return
        count = self._window_count
        click.echo(
            f"{count} records sent, {count / elapsed:.1f} records/sec "
            f"({self._window_bytes / elapsed / MIB:.2f} MB/sec), {self._window_sum / count:.1f} ms "
            f"avg latency, {self._window_most:.1f} ms max latency."
        )
        self._window_begun = now
        self._window_count = self._window_bytes = 0
        self._window_sum = self._window_most = 0.0

    def summary(self, kind: str = "", now: float | None = None) -> str:
        """The line of the end."""
        elapsed = (time.perf_counter() if now is None else now) - self._begun
        count = self.count
        ranked = sorted(self._kept) or [0.0]
        last = len(ranked) - 1
        quantiles = ", ".join(
            f"{ranked[min(last, int(part * len(ranked)))]:.0f} ms {name}"
            for name, part in _QUANTILES.items()
        )
        return (
            f"{count}{kind} records sent, {count / elapsed:.6f} records/sec "
            f"({self._bytes / elapsed / MIB:.2f} MB/sec), {self._sum / max(1, count):.2f} ms avg "
            f"latency, {self._most:.2f} ms max latency, {quantiles}."
        )
