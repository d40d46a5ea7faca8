"""A disk in memory that forgets what was not synced: storage's own, for tests and the simulator.

    crash("kill")    the process died: all that was written is there, locks are free
    crash("power")   the machine died: of each file, what was synced and any prefix of what was
                     written since; of the unsynced changes of names, any prefix in their order

Changes of names keep their order, as on a file system with a journal; a file's bytes do not
wait for them, nor they for the bytes.  A rename is kept whole or not at all.

Failures to order: `space_left` (then ENOSPC, after a short write), `short_write_bytes` (no
append writes more), `stop_after` (that many changes and syncs are done, then Stopped is raised,
as if the process had been killed there), `sync_fails` (EIO; and what it should have synced is
lost at a power cut, even if a later sync "succeeds", as on Linux).
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, TypeAlias

from yak.storage.disk import Buffer, SyncLater, append_all


class Stopped(BaseException):
    """The process is killed at this call; nothing may catch it."""


class _File:
    """data: what a reader sees.  durable: what is on the platter.

    same: both agree below this position.  Invariant: same <= len(data), same <= len(durable).
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.same = 0

    def sync(self, end: int) -> None:
        end = min(end, len(self.data))
        if end < self.same:
            return
        self.durable[self.same :] = self.data[self.same : end]
        self.same = end

    def lose(self) -> None:
        """A sync failed: the system holds the bytes for written, and they are not."""
        self.durable[self.same :] = bytes(len(self.data) - self.same)
        self.same = len(self.data)

    def power_cut(self, rng: random.Random) -> None:
        cut_is_lost = self.same < len(self.durable) and rng.random() < 0.5
        if not cut_is_lost:
            unsynced = len(self.data) - self.same
            kept = rng.choice((0, unsynced, rng.randint(0, unsynced)))
            self.durable[self.same :] = self.data[self.same : self.same + kept]
        self.data = bytearray(self.durable)
        self.same = len(self.data)


class _Dir:
    """entries: the names a reader sees.  durable: those on the platter."""

    def __init__(self) -> None:
        self.entries: dict[str, _Node] = {}
        self.durable: dict[str, _Node] = {}


_Node: TypeAlias = _File | _Dir
#: What one operation changed: in which directory, which name, to what (None: it is gone).
_Change: TypeAlias = list[tuple[_Dir, str, _Node | None]]


class _Later:
    def __init__(self, disk: MemoryDisk, file: _File) -> None:
        self._disk, self._file, self._end = disk, file, len(file.data)

    def run(self) -> None:
        self._disk.sync_file(self._file, self._end)


class MemoryDisk:
    """See the module.  It outlives crashes: recovery opens the same one again."""

    def __init__(self) -> None:
        self._root = _Dir()
        self._unsynced: list[_Change] = []
        self._known: dict[str, _Node] = {}
        self._locks: set[str] = set()
        self.space_left: int | None = None
        self.short_write_bytes: int | None = None
        self.stop_after: int | None = None
        self.sync_fails = False

    def crash(self, kind: Literal["kill", "power"], rng: random.Random) -> None:
        self._locks.clear()
        self.stop_after = None
        if kind == "kill":
            return
        for change in self._unsynced[: rng.randint(0, len(self._unsynced))]:
            self._make_durable(change)
        self._unsynced.clear()
        self._known.clear()
        self._forget(self._root, rng)

    def _forget(self, directory: _Dir, rng: random.Random) -> None:
        directory.entries = dict(directory.durable)
        for node in directory.entries.values():
            if isinstance(node, _Dir):
                self._forget(node, rng)
            else:
                node.power_cut(rng)

    def copy_to(self, other: MemoryDisk) -> None:
        """Another disk gets all that lies here, and has it on its platter."""
        other._root = deepcopy(self._root)
        other._settle(other._root)

    def _settle(self, directory: _Dir) -> None:
        directory.durable = dict(directory.entries)
        for node in directory.entries.values():
            if isinstance(node, _Dir):
                self._settle(node)
            else:
                node.sync(len(node.data))

    def flip(self, path: str, position: int, mask: int = 1) -> None:
        """Damage one byte, on the platter as well."""
        file = self._file(path)
        file.sync(len(file.data))
        file.data[position] ^= mask
        file.durable[position] ^= mask

    # -- Names ------------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        directory = self._root
        for name in _parts(path):
            node = directory.entries.get(name)
            if node is None:
                node = _Dir()
                self._change([(directory, name, node)])
            if isinstance(node, _File):
                raise FileExistsError(errno.EEXIST, "a file is in the way", path)
            directory = node

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self._find(path), _Dir)

    def listdir(self, path: str) -> list[str]:
        return sorted(self._dir(path).entries)

    def create(self, path: str) -> None:
        directory, name = self._parent(path)
        if name in directory.entries:
            raise FileExistsError(errno.EEXIST, "the name is taken", path)
        self._change([(directory, name, _File())])

    def sync_dir(self, path: str) -> None:
        self._step()
        self._fail_sync(path)
        directory = self._dir(path)
        chosen = self._built_upon(directory)
        self._unsynced = [change for change in self._unsynced if change not in chosen]
        for change in chosen:
            self._make_durable(change)

    def _built_upon(self, directory: _Dir) -> list[_Change]:
        """The changes in a directory, and with them what they build upon.

        That is what happened to the same names, and, a rename being whole, the way to its new
        place.
        """
        names: set[tuple[int, str]] = set()
        targets: set[int] = set()
        chosen: list[_Change] = []
        while True:
            before = len(chosen)
            chosen = []
            for change in reversed(self._unsynced):
                builds = any(id(node) in targets for _, _, node in change)
                if builds or any(d is directory or (id(d), name) in names for d, name, _ in change):
                    chosen.append(change)
                    names.update((id(d), name) for d, name, _ in change)
                    if builds or len(change) > 1:
                        targets.add(id(change[-1][0]))
            if len(chosen) == before:
                return chosen[::-1]

    def rename(self, old: str, new: str) -> None:
        source, old_name = self._parent(old)
        target, new_name = self._parent(new)
        if old_name not in source.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        taken = target.entries.get(new_name)
        if isinstance(taken, _Dir) and taken.entries:
            raise OSError(errno.ENOTEMPTY, "a directory is in the way", new)
        node = source.entries[old_name]
        if isinstance(taken, _File) and taken is not node:
            self._free(len(taken.data))
        self._change([(source, old_name, None), (target, new_name, node)])

    def unlink(self, path: str) -> None:
        self._free(len(self._file(path).data))
        directory, name = self._parent(path)
        self._change([(directory, name, None)])

    def rmtree(self, path: str) -> None:
        node = self._find(path)
        if node is None:
            return
        if isinstance(node, _File):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        for name in list(node.entries):
            inside = f"{path}/{name}"
            if self.is_dir(inside):
                self.rmtree(inside)
            else:
                self.unlink(inside)
        directory, name = self._parent(path)
        self._change([(directory, name, None)])

    def remove_later(self, paths: Sequence[str]) -> Callable[[], None]:
        def remove() -> None:
            for path in paths:
                self.rmtree(path)

        return remove

    def lock(self, path: str) -> None:
        if path in self._locks:
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        if not self.exists(path):
            self.create(path)
        self._locks.add(path)

    def close(self) -> None:
        self._locks.clear()

    # -- Bytes ------------------------------------------------------------------------------------

    def append(self, path: str, buffers: Sequence[Buffer]) -> int:
        file = self._file(path)
        data = b"".join(buffers)
        if self.short_write_bytes is not None:
            data = data[: self.short_write_bytes]
        if self.space_left is not None:
            if data and not self.space_left:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            data = data[: self.space_left]
            self.space_left -= len(data)
        self._step()
        file.data += data
        return len(data)

    def pread(self, path: str, size: int, position: int) -> bytes:
        return bytes(memoryview(self._file(path).data)[position : position + size])

    def size(self, path: str) -> int:
        return len(self._file(path).data)

    def truncate(self, path: str, size: int) -> None:
        file = self._file(path)
        self._step()
        self._free(len(file.data) - size)
        del file.data[size:]
        file.same = min(file.same, size)

    def sync(self, path: str) -> None:
        file = self._file(path)
        self.sync_file(file, len(file.data))

    def sync_later(self, path: str) -> SyncLater:
        return _Later(self, self._file(path))

    def sync_by_name(self, path: str) -> None:
        self.sync(path)

    def sync_all(self) -> None:
        self._step()
        self._fail_sync("")
        self._sync_tree(self._root)
        for change in self._unsynced:
            self._make_durable(change)
        self._unsynced.clear()

    def _sync_tree(self, directory: _Dir) -> None:
        for node in directory.entries.values():
            if isinstance(node, _Dir):
                self._sync_tree(node)
            else:
                node.sync(len(node.data))

    def sync_file(self, file: _File, end: int) -> None:
        self._step()
        if self.sync_fails:
            file.lose()
        self._fail_sync("")
        file.sync(end)

    def read_file(self, path: str) -> bytes:
        return bytes(self._file(path).data)

    def write_file(self, path: str, data: bytes) -> None:
        if self.exists(path):
            self.truncate(path, 0)
        else:
            self.create(path)
        append_all(self, path, [data])

    def write_durably(self, path: str, data: bytes) -> None:
        self.write_file(path + ".tmp", data)
        self.sync(path + ".tmp")
        self.rename(path + ".tmp", path)
        self.sync_dir(path.rpartition("/")[0])

    def tree(self, path: str) -> dict[str, bytes]:
        """Every file below a directory, and what is in it."""
        found: dict[str, bytes] = {}
        for name in self.listdir(path) if self.exists(path) else ():
            inside = f"{path}/{name}"
            if self.is_dir(inside):
                found |= self.tree(inside)
            else:
                found[inside] = self.read_file(inside)
        return found

    def durable(self, path: str) -> dict[str, bytes]:
        """Likewise, but what the platter holds: all that a power cut is sure to leave."""
        node: _Node | None = self._root
        for name in _parts(path):
            node = node.durable.get(name) if isinstance(node, _Dir) else None
        return _durable(node, path) if isinstance(node, _Dir) else {}

    # -- Inside -----------------------------------------------------------------------------------

    def _fail_sync(self, path: str) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, "Input/output error", path)

    def _step(self) -> None:
        if self.stop_after is not None:
            if not self.stop_after:
                raise Stopped
            self.stop_after -= 1

    def _free(self, size: int) -> None:
        if self.space_left is not None:
            self.space_left += size

    def _change(self, change: _Change) -> None:
        self._step()
        for directory, name, node in change:
            if node is None:
                directory.entries.pop(name, None)
            else:
                directory.entries[name] = node
        self._unsynced.append(change)
        self._known.clear()

    @staticmethod
    def _make_durable(change: _Change) -> None:
        for directory, name, node in change:
            if node is None:
                directory.durable.pop(name, None)
            else:
                directory.durable[name] = node

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._known.get(path)
        if node is not None:
            return node
        node = self._root
        for name in _parts(path):
            node = node.entries.get(name) if isinstance(node, _Dir) else None
        if node is not None:
            self._known[path] = node
        return node

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if isinstance(node, _Dir):
            raise IsADirectoryError(errno.EISDIR, "a directory", path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return node

    def _dir(self, path: str) -> _Dir:
        node = self._find(path)
        if isinstance(node, _File):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        return node

    def _parent(self, path: str) -> tuple[_Dir, str]:
        parts = _parts(path)
        return self._dir("/" + "/".join(parts[:-1])), parts[-1]


def _durable(directory: _Dir, path: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, node in directory.durable.items():
        inside = f"{path}/{name}"
        if isinstance(node, _Dir):
            found |= _durable(node, inside)
        else:
            found[inside] = bytes(node.durable)
    return found


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
