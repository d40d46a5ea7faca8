"""Pieces of a store's life on a real disk, and what must stand after a kill at any of their calls.

    begin     a life up to where the piece begins; nobody looks at it yet
    act       the piece itself
    check     two restarts find the same, and have all that was durable; then life goes on to the
              end, and comes to what one holds that was never interrupted

The store, its data directory and its disk are the real ones; the operations are a seeded history
of every kind, cut into small segments.  What was reached before a kill is told through memory that
the child shares with its parent, so that the telling is no system call.
"""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.annals import Written, annals, content
from tests.support.memory_disk import MemoryDisk
from tests.support.store_life import (
    CHECKPOINTS,
    KEPT_NAMES,
    UPTO,
    Held,
    Life,
    partition_files,
    state_of,
    uninterrupted,
)
from yak.core import ops
from yak.storage.audit import audit
from yak.storage.copy import Incoming, Outgoing
from yak.storage.disk import OsDisk
from yak.storage.trash import Trash

SEED: Final = 184
FIRST, SECOND = CHECKPOINTS
#: Where a follower was, before it was away for so long that it gets a full copy.
HAD: Final = 20
#: Of a copy: small, so that a file takes several.
PIECE_BYTES: Final = 400
PIECE_FILES: Final = 3
#: What a start that found damage keeps besides.
DAMAGED: Final = "damaged"

HISTORY: Final[Written] = annals(UPTO, seed=SEED)


class Reached:
    """How far a life had come, in memory that a forked child shares.

    durable: the log's last synced operation.  checkpoint: the last one that was made durable.
    epoch: the last one that was persisted.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 24)

    def note(self, durable: int, checkpoint: int, epoch: int) -> None:
        self._memory[:] = struct.pack("qqq", durable, checkpoint, epoch)

    def forget(self) -> None:
        self.note(0, 0, 0)

    @property
    def all(self) -> tuple[int, int, int]:
        durable, checkpoint, epoch = struct.unpack("qqq", self._memory[:])
        return durable, checkpoint, epoch


class RealLife(Life):
    """A life on the real disk, in `path`, that notes what it has reached."""

    def __init__(self, path: str, reached: Reached) -> None:
        self.reached = reached
        super().__init__(OsDisk(), path=path)
        self.note()

    def note(self) -> None:
        self.reached.note(self.durable, self.store.checkpoint, self.directory.meta.epoch)

    def append(self, history: Written, upto: int) -> None:
        super().append(history, upto)
        self.note()

    def tidy(self, *, retain: int = 0, pinned: int | None = None) -> None:
        self.note()  # the checkpoint is made; what it covers goes
        super().tidy(retain=retain, pinned=pinned)

    def end(self) -> None:
        """As the end of its process does: all is let go, and nothing finished."""
        self.disk.close()


@dataclass(frozen=True)
class Scene:
    """See the module.

    prepare: makes the directory that each run begins with a copy of.  begin: in the child, before
    it is watched; gives what `act` is given.  history: what is lived.
    states: in which a restart may find the disk; a damaged one is empty, and what was there is kept
    aside.  choices: where only these may be found next in the log; None: whatever has all that was
    durable.
    """

    name: str
    begin: Callable[[str, Reached], Any]
    act: Callable[[Any], None]
    prepare: Callable[[str, Reached], None] | None = None
    states: tuple[str, ...] = ("whole",)
    choices: tuple[int, ...] | None = None
    history: Written = field(default_factory=lambda: HISTORY)

    @property
    def damaged(self) -> bool:
        return "damaged" in self.states


def check(scene: Scene, path: str, reached: Reached, master: Path) -> None:
    """What must stand after a kill."""
    left = audit(Path(path)).faults
    assert scene.damaged or not left, f"yak verify takes what is left for damaged: {left}"
    found = _restart(scene, path, reached)
    again = _restart(scene, path, reached)
    assert again == found, f"the second restart finds {again}, the first one found {found}"
    if scene.damaged:
        _check_kept(Path(path), master)
    life = RealLife(path, Reached())
    upto = len(scene.history)
    life.run(scene.history, upto)
    expected = _expected(scene, upto)
    held = life.held()
    assert held.state == expected.state, "State is not what the history adds up to"
    assert held.records == expected.records, "readers are given something else"
    assert held.files == expected.files, "the partition files are not the log's"
    life.store.close()
    prove(path)
    life.checkpoint()
    names = set(life.disk.listdir(path)) - KEPT_NAMES - ({DAMAGED} if scene.damaged else set())
    assert not names, f"nobody removes {names}"
    assert not life.store.has_trash
    life.end()
    last = RealLife(path, Reached())
    assert last.held() == held, "a restart after it finds something else"
    last.end()
    prove(path)


@functools.cache
def _held(length: int, upto: int) -> Held:
    history = ELECTED if length == len(ELECTED) else HISTORY
    return uninterrupted(history, upto)


def _expected(scene: Scene, upto: int) -> Held:
    """What one holds that was never interrupted."""
    return _held(len(scene.history), upto)


def _restart(scene: Scene, path: str, reached: Reached) -> tuple[Any, ...]:
    """All that a restart finds, which must have what was durable."""
    durable, checkpoint, epoch = reached.all
    life = RealLife(path, Reached())
    found, meta = life.found, life.directory.meta
    assert found.state in scene.states, f"it comes as {found.state}: {found.message}"
    if scene.damaged:
        assert found.next == 1, f"{found.next} is next, where the log is damaged"
    else:
        assert found.next > durable, f"{durable} was durable, {found.next} is next"
        assert found.restored.index >= checkpoint, "an older checkpoint is back"
    assert scene.choices is None or found.next in scene.choices, found.next
    assert meta.epoch >= epoch, "an epoch that was persisted is gone"
    assert not found.end_epoch > meta.epoch > 0, "an epoch began before it was persisted"
    index = found.restored.index
    assert content(found.restored) == content(state_of(scene.history, index))
    files = partition_files(life.disk, path)
    assert files == _expected(scene, index).files, f"not as at checkpoint {index}"
    life.end()
    return found.next, found.sum, found.epochs, found.end_epoch, index, found.state, files


def _check_kept(path: Path, master: Path) -> None:
    """Every byte that was there when the damage was found is kept aside."""
    kept = {
        str(file.relative_to(aside)): file.read_bytes()
        for aside in (path / DAMAGED).iterdir()
        for file in aside.rglob("*.jsonl")
    }
    for file in master.rglob("*.jsonl"):
        assert kept.get(str(file.relative_to(master))) == file.read_bytes(), f"{file} is not kept"


def prove(path: str) -> None:
    """`yak verify`: whole, and no end is torn."""
    proved = audit(Path(path))
    assert not proved.faults, proved.faults
    assert not proved.torn, proved.torn


# -- pieces ----------------------------------------------------------------------------------------


def _lived(upto: int, *, checkpoint: int = FIRST) -> Callable[[str, Reached], None]:
    """A directory in which a life went so far, and was killed."""

    def prepare(path: str, reached: Reached) -> None:
        life = RealLife(path, reached)
        if checkpoint:
            life.run(HISTORY, checkpoint)
            life.checkpoint()
        life.run(HISTORY, upto)
        life.end()

    return prepare


def _at(upto: int) -> Callable[[str, Reached], RealLife]:
    """A life that goes on in the directory, up to there."""

    def begin(path: str, reached: Reached) -> RealLife:
        life = RealLife(path, reached)
        life.run(HISTORY, upto)
        return life

    return begin


def _runs(upto: int, *, checkpoint: bool = False) -> Callable[[RealLife], None]:
    def act(life: RealLife) -> None:
        life.run(HISTORY, upto, at_once=1)
        if checkpoint:
            life.checkpoint()

    return act


def _freeing(kind: type[ops.Op], after: int) -> int:
    """The first operation of this kind after that one by which files are freed."""
    life = Life(MemoryDisk())
    life.run(HISTORY, after)
    for op, _ in HISTORY[after:]:
        life.run(HISTORY, op.index)
        if isinstance(op, kind) and str(op.index) in life.disk.listdir("/data/trash"):
            return op.index
    raise AssertionError(f"no {kind} frees anything")


def _before(kind: type[ops.Op]) -> tuple[Callable[[str, Reached], RealLife], Callable[[Any], None]]:
    """Up to right before it; it, and the checkpoint that lets go what it freed."""
    index = _freeing(kind, FIRST)
    return _at(index - 1), _runs(index, checkpoint=True)


def _nothing(path: str, reached: Reached) -> tuple[str, Reached]:
    return path, reached


def _starts(given: tuple[str, Reached]) -> None:
    RealLife(*given)


def _begins(given: tuple[str, Reached]) -> None:
    RealLife(*given).run(HISTORY, 3, at_once=1)


def _checkpoints(life: RealLife) -> None:
    life.checkpoint()


def _ahead(path: str, reached: Reached) -> RealLife:
    """Its log has a tail of several files that is not committed."""
    life = _at(SECOND)(path, reached)
    life.append(HISTORY, UPTO)
    return life


#: Where the tail is cut.
CUT: Final = SECOND + 4


def _cuts(life: RealLife) -> None:
    life.durable = CUT - 1
    life.note()
    life.store.truncate(CUT, life.store.sum_before(CUT))
    life.append(HISTORY, CUT + 3)


class _Leader:
    """The one that is copied from: its files stay where they are while followers are killed."""

    def __init__(self, home: Path) -> None:
        self.path = str(home / "leader")
        _lived(SECOND, checkpoint=SECOND)(self.path, Reached())


def _copies(leader: _Leader) -> tuple[Callable[[str, Reached], None], Callable[[Any], None]]:
    """prepare, and act, of a follower that is given a full copy."""

    def prepare(path: str, reached: Reached) -> None:
        life = RealLife(path, reached)
        life.run(HISTORY, HAD)
        life.checkpoint()
        life.end()

    def act(life: RealLife) -> None:
        disk = OsDisk()  # reads only: the leader's files are the same for every follower
        outgoing = Outgoing(disk, leader.path, Trash(disk, leader.path))
        incoming = Incoming(life.disk, life.path)
        incoming.begin(outgoing.offer)
        while (wanted := incoming.wanted()) is not None:
            incoming.take(outgoing.read(*wanted, PIECE_BYTES, PIECE_FILES))
        for step in incoming.syncs():
            step()
        incoming.install()

    return prepare, act


def _installed(leader: _Leader) -> Callable[[str, Reached], None]:
    """A follower's directory that waits for the start which puts the copy in its place."""
    prepare, act = _copies(leader)

    def whole(path: str, reached: Reached) -> None:
        prepare(path, reached)
        life = RealLife(path, reached)
        act(life)
        reached.note(SECOND, SECOND, 0)
        life.end()

    return whole


def _torn(path: str, reached: Reached) -> None:
    """Killed in the midst of a write, with what was freed still in the trash."""
    _lived(UPTO)(path, reached)
    log = max((Path(path) / "oplog").iterdir())
    log.write_bytes(log.read_bytes() + b'{"index":%d,"ep' % (UPTO + 1))


def _flipped(path: str, reached: Reached) -> None:
    """A bit of the log is not what was written, behind the checkpoint."""
    _lived(UPTO)(path, reached)
    log = max((Path(path) / "oplog").iterdir())
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)


def _unsynced(path: str, reached: Reached) -> None:
    """A sync failed: what the system holds for written since then is written again."""
    _lived(UPTO)(path, reached)
    life = RealLife(path, Reached())
    life.directory.sync_failed(SECOND)
    life.end()


#: A follower's log up to SECOND, and the first operation of its own epoch.
ELECTED: Final[Written] = [
    *HISTORY[:SECOND],
    (ops.Lead(index=SECOND + 1, epoch=90, time=5000, broker=1), None),
]


def _follows(path: str, reached: Reached) -> RealLife:
    """It has persisted the epoch of its log, as a follower does."""
    life = _at(SECOND)(path, reached)
    life.directory.save_epoch(life.store.epochs[-1][0])
    life.note()
    return life


def _takes_the_lead(life: RealLife) -> None:
    """Persist the epoch, write `lead`, serve."""
    life.directory.save_epoch(90)
    life.note()
    life.run(ELECTED, SECOND + 1)


def scenes(home: Path) -> list[Scene]:
    """All of them; home: where what they share is kept."""
    leader = _Leader(home)
    lacks, copies = _copies(leader)
    trim, delete = _before(ops.Trim), _before(ops.DeleteTopic)
    lived = _lived(FIRST)
    return [
        Scene("first start", _nothing, _begins),
        Scene("segment roll", _at(FIRST), _runs(SECOND), lived),
        Scene("checkpoint", _at(SECOND), _checkpoints, lived),
        Scene("trim", *trim, lived),
        Scene("delete topic", *delete, lived),
        Scene("log cut", _ahead, _cuts, lived),
        Scene("full copy", _at(HAD), copies, lacks, choices=(HAD + 1, SECOND + 1)),
        Scene("full copy, put in its place", _nothing, _starts, _installed(leader)),
        Scene("election", _follows, _takes_the_lead, lived, history=ELECTED),
        Scene("restart", _nothing, _starts, _lived(UPTO)),
        Scene("restart, torn", _nothing, _starts, _torn, states=("torn",)),
        Scene("restart, damaged", _nothing, _starts, _flipped, states=("damaged",)),
        Scene("restart, sync failed", _nothing, _starts, _unsynced, states=("unclean",)),
    ]
