"""What must hold after every step, whatever has happened: the judge of a simulated run.

It sees everything at once, as nobody in the real world can, and remembers the *history*: the
committed operations, in their order, as the first broker that knew them committed had them.

    one_leader       an epoch has one leader, for good
    logs_agree       two logs that have an operation of one (epoch, index) agree up to it (sums)
    one_history      what any broker holds committed is the history
    leader_complete  the newest epoch's leader has the whole history in its log
    never_back       a broker's C does not fall within one life
    nothing_cut      nobody cuts an operation of the history from its log
    acknowledged     what a producer was told is in the history, where it was told
    once             a producer's batches are in the history once, in order, without a gap
    shown            what a reader is sent is the history, byte for byte
    not_stale        an answer under the lease is not older than its question
    same_state       State is equal on all replicas that applied the same index
    exclusive        no two live members of a group hold one partition
    electable        somebody can be elected, sooner or later
    rest             a broker with nothing to do does not turn without pause
    floor            the ISR is never smaller than min_insync_replicas, once it has been that large

It never helps: a broker cannot tell whether it is watched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import UNSET

from yak import messages as m
from yak.core import ops
from yak.core.document import Document
from yak.core.replication import Leader
from yak.core.state import State
from yak.errors import Fatal
from yak.model import TopicPartition
from yak.storage.chunk import Entry, split, sum_of

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.clock import Process
    from tests.sim.world import World

#: State is compared at every index that is a multiple of this.
COMPARE_EVERY: Final = 16
_ALL: Final = 1 << 40


class Violation(Exception):  # noqa: N818 -- it is what the run was for
    """A rule of safety was broken; the message says which."""


class Piece(NamedTuple):
    """One batch of the history.  end: the offset after it; data: line and body."""

    offset: int
    end: int
    data: bytes
    body: bytes


class History:
    """The committed operations, and what they hold."""

    def __init__(self) -> None:
        #: The running sum after each operation; the first is that of operation 1.
        self.sums: list[str] = []
        self.partitions: dict[TopicPartition, list[Piece]] = {}
        #: The next sequence of each producer in each partition.
        self._next: dict[tuple[int, TopicPartition], int] = {}
        self._bodies: set[bytes] = set()

    def __len__(self) -> int:
        return len(self.sums)

    def end(self, tp: TopicPartition) -> int:
        pieces = self.partitions.get(tp)
        return pieces[-1].end if pieces else 0

    def add(self, entry: Entry) -> str:
        """The next operation; a fault in it, or nothing."""
        op = entry.op
        self.sums.append(sum_of(entry.line))
        if not isinstance(op, ops.Append):
            return ""
        tp = (op.topic, op.partition)
        body = bytes(entry.body)
        if op.offset != self.end(tp):
            return f"offset {op.offset} of {tp} follows {self.end(tp)}"
        if body in self._bodies:
            return f"once: batch {body!r} is in the history twice"
        self._bodies.add(body)
        piece = Piece(op.offset, op.offset + op.count, entry.line + body, body)
        self.partitions.setdefault(tp, []).append(piece)
        if op.producer is UNSET:
            return ""
        expected = self._next.get((op.producer, tp), 0)
        self._next[op.producer, tp] = expected + op.count
        if op.sequence != expected:
            return (
                f"once: sequence {op.sequence} of producer {op.producer} in {tp} "
                f"where {expected} was due"
            )
        return ""

    def find(self, tp: TopicPartition, offset: int) -> int:
        """Which piece of the partition holds the offset."""
        return bisect_right(self.partitions.get(tp, []), offset, key=lambda piece: piece.end)


class Judge:
    """See the module.  A broken rule raises Violation, with the run's story."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()
        self.document: Document | None = None
        #: Batches of which a producer was told that they are stored.
        self.acknowledged = 0
        self._written: dict[tuple[int, int], str] = {}
        self._leaders: dict[int, str] = {}
        self._committed: dict[int, int] = {}
        self._epoch_led: dict[int, int] = {}
        self._states: dict[int, dict[str, Any]] = {}
        self._isr_grew = False
        #: group, partition -> (member's process, until when it holds it).
        self._holders: dict[tuple[str, TopicPartition], tuple[str, float]] = {}
        #: What a group was told is acknowledged.
        self.acked: dict[tuple[str, TopicPartition], int] = {}

    def fail(self, why: str) -> None:
        raise Violation(why)

    # -- logs -------------------------------------------------------------------------------------

    def wrote(self, broker: int, epoch: int, index: int, running: str) -> None:
        known = self._written.setdefault((epoch, index), running)
        if known != running:
            self.fail(f"logs_agree: b{broker} has another operation at epoch {epoch} index {index}")

    def cuts(self, broker: int, next_index: int, running: str) -> None:
        if next_index <= len(self.history) and self.history.sums[next_index - 1] == running:
            self.fail(f"nothing_cut: b{broker} cuts operation {next_index}, which is committed")

    def started(self, broker: SimBroker) -> None:
        """A new life: nothing is known to be committed yet."""
        self._committed[broker.id] = 0
        self._epoch_led[broker.id] = 0
        state = broker.broker.node.state
        apply = state.apply

        def watched(op: ops.Op) -> None:
            apply(op)
            if op.index % COMPARE_EVERY == 0:
                self.compare(broker, state)

        vars(state)["apply"] = watched

    def after(self, broker: SimBroker) -> None:
        """A broker has run."""
        if not broker.ready:
            return
        node = broker.broker.node
        if node.committed != self._committed[broker.id]:
            self._commits(broker, node.committed)
        role = node.role
        if isinstance(role, Leader) and role.epoch != self._epoch_led[broker.id]:
            self._epoch_led[broker.id] = role.epoch
            who = f"{broker.name}.{broker.life}"
            if self._leaders.setdefault(role.epoch, who) != who:
                self.fail(f"one_leader: {who} and {self._leaders[role.epoch]} lead {role.epoch}")
            self._check_leader()
        broker.look_after()

    def _commits(self, broker: SimBroker, committed: int) -> None:
        seen, self._committed[broker.id] = self._committed[broker.id], committed
        if committed < seen:
            self.fail(f"never_back: {broker.name}'s C falls from {seen} to {committed}")
        store, sums = broker.broker.store, self.history.sums
        known = min(committed, len(sums))
        if store.next_index <= committed:
            self.fail(f"one_history: {broker.name} commits {committed}, which it does not hold")
        if known and store.sum_before(known + 1) != sums[known - 1]:
            self.fail(f"one_history: {broker.name} commits another operation {known}")
        if committed == known:
            return
        while len(sums) < committed:
            _, buffers = store.read_ops(len(sums) + 1, committed, _ALL)
            for entry in split(b"".join(buffers)):
                why = self.history.add(entry)
                if why:
                    self.fail(why)
        self._check_leader()

    def _check_leader(self) -> None:
        """leader_complete, for whom yak-zk made the leader of the newest epoch."""
        document = self.document
        if document is None or document.leader is None:
            return
        broker = self.world.brokers[document.leader]
        if not broker.ready:
            return
        role = broker.broker.node.role
        if not isinstance(role, Leader) or role.epoch != document.epoch:
            return
        count, store = len(self.history), broker.broker.store
        if count and (
            store.next_index <= count or store.sum_before(count + 1) != self.history.sums[-1]
        ):
            self.fail(
                f"leader_complete: {broker.name} leads epoch {role.epoch} without operation {count}"
            )

    # -- State ------------------------------------------------------------------------------------

    def compare(self, broker: SimBroker, state: State) -> None:
        known = self._states.get(state.index)
        if known is None:
            self._states[state.index] = _snapshot(state)
            return
        for name, value in known.items():
            if getattr(state, name) != value:
                self.fail(
                    f"same_state: `{name}` of {broker.name} at index {state.index} is "
                    f"{getattr(state, name)}, elsewhere {value}"
                )

    # -- yak-zk -----------------------------------------------------------------------------------

    def saved(self, document: Document) -> None:
        """yak-zk has made a document durable."""
        before, self.document = self.document, document
        floor = document.settings.min_insync_replicas
        self._isr_grew = self._isr_grew or len(document.isr) >= floor
        if self._isr_grew and len(document.isr) < floor:
            self.fail(f"floor: the ISR is {document.isr_ids}")
        if before is not None and document.epoch < before.epoch:
            self.fail(f"one_leader: yak-zk goes back to epoch {document.epoch}")
        lost = [i for i in document.isr_ids if i in document.suspects]
        hopeless = all(document.suspects[i].state != "torn" for i in lost)
        if document.epoch and len(lost) == len(document.isr) and hopeless:
            self.fail(f"electable: no member of the ISR {document.isr_ids} is whole")
        self._check_leader()

    def join_refused(self, process: Process, answer: m.ErrorAnswer) -> None:
        """Refused as of another cluster: somebody forgot something."""
        if answer.error == "CLUSTER_MISMATCH" and "is alive with disk" not in answer.message:
            self.fail(f"one_history: yak-zk refuses {process.name}: {answer.message}")

    def broker_failed(self, broker: SimBroker, fatal: Fatal) -> None:
        """A broker that stops by itself saw what must not be; or its disk failed, as planned."""
        if not (broker.disk.sync_fails or broker.full):
            self.fail(f"{broker.name} stopped: {fatal.message}")

    # -- clients ----------------------------------------------------------------------------------

    def acks(self, who: str, tp: TopicPartition, offset: int | None, body: bytes) -> None:
        """A producer was told that this batch is stored, at this offset if it is known."""
        self.acknowledged += 1
        pieces = self.history.partitions.get(tp, [])
        if offset is None:
            if not any(piece.body == body for piece in pieces):
                self.fail(f"acknowledged: {who}'s {body!r} is not in {tp}")
            return
        at = self.history.find(tp, offset)
        if at >= len(pieces) or pieces[at].offset != offset or pieces[at].body != body:
            self.fail(f"acknowledged: {who}'s {body!r} is not at {offset} of {tp}")

    def shows(self, who: str, tp: TopicPartition, offset: int, data: bytes) -> int:
        """A reader was sent this; the offset after it."""
        pieces = self.history.partitions.get(tp, [])
        at, position = self.history.find(tp, offset), 0
        while position < len(data):
            piece = pieces[at].data if at < len(pieces) else b""
            if not piece or not data.startswith(piece, position):
                self.fail(f"shown: {who} is sent {data[position:][:200]!r} at {offset} of {tp}")
            position += len(piece)
            offset = pieces[at].end
            at += 1
        return offset

    def leased(self, who: str, what: str, told: int, least: int, most: int) -> None:
        """An answer under the lease, and what was true when it was asked and when it came."""
        if not least <= told <= most:
            self.fail(f"not_stale: {who} hears {what} is {told}; it was {least} and is {most}")

    def holds(
        self, who: str, group: str, partitions: Iterable[TopicPartition], until: float
    ) -> None:
        """A member holds these, and no others, until then at least."""
        now, mine = self.world.scheduler.now, set(partitions)
        for key, (other, _) in list(self._holders.items()):
            if other == who and key[0] == group and key[1] not in mine:
                del self._holders[key]
        for tp in sorted(mine):
            other, end = self._holders.get((group, tp), (who, 0.0))
            if other != who and end > now:
                self.fail(f"exclusive: {other} and {who} both hold {tp} of {group}")
            self._holders[group, tp] = (who, until)


def _snapshot(state: State) -> dict[str, Any]:
    """State's values; they are immutable, so that their mappings' copies suffice."""
    kept = {k: v for k, v in vars(state).items() if k != "apply"}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in kept.items()}
