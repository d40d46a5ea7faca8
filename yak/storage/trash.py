"""What committed operations freed, kept until a checkpoint covers them.

    trash/18/topic/orders/…                 a topic, deleted by operation 18
    trash/31/segment/orders/2/000…41.jsonl  a segment, trimmed by operation 31

A restart puts the partition files back to the last checkpoint, and so needs what was freed since.
Rules:

* Freeing is a move, and moves happen in the order of the operations.  Where the disk refuses one
  (it may be so full that not even a name fits), it and all behind it wait; nothing is written to
  partition files meanwhile, since a topic made again would meet the old one's files.
* What operation INDEX freed is removed once a checkpoint at INDEX or later is durable, and nobody
  reads an older one (a full copy does).
* `undo` is a restart's: from the newest to the oldest, so that a topic deleted twice ends as the
  one that the checkpoint knows, and no partition has a gap meanwhile: `yak verify` may look at any
  time.  It may be repeated at any point.

It does not know what is a checkpoint, nor what may be freed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from yak.storage.disk import Disk


class _Move(NamedTuple):
    """Operation `by` frees `source`, which goes to `target`."""

    by: int
    source: str
    target: str


class Trash:
    """See the module.  path: of the data directory."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._waiting: deque[_Move] = deque()
        #: source -> its moves, oldest first: a topic's directory may be freed several times.
        self._moved: dict[str, list[_Move]] = {}
        #: Indexes that have a directory here, ascending.
        self._indexes: list[int] = []
        #: Whoever asks `where` must not come between a move and the note of it.
        self._lock = Lock()

    @property
    def waits(self) -> bool:
        """Whether the disk has not yet taken all moves."""
        return bool(self._waiting)

    @property
    def holds(self) -> bool:
        """Whether anything waits for a checkpoint."""
        return bool(self._indexes)

    def free_topic(self, index: int, topic: str) -> None:
        """Free a topic's directory, with the next `carry_out`."""
        source = f"{self._path}/topics/{topic}"
        self._waiting.append(_Move(index, source, f"{self._path}/trash/{index}/topic/{topic}"))

    def free_segment(self, index: int, path: str) -> None:
        """Free a segment's file, with the next `carry_out`."""
        name = path.removeprefix(f"{self._path}/topics/")
        self._waiting.append(_Move(index, path, f"{self._path}/trash/{index}/segment/{name}"))

    def carry_out(self) -> None:
        """Move what waits.  Raises OSError where the disk refuses; then the rest waits on."""
        while self._waiting:
            move = self._waiting[0]
            if self._disk.exists(move.source):
                self._disk.mkdir(move.target.rpartition("/")[0])
                with self._lock:
                    self._disk.rename(move.source, move.target)
                    self._moved.setdefault(move.source, []).append(move)
                if not self._indexes or self._indexes[-1] != move.by:
                    self._indexes.append(move.by)
            self._waiting.popleft()

    def where(self, path: str, since: int) -> str:
        """Where a file is now that a checkpoint at `since` names by `path`.  Any thread."""
        end = path.find("/", len(self._path) + len("/topics/"))
        sources = {path, path[:end] if end >= 0 else path}  # itself; its topic's directory
        with self._lock:
            moves = [
                move
                for source in sources
                for move in self._moved.get(source, ())
                if move.by > since
            ]
        if not moves:
            return path
        first = min(moves)
        return first.target + path[len(first.source) :]

    def directories(self) -> list[str]:
        """Those that moves were made into, each after the one that holds it.  Any thread."""
        homes: dict[str, None] = {}
        for moves in list(self._moved.values()):
            for move in list(moves):
                end = len(self._path) + len("/trash")
                while end > 0:
                    homes[move.target[:end]] = None
                    end = move.target.find("/", end + 1)
        return list(homes)

    def covered(self, index: int) -> list[str]:
        """The directories that nobody needs any more; the caller removes them."""
        done = [number for number in self._indexes if number <= index]
        self._indexes = self._indexes[len(done) :]
        with self._lock:
            for source in list(self._moved) if done else ():
                kept = [move for move in self._moved[source] if move.by > index]
                if kept:
                    self._moved[source] = kept
                else:
                    del self._moved[source]
        return [f"{self._path}/trash/{number}" for number in done]


def freed_since(disk: Disk, path: str, index: int) -> list[int]:
    """The operations after `index` of which something lies in the trash, newest first."""
    names = disk.listdir(f"{path}/trash")
    return sorted((int(n) for n in names if n.isdigit() and int(n) > index), reverse=True)


def undo(disk: Disk, path: str, index: int) -> None:
    """Put back what was freed after operation `index`, durably; what remains is for good."""
    places: dict[str, dict[str, None]] = {}  # topic -> the directories into which files came
    for number in freed_since(disk, path, index):
        home = f"{path}/trash/{number}"
        for topic in _names(disk, f"{home}/topic"):
            # Else a power cut could leave its files in the trash, for the one that comes now.
            _sync_all(disk, places.pop(topic, {}))
            disk.rmtree(f"{path}/topics/{topic}")  # a later one of that name
            disk.rename(f"{home}/topic/{topic}", f"{path}/topics/{topic}")
        for topic in _names(disk, f"{home}/segment"):
            for partition in _names(disk, f"{home}/segment/{topic}"):
                inner = f"{topic}/{partition}"
                disk.mkdir(f"{path}/topics/{inner}")
                for name in reversed(_names(disk, f"{home}/segment/{inner}")):
                    disk.rename(f"{home}/segment/{inner}/{name}", f"{path}/topics/{inner}/{name}")
                places.setdefault(topic, {})[f"{path}/topics/{inner}"] = None
    for directories in places.values():
        _sync_all(disk, directories)
    disk.sync_dir(f"{path}/topics")  # the trash goes next, and must not take it along


def _sync_all(disk: Disk, directories: Iterable[str]) -> None:
    for directory in directories:
        disk.sync_dir(directory)


def _names(disk: Disk, directory: str) -> list[str]:
    return disk.listdir(directory) if disk.is_dir(directory) else []
