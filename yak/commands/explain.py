"""`yak explain`: why it is so, as a chain of causes from the cluster's own records.

    $ yak explain leader
    broker 2 leads epoch 2 since 2026-11-22 07:31:02.114Z: leader 1 is gone: its port refuses …

    2026-11-22 (times are UTC)
      07:31:02.101  yak-zk      the connection between broker 1 and yak-zk ended
      07:31:02.113  yak-zk      broker 1's session ended: its port refuses connections
      …
    not known:
      …

From the data directories that are here (./data by default) and, where it answers, from the running
cluster; what neither has is said at the end.  `--json` has the same, with ms and stable keys.

Exit code 1 where there is no such topic, offset, group or client.

Not here: what is looked at (gathering.py), and what follows from it (yak/explain/).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from yak.commands.completing import complete_group, complete_topic
from yak.commands.gathering import Gathered, ask_cluster, read_files
from yak.commands.options import (
    ADDRESS,
    ParamType,
    examples,
    option_bootstrap,
    option_json,
    running_zk,
)
from yak.commands.output import echo_json, window_width, wrapped
from yak.commands.running import run
from yak.config import DEFAULT_ZK
from yak.explain.facts import Cause, Explanation, Unexplained, clock
from yak.explain.questions import Question
from yak.explain.questions import explain as told
from yak.model import is_topic_name

F = TypeVar("F", bound=Callable[..., Any])

_OFFSET: Final = re.compile(r"(?P<topic>[^/\[\]@]+)(?:/(\d+)|\[(\d+)\])@(\d+)", re.ASCII)


class _OffsetType(ParamType):
    """TOPIC/PARTITION@OFFSET, or as `yak log` prints it, TOPIC[PARTITION]@OFFSET."""

    name = "topic/partition@offset"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int, int]:
        if isinstance(value, tuple):
            return value
        found = _OFFSET.fullmatch(str(value))
        if found is None or not is_topic_name(found["topic"]):
            self.fail(f"{value!r}: say TOPIC/PARTITION@OFFSET, as orders/0@42", param, ctx)
        return found["topic"], int(found[2] or found[3]), int(found[4])


@click.group(
    context_settings={"auto_envvar_prefix": "YAK_EXPLAIN"},
    epilog=examples(
        "yak explain leader                    why this broker leads",
        "yak explain isr                       who is in sync, and why others are not",
        "yak explain offset orders/0@42        where a record is, and who has received it",
        "yak explain group billing             why it is behind",
        "yak explain topic orders              what was done to it, who writes and reads",
        "yak explain client yak-produce        what it has done",
        "yak explain leader data/zookeeper     from yak-zk's files alone, if nothing runs",
        "yak explain offset orders/0@42 --json | jq '.chain[] | select(.kind == \"ack\")'",
    ),
)
def explain() -> None:
    """Say why: the chain of causes, from the log and each process's own events."""


def _sources(command: F) -> F:
    """Where the facts come from, and how they are printed."""
    for decorate in (
        click.argument(
            "directories",
            metavar="[DIR]...",
            nargs=-1,
            type=click.Path(path_type=Path, exists=True, file_okay=False),
        ),
        click.option(
            "--data-dir",
            "more_directories",
            multiple=True,
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="As DIR: a broker's directory, yak-zk's, or one that has them; repeatable.  "
            "[default: that of `yak up`, else ./data]",
        ),
        option_bootstrap,
        click.option(
            "--zk",
            type=ADDRESS,
            default=running_zk,
            show_default=f"that of `yak up`, else {DEFAULT_ZK}",
            envvar="YAK_ZK",
            help="Where yak-zk listens.",
        ),
        option_json,
    ):
        command = decorate(command)
    return command


@explain.command(epilog=examples("yak explain leader", "yak explain leader --json | jq -r .answer"))
@_sources
def leader(**sources: Any) -> None:
    """Why this broker leads, or nobody does."""
    _answer(Question("leader"), **sources)


@explain.command(epilog=examples("yak explain isr", "yak explain isr -b 127.0.0.1:9092"))
@_sources
def isr(**sources: Any) -> None:
    """Who is in sync, and why the others are not."""
    _answer(Question("isr"), **sources)


@explain.command(epilog=examples("yak explain topic orders"))
@click.argument("name", metavar="TOPIC", shell_complete=complete_topic)
@_sources
def topic(*, name: str, **sources: Any) -> None:
    """What was done to a topic, how far it reaches, who writes and reads it."""
    _answer(Question("topic", name), **sources)


@explain.command(epilog=examples("yak explain group billing"))
@click.argument("name", metavar="GROUP", shell_complete=complete_group)
@_sources
def group(*, name: str, **sources: Any) -> None:
    """Why a group is behind: who reads for it, what was delivered and acknowledged."""
    _answer(Question("group", name), **sources)


@explain.command(
    epilog=examples("yak explain offset orders/0@42", "yak explain offset orders[0]@42")
)
@click.argument("where", metavar="TOPIC/PARTITION@OFFSET", type=_OffsetType())
@_sources
def offset(*, where: tuple[str, int, int], **sources: Any) -> None:
    """Where a record is, how it came there, and who has acknowledged it."""
    name, partition, number = where
    _answer(Question("offset", name, partition, number), **sources)


@explain.command(
    epilog=examples("yak explain client yak-produce", 'yak explain client "producer 7"')
)
@click.argument("name", metavar="CLIENT")
@_sources
def client(*, name: str, **sources: Any) -> None:
    """What a client has done.

    CLIENT is the name that it gave itself (--client), the name of a group's member, or
    "producer N".
    """
    _answer(Question("client", name), **sources)


def _answer(
    question: Question,
    *,
    directories: tuple[Path, ...],
    more_directories: tuple[Path, ...],
    bootstrap: str,
    zk: str,
    as_json: bool,
) -> None:
    gathered = Gathered()
    given = [*directories, *more_directories]
    said = click.get_current_context().get_parameter_source("bootstrap")
    named = said is not click.core.ParameterSource.DEFAULT
    if named and not given:  # the cluster that was named is the one that is meant
        run(ask_cluster(question, bootstrap, zk, gathered, named_by_user=True))
        read_files(question, given, gathered)
    else:
        read_files(question, given, gathered)
        run(ask_cluster(question, bootstrap, zk, gathered, named_by_user=named))
    if not gathered.sources:
        raise click.ClickException(
            "there is nothing to tell from: no data directory in ./data, and no cluster answers at "
            f"{bootstrap}; give a DIR, or --bootstrap and --zk of a running cluster"
        )
    try:
        answer = told(question, gathered.facts())
    except Unexplained as e:
        raise click.ClickException(str(e)) from e
    if as_json:
        echo_json({"question": question, **msgspec.to_builtins(answer)})
    else:
        click.echo(described(answer, window_width()))


def described(answer: Explanation, width: int = 0) -> str:
    """The explanation for people; width: lines are wrapped to it, 0 for never."""
    lines = [*wrapped(answer.answer, width), ""]
    widest = max((len(cause.source) for cause in answer.chain), default=0)
    day = ""
    for cause in answer.chain:
        if cause.time is not None:
            date = datetime.fromtimestamp(cause.time // 1000, UTC).strftime("%Y-%m-%d")
            if date != day:
                lines.append(f"{date} (UTC)")
                day = date
        lines += _cause(cause, widest, width)
    if answer.unknown:
        lines += ["", "not known:"] if answer.chain else ["not known:"]
        for text in answer.unknown:
            lines += wrapped(text, width, "  - ", "    ")
    lines += ["", *wrapped("from " + ", ".join(answer.sources), width, "", "     ")]
    return "\n".join(lines)


def _cause(cause: Cause, widest: int, width: int) -> list[str]:
    when = clock(cause.time) if cause.time is not None else " " * 12
    head = f"  {when}  {cause.source.ljust(widest)}  "
    if cause.index is not None and str(cause.index) not in cause.what:
        return wrapped(f"operation {cause.index}: {cause.what}", width, head, " " * len(head))
    return wrapped(cause.what, width, head, " " * len(head))
