"""A run's notes as one history file, for checkers that others wrote.

The form is that of a recorded history of a partitioned log, one operation a line: `send`, `poll`
(with `final` for the closing reads), `ack`, `trim`, `drained`, `assign`, `fault`.  A topic's life
is a topic there: `NAME@ID`, so that a name that was made again does not look like a loss.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tests.soak.judge import Life, Sorted, Story
from tests.soak.notes import Note

#: What a history of this run may show by itself: partitions move between the members of a group,
#: and members that were stopped hand out what they had.  judge.py knows who and when.
ALLOWED = ("redelivered-after-ack",)


def history(notes: Iterable[Note], lives: list[Life], end: float) -> Iterator[Note]:
    """Every operation, in the checkers' form."""
    kept = list(notes)
    sorted_out = Sorted(kept, lives, end)
    for life, story in sorted_out.stories:
        name = f"{life.name}@{life.topic_id}"
        yield from _written(name, story, end)
        yield from _read(name, story)
        for part, start in life.starts.items():
            yield {"op": "trim", "topic": name, "part": part, "before": start}
        for replica, by_part in life.closing.items():
            for part, values in by_part.items():
                msgs = [[name, part, offset, value] for offset, value in sorted(values.items())]
                yield {
                    "op": "poll", "proc": replica, "t0": end, "t1": end, "result": "ok",
                    "group": None, "msgs": msgs, "final": True,
                }  # fmt: skip
                yield {"op": "drained", "topic": name, "part": part, "group": None}
        for group in life.groups if life.closing else ():
            for part in life.starts:
                drained = {"topic": name, "part": part, "group": group, "from": 0}
                yield {"op": "drained", **drained}
    yield from (note for note in kept if note["op"] in ("fault", "assign"))


def _written(name: str, story: Story, end: float) -> Iterator[Note]:
    for send in story.sends:
        yield {
            "op": "send", "proc": send.proc, "t0": send.t0, "t1": min(send.t1, end),
            "result": send.result,
            "msgs": [[name, part, offset, value] for part, offset, value in send.msgs],
        }  # fmt: skip


def _read(name: str, story: Story) -> Iterator[Note]:
    for note in (*story.polls, *story.acks):
        yield {**note, "msgs": [[name, *msg] for msg in note["msgs"]]}


def check(checker: Path, path: Path, operations: Iterable[Note]) -> str | None:
    """Write the history to `path` and have it checked: None, or what is said against it."""
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for operation in operations:
            file.write(encode(operation) + b"\n")
    allowed = [word for kind in ALLOWED for word in ("--allow", kind)]
    argv = [sys.executable, str(checker), str(path), "--subscribe", *allowed]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stdout + done.stderr
