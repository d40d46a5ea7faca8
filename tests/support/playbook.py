"""A broker's core on a stage: a test tells it events and reads what it asks of its world.

    book = Playbook.alone()                                  # it leads, nobody else is needed
    answer = book.ask(m.Produce(id=7, topic="t", …))         # one request, one turn, its answer
    book.disk.slow = True                                    # from now on `book.sync()` says when
    book.wait(1.3)                                           # time passes; the node acts as it asks

The stage plays the shell: it keeps what the core appends, says Durable, reads back what Load asks
for, and looks at a lease once more before an answer leaves.  It asserts what every shell relies
on: operations are appended one after the other, applied once and in order, and only below what
was appended; a request is answered once.

There is no other broker here: a test speaks for them (`Peer`).  Three real cores together are
the simulator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from yak import messages as m
from yak.config import Limits, Settings
from yak.core import events as e
from yak.core import ops
from yak.core.desk import Identity
from yak.core.log import Log
from yak.core.node import Node
from yak.core.ops import Op
from yak.core.state import State
from yak.model import Now

E = TypeVar("E")

#: The stage's clocks when the curtain rises.
MONO: Final = 1000.0
WALL_MS: Final = 1_763_800_000_000
#: The connection of a client who is the only one.
CLIENT: Final = 100
#: An operation's body in a story where only its size counts.
CRC: Final = "9ae0daaf"
#: A turn that wants another one at once, this often, turns for ever.
MAX_TURNS: Final = 100

LONE: Final = Settings(min_insync_replicas=1)


def a_view(
    leader: int | None = 1,
    isr: Sequence[int] = (1, 2, 3),
    *,
    epoch: int = 3,
    version: int = 12,
    live: Iterable[int] | None = None,
    settings: Settings | None = None,
    states: dict[int, m.LogState] | None = None,
    incs: dict[int, str] | None = None,
) -> m.ClusterView:
    """The cluster document: brokers 1 to 3 with incarnations i1.1 to i3.1, all of them live."""
    there = {1, 2, 3} if live is None else set(live)
    known = {id_: f"i{id_}.1" if id_ in there else "" for id_ in (1, 2, 3)} | (incs or {})
    return m.ClusterView(
        cluster="C",
        version=version,
        epoch=epoch,
        leader=leader,
        isr=list(isr),
        settings=settings or Settings(),
        brokers=[
            m.BrokerInfo(
                id=id_,
                host="127.0.0.1",
                port=9091 + id_,
                live=id_ in there,
                inc=known[id_],
                state=(states or {}).get(id_, "whole"),
            )
            for id_ in (1, 2, 3)
        ],
    )


def identity(me: int, limits: Limits | None = None, *, auto_create: bool = True) -> Identity:
    return Identity(
        id=me,
        inc=f"i{me}.1",
        version="1.0",
        limits=limits or Limits(),
        default_partitions=3,
        auto_create=auto_create,
    )


@dataclass
class Disk:
    """ops: the log as it was written.  slow: nothing is durable before `Playbook.sync`."""

    ops: list[Op] = field(default_factory=list)
    slow: bool = False
    #: What State has, as this broker's files show it.
    applied: int = 0


class Playbook:
    """One node and its world."""

    def __init__(
        self,
        me: int = 1,
        *,
        limits: Limits | None = None,
        log: Sequence[Op] = (),
        epoch: int = 0,
        auto_create: bool = True,
    ) -> None:
        self.now = Now(MONO, WALL_MS)
        self.disk = Disk(list(log))
        epochs: dict[int, int] = {}
        for op in log:
            epochs.setdefault(op.epoch, op.index)
        time = log[-1].time if log else 0
        book = Log(list(epochs.items()), len(log) + 1, time)
        self.node = Node(identity(me, limits, auto_create=auto_create), book, epoch, self.now)
        #: All effects so far, in order, and those of the last `tell`.
        self.story: list[e.Effect] = []
        self.effects: list[e.Effect] = []
        #: (connection, request) -> what it was answered.
        self.answers: dict[tuple[int, m.RequestId], Any] = {}
        self._id = 0

    # -- ways to begin ---------------------------------------------------------------------------

    @classmethod
    def alone(cls, *, lease_s: float = 3600, **more: Any) -> Playbook:
        """Broker 1 leads epoch 3 and needs nobody; its lease holds for an hour."""
        return cls(**more).elected(a_view(isr=[1], settings=LONE), lease_s=lease_s)

    @classmethod
    def of_three(cls, *, lease_s: float = 3600, **more: Any) -> tuple[Playbook, Peer, Peer]:
        """Broker 1 leads epoch 3; 2 and 3 hold all that it has, and wait for more."""
        book = cls(**more).elected(a_view(), lease_s=lease_s)
        two, three = Peer(book, 2), Peer(book, 3)
        for peer in (two, three):
            peer.follow()
        for _ in "holds", "has heard of the commit":
            two.holds()
            three.holds()
        return book, two, three

    def elected(self, view: m.ClusterView, *, lease_s: float = 3600) -> Playbook:
        """yak-zk names it leader, and answers a heartbeat."""
        lease = view.settings.lease_ms / 1000
        self.tell(e.Joined(view), e.LeaseRenewed(self.now.mono + lease_s - lease))
        return self

    # -- telling ---------------------------------------------------------------------------------

    def tell(self, *events: e.Event) -> list[e.Effect]:
        """One turn for these events, and those that it brings about at once."""
        self.effects = []
        for event in events:
            self.node.hear(event, self.now)
        for _ in range(MAX_TURNS):
            effects = self.node.act(self.now)
            self.effects += effects
            self.story += effects
            for effect in effects:
                self._carry_out(effect)
            if not self._answer_disk(effects):
                return self.effects
        raise AssertionError(f"still restless after {MAX_TURNS} turns")

    def _answer_disk(self, effects: list[e.Effect]) -> bool:
        """Whether there is cause for another turn."""
        loads = [effect for effect in effects if isinstance(effect, e.Load)]
        for load in loads:
            self.node.hear(e.Loaded(self.disk.ops[load.first - 1 : load.last]), self.now)
        behind = not self.disk.slow and self.node.log.durable < len(self.disk.ops)
        if behind:
            self.node.hear(e.Durable(len(self.disk.ops)), self.now)
        return bool(loads) or behind or self.node.next_deadline() <= self.now.mono

    def _carry_out(self, effect: e.Effect) -> None:
        match effect:
            case e.AppendOp():
                self._write(effect.op)
            case e.AppendCopied():
                for op in effect.copied.ops:
                    self._write(op)
            case e.Truncate():
                assert self.disk.applied < effect.next <= len(self.disk.ops) + 1
                del self.disk.ops[effect.next - 1 :]
            case e.Apply():
                for op in effect.ops:
                    assert op.index == self.disk.applied + 1
                    assert op == self.disk.ops[op.index - 1]
                    self.disk.applied = op.index
            case e.Reply():
                self._answered(effect.conn, effect.id, effect.answer)
            case e.ReplyLeased():
                late = self.now.mono >= effect.until
                refusal = m.ErrorAnswer(error="NO_LEADER", message="no lease", retriable=True)
                self._answered(effect.conn, effect.id, refusal if late else effect.answer)
            case e.SendRecords() | e.SendOps() | e.SendFollowAnswer() | e.FindOffsets():
                self._answered(effect.conn, effect.id, effect)
            case _:
                pass  # for the test to look at

    def _write(self, op: Op) -> None:
        assert op.index == len(self.disk.ops) + 1, "the log has no gap"
        self.disk.ops.append(op)

    def _answered(self, conn: int, id_: m.RequestId, answer: Any) -> None:
        assert (conn, id_) not in self.answers, f"request {id_} is answered once"
        self.answers[conn, id_] = answer

    def sync(self, index: int | None = None) -> list[e.Effect]:
        """A slow disk has it at last: up to `index`, or all that was written."""
        return self.tell(e.Durable(len(self.disk.ops) if index is None else index))

    def wait(self, seconds: float) -> list[e.Effect]:
        """Time passes; the node acts whenever it asked to.  Returns all that came of it."""
        end = self.now.mono + seconds
        came: list[e.Effect] = []
        while self.now.mono < end:
            self._until(min(max(self.node.next_deadline(), self.now.mono), end))
            came += self.tell(e.Tick())
        self.effects = came
        return came

    def jump(self, seconds: float) -> None:
        """Time passes, and nobody notices yet."""
        self._until(self.now.mono + seconds)

    def _until(self, mono: float) -> None:
        self.now = Now(mono, WALL_MS + round((mono - MONO) * 1000))

    def renew_lease(self) -> None:
        """yak-zk answers the heartbeat that was sent just now."""
        self.tell(e.LeaseRenewed(self.now.mono))

    # -- asking ----------------------------------------------------------------------------------

    def ask(
        self,
        request: m.BrokerRequest,
        *,
        conn: int = CLIENT,
        size: int = 20,
        dialled: str | None = None,
    ) -> Any:
        """One request, a turn of its own; its answer, or None where it still waits."""
        body = e.Body(size, CRC) if isinstance(request, m.Produce) else None
        self.tell(e.Asked(conn, request, body, dialled))
        return self.answers.get((conn, request.id))

    def answer(self, id_: m.RequestId, conn: int = CLIENT) -> Any:
        """What a request was answered; None while it waits."""
        return self.answers.get((conn, id_))

    def a_id(self) -> int:
        """An id that no request had."""
        self._id += 1
        return 1_000_000 + self._id

    # -- looking ---------------------------------------------------------------------------------

    def seen(self, kind: type[E]) -> list[E]:
        """The effects of this kind that the last `tell` or `wait` brought."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def written(self) -> list[str]:
        """The operations that were appended in the last `tell`."""
        return [effect.op.op for effect in self.seen(e.AppendOp)]

    def told(self, event: str) -> list[dict[str, Any]]:
        """What the story says of `event`."""
        return [x.fields for x in self.story if isinstance(x, e.Tell) and x.event == event]

    @property
    def state(self) -> State:
        return self.node.state

    @property
    def committed(self) -> int:
        return self.node.committed


class Peer:
    """Another broker, as a follower of the node on the stage: one connection at a time."""

    def __init__(self, book: Playbook, broker: int) -> None:
        self.book = book
        self.broker = broker
        self.conn = broker * 1000
        self.epoch = book.node.epoch
        self.inc = f"i{broker}.1"

    def follow(self, log: Log | None = None) -> Any:
        """It connects anew and shows its log, by default an empty one; the answer."""
        self.conn += 1
        log = log or Log([], 1, 0)
        request = m.Follow(
            id=self.book.a_id(),
            broker=self.broker,
            inc=self.inc,
            epoch=self.epoch,
            epochs=list(log.epochs),
            next=log.next,
            sum=ops.NO_SUM,
        )
        return self.book.ask(request, conn=self.conn)

    def holds(self, index: int | None = None) -> Any:
        """It holds everything up to `index` (by default all there is), and waits for more.

        The answer, or None while it waits.
        """
        index = len(self.book.disk.ops) if index is None else index
        request = m.Replicate(
            id=self.book.a_id(), broker=self.broker, epoch=self.epoch, from_=index + 1
        )
        return self.book.ask(request, conn=self.conn)

    def closes(self) -> None:
        self.book.tell(e.Closed(self.conn))


# -- operations -----------------------------------------------------------------------------------


def a_lead(index: int, epoch: int = 1, *, broker: int = 1) -> ops.Lead:
    return ops.Lead(index=index, epoch=epoch, time=WALL_MS, broker=broker)


def a_topic(index: int, topic: str = "t", partitions: int = 1, epoch: int = 1) -> ops.CreateTopic:
    return ops.CreateTopic(
        index=index,
        epoch=epoch,
        time=WALL_MS,
        topic=topic,
        topic_id=f"t{index}",
        partitions=partitions,
        config={},
    )


def a_batch(index: int, offset: int = 0, count: int = 1, epoch: int = 1, **more: Any) -> ops.Append:
    """An `append` to t[0], unless `more` says otherwise."""
    usual: dict[str, Any] = {"topic": "t", "partition": 0, "size": 20, "crc": CRC, "time": WALL_MS}
    return ops.Append(index=index, epoch=epoch, offset=offset, count=count, **{**usual, **more})


class Scribe:
    """A State, and the hand that writes its operations one after the other."""

    def __init__(self, state: State | None = None, *, epoch: int = 1) -> None:
        self.state = state or State()
        self.epoch = epoch
        self.time = max(self.state.time, WALL_MS)
        self.log: list[Op] = []

    def write(self, kind: type[Any], **fields: Any) -> Any:
        """Write the next operation and apply it."""
        op = kind(index=self.state.index + 1, epoch=self.epoch, time=self.time, **fields)
        self.state.apply(op)
        self.log.append(op)
        return op

    def topic(self, topic: str = "t", partitions: int = 1) -> None:
        id_ = f"t{self.state.index + 1}"
        self.write(ops.CreateTopic, topic=topic, topic_id=id_, partitions=partitions, config={})

    def append(self, count: int = 1, topic: str = "t", partition: int = 0, **more: Any) -> None:
        offset = self.state.ends[topic, partition]
        where = {"topic": topic, "partition": partition, "offset": offset}
        self.write(ops.Append, count=count, size=20, crc=CRC, **where, **more)

    def producer(self, number: int, client: str = "p") -> None:
        self.write(ops.Register, role="producer", client=client, topics=["t"], producer=number)

    def member(self, member: str, *topics: str, group: str = "g") -> None:
        self.write(
            ops.Register,
            role="consumer",
            client=member,
            topics=list(topics or ["t"]),
            group=group,
            member=member,
            session_ms=10_000,
        )

    def leaves(self, member: str, group: str = "g") -> None:
        self.write(ops.Deregister, reason="asked", group=group, member=member)

    def owners(self, *owners: ops.Owner, group: str = "g") -> None:
        """A new generation."""
        generation = self.state.group(group).generation + 1
        self.write(ops.Assign, group=group, generation=generation, owners=list(owners))

    def trim(self, before: int, topic: str = "t", partition: int = 0) -> None:
        self.write(ops.Trim, topic=topic, partition=partition, before=before)

    def ack(self, offset: int, partition: int = 0, group: str = "g", **more: Any) -> None:
        self.write(ops.Ack, group=group, offsets=[("t", partition, offset)], **more)


def with_broker(view: m.ClusterView, broker: int, **changes: Any) -> m.ClusterView:
    """The same document, but for what it says of one broker."""
    brokers = [replace(b, **changes) if b.id == broker else b for b in view.brokers]
    return replace(view, brokers=brokers)
