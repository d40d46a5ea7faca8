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
    once             a producer's batches are in a topic's incarnation once, in order, without a gap
    shown            what a reader is sent is the history of one incarnation, byte for byte, from
                     the log's start on
    not_stale        an answer under the lease is not older than its question
    leased           nor does it leave when something is committed that who gives it does not know
    same_state       State is equal on all replicas that applied the same index, and after a
                     restart it is what it was
    same_files       the names and bytes of partition files, in the end and after a restart, are
                     those that the committed operations make
    noticed, sound   who starts on a damaged disk says so, and nobody else
    checkpoint_…     durable.py's
    exclusive        no two live members of a group hold one partition, whichever incarnation
    acked_never_back what a group has acknowledged does not fall, but by a reset
    everything       what a group acknowledges was shown to its members, all of it
    electable        somebody can be elected, sooner or later
    rest             a broker with nothing to do does not turn without pause
    bootstrap        a yak-zk that was started on an empty disk leads nobody who holds operations
    floor            the ISR is never smaller than min_insync_replicas, once it has been that large

It never helps: a broker cannot tell whether it is watched.  What the operations add up to is
history.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from tests.sim.history import History, Place
from yak import messages as m
from yak.core import ops
from yak.core.document import Document
from yak.core.replication import Leader
from yak.core.state import State
from yak.errors import Fatal
from yak.model import TopicPartition
from yak.storage.chunk import split
from yak.storage.faults import StorageError

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.clock import Process
    from tests.sim.world import World

#: The cluster that a yak-zk on an empty disk keeps.
STRANGER: Final = "another"
#: State is compared at every index that is a multiple of this.
COMPARE_EVERY: Final = 16
_ALL: Final = 1 << 40
#: What is answered under the lease only.
_LEASED: Final = (m.OffsetsAnswer, m.GroupAnswer, m.GroupsAnswer, m.HeartbeatAnswer)
#: The exit code of who is asked to stop a second time before it has.
INTERRUPTED: Final = 130
#: How an operation's line begins.
_INDEX: Final = b'{"index":'


class Violation(Exception):  # noqa: N818 -- it is what the run was for
    """A rule of safety was broken; the message says which."""


class Moment(NamedTuple):
    """What was true of a partition, and of a group in it, when somebody asked.

    moved: whether the group's offsets were set from outside meanwhile is told by this count.
    """

    topic_id: str | None
    end: int
    acked: int
    moved: int


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
        #: What a group was told is acknowledged, since it was last moved from outside.
        self._told: dict[tuple[str, int, Place], int] = {}

    def fail(self, why: str) -> NoReturn:
        raise Violation(why)

    # -- logs -------------------------------------------------------------------------------------

    def wrote(self, broker: int, epoch: int, index: int, running: str) -> None:
        known = self._written.setdefault((epoch, index), running)
        if known != running:
            self.fail(f"logs_agree: b{broker} has another operation at epoch {epoch} index {index}")

    def cuts(self, broker: int, next_index: int, running: str) -> None:
        if next_index <= len(self.history) and self.history.sums[next_index - 1] == running:
            self.fail(f"nothing_cut: b{broker} cuts operation {next_index}, which is committed")

    def step(self, broker: int, what: str) -> None:
        self.world.injector.told(self.world.brokers[broker], what, {})

    def started(self, broker: SimBroker, joins: str) -> None:
        """A new life: nothing is known to be committed yet.  joins: in what state, to yak-zk."""
        unnoticed, broker.unnoticed = broker.unnoticed, ""
        if unnoticed and joins == "whole":
            self.fail(f"noticed: {broker.name} starts as whole, and {unnoticed}")
        if joins == "damaged" and not broker.excused:
            self.fail(f"sound: {broker.name} finds damage, and nothing has happened to its disk")
        self._committed[broker.id] = 0
        self._epoch_led[broker.id] = 0
        self._compare_restored(broker)
        state = broker.broker.node.state
        apply = state.apply

        def watched(op: ops.Op) -> None:
            if isinstance(op, ops.Ack):
                self._applies_ack(broker, state, op, apply)
            else:
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
        if known and not self._has(broker, known):
            self.fail(f"one_history: {broker.name} commits another operation {known}")
        if committed == known:
            return
        rotten = broker.rot()  # what it wrote may have rotted before it was committed
        with rotten.undone(broker.disk) if rotten else nullcontext():
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
        if count and (store.next_index <= count or not self._has(broker, count)):
            self.fail(
                f"leader_complete: {broker.name} leads epoch {role.epoch} without operation {count}"
            )

    def _has(self, broker: SimBroker, index: int) -> bool:
        """Whether its log holds this very operation, as far as its disk can still tell."""
        try:
            return broker.broker.store.sum_before(index + 1) == self.history.sums[index - 1]
        except StorageError:
            return broker.rot() is not None

    # -- State ------------------------------------------------------------------------------------

    def _applies_ack(self, broker: SimBroker, state: State, op: ops.Ack, apply: Any) -> None:
        def standing() -> list[int]:
            return [state.acked_by(op.group, (t, p)) or 0 for t, p, _ in op.offsets]

        before = standing()
        apply(op)
        falls = [now < was for was, now in zip(before, standing(), strict=True)]
        if any(falls) and op.reset is not True:
            self.fail(
                f"acked_never_back: operation {op.index} moves {op.group} back on {broker.name}, "
                f"from {before} to {standing()} in {op.offsets}"
            )

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

    def compare_files(self, broker: SimBroker, index: int) -> None:
        """The partition files of a broker that has applied so much, and flushed all of it."""
        expected = self.history.files_at(index).tree("data/topics")
        found = broker.disk.tree("data/topics")
        rot = broker.rot()
        if rot is not None and rot.path in found:
            found = rot.mended(found)
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                self.fail(
                    f"same_files: {path} of {broker.name} is {_size(found.get(path))}; after "
                    f"operation {index} it must be {_size(expected.get(path))}"
                )

    def _compare_restored(self, broker: SimBroker) -> None:
        """A start puts State and files back to a checkpoint: they are as they were then."""
        state = broker.broker.node.state
        if state.index > len(self.history):
            self.fail(f"one_history: {broker.name} starts with {state.index} operations applied")
        expected = self.history.state_at(state.index)
        for name, value in vars(expected).items():
            if name != "apply" and getattr(state, name) != value:
                self.fail(
                    f"same_state: `{name}` of {broker.name} is, restored at {state.index}, "
                    f"{getattr(state, name)}; it was {value}"
                )
        self.compare_files(broker, state.index)

    # -- yak-zk -----------------------------------------------------------------------------------

    def saved(self, document: Document) -> None:
        """yak-zk has made a document durable."""
        if self.world.zk.forgets:
            self._check_bootstrap(document)
            return
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

    def _check_bootstrap(self, document: Document) -> None:
        """A yak-zk without a document forms a cluster of empty brokers only."""
        if document.leader is not None:
            leader = self.world.brokers[document.leader]
            if leader.ready and leader.broker.store.next_index > 1:
                self.fail(
                    f"bootstrap: a yak-zk that knows nothing lets {leader.name} lead, which holds "
                    f"{leader.broker.store.next_index - 1} operations"
                )

    def join_refused(self, process: Process, answer: m.ErrorAnswer) -> None:
        """Refused as of another cluster: somebody forgot something."""
        if f"cluster {STRANGER}" in answer.message:
            return
        if answer.error == "CLUSTER_MISMATCH" and "is alive with disk" not in answer.message:
            self.fail(f"one_history: yak-zk refuses {process.name}: {answer.message}")

    def broker_failed(self, broker: SimBroker, fatal: Fatal) -> None:
        """A broker that stops by itself saw what must not be; or its disk failed, as planned, or it
        was asked a second time."""
        planned = broker.disk.sync_fails or broker.full or broker.rot()
        if not planned and fatal.exit_code != INTERRUPTED:
            self.fail(f"{broker.name} stopped: {fatal.message}")

    # -- clients ----------------------------------------------------------------------------------

    def acks(self, who: str, tp: TopicPartition, offset: int | None, body: bytes) -> None:
        """A producer was told that this batch is stored, at this offset if it is known."""
        self.acknowledged += 1
        if not self.history.holds(*tp, offset, body):
            self.fail(f"acknowledged: {who}'s {body!r} is not at {offset} of {tp}")

    def shows(
        self, who: str, tp: TopicPartition, topic_id: str | None, offset: int, data: bytes
    ) -> tuple[str, int]:
        """A reader was sent this: of which incarnation it is, and the offset after it.

        topic_id: the incarnation that was asked for, if one was.
        """
        index = int(data[len(_INDEX) : data.index(b",")]) if data.startswith(_INDEX) else 0
        found = self.history.shelf_of(index)
        if found is None:
            self.fail(f"shown: {who} is sent {data[:200]!r} at {offset} of {tp}: not committed")
        incarnation, number = found
        if (incarnation.name, number) != tp or topic_id not in (None, incarnation.id):
            self.fail(
                f"shown: {who} asked for {offset} of {tp} ({topic_id}) and is sent operation "
                f"{index} of {incarnation.name}[{number}] ({incarnation.id})"
            )
        shelf, position = incarnation.shelves[number], 0
        at = shelf.find(offset)
        while position < len(data):
            piece = shelf.pieces[at].data if at < len(shelf.pieces) else b""
            if not piece or not data.startswith(piece, position):
                self.fail(f"shown: {who} is sent {data[position:][:200]!r} at {offset} of {tp}")
            position += len(piece)
            offset = shelf.pieces[at].end
            at += 1
        return incarnation.id, offset

    def shows_member(self, who: str, group: str, place: Place, first: int, after: int) -> None:
        """A group's member was shown a partition's records from `first` up to `after`."""
        account = self.history.group(group)
        shown = account.shown.get(place, 0)
        if first > shown:
            self.fail(
                f"everything: {who} of {group} reads on at {first} of {place}, and nobody of the "
                f"group was shown what lies between {shown} and that"
            )
        account.shown[place] = max(shown, after)

    def begins_at(self, who: str, place: Place, offset: int, start: int) -> None:
        """A reader was told that what it asked for is trimmed, and the log begins at `start`."""
        shelf = self.history.incarnations[place[0]].shelves[place[1]]
        if start <= offset or start not in shelf.starts:
            self.fail(
                f"shown: {who} is told that {place} begins at {start}, not {offset}; it began at "
                f"{shelf.starts}"
            )

    def begins_before(self, who: str, place: Place, offset: int, start: int) -> None:
        """A reader was sent records, with the log start that is said to be theirs."""
        shelf = self.history.incarnations[place[0]].shelves[place[1]]
        if start > offset or start not in shelf.starts:
            self.fail(f"shown: {who} is sent {place} from {offset} on; its log begins at {start}")

    def moment(self, tp: TopicPartition, group: str = "") -> Moment:
        """What is true now."""
        id_, end = self.history.topic_id(tp[0]), self.history.end(*tp)
        moved = self.history.group(group).moved if group else 0
        return Moment(id_, end, self._told.get((group, moved, (id_ or "", tp[1])), 0), moved)

    def told_end(self, who: str, tp: TopicPartition, then: Moment, told: int) -> None:
        """An answer under the lease: where the partition ends.  then: when it was asked."""
        now = self.moment(tp)
        if now.topic_id == then.topic_id:
            self._leased(who, f"the end of {tp}", told, then.end, now.end)

    def told_offset(
        self, who: str, group: str, tp: TopicPartition, then: Moment, told: int
    ) -> None:
        """Likewise: where the group stands."""
        now = self.moment(tp, group)
        if (now.topic_id, now.moved) == (then.topic_id, then.moved):
            self._leased(who, f"{group}'s offset in {tp}", told, then.acked, now.end)

    def answers(self, broker: SimBroker, answer: m.Answer) -> None:
        """An answer leaves, just now."""
        if isinstance(answer, _LEASED) and broker.ready:
            knows, count = broker.broker.node.committed, len(self.history)
            if knows < count:
                self.fail(
                    f"leased: {broker.name} speaks for the cluster, {type(answer).__name__}, with "
                    f"{knows} operations committed of {count}"
                )

    def _leased(self, who: str, what: str, told: int, least: int, most: int) -> None:
        if not least <= told <= most:
            self.fail(f"not_stale: {who} hears {what} is {told}; it was {least} and is {most}")

    def acked(self, group: str, tp: TopicPartition, then: Moment, offset: int) -> None:
        """A member was told that its acknowledgement counts."""
        now = self.moment(tp, group)
        if now.topic_id is not None and (now.topic_id, now.moved) == (then.topic_id, then.moved):
            key = (group, now.moved, (now.topic_id, tp[1]))
            self._told[key] = max(self._told.get(key, 0), offset)

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

    def lets_go(self, who: str, group: str) -> None:
        """A member holds nothing any more: it left, or its process is gone."""
        self.holds(who, group, (), 0.0)


def _size(data: bytes | None) -> str:
    return "gone" if data is None else f"{len(data)} bytes"


def _snapshot(state: State) -> dict[str, Any]:
    """State's values; they are immutable, so that their mappings' copies suffice."""
    kept = {k: v for k, v in vars(state).items() if k != "apply"}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in kept.items()}
