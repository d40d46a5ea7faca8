"""`yak verify`: proof, from the files of brokers or from a running cluster.

    directory      log        operations  records  partition files       bytes  faults
    data/broker-1  1 to 2151       2,151  302,000               12  68,640,923       0
    …
    205.9 MB in 0.25 s: every line follows from the one before, offsets have no gap, partition
    files are the log's, the replicas agree, and no epoch had two leaders

A fault is said with its place and the lines that disagree, and the exit code is 1.

With DIR it reads files, also those of running brokers; with `--bootstrap` it asks the brokers of a
running cluster for every record of every partition, and compares what they say, byte for byte.

Not here: what a proof is; that is storage/audit.py's and storage/agreement.py's, and for a running
cluster net/replicas.py's.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import click

from yak.commands.options import examples, option_json
from yak.commands.output import Cell, echo_json, echo_wrapped, many, table
from yak.commands.reaching import Waiting
from yak.errors import Fatal
from yak.net.loop_thread import LoopThread
from yak.net.replicas import Replicas, compare_replicas
from yak.storage import checkpoint as checkpoints
from yak.storage.agreement import compare
from yak.storage.audit import Audit, Fault, audit

#: What is looked at where nothing is said.
DEFAULT_DIRECTORY = Path("data")


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_VERIFY"},
    epilog=examples(
        "yak verify                               data/broker-*, whether they run or not",
        "yak verify data/broker-1 data/broker-2",
        "yak verify --bootstrap 127.0.0.1:9092    what the brokers of a cluster give to readers",
        "yak verify --json | jq .faults",
    ),
)
@click.argument(
    "directories", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "-b",
    "--bootstrap",
    metavar="HOST:PORT,…",
    help="Ask the brokers of this cluster instead of reading files.",
)
@option_json
def verify(*, directories: tuple[Path, ...], bootstrap: str | None, as_json: bool) -> int:
    """Prove that a cluster's files, or its replicas, are whole and agree."""
    if bootstrap is not None:
        if directories:
            raise click.UsageError("give directories, or --bootstrap, and not both")
        return _verify_cluster(bootstrap, as_json=as_json)
    return _verify_files(_data_directories(directories or (DEFAULT_DIRECTORY,)), as_json=as_json)


# -- files -----------------------------------------------------------------------------------------


def _data_directories(given: Sequence[Path]) -> list[Path]:
    """Those of brokers: given themselves, or in one that was given."""
    found: list[Path] = []
    for path in given:
        inner = sorted(one for one in path.glob("*") if _is_brokers(one))
        if _is_brokers(path):
            found.append(path)
        elif inner:
            found += inner
        else:
            raise Fatal(
                f"{path} is no data directory of a broker and holds none: give one, as "
                "data/broker-1, or ask a running cluster with --bootstrap"
            )
    return found


def _is_brokers(path: Path) -> bool:
    """By any part of it: another one may be missing."""
    return any((path / part).exists() for part in ("oplog", "topics", checkpoints.FILE_NAME))


def _verify_files(paths: Sequence[Path], *, as_json: bool) -> int:
    begun = time.monotonic()
    audits, faults, notes = _prove(paths)
    if faults:  # what changed under our eyes is not there when we look again
        audits, faults, notes = _prove(paths)
    seconds = time.monotonic() - begun
    if as_json:
        echo_json(
            {
                "ok": not faults,
                "directories": [_as_dict(one) for one in audits],
                "faults": [fault._asdict() for fault in faults],
                "notes": notes,
                "seconds": round(seconds, 3),
            }
        )
    else:
        click.echo(table(_HEADER, [_row(one) for one in audits]))
        read = sum(one.size for one in audits)
        _say(faults, notes)
        speed = f"{read / 1e6:,.1f} MB in {seconds:.2f} s"
        if not faults:
            echo_wrapped(
                f"{speed}: every line follows from the one before, offsets have no gap, partition "
                "files are the log's, the replicas agree, and no epoch had two leaders"
            )
    return 1 if faults else 0


def _prove(paths: Sequence[Path]) -> tuple[list[Audit], list[Fault], list[str]]:
    audits = _audit_all(paths)
    between, notes = compare(audits)
    faults = [*(fault for one in audits for fault in one.faults), *between]
    return audits, faults, [*(one.torn for one in audits if one.torn), *notes]


def _audit_all(paths: Sequence[Path]) -> list[Audit]:
    """Each in a process of its own, as many at a time as there are processors: what takes time is
    Python's steps from line to line, of which threads would take one at a time."""
    at_once = min(len(paths), _processors())
    if at_once < 2:
        return [audit(path) for path in paths]
    # A Ctrl-C ends them, too, and they have nothing to say of it.
    quietly = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    try:
        with ProcessPoolExecutor(at_once, initializer=quietly) as pool:
            return list(pool.map(audit, paths))
    except BrokenProcessPool as e:
        raise Fatal(
            f"one of {at_once} processes that read the directories was ended from outside, as "
            "where memory runs out: give one directory at a time, and --bootstrap to compare them"
        ) from e


def _processors() -> int:
    """Those that this process may use, where the system says it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_HEADER = ("directory", "log", "operations", "records", "partition files", "bytes", "faults")


def _row(one: Audit) -> list[Cell]:
    log = f"{one.first} to {one.next - 1}" if one.sums else "empty"
    return [
        str(one.path),
        log,
        len(one.sums),
        one.records,
        len(one.files),
        one.size,
        len(one.faults),
    ]


def _as_dict(one: Audit) -> dict[str, object]:
    return {
        "directory": str(one.path),
        "first": one.first,
        "last": one.next - 1,
        "operations": len(one.sums),
        "records": one.records,
        "partition_files": len(one.files),
        "bytes": one.size,
        "torn": one.torn or None,
    }


# -- a running cluster -----------------------------------------------------------------------------


def _verify_cluster(bootstrap: str, *, as_json: bool) -> int:
    thread = LoopThread("yak-verify")
    try:
        found: Replicas = thread.call(compare_replicas(bootstrap, Waiting(bootstrap)))
    finally:
        thread.stop()
    faults = [Fault(*fault) for fault in found.faults]
    if as_json:
        echo_json(
            {
                "ok": not faults,
                "brokers": found.brokers,
                "partitions": found.partitions,
                "records": found.records,
                "bytes": found.size,
                "faults": [fault._asdict() for fault in faults],
                "notes": found.notes,
            }
        )
        return 1 if faults else 0
    _say(faults, found.notes)
    if not faults:
        echo_wrapped(
            f"{many(found.records, 'record')} in {many(found.partitions, 'partition')}, "
            f"{found.size / 1e6:,.1f} MB: brokers {', '.join(map(str, found.brokers))} give the "
            "same bytes, offsets have no gap, and every batch has its checksum"
        )
    return 1 if faults else 0


def _say(faults: Sequence[Fault], notes: Sequence[str]) -> None:
    for note in notes:
        echo_wrapped(f"note: {note}")
    for where, what, lines in faults:
        click.echo(f"FAULT {where}\n  {what}")
        for line in lines:
            click.echo(f"    {line}")
