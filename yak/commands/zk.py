"""`yak zk`, which is `yak-zk`: options become a config, and the coordinator runs on it.

Settings that cannot work together are refused here, with the reason, before anything starts.

`yak zk status|elect|adopt` ask the one that runs; they take none of the process's options.

Not here: what the coordinator does (yak.zookeeper), and what the settings are for (yak.config);
nor what an operator asks and orders (zk_orders.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from yak.commands import zk_orders
from yak.commands.options import (
    COUNT,
    SIZE,
    check_alone,
    examples,
    metrics_address,
    option_metrics,
    option_quiet_process,
    option_until_eof,
    option_version,
)
from yak.commands.running import run
from yak.config import CoordinatorConfig, Settings
from yak.model import MAX_PORT, Address

_DEFAULTS: Final = Settings()


@click.group(
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "YAK_ZK"},
    epilog=examples(
        "yak-zk",
        "yak-zk --port 0 --data-dir /tmp/zk       any free port; it is printed",
        "yak-zk --min-insync-replicas 1           a single broker may acknowledge alone",
        "yak-zk status                            who is here, who was refused, who leads and why",
        "yak-zk elect 2 --dry-run                 what would happen if broker 2 led",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    default=2181,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=True),
    show_default=True,
    default=Path("data/zookeeper"),
    help="Where state.json and events.jsonl lie.",
)
@click.option(
    "--min-insync-replicas",
    type=COUNT,
    show_default=True,
    default=_DEFAULTS.min_insync_replicas,
    help="The ISR never falls below this; with fewer reachable, writes are refused.",
)
@click.option(
    "--oplog-segment-bytes",
    type=SIZE,
    default="64MiB",
    show_default=True,
    help="A file of the operation log is followed by a new one at this size.",
)
@click.option(
    "--heartbeat-ms",
    type=COUNT,
    default=_DEFAULTS.heartbeat_ms,
    show_default=True,
    help="Brokers send a heartbeat this often.",
)
@click.option(
    "--session-ms",
    type=COUNT,
    default=_DEFAULTS.session_ms,
    show_default=True,
    help="Silence after which a broker is declared dead.",
)
@click.option(
    "--lease-ms",
    type=COUNT,
    default=_DEFAULTS.lease_ms,
    show_default=True,
    help="Without an answered heartbeat for this long a leader stops speaking for the cluster.",
)
@click.option(
    "--replica-lag-ms",
    type=COUNT,
    default=_DEFAULTS.replica_lag_ms,
    show_default=True,
    help="A follower further behind than this leaves the ISR.",
)
@click.option(
    "--resign-ms",
    type=COUNT,
    default=_DEFAULTS.resign_ms,
    show_default=True,
    help="A leader whom no live in-sync broker follows for this long resigns.",
)
@click.option(
    "--bootstrap-wait-ms",
    type=click.IntRange(min=0),
    show_default=True,
    default=CoordinatorConfig.bootstrap_wait_ms,
    help="A new cluster is formed this long after the first broker came.",
)
@click.option(
    "--cooldown-ms",
    type=click.IntRange(min=0),
    default=CoordinatorConfig.cooldown_ms,
    show_default=True,
    help="A leader that resigned is passed over for this long.",
)
@option_quiet_process
@option_until_eof
@option_metrics
@option_version
@click.pass_context
def zk(
    context: click.Context,
    /,
    *,
    host: str,
    port: int,
    data_dir: Path,
    bootstrap_wait_ms: int,
    cooldown_ms: int,
    quiet: bool,
    until_eof: bool,
    metrics: Address | None,
    **settings: int,
) -> None:
    """Run yak-zk, the coordinator: it knows who lives, who is in sync, and who leads.

    With a command, ask the yak-zk that runs, or give it an order.
    """
    if context.invoked_subcommand is not None:
        check_alone(context, "yak-zk")
        return
    agreed = Settings(**settings)
    problem = settings_problem(agreed)
    if problem:
        raise click.UsageError(problem)
    config = CoordinatorConfig(
        host=host,
        port=port,
        data_dir=data_dir,
        bootstrap_wait_ms=bootstrap_wait_ms,
        cooldown_ms=cooldown_ms,
        quiet=quiet,
        until_eof=until_eof,
        metrics=metrics_address(metrics, host),
        settings=agreed,
    )
    from yak import zookeeper

    run(zookeeper.run(config))


zk.add_command(zk_orders.status)
zk.add_command(zk_orders.elect)
zk.add_command(zk_orders.adopt)


def settings_problem(settings: Settings) -> str | None:
    """Why these settings cannot work together; None if they can."""
    s = settings
    if s.lease_ms >= s.session_ms:
        return (
            f"--lease-ms {s.lease_ms} must be below --session-ms {s.session_ms}: a leader has to "
            "fall silent before another can be elected, else two would speak at once"
        )
    if s.heartbeat_ms + s.lease_ms >= s.session_ms:
        return (
            f"--heartbeat-ms {s.heartbeat_ms} and --lease-ms {s.lease_ms} together must be below "
            f"--session-ms {s.session_ms}: no heartbeat could renew a lease in time"
        )
    if 2 * s.heartbeat_ms > s.lease_ms:
        return (
            f"--heartbeat-ms {s.heartbeat_ms} must be at most half of --lease-ms {s.lease_ms}: "
            "one lost heartbeat would silence a healthy leader"
        )
    if s.replica_lag_ms < 2 * s.heartbeat_ms:
        return (
            f"--replica-lag-ms {s.replica_lag_ms} must be at least twice --heartbeat-ms "
            f"{s.heartbeat_ms}: a healthy follower would leave the ISR again and again"
        )
    if s.resign_ms < s.replica_lag_ms:
        return (
            f"--resign-ms {s.resign_ms} must be at least --replica-lag-ms {s.replica_lag_ms}: a "
            "leader would resign before it may call its followers slow"
        )
    if s.oplog_segment_bytes < 1:
        return f"--oplog-segment-bytes {s.oplog_segment_bytes} must be at least 1"
    return None
