"""Mutants of what a broker does about its disk: syncs, marks, proofs, writes that fail.

    syncs    recovered_synced  rewritten  fail_stop  sync_marked
    marks    marker  marked_until  marker_told
    writes   cut_back
    proofs   log_proved  checkpoint_proved  file_proved  copy_proved  copied_proved

They are as those of mutants.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

from tests.sim.disk import SimDisk
from tests.sim.mutants import Patch, both
from yak import messages as m
from yak.broker import Broker
from yak.core import ops
from yak.storage import checkpoint as checkpoints
from yak.storage.chunk import Chunk, Proved, split
from yak.storage.data_dir import DataDir
from yak.storage.faults import Damaged
from yak.storage.oplog import SyncJob
from yak.storage.partition import Partition
from yak.storage.scan import Scan

# -- Syncs ----------------------------------------------------------------------------------------


def recovered_synced() -> Patch:
    """What a start finds in the log counts as durable, though it may be in the page cache only."""
    cut = Scan.cut

    def mutant(self: Scan, disk: Any, rewrite_from: int | None = None) -> None:
        with both(*(patch.object(SimDisk, name, lambda *_: None) for name in ("sync", "sync_dir"))):
            cut(self, disk, rewrite_from)

    return patch.object(Scan, "cut", mutant)


def rewritten() -> Patch:
    """After a sync that failed the log is synced again, and not written again."""
    cut = Scan.cut

    def mutant(self: Scan, disk: Any, rewrite_from: int | None = None) -> None:
        cut(self, disk)

    return patch.object(Scan, "cut", mutant)


def fail_stop() -> Patch:
    """A sync that fails is one that is done."""
    run = SyncJob.run

    def mutant(self: SyncJob) -> None:
        try:
            run(self)
        except Exception:  # noqa: BLE001 -- that is what is wrong with it
            self.error, self.done = None, True

    return patch.object(SyncJob, "run", mutant)


def sync_marked() -> Patch:
    """A broker whose disk failed to sync stops, and says nothing of it to its next start."""
    return patch.object(DataDir, "sync_failed", lambda *_: None)


# -- Marks ----------------------------------------------------------------------------------------


def marker() -> Patch:
    """Nothing says that a run has not ended in order."""
    return patch.object(DataDir, "mark_running", lambda *_, **__: None)


def marked_until() -> Patch:
    """The start that finds something missing says so; the next one does not know any more."""
    mark = DataDir.mark_running

    def mutant(self: DataDir, **run: Any) -> None:
        found, self.meta.suspect = self.meta.suspect, None
        mark(self, **run)
        self.meta.suspect = found

    return patch.object(DataDir, "mark_running", mutant)


def marker_told() -> Patch:
    """The answer to a join takes off a mark that came after what that join said."""
    viewed = Broker._viewed

    def mutant(self: Broker, view: m.ClusterView, joined: bool) -> None:
        if joined and self.stopped.is_set():
            self._recorded()
        viewed(self, view, joined)

    return patch.object(Broker, "_viewed", mutant)


# -- Writes ---------------------------------------------------------------------------------------


def cut_back() -> Patch:
    """What a write that failed has left in the file stays there."""
    return patch("yak.storage.disk._cut_back", lambda *_: None)


# -- Proofs ---------------------------------------------------------------------------------------


class _AnyCrc(str):
    """Equal to every crc."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]  # it is compared only


class _Ops:
    """The module, without its sums."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    def check_sum(self, line: bytes, previous_sum: str) -> str:
        return line[-11:-3].decode("ascii", "replace")

    def crc_of(self, data: Any) -> Any:
        return _AnyCrc("00000000")


def log_proved() -> Patch:
    """A start believes the log's lines and bodies, as long as they can be read at all."""
    return patch("yak.storage.scan.ops", _Ops())


def checkpoint_proved() -> Patch:
    """A checkpoint needs no crc."""
    decode = checkpoints.decode

    def mutant(data: bytes, path: str) -> checkpoints.Checkpoint:
        head = data[: -checkpoints._CRC_TAIL]
        try:
            return decode(b'%s,"crc":"%s"}\n' % (head, ops.crc_of(head).encode()), path)
        except UnicodeDecodeError as e:
            raise Damaged(path, 0, str(e)) from e

    return patch.object(checkpoints, "decode", mutant)


def file_proved() -> Patch:
    """What is read from a partition's file is sent as it is."""
    return patch.object(Partition, "_prove", lambda *_: None)


def copy_proved() -> Patch:
    """So is a piece of a full copy."""
    return patch("yak.storage.copy.prove_appends", lambda data, *_: Proved(len(data), 0, 0))


def copied_proved() -> Patch:
    """A follower writes what its leader sends, whether it follows or not."""

    def mutant(data: Any, **_: Any) -> Chunk:
        return Chunk(bytes(data), split(bytes(data)))

    return patch("yak.broker.parse_chunk", mutant)


RULES: Final[dict[str, Callable[[], Patch]]] = {
    mutant.__name__: mutant
    for mutant in (
        recovered_synced,
        rewritten,
        fail_stop,
        sync_marked,
        marker,
        marked_until,
        marker_told,
        cut_back,
        log_proved,
        checkpoint_proved,
        file_proved,
        copy_proved,
        copied_proved,
    )
}
#: As in mutants.py.
SCENT: Final[dict[str, tuple[str, int]]] = {
    "recovered_synced": ("sync", 2),
    "rewritten": ("sync", 3),
    "fail_stop": ("sync", 3),
    "sync_marked": ("sync", 3),
    "marker": ("power", 30),
    "marked_until": ("marked_until", 1),
    "marker_told": ("marker_told", 2),
    "cut_back": ("cut_back", 1),
    "log_proved": ("upkeep", 47),
    "checkpoint_proved": ("upkeep", 60),
    "file_proved": ("rot", 1),
    "copy_proved": ("rot", 125),
    "copied_proved": ("copied_proved", 1),
}
