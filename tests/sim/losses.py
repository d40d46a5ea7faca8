"""Disks that lose what they held: faults, carried out as faults.py's.

    wipe      another disk, empty, in its place
    damage    while the process is down: one bit of the log since its checkpoint or of the
              checkpoint is another, or a partition file that the checkpoint names is gone

Rules:

* One disk at a time, as at a power cut without fsync: another in-sync one must be whole.
* Whoever starts on a disk that was damaged must notice: `unnoticed` says what, and the judge asks.

It does not choose when, or whose: that is plans.py's.  It lets nothing rot in a partition file
while a process runs.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from yak.storage import checkpoint as checkpoints
from yak.storage.segment import file_name

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.disk import SimDisk
    from tests.sim.faults import Injector
    from tests.sim.net import Server
    from tests.sim.plans import Fault

_CHECKPOINT: Final = f"data/{checkpoints.FILE_NAME}"


def wipe(injector: Injector, fault: Fault, process: Server) -> None:
    broker = _may_lose(injector, process)
    if broker is not None:
        injector.tell(broker, fault, "its disk is another one, and empty")
        injector.taint(broker)
        _stop(broker)
        broker.disk = broker.new_disk()
        injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def damage(injector: Injector, fault: Fault, process: Server) -> None:
    broker = _may_lose(injector, process)
    if broker is None:
        return
    _stop(broker)
    what = _harm(injector.rng, broker.disk)
    if what:
        injector.tell(broker, fault, f"killed, and {what}")
        injector.taint(broker)
        broker.unnoticed = what
    injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def _may_lose(injector: Injector, process: Server) -> SimBroker | None:
    """The broker, if the promise holds without its disk."""
    broker = injector.world.brokers.get(getattr(process, "id", 0))
    document = injector.world.judge.document
    if broker is None or not broker.ready or document is None:
        return None
    others = set(document.isr_ids) - {broker.id}
    few = injector.world.setup.settings.min_insync_replicas < 2
    return None if few or not others or injector.unsettled() else broker


def _stop(broker: SimBroker) -> None:
    broker.unfuse()
    broker.died()


def _harm(rng: random.Random, disk: SimDisk) -> str:
    """What was done to it; "" if it holds nothing that could be."""
    if disk.exists("data/installing"):
        return ""  # a copy waits to take the place of all this
    checkpoint = checkpoints.read(disk, "data")
    choices = (_harm_log, _harm_log, _harm_checkpoint, _harm_file)
    return rng.choice(choices)(rng, disk, checkpoint)


def _harm_log(rng: random.Random, disk: SimDisk, checkpoint: checkpoints.Checkpoint | None) -> str:
    names = [name for name in disk.listdir("data/oplog") if name.endswith(".jsonl")]
    if not names:
        return ""
    path, start = f"data/oplog/{names[-1]}", 0
    if checkpoint is not None and checkpoint.log_file is not None:
        began = file_name(checkpoint.log_file)
        start = checkpoint.log_position if began == names[-1] else 0
    if disk.size(path) <= start:
        return ""
    position = rng.randrange(start, disk.size(path))
    disk.flip(path, position, 1 << rng.randrange(8))
    return f"byte {position} of {path} is another"


def _harm_checkpoint(
    rng: random.Random, disk: SimDisk, checkpoint: checkpoints.Checkpoint | None
) -> str:
    if checkpoint is None:
        return ""
    position = rng.randrange(disk.size(_CHECKPOINT))
    disk.flip(_CHECKPOINT, position, 1 << rng.randrange(8))
    return f"byte {position} of {_CHECKPOINT} is another"


def _harm_file(rng: random.Random, disk: SimDisk, checkpoint: checkpoints.Checkpoint | None) -> str:
    rows = checkpoint.partitions if checkpoint else []
    names = [
        f"data/topics/{row.topic}/{row.partition}/{file_name(one.first)}"
        for row in rows
        for one in row.segments
    ]
    names = [path for path in names if disk.exists(path)]
    if not names or disk.listdir("data/trash"):
        return ""
    path = rng.choice(names)
    disk.unlink(path)
    disk.sync_dir(path.rpartition("/")[0])
    return f"{path} is gone"
