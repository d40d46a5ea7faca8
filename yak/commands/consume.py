"""`yak consume`, which is `yak-consume`: a topic's records on stdout.

Without a group it reads every partition, and starts at the end.  With one (`-g`) it shares the
partitions with the group's other members, and goes on where the group stands; where the group
has never been, `-o` says where it starts.

Options that contradict each other are refused before anything is asked.  Exit code 0; 1 if fewer
records came than `--expect` says.

Not here: how a record is printed (formats.py), when printing ends and what is acknowledged
(drain.py).
"""

from __future__ import annotations

import logging
from typing import Any

import click

from yak.commands.completing import complete_group, complete_topic
from yak.commands.drain import Drain, Until
from yak.commands.formats import Format, as_json, compile_format, plain
from yak.commands.interrupts import Interrupts
from yak.commands.options import (
    COUNT,
    DURATION,
    ParamType,
    check_topic,
    examples,
    metrics_address,
    option_bootstrap,
    option_client,
    option_metrics,
    option_version,
)
from yak.commands.reaching import Waiting
from yak.commands.starts import Start, StartType, since
from yak.model import Address


class ReplicaType(ParamType):
    """`any`, `leader`, or a broker's id."""

    name = "any|leader|id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        if text in ("any", "leader"):
            return text
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            self.fail(f"{text!r}: say any, leader, or a broker's id", param, ctx)
        return int(text)


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_CONSUME"},
    epilog=examples(
        "yak-consume orders --from-beginning",
        "yak-consume orders -g billing       share the partitions with the group",
        "yak-consume orders -o -10 -e        the last ten of each partition, then end",
        "yak-consume orders -f '%p@%o %k: %s\\n'",
        "yak-consume orders --since 1h -J | jq .value",
        "yak-consume orders -n 3 --timeout 5s --expect 3",
    ),
)
@click.argument("topic", shell_complete=complete_topic)
@option_bootstrap
@click.option(
    "-g",
    "--group",
    shell_complete=complete_group,
    help="Share the partitions with this group, and acknowledge.",
)
@click.option("--from-beginning", is_flag=True, help="The same as -o beginning.")
@click.option(
    "-o",
    "--offset",
    "start",
    type=StartType(),
    help="Where to start: beginning, end, stored, N, -N (the last N), @TIME (ms or ISO 8601).  "
    "[default: end; with -g: stored]",
)
@click.option("--since", "ago", type=DURATION, help="Start so long ago, as 1h.")
@click.option(
    "-p",
    "--partition",
    "partitions",
    type=click.IntRange(min=0),
    multiple=True,
    help="Read only this partition; repeatable.",
)
@click.option(
    "-n",
    "-c",
    "--max-messages",
    "max_messages",
    type=COUNT,
    help="End after so many records.",
)
@click.option("-e", "--exit-eof", is_flag=True, help="End when everything there is has been read.")
@click.option("--timeout", type=DURATION, help="End when nothing has come for so long.")
@click.option("--expect", type=COUNT, help="End with exit code 1 if fewer records came.")
@click.option(
    "-f", "--format", "form", help="What to print: %t %p %o %k %s %h %T %S %K %R, \\n, \\t."
)
@click.option("-J", "--json", "is_json", is_flag=True, help="Print JSON, one object a line.")
@click.option(
    "--read-from",
    type=ReplicaType(),
    default="any",
    show_default=True,
    help="Which broker to read from.",
)
@option_client("yak-consume")
@option_metrics
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say where it starts, and what it is told.")
@option_version
def consume(
    *,
    topic: str,
    group: str | None,
    from_beginning: bool,
    start: Start | None,
    ago: float | None,
    max_messages: int | None,
    exit_eof: bool,
    timeout: float | None,
    expect: int | None,
    form: str | None,
    is_json: bool,
    quiet: bool,
    verbose: bool,
    metrics: Address | None,
    **reading: Any,
) -> int:
    """Print the records of TOPIC, and with -g acknowledge those that were printed."""
    check_topic(topic)
    if expect is not None and max_messages is not None and expect > max_messages:
        raise click.UsageError(f"-n {max_messages} ends before --expect {expect} can be reached")
    if quiet and verbose:
        raise click.UsageError("-q and -v contradict each other")
    where = _one_start(from_beginning=from_beginning, start=start, ago=ago)
    until = Until(records=max_messages, end=exit_eof, idle_s=timeout, expected=expect)
    show = _format(form, is_json=is_json)
    if verbose:
        logging.basicConfig(format="%(message)s")
    if quiet or verbose:
        logging.getLogger("yak").setLevel(logging.ERROR if quiet else logging.INFO)
    say = Waiting(reading["bootstrap"], quiet=quiet)
    with Interrupts() as interrupts:
        drain = Drain(
            topic, group, show, until, interrupts, on_waiting=say, quiet=quiet, verbose=verbose
        )
        return drain.run(where, metrics=metrics_address(metrics), **reading)


def _one_start(*, from_beginning: bool, start: Start | None, ago: float | None) -> Start | None:
    ways = [
        *(["beginning"] if from_beginning else []),
        *([start] if start is not None else []),
        *([since(ago)] if ago is not None else []),
    ]
    if len(ways) > 1:
        raise click.UsageError("--from-beginning, -o and --since contradict each other: say one")
    return ways[0] if ways else None


def _format(form: str | None, *, is_json: bool) -> Format:
    if form is None:
        return as_json if is_json else plain
    if is_json:
        raise click.UsageError("-f and -J contradict each other: say one")
    try:
        return compile_format(form)
    except ValueError as e:
        raise click.UsageError(f"-f: {e}") from e
