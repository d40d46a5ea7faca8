"""A data directory: whose it is, its lock, and what must be known before the log is read.

    data/broker-1/lock         held by the process that runs here, for as long as it lives
    data/broker-1/meta.json    {"format":1,"kind":"broker","broker":1,"cluster":"…","disk":"…",
                                "epoch":3,"lineage":["…"],"suspect":null,
                                "running":{"inc":"…","boot_id":"…","fsync":"always"},
                                "crc":"9ae0daaf"}

Rules:

* meta.json is replaced whole and durably, before anything that depends on it happens.
* `crc`, always last, is CRC-32C of all that stands before its comma (in yak-zk's state.json, too):
  a digit that changed would be another epoch or another disk, and nobody would notice.
* A directory belongs to one kind of process, one broker id, and once it has joined, one cluster.
  Anything else, and a directory with other things in it, is refused with one line.
* `running` is there from `mark_running` to `mark_stopped`.  Found at the start, the last run did
  not end in order:

      the same boot id                          | whole: the page cache has what was written
      another boot id, fsync=always             | whole: what counted was synced
      another boot id, another fsync            | unclean: the end of the log may be missing

  Without a boot id to be had, every boot counts as another one.
* `lineage`: a mark for each run, from before its join, and for its orderly end, from before its
  goodbye.  yak-zk keeps the newest it has heard of; an older copy of the directory lacks it.
* `suspect` says why this disk may lack what it once had ("torn", "damaged", "unclean").  It is
  written before anything is cut, and stays until yak-zk has recorded it (`recorded`).
* `rewrite_from` names the first operation that a failed sync may have lost.  The next start
  writes the log again from there, into new files, before anything of it counts.

It does not know the log, the partitions, or what yak-zk decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from yak.config import BOOT_ID_PATH
from yak.core.ops import crc_of
from yak.errors import Fatal
from yak.messages import LogState
from yak.storage.disk import SHORTAGES, UNFINISHED, Disk
from yak.storage.faults import StorageError

FORMAT: Final = 1
#: Marks that a directory keeps while it cannot know that yak-zk heard of a newer one.  One that had
#: to forget some passes for an older copy at worst, and is filled by the leader.
LINEAGE_MAX: Final = 100
#: In a data directory: what was damaged, in numbered directories.
DAMAGED: Final = "damaged"
_CRC_TAIL_BYTES: Final = len(b',\n  "crc": "00000000"\n}\n')

Kind: TypeAlias = Literal["broker", "zookeeper"]

#: How much may be missing, from nothing to anything.
_SEVERITY: Final[tuple[LogState, ...]] = ("whole", "torn", "unclean", "damaged")
#: What only yak's directories hold; without meta.json, which was lost then.
_OURS: Final = frozenset({"oplog", "checkpoint.json", "state.json"})
#: What may lie in a directory that is not yet yak's: a mount point's own, and what a first
#: start leaves that was killed before it wrote meta.json.
_HARMLESS: Final = frozenset({"lost+found", "lock", f"meta.json{UNFINISHED}"})


class Running(msgspec.Struct, frozen=True):
    """The run that has not ended yet.  inc: its incarnation; fsync: its mode."""

    inc: str
    boot_id: str
    fsync: str


class Meta(msgspec.Struct, kw_only=True):
    """meta.json.  broker: 0 for yak-zk.  cluster: null before the first join.

    disk: this directory's own id.  epoch: the highest one that the broker has persisted.
    lineage: marks of its runs and their ends, newest last.
    rewrite_from: the first operation that a failed sync may have lost.
    set_aside: the log and the partition files are damaged, and are to be moved out of the way.
    """

    format: int
    kind: Kind
    broker: int
    cluster: str | None = None
    disk: str
    epoch: int = 0
    lineage: list[str] = []
    suspect: LogState | None = None
    rewrite_from: int | None = None
    set_aside: bool = False
    running: Running | None = None


class _Version(msgspec.Struct):
    format: int


def worse(one: LogState, other: LogState) -> LogState:
    """The state in which more may be missing."""
    return max(one, other, key=_SEVERITY.index)


def write_json_durably(disk: Disk, path: str, content: Any) -> None:
    """Replace a file by this JSON object and its crc.

    After a stop of any kind the old one or the new one is there.
    """
    head = msgspec.json.format(msgspec.json.encode(content), indent=2)[:-2]
    disk.write_durably(path, head + _crc_tail(head))


def check_json(data: bytes) -> None:
    """Raises ValueError where it is not, byte for byte, what `write_json_durably` wrote."""
    tail = _crc_tail(data[:-_CRC_TAIL_BYTES])
    if data[-_CRC_TAIL_BYTES:] != tail:
        raise ValueError(f"it does not end with its crc, which would be {tail[-12:-4].decode()!r}")


def _crc_tail(head: bytes) -> bytes:
    return b',\n  "crc": "%s"\n}\n' % crc_of(head).encode()


def read_boot_id(path: str = BOOT_ID_PATH) -> str:
    """This boot's id, or "" where the system does not tell."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class DataDir:
    """An open, locked directory.  Made by `open`.

    path: of the directory.  meta: what meta.json holds; changed only by the methods here.
    """

    def __init__(self, disk: Disk, path: str, meta: Meta) -> None:
        self.disk = disk
        self.path = path
        self.meta = meta

    @classmethod
    def open(
        cls,
        disk: Disk,
        path: str,
        *,
        kind: Kind,
        broker: int = 0,
        boot_id: str = "",
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> DataDir:
        """Lock the directory and read what it is; a new one is made.  Raises Fatal.

        boot_id: of the running boot.  new_id: gives a new directory its disk id.
        """
        try:
            _prepare(disk, path)
            _lock(disk, path, kind)
            file = f"{path}/meta.json"
            if disk.exists(file):
                meta = _read_meta(disk, file)
                _check_owner(path, meta, kind, broker)
                directory = cls(disk, path, meta)
                directory._judge_last_run(boot_id)
            else:
                meta = Meta(format=FORMAT, kind=kind, broker=broker, disk=new_id())
                directory = cls(disk, path, meta)
                directory._save()
        except OSError as e:
            raise Fatal(
                f"data directory {path}: {e.strerror or e}; give a directory that this user may "
                "write to, with --data-dir"
            ) from e
        return directory

    @property
    def state(self) -> LogState:
        """What is known of this disk before its log is read."""
        return self.meta.suspect or "whole"

    def save_epoch(self, epoch: int) -> None:
        """Raises StorageError where the disk is full; then the older one stands, for a retry."""
        before = self.meta.epoch
        assert epoch >= before, (epoch, before)
        if epoch == before:
            return
        self.meta.epoch = epoch
        try:
            self._save()
        except Fatal as fatal:
            cause = fatal.__cause__
            if not isinstance(cause, OSError) or cause.errno not in SHORTAGES:
                raise
            self.meta.epoch = before
            raise StorageError(f"epoch {epoch} cannot be saved: {cause.strerror}") from fatal

    def save_cluster(self, cluster: str) -> None:
        assert self.meta.cluster in (None, cluster), (cluster, self.meta.cluster)
        if cluster != self.meta.cluster:
            self.meta.cluster = cluster
            self._save()

    def take_over(self, cluster: str) -> None:
        """yak-zk keeps this cluster from now on, whatever it kept before: an operator's `adopt`."""
        if cluster != self.meta.cluster:
            self.meta.cluster = cluster
            self._save()

    def mark_running(self, *, inc: str, boot_id: str, fsync: str) -> None:
        """From now on an end without `mark_stopped` is noticed at the next start."""
        self.meta.running = Running(inc, boot_id, fsync)
        self._add_mark(inc)
        self._save()

    def mark_leaving(self) -> None:
        """A copy that was made of this run is older from now on, unless that cannot be saved."""
        before = self.meta.lineage
        self._add_mark(f"{before[-1]}.ended" if before else "ended")
        try:
            self._save()
        except Fatal:
            self.meta.lineage = before  # yak-zk must not hear of what the next start does not know
            raise

    def mark_stopped(self) -> None:
        """The run ends in order.  What counted must be durable by now, whatever fsync mode."""
        self.meta.running = None
        self._save()

    def suspect(self, state: LogState) -> None:
        """Remember, before anything is cut, that something may be missing here."""
        found = worse(self.state, state)
        if found != self.state:
            self.meta.suspect = found
            self._save()

    def sync_failed(self, durable: int) -> None:
        """A sync failed, and the process is about to stop; operations up to `durable` are safe.

        The system may think the rest written: only writing it again, elsewhere, makes it so.
        """
        self.meta.rewrite_from = min(self.meta.rewrite_from or durable + 1, durable + 1)
        self.meta.suspect = worse(self.state, "unclean")
        try:
            self._save()
        except Fatal:
            # Where not even this becomes durable, a start of the same boot can still see it.
            file = f"{self.path}/meta.json"
            with suppress(OSError, msgspec.MsgspecError):
                written = self.disk.read_file(file + UNFINISHED)
                if msgspec.json.decode(written, type=Meta) == self.meta:
                    self.disk.rename(file + UNFINISHED, file)
            raise

    @property
    def rewrite_from(self) -> int | None:
        """The first operation that must be written again, if there is one."""
        return self.meta.rewrite_from

    def rewritten(self) -> None:
        """What a failed sync may have lost is in new, synced files."""
        if self.meta.rewrite_from is not None:
            self.meta.rewrite_from = None
            self._save()

    def is_damaged(self) -> None:
        """What is here cannot be relied upon: the next start begins without it."""
        self.meta.suspect = "damaged"
        self.meta.set_aside = True
        self._save()

    def was_set_aside(self) -> None:
        self.meta.set_aside = False
        self._save()

    def recorded(self) -> None:
        """yak-zk has recorded this run, and of what this disk is suspected: that decides now.

        Older marks are forgotten, with whatever is saved next.
        """
        lineage, running = self.meta.lineage, self.meta.running
        if running is not None and running.inc in lineage:
            self.meta.lineage = lineage[lineage.index(running.inc) :]
        if self.meta.suspect is not None:
            self.meta.suspect = None
            self._save()

    def _add_mark(self, mark: str) -> None:
        lineage = [*self.meta.lineage, mark]
        if len(lineage) > LINEAGE_MAX:
            del lineage[1]  # the first is one that yak-zk was known to have
        self.meta.lineage = lineage

    def _judge_last_run(self, boot_id: str) -> None:
        last = self.meta.running
        if last is None or last.fsync == "always" or (boot_id and last.boot_id == boot_id):
            return
        self.suspect("unclean")

    def _save(self) -> None:
        file = f"{self.path}/meta.json"
        try:
            write_json_durably(self.disk, file, self.meta)
        except OSError as e:
            raise Fatal(
                f"{file} cannot be written: {e.strerror or e}; make room or mend the disk, then "
                "start this process again"
            ) from e


def _prepare(disk: Disk, path: str) -> None:
    """The directory is there, and is ours or nobody's."""
    if disk.exists(path) and not disk.is_dir(path):
        raise Fatal(
            f"data directory {path}: a file is in the way; move it, or give another directory "
            "with --data-dir"
        )
    _make_durably(disk, path)
    names = disk.listdir(path)
    foreign = [name for name in names if name not in _HARMLESS]
    if foreign and "meta.json" not in names:
        lost = sorted(_OURS.intersection(foreign))
        if lost:
            raise Fatal(
                f"data directory {path}: meta.json is gone, though {lost[0]} is there; copy it "
                "back from a backup, or keep this directory elsewhere and start with an empty one: "
                "a broker is filled by the leader then, and yak-zk waits for `yak zk adopt`"
            )
        raise Fatal(
            f"data directory {path}: there is no meta.json in it, but {foreign[0]!r}, so it is "
            "not yak's; give an empty or a new directory with --data-dir"
        )


def _make_durably(disk: Disk, path: str) -> None:
    """A directory and its name in the one above, and so on up to one that was there.

    After a power cut it must not be gone with all that was synced in it.
    """
    missing = []
    while not disk.exists(path):
        missing.append(path)
        path = _above(path)
    for name in reversed(missing):
        disk.mkdir(name)
        disk.sync_dir(_above(name))


def _above(path: str) -> str:
    head, slash, _ = path.rpartition("/")
    return head or slash or "."


def _lock(disk: Disk, path: str, kind: Kind) -> None:
    try:
        disk.lock(f"{path}/lock")
    except BlockingIOError as e:
        name = "broker" if kind == "broker" else "yak-zk"
        raise Fatal(
            f"data directory {path}: another {name} runs on this directory; stop that one first, "
            "or give this one its own with --data-dir"
        ) from e


def _read_meta(disk: Disk, file: str) -> Meta:
    data = disk.read_file(file)
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version != FORMAT:
            raise Fatal(
                f"{file}: format {version}, but this version of yak reads format {FORMAT}; "
                "start the yak that wrote it, or give another directory with --data-dir"
            )
        meta = msgspec.json.decode(data, type=Meta)
        check_json(data)
        return meta
    except (msgspec.MsgspecError, ValueError) as e:
        raise Fatal(
            f"{file}: not what yak writes there: {e}; keep the directory, and copy meta.json "
            "back from a backup, or start with a new directory, which the leader fills"
        ) from e


def _check_owner(path: str, meta: Meta, kind: Kind, broker: int) -> None:
    if (meta.kind, meta.broker) == (kind, broker):
        return
    owner = f"broker {meta.broker}" if meta.kind == "broker" else "yak-zk"
    this = f"broker {broker}" if kind == "broker" else "yak-zk"
    raise Fatal(
        f"data directory {path}: it belongs to {owner}, and this is {this}; give this one its "
        "own with --data-dir"
    )
