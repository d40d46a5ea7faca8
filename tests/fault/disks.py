"""Faults of disks: full, hanging, failing, without power, and other bytes than were written.

    full disk       another file takes all its room              goes on with room, or starts again
    disk hangs      frozen: nobody writes, nobody syncs          looks dead, goes on
    fsync hangs     no sync ends (strace)                        looks dead, goes on
    fsync fails     EIO (strace)                                 ends at once; joins as unclean
    power cut       what was not synced is gone                  nothing acknowledged is lost
    torn, flipped   the log's end; a bit of the log, of a        it is cut, or filled by the leader
                    record, of the checkpoint
    wiped           nothing is left                              filled by the leader
    older copy      of the directory, in its place; the next     filled by the leader
                    time the newer one, which is older by then

Each process's directory is an ext4 of its own behind a loop device; where that cannot be had a
tmpfs, or a part of the machine's disk.  Faults that need more than there is say so by `missing`.

Who is damaged may lack what it acknowledged: one at a time, while all others are whole and in
sync.  A power cut counts so wherever fsync is not "always", and is of one broker at a time there.
yak-zk syncs always, ends where its disk refuses, and its state is never damaged: that is not
promised.

When the file systems go, what was in them lies where they were: for whoever looks at a failed run.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from tests.fault import damage, strace
from tests.fault.fault import Fault, UnableError, Whom
from tests.fault.field import Field, name, names
from tests.fault.roads import ZK
from tests.fault.strace import SYNCS, Injected
from tests.support.logfiles import partition_dir, segments
from tests.support.mounts import BALLAST, Kind, Mount, missing
from tests.support.process import wait_until
from tests.support.wire import Wire

#: Of one process: a journal, all that a run keeps, and little to fill.
DISK_BYTES: Final = 256 * 1024 * 1024
#: Syncs come all the while; one of them fails within this.
FAILS_S: Final = 10.0
#: A broker notices a flipped bit, and is filled, within this.
SCRUBBED_S: Final = 60.0
#: A follower has heard who leads, and yak-zk that it is whole, so soon after all is well.
WHOLE_S: Final = 3.0
#: One question.
ASK_S: Final = 2.0


@contextlib.contextmanager
def prepared(field: Field) -> Iterator[None]:
    """File systems, and a boot id of its own for each broker; before any process starts."""
    kinds: tuple[Kind, ...] = ("ext4", "tmpfs")
    kind = next((kind for kind in kinds if not missing(kind)), None)
    with contextlib.ExitStack() as stack:
        if kind is not None:
            for number, path in field.disks.items():
                field.mounts[number] = stack.enter_context(_kept(path, kind))
        for broker in field.brokers:
            boot_id = field.boot_ids[broker] = field.cluster.directory / f"boot-id-{broker}"
            _new_boot(boot_id)
            field.cluster.options_of[broker] = [
                *field.cluster.options_of.get(broker, ()),
                *("--boot-id-path", str(boot_id)),
            ]
        yield


@contextlib.contextmanager
def _kept(path: Path, kind: Kind) -> Iterator[Mount]:
    """What is in it when its processes have ended is found at the same place afterwards."""
    copy = path.with_name(path.name + ".copy")
    mount = Mount(path, DISK_BYTES, kind)
    try:
        yield mount
    finally:
        mount.thaw()
        with contextlib.suppress(OSError, shutil.Error):  # one that is shut down is not read
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns(BALLAST, "lost+found"))
        mount.close()
        shutil.copytree(copy, path, dirs_exist_ok=True)
        shutil.rmtree(copy)


def _new_boot(path: Path) -> None:
    path.write_text(f"{uuid.uuid4()}\n")


class _OfDisk(Fault):
    """It may end the process, which runs again in the end."""

    apart = "process"

    def __init__(self) -> None:
        self._victims: list[int] = []

    def _excuse(self, field: Field, *victims: int) -> None:
        for victim in victims:
            field.may_end(victim)
            self._victims.append(victim)

    def end(self, field: Field) -> None:
        while self._victims:
            field.must_live(self._victims.pop())


class FullDisk(_OfDisk):
    kind = "full disk"
    whom = "process"
    lasts_s = (0.5, 5.0)
    share = 2

    def missing(self, field: Field) -> str:
        return missing("tmpfs")

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._excuse(field, victim)
        left = chance.choice((0, 10_000, 100_000))
        field.mounts[victim].fill(but=left)
        return f"{left} bytes are left to {name(victim)}"

    def end(self, field: Field) -> None:
        for victim in self._victims:
            field.mounts[victim].make_room()
        super().end(field)


class Frozen(Fault):
    kind = "disk hangs"
    apart = "process"
    whom = "process"
    lasts_s = (0.2, 6.0)

    def __init__(self) -> None:
        self._victim: int | None = None

    def missing(self, field: Field) -> str:
        return missing("ext4")

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._victim = victim
        field.mounts[victim].freeze()
        return f"the disk of {name(victim)} stands still"

    def end(self, field: Field) -> None:
        if self._victim is not None:
            field.mounts[self._victim].thaw()


class _Traced(_OfDisk):
    """Its syncs, while strace holds it."""

    def __init__(self) -> None:
        super().__init__()
        self._injected: Injected | None = None

    def missing(self, field: Field) -> str:
        return strace.missing()

    def _inject(self, field: Field, victim: int, what: str) -> None:
        try:
            self._injected = Injected(field.process(victim).pid, SYNCS, what)
        except OSError as e:
            raise UnableError("it cannot be traced now") from e

    def end(self, field: Field) -> None:
        if self._injected is not None:
            self._injected.close()
        super().end(field)


class SyncHangs(_Traced):
    kind = "fsync hangs"
    whom = "process"
    lasts_s = (0.2, 6.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        self._inject(field, victim, "delay_enter=60000000")
        return f"no sync of {name(victim)} ends"


class SyncFails(_Traced):
    kind = "fsync fails"
    lasts_s = (0.0, 3.0)
    loses = True

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        check_all_whole(field)
        self._excuse(field, victim)
        process = field.process(victim)
        self._inject(field, victim, "error=EIO")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not process.running, "it ends", FAILS_S)
        if process.running:
            raise UnableError("nothing was synced in that time")
        code = process.popen.returncode
        assert code == 1, f"{name(victim)} ended with {code} where a sync failed"
        return f"a sync of {name(victim)} failed, and it has ended"


class SyncFailsAtZk(_Traced):
    """Whatever it decides meanwhile cannot be kept: then it ends, and nobody was told."""

    kind = "fsync of yak-zk fails"
    whom = "zk"
    lasts_s = (0.5, 6.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        self._excuse(field, ZK)
        self._inject(field, ZK, "error=EIO")
        return "from now on every sync of yak-zk fails"

    def end(self, field: Field) -> None:
        process = field.process(ZK)
        ended = self._injected is not None and not process.running
        super().end(field)
        code = process.popen.returncode
        assert not ended or code == 1, f"yak-zk ended with {code} where a sync failed"


class PowerCut(_OfDisk):
    kind = "power cut"
    whom: ClassVar[Whom] = "process"
    lasts_s = (0.0, 3.0)
    share = 2

    def missing(self, field: Field) -> str:
        return missing("ext4") or self._spared(field)

    def _spared(self, field: Field) -> str:
        """Why it would cost what was acknowledged, or what there is instead; or ""."""
        if field.cluster.fsync == "always":
            return ""
        return "without fsync=always it may cost what was acknowledged"

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        cut = self._whose(field, victim, chance)
        self._excuse(field, *cut)
        field.pause(*cut)  # a machine without power says nothing of its disk
        for number in cut:
            field.mounts[number].cut_power()
        field.kill(*cut)
        for number in cut:
            field.mounts[number].power_again()
            if number != ZK:
                _new_boot(field.boot_ids[number])
        chance.shuffle(self._victims)
        return f"the power of {names(cut)} is cut"

    def _whose(self, field: Field, victim: int | None, chance: random.Random) -> list[int]:
        assert victim is not None
        return [victim]


class PowerCutOfAll(PowerCut):
    kind = "power cut of all"
    whom = "all"

    def _whose(self, field: Field, victim: int | None, chance: random.Random) -> list[int]:
        return field.everyone if chance.random() < 0.5 else field.brokers


class UnsyncedPowerCut(PowerCut):
    """A broker comes back without what it acknowledged; the others have it.  yak-zk has all."""

    kind = "power cut, nothing synced"
    loses = True

    def _spared(self, field: Field) -> str:
        if field.cluster.fsync != "always":
            return ""
        return 'with fsync=always all is synced: that is "power cut"'

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        check_all_whole(field)
        return super().begin(field, victim, chance)


# -- damage ----------------------------------------------------------------------------------------


class _Damaged(_OfDisk):
    """It is killed, its files are changed, and it is started on them."""

    loses = True
    lasts_s = (0.0, 3.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        check_all_whole(field)
        self._excuse(field, victim)
        field.kill(victim)
        return f"{name(victim)} is killed, {self._damage(field.disks[victim], chance)}"

    def _damage(self, directory: Path, chance: random.Random) -> str:
        raise NotImplementedError


class Torn(_Damaged):
    kind = "torn log"

    def _damage(self, directory: Path, chance: random.Random) -> str:
        return damage.tear(directory, chance)


class FlippedLog(_Damaged):
    kind = "flipped bit in the log"

    def _damage(self, directory: Path, chance: random.Random) -> str:
        return damage.flip(chance.choice(segments(directory / "oplog")), chance)


class FlippedCheckpoint(_Damaged):
    kind = "flipped bit in the checkpoint"

    def _damage(self, directory: Path, chance: random.Random) -> str:
        path = directory / "checkpoint.json"
        if not path.exists():
            raise UnableError("no checkpoint was made yet")
        return damage.flip(path, chance)


class Wiped(_Damaged):
    kind = "wiped directory"

    def _damage(self, directory: Path, chance: random.Random) -> str:
        return damage.wipe(directory)


class OlderCopy(_Damaged):
    """The first time its directory is only copied; before the next it has started again."""

    kind = "older copy"
    share = 2

    def _damage(self, directory: Path, chance: random.Random) -> str:
        return damage.exchange(directory, directory.with_name(f"{directory.name}.older"))


class FlippedUnderIt(_OfDisk):
    """Nobody may notice before it is read: so it is, from the beginning, when all is well again."""

    kind = "flipped bit under a running broker"
    loses = True
    lasts_s = (0.0, 1.0)

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        check_all_whole(field)
        return f"{name(victim)}: {self._flip(field, victim, chance)}"

    def _flip(self, field: Field, victim: int, chance: random.Random) -> str:
        directory = field.disks[victim]
        paths = sorted(p for p in (directory / "topics").glob("*/*") if any(p.iterdir()))
        if not paths:
            raise UnableError("no partition has a file yet")
        path = chance.choice(paths)
        topic, partition = path.parent.name, int(path.name)
        try:
            what = damage.flip_record(directory, topic, partition, chance)
        except (FileNotFoundError, IndexError, AssertionError, ValueError) as e:
            raise UnableError("its file was being written, or trimmed") from e
        field.afterwards.append(partial(scrub, field, victim, topic, partition))
        return what


class FlippedRecord(FlippedUnderIt):
    kind = "flipped bit in a record"

    def begin(self, field: Field, victim: int | None, chance: random.Random) -> str:
        assert victim is not None
        check_all_whole(field)
        self._excuse(field, victim)
        field.kill(victim)
        return f"{name(victim)} is killed, {self._flip(field, victim, chance)}"


def scrub(field: Field, broker: int, topic: str, partition: int) -> None:
    """Read what its files have, until it is rid of what is not what was written."""
    directory = partition_dir(field.disks[broker], topic, partition)

    def look() -> bool:
        field.look()
        try:
            offset = int(segments(directory)[0].stem)
            with Wire(field.cluster.addresses[broker], ASK_S) as wire:
                wire.read_all(topic, partition, offset)
        except (OSError, AssertionError):  # STORAGE_ERROR, it begins anew, or it was trimmed
            return False
        return True

    wait_until(look, f"{topic}/{partition} can be read at {name(broker)}", SCRUBBED_S)


def check_all_whole(field: Field) -> None:
    """Raises UnableError where not all are in sync, on disks that yak-zk holds for whole."""

    def look() -> bool:
        statuses = field.cluster.statuses()
        leaders = {status["leader"] for status in statuses.values()}
        document = json.loads((field.cluster.zk_dir / "state.json").read_bytes())
        in_sync = sorted(replica["id"] for replica in document["isr"])
        return (
            sorted(statuses) == in_sync == field.brokers
            and len(leaders) == 1
            and leaders != {None}
            and not document["suspects"]
        )

    try:
        wait_until(look, "all are in sync and whole", WHOLE_S)
    except AssertionError as e:
        raise UnableError("not all are in sync and whole") from e


FAULTS: Final[tuple[type[Fault], ...]] = (
    FullDisk, Frozen, SyncHangs, SyncFails, SyncFailsAtZk,
    PowerCut, PowerCutOfAll, UnsyncedPowerCut,
    Torn, FlippedLog, FlippedCheckpoint, FlippedRecord, FlippedUnderIt, Wiped, OlderCopy,
)  # fmt: skip
