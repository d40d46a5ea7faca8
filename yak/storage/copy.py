"""A full copy: a checkpoint and the files that it names, from one data directory to another.

    the leader                          the follower
    Outgoing: its last checkpoint  ──▶  Incoming: incoming/checkpoint.json, incoming/topics/…
                                        all there, all synced: renamed to installing/
                                        the next start puts it in its place (finish_install)

Rules:

* What is handed out is the checkpoint as it was when the copy began: files that were freed since
  are read in the trash, and of those that grew only what it names.
* A piece of a file is whole operations; their crcs, offsets and indexes are proved as they are
  read, so that damage does not spread.
* What follows a file's last piece is whole files, in the checkpoint's order: both sides know it,
  and how long each is.  One that cannot be read is left out, and refused when it is asked for.
* `incoming/` counts for nothing, whatever lies in it; `installing/` is complete and durable.  The
  rename between the two is the one step in which the follower's files become others.
* The log begins with the operation after the checkpoint, and holds nothing yet.

It does not ask for anything over the net, and does not know who leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import Final, NamedTuple, TypeAlias

import msgspec

from yak.core import ops
from yak.core.ops import BrokenLine
from yak.storage import checkpoint as checkpoints
from yak.storage.checkpoint import FILE_NAME, Checkpoint
from yak.storage.chunk import prove_appends
from yak.storage.disk import SYNC_ALL_ABOVE, Buffer, Disk, append_all
from yak.storage.faults import Damaged, StorageError
from yak.storage.partition import PartitionRow, SegmentRow
from yak.storage.restore import discard
from yak.storage.segment import Segment, file_name
from yak.storage.trash import Trash

INCOMING: Final = "incoming"
INSTALLING: Final = "installing"

#: Topic, partition and first offset of a file; None for the checkpoint itself.
File: TypeAlias = tuple[str, int, int] | None


class Offer(NamedTuple):
    """What a copy is of: the checkpoint at operation `at`; its file's bytes and their crc."""

    at: int
    size: int
    crc: str


class Outgoing:
    """A leader's checkpoint, for one follower.  Raises Damaged where it is not whole."""

    def __init__(self, disk: Disk, path: str, trash: Trash) -> None:
        self._disk = disk
        self._path = path
        self._trash = trash
        file = f"{path}/{FILE_NAME}"
        self._data = disk.read_file(file)
        self._checkpoint = checkpoints.decode(self._data, file)
        self._sizes = {
            (row.topic, row.partition, one.first): one.size
            for row in self._checkpoint.partitions
            for one in row.segments
        }
        self._next = dict(pairwise(self._sizes))
        self.offer = Offer(self._checkpoint.index, len(self._data), ops.crc_of(self._data))

    def read(self, file: File, position: int, max_bytes: int, files: int = 1) -> bytes:
        """What follows `position`: at most `max_bytes`, but one operation at least.

        Of at most `files` files.  Raises StorageError where there is nothing of that name, or
        where the disk does not give what was written.
        """
        if file is None:
            return self._data[position : position + max_bytes]
        found = [self._read_one(file, position, max_bytes)]
        left = max_bytes - len(found[0])
        if position + len(found[0]) == self._sizes[file]:
            for after in islice(self._after(file), files - 1):
                left -= self._sizes[after]
                if left < 0:
                    break
                try:
                    found.append(self._read_one(after, 0, self._sizes[after]))
                except StorageError:
                    break
        return b"".join(found)

    def _after(self, file: tuple[str, int, int]) -> Iterator[tuple[str, int, int]]:
        while (after := self._next.get(file)) is not None:
            yield after
            file = after

    def _read_one(self, file: tuple[str, int, int], position: int, max_bytes: int) -> bytes:
        size = self._sizes.get(file)
        if size is None or not position < size:
            raise StorageError(f"the checkpoint has nothing of {file} at {position}")
        topic, partition, first = file
        name = f"{self._path}/topics/{topic}/{partition}/{file_name(first)}"
        at = self._trash.where(name, self._checkpoint.index)
        try:
            return self._read_whole(at, file, position, size, max_bytes)
        except (OSError, Damaged, BrokenLine) as e:
            damaged = not isinstance(e, OSError)
            raise StorageError(f"{topic}/{partition} cannot be copied: {e}", damaged=damaged) from e

    def _read_whole(
        self, path: str, file: tuple[str, int, int], position: int, size: int, wanted: int
    ) -> bytes:
        topic, partition, first = file
        header = Segment("", first).header if position == 0 else b""
        wanted = max(wanted, len(header), 1)  # whatever was asked for is no damage of this file
        while True:
            data = self._disk.pread(path, min(wanted, size - position), position)
            if not data.startswith(header):
                raise Damaged(path, 0, f"the first line should be {header!r}")
            end = prove_appends(data, topic, partition, len(header)).end
            if end > len(header) or (end and end == size - position):
                return data[:end]
            if len(data) >= size - position or len(data) < wanted:
                raise Damaged(path, position, "the file ends within an operation")
            wanted *= 4


class Incoming:
    """A follower's copy in the making.  Begun again with the same offer, it goes on."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._home = f"{path}/{INCOMING}"
        self._offer: Offer | None = None
        self._data = b""
        self._rows: Iterator[tuple[PartitionRow, SegmentRow]] = iter(())
        self._checkpoint: Checkpoint | None = None
        #: What is asked for now: the file, how much of it is here, and its size.
        self._file: File = None
        self._position = 0
        self._size = 0
        self._files: list[str] = []

    def begin(self, offer: Offer) -> None:
        """Make room for it.  Raises OSError."""
        if offer == self._offer:
            return
        self._offer = None
        if self._disk.exists(self._home):
            discard(self._disk, self._path, INCOMING)
        self._disk.mkdir(f"{self._home}/topics")
        self._offer, self._data, self._checkpoint = offer, b"", None
        self._file, self._position, self._size = None, 0, offer.size
        self._files = []

    def wanted(self) -> tuple[File, int] | None:
        """The file to ask for, and from where; None once everything is here."""
        return (self._file, self._position) if self._position < self._size else None

    def take(self, data: Buffer) -> None:
        """What was asked for.  Raises OSError; StorageError where it cannot be right."""
        rest = memoryview(data)
        while True:
            left = self._size - self._position
            here, rest = rest[:left], rest[left:]
            if not here or (self._file is None and rest):
                raise StorageError(f"{len(data)} bytes of {self._file} at {self._position}")
            if self._file is None:
                self._data += here
            else:
                self._append(here)
            self._position += len(here)
            if self._position == self._size:
                self._next_file()
            if not rest:
                return

    def _append(self, data: Buffer) -> None:
        path = self._files[-1]
        if not self._position:
            self._disk.mkdir(path.rpartition("/")[0])
            if self._disk.exists(path):  # begun, and refused by a full disk
                self._disk.unlink(path)
            self._disk.create(path)
        elif self._disk.size(path) > self._position:
            self._disk.truncate(path, self._position)
        append_all(self._disk, path, [data])

    def _next_file(self) -> None:
        if self._checkpoint is None:
            self._understand()
        found = next(self._rows, None)
        if found is not None:
            row, segment = found
            self._file = (row.topic, row.partition, segment.first)
            self._position, self._size = 0, segment.size
            name = f"{row.topic}/{row.partition}/{file_name(segment.first)}"
            self._files.append(f"{self._home}/topics/{name}")

    def _understand(self) -> None:
        assert self._offer is not None
        name = f"{self._home}/{FILE_NAME}"
        if ops.crc_of(self._data) != self._offer.crc:
            self._offer = None
            raise StorageError("the leader's checkpoint is not what it offered")
        try:
            checkpoint = checkpoints.decode(self._data, name)
        except Damaged as e:
            self._offer = None
            raise StorageError(f"the leader's checkpoint: {e}") from e
        self._checkpoint, self._data = checkpoint, b""
        self._rows = ((row, one) for row in checkpoint.partitions for one in row.segments)

    def syncs(self) -> Iterator[Callable[[], None]]:
        """What makes it durable, step by step; any thread."""
        assert self._checkpoint is not None
        directories: dict[str, None] = {}
        many = len(self._files) > SYNC_ALL_ABOVE
        if many:
            yield self._disk.sync_all
        for path in self._files:
            if not many:
                yield partial(self._disk.sync_by_name, path)
            directory = path.rpartition("/")[0]
            topic = directory.rpartition("/")[0]
            directories.update({directory: None, topic: None})
        if many:
            directories.clear()  # that was done as well
        directories[f"{self._home}/topics"] = None
        own = msgspec.structs.replace(self._checkpoint, log_file=None, log_position=0)
        data = checkpoints.encode(own)
        yield lambda: self._disk.write_durably(f"{self._home}/{FILE_NAME}", data)
        for name in (*directories, self._home):
            yield partial(self._disk.sync_dir, name)

    def install(self) -> None:
        """From now on this is what the data directory holds.  Raises OSError."""
        self._disk.rename(self._home, f"{self._path}/{INSTALLING}")
        self._disk.sync_dir(self._path)


def finish_install(disk: Disk, path: str) -> bool:
    """At a start: put a complete copy in its place, and forget an incomplete one.

    Whether there was one.  It may be killed anywhere and begun again.
    """
    if disk.exists(f"{path}/{INCOMING}"):
        discard(disk, path, INCOMING)
    home = f"{path}/{INSTALLING}"
    if not disk.exists(home):
        return False
    for name in ("oplog", "trash"):
        if disk.exists(f"{path}/{name}"):
            discard(disk, path, name)
    for name in ("topics", FILE_NAME):  # the checkpoint last: without it the rest means nothing
        if disk.exists(f"{home}/{name}"):
            if disk.exists(f"{path}/{name}"):
                discard(disk, path, name)
            disk.rename(f"{home}/{name}", f"{path}/{name}")
    for directory in (home, path):
        disk.sync_dir(directory)
    discard(disk, path, INSTALLING)
    disk.sync_dir(path)
    return True
