"""`yak doctor`: why a cluster cannot be reached, or is not well, step by step.

    ok       address   localhost:9092   127.0.0.1
    NOT OK   tcp       localhost:9092   Connection refused
             cause     no process listens on that port, or only on another address
             fix       start the broker (`yak-broker --id N`), or name its port
    skipped  hello     localhost:9092   needs tcp

Exit code 1 if a step failed.

Not here: what is looked at, and what follows (diagnosis.py, machine.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
from click.core import ParameterSource

from yak.commands.options import ADDRESS, examples, option_bootstrap, option_json, running_zk
from yak.commands.output import echo_json, many, window_width, wrapped
from yak.commands.running import run
from yak.config import DEFAULT_ZK
from yak.local import note
from yak.model import parse_address, parse_addresses

if TYPE_CHECKING:
    from yak.commands.findings import Step

_SHOWN: Final = {"ok": "ok", "failed": "NOT OK", "skipped": "skipped"}


def _data_dir() -> Path:
    """Where the cluster of `yak up` has its files, else where brokers have them by default."""
    found = note.running()
    if found is None or not found.members:
        return Path(note.DEFAULT_DIRECTORY)
    return Path(found.members[0].data_dir).parent


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_DOCTOR"},
    epilog=examples(
        "yak doctor",
        "yak doctor -b db:9092 --zk db:2181",
        "yak doctor --json | jq '.steps[] | select(.state == \"failed\")'",
    ),
)
@option_bootstrap
@click.option(
    "--zk",
    type=ADDRESS,
    default=running_zk,
    show_default=f"that of `yak up`, else {DEFAULT_ZK}",
    envvar="YAK_ZK",
    help="Where yak-zk listens.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=_data_dir,
    show_default="that of `yak up`, else data",
    help="Where brokers of this machine have their files.",
)
@option_json
@click.pass_context
def doctor(
    context: click.Context, /, *, bootstrap: str, zk: str, data_dir: Path, as_json: bool
) -> int:
    """Look step by step whether the cluster is reached and well; say the likely cause and the fix.

    Names, ports, whether yak answers, who leads, each broker at the address that it tells clients,
    yak-zk, clocks, disk space, open files.
    """
    from yak.commands.diagnosis import Wanted, examine

    here = note.running()
    wanted = Wanted(
        bootstrap=parse_addresses(bootstrap),
        said=_is_said(context, "bootstrap"),
        zk=parse_address(zk),
        zk_said=_is_said(context, "zk") or here is not None,
        data_dir=data_dir,
        members=here.members if here is not None else (),
    )
    steps = run(examine(wanted))
    bad = sum(step.state == "failed" for step in steps)
    if as_json:
        echo_json({"ok": not bad, "steps": [msgspec.to_builtins(step) for step in steps]})
    else:
        click.echo(described(steps, window_width()))
        good = sum(step.is_ok for step in steps)
        rest = (
            f", {many(len(steps) - good - bad, 'step')} skipped" if good + bad < len(steps) else ""
        )
        click.echo(f"{many(good, 'step')} ok, {bad} not ok{rest}")
    return 1 if bad else 0


def _is_said(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def described(steps: Sequence[Step], width: int = 0) -> str:
    """A line a step; under one that failed, its cause and the fix.

    width: of the window; 0: lines are as long as they are.
    """
    wide = max([len("address"), *(len(step.step) for step in steps)]) + 2
    far = max([0, *(len(step.where) for step in steps)]) + 2
    lines: list[str] = []
    for step in steps:
        head = f"{_SHOWN[step.state]:<9}{step.step:<{wide}}{step.where:<{far}}"
        lines += wrapped(step.found, width, head, " " * len(head))
        if step.state == "failed":
            for name, text in (("cause", step.cause), ("fix", step.fix)):
                head = f"{'':<9}{name:<{wide}}"
                lines += wrapped(text, width, head, " " * len(head))
    return "\n".join(lines)
