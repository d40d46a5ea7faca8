"""Every request and every answer, typed.  docs/protocol.md is their prose.

A request carries `type` (the tag) and `id`.  An answer echoes the `id` (protocol.py writes it)
and has no tag: a client decodes it as the type that belongs to its request.

Left out is not null: an optional field that may be left out is `UNSET`, and `null` is refused
as a wrong type.  Unknown fields are ignored.  Integers are within 0 … 2**53-1.

One file of more than 400 lines, since it is a table to look things up in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yak.config import MAX_WAIT_MS, MIB, Settings
from yak.model import MAX_INT, SEQUENCE_SPAN

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Id = Annotated[int, Meta(ge=0, le=MAX_INT)]
Offset = Annotated[int, Meta(ge=0, le=MAX_INT)]
Index = Annotated[int, Meta(ge=0, le=MAX_INT)]
#: A number of partitions; its range is the leader's to judge.
Total = Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)]
Sequence = Annotated[int, Meta(ge=0, lt=SEQUENCE_SPAN)]
Epoch = Annotated[int, Meta(ge=0, le=MAX_INT)]
WaitMs = Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)]
SessionMs = Annotated[int, Meta(ge=1000, le=300_000)]
RequestId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INT)] | str
#: [topic, partition, offset]
At: TypeAlias = tuple[str, Index, Offset]
#: [topic, partition]
Where: TypeAlias = tuple[str, Index]

DEFAULT_TIMEOUT_MS = 30_000


class Request(msgspec.Struct, tag_field="type", kw_only=True):
    """What every request has."""

    id: RequestId


class Logged(Request, kw_only=True):
    """A request that changes the log: answered once that is committed, or after `timeout_ms`."""

    timeout_ms: Count = DEFAULT_TIMEOUT_MS


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
    config: dict[str, Any] = {}


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
    unset: list[str] = []
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
    partitions: list[At]
    max_bytes: Count = MIB
    wait_ms: WaitMs = 0


class ListOffsets(Request, tag="list_offsets", kw_only=True):
    partitions: list[Where]
    at: Literal["earliest", "latest"] | Annotated[int, Meta(ge=0, le=MAX_INT)]


class Ack(Logged, tag="ack", kw_only=True):
    group: str
    offsets: list[At]
    member: str | UnsetType = UNSET
    generation: Count | UnsetType = UNSET
    fence: bool = False
    reset: bool = False


class GroupInfo(Request, tag="group", kw_only=True):
    group: str


class Groups(Request, tag="groups", kw_only=True):
    pass


class DeleteGroup(Logged, tag="delete_group", kw_only=True):
    group: str


class Status(Request, tag="status", kw_only=True):
    pass


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


ClientRequest: TypeAlias = (
    Hello
    | Metadata
    | CreateTopic
    | DeleteTopic
    | CreatePartitions
    | AlterTopic
    | Trim
    | Register
    | Deregister
    | Heartbeat
    | Produce
    | Fetch
    | ListOffsets
    | Ack
    | GroupInfo
    | Groups
    | DeleteGroup
    | Status
)
PeerRequest: TypeAlias = Follow | Replicate
#: What a broker's port understands.
BrokerRequest: TypeAlias = ClientRequest | PeerRequest

# -- 5. Brokers and yak-zk ------------------------------------------------------------------------

#: How a broker's log came out of its last stop; replication.md, "Disk".
LogState: TypeAlias = Literal["whole", "torn", "damaged", "unclean"]


class Join(Request, tag="join", kw_only=True):
    """A broker opens its session.  cluster: null from an empty data directory.

    end: [epoch, index] of the last operation it holds, [0, 0] if none.  epoch: the highest
    epoch it has taken part in.
    """

    broker: Id
    host: str
    port: Index
    cluster: str | None
    disk: str
    inc: str
    state: LogState
    end: tuple[Epoch, Index]
    epoch: Epoch


class Beat(Request, tag="heartbeat", kw_only=True):
    """A broker's heartbeat: its own number, and the last one it heard from yak-zk."""

    number: Count
    heard: Count


class ProposeIsr(Request, tag="isr", kw_only=True):
    """The leader asks for an ISR: a compare-and-set on (epoch, version).

    incs: {broker id: incarnation} for every member that the proposal adds or makes whole.
    """

    epoch: Epoch
    version: Count
    isr: list[Id]
    incs: dict[str, str]


class Resign(Request, tag="resign", kw_only=True):
    """The leader gives up its epoch."""

    epoch: Epoch
    reason: str


class Leave(Request, tag="leave", kw_only=True):
    """A broker says goodbye: its session ends now, by its own will."""


class ClusterQuery(Request, tag="cluster", kw_only=True):
    """Anybody asks for the cluster document."""


CoordinatorRequest: TypeAlias = Join | Beat | ProposeIsr | Resign | Leave | ClusterQuery | Status


class BrokerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A broker as yak-zk knows it.  inc: of its live session, "" without one."""

    id: int
    host: str
    port: int
    live: bool
    inc: str = ""
    state: LogState = "whole"


class ClusterView(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="cluster"):
    """The cluster document as yak-zk pushes it at every change.

    version counts the document's changes (not those of `brokers`' liveness); leader is null
    while there is none.
    """

    cluster: str
    version: int
    epoch: int
    leader: int | None
    isr: list[int]
    settings: Settings
    brokers: list[BrokerInfo]


# -- Answers --------------------------------------------------------------------------------------


class Answer(msgspec.Struct, kw_only=True):
    """An answer's first member after `id` is `ok`."""

    ok: bool = True


class LeaderHint(msgspec.Struct, frozen=True):
    id: int
    host: str
    port: int


class ErrorAnswer(Answer, kw_only=True):
    ok: bool = False
    error: str
    message: str
    retriable: bool
    leader: LeaderHint | UnsetType = UNSET
    expected: int | UnsetType = UNSET
    start: int | UnsetType = UNSET
    high_watermark: int | UnsetType = UNSET


class Done(Answer, kw_only=True):
    """Nothing more to say."""


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
    config: dict[str, Any] = {}


class TrimAnswer(Answer, kw_only=True):
    """start: where the partition's log begins now; above `before` where it did already."""

    topic: str
    partition: int
    start: int


class TopicSize(msgspec.Struct, kw_only=True):
    partitions: int


class ProducerAnswer(Answer, kw_only=True):
    """To register, as a producer."""

    producer: int
    session_ms: int
    topics: dict[str, TopicSize]


class MemberAnswer(Answer, kw_only=True):
    """To register, as a consumer."""

    member: str
    generation: int
    assignment: list[Where]
    #: Where the group stands; null where it has never acknowledged.
    offsets: list[tuple[str, int, int | None]]
    session_ms: int


class HeartbeatAnswer(Answer, kw_only=True):
    generation: int | UnsetType = UNSET
    assignment: list[Where] | UnsetType = UNSET
    offsets: list[tuple[str, int, int | None]] | UnsetType = UNSET


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


class FollowAnswer(Answer, kw_only=True):
    """truncate_to: the next index both share; sum: the running sum just below it."""

    epoch: int
    truncate_to: int
    sum: str


class ReplicateAnswer(Answer, kw_only=True):
    epoch: int
    from_: int = msgspec.field(name="from")
    committed: int
    count: int


class JoinAnswer(Answer, kw_only=True):
    """To join and cluster."""

    view: ClusterView


class BeatAnswer(Answer, kw_only=True):
    """number: yak-zk's own, to be echoed.

    heard: the newest of the broker's numbers that renewed its session, 0 for the join; a lease
    counts from when that one was sent.
    """

    number: int
    heard: int


class IsrAnswer(Answer, kw_only=True):
    version: int
    isr: list[int]


class Election(msgspec.Struct, kw_only=True):
    """One decision of yak-zk, for its status."""

    time: int
    epoch: int
    leader: int | None
    reason: str


class SessionEntry(msgspec.Struct, kw_only=True):
    broker: int
    host: str
    port: int
    live: bool
    heartbeat_age_ms: int | None
    state: LogState


class CoordinatorStatus(Answer, kw_only=True):
    role: str = "coordinator"
    cluster: str
    version: int
    epoch: int
    leader: int | None
    isr: list[int]
    settings: Settings
    sessions: list[SessionEntry]
    elections: list[Election]
    uptime_s: float = 0.0
