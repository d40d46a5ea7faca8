"""Keeps a broker's disk bounded: checkpoints, and what may go once they are durable.

    enough was applied ─▶ begin ─▶ sync files ─▶ sync directories ─▶ write ─▶ let go: trash,
                          (loop)          (in a thread, one step at a time)   log's front  (loop)

Rules:

* A checkpoint is begun between two turns, when State and the partition files are at one index.
* A full disk is waited out, and so is a lack of file descriptors: the next one does the work of the
  one that failed.  A sync that fails otherwise stops the broker, as everywhere.
* What was freed waits for `trash_ms` at most, also where nothing else calls for a checkpoint.
* The log's front goes by whole files: kept is what is behind the last checkpoint, and before it
  `oplog_retain_bytes`; twice that where a connected follower still wants it.

It decides nothing about the cluster, and does not know what State holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from yak.config import Limits
from yak.core.state import State
from yak.storage.checkpoint import CheckpointJob
from yak.storage.disk import SHORTAGES
from yak.storage.faults import StorageError
from yak.storage.store import Store
from yak.storage.story import Story

#: After a checkpoint that the disk had no room for.
AGAIN_S: Final = 5.0


class Keeper(Protocol):
    """What a housekeeper asks of its broker."""

    def state(self) -> State: ...

    def wanted(self) -> int:
        """The lowest index that a connected follower still wants."""

    def pinned(self) -> int:
        """The oldest checkpoint that is still read, or a high number."""

    def log_cut(self, first: int) -> None: ...

    def log_damaged(self, reason: str) -> None:
        """A file does not hold what was written to it."""

    def sync_failed(self, error: OSError) -> None:
        """The disk failed to make something durable: stop at once."""


class Housekeeper:
    """See the module.  `look` after every turn."""

    def __init__(
        self, store: Store, story: Story, keeper: Keeper, limits: Limits, retain_bytes: int
    ) -> None:
        self._store = store
        self._story = story
        self._keeper = keeper
        self._limits = limits
        self._retain_bytes = retain_bytes
        self._loop = asyncio.get_running_loop()
        self._job: CheckpointJob | None = None
        self._steps: Iterator[Callable[[], None]] = iter(())
        #: The disk was full: no checkpoint is begun meanwhile.
        self._waits = False
        #: When what was freed has waited long enough for a checkpoint.
        self._trash_due: asyncio.TimerHandle | None = None
        #: What runs in threads.
        self._running: set[asyncio.Future[None]] = set()
        #: What removes files, one after the other; a next start removes what a stop leaves.
        self._removals: deque[Callable[[], None]] = deque()
        self._removes = False
        self._closed = False

    def look(self) -> None:
        """Begin a checkpoint if enough has been applied since the last one."""
        store, limits = self._store, self._limits
        if store.has_trash and self._trash_due is None:
            self._trash_due = self._loop.call_later(limits.trash_ms / 1000, self._empty_trash)
        if (
            store.bytes_since < limits.checkpoint_bytes
            and store.operations_since < limits.checkpoint_operations
        ):
            return
        if self._job is None and not self._waits:
            self._begin()

    def _empty_trash(self) -> None:
        """What was freed has waited long enough, though little was applied since."""
        self._trash_due = None
        if self._store.has_trash and self._job is None and not self._waits and not self._closed:
            self._begin()

    def _begin(self) -> None:
        try:
            self._job = self._store.begin_checkpoint(self._keeper.state())
        except StorageError as error:
            if error.damaged:
                self._keeper.log_damaged(error.message)
            self._later(error.message)
            return
        self._steps = self._job.steps()
        self._go_on()

    def _go_on(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self._made()
            return
        self._in_thread(step, self._stepped)

    def _in_thread(
        self, work: Callable[[], None], then: Callable[[asyncio.Future[None]], None]
    ) -> None:
        future = self._loop.run_in_executor(None, work)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        future.add_done_callback(then)

    async def close(self) -> None:
        """Wait for what runs: whoever starts on this directory next must not meet it."""
        self._closed = True
        if self._trash_due is not None:
            self._trash_due.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _stepped(self, done: asyncio.Future[None]) -> None:
        if self._closed:
            return
        error = done.exception()
        if error is None:
            self._go_on()
        elif isinstance(error, OSError):
            self._failed(error)
        else:
            raise error

    def _failed(self, error: OSError) -> None:
        assert self._job is not None
        self._store.end_checkpoint(self._job)
        self._job = None
        if error.errno in SHORTAGES:
            self._later(str(error))
        else:
            self._keeper.sync_failed(error)

    def _later(self, reason: str) -> None:
        self._story.tell("checkpoint_waits", reason=reason)
        self._waits = True
        self._loop.call_later(AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._waits = False
        self.look()

    def _made(self) -> None:
        job, self._job = self._job, None
        assert job is not None
        self._store.end_checkpoint(job)
        self._story.tell("checkpoint", index=job.index, bytes=job.size, files=len(job.files))
        self.tidy()

    def tidy(self) -> None:
        """Let go of what the last checkpoint covers; also once at the start."""
        store, first = self._store, self._store.first_index
        try:
            self._removals += store.tidy(
                self._retain_bytes, self._keeper.wanted(), self._keeper.pinned()
            )
            self._remove_next()
        except OSError as error:
            self._story.tell("not_tidied", reason=str(error))
        if store.first_index != first:
            self._story.tell("log_cut", first=store.first_index, checkpoint=store.checkpoint)
            self._keeper.log_cut(store.first_index)

    def _remove_next(self) -> None:
        if self._removals and not self._removes and not self._closed:
            self._removes = True
            self._in_thread(self._removals.popleft(), self._removed)

    def _removed(self, done: asyncio.Future[None]) -> None:
        """What could not be removed now is removed after the next start."""
        done.exception()
        self._removes = False
        self._remove_next()
