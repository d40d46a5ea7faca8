"""Disks that lose what they held: faults, carried out as faults.py's.

    wipe      another disk, empty, in its place
    damage    while the process is down: one bit of the log since its checkpoint or of the
              checkpoint is another, or a partition file that the checkpoint names is gone
    tear      while the process is down: the log ends within one of its last operations
    keep      a copy of the disk is made, as it lies there at the moment
    put_back  while the process is down: the copy that was kept takes the place of the disk; only
              where yak-zk has heard of a start since then, or nobody could know
    scrawl    the process dies while it writes: half a line more is in the log, and nothing is lost

Rules:

* One disk at a time, as at a power cut without fsync: another in-sync one must be whole.
* Whoever starts on a disk that was damaged must notice: `unnoticed` says what, and the judge asks.

It does not choose when, or whose: that is plans.py's.  What rots while a process runs is rot.py's.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from yak.storage import checkpoint as checkpoints
from yak.storage.chunk import walk
from yak.storage.faults import Damaged
from yak.storage.segment import file_name

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.disk import SimDisk
    from tests.sim.faults import Injector
    from tests.sim.net import Server
    from tests.sim.plans import Fault

_CHECKPOINT: Final = f"data/{checkpoints.FILE_NAME}"
#: A torn log lacks so many operations at most, the one in which it ends included.
TORN_WITHIN: Final = 4
_HALF_A_LINE: Final = b'{"index":1000000,"epoch":1,"ti'


def wipe(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is not None:
        injector.tell(broker, fault, "its disk is another one, and empty")
        injector.taint(broker)
        _stop(broker)
        broker.disk = broker.new_disk()
        injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def damage(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is None:
        return
    _stop(broker)
    what = _harm(injector.rng, broker.disk)
    if what:
        injector.tell(broker, fault, f"killed, and {what}")
        injector.taint(broker)
        broker.unnoticed = what
    injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def tear(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process, though_suspects=fault.other == "suspects")
    if broker is None:
        return
    _stop(broker)
    what = _cut_short(injector.rng, broker.disk)
    if what:
        injector.tell(broker, fault, f"killed, and {what}")
        injector.taint(broker)
        broker.unnoticed = what
    injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def keep(injector: Injector, fault: Fault, process: Server) -> None:
    broker = injector.world.brokers.get(getattr(process, "id", 0))
    if broker is not None and broker.kept is None:
        injector.tell(broker, fault, "a copy of its disk is made")
        broker.kept, broker.kept_in = broker.new_disk(), broker.life
        broker.disk.copy_to(broker.kept)


def put_back(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is None or broker.kept is None or broker.life == broker.kept_in:
        return
    document = injector.world.judge.document
    if document is None or document.brokers[broker.id].inc != broker.broker.inc:
        return
    _stop(broker)
    injector.tell(broker, fault, "killed, and its disk is the older copy of it")
    injector.taint(broker)
    broker.disk, broker.kept = broker.kept, None
    injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def scrawl(injector: Injector, fault: Fault, process: Server) -> None:
    """What a kill in the middle of a write leaves: it costs nothing, but looks like a loss."""
    broker = injector.world.brokers.get(getattr(process, "id", 0))
    if broker is None or not broker.ready:
        return
    _stop(broker)
    path = _last_log_file(broker.disk) if broker.disk.space_left is None else ""
    if path:
        broker.disk.append(path, [_HALF_A_LINE])
        broker.disk.sync(path)
        injector.tell(broker, fault, f"killed while it writes to {path}")
        broker.unnoticed = f"{path} ends with half a line"
    injector.world.later(0.05 + fault.lasts, injector.start_again, broker)


def _last_log_file(disk: SimDisk) -> str:
    """The log's last file; "" if there is none, or a copy waits to take the place of all."""
    if disk.exists("data/installing") or not disk.exists("data/oplog"):
        return ""
    names = [name for name in disk.listdir("data/oplog") if name.endswith(".jsonl")]
    return f"data/oplog/{names[-1]}" if names else ""


def _cut_short(rng: random.Random, disk: SimDisk) -> str:
    """Cut the log within one of its last operations, none of which a checkpoint covers."""
    path = _last_log_file(disk)
    if not path:
        return ""
    data, start = disk.read_file(path), log_since(disk, path)
    begins = [at for at in _operations(data) if at >= start][-TORN_WITHIN:]
    if not begins:
        return ""
    position = rng.choice(begins) + 1 + int(8 * rng.random())
    lost = len(data) - position
    disk.truncate(path, position)
    disk.sync(path)
    return f"{path} lacks its last {lost} bytes"


def _operations(data: bytes) -> list[int]:
    """Where each operation begins."""
    begins, at = [], data.find(b"\n") + 1
    while 0 < at < len(data):
        begins.append(at)
        step = next(walk(data, at), None)
        at = step.end if step else len(data)
    return begins


def log_since(disk: SimDisk, path: str) -> int:
    """From where on a start must prove this file of the log: what its checkpoint does not cover."""
    checkpoint = read_checkpoint(disk)
    if checkpoint is None or checkpoint.log_file is None:
        return 0
    began = f"data/oplog/{file_name(checkpoint.log_file)}"
    if path == began:
        return checkpoint.log_position
    return 0 if path > began else disk.size(path)


def read_checkpoint(disk: SimDisk) -> checkpoints.Checkpoint | None:
    try:
        return checkpoints.read(disk, "data")
    except Damaged:
        return None


def may_lose(
    injector: Injector, process: Server, *, though_suspects: bool = False
) -> SimBroker | None:
    """The broker, if the promise holds without its disk.

    though_suspects: even while others are not whole, as long as these have lost nothing.
    """
    broker = injector.world.brokers.get(getattr(process, "id", 0))
    document = injector.world.judge.document
    if broker is None or not broker.ready or document is None:
        return None
    others = set(document.isr_ids) - {broker.id}
    few = injector.world.setup.settings.min_insync_replicas < 2
    unsettled = injector.unsettled() and not (though_suspects and not injector.tainted)
    return None if few or not others or unsettled else broker


def _stop(broker: SimBroker) -> None:
    broker.unfuse()
    broker.died()


def _harm(rng: random.Random, disk: SimDisk) -> str:
    """What was done to it; "" if it holds nothing that could be."""
    if disk.exists("data/installing"):
        return ""  # a copy waits to take the place of all this
    checkpoint = read_checkpoint(disk)
    choices = (_harm_log, _harm_log, _harm_checkpoint, _harm_file)
    return rng.choice(choices)(rng, disk, checkpoint)


def _harm_log(rng: random.Random, disk: SimDisk, _: checkpoints.Checkpoint | None) -> str:
    path = _last_log_file(disk)
    start = log_since(disk, path) if path else 0
    if not path or disk.size(path) <= start:
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
