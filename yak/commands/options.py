"""Option types and options that several commands share.

A size is a number of bytes or one with a unit (`64MiB`, `64M`; `MB` is a million).  A duration
is a number of seconds or one with a unit (`500ms`, `5s`, `2m`, `1h`, `1d`).  An address is
`HOST:PORT`, an IPv6 host in brackets.

Every option can be given in the environment as well: `YAK_<COMMAND>_<OPTION>`, and those that
several commands share as `YAK_<OPTION>` (`YAK_BOOTSTRAP`, `YAK_ZK`, `YAK_CLIENT`).  Where neither
says where the cluster is, yak.json does (local/note.py), and without one the default ports.

Not here: what an option means to an actor; that is config's, or the command's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from yak.config import DEFAULT_BOOTSTRAP, DEFAULT_ZK
from yak.local import note
from yak.model import MAX_INT, MAX_PORT, Address, is_topic_name, parse_address, parse_addresses
from yak.version import VERSION

_SIZE_UNITS: Final = {
    "": 1,
    "B": 1,
    "K": 2**10,
    "KIB": 2**10,
    "KB": 10**3,
    "M": 2**20,
    "MIB": 2**20,
    "MB": 10**6,
    "G": 2**30,
    "GIB": 2**30,
    "GB": 10**9,
}
_DURATION_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")

#: Where a process listens that was told of no host.
LOOPBACK: Final = "127.0.0.1"

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic only in newer releases of click
else:
    ParamType = click.ParamType


class CountType(ParamType):
    """A whole number from 1."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_INT):
            self.fail(f"{text!r}: say a whole number from 1", param, ctx)
        return int(text)


class SizeType(ParamType):
    """Bytes, as an int."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _NUMBER_UNIT.fullmatch(str(value).strip())
        unit = _SIZE_UNITS.get(found[2].upper()) if found else None
        if found is None or unit is None:
            self.fail(f"{value!r} is no size: say bytes, or 512KiB, 64MiB, 1GiB", param, ctx)
        return int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit


class DurationType(ParamType):
    """Seconds, as a float."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = _NUMBER_UNIT.fullmatch(str(value).strip())
        unit = _DURATION_UNITS.get(found[2].lower()) if found else None
        if found is None or unit is None:
            self.fail(f"{value!r} is no duration: say seconds, or 500ms, 5s, 2m", param, ctx)
        return float(found[1]) * unit


class AddressType(ParamType):
    """One HOST:PORT, kept as text once it is known to be one."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_address(str(value))
        except ValueError as e:
            self.fail(str(e), param, ctx)
        return str(value).strip()


class BootstrapType(ParamType):
    """HOST:PORT, or several with commas between them; kept as text."""

    name = "host:port,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_addresses(str(value))
        except ValueError as e:
            self.fail(str(e), param, ctx)
        return str(value).strip()


class FsyncType(ParamType):
    """`always`, `never` or `interval:MS`."""

    name = "always|never|interval:MS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        kind, _, interval = text.partition(":")
        if text in ("always", "never"):
            return text
        is_number = interval.isascii() and interval.isdigit() and int(interval) > 0
        if kind != "interval" or not is_number:
            self.fail(f"{text!r}: say always, never, or interval:MS as interval:50", param, ctx)
        return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words = ("always", "never", "interval:")
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class PairType(ParamType):
    """NAME=VALUE, as a pair."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r}: say NAME=VALUE", param, ctx)
        return name, rest


class MetricsType(ParamType):
    """PORT or HOST:PORT; the host is "" where it is not said."""

    name = "[host:]port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        text = str(value).strip()
        try:
            address = parse_address(text if ":" in text else f"-:{text}")
        except ValueError:
            self.fail(f"{text!r}: say a port as 9308, or HOST:PORT as 0.0.0.0:9308", param, ctx)
        return address if ":" in text else Address("", address.port)


class PortsType(ParamType):
    """`any`, the first of several in a row, or yak-zk's and each broker's with commas between."""

    name = "any|port|port,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        if isinstance(value, list):
            return value
        parts = ["0"] if value == "any" else str(value).split(",")
        if not all(p.isascii() and p.isdigit() and int(p) <= MAX_PORT for p in parts):
            self.fail(
                f"{value!r}: say any, or the first port, or yak-zk's and each broker's, as "
                "2181,9092,9093,9094",
                param,
                ctx,
            )
        return [int(part) for part in parts]


COUNT: Final = CountType()
SIZE: Final = SizeType()
DURATION: Final = DurationType()
ADDRESS: Final = AddressType()
BOOTSTRAP: Final = BootstrapType()
FSYNC: Final = FsyncType()
PAIR: Final = PairType()


def running_brokers() -> str:
    """Of the cluster that yak.json names, if it lives."""
    found = note.running()
    return DEFAULT_BOOTSTRAP if found is None else found.bootstrap


def running_zk() -> str:
    """The same of its yak-zk."""
    found = note.running()
    return DEFAULT_ZK if found is None else found.zk


def option_bootstrap(command: F) -> F:
    """-b/--bootstrap: the brokers that are asked first; they name all the others."""
    return click.option(
        "-b",
        "--bootstrap",
        "--bootstrap-server",
        "bootstrap",
        type=BOOTSTRAP,
        default=running_brokers,
        show_default=f"those of `yak up`, else {DEFAULT_BOOTSTRAP}",
        envvar="YAK_BOOTSTRAP",
        help="Brokers to ask first; any one of them that answers is enough.",
    )(command)


def option_client(default: str) -> Callable[[F], F]:
    """--client: the name that the cluster lists this process under."""

    def decorate(command: F) -> F:
        return click.option(
            "--client",
            default=default,
            show_default=True,
            envvar="YAK_CLIENT",
            help="The name that the cluster lists this client under.",
        )(command)

    return decorate


def option_metrics(command: F) -> F:
    """--metrics-port: where the process answers scrapers and probes; `metrics_address` reads it."""
    return click.option(
        "--metrics-port",
        "metrics",
        type=MetricsType(),
        help="Answer GET /metrics (Prometheus), /healthz and /readyz here; 0 takes any free port, "
        "which is printed.  [default: nowhere; without a host: where the process listens, else "
        "127.0.0.1]",
    )(command)


def metrics_address(given: Address | None, host: str = LOOPBACK) -> Address | None:
    """--metrics-port, with the host where it says none."""
    return given if given is None or given.host else Address(host, given.port)


def option_json(command: F) -> F:
    """--json: the same facts for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(
        command
    )


def option_yes(command: F) -> F:
    """--yes: do it without being asked; yak.commands.confirm asks."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(command)


def option_dry_run(command: F) -> F:
    """--dry-run: yak.commands.confirm shows it."""
    return click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")(
        command
    )


def option_quiet_process(command: F) -> F:
    """-q/--quiet of a process that tells its story."""
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="Tell events to events.jsonl only, and nothing but errors on stderr.",
    )(command)


def option_until_eof(command: F) -> F:
    """--until-eof: yak.net.lifeline."""
    return click.option(
        "--until-eof",
        is_flag=True,
        help="End when standard input does: with whoever holds its other end.",
    )(command)


def option_version(command: F) -> F:
    """--version."""
    return click.version_option(VERSION, prog_name="yak", message="%(prog)s %(version)s")(command)


def check_alone(context: click.Context, process: str) -> None:
    """An option of the process before a command would be lost without a word: UsageError."""
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{option.opts[0]} is for running {process}; `{context.invoked_subcommand}` has "
                "options of its own, after its name"
            )


def check_topic(name: str) -> None:
    """Raises UsageError for what is no topic's name."""
    if not is_topic_name(name):
        raise click.UsageError(f"{name!r} is no topic name: say 1 to 249 of a-z A-Z 0-9 . _ -")


def examples(*lines: str) -> str:
    """An epilog that click leaves as it is: one example a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
