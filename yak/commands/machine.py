"""What `yak doctor` looks at on this machine: room for records, and files that may be open.

Of a cluster that `yak up` started here, each process is looked at; of others, what a process that
is started from this shell would get.

Not here: what is asked of brokers (diagnosis.py).
"""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from yak.commands.findings import Step, failed, ok, skipped
from yak.config import MIB, RESERVED_DESCRIPTORS
from yak.local.note import Member

#: Less room is too little: so much of the log a broker keeps for followers, by default.
LOW_DISK_BYTES: Final = 1024 * MIB
#: A small disk is low below this part of it.
LOW_DISK_PART: Final = 0.1
#: Fewer open files are too few: Linux gives 1024, and a broker holds some hundred.
FEW_FILES: Final = 1024
_LIMIT: Final = re.compile(r"^Max open files +(\d+)", re.MULTILINE)


def look(data_dir: Path, members: Iterable[Member]) -> list[Step]:
    """members: of the cluster that `yak up` started here."""
    shell = files_step(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    processes = [step for one in members if (step := _process(one)) is not None]
    return [disk_step(data_dir), *(processes or [shell])]


def _process(member: Member) -> Step | None:
    """None where the system does not say: it has ended, or there is no /proc."""
    home = Path("/proc") / str(member.pid)
    try:
        found = _LIMIT.search((home / "limits").read_text())
        used = sum(1 for _ in (home / "fd").iterdir())
    except OSError:
        return None
    return None if found is None else process_step(member.name, used, int(found[1]))


def process_step(name: str, used: int, limit: int) -> Step:
    """used: descriptors that it holds, of `limit`."""
    found = f"{name} holds {used:,} of {limit:,} files that may be open"
    if used >= limit - RESERVED_DESCRIPTORS:
        return failed(
            "files", name, found, "it lets no client in: the last are kept for its own work",
            f"stop clients that are not needed, or start it after `ulimit -n {limit * 4}`",
        )  # fmt: skip
    return ok("files", name, found)


def disk_step(directory: Path) -> Step:
    """Whether a data directory of this machine has room."""
    if not directory.is_dir():
        needs = "no such directory here; where brokers run: --data-dir DIR"
        return skipped("disk", directory, needs)
    usage = shutil.disk_usage(directory)
    return room_step(directory, usage.free, usage.total)


def room_step(directory: Path, free: int, total: int) -> Step:
    found = f"{free / MIB:,.0f} MiB of {total / MIB:,.0f} MiB are free"
    if free < min(LOW_DISK_BYTES, total * LOW_DISK_PART):
        return failed(
            "disk", directory, found, "records, or something else on this disk",
            "`yak topic trim`, retention_ms, --oplog-retain-bytes; or a larger disk",
        )  # fmt: skip
    return ok("disk", directory, found)


def files_step(limit: int) -> Step:
    """limit: what a process started from this shell may hold open."""
    if limit == resource.RLIM_INFINITY:
        return ok("files", "", "no limit of open files")
    found = f"{limit:,} files may be open in a process of this shell"
    if limit < FEW_FILES:
        return failed(
            "files", "", found, "each client and each partition in use takes one; macOS gives 256",
            f"`ulimit -n {FEW_FILES * 4}` before starting brokers",
        )  # fmt: skip
    return ok("files", "", found)
