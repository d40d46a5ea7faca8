"""File systems of a test's own: small ones that it fills, freezes, and whose power it cuts.

    with mounted(tmp_path / "broker-1", 64 * MIB, "ext4") as disk:
        disk.fill()             nothing more fits: ENOSPC
        disk.make_room()
        disk.freeze()           whoever writes or syncs waits, until `thaw`
        disk.cut_power()        nothing more reaches the disk; then its processes are killed, and
        disk.power_again()      what the journal has is what there is

* "tmpfs" lives in memory and can be filled; "ext4" lies in a file behind a loop device and can do
  all of it.  Both take root; `missing(kind)` says why this machine has none.
* A power cut is the file system's own (EXT4_IOC_SHUTDOWN without a flush of its journal): what is
  in the page cache and was not synced is gone, names as well as bytes.
* Whatever a test leaves it in: `close` thaws it and unmounts it.

It starts and ends no process but `mount`, `umount` and `mkfs.ext4`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["tmpfs", "ext4"]

#: What `fill` writes to.
BALLAST: Final = "ballast"

#: _IOR('X', 125, __u32): shut the file system down; 2: without flushing its journal.
_SHUTDOWN: Final = 0x8004587D
_WITHOUT_FLUSH: Final = struct.pack("I", 2)
#: _IOWR('X', 119, int) and _IOWR('X', 120, int).
_FREEZE: Final = 0xC0045877
_THAW: Final = 0xC0045878


class Mount:
    """A mounted file system.  Made by `mounted`, or closed by who made it."""

    def __init__(self, path: Path, size: int, kind: Kind) -> None:
        self.path = path
        self.kind = kind
        self._filled = False
        self._image = path.with_name(path.name + ".image")
        path.mkdir(parents=True, exist_ok=True)
        if kind == "tmpfs":
            _run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path))
            return
        with self._image.open("wb") as file:
            file.truncate(size)
        try:
            # No blocks are put by for root, who runs the brokers here.
            _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            self._mount_image()
        except BaseException:
            self._image.unlink()
            raise

    def _mount_image(self) -> None:
        _run("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.path))

    def fill(self, *, but: int = 0) -> None:
        """Take all the room but some bytes, while others may be writing."""
        self._filled = True
        with (self.path / BALLAST).open("ab") as file:
            while (free := shutil.disk_usage(self.path).free - but) > 0:
                while free > 0:
                    try:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
                    except OSError as e:
                        if e.errno != errno.ENOSPC:
                            raise
                        free //= 2  # somebody was faster, or the blocks' own list took some
                    else:
                        break
                if free <= 0:
                    return

    def make_room(self) -> None:
        self._filled = False
        (self.path / BALLAST).unlink(missing_ok=True)

    def freeze(self) -> None:
        self._ioctl(_FREEZE, struct.pack("i", 0))

    def thaw(self) -> None:
        """Nothing where it is not frozen, or cannot be."""
        with contextlib.suppress(OSError):
            self._ioctl(_THAW, struct.pack("i", 0))

    def cut_power(self) -> None:
        self._ioctl(_SHUTDOWN, _WITHOUT_FLUSH)

    def power_again(self) -> None:
        """Once no process has a file here open: mounted anew, its journal replayed."""
        _run("umount", str(self.path))
        self._mount_image()
        if not self._filled:
            self.make_room()  # that it was removed may not have reached the disk

    def _ioctl(self, number: int, argument: bytes) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, number, argument)
        finally:
            os.close(fd)

    def close(self) -> None:
        if self.kind == "ext4":
            self.thaw()
        if self.path.is_mount():
            _run("umount", "--lazy", str(self.path))
        self._image.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted(path: Path, size: int, kind: Kind) -> Iterator[Mount]:
    mount = Mount(path, size, kind)
    try:
        yield mount
    finally:
        mount.close()


@functools.cache
def missing(kind: Kind) -> str:
    """Why this machine has no such file system to give, or ""."""
    for tool in ("mount", "umount") + (("mkfs.ext4",) if kind == "ext4" else ()):
        if shutil.which(tool) is None:
            return f"no `{tool}`"
    if os.geteuid() != 0:
        return "not root: nothing can be mounted"
    with tempfile.TemporaryDirectory() as directory:
        try:
            with mounted(Path(directory) / "tried", 8 * 1024 * 1024, kind) as mount:
                if kind == "ext4":
                    mount.cut_power()
        except OSError as e:
            return f"no {kind} can be mounted, or none whose power can be cut: {e}"
    return ""


def _run(*argv: str) -> None:
    """A command that has to go well; OSError with what it says."""
    ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    if ended.returncode:
        raise OSError(f"{' '.join(argv)}: {ended.stderr.strip()}")
