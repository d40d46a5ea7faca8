"""What the leader has decided and the cluster has not committed yet, and who waits for it.

* The leader decides on State plus Pending (`tail`): a layer over State to which each operation
  is applied as soon as it is written.  It starts empty, since nothing is admitted before this
  epoch's `lead` is applied, and is dropped on stepping down.
* A client's answer waits for the operation that it reports (`when`), and leaves once that is
  applied.  What waits ends in one of four ways only: its answer; STORAGE_ERROR where the disk did
  not take the operation; REQUEST_TIMED_OUT after its `timeout_ms`, or when the leader steps down:
  both mean "unknown, send it again".

It decides nothing (service.py, membership.py do) and does not know who must acknowledge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from yak import messages as m
from yak.config import KIB
from yak.core import events as e
from yak.core import ops
from yak.core.deadlines import Deadlines
from yak.core.log import Log
from yak.core.state import State
from yak.errors import is_retriable
from yak.model import Now

#: What an uncommitted operation takes beside its body: 1.1 KB were measured, in the log, the layer
#: over State and whoever waits for it.
OPERATION_BYTES: Final = 1 * KIB
#: What each thing that it names takes more: an offset acknowledged 0.15 KB, a partition 0.25.
ENTRY_BYTES: Final = KIB // 4

#: An answer, or how to make it from State once the operation is applied.
Promise: TypeAlias = m.Answer | Callable[[], m.Answer]


@dataclass(slots=True, eq=False)
class _Waiting:
    conn: int
    id: m.RequestId
    promise: Promise
    #: Its answer is not one at commit, or not that alone: it leaves only within the lease.
    leased: bool = False
    done: bool = False


class Pending:
    """The uncommitted tail of the leader of `epoch`."""

    def __init__(self, epoch: int, state: State, log: Log, out: list[e.Effect]) -> None:
        assert state.index == log.next - 1, "something was admitted before `lead` was applied"
        self.epoch = epoch
        self.state = state
        self.log = log
        self.out = out
        self.tail = State.over(state)
        #: Until when this leader may speak without a commit; the node keeps it up to date.
        self.lease_until = float("-inf")
        #: What is written and not yet applied costs: bodies, and memory (`cost_of`).
        self.bytes = 0
        self._waiting: dict[int, list[_Waiting]] = {}
        #: acks=1: waits for this leader's own disk only.
        self._waiting_disk: dict[int, list[_Waiting]] = {}
        self._deadlines: Deadlines[_Waiting] = Deadlines(lambda waiting: not waiting.done)

    # -- deciding --------------------------------------------------------------------------------

    def append(
        self, kind: type[Any], now: Now, body: e.Body | None = None, **fields: Any
    ) -> ops.Op:
        """Write the next operation of this epoch."""
        time = max(self.log.time, now.wall_ms)
        op: ops.Op = kind(index=self.log.next, epoch=self.epoch, time=time, **fields)
        self.log.append(op)
        self.tail.apply(op)
        self.bytes += cost_of(op)
        self.out.append(e.AppendOp(op, body))
        return op

    @property
    def last(self) -> int:
        """The last index that was written."""
        return self.log.next - 1

    # -- waiting ---------------------------------------------------------------------------------

    def when(
        self,
        index: int,
        conn: int,
        request: m.Logged,
        promise: Promise,
        now: Now,
        *,
        leased: bool = False,
    ) -> None:
        """Answer once the operation at `index` is applied; at once if it is.

        leased: the answer says more than that, and leaves only within the lease.
        """
        waiting = _Waiting(conn, request.id, promise, leased)
        if index <= self.state.index:
            self._answer(waiting)
            return
        self._waiting.setdefault(index, []).append(waiting)
        self._limit(waiting, request, now)

    def when_durable(
        self, index: int, conn: int, request: m.Logged, promise: Promise, now: Now
    ) -> None:
        """Answer once this leader's own disk has the operation, if it still has its lease."""
        waiting = _Waiting(conn, request.id, promise, leased=True)
        if index <= self.log.durable:
            self._answer(waiting)
            return
        self._waiting_disk.setdefault(index, []).append(waiting)
        self._limit(waiting, request, now)

    def _limit(self, waiting: _Waiting, request: m.Logged, now: Now) -> None:
        self._deadlines.add(now.mono + request.timeout_ms / 1000, waiting)

    def applied(self, op: ops.Op) -> None:
        """State has the operation: whoever waited for it is answered."""
        self.tail.settle(op.index)
        self.bytes -= cost_of(op)
        for waiting in self._waiting.pop(op.index, ()):
            if not waiting.done:
                self._answer(waiting)

    def durable(self, index: int) -> None:
        """The disk has everything up to `index`."""
        if self._waiting_disk:
            for k in [k for k in self._waiting_disk if k <= index]:
                for waiting in self._waiting_disk.pop(k):
                    if not waiting.done:
                        self._answer(waiting)

    def tick(self, now: Now) -> None:
        """Time out whoever has waited too long; the operation itself stands."""
        for waiting in self._deadlines.due(now.mono):
            self._time_out(waiting, "not committed in time; it may still be: send it again")

    def refused(self, end: int, why: str) -> None:
        """The disk did not take what was written after `end`; nobody was sent it either."""
        name = "STORAGE_ERROR"
        answer = m.ErrorAnswer(error=name, message=why, retriable=is_retriable(name))
        for by_index in (self._waiting, self._waiting_disk):
            for index in [index for index in by_index if index > end]:
                for waiting in by_index.pop(index):
                    if not waiting.done:
                        waiting.done = True
                        self.out.append(e.Reply(waiting.conn, waiting.id, answer))

    def abandon(self, why: str) -> None:
        """The leader steps down: the outcome of everything that waits is unknown."""
        for waitings in (*self._waiting.values(), *self._waiting_disk.values()):
            for waiting in waitings:
                if not waiting.done:
                    self._time_out(waiting, f"{why}; it may still be committed: send it again")
        self._waiting.clear()
        self._waiting_disk.clear()
        self._deadlines.clear()

    @property
    def idle(self) -> bool:
        """Nobody waits for anything any more: whoever does has a deadline."""
        return self.next_deadline() == float("inf")

    def next_deadline(self) -> float:
        return self._deadlines.next_deadline()

    def _answer(self, waiting: _Waiting) -> None:
        waiting.done = True
        promise = waiting.promise
        answer = promise() if callable(promise) else promise
        if waiting.leased:
            self.out.append(e.ReplyLeased(waiting.conn, waiting.id, answer, self.lease_until))
        else:
            self.out.append(e.Reply(waiting.conn, waiting.id, answer))

    def _time_out(self, waiting: _Waiting, message: str) -> None:
        waiting.done = True
        name = "REQUEST_TIMED_OUT"
        answer = m.ErrorAnswer(error=name, message=message, retriable=is_retriable(name))
        self.out.append(e.Reply(waiting.conn, waiting.id, answer))


def cost_of(op: ops.Op) -> int:
    """Bytes that an operation counts for while it is not committed."""
    match op:
        case ops.Append():
            return OPERATION_BYTES + op.size
        case ops.Ack():
            entries = len(op.offsets)
        case ops.Assign():
            entries = len(op.owners)
        case ops.Register():
            entries = len(op.topics)
        case ops.CreateTopic() | ops.CreatePartitions():
            entries = op.partitions
        case _:
            entries = 0
    return OPERATION_BYTES + ENTRY_BYTES * entries
