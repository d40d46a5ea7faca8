"""`yak up`: a whole cluster on this machine, with one command.

    $ yak up
    …
    ready: 3 brokers are in sync, and a record has gone round (0.9 s)

Rules:

* Ready means that a record was acknowledged by all and read back (local/ready.py).
* In front, it shows what the processes say until Ctrl-C, which stops all in order: exit code 0.
  A second Ctrl-C kills what has not ended yet: 130.
  With --detach it returns when all is ready; `yak down` stops what it left.  When its terminal is
  closed, or its pipe's reader leaves, it stops them as well.
* A process that dies later is told with its own words, and the others go on: killing a leader is
  what this is good for.  `yak up` in another terminal starts it again.
* Nothing is deleted without --fresh, and --fresh asks.

Not here: how processes are started and found (yak/local), what they say (screen.py).
"""

from __future__ import annotations

import errno
import os
import selectors
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from yak.commands.chosen_ports import chosen_ports
from yak.commands.confirm import confirmed
from yak.commands.interrupts import Interrupted, Interrupts, hang_up_is_an_end
from yak.commands.options import (
    COUNT,
    FSYNC,
    PortsType,
    examples,
    option_dry_run,
    option_yes,
)
from yak.commands.output import echo_json, listed
from yak.commands.running import INTERRUPTED
from yak.commands.screen import Screen
from yak.errors import Fatal
from yak.explain.faults import undone
from yak.local import faults, note
from yak.local.again import start_missing
from yak.local.chaos import end_all, mend
from yak.local.cluster import (
    HOST,
    LocalCluster,
    Options,
    brokers_in,
    kill,
    stop,
)
from yak.local.process import Process
from yak.model import MAX_PORT

#: Brokers of a new cluster: one may be lost, and two still acknowledge.
_BROKERS: Final = 3
#: How often it is looked for lines to show, in seconds.
_SHOW_EVERY_S: Final = 0.1
#: Between the end of the last process and that of `yak down`.
_DOWN_S: Final = 2.0
#: The pipe's reader has left; the terminal was closed.
_NOBODY_LOOKS: Final = frozenset({errno.EPIPE, errno.EIO})


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_UP"},
    epilog=examples(
        "yak up                          3 brokers on 9092 to 9094; Ctrl-C stops them",
        "yak up --detach                 returns when it is ready; yak down stops it",
        "yak up -n 1 --ports any         one broker, on any free port",
        "yak up --data-dir /tmp/y --ports 19000   yak-zk on 19000, brokers from 19001",
        "yak up --host 0.0.0.0           in a container, for clients outside",
        "yak up --metrics-port 9308      metrics: yak-zk on 9308, brokers from 9309",
        "yak up --chaos                  for yak chaos cut and slow",
        "yak up --fresh                  without what an earlier cluster left; asks",
    ),
)
@click.option(
    "-n",
    "--brokers",
    type=COUNT,
    show_default="those of the data directory, else 3",
    help="How many brokers: 1 to N.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(note.DEFAULT_DIRECTORY),
    show_default=True,
    help="Where their directories, logs and yak.json lie.",
)
@click.option(
    "--ports",
    type=PortsType(),
    show_default="2181, and 9091 + id",
    help="Where they listen: any free ports, so many in a row from PORT, or yak-zk's and each "
    "broker's.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Where brokers listen; 0.0.0.0 lets other machines in. yak-zk stays on this one.",
)
@click.option("-d", "--detach", is_flag=True, help="Return when it is ready, and leave it running.")
@click.option("--fresh", is_flag=True, help="Delete what an earlier cluster left there. Asks.")
@click.option(
    "--fsync",
    type=FSYNC,
    default="always",
    show_default=True,
    help="When logs are forced to disk, as yak-broker's.",
)
@click.option(
    "--chaos",
    is_flag=True,
    help="Doors between the processes, so that `yak chaos cut` and `slow` can shut them.",
)
@click.option(
    "--metrics-port",
    "metrics",
    type=click.IntRange(0, MAX_PORT),
    help="Each answers GET /metrics, /healthz and /readyz: yak-zk here, broker N at PORT + N; 0 "
    "takes any free ports, which are shown.  [default: nowhere]",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not show what the processes say.")
@click.option("--json", "as_json", is_flag=True, help="With --detach: print yak.json.")
@option_yes
@option_dry_run
def up(
    *,
    brokers: int | None,
    data_dir: Path,
    ports: list[int] | None,
    host: str,
    detach: bool,
    fresh: bool,
    fsync: str,
    chaos: bool,
    metrics: int | None,
    quiet: bool,
    as_json: bool,
    yes: bool,
    dry_run: bool,
) -> int:
    """Start a whole cluster on this machine: yak-zk and brokers, in parallel.

    Every other command finds it, by yak.json in its data directory.
    """
    if as_json and not detach:
        raise click.UsageError("--json is for --detach: in front, it shows what processes say")
    if dry_run and not fresh:
        raise click.UsageError("--dry-run is for --fresh: nothing else deletes anything")
    if (yes or dry_run) and not fresh:
        raise click.UsageError("--yes is for --fresh: nothing else is asked")
    if chaos and host != HOST:
        raise click.UsageError("--chaos is for a cluster of this machine alone: without --host")
    with ExitStack() as starting:
        starting.enter_context(note.starting(data_dir))
        started = _complete(data_dir)
        if started is not None:
            return started
        if fresh and not _clear(data_dir, yes=yes, dry_run=dry_run):
            return 0
        ids = _ids(data_dir, brokers)
        options = Options(zk=[], broker=["--fsync", fsync])
        if len(ids) == 1:
            options.zk += ["--min-insync-replicas", "1"]
        where = chosen_ports(ports, ids, host, metrics)
        cluster = LocalCluster(data_dir, ids, where, options, with_doors=chaos)
        with Interrupts() as interrupts:
            hang_up_is_an_end()
            return _run(
                cluster, interrupts, starting.close, detach=detach, shows=not quiet, as_json=as_json
            )


# -- what is there ---------------------------------------------------------------------------------


def _complete(data_dir: Path) -> int | None:
    """What an earlier start left: the exit code where that settles it.  Raises Fatal."""
    found = note.read(data_dir)
    if found is None:
        return None
    alive = found.alive
    if not alive:
        _say(
            f"{data_dir / note.NAME} was left by a cluster of which nothing runs any more "
            "(killed, or the machine was restarted): replaced"
        )
        note.remove(data_dir)
        return None
    for fault in mend(data_dir):
        _say(f"left by a killed `{fault.command}`: {undone(fault.kind, fault.members)}")
    found = note.read(data_dir) or found
    who = listed([f"{one.name} (pid {one.pid})" for one in found.alive])
    if all(one.process.alive for one in found.all):
        raise Fatal(
            f"a cluster runs in {data_dir} already: {who}; use it (every command finds it), or "
            "stop it with `yak down`"
        )
    _say(f"{who} of {data_dir} run already")
    names = start_missing(data_dir, found)
    _say(f"started again: {listed(names)}; all are in sync, and a record has gone round")
    return 0


def _clear(data_dir: Path, *, yes: bool, dry_run: bool) -> bool:
    """Delete an earlier cluster; whether to go on."""
    old = [data_dir / "zookeeper", *sorted(data_dir.glob("broker-*"))]
    told = faults.directory(data_dir)
    there = [path for path in old if (path / "meta.json").is_file()]
    if not there:
        return not dry_run
    size = sum(file.stat().st_size for path in there for file in path.rglob("*") if file.is_file())
    what = f"delete {listed([str(path) for path in there])}: {size / 1e6:,.1f} MB"
    if not confirmed(what, yes=yes, dry_run=dry_run):
        return False
    for path in there:
        shutil.rmtree(path)
    shutil.rmtree(told, ignore_errors=True)  # what was done to that cluster
    return True


def _ids(data_dir: Path, brokers: int | None) -> list[int]:
    there = brokers_in(data_dir)
    if brokers is None:
        return there or list(range(1, _BROKERS + 1))
    ids = list(range(1, brokers + 1))
    rest = [str(one) for one in there if one not in ids]
    if rest:
        them = f"broker{'s' if rest[1:] else ''} {listed(rest)}"
        _say(
            f"note: {data_dir} has {them} as well, not started by -n {brokers}; what only they "
            "have is missing until they are"
        )
    return ids


# -- running ---------------------------------------------------------------------------------------


def _run(
    cluster: LocalCluster,
    interrupts: Interrupts,
    started: Callable[[], None],
    *,
    detach: bool,
    shows: bool,
    as_json: bool,
) -> int:
    begun = time.monotonic()
    follower = cluster.follower()
    screen = Screen(follower)
    shows = shows and not detach
    if shows:
        cluster.meanwhile = screen.show
    try:
        interrupts.call(cluster.start)
    except Interrupted:
        _say("stopped before it was ready")
        return INTERRUPTED
    finally:
        if shows:
            screen.show()
    started()
    if as_json:
        echo_json(note.read(cluster.data_dir))
    else:
        _say(_ready(cluster, time.monotonic() - begun, detach=detach))
    if detach:
        return 0
    try:
        return _watch(cluster, interrupts, screen, shows=shows)
    except OSError as e:
        if e.errno not in _NOBODY_LOOKS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python still holds goes there
        end_all(cluster.data_dir)
        cluster.stop()
        return 0
    finally:
        follower.close()


def _watch(cluster: LocalCluster, interrupts: Interrupts, screen: Screen, *, shows: bool) -> int:
    """Show what they say, until it is enough, or until none is left."""
    with selectors.DefaultSelector() as selector:
        for process in cluster.all_processes:
            selector.register(process.stdout, selectors.EVENT_READ, process)
        while not interrupts.asked and (selector.get_map() or _lives(cluster)):
            for key, _ in selector.select(_SHOW_EVERY_S):
                if not key.data.hear():
                    selector.unregister(key.fd)
                    key.data.wait()
                    if key.data.code != 0:
                        _say(_lost(cluster, key.data))
            if shows:
                screen.show()
    if not interrupts.asked and _is_down(cluster):
        _say("stopped by `yak down`")
        return 0
    _say("stopping: brokers first, then yak-zk; Ctrl-C again kills them")
    try:
        end_all(cluster.data_dir)
        done = stop(cluster.data_dir)
    except KeyboardInterrupt:
        kill(cluster.data_dir)
        _say("killed; nothing that was acknowledged is lost by that")
        raise
    if shows:
        screen.show()
    if done is not None and done.killed:
        _say(f"killed, since they did not end: {listed(done.killed)}")
    _say("stopped")
    return 0 if interrupts.asked else 1


def _is_down(cluster: LocalCluster) -> bool:
    """Whether `yak down` stopped it, which removes yak.json once the last one has ended."""
    deadline = time.monotonic() + _DOWN_S
    while note.read(cluster.data_dir) is not None:
        if cluster.processes[note.ZK].code != 0 or time.monotonic() > deadline:
            return False
        time.sleep(_SHOW_EVERY_S)
    return True


def _lives(cluster: LocalCluster) -> bool:
    """Whether something runs that another `yak up` started again."""
    found = note.read(cluster.data_dir)
    return found is not None and bool(found.alive)


def _lost(cluster: LocalCluster, process: Process) -> str:
    ended = f"{process.name} has ended: {process.words()}"
    for fault in faults.now(cluster.data_dir):
        if fault.kind == "kill" and fault.victim == process.id:
            return f"{ended}, by `{fault.command}`, which starts it again"
    return f"{ended}; the others go on, and `yak up` in another terminal starts it again"


def _ready(cluster: LocalCluster, seconds: float, *, detach: bool) -> str:
    count = len(cluster.ids)
    brokers = "1 broker is" if count == 1 else f"{count} brokers are"
    lines = [f"ready: {brokers} in sync, and a record has gone round ({seconds:.1f} s)"]
    if count == 1:
        lines.append(
            "  one broker acknowledges alone (--min-insync-replicas 1): its disk is all there is"
        )
    if cluster.doors is not None:
        lines.append("  there are doors between them, for `yak chaos cut` and `yak chaos slow`")
    lines += [f"  brokers  {cluster.bootstrap}", f"  yak-zk   {cluster.zk}"]
    lines += [f"  metrics  {cluster.metrics}"] if cluster.metrics else []
    if note.nearest() == cluster.data_dir:
        lines.append("  try      echo hello | yak produce greetings")
        lines.append("           yak consume greetings --from-beginning")
    else:
        lines.append("  for commands elsewhere than in that directory:")
        lines.append(f"           export YAK_BOOTSTRAP={cluster.bootstrap} YAK_ZK={cluster.zk}")
    down = "yak down" if note.nearest() == cluster.data_dir else _down(cluster.data_dir)
    here = "Ctrl-C" if sys.stdin.isatty() else f"{down}, or SIGTERM to this process"
    lines.append(f"  stop     {down if detach else here}")
    return "\n".join(lines)


def _down(data_dir: Path) -> str:
    return f"yak down --data-dir {data_dir}"


def _say(line: str) -> None:
    click.echo(line)
