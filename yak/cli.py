"""The commands' names, and where each is found.

    yak-zk, yak-broker, yak-produce, yak-consume      the same as
    yak zk, yak broker, yak produce, yak consume      and `yak --help` names the rest
    yak bin/kafka-topics.sh                           a course's line, as it stands in its text

A command's module is imported when that command is asked for, and an actor when it is run, so
that `yak --help` and a client do not pay for a broker.

Not here: options, which are each command's own, nor what a command prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NoReturn

import click

from yak.commands.options import examples, option_version
from yak.commands.running import enter

#: command, the name of its module and its function -> the line that `yak --help` shows
_COMMANDS: Final[Mapping[str, str]] = {
    "up": "Start a whole cluster on this machine, and watch it.",
    "down": "Stop the cluster that `yak up` started.",
    "zk": "Run the coordinator; ask it, give it an order.",
    "broker": "Run a broker; list and describe those that run.",
    "produce": "Send lines to a topic.",
    "consume": "Print a topic's records.",
    "topic": "Create, list, describe, alter, trim and delete topics.",
    "group": "List, describe, move and delete consumer groups.",
    "status": "Show the cluster and each broker.",
    "top": "The same, live: rates, lag, what happens and why.",
    "explain": "Say why: who leads, who is in sync, where a record is, why a group is behind.",
    "chaos": "Kill, stop, cut off, slow down or fill up a process of `yak up`, for a while.",
    "log": "Read an operation log, one line an operation.",
    "bench": "Measure the cluster: records a second, and milliseconds.",
    "verify": "Prove that files, or the replicas of a cluster, are whole and agree.",
    "doctor": "Look step by step where a cluster cannot be reached, and why.",
    "completion": "Print what makes bash, zsh or fish complete yak's words.",
}
#: The same of commands that take the options of Kafka's own scripts.
TEXTBOOK: Final[Mapping[str, str]] = {
    "kafka-topics": "`yak topic`",
    "kafka-console-producer": "`yak produce`",
    "kafka-console-consumer": "`yak consume`",
    "kafka-consumer-groups": "`yak group`",
    "kafka-producer-perf-test": "`yak bench produce`",
}
_ALL: Final = {**_COMMANDS, **TEXTBOOK}
#: Scripts of Kafka's that a course uses and yak has not, and what does the same here.
_INSTEAD: Final[Mapping[str, str]] = {
    "kafka-storage": "a data directory needs no formatting; `yak up` starts a cluster",
    "kafka-server-start": "`yak up` starts a cluster, `yak broker --id N` one broker",
    "kafka-server-stop": "`yak down` stops a cluster",
    "zookeeper-server-start": "`yak up` starts a cluster, `yak zk` its coordinator alone",
    "zookeeper-server-stop": "`yak down` stops a cluster",
    "zookeeper-shell": "`yak status` and `yak explain leader` show what yak-zk knows",
    "kafka-configs": "`yak kafka-topics --alter --topic T --config NAME=VALUE`, `yak topic alter`",
    "kafka-get-offsets": "`yak topic describe TOPIC`",
    "kafka-delete-records": "`yak topic trim TOPIC`",
    "kafka-consumer-perf-test": "`yak bench consume`",
    "kafka-e2e-latency": "`yak bench e2e`",
    "kafka-dump-log": "`yak log DIR`, or `cat`: the log is text",
    "kafka-log-dirs": "`yak broker describe N`",
    "kafka-broker-api-versions": "`yak broker list`",
    "kafka-metadata-quorum": "`yak status`",
    "kafka-replica-verification": "`yak verify --bootstrap HOST:PORT`",
    "kafka-leader-election": "one broker leads all; `yak explain leader` says which, and why",
    "kafka-reassign-partitions": "every broker has every partition; `yak broker list`",
}


class _Lazy(click.Group):
    """A group whose commands are imported only when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ALL)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _pasted(cmd_name)
        if name in _INSTEAD:
            raise click.UsageError(f"yak has no {name}; instead: {_INSTEAD[name]}")
        return _command(name) if name in _ALL else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))
        with formatter.section("A course's commands, by the options of Kafka's own scripts"):
            formatter.write_dl(list(TEXTBOOK.items()))


def _pasted(name: str) -> str:
    """The command that is meant: `bin/kafka-topics.sh` is kafka-topics."""
    script = name.rpartition("/")[2].removesuffix(".sh")
    return script if script in TEXTBOOK or script in _INSTEAD else name


def _command(name: str) -> click.Command:
    module = name.replace("-", "_")
    command: click.Command = getattr(import_module(f"yak.commands.{module}"), module)
    return command


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    epilog=examples(
        "yak zk                                  the coordinator, on 127.0.0.1:2181",
        "yak broker --id 1                       a broker; then --id 2 and --id 3",
        "echo hello | yak produce greetings",
        "yak consume greetings --from-beginning",
        "yak status",
    ),
)
@option_version
@click.pass_context
def yak(context: click.Context) -> None:
    """yak, the Kafka you can read: a replicated log with JSON on the wire and on disk."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> NoReturn:
    """`yak`"""
    enter(lambda: yak, "yak")


def zk_main() -> NoReturn:
    """`yak-zk`"""
    enter(lambda: _command("zk"), "yak-zk")


def broker_main() -> NoReturn:
    """`yak-broker`"""
    enter(lambda: _command("broker"), "yak-broker")


def produce_main() -> NoReturn:
    """`yak-produce`"""
    enter(lambda: _command("produce"), "yak-produce")


def consume_main() -> NoReturn:
    """`yak-consume`"""
    enter(lambda: _command("consume"), "yak-consume")
