"""Putting the partition files back to a checkpoint: how a restart begins.

    in a partition's directory                      | becomes
    ------------------------------------------------+---------------------------------------------
    a file that the checkpoint names                | cut to the size that it names
    a file, partition or topic that it does not     | removed: the log will write it again
    what was freed after it                         | moved back from the trash
    a file that it names, shorter or gone           | `damage`: the leader has it, we do not

Without a checkpoint nothing is kept: the log begins with operation 1 and writes everything again.

What is removed goes to `removed/`, which is emptied while the broker runs.

Rules:

* `Restoration.look` reads only: how far the files prove that the log once reached.  A broker first
  makes it durable that its log has lost something, and only then `carry_out` changes files.
* `carry_out` may be killed anywhere and begun again.

It does not read the log, and does not know what damage means for the broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from yak.core.snapshot import TopicRow
from yak.storage.checkpoint import Checkpoint
from yak.storage.disk import Disk
from yak.storage.partition import PartitionRow, last_index_on_disk
from yak.storage.segment import file_name
from yak.storage.trash import freed_since, undo

#: In a data directory: what nobody needs any more.
REMOVED: Final = "removed"


@dataclass(slots=True)
class Restoration:
    """See the module.

    last_index, evidence: the highest operation that the files know of, and where.
    damage: what a checkpoint's files lack, after `carry_out`; "" if nothing.
    """

    disk: Disk
    path: str
    checkpoint: Checkpoint | None
    last_index: int = 0
    evidence: str = ""
    damage: str = ""
    _rows: dict[str, PartitionRow] = field(default_factory=dict)

    @classmethod
    def look(cls, disk: Disk, path: str, checkpoint: Checkpoint | None) -> Restoration:
        found = cls(disk, path, checkpoint)
        if checkpoint is not None:
            found._prove(checkpoint.index, "checkpoint.json is at")
            found._rows = {f"{row.topic}/{row.partition}": row for row in checkpoint.partitions}
        for index in freed_since(disk, path, checkpoint.index if checkpoint else 0)[:1]:
            found._prove(index, "the trash holds what was freed by")
        for name in found._directories():
            found._look_at(name)
        return found

    def _directories(self) -> list[str]:
        """TOPIC/PARTITION of every partition that has a directory."""
        topics = f"{self.path}/topics"
        return [
            f"{topic}/{partition}"
            for topic in self.disk.listdir(topics)
            if self.disk.is_dir(f"{topics}/{topic}")
            for partition in self.disk.listdir(f"{topics}/{topic}")
            if self.disk.is_dir(f"{topics}/{topic}/{partition}")
        ]

    def _look_at(self, name: str) -> None:
        """Its last operation, if the checkpoint does not know it."""
        directory = f"{self.path}/topics/{name}"
        row = self._rows.get(name)
        if row is not None and row.segments:
            last = row.segments[-1]
            files = self.disk.listdir(directory)
            if (
                files
                and files[-1] == file_name(last.first)
                and self.disk.size(f"{directory}/{files[-1]}") == last.size
            ):
                return
        self._prove(last_index_on_disk(self.disk, directory), f"{name} holds")

    def _prove(self, index: int, evidence: str) -> None:
        if index > self.last_index:
            self.last_index, self.evidence = index, f"{evidence} operation {index}"

    def carry_out(self) -> None:
        """Make the files what the checkpoint says.  Raises OSError."""
        disk, path = self.disk, self.path
        if self.checkpoint is None:
            discard(self.disk, self.path, "topics")
        else:
            undo(disk, path, self.checkpoint.index)
            self._put_all_back(self.checkpoint.state.topics)
        discard(self.disk, self.path, "trash")
        for name in ("topics", "trash"):
            disk.mkdir(f"{path}/{name}")

    def _put_all_back(self, topics: dict[str, TopicRow]) -> None:
        disk, path = self.disk, self.path
        unknown = [name for name in disk.listdir(f"{path}/topics") if name not in topics]
        discard(disk, path, *(f"topics/{topic}" for topic in unknown))
        unknown = [name for name in self._directories() if not self._is_known(name, topics)]
        discard(disk, path, *(f"topics/{name}" for name in unknown))
        for name, row in self._rows.items():
            self._put_back(f"{path}/topics/{name}", row)

    def _is_known(self, name: str, topics: dict[str, TopicRow]) -> bool:
        """Whether a partition's directory may stay: it is named, or empty as the named one is."""
        topic, _, number = name.rpartition("/")
        if not (number.isdigit() and int(number) < topics[topic].partitions):
            return False
        return name in self._rows or not self.disk.listdir(f"{self.path}/topics/{name}")

    def _put_back(self, directory: str, row: PartitionRow) -> None:
        disk = self.disk
        sizes = {file_name(one.first): one.size for one in row.segments}
        names = disk.listdir(directory) if disk.is_dir(directory) else []
        for name in reversed(names):  # no gap at any time, whoever looks
            file = f"{directory}/{name}"
            if name not in sizes:
                disk.unlink(file)
                continue
            size = disk.size(file)
            if size > sizes[name]:
                disk.truncate(file, sizes[name])
            if size >= sizes.pop(name):
                continue
            self._note_damage(f"{file} has {size} bytes, fewer than the checkpoint names")
        for name in sizes:
            self._note_damage(f"{directory}/{name}, which the checkpoint names, is not there")

    def _note_damage(self, what: str) -> None:
        self.damage = self.damage or what


def discard(disk: Disk, path: str, *names: str) -> None:
    """Out of the way, each in one step; to remove ten thousand directories takes a while."""
    if not names:
        return
    removed = f"{path}/{REMOVED}"
    disk.mkdir(removed)
    last = max((int(n) for n in disk.listdir(removed) if n.isdigit()), default=-1)
    for number, name in enumerate(names, last + 1):
        disk.rename(f"{path}/{name}", f"{removed}/{number}")
