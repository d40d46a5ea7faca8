"""Bits that flip on a disk while nobody looks, and readers that make a broker look.

    rot    one bit is another: in a partition file, in the log, in the checkpoint (which of them,
           the fault's `other` says)

Rules:

* One disk at a time, as with all losses (losses.py); and while a rotten file is there, no other
  disk loses anything: nobody has noticed yet, so nobody has mended it.
* What rots may stay unnoticed as long as nobody asks for it.  What a start must prove (the log
  since the checkpoint, the checkpoint itself) it must notice; what is sent must be what was
  written, which the judge of what readers are shown sees to.
* In the end an `Auditor` reads every partition of every broker from its beginning.  So a rotten
  partition file is noticed at the latest then, and its broker is filled anew.

The log's part that a checkpoint covers is read for a lagging follower only, and may stay rotten.
It flips no bit that makes a digit of a batch's line in a partition file another digit, and none in
that line's sum: of those no reader of the file alone can know.  It does not choose when, or whose:
that is disk_plans.py's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.sim.clients import Client
from tests.sim.losses import log_since, may_lose
from yak import messages as m
from yak.storage.checkpoint import FILE_NAME
from yak.storage.chunk import SUM_TAIL_BYTES

if TYPE_CHECKING:
    from tests.sim.disk import SimDisk
    from tests.sim.faults import Injector
    from tests.sim.net import Server
    from tests.sim.plans import Fault
    from tests.sim.world import World

_CHECKPOINT: Final = f"data/{FILE_NAME}"
HEADER_BYTES: Final = len(b'{"format":1,"first":0}\n')
#: An auditor's fetch asks for so much: a few batches, so that it reads within files.
_PIECE_BYTES: Final = 600


class Rotten(NamedTuple):
    """A flipped bit.  right, byte: what stood and what stands there; file: the file itself, since
    another one may come under its name.
    """

    path: str
    position: int
    right: int
    byte: int
    file: object

    def is_there(self, disk: SimDisk) -> bool:
        """Whether the very file is still in its place, and not written anew."""
        return (
            disk.exists(self.path)
            and disk._find(self.path) is self.file
            and disk.size(self.path) > self.position
            and disk.read_file(self.path)[self.position] == self.byte
        )

    def may_stay(self) -> bool:
        """Whether nobody has to have noticed in the end: a first line is no reader's."""
        return not self.path.startswith("data/topics/") or self.position < HEADER_BYTES

    @contextmanager
    def undone(self, disk: SimDisk) -> Iterator[None]:
        """As nobody but the judge may see it: what was written there."""
        disk.flip(self.path, self.position, self.right ^ self.byte)
        try:
            yield
        finally:
            disk.flip(self.path, self.position, self.right ^ self.byte)

    def mended(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """The same files, as they were before."""
        data = bytearray(files[self.path])
        data[self.position] = self.right
        return {**files, self.path: bytes(data)}

    @property
    def where(self) -> str:
        return f"byte {self.position} of {self.path} is another"

    def must_be_proved(self, disk: SimDisk) -> bool:
        """Whether a start on this disk reads it, unless a copy takes its place."""
        if not self.is_there(disk) or disk.exists("data/installing"):
            return False
        if self.path.startswith("data/oplog/"):
            return self.position >= log_since(disk, self.path)
        return self.path == _CHECKPOINT


def rot(injector: Injector, fault: Fault, process: Server) -> None:
    broker = may_lose(injector, process)
    if broker is None:
        return
    disk, rng = broker.disk, injector.rng
    path = _CHOICES.get(fault.other, rng.choice(list(_CHOICES.values())))(rng, disk)
    if not path:
        return
    data = disk.read_file(path)
    while True:
        position, mask = rng.randrange(len(data)), 1 << rng.randrange(8)
        if not _is_beyond_proof(path, data, position, mask):
            break
    right = data[position]
    disk.flip(path, position, mask)
    injector.tell(broker, fault, f"byte {position} of {path} is another")
    injector.taint(broker)
    broker.rotten = Rotten(path, position, right, right ^ mask, disk._find(path))


def _is_beyond_proof(path: str, data: bytes, position: int, mask: int) -> bool:
    """Whether that bit is in a batch's line in a partition file, and leaves a digit a digit, or
    is in its sum: of these only the log's sums can tell (chunk.py).
    """
    if not path.startswith("data/topics/"):
        return False
    start = data.rfind(b"\n", 0, position) + 1
    line = data[start : data.find(b"\n", position) + 1]
    if not line.startswith(b'{"index":'):
        return False
    both = chr(data[position]).isdigit() and chr(data[position] ^ mask).isdigit()
    return both or start + len(line) - SUM_TAIL_BYTES <= position


def _of_a_partition(rng: random.Random, disk: SimDisk) -> str:
    return _any(rng, disk, "data/topics")


def _of_the_log(rng: random.Random, disk: SimDisk) -> str:
    return _any(rng, disk, "data/oplog")


def _whole(_: random.Random, disk: SimDisk) -> str:
    return _CHECKPOINT if disk.exists(_CHECKPOINT) else ""


def _any(rng: random.Random, disk: SimDisk, home: str) -> str:
    files = sorted(path for path, data in disk.tree(home).items() if data)
    return rng.choice(files) if files else ""


_CHOICES: Final = {"file": _of_a_partition, "log": _of_the_log, "checkpoint": _whole}


class Auditor(Client):
    """Reads all that one broker has, once all has healed; it never goes elsewhere."""

    def __init__(self, world: World, name: str, broker: int) -> None:
        super().__init__(world, name)
        self.target = broker
        self._asking = False
        self._places: dict[tuple[str, int], int] = {}
        self._done: set[tuple[str, str, int]] = set()
        self.after(0.1, self.ready)

    @property
    def finished(self) -> bool:
        return not self._left()

    def _left(self) -> list[tuple[str, str, int]]:
        """The partitions that it has not read to their end."""
        topics = self.world.judge.history.topics.values()
        every = [(t.name, t.id, p) for t in topics for p, s in enumerate(t.shelves) if s.end]
        return [place for place in every if place not in self._done]

    def ready(self) -> None:
        left = self._left() if self.world.finishing else []
        if not left:
            self.after(0.3, self.ready)  # more may come
        if self._asking or not left or not self.connected():
            return
        self._asking = True
        name, id_, p = left[0]
        offset = self._places.setdefault((id_, p), 0)
        request = m.Fetch(id=0, partitions=((name, p, offset),), topic_ids={name: id_})
        request.max_bytes = _PIECE_BYTES
        self.ask(request, b"", partial(self._fetched, left[0], offset))

    def _fetched(
        self, place: tuple[str, str, int], offset: int, answer: m.Answer | None, body: bytes
    ) -> None:
        self._asking = False
        name, id_, p = place
        if not isinstance(answer, m.FetchAnswer) or isinstance(answer.partitions[0].error, str):
            if isinstance(answer, m.FetchAnswer):
                entry = answer.partitions[0]
                if entry.error == "OFFSET_OUT_OF_RANGE":
                    self._places[id_, p] = entry.start
            self.after(0.1, self.ready)
            return
        if body:
            judge = self.world.judge
            after = judge.shows(self.name, (name, p), id_, offset, body)[1]
            self._places[id_, p] = after
        shelf = self.world.judge.history.shelf(name, p)
        if shelf is None or self._places[id_, p] >= shelf.end:
            self._done.add(place)
        self.after(0.001 if body else 0.1, self.ready)

    def move(self, broker: int) -> None:
        self.after(0.1, self.ready)
