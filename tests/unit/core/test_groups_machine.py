"""No two members ever hold one partition, whatever comes, goes, falls silent or is late.

A lone leader on the stage, and members as a client library plays them: one reads what it holds
until it has heard of a generation without it *and* has let it go, which may be much later; only
then does it report the partition as not owned.  Heartbeats may reach the leader late, the disk
may be slow, and the leader may be replaced by another one that knows the log alone.

Checked after every step: who holds what, what is delivered and acknowledged, and Pending beside
the State that the whole log adds up to.  At the end, when all members have settled, each wanted
partition is held by exactly one member.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.playbook import LONE, Playbook, Scribe, a_view
from yak import messages as m
from yak.core.state import _MAPPINGS
from yak.model import TopicPartition

TOPICS = ("t", "u")
#: Time stands still but for `one_falls_silent`, so nobody falls silent by mistake.
SESSION_MS = 2000

SOME_TOPICS = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=2, unique=True).map(sorted)


@dataclass(eq=False)
class Reader:
    """One member, as itself: what it holds, and the newest generation that it has heard of.

    delivered: per partition that it holds, the next offset to hand out.
    """

    member: str
    generation: int
    topics: list[str]
    assigned: set[TopicPartition]
    delivered: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def holds(self) -> set[TopicPartition]:
        return set(self.delivered)

    def hears(self, generation: int, assignment: Any, offsets: Any) -> None:
        """It takes up at once what is new to it; what it lost it lets go only later."""
        if generation < self.generation or not isinstance(assignment, list):
            return
        self.generation = generation
        self.assigned = set(assignment)
        for topic, partition, acked in offsets:
            self.delivered.setdefault((topic, partition), acked or 0)

    def lets_go(self) -> None:
        self.delivered = {tp: o for tp, o in self.delivered.items() if tp in self.assigned}

    def report(self, id_: int) -> m.Heartbeat:
        return m.Heartbeat(
            id=id_,
            group="g",
            member=self.member,
            generation=self.generation,
            owned=sorted(self.holds),
            delivered=[(*tp, offset) for tp, offset in sorted(self.delivered.items())],
        )


class Groups(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = Playbook.alone(lease_s=1e9)
        self.epoch = 3
        self.readers: list[Reader] = []
        #: Registered, and not answered yet: (request, topics).
        self.coming: list[tuple[int, list[str]]] = []
        #: Heartbeats on their way to the leader, and those that it has not answered.
        self.sent: list[tuple[Reader, m.Heartbeat]] = []
        self.asked: list[tuple[Reader, int]] = []
        #: The largest offset that was ever acknowledged.
        self.acked: dict[TopicPartition, int] = {}

    @initialize(partitions=st.lists(st.integers(1, 4), min_size=2, max_size=2))
    def topics_are_there(self, partitions: list[int]) -> None:
        for topic, count in zip(TOPICS, partitions, strict=True):
            self.book.ask(m.CreateTopic(id=self.book.a_id(), topic=topic, partitions=count))

    # -- members ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.readers) + len(self.coming) < 5)
    @rule(topics=SOME_TOPICS)
    def one_comes(self, topics: list[str]) -> None:
        id_ = self.book.a_id()
        request = m.Register(
            id=id_, role="consumer", group="g", topics=topics, session_ms=SESSION_MS
        )
        self.book.ask(request)
        self.coming.append((id_, topics))
        self._hear()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def one_leaves(self, data: st.DataObject) -> None:
        """It has stopped reading before it says so."""
        reader = self._one(data)
        self.readers.remove(reader)
        request = m.Deregister(id=self.book.a_id(), group="g", member=reader.member)
        self.book.ask(request)
        self._hear()

    @precondition(lambda self: self.readers and not self.book.disk.slow)
    @rule(data=st.data())
    def one_falls_silent(self, data: st.DataObject) -> None:
        """By its own clock it has stopped when the leader gives it up; the others go on."""
        silent = self._one(data)
        self.sent = [(reader, beat) for reader, beat in self.sent if reader is not silent]
        self.readers.remove(silent)
        for _ in range(2):
            self.book.wait(SESSION_MS / 1000 * 0.6)
            for reader in self.readers:
                self._ask(reader, reader.report(self.book.a_id()))
        self._hear()

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), topics=SOME_TOPICS)
    def one_wants_other_topics(self, data: st.DataObject, topics: list[str]) -> None:
        reader = self._one(data)
        request = m.Register(
            id=self.book.a_id(),
            role="consumer",
            group="g",
            member=reader.member,
            topics=topics,
            session_ms=SESSION_MS,
        )
        answer = self.book.ask(request)
        reader.topics = topics
        if isinstance(answer, m.MemberAnswer):
            reader.hears(answer.generation, answer.assignment, answer.offsets)
        self._hear()

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), late=st.booleans())
    def one_reports(self, data: st.DataObject, *, late: bool) -> None:
        """While its report is on its way, much may happen."""
        reader = self._one(data)
        beat = reader.report(self.book.a_id())
        if late:
            self.sent.append((reader, beat))
        else:
            self._ask(reader, beat)
            self._hear()

    @precondition(lambda self: self.readers)
    @rule()
    def all_report(self) -> None:
        for reader in list(self.readers):
            self._ask(reader, reader.report(self.book.a_id()))
            self._hear()

    @precondition(lambda self: self.sent)
    @rule()
    def a_late_report_arrives(self) -> None:
        reader, beat = self.sent.pop(0)
        self._ask(reader, beat)
        self._hear()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def one_lets_go_of_what_it_lost(self, data: st.DataObject) -> None:
        self._one(data).lets_go()

    @precondition(lambda self: any(reader.delivered for reader in self.readers))
    @rule(data=st.data())
    def one_reads_on(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from([r for r in self.readers if r.delivered]))
        tp = data.draw(st.sampled_from(sorted(reader.delivered)))
        end = self.book.state.ends[tp]
        if reader.delivered[tp] < end:
            reader.delivered[tp] = data.draw(st.integers(reader.delivered[tp], end))

    @precondition(lambda self: any(reader.delivered for reader in self.readers))
    @rule(data=st.data())
    def one_acknowledges(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from([r for r in self.readers if r.delivered]))
        tp = data.draw(st.sampled_from(sorted(reader.delivered)))
        offset = reader.delivered[tp]
        request = m.Ack(
            id=self.book.a_id(),
            group="g",
            member=reader.member,
            generation=reader.generation,
            offsets=[(*tp, offset)],
        )
        answer = self.book.ask(request)
        if answer is not None:
            assert answer.ok, answer
            assert (self.book.state.acked_by("g", tp) or 0) >= offset

    # -- the world -------------------------------------------------------------------------------

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 5), data=st.data())
    def records_come(self, topic: str, count: int, data: st.DataObject) -> None:
        there = self.book.state.topics.get(topic)
        if there is not None:
            partition = data.draw(st.integers(0, there.partitions - 1))
            id_ = self.book.a_id()
            self.book.ask(m.Produce(id=id_, topic=topic, partition=partition, count=count))

    @rule(topic=st.sampled_from(TOPICS))
    def a_topic_grows(self, topic: str) -> None:
        there = self.book.node._desk.service.tail.topics[topic]  # type: ignore[union-attr]  # it leads
        if there.partitions < 6:
            request = m.CreatePartitions(
                id=self.book.a_id(), topic=topic, partitions=there.partitions + 1
            )
            self.book.ask(request)
            self._hear()

    @rule(slow=st.sampled_from([False, False, True]))
    def the_disk_is_slow_or_fast(self, slow: bool) -> None:
        self.book.disk.slow = slow
        self.book.sync(self.book.disk.applied if slow else None)
        self._hear()

    @rule(data=st.data())
    def the_disk_has_a_little_more(self, data: st.DataObject) -> None:
        end = len(self.book.disk.ops)
        durable = self.book.node.log.durable
        self.book.sync(data.draw(st.integers(durable, end)))
        self._hear()

    @rule()
    def another_leader_takes_over(self) -> None:
        """It knows what was committed; who waited for more is told nothing definite."""
        log = self.book.disk.ops[: self.book.committed]
        self.epoch += 1
        book = Playbook(log=log, epoch=self.epoch - 1)
        book._id = self.book._id
        self.book = book
        book.elected(a_view(isr=[1], settings=LONE, epoch=self.epoch), lease_s=1e9)
        self.coming.clear()
        self.asked.clear()
        there = book.state.group("g").members
        self.readers = [reader for reader in self.readers if reader.member in there]
        for reader in self.readers:
            reader.topics = list(there[reader.member].topics)
        self.sent = [(reader, beat) for reader, beat in self.sent if reader in self.readers]

    # -- helpers ---------------------------------------------------------------------------------

    def _one(self, data: st.DataObject) -> Reader:
        return data.draw(st.sampled_from(self.readers))

    def _ask(self, reader: Reader, beat: m.Heartbeat) -> None:
        self.book.ask(beat)
        assert isinstance(beat.id, int)
        self.asked.append((reader, beat.id))

    def _hear(self) -> None:
        """Whoever was answered by now hears it."""
        for reader, id_ in list(self.asked):
            answer = self.book.answer(id_)
            if answer is not None:
                self.asked.remove((reader, id_))
            if isinstance(answer, m.HeartbeatAnswer) and isinstance(answer.generation, int):
                reader.hears(answer.generation, answer.assignment, answer.offsets)
        for id_, topics in list(self.coming):
            answer = self.book.answer(id_)
            if isinstance(answer, m.MemberAnswer):
                self.coming.remove((id_, topics))
                reader = Reader(answer.member, -1, topics, set())
                reader.hears(answer.generation, answer.assignment, answer.offsets)
                self.readers.append(reader)

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def no_two_members_hold_one_partition(self) -> None:
        held = Counter(tp for reader in self.readers for tp in reader.holds)
        assert max(held.values(), default=1) == 1, held

    @invariant()
    def acknowledgements_never_go_back_nor_beyond_the_end(self) -> None:
        state = self.book.state
        for tp, end in state.ends.items():
            acked = state.acked_by("g", tp)
            assert (acked or 0) >= self.acked.get(tp, 0)
            assert (acked or 0) <= end
            if acked is not None:
                self.acked[tp] = acked

    @invariant()
    def what_is_delivered_lies_between(self) -> None:
        if self.book.node._desk is None:
            return
        delivery = self.book.node._desk.service.delivery
        for entry in delivery.describe(self.book.state, "g").partitions:
            acked, delivered = entry.acked or 0, entry.delivered or 0
            assert acked <= delivered <= entry.high_watermark
            assert entry.lag == entry.high_watermark - acked

    @invariant()
    def pending_is_what_the_whole_log_adds_up_to(self) -> None:
        if self.book.node._desk is None:
            return
        tail = self.book.node._desk.service.tail
        whole = Scribe().state
        for op in self.book.disk.ops:
            whole.apply(op)
        for name in _MAPPINGS:
            assert dict(getattr(tail, name)) == dict(getattr(whole, name)), name

    def teardown(self) -> None:
        """Left alone, everybody soon has its share, and all of it."""
        self.the_disk_is_slow_or_fast(slow=False)
        while self.sent:
            self.a_late_report_arrives()
        for _ in range(3):
            for reader in self.readers:
                reader.lets_go()
                self._ask(reader, reader.report(self.book.a_id()))
                self._hear()
                self.no_two_members_hold_one_partition()
        state = self.book.state
        gone = set(state.group("g").members) - {reader.member for reader in self.readers}
        if gone:  # whom another leader knows, and who never heard that it is a member
            return
        wanted = {t for reader in self.readers for t in reader.topics if t in state.topics}
        held = {tp for reader in self.readers for tp in reader.holds}
        assert held == {tp for topic in wanted for tp in state.topic_partitions(topic)}
        assert not state.group("g").moving


TestGroups = Groups.TestCase
TestGroups.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
