"""A disk on which a process can die between any two operations, and a store that is watched.

It adds nothing to what storage does: SimDisk marks the steps at which a fuse may burn down (an
append may be torn there), WatchedStore reports what was written and cut to the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tests.sim.clock import Died, Process
from tests.support.memory_disk import MemoryDisk, _File
from yak.core.ops import Op
from yak.core.state import State
from yak.storage.checkpoint import CheckpointJob
from yak.storage.chunk import Chunk, sum_of
from yak.storage.copy import Incoming
from yak.storage.disk import Buffer
from yak.storage.store import Store

#: Operations behind which faults may fall.
STEPS: Final = frozenset(
    {"assign", "create_topic", "create_partitions", "delete_topic", "trim", "deregister"}
)


class SimDisk(MemoryDisk):
    """A MemoryDisk of one process at a time; `process` is whom a fuse kills."""

    process: Process
    #: A sync has failed, and the process has not written that down yet.
    unmarked = False

    def append(self, path: str, buffers: Sequence[Buffer]) -> int:
        try:
            self.process.step()
        except Died:
            data = b"".join(buffers)
            torn = self.process.scheduler.rng.randint(0, len(data))
            super().append(path, [data[:torn]])
            raise
        return super().append(path, buffers)

    def truncate(self, path: str, size: int) -> None:
        self.process.step()
        super().truncate(path, size)

    def create(self, path: str) -> None:
        self.process.step()
        super().create(path)

    def rename(self, old: str, new: str) -> None:
        self.process.step()
        super().rename(old, new)

    def unlink(self, path: str) -> None:
        self.process.step()
        super().unlink(path)

    def rmtree(self, path: str) -> None:
        self.process.step()
        super().rmtree(path)

    def mkdir(self, path: str) -> None:
        self.process.step()
        super().mkdir(path)

    def sync(self, path: str) -> None:
        self.process.step()
        super().sync(path)

    def sync_dir(self, path: str) -> None:
        self.process.step()
        super().sync_dir(path)

    def sync_file(self, file: _File, end: int) -> None:
        self.unmarked = self.unmarked or self.sync_fails
        super().sync_file(file, end)


class Watcher(Protocol):
    """What the judge hears of a store."""

    def wrote(self, broker: int, epoch: int, index: int, running: str) -> None: ...

    def cuts(self, broker: int, next_index: int, running: str) -> None:
        """The operation at `next_index`, of which `running` is the sum, and all behind it go."""

    def step(self, broker: int, what: str) -> None:
        """An operation that is no mere record goes its way: faults may fall here."""


class WatchedStore(Store):
    """The real store; its log's every change is told to `watcher`."""

    watcher: Watcher
    broker: int

    def append(self, operations: Sequence[tuple[Op, Buffer | None]]) -> None:
        super().append(operations)
        for op, _ in operations:
            self._tell(op)
        self._steps("wrote", [op for op, _ in operations])

    def append_copied(self, chunk: Chunk) -> None:
        super().append_copied(chunk)
        for entry in chunk.entries:
            self.watcher.wrote(self.broker, entry.op.epoch, entry.op.index, sum_of(entry.line))
        self._steps("copied", chunk.ops)

    def apply(self, operations: Sequence[Op]) -> None:
        self._steps("applies", operations)
        super().apply(operations)

    def begin_checkpoint(self, state: State) -> CheckpointJob:
        job = super().begin_checkpoint(state)
        self.watcher.step(self.broker, "checkpoints")
        return job

    def tidy(self, retain_bytes: int, wanted: int, pinned: int) -> list[Callable[[], None]]:
        self.watcher.step(self.broker, "tidies")
        return super().tidy(retain_bytes, wanted, pinned)

    def incoming(self) -> Incoming:
        incoming = super().incoming()
        install = incoming.install

        def installs() -> None:
            self.watcher.step(self.broker, "installs")
            install()

        vars(incoming)["install"] = installs
        return incoming

    def truncate(self, next_index: int, expected_sum: str) -> None:
        if next_index < self.next_index:
            self.watcher.cuts(self.broker, next_index, self.sum_before(next_index + 1))
        super().truncate(next_index, expected_sum)

    def _steps(self, how: str, operations: Sequence[Op]) -> None:
        for op in operations:
            if op.op in STEPS:
                self.watcher.step(self.broker, f"{how} {op.op}")

    def _tell(self, op: Op) -> None:
        self.watcher.wrote(self.broker, op.epoch, op.index, self.sum_before(op.index + 1))
