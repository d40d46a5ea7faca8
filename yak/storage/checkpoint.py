"""A checkpoint: State at an index, and what the partition files held then.

    checkpoint.json
      {"format":1,"sum":"4c1d22e0","epochs":[[1,1],[3,15]],"log_file":1,"log_position":71223,
       "state":{"index":118,"epoch":3,…,"topics":{…},"groups":{…},…},
       "partitions":[["orders",2,43,118,[[0,1048570,1763…,1763…],[41,214,1763…,1763…]]]],
       "crc":"9ae0daaf"}

A restart loads it, puts the files back to it, and applies the log from there.  Rules:

* It is written only after the bytes and the directories that it names are durable; then to a
  temporary file, synced, renamed, and the directory synced.  So there is always a whole one.
* `crc`, always last, is CRC-32C of all that stands before `,"crc"`.
* It names only what was committed and applied: nothing in it can ever be taken back.

The steps of making one (`CheckpointJob`) are run one after the other, in any thread, while the
broker goes on: files only grow meanwhile, and what is freed is moved to the trash, where the job
finds it.

It does not decide when, and does not cut the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec

from yak.core import ops
from yak.core.snapshot import Snapshot, describe
from yak.core.state import State
from yak.errors import Fatal
from yak.storage.disk import SYNC_ALL_ABOVE, Disk
from yak.storage.faults import Damaged
from yak.storage.partition import PartitionRow
from yak.storage.trash import Trash

FORMAT: Final = 1
FILE_NAME: Final = "checkpoint.json"
#: Encoded in one go, while nothing else of the process can run: ten microseconds or so.
ROWS_AT_ONCE: Final = 256
_CRC_TAIL: Final = len(b',"crc":"00000000"}\n')


class Checkpoint(msgspec.Struct, kw_only=True):
    """See the module.

    sum: the running sum of operation `state.index`.  epochs: (epoch, first index), up to there.
    log_file, log_position: the log's file in which the next operation began, and where; None and
    0 where the log begins with it, as after a full copy.
    partitions: of those in which something was ever written.
    """

    format: int = FORMAT
    sum: str
    epochs: list[tuple[int, int]]
    log_file: int | None
    log_position: int
    state: Snapshot
    partitions: list[PartitionRow]

    @property
    def index(self) -> int:
        return self.state.index


class _Format(msgspec.Struct):
    format: int


def encode(checkpoint: Checkpoint) -> bytes:
    """What the file holds."""
    head = b"".join(_pieces(checkpoint))[:-1]
    return b'%s,"crc":"%s"}\n' % (head, ops.crc_of(head).encode())


def _pieces(value: Any) -> Iterator[bytes]:
    """The very bytes that msgspec makes of it in one go, which nobody could interrupt."""
    if isinstance(value, Checkpoint | Snapshot):
        between = b"{"
        for name in value.__struct_fields__:
            yield b'%s"%s":' % (between, name.encode())
            yield from _pieces(getattr(value, name))
            between = b","
        yield b"}"
    elif isinstance(value, dict) and value:
        yield from _in_slices(value.items(), dict, b"{}")
    elif isinstance(value, list) and value:
        yield from _in_slices(value, list, b"[]")
    else:
        yield msgspec.json.encode(value)


def _in_slices(
    rows: Iterable[Any], kind: Callable[[Iterable[Any]], Any], brackets: bytes
) -> Iterator[bytes]:
    between, rest = brackets[:1], iter(rows)
    while part := kind(islice(rest, ROWS_AT_ONCE)):
        yield between
        yield msgspec.json.encode(part)[1:-1]
        between = b","
    yield brackets[1:]


def decode(data: bytes, path: str) -> Checkpoint:
    """The checkpoint that `path` held.  Raises Damaged, or Fatal for one of a newer yak."""
    head, tail = data[:-_CRC_TAIL], data[-_CRC_TAIL:]
    if tail != b',"crc":"%s"}\n' % ops.crc_of(head).encode():
        raise Damaged(path, 0, "it does not have the crc that it states")
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version != FORMAT:
            raise Fatal(
                f"{path}: format {version}, but this version of yak reads format {FORMAT}; start "
                "the yak that wrote it on this directory"
            )
        return msgspec.json.decode(data, type=Checkpoint)
    except msgspec.MsgspecError as e:
        raise Damaged(path, 0, f"not a checkpoint: {e}") from e


def read(disk: Disk, path: str) -> Checkpoint | None:
    """The data directory's checkpoint, if there is one.  Raises Damaged, Fatal."""
    file = f"{path}/{FILE_NAME}"
    return decode(disk.read_file(file), file) if disk.exists(file) else None


class CheckpointJob:
    """One checkpoint in the making: run its `steps` in their order, all of them or not.

    index: of State in it.  made: it is durable.  size: of its file, in bytes, once made.
    covers: bytes and operations that were applied since the one before.
    """

    def __init__(
        self,
        disk: Disk,
        path: str,
        trash: Trash,
        state: State,
        head: Callable[[Snapshot], Checkpoint],
        unsynced: tuple[list[str], list[str]],
        covers: tuple[int, int],
    ) -> None:
        self.index = state.index
        self.made = False
        self.size = 0
        self.covers = covers
        self.files, self.directories = unsynced
        self._disk = disk
        self._path = path
        self._trash = trash
        self._state = state
        self._head = head

    def steps(self) -> Iterator[Callable[[], None]]:
        """What may be interrupted between two, and raises the disk's OSError."""
        names = len(self.directories) + len(self._trash.directories())
        if len(self.files) + names > SYNC_ALL_ABOVE:
            yield self._disk.sync_all
        else:
            yield self._sync_files
            yield self._sync_directories
        yield self._write

    def _sync_files(self) -> None:
        for path in self.files:
            self._sync(path, self._disk.sync_by_name)

    def _sync_directories(self) -> None:
        """The trash's come first: with a directory goes what was moved out of it, and that must
        not be nowhere, since a checkpoint names it.
        """
        for path in self._trash.directories():
            self._disk.sync_dir(path)
        for path in self.directories:
            self._sync(path, self._disk.sync_dir)

    def _sync(self, path: str, sync: Callable[[str], None]) -> None:
        """Wherever it is: it may be moved away just now, and another one take its name.

        One that is nowhere was freed before the checkpoint, which does not name it.
        """
        while True:
            at = self._trash.where(path, self.index)
            with suppress(FileNotFoundError):
                sync(at)
            if self._trash.where(path, self.index) == at:
                return

    def _write(self) -> None:
        data = encode(self._head(describe(self._state)))
        self._disk.write_durably(f"{self._path}/{FILE_NAME}", data)
        self.size = len(data)
        self.made = True
