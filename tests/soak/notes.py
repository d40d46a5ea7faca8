"""What every client of a long run writes down, and how it is read again.

A note is one JSON object a line, appended at once, so that a client that is killed loses none.
Times are seconds on the machine's one monotonic clock.

    begin  {proc, t0, topic, values}                   these will be sent now
    send   {proc, t0, t1, result, msgs, topic_id?}     ok: acknowledged; fail: surely not stored;
                                                       info: unknown;
                                                       msgs: [topic, part, offset, value]
    poll   {proc, t0, t1, result, group, msgs}         what a consumer was handed
    ack    {proc, t0, t1, result, group, msgs}         confirmed; msgs: [topic, part, next offset]
    assign {proc, t0}                                  this reader's positions start afresh
    held   {proc, t0, group, topic, part}              a member reads this partition from now on
    beat   {proc, t0, group, session_s}                the leader has heard of it since t0
    let    {proc, t0, group, topic, part}              and reads it no more
    made, deleted, trim, fault, group                  the run's own (drive.py)

`send`, `poll`, `ack`, `assign`, `trim` and `fault` are those of a history as checkers of produce
and consume histories read it; `begin` is what a send was if its client did not live to say more.

It judges nothing: judge.py does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

Note = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


class Notes:
    """One writer's file; a line is with the kernel when `add` returns."""

    def __init__(self, path: Path, proc: str) -> None:
        self.proc = proc
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, op: str, **fields: Any) -> None:
        """A note of this moment, where no `t0` is given."""
        fields.setdefault("t0", time.monotonic())
        self._file.write(_encode({"op": op, "proc": self.proc, **fields}) + b"\n")


def read_notes(directory: Path) -> Iterator[Note]:
    """All notes of a run, one writer after another; a last line that was cut is left out."""
    for path in sorted(directory.glob("*.notes")):
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield _decode(line)
