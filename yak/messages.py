"""Every request and every answer, typed.  docs/protocol.md is their prose.

A request carries `type` (the tag) and `id`.  An answer echoes the `id` (protocol.py writes it)
and has no tag: a client decodes it as the type that belongs to its request.

Left out is not null: an optional field that may be left out is `UNSET`, and `null` is refused
as a wrong type.  Unknown fields are ignored.  Integers are within 0 … 2**53-1.

What brokers and yak-zk say to each other is in messages_zk.py, what all share in
messages_base.py; both are named here, so that the others import one module.

One file of more than 400 lines, since it is a table to look things up in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yak.config import MIB
from yak.messages_base import (
    DEFAULT_TIMEOUT_MS,
    Answer,
    At,
    Count,
    Done,
    Epoch,
    ErrorAnswer,
    Id,
    Index,
    LeaderHint,
    Logged,
    Offset,
    Request,
    RequestId,
    Sequence,
    SessionMs,
    Status,
    TopicIds,
    Total,
    WaitMs,
    Where,
)
from yak.messages_zk import (
    Adopt,
    Beat,
    BeatAnswer,
    BrokerInfo,
    ClusterQuery,
    ClusterView,
    CoordinatorRequest,
    CoordinatorStatus,
    Elect,
    Election,
    Happened,
    IsrAnswer,
    Join,
    JoinAnswer,
    Leave,
    LogState,
    OrderAnswer,
    OrderEntry,
    ProposeIsr,
    RefusedEntry,
    Resign,
    SessionEntry,
)
from yak.model import MAX_INT

#: Named here again.
__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "Adopt",
    "Answer",
    "At",
    "Beat",
    "BeatAnswer",
    "BrokerInfo",
    "ClusterQuery",
    "ClusterView",
    "CoordinatorRequest",
    "CoordinatorStatus",
    "Count",
    "Done",
    "Elect",
    "Election",
    "Epoch",
    "ErrorAnswer",
    "Happened",
    "Id",
    "Index",
    "IsrAnswer",
    "Join",
    "JoinAnswer",
    "LeaderHint",
    "Leave",
    "LogState",
    "Logged",
    "Offset",
    "OrderAnswer",
    "OrderEntry",
    "ProposeIsr",
    "RefusedEntry",
    "Request",
    "RequestId",
    "Resign",
    "Sequence",
    "SessionEntry",
    "SessionMs",
    "Status",
    "TopicIds",
    "Total",
    "WaitMs",
    "Where",
]

# -- 4. Client requests ---------------------------------------------------------------------------


class Hello(Request, tag="hello", kw_only=True):
    protocol: Count = 1
    client: str = ""


class Metadata(Request, tag="metadata", kw_only=True):
    topics: list[str] | UnsetType = UNSET


class CreateTopic(Logged, tag="create_topic", kw_only=True):
    topic: str
    #: Range and config keys are checked by the leader (INVALID_CONFIG), not by the type.
    partitions: Total | UnsetType = UNSET
    config: dict[str, Any] = msgspec.field(default_factory=dict)


class DeleteTopic(Logged, tag="delete_topic", kw_only=True):
    topic: str
    topic_id: str | UnsetType = UNSET


class CreatePartitions(Logged, tag="create_partitions", kw_only=True):
    topic: str
    #: The new total.
    partitions: Total
    topic_id: str | UnsetType = UNSET


class AlterTopic(Logged, tag="alter_topic", kw_only=True):
    """config: what is set.  unset: keys that go back to their default."""

    topic: str
    config: dict[str, Any]
    unset: list[str] = msgspec.field(default_factory=list)
    topic_id: str | UnsetType = UNSET


class Trim(Logged, tag="trim", kw_only=True):
    """before: the new log start."""

    topic: str
    partition: Index
    before: Offset
    topic_id: str | UnsetType = UNSET


class Register(Logged, tag="register", kw_only=True):
    """A producer, or (with `group`) a member of a consumer group."""

    role: Literal["producer", "consumer"]
    topics: list[str]
    client: str = ""
    group: str | UnsetType = UNSET
    member: str | UnsetType = UNSET
    session_ms: SessionMs = 10_000


class Deregister(Logged, tag="deregister", kw_only=True):
    """Either `producer`, or `group` and `member`."""

    producer: Id | UnsetType = UNSET
    group: str | UnsetType = UNSET
    member: str | UnsetType = UNSET


class Heartbeat(Logged, tag="heartbeat", kw_only=True):
    """Either `producer`, or `group`, `member` and `generation`.

    It changes the log only where it releases a partition, or brings a gone producer back.
    """

    producer: Id | UnsetType = UNSET
    group: str | UnsetType = UNSET
    member: str | UnsetType = UNSET
    generation: Count | UnsetType = UNSET
    owned: list[Where] | UnsetType = UNSET
    delivered: list[At] | UnsetType = UNSET


class Produce(Logged, tag="produce", kw_only=True):
    topic: str
    partition: Index
    count: Count
    acks: Literal["all", 0, 1] = "all"
    producer: Id | UnsetType = UNSET
    sequence: Sequence | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET


class Fetch(Request, tag="fetch", kw_only=True):
    """topic_ids: {topic: id}, of the topics that are meant; under another id they are unknown.

    session: core/standing.py.
    partitions: a tuple, since a list is one more object for the garbage collector to look at, and
    hundreds of thousands of fetches may wait.
    """

    partitions: tuple[At, ...]
    max_bytes: Count = MIB
    wait_ms: WaitMs = 0
    topic_ids: TopicIds | UnsetType = UNSET
    session: Literal["new", "same"] | UnsetType = UNSET


class ListOffsets(Request, tag="list_offsets", kw_only=True):
    partitions: list[Where]
    at: Literal["earliest", "latest"] | Annotated[int, Meta(ge=0, le=MAX_INT)]
    topic_ids: TopicIds | UnsetType = UNSET


class Ack(Logged, tag="ack", kw_only=True):
    group: str
    offsets: list[At]
    member: str | UnsetType = UNSET
    generation: Count | UnsetType = UNSET
    fence: bool = False
    reset: bool = False
    topic_ids: TopicIds | UnsetType = UNSET


class GroupInfo(Request, tag="group", kw_only=True):
    group: str


class Groups(Request, tag="groups", kw_only=True):
    pass


class DeleteGroup(Logged, tag="delete_group", kw_only=True):
    group: str


# -- 6. Followers and the leader ------------------------------------------------------------------


class Follow(Request, tag="follow", kw_only=True):
    """A follower asks where its log and the leader's part.

    epochs: every epoch in the follower's log with its first index, ascending.
    next: the index after its last operation.  sum: the running sum of that last operation.
    """

    broker: Id
    inc: str
    epoch: Epoch
    epochs: list[tuple[Epoch, Index]]
    next: Index
    sum: str


class Replicate(Request, tag="replicate", kw_only=True):
    """The follower holds everything below `from` and asks for what comes next."""

    broker: Id
    epoch: Epoch
    from_: Index = msgspec.field(name="from")
    wait_ms: WaitMs = 500
    max_bytes: Count = 4 * MIB


class Copy(Request, tag="copy", kw_only=True):
    """The next piece of a full copy of the checkpoint at `index`, which a `follow` was offered.

    file: topic, partition and first offset; left out, the checkpoint itself.  files: how many
    files the answer may be of; the others are those that come next in the checkpoint.
    """

    broker: Id
    epoch: Epoch
    index: Index
    file: tuple[str, Index, Index] | UnsetType = UNSET
    position: Index
    max_bytes: Count = MIB
    files: Count = 1


TopicRequest: TypeAlias = CreateTopic | DeleteTopic | CreatePartitions | AlterTopic | Trim
GroupRequest: TypeAlias = Register | Deregister | Heartbeat | Ack | GroupInfo | Groups | DeleteGroup
ClientRequest: TypeAlias = (
    TopicRequest | GroupRequest | Hello | Metadata | Produce | Fetch | ListOffsets | Status
)
PeerRequest: TypeAlias = Follow | Replicate | Copy
#: What a broker's port understands.
BrokerRequest: TypeAlias = ClientRequest | PeerRequest

# -- Answers --------------------------------------------------------------------------------------


class HelloAnswer(Answer, kw_only=True):
    protocol: int
    broker: int
    cluster: str | None
    version: str


class BrokerEntry(msgspec.Struct, kw_only=True):
    id: int
    host: str
    port: int
    live: bool


class TopicEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A topic in `metadata`: either `error`, or the rest."""

    error: str | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET
    partitions: int | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET


class MetadataAnswer(Answer, kw_only=True):
    cluster: str | None
    epoch: int
    leader: int | None
    isr: list[int]
    brokers: list[BrokerEntry]
    topics: dict[str, TopicEntry]


class TopicAnswer(Answer, kw_only=True):
    """To create_topic, create_partitions, alter_topic.  config: all that is set."""

    topic: str
    topic_id: str
    partitions: int
    config: dict[str, Any] = msgspec.field(default_factory=dict)


class TrimAnswer(Answer, kw_only=True):
    """start: where the partition's log begins now; above `before` where it did already."""

    topic: str
    partition: int
    start: int


class TopicSize(msgspec.Struct, kw_only=True):
    partitions: int


class KnownTopic(msgspec.Struct, kw_only=True):
    partitions: int
    topic_id: str = ""


class ProducerAnswer(Answer, kw_only=True):
    """To register, as a producer."""

    producer: int
    session_ms: int
    topics: dict[str, TopicSize]
    topic_ids: dict[str, str] = msgspec.field(default_factory=dict)

    def topic(self, name: str) -> KnownTopic:
        return KnownTopic(
            partitions=self.topics[name].partitions, topic_id=self.topic_ids.get(name, "")
        )


class MemberAnswer(Answer, kw_only=True):
    """To register, as a consumer."""

    member: str
    generation: int
    assignment: list[Where]
    #: Where the group stands; null where it has never acknowledged.
    offsets: list[tuple[str, int, int | None]]
    session_ms: int
    #: Those of the member's topics that exist: whose offsets these are.
    topics: dict[str, KnownTopic] = msgspec.field(default_factory=dict)


class HeartbeatAnswer(Answer, kw_only=True):
    generation: int | UnsetType = UNSET
    assignment: list[Where] | UnsetType = UNSET
    offsets: list[tuple[str, int, int | None]] | UnsetType = UNSET
    topics: dict[str, KnownTopic] | UnsetType = UNSET


class ProduceAnswer(Answer, kw_only=True):
    """offset is null where a duplicate is older than the batches remembered."""

    offset: int | None
    count: int
    time: int | None
    partitions: int
    duplicate: bool | UnsetType = UNSET


class FetchEntry(msgspec.Struct, kw_only=True):
    """One partition of a fetch's answer, in the order of the request."""

    topic: str
    partition: int
    start: int = 0
    high_watermark: int = 0
    size: int = 0
    error: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    retriable: bool | UnsetType = UNSET


class FetchAnswer(Answer, kw_only=True):
    partitions: list[FetchEntry]


class OffsetsAnswer(Answer, kw_only=True):
    offsets: list[tuple[str, int, int | None]]


class MemberEntry(msgspec.Struct, kw_only=True):
    member: str
    client: str
    generation: int
    assignment: list[Where]
    topics: list[str]


class GroupPartition(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    #: The next offset that the group wants; null if it never acknowledged.
    acked: int | None
    #: The next offset to hand out: how far records have reached the member.
    delivered: int | None
    high_watermark: int
    lag: int
    #: The member that owns it; null while nobody does.
    member: str | None


class GroupAnswer(Answer, kw_only=True):
    generation: int
    members: list[MemberEntry]
    partitions: list[GroupPartition]


class GroupsAnswer(Answer, kw_only=True):
    groups: list[str]


class FollowerStatus(msgspec.Struct, kw_only=True):
    id: int
    matched: int
    lag_ms: int
    in_sync: bool


class Finding(msgspec.Struct, kw_only=True):
    """Something that a broker found wrong with its disk since it started.

    time: ms; kind: see storage/findings.py; what: in words; times: how often it was met.
    mended, how: when (ms) and by what; null and "" as long as it is not.
    """

    time: int
    kind: str
    what: str
    times: int = 1
    mended: int | None = None
    how: str = ""


class StatusAnswer(Answer, kw_only=True):
    """A broker's own view of itself.

    committed: the commit index; applied: how far State has it; log_start and log_end: the first
    index held, and the one after the last.
    """

    broker: int
    cluster: str | None
    role: str
    epoch: int
    leader: int | None
    isr: list[int]
    state: str
    log_start: int
    log_end: int
    committed: int
    applied: int
    lease_ms: int
    followers: list[FollowerStatus]
    connections: int = 0
    topics: int = 0
    partitions: int = 0
    groups: int = 0
    producers: int = 0
    #: acks=0 batches that were refused, since nobody was told.
    dropped: int = 0
    host: str = ""
    port: int = 0
    fsync: str = ""
    version: str = ""
    uptime_s: float = 0.0
    #: This process's incarnation, by which yak-zk tells it from the one before.
    inc: str = ""
    #: Also what is mended: until the process ends.
    found: list[Finding] = msgspec.field(default_factory=list)
    #: Bytes of memory that the process takes up now; 0 where the system does not tell.
    memory: int = 0


class CopyOffer(msgspec.Struct, kw_only=True):
    """A checkpoint: its index; its file's bytes, and their crc."""

    index: int
    size: int
    crc: str


class FollowAnswer(Answer, kw_only=True):
    """truncate_to: the next index both share; sum: the running sum just below it.

    Or copy: the leader's log begins later, so that a full copy is needed.
    """

    epoch: int
    truncate_to: int | UnsetType = UNSET
    sum: str | UnsetType = UNSET
    copy: CopyOffer | UnsetType = UNSET


class CopyAnswer(Answer, kw_only=True):
    """The body is the piece, and whole files that come next; crc: CRC-32C of it."""

    epoch: int
    index: int
    crc: str


class ReplicateAnswer(Answer, kw_only=True):
    epoch: int
    from_: int = msgspec.field(name="from")
    committed: int
    count: int
