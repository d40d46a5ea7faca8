"""`yak down`: stop the cluster that yak.json names, whoever started it.

    $ yak down
    stopped: broker-1, broker-2, broker-3 and yak-zk

Brokers first, then yak-zk, each in order; one that does not end is killed, and that is said.
Before them a `yak chaos` is ended, and what it did undone.  Nothing is deleted.

Not here: how the end of a process is waited for (local/pids.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from yak.commands.options import examples, option_json
from yak.commands.output import echo_json, listed
from yak.explain.faults import undone
from yak.local import note
from yak.local.chaos import end_all
from yak.local.cluster import stop


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_DOWN"},
    epilog=examples(
        "yak down",
        "yak down --data-dir /tmp/y",
        "yak down --json",
    ),
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="data here, or the nearest above",
    help="The data directory that yak up was given.",
)
@option_json
def down(*, data_dir: Path | None, as_json: bool) -> None:
    """Stop the cluster that `yak up` started; its data stays."""
    directory = data_dir or note.nearest() or Path(note.DEFAULT_DIRECTORY)
    ended = end_all(directory)
    done = stop(directory)
    if done is None:
        raise click.ClickException(
            f"there is no cluster to stop: no {note.NAME} in {directory}; what was started by hand "
            "is stopped by Ctrl-C or SIGTERM, and --data-dir names another cluster"
        )
    if as_json:
        echo_json({"stopped": done.in_order, "killed": done.killed, "ended_before": done.before})
        return
    for fault in ended:
        click.echo(f"`{fault.command}` was ended: {undone(fault.kind, fault.members)}")
    if done.in_order:
        click.echo(f"stopped: {listed(done.in_order)}")
    if done.killed:
        click.echo(f"killed, since they did not end: {listed(done.killed)}")
    if done.before:
        click.echo(f"had ended before: {listed(done.before)}")
