"""Options that the textbook commands share: those of Kafka's own scripts, by Kafka's names.

Rules:

* Each takes what Kafka's script of 4.2 takes, and what older ones took under another name.
* What only tunes Kafka's own machinery is accepted, and a note on stderr says that it has no
  effect.  What yak cannot do is refused with exit code 2, and the message says what it does
  instead.  Neither is listed by `--help`.
* They are thin: what is done is what yak's own commands do, which `--help` names.

Not here: what the settings behind --property and its kin mean (kafka_properties.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from yak.commands.kafka_properties import parse_properties
from yak.commands.options import BOOTSTRAP, PAIR, running_brokers
from yak.commands.reaching import Admin
from yak.config import DEFAULT_BOOTSTRAP
from yak.errors import YakError

F = TypeVar("F", bound=Callable[..., Any])

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


def option_bootstrap_server(command: F) -> F:
    """--bootstrap-server, and --broker-list as it was called before."""
    return click.option(
        "--bootstrap-server",
        "--broker-list",
        "bootstrap",
        type=BOOTSTRAP,
        default=running_brokers,
        show_default=f"those of `yak up`, else {DEFAULT_BOOTSTRAP}",
        envvar="YAK_BOOTSTRAP",
        help="Brokers to ask first.",
    )(command)


def option_pairs(*names: str, into: str, text: str) -> Callable[[F], F]:
    """NAME=VALUE, repeatable, under each of these names."""
    return click.option(*names, into, type=PAIR, multiple=True, help=text)


def option_files(*names: str, into: str, text: str) -> Callable[[F], F]:
    """A .properties file, repeatable, under each of these names."""
    return click.option(*names, into, type=_FILE, multiple=True, help=text)


def properties(files: Iterable[Path], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What the files say, and then what the command line does."""
    found: dict[str, str] = {}
    for path in files:
        try:
            found |= parse_properties(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as e:
            raise click.UsageError(f"cannot read {path}: {e}") from e
    return found | dict(pairs)


def without_effect(*names: str, why: str, value: bool = True) -> Callable[[F], F]:
    """Accepted; a note says why nothing comes of it."""

    def note(_context: click.Context, option: click.Parameter, given: Any) -> None:
        if given not in (None, False):
            click.echo(f"note: {option.opts[0]} has no effect: {why}", err=True)

    return _each(names, note, value=value)


def refused(*names: str, instead: str, value: bool = True) -> Callable[[F], F]:
    """Not accepted; the message says what there is instead."""

    def refuse(_context: click.Context, option: click.Parameter, given: Any) -> None:
        if given not in (None, False):
            raise click.UsageError(f"{option.opts[0]}: {instead}")

    return _each(names, refuse, value=value)


def _each(names: Sequence[str], callback: Callable[..., None], *, value: bool) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for name in names:
            command = click.option(
                name,
                is_flag=not value,
                default=None if value else False,
                hidden=True,
                expose_value=False,
                callback=callback,
            )(command)
        return command

    return decorate


def one_of(given: dict[str, bool]) -> str:
    """The one action that was asked for.  Raises UsageError, which names them all."""
    chosen = [name for name, is_on in given.items() if is_on]
    if len(chosen) != 1:
        names = ", ".join(f"--{name}" for name in given)
        raise click.UsageError(f"say exactly one of {names}")
    return chosen[0]


def turns(bootstrap: str, topic: str) -> Iterator[int]:
    """The topic's partitions, over and over: where RoundRobinPartitioner sends one record each.

    As they are now; a topic that is not there is made, as by any producer.  Raises YakError.
    """
    with Admin(bootstrap, client="partitioner") as admin:
        try:
            report = admin.topic(topic)
        except YakError as e:
            if e.name != "UNKNOWN_TOPIC":
                raise
            admin.create_topic(topic)
            report = admin.topic(topic)
    return itertools.cycle([one.partition for one in report.partitions])
