"""What a broker's disk would still hold after a power cut, and what must be among it.

    checkpoint_durable   a checkpoint that is said to be made is on the platter, and so is every
                         byte that it names
    copy_durable         so is all of a full copy that takes its place
    replicated_durable   with fsync=always, what a follower says that it holds
    checkpoint_first     the log's front goes only when the checkpoint that covers it is there

It looks at the disk alone: what a broker believes does not count.
"""

from __future__ import annotations

from typing import Any

from tests.support.memory_disk import MemoryDisk
from yak.storage import checkpoint as checkpoints
from yak.storage.faults import Damaged
from yak.storage.segment import file_name


def missing(disk: MemoryDisk, event: str, fields: dict[str, Any]) -> str:
    """What a broker that tells this event lacks; "" if nothing."""
    if event == "checkpoint":
        return _checkpoint(disk, fields["index"])
    if event == "begins_anew" and disk.exists("data/installing"):
        platter, here = disk.durable("data/installing"), disk.tree("data/installing")
        lost = sorted(path for path in here if platter.get(path) != here[path])
        return f"copy_durable: {lost} would be lost" if lost else ""
    if event == "log_cut":
        found = _read(disk)
        covered = found.index if found else 0
        if covered < fields["first"] - 1:
            return f"checkpoint_first: the log begins at {fields['first']}, the disk at {covered}"
    return ""


def unsynced_log(disk: MemoryDisk) -> str:
    """Of the log, what a power cut might take; "" if nothing."""
    platter, here = disk.durable("data/oplog"), disk.tree("data/oplog")
    lost = sorted(path for path in here if platter.get(path) != here[path])
    return f"replicated_durable: of {lost} not all is on the platter" if lost else ""


def _read(disk: MemoryDisk) -> checkpoints.Checkpoint | None:
    data = disk.durable("data").get(f"data/{checkpoints.FILE_NAME}")
    try:
        return None if data is None else checkpoints.decode(data, "the platter's checkpoint")
    except Damaged:
        return None


def _checkpoint(disk: MemoryDisk, index: int) -> str:
    found, files = _read(disk), disk.durable("data")
    if found is None or found.index < index:
        return f"checkpoint_durable: {index} is made, on disk is {found and found.index}"
    for row in found.partitions:
        for one in row.segments:
            name = f"/{row.topic}/{row.partition}/{file_name(one.first)}"
            sizes = [len(data) for path, data in files.items() if path.endswith(name)]
            if max(sizes, default=-1) < one.size:
                return f"checkpoint_durable: {index} names {one.size} bytes of {name}: {sizes}"
    return ""
