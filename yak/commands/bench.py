"""`yak bench produce|consume|e2e`: how fast this cluster is, from here.

    1,000,000 records of 100 bytes in 2.31 s
    432,900 records/s  43.3 MB/s  1.9 million records per CPU second of this process

The names of kafka-producer-perf-test's and of `nats bench`'s options are taken, too.

Not here: what is measured and how (measuring.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import click

from yak.commands.options import COUNT, SIZE, examples, option_bootstrap, option_json
from yak.commands.output import echo_json, many
from yak.commands.running import run

F = TypeVar("F", bound=Callable[..., Any])

#: Where records go if nothing is said.
DEFAULT_TOPIC = "yak-bench"


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_BENCH"},
    epilog=examples(
        "yak bench produce -n 1000000",
        "yak bench produce -n 100000 --size 1KiB --rate 5000      latencies, too",
        "yak bench consume --topic yak-bench",
        "yak bench e2e --rate 1000 --seconds 10",
    ),
)
def bench() -> None:
    """Measure the cluster: records a second, and milliseconds."""


def _option_records(default: int | None) -> Callable[[F], F]:
    return click.option(
        "-n",
        "--records",
        "--num-records",
        "--msgs",
        "records",
        type=COUNT,
        default=default,
        show_default=default is not None,
        help="How many." if default is not None else "How many.  [default: all there are]",
    )


def _option_size(command: F) -> F:
    return click.option(
        "--size",
        "--record-size",
        "size",
        type=SIZE,
        default="100",
        show_default=True,
        help="Bytes of a record's value: a JSON string, its quotes counted.",
    )(command)


def _option_topic(default: str | None) -> Callable[[F], F]:
    shown = default or "a new one, deleted afterwards"
    return click.option("--topic", default=default, help=f"Which topic.  [default: {shown}]")


def _option_partitions(command: F) -> F:
    return click.option(
        "--partitions", type=COUNT, help="Make the topic with so many.  [default: the broker's]"
    )(command)


@bench.command(
    epilog=examples(
        "yak bench produce -n 1000000 --size 100",
        "yak bench produce -n 200000 --alone                      one `send` for each record",
        "yak bench produce --num-records 50000 --record-size 1000 --throughput 5000",
    )
)
@_option_topic(DEFAULT_TOPIC)
@_option_records(1_000_000)
@_option_size
@_option_partitions
@click.option(
    "--rate",
    "--throughput",
    "rate",
    type=click.FloatRange(min=-1),
    default=0,
    show_default=True,
    help="Records a second, each sent alone; then latencies are shown.  0 or -1: all that go.",
)
@click.option("--alone", is_flag=True, help="Send each record alone instead of 10,000 at a time.")
@click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True)
@click.option("--linger-ms", type=click.FloatRange(min=0), default=0, show_default=True)
@option_bootstrap
@option_json
def produce(
    *,
    topic: str,
    records: int,
    size: int,
    partitions: int | None,
    rate: float,
    alone: bool,
    acks: str,
    linger_ms: float,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Send records until all are acknowledged."""
    from yak.commands import measuring

    wanted: Literal["all", 0, 1] = "all" if acks == "all" else 1 if acks == "1" else 0
    load = measuring.Load(records, size, max(0.0, rate), alone, wanted, linger_ms)
    measuring.make_topic(bootstrap, topic, partitions)
    _show(measuring.produce(bootstrap, topic, load), as_json=as_json)


@bench.command(
    epilog=examples(
        "yak bench consume                           all of yak-bench",
        "yak bench consume --topic orders -n 100000 --group trial",
    )
)
@_option_topic(DEFAULT_TOPIC)
@_option_records(None)
@click.option("-g", "--group", help="Share the partitions with others of this group, acknowledge.")
@option_bootstrap
@option_json
def consume(
    *, topic: str, records: int | None, group: str | None, bootstrap: str, as_json: bool
) -> None:
    """Read a topic from its beginning."""
    from yak.commands import measuring

    _show(measuring.consume(bootstrap, topic, records, group), as_json=as_json)


@bench.command(
    epilog=examples(
        "yak bench e2e                               1,000 a second for 10 seconds",
        "yak bench e2e --rate 10000 --seconds 5 --json | jq .latency_ms",
    )
)
@_option_topic(None)
@click.option("--rate", type=click.FloatRange(min=1), default=1000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=10, show_default=True)
@_option_size
@click.option("--linger-ms", type=click.FloatRange(min=0), default=0, show_default=True)
@click.option(
    "--read-from",
    type=click.Choice(["any", "leader"]),
    default="any",
    show_default=True,
    help="The leader has a record a hop sooner than the others.",
)
@option_bootstrap
@option_json
def e2e(
    *,
    topic: str | None,
    rate: float,
    seconds: float,
    size: int,
    linger_ms: float,
    read_from: Literal["any", "leader"],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Send records one by one, and see how soon a consumer has each."""
    from yak.commands import measuring

    if size < measuring.LEAST_E2E_BYTES:
        raise click.BadParameter(
            f"a record that says when it was sent has at least {measuring.LEAST_E2E_BYTES} bytes",
            param_hint="--size",
        )
    load = measuring.Load(int(rate * seconds), size, rate, alone=True, linger_ms=linger_ms)
    name = topic or f"{DEFAULT_TOPIC}-{uuid.uuid4().hex[:8]}"
    measuring.make_topic(bootstrap, name, 1)
    try:
        figures = run(measuring.end_to_end(bootstrap, name, load, read_from))
    finally:
        if topic is None:
            measuring.delete_topic(bootstrap, name)
    _show(figures, as_json=as_json)


def _show(figures: Any, *, as_json: bool) -> None:
    rates = {
        "records_per_second": round(figures.records_per_second, 1),
        "megabytes_per_second": round(figures.megabytes_per_second, 3),
    }
    if as_json:
        echo_json({**asdict(figures), **rates})
        return
    each = figures.bytes // figures.records if figures.records else 0
    click.echo(f"{many(figures.records, 'record')} of {each:,} bytes in {figures.seconds:.2f} s")
    cpu = figures.records / figures.cpu_seconds if figures.cpu_seconds else 0
    click.echo(
        f"{rates['records_per_second']:,.0f} records/s  {rates['megabytes_per_second']:,.1f} MB/s  "
        f"{cpu:,.0f} records per CPU second of this process"
    )
    ends = {"produce": "from send to acknowledgement", "e2e": "from send to the consumer"}
    if figures.latency_ms:
        click.echo(f"{ends[figures.what]}: {_in_words(figures.latency_ms)}")
        click.echo(f"sent later than planned: {_in_words(figures.late_ms)}")


def _in_words(milliseconds: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())
