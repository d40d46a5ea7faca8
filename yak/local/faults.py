"""Faults that are in force: a note of each, from which it can be undone by whoever comes next.

    data/chaos/now.json       [{"kind":"kill","members":[1],"since":…,"by":4711,…}]
    data/chaos/events.jsonl   {"time":…,"process":"chaos","event":"fault","kind":"kill",…}

Rules:

* A fault is noted before it is done, and struck out once it is undone.  One whose maker no longer
  lives was left behind: the next `yak chaos`, `yak up` or `yak down` undoes it (chaos.py).
* The events are a story like those of the cluster's processes, and stay.

It hurts nobody, and mends nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from yak.errors import Fatal
from yak.explain.facts import Event
from yak.explain.faults import Kind, done
from yak.local.pids import Pid, born
from yak.storage.disk import OsDisk
from yak.storage.story import Story

PROCESS: Final = "chaos"
_DIRECTORY: Final = "chaos"
_NOW: Final = "now.json"
_LOCK: Final = "lock"
#: Of the story so much is shown as what happened last: some fifty faults.
_RECENT_BYTES: Final = 16 * 1024


class Fault(msgspec.Struct, kw_only=True, frozen=True):
    """One fault.  members: who is hurt; 0 is yak-zk.

    since: ms since 1970.  for_ms: how long it lasts; None until it is ended.
    command: who did it, in words.  by, by_born: that process.  pid, pid_born: the one it was done
    to.  one_way, late_ms: of cut and slow.  before: what fill has to set again.
    """

    kind: Kind
    members: list[int]
    since: int
    for_ms: int
    command: str
    by: int
    by_born: str
    pid: int = 0
    pid_born: str = ""
    one_way: bool = False
    late_ms: int | None = None
    before: int = -1

    def words(self, now_ms: int) -> str:
        """`yak chaos: broker 1 was killed, for 3 s more`"""
        left = max(0, self.since + self.for_ms - now_ms) / 1000
        what = done(self.kind, self.members, one_way=self.one_way, late_ms=self.late_ms)
        return f"yak chaos: {what}, for {left:.0f} s more"

    @property
    def maker(self) -> Pid:
        return Pid(self.by, self.by_born)

    @property
    def victim(self) -> Pid:
        return Pid(self.pid, self.pid_born)


def own() -> Pid:
    """This process."""
    return Pid(os.getpid(), born(os.getpid()))


def directory(data_dir: Path) -> Path:
    return data_dir / _DIRECTORY


def now(data_dir: Path) -> list[Fault]:
    """All that are noted; none where the note cannot be read."""
    try:
        return msgspec.json.decode((directory(data_dir) / _NOW).read_bytes(), type=list[Fault])
    except (OSError, msgspec.MsgspecError):
        return []


def write_down(data_dir: Path, fault: Fault) -> None:
    """Before it is done.  Raises Fatal."""
    with _changing(data_dir) as faults:
        faults.append(fault)


def strike_out(data_dir: Path, fault: Fault) -> None:
    """After it was undone.  Raises Fatal."""
    with _changing(data_dir) as faults:
        faults[:] = [one for one in faults if one != fault]


@contextmanager
def _changing(data_dir: Path) -> Iterator[list[Fault]]:
    home = directory(data_dir)
    whole = home / f"{_NOW}.tmp"
    try:
        home.mkdir(exist_ok=True)
        with (home / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            faults = now(data_dir)
            yield faults
            whole.write_bytes(msgspec.json.encode(faults) + b"\n")
            whole.replace(home / _NOW)
    except OSError as e:
        raise Fatal(
            f"{home} cannot be written: {e.strerror}; what is done to a cluster is noted there, "
            "so that it can be undone: make room, or look whose directory it is"
        ) from e


def events(data_dir: Path) -> Path:
    """The story of all faults."""
    return directory(data_dir) / "events.jsonl"


def tell(data_dir: Path, event: str, fault: Fault, **fields: Any) -> None:
    """A line of it; never fails."""
    told: dict[str, Any] = {"kind": fault.kind, "members": fault.members, "command": fault.command}
    if fault.kind in ("cut", "slow"):
        told |= {"one_way": fault.one_way, "late_ms": fault.late_ms}
    with closing(OsDisk(max_open_files=1)) as disk:
        Story(PROCESS, str(events(data_dir)), None, disk=disk).tell(event, **told, **fields)


def in_force(data_dir: Path) -> list[Fault]:
    """Those whose maker lives."""
    return [one for one in now(data_dir) if one.maker.alive]


def recent(data_dir: Path) -> list[Event]:
    """The last lines of the story, oldest first; lines that are none go."""
    try:
        with events(data_dir).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _RECENT_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(msgspec.MsgspecError, KeyError):
            fields = msgspec.json.decode(line, type=dict[str, Any])
            head = fields.pop("time"), fields.pop("process"), fields.pop("event")
            found.append(Event(*head, fields))
    return found
