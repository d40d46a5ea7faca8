"""A store in one of its lives: fed with a history, checkpointed, killed, and compared with what a
store holds that was never interrupted.

State is kept beside it, as a broker does.  `steps_of` and `killed_at` run the same piece of a life
again and again, and kill it at each of its changes of the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from tests.support.annals import Written, annals, content
from tests.support.memory_disk import MemoryDisk, Stopped
from yak.core import ops
from yak.core.state import State
from yak.storage.chunk import split
from yak.storage.data_dir import DataDir
from yak.storage.disk import Disk
from yak.storage.store import Store

Kind = Literal["kill", "power"]
#: Small, so that a history of a hundred operations has a dozen files.
SEGMENT_BYTES = 2000
#: Of a history that is killed at every step: where checkpoints are made, and where it ends.
CHECKPOINTS = (40, 75)
UPTO = 110
#: What lies in a data directory in which nothing waits to be removed.
KEPT_NAMES = {"checkpoint.json", "lock", "meta.json", "oplog", "topics", "trash"}
_ENOUGH = 10**9


class Held(NamedTuple):
    """All that counts of a store: its files, what its partitions give to readers, its State."""

    files: dict[str, bytes]
    records: dict[tuple[str, int], tuple[int, bytes]]
    state: dict[str, Any]


class Life:
    """See the module.  state: what was applied.  durable: the log's last synced operation."""

    def __init__(
        self,
        disk: Disk,
        *,
        path: str = "/data",
        boot: str = "boot",
        fsync: str = "always",
        directory: DataDir | None = None,
    ) -> None:
        """directory: of the life before this one, in the same process."""
        self.disk = disk
        self.path = path
        self.directory = directory or DataDir.open(
            disk, path, kind="broker", broker=1, boot_id=boot
        )
        self.store, self.found = Store.recover(
            disk, self.directory, SEGMENT_BYTES, sync_at_roll=fsync == "always"
        )
        self.directory.mark_running(inc="i", boot_id=boot, fsync=fsync)
        self.state = self.found.restored
        self.durable = self.store.next_index - 1

    def append(self, history: Written, upto: int) -> None:
        """Up to this index; durable."""
        if self.store.next_index <= upto:
            self.store.append(history[self.store.next_index - 1 : upto])
            job = self.store.begin_sync()
            job.run()
            self.durable = job.index

    def apply(self, history: Written, upto: int) -> None:
        more = [op for op, _ in history[self.state.index : upto]]
        for op in more:
            self.state.apply(op)
        self.store.apply(more)

    def run(self, history: Written, upto: int, *, at_once: int = 7) -> None:
        while self.state.index < upto:
            end = min(self.state.index + at_once, upto)
            self.append(history, end)
            self.apply(history, end)
            self.store.flush()

    def checkpoint(self, *, retain: int = 0, pinned: int | None = None) -> None:
        job = self.store.begin_checkpoint(self.state)
        for step in job.steps():
            step()
        self.store.end_checkpoint(job)
        self.tidy(retain=retain, pinned=pinned)

    def tidy(self, *, retain: int = 0, pinned: int | None = None) -> None:
        at = self.store.checkpoint if pinned is None else pinned
        for remove in self.store.tidy(retain, self.store.next_index, at):
            remove()

    def held(self) -> Held:
        self.store.flush()
        records = {
            tp: (self.store._partitions[tp].start_offset, b"".join(self._read(tp, end)))
            for tp, end in self.state.ends.items()
        }
        return Held(partition_files(self.disk, self.path), records, content(self.state))

    def _read(self, tp: tuple[str, int], end: int) -> Iterator[bytes]:
        offset = self.store._partitions[tp].start_offset
        while offset < end:
            part = b"".join(self.store.read_records(*tp, offset, 300))
            yield part
            last = split(part)[-1].op
            assert isinstance(last, ops.Append)
            offset = last.offset + last.count


def partition_files(disk: Disk, path: str = "/data") -> dict[str, bytes]:
    """All files below topics/, by their names from there."""
    home = f"{path}/topics"
    return {
        f"{topic}/{partition}/{name}": disk.read_file(f"{home}/{topic}/{partition}/{name}")
        for topic in disk.listdir(home)
        for partition in disk.listdir(f"{home}/{topic}")
        for name in disk.listdir(f"{home}/{topic}/{partition}")
    }


def uninterrupted(history: Written, upto: int | None = None) -> Held:
    life = Life(MemoryDisk())
    life.run(history, len(history) if upto is None else upto)
    return life.held()


def state_of(history: Written, upto: int) -> State:
    state = State()
    for op, _ in history[:upto]:
        state.apply(op)
    return state


def steps_of(piece: Callable[[MemoryDisk], None]) -> int:
    """How many changes and syncs of the disk a piece of a life makes."""
    disk = MemoryDisk()
    disk.stop_after = _ENOUGH
    piece(disk)
    return _ENOUGH - disk.stop_after


def killed_at(
    piece: Callable[[MemoryDisk], None], step: int, kind: Kind, seed: int
) -> tuple[MemoryDisk, bool]:
    """The disk that is left of it, and whether it was killed at all."""
    disk = MemoryDisk()
    disk.stop_after = step
    try:
        piece(disk)
    except Stopped:
        stopped = True
    else:
        stopped = False
    disk.crash(kind, random.Random(seed))
    return disk, stopped


class Pieces:
    """A history that is lived in one way, and killed in others.

    live: a life from an empty disk to `upto`.  durable, applied: how far the last one came.
    """

    def __init__(self, seed: int, *, fsync: str = "always", retain: int = 0) -> None:
        self.history = annals(UPTO, seed=seed)
        self.expected = uninterrupted(self.history)
        self.fsync = fsync
        self.retain = retain
        self.life: Life | None = None

    def live(self, disk: MemoryDisk) -> None:
        """Two checkpoints, of which the second cuts the log before it and empties the trash."""
        self.life = None
        self.life = life = Life(disk, fsync=self.fsync)
        for upto in (*CHECKPOINTS, UPTO):
            life.run(self.history, upto)
            if upto != UPTO:
                life.checkpoint(retain=self.retain)

    def restarted(self, disk: MemoryDisk, kind: Kind) -> Life:
        """The next life, which must have lost nothing that was durable."""
        boot = "boot" if kind == "kill" else "another"
        again = Life(disk, boot=boot, fsync=self.fsync)
        if self.fsync == "always" or kind == "kill":
            durable, checkpoint = 0, 0
            if self.life is not None:
                durable, checkpoint = self.life.durable, self.life.store.checkpoint
            # What was being written at a power cut is torn, and said to be.
            states = ("whole",) if kind == "kill" else ("whole", "torn")
            assert again.found.state in states, again.found.message
            assert again.found.next > durable
            assert again.found.restored.index >= checkpoint
        index = again.found.restored.index
        assert content(again.found.restored) == content(state_of(self.history, index))
        return again

    def check_goes_on(self, again: Life) -> None:
        """It comes to what an uninterrupted one holds: its files, its readers' bytes, its State."""
        again.run(self.history, UPTO)
        held = again.held()
        assert held.state == self.expected.state
        assert held.records == self.expected.records
        assert held.files == self.expected.files
        again.checkpoint()
        assert not again.store.has_trash
        leftovers = set(again.disk.listdir(again.path)) - KEPT_NAMES
        assert not leftovers, leftovers
