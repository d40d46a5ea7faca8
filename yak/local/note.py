"""yak.json: what runs on this machine, where it listens, and how every other command finds it.

    data/yak.json   {"format":1,"bootstrap":"127.0.0.1:9092,…","zk":"127.0.0.1:2181",
                     "members":[{"id":0,"name":"yak-zk","pid":4711,"born":"…",
                                 "address":"127.0.0.1:2181","data_dir":"…","log":"…",
                                 "argv":["yak-zk","--port","2181",…]},…]}

Rules:

* `yak up` writes it before it waits for anything, and whoever stops the cluster removes it.  What
  a kill or a power cut left is stale: none of its processes is alive.
* It is looked for as `data/yak.json` and `yak.json` in the working directory, then in each
  directory above it.  Only one with a process that lives counts.
* It is replaced whole, so that nobody reads half of it.

It says what was started, not how it is: that the brokers say.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from yak.errors import Fatal
from yak.local.pids import Pid

NAME: Final = "yak.json"
FORMAT: Final = 1
#: Held by who starts a cluster, until it is ready.
_LOCK: Final = "yak.lock"
#: Where the default of `--data-dir` is, below the working directory.
DEFAULT_DIRECTORY: Final = "data"
#: yak-zk among the members, where brokers have their ids.
ZK: Final = 0
#: The relay, which is no member.
RELAY: Final = -1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One process.  id: the broker's, or 0 for yak-zk.

    argv starts it again, with these YAK_* in its environment; log is what it wrote to stderr.
    """

    id: int
    name: str
    pid: int
    born: str
    address: str
    data_dir: str
    log: str
    argv: list[str]
    env: dict[str, str] = {}

    @property
    def process(self) -> Pid:
        return Pid(self.pid, self.born)


class Note(msgspec.Struct, kw_only=True):
    """What yak.json holds; yak-zk comes first among the members.

    relay: of the doors between them (doors.py), where there are any; its address takes orders.
    """

    format: int = FORMAT
    bootstrap: str
    zk: str
    members: list[Member]
    relay: Member | None = None

    @property
    def all(self) -> list[Member]:
        """With the relay, which comes first: without it, nobody reaches anybody."""
        return [*([self.relay] if self.relay is not None else []), *self.members]

    @property
    def alive(self) -> list[Member]:
        return [one for one in self.members if one.process.alive]


def name_of(member: int) -> str:
    return "yak-zk" if member == ZK else f"broker-{member}"


def read(directory: Path) -> Note | None:
    """That of this data directory; None where there is none.  Raises Fatal."""
    path = directory / NAME
    try:
        note = msgspec.json.decode(path.read_bytes(), type=Note)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as e:
        raise Fatal(
            f"{path} cannot be read: {e}; if no cluster runs there, remove it and start again"
        ) from e
    if note.format != FORMAT:
        raise Fatal(f"{path} has format {note.format}: the yak that wrote it must stop it")
    return note


def write(directory: Path, note: Note) -> None:
    """Raises Fatal."""
    path = directory / NAME
    whole = directory / f"{NAME}.tmp"
    try:
        whole.write_bytes(msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n")
        whole.replace(path)
    except OSError as e:
        raise Fatal(f"{path} cannot be written: {e.strerror}; choose with --data-dir") from e


def remove(directory: Path) -> None:
    (directory / NAME).unlink(missing_ok=True)


@contextmanager
def starting(directory: Path, *, waits: bool = False) -> Iterator[None]:
    """Nobody else starts or completes a cluster there meanwhile.  Raises Fatal.

    waits: for another one who does.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / _LOCK).open("wb")
    except OSError as e:
        raise Fatal(
            f"{e.filename or directory} cannot be made: {e.strerror}; choose another place with "
            "--data-dir"
        ) from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError as e:
            raise Fatal(
                f"another `yak up` starts a cluster in {directory} just now: wait for it"
            ) from e
        yield


def nearest(start: Path | None = None) -> Path | None:
    """The data directory of the cluster that is meant here, alive or not."""
    try:
        here = (start or Path()).resolve()
    except OSError:  # the working directory was removed
        return None
    for above in (here, *here.parents):
        for directory in (above / DEFAULT_DIRECTORY, above):
            if os.access(directory / NAME, os.R_OK):
                return directory
    return None


def home_of(bootstrap: str) -> Path | None:
    """The data directory of the cluster that is meant here, if these are its brokers."""
    found = running()
    return nearest() if found is not None and found.bootstrap == bootstrap else None


def running(start: Path | None = None) -> Note | None:
    """Of the cluster that is meant here, if it is alive."""
    directory = nearest(start)
    if directory is None:
        return None
    try:
        note = read(directory)
    except Fatal:  # a client that was told nothing goes by the default ports
        return None
    return note if note is not None and note.alive else None
