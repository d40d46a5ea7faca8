"""What a start finds in a data directory, and makes of it.

    1  finish    a full copy that was complete, but not yet in its place (copy.py)
    2  set aside what an earlier run, or this one, found to be damaged: moved to damaged/N
    3  load      the last checkpoint, if there is one
    4  prove     the log since (scan.py); how far the partition files say that it reached
    5  remember  in meta.json, before anything is changed, that something may be missing
    6  put back  the partition files to the checkpoint (restore.py); cut the log's torn end

From there the log is applied as it proves committed: restart is replay.  Damage is never cut: the
files are kept where somebody may look into them, and the broker begins empty, marked as damaged,
so that the leader fills it and nobody elects it before.

It does not apply the log, and does not know what the cluster has committed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from yak.core.snapshot import restore
from yak.core.state import State
from yak.errors import Fatal
from yak.messages import LogState
from yak.storage import checkpoint as checkpoints
from yak.storage.checkpoint import Checkpoint
from yak.storage.copy import finish_install
from yak.storage.data_dir import DAMAGED, DataDir
from yak.storage.disk import UNFINISHED, Disk
from yak.storage.faults import Damaged
from yak.storage.restore import Restoration
from yak.storage.scan import Point, Scan, scan

_PARTS: Final = ("oplog", "topics", "trash", checkpoints.FILE_NAME)


class Found(NamedTuple):
    """What is there, once all steps are done.

    state: as the broker joins; message: why, if it is not whole.  restored: State at the
    checkpoint.  kept: the directories with files that this start, or earlier ones, set aside.
    """

    state: LogState
    message: str
    log: Scan
    checkpoint: Checkpoint | None
    restored: State
    kept: tuple[str, ...] = ()


def recover(disk: Disk, data_dir: DataDir) -> Found:
    """See the module.  Raises Fatal where the disk refuses."""
    path = data_dir.path
    try:
        if finish_install(disk, path):
            data_dir.rewritten()
        message = ""
        if data_dir.meta.set_aside:
            message = _filled(_set_aside(disk, data_dir), "found while it ran")
        try:
            found = _put_in_order(disk, data_dir)
        except Damaged as e:
            data_dir.is_damaged()
            message = _filled(_set_aside(disk, data_dir), str(e))
            found = _put_in_order(disk, data_dir)
        return found._replace(message=message or found.message, kept=_kept(disk, path))
    except OSError as e:
        raise Fatal(f"data directory {path}: {e}; look at the disk, then start again") from e


def _filled(kept: str, what: str) -> str:
    return f"damaged, kept in {kept}: {what}; this broker begins empty, and the leader fills it"


def _put_in_order(disk: Disk, data_dir: DataDir) -> Found:
    path = data_dir.path
    for name in ("oplog", "topics", "trash"):
        disk.mkdir(f"{path}/{name}")
    disk.sync_dir(path)
    unfinished = f"{path}/{checkpoints.FILE_NAME}{UNFINISHED}"
    if disk.exists(unfinished):
        disk.unlink(unfinished)  # whoever wrote it was killed, and the next may be long in coming
    checkpoint = checkpoints.read(disk, path)
    log = _scan_log(disk, data_dir, checkpoint)
    restoration = Restoration.look(disk, path, checkpoint)
    reason = log.why if log.state == "torn" else ""
    if not reason and restoration.last_index >= log.next_index:
        reason = f"{restoration.evidence}, the log ends at {log.next_index - 1}"
    if reason:
        data_dir.suspect("torn")
    restoration.carry_out()
    if restoration.damage:
        raise Damaged(f"{path}/{checkpoints.FILE_NAME}", 0, restoration.damage)
    again = data_dir.rewrite_from
    log.cut(disk, rewrite_from=again)
    data_dir.rewritten()
    if again is not None and not reason:
        reason = f"a sync failed before: the log was written again from operation {again} on"
    elif data_dir.state != "whole" and not reason:
        reason = _left(data_dir)
    elif log.cut_bytes:
        reason = f"{log.cut_bytes} bytes were cut from the log's end: {reason}"
    restored = restore(checkpoint.state) if checkpoint else State()
    return Found(data_dir.state, reason, log, checkpoint, restored)


def _left(data_dir: DataDir) -> str:
    """Why it is suspect, though nothing was found just now."""
    last = data_dir.meta.running
    if data_dir.state == "unclean" and last is not None:
        return f"the machine stopped under it (fsync={last.fsync}): the end may be missing"
    return f"an earlier stop left this disk {data_dir.state}, and yak-zk has not recorded it"


def _scan_log(disk: Disk, data_dir: DataDir, checkpoint: Checkpoint | None) -> Scan:
    directory = f"{data_dir.path}/oplog"
    point = None
    if checkpoint is not None:
        point = Point(
            checkpoint.index + 1,
            checkpoint.sum,
            checkpoint.epochs,
            checkpoint.log_file,
            checkpoint.log_position,
        )
    found = scan(disk, directory, point=point, after_power_cut=data_dir.state == "unclean")
    if checkpoint is None and found.first_index != 1:
        what = f"the log begins with operation {found.first_index}, and there is no checkpoint"
        raise Damaged(found.segments[0].path, 0, what)
    return found


def _kept(disk: Disk, path: str) -> tuple[str, ...]:
    home = f"{path}/{DAMAGED}"
    names = disk.listdir(home) if disk.is_dir(home) else []
    return tuple(f"{home}/{name}" for name in names)


def _set_aside(disk: Disk, data_dir: DataDir) -> str:
    """Move the log, the partition files and the checkpoint out of the way; where to."""
    home = f"{data_dir.path}/{DAMAGED}"
    disk.mkdir(home)
    number = 1
    while disk.exists(f"{home}/{number}") and disk.listdir(f"{home}/{number}"):
        number += 1
    target = f"{home}/{number}"
    parts = [name for name in _PARTS if disk.exists(f"{data_dir.path}/{name}")]
    if parts:  # else a stop came between the last of them and the mark
        disk.mkdir(target)
    for name in parts:
        disk.rename(f"{data_dir.path}/{name}", f"{target}/{name}")
    for directory in (target, home, data_dir.path) if parts else (home, data_dir.path):
        disk.sync_dir(directory)
    data_dir.was_set_aside()
    return target if parts else f"{home}/{number - 1}"
