"""The one door between storage and the file system.

Everything that storage does to files it does through `Disk`: about twenty plain operations on
paths.  `OsDisk` is the real one; the tests' and the simulator's disk lives in memory and loses
at a power cut what was not synced.  Rules:

* A path is a string with `/` between its parts.  Files are only ever appended to, cut, or
  replaced whole; nothing is written in the middle.
* `append` may write less than it was given, as the system call may; `append_all` goes on.
* Durable is what was synced: `sync` for a file's bytes, `sync_dir` for the names in a
  directory (created, renamed and removed files).
* Every method belongs to one thread, but for those that say "any thread": these may run in
  another one while the first goes on appending.
* Failures are the operating system's `OSError`s, unchanged: callers say what they mean.

It does not know what lies in the files.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar

from yak.descriptors import is_reserved
from yak.errors import Fatal

#: Bytes as they come from the wire or from an encoder; a memoryview's items are single bytes.
Buffer: TypeAlias = bytes | memoryview

T = TypeVar("T")

#: No room on the disk, of a quota or below a limit of a file's size (`ulimit -f`), or no file
#: descriptor: time may help, and nothing that was written is in doubt.
SHORTAGES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})
#: Files that are held open at a time.  Ten thousand partitions do not need ten thousand
#: descriptors; this many fit below the usual soft limit of 1024 beside the connections.
MAX_OPEN_FILES: Final = 512
#: Buffers in one vectored write: the system's limit, or POSIX's usual one where it has none.
MAX_BUFFERS: Final = max(16, min(os.sysconf("SC_IOV_MAX"), 1024))

#: With more to make durable, all of the file system is synced instead: a file takes it a
#: millisecond, and twenty thousand of them would keep everything else waiting for half a minute.
SYNC_ALL_ABOVE: Final = 1000

#: What the name of a file ends with while `write_durably` makes it.
UNFINISHED: Final = ".tmp"
_FILE_MODE: Final = 0o644
_libc = ctypes.CDLL(None, use_errno=True)
_datasync = getattr(os, "fdatasync", os.fsync)  # a system without fdatasync syncs a little more


class SyncLater(Protocol):
    """A file's bytes as they were when it was asked for; `run` makes them durable, once.

    Any thread.
    """

    def run(self) -> None: ...


class Disk(Protocol):
    """What storage needs of a file system."""

    def mkdir(self, path: str) -> None:
        """Make a directory, and those above it; one that is there already is fine."""

    def exists(self, path: str) -> bool: ...

    def is_dir(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def create(self, path: str) -> None:
        """Make an empty file; FileExistsError if the name is taken."""

    def append(self, path: str, buffers: Sequence[Buffer]) -> int:
        """Write at the end, at most MAX_BUFFERS buffers; how many bytes were written."""

    def pread(self, path: str, size: int, position: int) -> bytes:
        """`size` bytes, or fewer where the file ends before."""

    def size(self, path: str) -> int: ...

    def truncate(self, path: str, size: int) -> None: ...

    def sync(self, path: str) -> None: ...

    def sync_later(self, path: str) -> SyncLater: ...

    def sync_by_name(self, path: str) -> None:
        """Make a file's bytes durable.  Any thread."""

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory durable.  Any thread."""

    def sync_all(self) -> None:
        """Make everything durable, names too.  Any thread.  Needs a `lock` from the start."""

    def rename(self, old: str, new: str) -> None:
        """Move a file or a directory; a file with the new name is replaced, in one step."""

    def unlink(self, path: str) -> None: ...

    def rmtree(self, path: str) -> None:
        """Remove a directory and all in it; nothing there is fine."""

    def remove_later(self, paths: Sequence[str]) -> Callable[[], None]:
        """What removes directories and all in them.  Nothing of it may be used any more.

        Any thread.
        """

    def read_file(self, path: str) -> bytes: ...

    def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a small file; neither atomic nor durable by itself."""

    def write_durably(self, path: str, data: bytes) -> None:
        """Replace a file: after a stop of any kind the old one or the new one is there.

        Any thread, but one file by one thread at a time.
        """

    def lock(self, path: str) -> None:
        """Hold a lock file until `close`; BlockingIOError while another process holds it."""

    def close(self) -> None:
        """Close all files and let go of all locks."""


def append_whole(disk: Disk, path: str, buffers: Sequence[Buffer], size: int) -> None:
    """Append all of it, or nothing; the file is made where its `size` is 0.

    Raises OSError once the file is cut back to `size` bytes, or Fatal where not even that works.
    """
    try:
        if not size:
            disk.create(path)
        append_all(disk, path, buffers)
    except OSError:
        try:
            _cut_back(disk, path, size)
        except OSError as e:
            raise Fatal(
                f"{path}: a write failed, and so did cutting it back: {e}; look at the disk, then "
                "start this process again: it removes what is not whole"
            ) from e
        raise


def _cut_back(disk: Disk, path: str, size: int) -> None:
    if size:
        disk.truncate(path, size)
    elif disk.exists(path):
        disk.unlink(path)


def append_all(disk: Disk, path: str, buffers: Sequence[Buffer]) -> None:
    """Append every byte, however many writes that takes."""
    for start in range(0, len(buffers), MAX_BUFFERS):
        part = buffers[start : start + MAX_BUFFERS]
        missing = sum(map(len, part)) - disk.append(path, part)
        if missing:
            _append_rest(disk, path, b"".join(part)[-missing:])


def _append_rest(disk: Disk, path: str, rest: bytes) -> None:
    while rest:
        rest = rest[_some(disk.append(path, (rest,)), path) :]


def _some(written: int, path: str) -> int:
    """How much was written; nothing at all would be tried again for ever."""
    if not written:
        raise OSError(errno.EIO, "the system wrote nothing and gave no reason", path)
    return written


def _replace_by(path: str, data: bytes) -> None:
    """Every byte, however many writes that takes.  Python's own files try for ever where a write
    writes nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(path, flags, _FILE_MODE)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[_some(os.write(fd, rest), path) :]
    finally:
        os.close(fd)


def _above(path: str) -> Iterator[str]:
    """The directories in which it is."""
    while path := path.rpartition("/")[0]:
        yield path


def _sync_opened(path: str, flags: int, sync: Callable[[int], None]) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


class _Descriptor:
    """A second descriptor of an open file, so that closing the first cannot disturb a sync."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def run(self) -> None:
        try:
            _datasync(self._fd)
        finally:
            os.close(self._fd)


class OsDisk:
    """The real file system, with the most recently used files held open.

    _open: path -> descriptor, least recently used first.  Invariant: at most max_open_files.
    _locks: descriptors of the locks that are held.
    """

    def __init__(self, max_open_files: int = MAX_OPEN_FILES) -> None:
        self._max_open_files = max_open_files
        self._open: OrderedDict[str, int] = OrderedDict()
        self._locks: list[int] = []

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path)
        except FileNotFoundError:
            os.makedirs(path, exist_ok=True)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def create(self, path: str) -> None:
        self._hold(path, os.O_CREAT | os.O_EXCL)

    def append(self, path: str, buffers: Sequence[Buffer]) -> int:
        return os.writev(self._fd(path), buffers)

    def pread(self, path: str, size: int, position: int) -> bytes:
        data = os.pread(self._fd(path), size, position)
        if len(data) == size or not data:
            return data
        parts = [data]  # one call reads less at the end of the file, or where a signal came
        missing = size - len(data)
        while missing and (data := os.pread(self._fd(path), missing, position + size - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def truncate(self, path: str, size: int) -> None:
        os.ftruncate(self._fd(path), size)

    def sync(self, path: str) -> None:
        _datasync(self._fd(path))

    def sync_later(self, path: str) -> SyncLater:
        return self._taking(lambda: _Descriptor(self._fd(path)))

    def sync_by_name(self, path: str) -> None:
        _sync_opened(path, os.O_RDONLY, _datasync)

    def sync_dir(self, path: str) -> None:
        _sync_opened(path, os.O_RDONLY | os.O_DIRECTORY, os.fsync)

    def sync_all(self) -> None:
        # The lock was opened before anything was written: what failed since then is told.
        if hasattr(_libc, "syncfs"):
            if _libc.syncfs(self._locks[0]):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        else:
            os.sync()  # which has no way to say that it failed

    def rename(self, old: str, new: str) -> None:
        self._forget(old)
        self._forget(new)
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        self._forget(path)
        os.unlink(path)

    def rmtree(self, path: str) -> None:
        self._forget(path)
        if os.path.exists(path):
            shutil.rmtree(path)

    def remove_later(self, paths: Sequence[str]) -> Callable[[], None]:
        doomed = set(paths)
        for name in [name for name in self._open if not doomed.isdisjoint(_above(name))]:
            os.close(self._open.pop(name))

        def remove() -> None:
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)

        return remove

    def read_file(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def write_file(self, path: str, data: bytes) -> None:
        self._forget(path)
        _replace_by(path, data)

    def write_durably(self, path: str, data: bytes) -> None:
        temporary = path + UNFINISHED
        _replace_by(temporary, data)
        self.sync_by_name(temporary)
        os.replace(temporary, path)
        self.sync_dir(path.rpartition("/")[0] or ".")

    def lock(self, path: str) -> None:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._locks.append(fd)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
        while self._locks:
            os.close(self._locks.pop())

    def _fd(self, path: str) -> int:
        fd = self._open.get(path)
        if fd is None:
            return self._hold(path, 0)
        self._open.move_to_end(path)
        return fd

    def _hold(self, path: str, flags: int) -> int:
        while len(self._open) >= self._max_open_files:
            self._close_oldest()
        always = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        fd = self._taking(lambda: os.open(path, always | flags, _FILE_MODE))
        if is_reserved(fd) and self._open:
            # Connections have taken the rest: make do with fewer, so that the last stay free.
            os.close(fd)
            self._close_oldest()
            fd = os.open(path, always, _FILE_MODE)
        self._open[path] = fd
        return fd

    def _taking(self, take: Callable[[], T]) -> T:
        """What takes a descriptor; where there is none, that of the oldest file."""
        try:
            return take()
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE) or not self._open:
                raise
            self._close_oldest()
            return take()

    def _close_oldest(self) -> None:
        os.close(self._open.popitem(last=False)[1])

    def _forget(self, path: str) -> None:
        """Close what is about to be moved or removed, together with all that lies in it."""
        if (fd := self._open.pop(path, None)) is not None:
            os.close(fd)
            return
        inside = path + "/"
        for name in [name for name in self._open if name.startswith(inside)]:
            os.close(self._open.pop(name))
