"""`yak broker`, which is `yak-broker`: options become a config, and a broker runs on it.

Every one of config.Limits is an option of the same name; limits that cannot work together are
refused here, with the reason, before anything starts.

`yak broker list|describe` ask brokers that run; they take none of the process's options.

Not here: what a broker does (yak.broker), and what the limits are for (yak.config); nor what
brokers say of themselves (broker_questions.py).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from yak.commands import broker_questions
from yak.commands.options import (
    ADDRESS,
    COUNT,
    DURATION,
    FSYNC,
    SIZE,
    check_alone,
    examples,
    metrics_address,
    option_metrics,
    option_quiet_process,
    option_until_eof,
    option_version,
    running_zk,
)
from yak.commands.running import run
from yak.config import (
    BOOT_ID_PATH,
    DEFAULT_ZK,
    FRAME_OVERHEAD_BYTES,
    MAX_FRAME_CEILING,
    BrokerConfig,
    Limits,
)
from yak.model import MAX_PORT

#: Broker N listens on this plus N, so that brokers on one machine find each other.
_PORT_BASE: Final = 9091
#: For so long a thread that has synced may wait until the loop lets it say so, where many want
#: much of the loop; Python's own 5 ms are longer than a record's whole way.
SWITCH_S: Final = 0.0005

#: What each of `config.Limits` means, as `yak-broker --help` says it.
LIMITS_HELP: Final[Mapping[str, str]] = {
    "max_frame_bytes": "Largest frame that is read.",
    "max_batch_bytes": "Default of a topic's max_batch_bytes: its largest batch.",
    "max_partitions": "Partitions of one topic.",
    "max_topics": "Topics.",
    "max_total_partitions": "Partitions of all topics.",
    "max_producers": "Producers known; beyond it the one gone longest is forgotten.",
    "max_groups": "Consumer groups.",
    "max_members": "Members of one group.",
    "max_connections": "Connections at a time.",
    "max_inflight_requests": "Unanswered requests of one connection; further ones wait unread.",
    "max_inflight_bytes": "Memory that unanswered requests may take, in all.",
    "max_partial_bytes": "Bytes of frames that have arrived only in part, or wait, in all.",
    "max_uncommitted_bytes": "Bytes appended and not yet committed; more is refused.",
    "max_unflushed_bytes": "Bytes that wait for a disk that refuses the partition files.",
    "max_unsent_bytes": "Answers one slow client may leave unread before its requests wait.",
    "max_unread_bytes": "Answers all clients may leave unread; then the slowest is cut off.",
    "max_fetch_bytes": "Largest answer to one fetch.",
    "frame_timeout_ms": "A frame that began to arrive must end within this.",
    "retention_check_ms": "How often the leader looks whether retention lets something go.",
    "producer_session_ms": "Silence after which a producer is listed as gone.",
    "producer_retention_ms": "How long a gone producer's sequences are kept.",
    "checkpoint_bytes": "Log between two checkpoints: what a restart applies again at most.",
    "checkpoint_operations": "The same in operations.",
    "trash_ms": "How long what was deleted or trimmed may wait until its space is freed.",
}


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each of config.Limits, named after it."""
    for limit in reversed(dataclasses.fields(Limits)):
        is_size = limit.name.endswith("_bytes")
        command = click.option(
            "--" + limit.name.replace("_", "-"),
            type=SIZE if is_size else COUNT,
            default=limit.default,
            show_default=_human_size(limit.default) if is_size else True,
            help=LIMITS_HELP[limit.name],
        )(command)
    return command


def _human_size(size: int) -> str:
    return f"{size >> 20}MiB" if size and size % 2**20 == 0 else str(size)


@click.group(
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "YAK_BROKER"},
    epilog=examples(
        "yak-broker --id 1                        127.0.0.1:9092, data/broker-1",
        "yak-broker --id 7 --port 0 --zk db:2181  any free port; it is printed",
        "yak-broker --id 1 --fsync interval:50    faster; a power cut may cost 50 ms",
        "yak-broker list                          those that there are",
    ),
)
@click.option(
    "--id",
    "broker_id",
    type=COUNT,
    envvar="YAK_BROKER_ID",
    help="This broker's number: any positive one, its own for ever.  [required to run one]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    show_default="9091 + id",
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--zk",
    "zk_address",
    type=ADDRESS,
    default=running_zk,
    show_default=f"that of `yak up`, else {DEFAULT_ZK}",
    envvar="YAK_ZK",
    help="Where yak-zk listens.",
)
@click.option(
    "--zk-wait",
    type=DURATION,
    default=BrokerConfig.zk_wait_s,
    show_default="30s",
    help="How long to try to reach yak-zk at the start before giving up.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=True),
    show_default="data/broker-ID",
    help="Where the log, the topics and events.jsonl lie.",
)
@click.option(
    "--advertise",
    type=ADDRESS,
    show_default="what the client dialled",
    help="The address that clients are told.",
)
@click.option(
    "--fsync",
    type=FSYNC,
    default="always",
    show_default=True,
    help="When the log is forced to disk.",
)
@click.option(
    "--default-partitions",
    type=COUNT,
    show_default=True,
    default=BrokerConfig.default_partitions,
    help="Partitions of a topic that does not say.",
)
@click.option(
    "--auto-create/--no-auto-create",
    default=True,
    show_default=True,
    help="Whether a topic is created when a producer or consumer registers for it.",
)
@click.option(
    "--oplog-retain-bytes",
    type=SIZE,
    show_default="1GiB, or a tenth of the disk",
    help="Log kept before the last checkpoint, for followers that come back.",
)
@click.option("--boot-id-path", default=BOOT_ID_PATH, hidden=True, help="For power-cut tests.")
@option_quiet_process
@option_until_eof
@_limit_options
@option_metrics
@option_version
@click.pass_context
def broker(
    context: click.Context,
    /,
    *,
    broker_id: int | None,
    port: int | None,
    zk_address: str,
    zk_wait: float,
    data_dir: Path | None,
    **options: Any,
) -> None:
    """Run a broker: it keeps the log, and leads or follows as yak-zk decides.

    With a command, ask brokers that run.
    """
    if context.invoked_subcommand is not None:
        check_alone(context, "yak-broker")
        return
    if broker_id is None:
        raise click.MissingParameter(param_hint="'--id'", param_type="option")
    limits = Limits(**{limit.name: options.pop(limit.name) for limit in dataclasses.fields(Limits)})
    options["metrics"] = metrics_address(options["metrics"], options["host"])
    problem = limits_problem(limits, options["default_partitions"])
    if problem:
        raise click.UsageError(problem)
    config = BrokerConfig(
        id=broker_id,
        port=_port(broker_id) if port is None else port,
        zk=zk_address,
        zk_wait_s=zk_wait,
        data_dir=data_dir or Path(f"data/broker-{broker_id}"),
        limits=limits,
        **options,
    )
    from yak import broker as actor

    sys.setswitchinterval(SWITCH_S)
    run(actor.run(config))


def _port(broker_id: int) -> int:
    port = _PORT_BASE + broker_id
    if port > MAX_PORT:
        raise click.UsageError(
            f"broker {broker_id} would listen on port {port}: choose one with --port"
        )
    return port


broker.add_command(broker_questions.list_)
broker.add_command(broker_questions.describe)


def limits_problem(limits: Limits, default_partitions: int) -> str | None:
    """Why these limits cannot work together; None if they can."""
    for name, value in dataclasses.asdict(limits).items():
        if value < 1:
            return f"--{name.replace('_', '-')} {value} must be at least 1"
    if limits.max_frame_bytes >= MAX_FRAME_CEILING:
        return (
            f"--max-frame-bytes {limits.max_frame_bytes} must be below {MAX_FRAME_CEILING}: a "
            "longer frame could not be told from a TLS hello"
        )
    if limits.max_batch_bytes > limits.max_frame_bytes - FRAME_OVERHEAD_BYTES:
        return (
            f"--max-batch-bytes {limits.max_batch_bytes} must leave {FRAME_OVERHEAD_BYTES} bytes "
            f"of --max-frame-bytes {limits.max_frame_bytes} for the header"
        )
    if default_partitions > limits.max_partitions:
        return (
            f"--default-partitions {default_partitions} is above --max-partitions "
            f"{limits.max_partitions}"
        )
    return None
