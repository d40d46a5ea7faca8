"""Walking through the logs of several replicas, for whoever looks at each of their operations.

    for found in walk_logs([data/broker-1, data/broker-2], question.look, checkpoint_of):
        found.directory, found.walk, found.trouble

Rules:

* Replicas agree, as a rule, and then one is read for all: the one that reaches furthest.  A line's
  sum is that of all lines before it: where the last line of another log stands in it, too, the
  other one is its beginning, line by line.  What was seen up to there is what is seen of the other.
* Where that is not so (another epoch's end, a log that begins elsewhere), each is read for itself.
* A log is proved as it is walked; where it breaks off, what comes before counts.  Of one that was
  not read, only its last line was; whether its files are whole is `yak verify`'s to say.

Not here: which directories there are, and what the walk is for (gathering.py).
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from yak.commands.log import Found, Torn, read_log
from yak.core import ops
from yak.core.state import State
from yak.errors import Fatal
from yak.explain.facts import Seen

#: How an operation's line begins; a body may have such a line as well, and is told from it.
_BEGINS: Final = b'\n{"index":'


class _Unreached(Exception):  # noqa: N818 -- it says what was found
    """The log begins later than the last checkpoint, or there is none."""


class Walk:
    """Through one log, from its first operation to its last."""

    def __init__(self, checkpoint: State | None, seen: Seen) -> None:
        self._base = checkpoint or State()
        self.checkpoint = self._base.index
        self.seen = seen
        self.state: State | None = None
        self.first = self.last = self.epoch = 0

    def take(self, op: ops.Op) -> None:
        if self.state is None:
            if op.index > self.checkpoint + 1:
                raise _Unreached
            self.state = State() if op.index == 1 else self._base
            self.first = op.index
            self.seen.begin(self.state)
        if op.index > self.state.index:
            self.state.apply(op)
        self.seen.see(op)
        self.last, self.epoch = op.index, op.epoch

    def end(self) -> State:
        """The state after all of it; an empty log stands where its checkpoint does."""
        if self.state is None:
            self.state = self._base
            self.seen.begin(self.state)
            self.last, self.epoch = self.state.index, self.state.epoch
            self.first = self.last + 1
        return self.state


class Walked(NamedTuple):
    """walk: None where the log cannot be told.  trouble: what is not known of it; "" if all is."""

    directory: Path
    walk: Walk | None
    trouble: str = ""


class _End(NamedTuple):
    """The last whole operation of a log; first: the index at which the log begins."""

    op: ops.Op
    line: bytes
    first: int


def walk_logs(
    directories: Sequence[Path],
    look: Callable[[], Seen],
    checkpoint_of: Callable[[Path], State | None],
) -> Iterator[Walked]:
    """Each of these, in no order."""
    ends = {path: end for path in directories if (end := _end(path)) is not None}
    furthest = sorted(ends, key=lambda path: (ends[path].op.epoch, ends[path].op.index))
    agreed: dict[Path, Walk] = {}
    for path in [*reversed(furthest), *(path for path in directories if path not in ends)]:
        if path in agreed:
            walk, base = agreed[path], checkpoint_of(path)
            walk.checkpoint = 0 if base is None else base.index
            yield Walked(path, walk)
            continue
        walk, trouble = Walk(checkpoint_of(path), look()), ""
        try:
            _walk(path, walk, ends, agreed)
        except Torn:
            pass  # a running broker's log ends so at times; what is whole counts
        except _Unreached:
            what = f"what is in {path}: its log begins later than what its last checkpoint reaches"
            yield Walked(path, None, what)
            continue
        except FileNotFoundError:
            trouble = f"the rest of the log in {path}: it was cut meanwhile; ask again"
        except Fatal as e:
            trouble = f"what comes later in the log of {path}: {e.message}"
        yield Walked(path, walk, trouble)


def _walk(path: Path, walk: Walk, ends: dict[Path, _End], agreed: dict[Path, Walk]) -> None:
    """Through this one; `agreed` gets those of the others that are its beginning, or all of it."""
    waiting: dict[int, list[Path]] = {}
    for other, end in ends.items():
        if other != path and other not in agreed:
            waiting.setdefault(end.op.index, []).append(other)
    own, level = ends.get(path), []
    try:
        for found in read_log(path):
            walk.take(found.op)
            for other in waiting.get(found.op.index, ()):
                if not _is_there(ends[other], found, walk):
                    continue
                if own is not None and own.op.index == found.op.index:
                    level.append(other)  # as most are; the state of many topics is large to copy
                else:
                    agreed[other] = copy.deepcopy(walk)
    finally:
        for other in level:
            if walk.last == ends[other].op.index:  # it was not written to meanwhile
                agreed[other] = copy.copy(walk)


def _is_there(end: _End, found: Found, walk: Walk) -> bool:
    """Whether the log that ends so is what was walked until now."""
    assert walk.state is not None, "an operation was taken"
    whole = walk.state.index == found.op.index  # else a checkpoint is ahead of it
    return found.line == end.line and walk.first == end.first and whole


def _end(directory: Path) -> _End | None:
    """None where none is found: then it is read for itself."""
    try:
        files = sorted((directory / "oplog").glob("*.jsonl"))
        first = int(files[0].stem)
        with (
            files[-1].open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            at = len(data)
            while (at := data.rfind(_BEGINS, 0, at)) >= 0:
                line = data[at + 1 : data.find(b"\n", at + 1) + 1]
                try:
                    op = ops.decode(line)
                except ops.BrokenLine:
                    continue
                size = op.size if isinstance(op, ops.Append) else 0
                if at + 1 + len(line) + size <= len(data):
                    return _End(op, line, first)
    except (OSError, ValueError, IndexError):
        return None
    return None
