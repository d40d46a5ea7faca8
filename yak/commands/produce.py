"""`yak produce`, which is `yak-produce`: lines of a terminal, a pipe or a file become records.

    sent 3  acknowledged 3  retransmitted 0  lost 0

Options that contradict each other are refused before anything is read.  Exit code 0 if everything
that was read was acknowledged, else 1.

An acknowledgement that is shown names how many replicas have the record: with `--acks all` those
that the leader counts as in sync when it is asked, right afterwards.

Not here: how lines become records (lines.py), how they are sent and what is told of it (feed.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from yak.commands.completing import complete_topic
from yak.commands.feed import Feed, How
from yak.commands.interrupts import Interrupts
from yak.commands.lines import parse_record, unescape
from yak.commands.options import (
    DURATION,
    PAIR,
    SIZE,
    check_topic,
    examples,
    metrics_address,
    option_bootstrap,
    option_client,
    option_metrics,
    option_version,
)
from yak.commands.pages import pages
from yak.errors import YakError
from yak.model import Address

if TYPE_CHECKING:
    from yak.metrics.station import Figures
    from yak.producer import Producer

#: Waiting for room outlasts every batch's own time-out by this much, so that the batch's is told.
_PATIENCE_MS: Final = 5_000
#: How long the leader may take to say who is in sync, for an acknowledgement that is shown.
_ASK_S: Final = 1.0


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_PRODUCE"},
    epilog=examples(
        "echo hello | yak-produce greetings",
        "yak-produce orders -K :                 key and value, as user-7:12.50",
        "yak-produce orders -l orders.txt",
        "yak-consume a --from-beginning -e -J | yak-produce b -J",
        "yak-produce orders                      type lines; Ctrl-D ends",
    ),
)
@click.argument("topic", shell_complete=complete_topic)
@option_bootstrap
@click.option(
    "-l",
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="Read lines from this file instead of standard input.",
)
@click.option("-k", "--key", help="One key for all records.")
@click.option("-K", "--key-separator", help=r"A line is KEY, this separator, VALUE; \t is a tab.")
@click.option("-H", "--header", "headers", type=PAIR, multiple=True, help="A header; repeatable.")
@click.option(
    "-p",
    "--partition",
    type=click.IntRange(min=0),
    help="Send everything to this partition.  [default: by key, else in turn]",
)
@click.option(
    "--value",
    "value_form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: lines that are a JSON object, array or number are sent as such.",
)
@click.option("-J", "--json", "is_json", is_flag=True, help="Lines are as yak-consume -J prints.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show each acknowledgement.")
@click.option(
    "--acks",
    type=click.Choice(["all", "1", "0"]),
    default="all",
    show_default=True,
    help="all: every in-sync replica has it.  1: the leader.  0: nobody says.",
)
@click.option(
    "--linger-ms",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="How long a batch that is not full waits for more.",
)
@click.option("--batch-bytes", type=SIZE, default="256KiB", show_default=True, help="Batch size.")
@click.option(
    "--delivery-timeout",
    type=DURATION,
    default="120s",
    show_default=True,
    help="How long to try: to reach the cluster, and to send again what is not acknowledged.",
)
@option_client("yak-produce")
@option_metrics
@option_version
def produce(
    *,
    topic: str,
    file: Path | None,
    key: str | None,
    key_separator: str | None,
    headers: tuple[tuple[str, str], ...],
    partition: int | None,
    value_form: str,
    is_json: bool,
    quiet: bool,
    verbose: bool,
    metrics: Address | None,
    **delivery: Any,
) -> int:
    """Send lines to TOPIC, one record a line, and see each of them acknowledged."""
    check_topic(topic)
    if key is not None and key_separator is not None:
        raise click.UsageError("-k and -K contradict each other: one key for all, or one a line")
    if is_json and (key is not None or key_separator is not None or value_form == "json"):
        raise click.UsageError("with -J each line brings its key and value: no -k, -K, --value")
    if quiet and verbose:
        raise click.UsageError("-q and -v contradict each other")
    how = How(
        topic=topic,
        key=key,
        separator=None if key_separator is None else _separator(key_separator),
        headers=list(headers) or None,
        partition=partition,
        parse=parse_record if is_json else None,
        json_values=value_form == "json",
    )
    on_terminal = file is None and sys.stdin.isatty()
    shows = (verbose or on_terminal) and not quiet
    settings = {**delivery, "acks": _ACKS[delivery["acks"]]}
    producer = make_producer(quiet=quiet, **settings)
    with contextlib.ExitStack() as stack:
        replicas = _replicas(delivery["bootstrap"], delivery["acks"], stack if shows else None)
        interrupts = stack.enter_context(Interrupts())
        where = metrics_address(metrics)
        stack.enter_context(pages(where, "yak-produce", producer, lambda: _figures(producer)))
        feed = Feed(producer, how, interrupts, quiet=quiet, shows=shows, replicas=replicas)
        return feed.run(file, prompts=on_terminal and not quiet)


def _figures(producer: Producer) -> Figures:
    from yak.metrics.of_clients import ProducerFigures

    return ProducerFigures(producer)


def _replicas(
    bootstrap: str, acks: str, stack: contextlib.ExitStack | None
) -> Callable[[], int | None]:
    """How many have what was acknowledged just now.  stack: None where nobody will ask."""
    if stack is None or acks != "all":
        return lambda: 1 if acks == "1" else None
    from yak.admin import Admin

    admin = stack.enter_context(Admin(bootstrap, client="yak-produce", timeout_s=_ASK_S))

    def ask() -> int | None:
        with contextlib.suppress(YakError):
            return len(admin.metadata([]).isr)
        return None

    return ask


def make_producer(*, quiet: bool = False, **options: Any) -> Producer:
    """With these of a producer's options.  Raises UsageError for what it does not take.

    quiet: does not say what it waits for.
    """
    from yak.commands.reaching import Waiting
    from yak.producer import Producer, Settings

    options = {"on_waiting": Waiting(options["bootstrap"], quiet=quiet), **options}
    timeout_s = options.get("delivery_timeout", Settings.delivery_timeout)
    try:
        return Producer(**{"max_block_ms": timeout_s * 1000 + _PATIENCE_MS, **options})
    except ValueError as e:
        raise click.UsageError(str(e)) from e


_ACKS: Final[dict[str, Literal["all", 0, 1]]] = {"all": "all", "1": 1, "0": 0}


def _separator(text: str) -> bytes:
    try:
        separator = unescape(text).encode()
    except ValueError as e:
        raise click.UsageError(f"-K {text}: {e}") from e
    if not separator or b"\n" in separator:
        raise click.UsageError("-K needs a separator that is not empty and has no line end in it")
    return separator
