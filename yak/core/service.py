"""What a leader does for clients, from the moment its `lead` is applied until it steps down.

Every logged request passes one gate (`_admit`): not shutting down, enough reachable replicas,
room in the backlog.  Then it is decided on State plus Pending, written, and answered when it is
applied.  What is refused was never logged.

    rule          | here
    --------------+----------------------------------------------------------------------------
    dedupe_tail   | a producer's last 5 batches are looked up in the whole log (`tail`)
    dup_ack_wait  | a duplicate is answered when the original is applied
    seq_gap       | sequence n is refused while n-1 is not in the log
    lease         | what is not answered at commit carries the lease's end (ReplyLeased)
    floor         | NOT_ENOUGH_REPLICAS before anything is written, never after

Topics are topics.py's; producers' and members' comings and goings membership.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops, sequences
from yak.core.counts import Counts
from yak.core.delivery import Delivery
from yak.core.pending import Pending
from yak.core.reads import another_id
from yak.core.state import Batch, Topic
from yak.errors import Refused
from yak.model import Now, TopicPartition


@dataclass(frozen=True)
class Standing:
    """What the leader may do at this moment.

    lease_until: monotonic time until which it may speak without a commit.
    """

    reachable: int
    required: int
    lease_until: float
    stopping: bool


class Service:
    """A leader's answers to clients."""

    def __init__(
        self,
        pending: Pending,
        limits: Limits,
        standing: Callable[[Now], Standing],
        counts: Counts | None = None,
    ) -> None:
        self.pending = pending
        self.state = pending.state
        self.tail = pending.tail
        self.out = pending.out
        self.limits = limits
        self.standing = standing
        self.counts = counts or Counts()
        self.delivery = Delivery(self.counts)

    # -- the gate --------------------------------------------------------------------------------

    def admit(self, now: Now) -> None:
        """Whether anything may be written now.  Raises Refused; then nothing was."""
        standing = self.standing(now)
        if standing.stopping:
            raise Refused("SHUTTING_DOWN", "this broker is shutting down; another one will lead")
        if standing.reachable < standing.required:
            raise Refused("NOT_ENOUGH_REPLICAS", too_few(standing))
        if self.pending.bytes >= self.limits.max_uncommitted_bytes:
            raise Refused(
                "OVERLOADED",
                f"{self.pending.bytes} bytes wait for the followers and the disk "
                f"(max_uncommitted_bytes is {self.limits.max_uncommitted_bytes}); send again a "
                "little later",
            )

    def can_write(self, now: Now) -> bool:
        """Whether the leader may write what it decides by itself."""
        standing = self.standing(now)
        return standing.reachable >= standing.required

    def leased(self, now: Now) -> float:
        """The lease's end.  Raises Refused without a lease."""
        until = self.standing(now).lease_until
        if now.mono >= until:
            raise Refused("NO_LEADER", NO_LEASE)
        return until

    def reply_leased(self, asked: e.Asked, answer: m.Answer, now: Now) -> None:
        until = self.leased(now)
        self.out.append(e.ReplyLeased(asked.conn, asked.request.id, answer, until))

    # -- produce ---------------------------------------------------------------------------------

    def produce(self, asked: e.Asked, request: m.Produce, now: Now) -> None:
        """Append a batch; `acks` says when it is answered."""
        body = asked.body
        assert body is not None
        topic = self.topic(request.topic, request.topic_id)
        self.check_partition(request.topic, request.partition, topic)
        most = topic.config.get("max_batch_bytes", self.limits.max_batch_bytes)
        if body.size > most:
            raise Refused(
                "BATCH_TOO_LARGE",
                f"the batch has {body.size} bytes; max_batch_bytes of '{request.topic}' is {most}",
            )
        if self._is_duplicate(asked, request, topic, now):
            return
        self.admit(now)
        if request.acks != "all":
            self.leased(now)
        op = self.pending.append(
            ops.Append,
            now,
            body,
            topic=request.topic,
            partition=request.partition,
            offset=self.tail.ends[request.topic, request.partition],
            count=request.count,
            size=body.size,
            crc=body.crc,
            producer=request.producer,
            sequence=request.sequence,
        )
        assert isinstance(op, ops.Append)
        answer = m.ProduceAnswer(
            offset=op.offset,
            count=op.count,
            time=op.time,
            partitions=self._partitions(request, topic),
        )
        if request.acks == "all":
            self.pending.when(op.index, asked.conn, request, answer, now)
        elif request.acks == 1:
            self.pending.when_durable(op.index, asked.conn, request, answer, now)

    def _is_duplicate(self, asked: e.Asked, request: m.Produce, topic: Topic, now: Now) -> bool:
        """Whether the log has the batch already; then it is answered as the first time.

        Raises Refused where the sequence cannot be the next one.
        """
        if request.producer is UNSET or request.sequence is UNSET:
            if request.producer is not UNSET or request.sequence is not UNSET:
                raise Refused("INVALID_REQUEST", "`producer` and `sequence` come together")
            return False
        if request.acks != "all":
            raise Refused("INVALID_REQUEST", '`sequence` needs `acks` "all"')
        if request.producer not in self.tail.producers:
            raise Refused(
                "UNKNOWN_PRODUCER",
                f"producer {request.producer} is not registered (or was deregistered, or silent "
                "for longer than producer_retention_ms); register again",
            )
        batches = self.tail.batches(request.producer, request.topic, request.partition)
        found = sequences.find(batches, request.sequence, request.count)
        if found is None:
            return False
        self.counts.duplicates += 1
        stored = found if isinstance(found, Batch) else None
        answer = m.ProduceAnswer(
            offset=stored.offset if stored else None,
            count=request.count,
            time=stored.time if stored else None,
            partitions=self._partitions(request, topic),
            duplicate=True,
        )
        # What is older than the oldest remembered batch is committed no later than that one.
        index = stored.index if stored else batches[0].index
        self.pending.when(index, asked.conn, request, answer, now)
        return True

    def _partitions(self, request: m.Produce, topic: Topic) -> int:
        """How many the topic has for certain: the producer sends to all of them from now on.

        Of what is not committed it may hear too early, by the answer to a duplicate or with acks=1;
        should it vanish, the producer would ask for it for ever.
        """
        known = self.state.topics.get(request.topic)
        surely = known.partitions if known and known.topic_id == topic.topic_id else 0
        return max(surely, request.partition + 1)

    # -- what exists -----------------------------------------------------------------------------

    def topic(self, name: str, topic_id: str | UnsetType = UNSET) -> Topic:
        """The topic, and no other one of its name than `topic_id`."""
        topic = self.tail.topics.get(name)
        if topic is None:
            raise Refused(
                "UNKNOWN_TOPIC",
                f"there is no topic '{name}'; registering a producer or consumer for it, or "
                "`yak topic create`, makes it",
            )
        if topic_id is not UNSET and topic_id != topic.topic_id:
            raise Refused("UNKNOWN_TOPIC", another_id(name, topic.topic_id))
        return topic

    def check_partition(self, name: str, partition: int, topic: Topic) -> None:
        if partition >= topic.partitions:
            raise Refused(
                "UNKNOWN_PARTITION",
                f"topic '{name}' has {topic.partitions} partitions, numbered from 0; there is no "
                f"{partition}",
            )

    def _check_ids(self, topic_ids: m.TopicIds | UnsetType) -> None:
        """What was meant for a topic that was deleted must not reach the one made after it."""
        for name, topic_id in topic_ids.items() if isinstance(topic_ids, dict) else ():
            self.topic(name, topic_id)

    def existing(self, where: list[m.Where]) -> list[TopicPartition]:
        """Check that the partitions exist, as far as is committed or pending."""
        for topic, partition in where:
            self.check_partition(topic, partition, self.topic(topic))
        return [(topic, partition) for topic, partition in where]

    def bounds(self, tp: TopicPartition) -> tuple[int, int]:
        """Log start and high watermark; 0 and 0 of a topic whose creation is not committed.

        Under its name State may still have an older topic, whose deletion is not committed either.
        """
        committed = self.state.topics.get(tp[0])
        if committed is None or committed.topic_id != self.tail.topics[tp[0]].topic_id:
            return 0, 0
        return self.state.start(tp), self.state.ends.get(tp, 0)

    # -- acknowledgements and offsets ------------------------------------------------------------

    def ack(self, asked: e.Asked, request: m.Ack, now: Now) -> None:
        """Log where a group stands; one bad entry refuses the whole."""
        self._check_acker(request)
        self._check_ids(request.topic_ids)
        for topic, partition, offset in request.offsets:
            tp = self.existing([(topic, partition)])[0]
            start, end = self.bounds(tp)
            if offset > end:
                raise Refused(
                    "OFFSET_OUT_OF_RANGE",
                    f"{topic}[{partition}]: {offset} is above the high watermark {end}",
                    start=start,
                    high_watermark=end,
                )
        if not request.reset and self._changes_nothing(request):
            if self.pending.last > self.state.index:
                # What it repeats may still be on its way: that is committed by then.
                self.pending.when(self.pending.last, asked.conn, request, m.Done(), now)
                return
            if now.mono < self.standing(now).lease_until:
                self.reply_leased(asked, m.Done(), now)
                return
            # Another leader may have moved the group back: only the log can tell.
        self.admit(now)
        op = self.pending.append(
            ops.Ack,
            now,
            group=request.group,
            offsets=request.offsets,
            member=request.member,
            reset=True if request.reset else UNSET,
        )
        self.pending.when(op.index, asked.conn, request, m.Done(), now)

    def _changes_nothing(self, request: m.Ack) -> bool:
        """Whether the group stands at or above every offset already."""
        if request.group not in self.tail.groups:
            return False
        for topic, partition, offset in request.offsets:
            at = self.tail.acked_by(request.group, (topic, partition))
            if at is None or at < offset:
                return False
        return True

    def _check_acker(self, request: m.Ack) -> None:
        group = self.tail.group(request.group)
        check_name("group", request.group)
        if request.member is UNSET:
            if group.members:
                raise Refused(
                    "GROUP_NOT_EMPTY",
                    f"group '{request.group}' has {len(group.members)} members; only they may "
                    "acknowledge (stop them first)",
                )
            if (
                request.group not in self.tail.groups
                and len(self.tail.groups) >= self.limits.max_groups
            ):
                raise Refused("OVERLOADED", too_many_groups(self.limits.max_groups))
            return
        if request.member not in group.members:
            raise Refused("UNKNOWN_MEMBER", unknown_member(request.member, request.group))
        if request.reset:
            raise Refused("INVALID_REQUEST", "`reset` is for acks from outside, without `member`")
        if request.fence and request.generation != group.generation:
            raise Refused(
                "STALE_GENERATION",
                f"group '{request.group}' is at generation {group.generation}",
            )

    def list_offsets(self, asked: e.Asked, request: m.ListOffsets, now: Now) -> None:
        until = self.leased(now)
        self._check_ids(request.topic_ids)
        where = self.existing(request.partitions)
        bounds = [self.bounds(tp) for tp in where]
        if isinstance(request.at, int):
            self.out.append(
                e.FindOffsets(asked.conn, request.id, request.partitions, bounds, request.at, until)
            )
            return
        latest = request.at == "latest"
        offsets: list[tuple[str, int, int | None]] = [
            (*tp, bound[latest]) for tp, bound in zip(where, bounds, strict=True)
        ]
        self.reply_leased(asked, m.OffsetsAnswer(offsets=offsets), now)

    def group(self, asked: e.Asked, request: m.GroupInfo, now: Now) -> None:
        self.reply_leased(asked, self.delivery.describe(self.state, request.group), now)

    def groups(self, asked: e.Asked, now: Now) -> None:
        self.reply_leased(asked, m.GroupsAnswer(groups=sorted(self.state.groups)), now)


NO_LEASE = (
    "this broker has not heard yak-zk lately, so another one may lead by now; ask again, or "
    "check that yak-zk runs"
)
#: Group and client names are free text up to this length.
MAX_NAME = 249


def check_name(what: str, name: str) -> None:
    """Free text, but neither endless nor, for a group, empty."""
    least = 1 if what == "group" else 0
    if not least <= len(name) <= MAX_NAME:
        raise Refused(
            "INVALID_REQUEST", f"`{what}` has {len(name)} characters, not {least} to {MAX_NAME}"
        )


def too_many_groups(most: int) -> str:
    return (
        f"there are {most} groups; max_groups is {most}. Delete some, or raise it on every broker"
    )


def unknown_member(member: str, group: str) -> str:
    return (
        f"'{member[:MAX_NAME]}' is no member of group '{group[:MAX_NAME]}' (it left, or was "
        "silent for its session_ms); register again"
    )


def too_few(standing: Standing) -> str:
    return (
        f"{standing.reachable} in-sync replicas are reachable, min_insync_replicas is "
        f"{standing.required}: nothing was stored. Start another broker, or for a lone one "
        "`yak-zk --min-insync-replicas 1`"
    )
