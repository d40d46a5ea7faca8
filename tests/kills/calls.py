"""The system calls by which a process changes its disk, and a kill before the Nth of one kind.

    traced(act, begin, notes)          what an untouched run of `act` does to the disk
    traced(act, begin, notes, kill=c)  the same, and the process dies instead of doing `c`

* `act` runs in a forked child, which is one thread, so that its Nth call of a kind is the same one
  in every run; `begin` runs there before anybody looks.
* Killed *before* each call is killed after the one before it: nothing else changes the disk.
* Only calls that change it count.  strace counts the others of that name as well, as an `openat`
  to read, so each keeps the number that strace gives it.

It does not know what the calls are for.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tests.fault.strace import Injected

T = TypeVar("T")

#: All by which Python and yak change files and names.
CALLS: Final = (
    *("openat", "write", "writev", "pwrite64", "ftruncate", "truncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("fsync", "fdatasync", "syncfs", "copy_file_range", "sendfile"),
)
#: Of these only what goes to a file.
_WRITES: Final = frozenset({"write", "writev", "pwrite64", "sendfile", "copy_file_range"})
_LINE: Final = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
_PATH: Final = re.compile(r'<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')


class Call(NamedTuple):
    """The `number`th call of this name in its thread.  where: the file, from the directory on."""

    name: str
    number: int
    where: str

    def __str__(self) -> str:
        return f"{self.name} {self.number} ({self.where})"


def changes(notes: Path, directory: Path) -> list[Call]:
    """The calls that change files in a directory, as strace noted them with `-f -y`."""
    return list(_changes(notes.read_text(errors="replace").splitlines(), directory))


def _changes(lines: Iterable[str], directory: Path) -> Iterable[Call]:
    counts = Counter[tuple[str, str]]()
    for line in lines:
        found = _LINE.match(line)
        if found is None or " resumed>" in line:
            continue
        thread, name, rest = found.groups()
        counts[thread, name] += 1
        where = _place(name, rest, directory)
        if where is not None:
            yield Call(name, counts[thread, name], where)


def killed(notes: Path, directory: Path) -> Call | None:
    """The call instead of which the process was killed; None where that changes nothing."""
    lines = notes.read_text(errors="replace").splitlines()
    if not any("+++ killed by SIGKILL" in line for line in lines):
        return None
    cut = [number for number, line in enumerate(lines) if line.rstrip().endswith("= ?")]
    return next(reversed(list(_changes(lines[: cut[-1] + 1], directory))), None) if cut else None


def _place(name: str, rest: str, directory: Path) -> str | None:
    """What a call changes in the directory; None where it changes nothing there."""
    if " = -1 E" in rest:
        return None  # refused, as the making of a directory that is there
    if name == "openat" and "O_CREAT" not in rest and "O_TRUNC" not in rest:
        return None
    paths = [held or named for held, named in _PATH.findall(rest)]
    if name in _WRITES:
        paths = paths[:1]
        if not rest.partition("<")[2].startswith("/"):
            return None  # a socket or a pipe
    if name.startswith("rename"):
        whole = paths[-1]
    else:  # beside the directory that it is in, as `unlinkat` has it
        whole = str(Path(*paths[:2])) if name.endswith("at") else paths[0]
    home = str(directory)
    return whole.removeprefix(home).lstrip("/") or "." if whole.startswith(home) else None


def traced(
    begin: Callable[[], T],
    act: Callable[[T], None],
    notes: Path,
    kill: Call | None = None,
) -> bool:
    """Run both in a child, `act` under strace's eyes; whether it was killed.

    Raises AssertionError where it failed by itself: its traceback is on stderr.
    """
    told, tell = os.pipe()
    may_go, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        _live(begin, act, tell, may_go)
    os.close(tell)
    os.close(may_go)
    try:
        assert os.read(told, 1), "it failed before anybody looked"
        what = "" if kill is None else f"signal=KILL:when={kill.number}"
        which = "" if kill is None else kill.name
        with Injected(child, ",".join(CALLS), what, which=which, notes=notes) as strace:
            os.write(go, b"!")
            os.close(go)
            go = -1
            strace.wait_end()
    finally:
        os.close(told)
        if go >= 0:
            os.close(go)  # nobody lets it go on: it ends by itself
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -9), f"it ended with {code}"
    return code == -9


def _live(begin: Callable[[], T], act: Callable[[T], None], tell: int, may_go: int) -> None:
    """The child's life; it never returns."""
    code = 1
    try:
        begun = begin()
        os.write(tell, b"!")
        # Whoever is traced while it waits here does nothing before it is.
        if os.read(may_go, 1):
            act(begun)
            code = 0
    except BaseException:  # noqa: BLE001 -- shown, and said by the exit code
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)
