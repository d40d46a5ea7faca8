"""All that a broker's core and its world say to each other: two short lists.

The world tells `node.handle(event, now)`; the node returns effects, *in the order in which they
must happen*.  In particular an answer never stands before the append or apply that it reports.

    event                       | what the world saw
    ----------------------------+-------------------------------------------------------------
    Asked, Closed               | a client or a follower asked something; its connection ended
    Joined, ViewChanged         | yak-zk took the broker in; the cluster document changed
    LeaseRenewed, IsrAnswered   | yak-zk answered a heartbeat; an ISR proposal
    CoordinatorLost             | the session with yak-zk broke
    LinkUp, LinkDown            | the connection to the leader stands; is gone
    FollowAnswered, Copied      | the leader answered `follow`; `replicate`
    Durable, Loaded             | the log is durable up to an index; operations read back
    LogCut, FileDamaged         | the log's front is gone; a file is not what was written
    TrimsFound                  | where partitions could be trimmed, as FindTrims asked
    CopyHeard, CopyDone         | a piece of a full copy came; all of it is here and durable
    StorageFailed, Tick, Stop   | the disk refused; time passes; the process is asked to stop

`conn` names a connection of the broker's port: an integer that is never used twice.  `link`
does the same for the one connection to the leader, so that late news of an old one is dropped.

Whoever reads one list wants the other beside it, hence more than 400 lines.  Nothing here has a
behaviour.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from yak import messages as m
from yak.core.ops import Op


class Body(msgspec.Struct):
    """A batch's body as the core knows it.  The shell's own kind also carries the bytes.

    size: bytes.  crc: CRC-32C, eight hex digits.  It was validated before the core hears of it.
    """

    size: int
    crc: str


# -- Events ---------------------------------------------------------------------------------------


class Asked(msgspec.Struct, gc=False):
    """dialled: the host that the client connected to, for addresses in `metadata`."""

    conn: int
    request: m.BrokerRequest
    body: Body | None = None
    dialled: str | None = None


class Closed(msgspec.Struct):
    conn: int


class Joined(msgspec.Struct):
    """The join was answered: yak-zk has recorded what state the log is in."""

    view: m.ClusterView


class ViewChanged(msgspec.Struct):
    view: m.ClusterView


class LeaseRenewed(msgspec.Struct):
    """sent: monotonic time at which the answered heartbeat was *sent*."""

    sent: float


class IsrAnswered(msgspec.Struct):
    """yak-zk's definite word on the proposal made at `version`.  A time-out is not an answer."""

    version: int
    ok: bool
    message: str


class CoordinatorLost(msgspec.Struct):
    reason: str


class LinkUp(msgspec.Struct):
    link: int


class LinkDown(msgspec.Struct):
    link: int
    reason: str


class FollowAnswered(msgspec.Struct):
    """answer: None where the leader refused, with `error`."""

    link: int
    answer: m.FollowAnswer | None
    error: str = ""


class Copied(msgspec.Struct):
    """The leader's answer to `replicate`: whole operations, lines and sums already verified.

    chunk: the shell's own handle of the bytes, given back in AppendCopied.
    """

    link: int
    answer: m.ReplicateAnswer
    ops: list[Op]
    chunk: Any = None


class Durable(msgspec.Struct):
    """Every operation up to `index` is as durable as the fsync setting promises.

    With "always" it is synced; else it is written.  Nothing counts as held before this.
    """

    index: int


class Loaded(msgspec.Struct):
    """Operations read back from the log, as Load asked."""

    ops: list[Op]


class LogCut(msgspec.Struct):
    """The log begins with operation `first` now: what was before is in the checkpoint."""

    first: int


class FileDamaged(msgspec.Struct):
    """Bytes that this broker wrote are others now; what was asked for was not sent.

    needed: by a follower, which cannot go on without them.  of_log: they are the log's.
    """

    message: str
    needed: bool = False
    of_log: bool = False


class CopyHeard(msgspec.Struct):
    """The leader is there: a piece of the copy came, or one more of its files is durable."""

    link: int


class CopyDone(msgspec.Struct):
    """A full copy of the checkpoint at `index` is here and durable."""

    link: int
    index: int


class StorageFailed(msgspec.Struct):
    """The disk refused an append, or to save an epoch; the log's last whole operation is `end`."""

    message: str
    end: int


class FilesStuck(msgspec.Struct):
    """The partition files are refused, and as much waits in memory as may; None: no more."""

    reason: str | None


class TrimsFound(msgspec.Struct):
    """found: (topic, partition, offset) where whole segments below the offset may go."""

    found: list[tuple[str, int, int]]


class Tick(msgspec.Struct):
    """A deadline that the node named has come, or some time has passed."""


class Stop(msgspec.Struct):
    """SIGTERM: finish, say goodbye."""


#: What the disk has to say.
StorageEvent: TypeAlias = (
    Durable | Loaded | LogCut | FileDamaged | StorageFailed | FilesStuck | TrimsFound
)
#: What comes of the connection to the leader.
LinkEvent: TypeAlias = LinkUp | LinkDown | FollowAnswered | CopyHeard | CopyDone
Event: TypeAlias = (
    Asked
    | Closed
    | Joined
    | ViewChanged
    | LeaseRenewed
    | IsrAnswered
    | CoordinatorLost
    | LinkEvent
    | Copied
    | StorageEvent
    | Tick
    | Stop
)

# -- Effects --------------------------------------------------------------------------------------


class AppendOp(msgspec.Struct):
    """Write an operation (and its body) that this leader decided at the end of the log.

    Consecutive ones go out in one write.  The shell says Durable when they are.
    """

    op: Op
    body: Body | None = None


class AppendCopied(msgspec.Struct):
    """Append the leader's very bytes.  copied: the event that brought them."""

    copied: Copied


class Truncate(msgspec.Struct):
    """Cut the log so that `next` is the next index.

    sum: the leader's running sum just below `next`; another one in our log is corruption, and
    then the broker stops and keeps its files.
    """

    next: int
    sum: str


class Apply(msgspec.Struct):
    """These committed operations change the partition files: write them there, in order."""

    ops: list[Op]


class Load(msgspec.Struct):
    """Read operations `first` … `last` (or fewer, but at least one) back: answer Loaded."""

    first: int
    last: int


class Reply(msgspec.Struct):
    conn: int
    id: m.RequestId
    answer: m.Answer


class ReplyLeased(msgspec.Struct):
    """Like Reply, but only if at the moment of writing `until` (monotonic) has not passed.

    Otherwise the client is told NO_LEADER: replication.md, `lease`.
    """

    conn: int
    id: m.RequestId
    answer: m.Answer
    until: float


class SendRecords(msgspec.Struct):
    """Answer a fetch.  entries: with `size` still 0; the shell reads and fills it.

    offsets: for each entry the offset asked for, or None where the entry has an error or no
    records to send.  max_bytes: for the whole answer.
    """

    conn: int
    id: m.RequestId
    entries: list[m.FetchEntry]
    offsets: list[int | None]
    max_bytes: int


class SendOps(msgspec.Struct):
    """Answer a `replicate`: operations from `first` to `last` at most (none if last < first)."""

    conn: int
    id: m.RequestId
    epoch: int
    first: int
    last: int
    committed: int
    max_bytes: int


class SendFollowAnswer(msgspec.Struct):
    """Answer a `follow`: the shell adds the running sum just below `truncate_to`."""

    conn: int
    id: m.RequestId
    epoch: int
    truncate_to: int


class OfferCopy(msgspec.Struct):
    """Answer a `follow` with the last checkpoint, which is kept for this broker meanwhile."""

    conn: int
    id: m.RequestId
    broker: int
    epoch: int


class SendCopy(msgspec.Struct):
    """Answer a `copy` with the piece that it asks for."""

    conn: int
    request: m.Copy


class FindOffsets(msgspec.Struct):
    """Answer list_offsets at a time: per partition the first operation with time >= at_ms.

    The partition files hold committed records only, so they bound the search above.  bounds:
    each partition's log start and high watermark: a file may begin with what is forgotten.
    until: as ReplyLeased.
    """

    conn: int
    id: m.RequestId
    partitions: list[m.Where]
    bounds: list[tuple[int, int]]
    at_ms: int
    until: float


#: (topic, partition, older than this time in ms or None, more than so many bytes or None)
TrimQuery: TypeAlias = tuple[str, int, int | None, int | None]


class FindTrims(msgspec.Struct):
    """Look where these partitions' oldest segments are too old or too many: answer TrimsFound."""

    queries: list[TrimQuery]


class HangUp(msgspec.Struct):
    """Close a client's or follower's connection."""

    conn: int
    reason: str


class Dial(msgspec.Struct):
    """Connect to the leader; answer LinkUp or LinkDown.  The older link is closed."""

    link: int
    broker: int
    host: str
    port: int


class Undial(msgspec.Struct):
    """Close the link; nothing more is heard of it."""

    link: int


class SendFollow(msgspec.Struct):
    """Send `follow`; the shell adds the running sum of the last operation."""

    link: int
    epoch: int
    epochs: list[tuple[int, int]]
    next: int


class SendReplicate(msgspec.Struct):
    link: int
    epoch: int
    first: int
    wait_ms: int


class FetchCopy(msgspec.Struct):
    """Fetch a full copy over the link, piece by piece: CopyHeard … CopyDone, or LinkDown."""

    link: int
    epoch: int
    offer: m.CopyOffer


class Install(msgspec.Struct):
    """The full copy at `index` takes the place of all that is here; then start anew."""

    index: int


class Rebuild(msgspec.Struct):
    """The files here cannot be relied upon: start anew without them, marked as damaged."""

    reason: str


class ProposeIsr(msgspec.Struct):
    """Ask yak-zk; IsrAnswered comes, or nothing: then it stays unknown."""

    epoch: int
    version: int
    isr: list[int]
    incs: dict[int, str]


class Resign(msgspec.Struct):
    epoch: int
    reason: str


class SaveEpoch(msgspec.Struct):
    """Make the epoch durable in meta.json before anything that follows."""

    epoch: int


class SaveCluster(msgspec.Struct):
    """Make the cluster's id durable in meta.json: this directory now belongs to it."""

    cluster: str


class Tell(msgspec.Struct):
    """A decision and its reason, for the log and events.jsonl."""

    event: str
    fields: dict[str, Any]


class Halt(msgspec.Struct):
    """An assertion of safety failed: stop at once and keep the files."""

    reason: str


class Finished(msgspec.Struct):
    """After Stop: nothing is left to answer."""


#: What belongs to full copies.
CopyEffect: TypeAlias = OfferCopy | SendCopy | FetchCopy | Install | Rebuild
Effect: TypeAlias = (
    AppendOp
    | AppendCopied
    | Truncate
    | Apply
    | Load
    | Reply
    | ReplyLeased
    | SendRecords
    | SendOps
    | SendFollowAnswer
    | FindOffsets
    | FindTrims
    | HangUp
    | Dial
    | Undial
    | SendFollow
    | SendReplicate
    | CopyEffect
    | ProposeIsr
    | Resign
    | SaveEpoch
    | SaveCluster
    | Tell
    | Halt
    | Finished
)
