"""The committed operations, in their order, and what they add up to: the judge's own account.

It is told each operation once, as soon as any broker knows it committed, and keeps all of them:
brokers may cut their logs and remove their files, what was committed stays committed.

    topic name ──▶ Incarnation (topic_id) ──▶ Shelf: one partition's pieces, and its log start
    group      ──▶ GroupAccount: members, and for each partition of each incarnation how far it
                   has acknowledged, and how far its members were shown records

A topic that was deleted and made again is another *incarnation*; offsets, sequences and
acknowledgements belong to one.  `add` says what is wrong with an operation, "" if nothing is.

It is an account of its own, not State's: where both agree, both are right.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from msgspec import UNSET

from tests.sim.files import Files
from yak.core import ops
from yak.core.state import State
from yak.storage.chunk import Entry, sum_of

#: A partition of one incarnation: topic_id, number.
Place: TypeAlias = tuple[str, int]


class Piece(NamedTuple):
    """One batch of the history.  end: the offset after it; data: line and body."""

    offset: int
    end: int
    data: bytes
    body: bytes


class Shelf:
    """One partition of one incarnation.  starts: every log start that it has had."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.starts = [0]

    @property
    def end(self) -> int:
        return self.pieces[-1].end if self.pieces else 0

    @property
    def start(self) -> int:
        return self.starts[-1]

    def find(self, offset: int) -> int:
        """Which piece holds the offset."""
        return bisect_right(self.pieces, offset, key=lambda piece: piece.end)


class Incarnation:
    """One life of a topic.  deleted: by which operation; 0 while it is there."""

    def __init__(self, op: ops.CreateTopic) -> None:
        self.name = op.topic
        self.id = op.topic_id
        self.config = op.config
        self.created = op.index
        self.deleted = 0
        self.shelves = [Shelf() for _ in range(op.partitions)]
        self.bodies: set[bytes] = set()


@dataclass
class GroupAccount:
    """moved: how often its offsets were set from outside, or forgotten; `shown`: everything below
    was shown to some member, or trimmed, or jumped over on somebody's order.
    """

    members: set[str] = field(default_factory=set)
    acked: dict[Place, int] = field(default_factory=dict)
    shown: dict[Place, int] = field(default_factory=dict)
    moved: int = 0


class History:
    """See the module."""

    def __init__(self) -> None:
        #: The running sum after each operation; the first is that of operation 1.
        self.sums: list[str] = []
        #: Each operation, with its line and body.
        self.operations: list[tuple[ops.Op, bytes]] = []
        self.topics: dict[str, Incarnation] = {}
        self.incarnations: dict[str, Incarnation] = {}
        self.by_name: dict[str, list[Incarnation]] = {}
        self.groups: dict[str, GroupAccount] = {}
        #: Producers whose sequences the log forgot, because of their silence.
        self.forgotten: set[int] = set()
        #: The next sequence of each producer in each partition.
        self._next: dict[tuple[int, Place], int] = {}
        #: Of each batch's operation: where it lies.
        self._where: dict[int, tuple[Incarnation, int]] = {}

    def __len__(self) -> int:
        return len(self.sums)

    # -- looking ----------------------------------------------------------------------------------

    def topic_id(self, topic: str) -> str | None:
        """Of the incarnation that is there; None while none is."""
        known = self.topics.get(topic)
        return known.id if known else None

    def shelf(self, topic: str, partition: int) -> Shelf | None:
        known = self.topics.get(topic)
        if known is None or partition >= len(known.shelves):
            return None
        return known.shelves[partition]

    def end(self, topic: str, partition: int) -> int:
        shelf = self.shelf(topic, partition)
        return shelf.end if shelf else 0

    def shelf_of(self, index: int) -> tuple[Incarnation, int] | None:
        """Where the batch of operation `index` lies."""
        return self._where.get(index)

    def holds(self, topic: str, partition: int, offset: int | None, body: bytes) -> bool:
        """Whether a batch is in any incarnation of the topic; at the offset, if one is given."""
        for incarnation in self.by_name.get(topic, ()):
            if partition >= len(incarnation.shelves) or body not in incarnation.bodies:
                continue
            shelf = incarnation.shelves[partition]
            if offset is None:
                return True
            at = shelf.find(offset)
            found = shelf.pieces[at] if at < len(shelf.pieces) else None
            if found is not None and (found.offset, found.body) == (offset, body):
                return True
        return False

    def group(self, name: str) -> GroupAccount:
        return self.groups.setdefault(name, GroupAccount())

    # -- adding -----------------------------------------------------------------------------------

    def add(self, entry: Entry) -> str:
        """The next operation; what is wrong with it."""
        op = entry.op
        last = self.operations[-1][0].time if self.operations else 0
        self.sums.append(sum_of(entry.line))
        self.operations.append((op, entry.line + bytes(entry.body)))
        if op.time < last:
            return f"time: operation {op.index} is of {op.time}, after {last}"
        if isinstance(op, ops.Append):
            return self._append(op, entry)
        if isinstance(op, ops.CreateTopic | ops.DeleteTopic | ops.CreatePartitions | ops.Trim):
            return self._topic(op)
        if isinstance(op, ops.Ack):
            return self._ack(op)
        if isinstance(op, ops.AlterTopic):
            self.topics[op.topic].config = op.config
        elif isinstance(op, ops.Register) and op.role == "consumer":
            self.group(str(op.group)).members.add(str(op.member))
        elif isinstance(op, ops.Deregister):
            self._gone(op)
        return ""

    def _append(self, op: ops.Append, entry: Entry) -> str:
        incarnation = self.topics.get(op.topic)
        if incarnation is None or op.partition >= len(incarnation.shelves):
            return f"a batch for {op.topic}[{op.partition}], which is not there"
        shelf, body = incarnation.shelves[op.partition], bytes(entry.body)
        tp = f"{op.topic}[{op.partition}]"
        if op.offset != shelf.end:
            return f"offset {op.offset} of {tp} follows {shelf.end}"
        if body in incarnation.bodies:
            return f"once: batch {body!r} is in {op.topic} ({incarnation.id}) twice"
        incarnation.bodies.add(body)
        shelf.pieces.append(Piece(op.offset, op.offset + op.count, entry.line + body, body))
        self._where[op.index] = (incarnation, op.partition)
        if op.producer is UNSET:
            return ""
        key = (op.producer, (incarnation.id, op.partition))
        expected = self._next.get(key, 0)
        self._next[key] = expected + op.count
        if op.sequence != expected:
            return (
                f"once: sequence {op.sequence} of producer {op.producer} in {tp} "
                f"({incarnation.id}) where {expected} was due"
            )
        return ""

    def _topic(
        self, op: ops.CreateTopic | ops.DeleteTopic | ops.CreatePartitions | ops.Trim
    ) -> str:
        if isinstance(op, ops.CreateTopic):
            if op.topic in self.topics or op.topic_id in self.incarnations:
                return f"topic {op.topic} ({op.topic_id}) is created twice"
            made = Incarnation(op)
            self.topics[op.topic] = self.incarnations[op.topic_id] = made
            self.by_name.setdefault(op.topic, []).append(made)
            return ""
        known = self.topics.get(op.topic)
        if known is None:
            return f"{op.op} of {op.topic}, which is not there"
        if isinstance(op, ops.DeleteTopic):
            known.deleted = op.index
            del self.topics[op.topic]
            return "" if op.topic_id == known.id else f"{op.topic_id} is deleted, not {known.id}"
        if isinstance(op, ops.CreatePartitions):
            known.shelves += [Shelf() for _ in range(op.partitions - len(known.shelves))]
            return "" if len(known.shelves) == op.partitions else f"{op.topic} shrinks"
        shelf = known.shelves[op.partition]
        if not shelf.start <= op.before <= shelf.end:
            return f"{op.topic}[{op.partition}] is trimmed to {op.before}, past what it holds"
        shelf.starts.append(op.before)
        return ""

    def _ack(self, op: ops.Ack) -> str:
        """An acknowledgement by a member says that this was shown; who comes from outside may
        set anything.
        """
        account = self.group(op.group)
        outside = op.member is UNSET
        account.moved += outside
        for topic, p, offset in op.offsets:
            incarnation = self.topics.get(topic)
            if incarnation is None or p >= len(incarnation.shelves):
                return f"{op.group} acknowledges {topic}[{p}], which is not there"
            place = (incarnation.id, p)
            shown = account.shown.get(place, 0)
            if outside:
                account.shown[place] = offset if op.reset is True else max(shown, offset)
            elif offset > shown:
                return (
                    f"everything: {op.member} of {op.group} acknowledges {offset} of {topic}[{p}] "
                    f"({incarnation.id}), of which the group was shown {shown}"
                )
            if op.reset is True or offset > account.acked.get(place, -1):
                account.acked[place] = offset
        return ""

    def _gone(self, op: ops.Deregister) -> None:
        if op.producer is not UNSET:
            if op.reason == "forgotten":
                self.forgotten.add(op.producer)
            return
        account = self.group(str(op.group))
        if op.member is not UNSET:
            account.members.discard(op.member)
            return
        account.acked.clear()
        account.shown.clear()
        account.moved += 1

    # -- what follows -----------------------------------------------------------------------------

    def files_at(self, index: int) -> Files:
        """What partition files hold once the operations up to `index` are applied."""
        files = Files()
        files.add(self.operations[:index])
        return files

    def state_at(self, index: int) -> State:
        state = State()
        for op, _ in self.operations[:index]:
            state.apply(op)
        return state

    # -- State's own words ------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """What State's mappings must hold once all of this is applied."""
        ends, starts, acked = {}, {}, {}
        for name, incarnation in self.topics.items():
            for p, shelf in enumerate(incarnation.shelves):
                ends[name, p] = shelf.end
                if len(shelf.starts) > 1:
                    starts[name, p] = shelf.start
                by = {
                    group: account.acked[incarnation.id, p]
                    for group, account in self.groups.items()
                    if (incarnation.id, p) in account.acked
                }
                if by:
                    acked[name, p] = by
        return {"ends": ends, "starts": starts, "acked": acked}
