"""The operations, and their one-line form.

Everything durable is an operation.  Its line is the same on the wire, in every replica's log
and in the partition files; it is encoded once, by the leader that decided it:

    {"index":18,"epoch":3,"time":1763800000123,"op":"append","topic":"orders","partition":0,
     "offset":41,"count":2,"size":57,"crc":"9ae0daaf","producer":7,"sequence":0,"sum":"4c1d22e0"}

(one line; broken here).  Rules:

* index counts from 1 without a gap; epoch never falls; time never goes back.
* `sum` is always last: CRC-32C over the previous line's eight hex digits (zeros before index 1)
  and this line up to `,"sum"`.  So a line proves itself and all that came before it.
* `append` alone carries a body: `size` bytes right after its line, whose CRC-32C is `crc`.
* A field that is left out is not null.

This module knows lines, not files and not bodies.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from google_crc32c import value as crc32c
from msgspec import UNSET, UnsetType

from yak.messages import At

#: The running sum before the first operation.
NO_SUM: Final = "00000000"
_SUM_TAIL: Final = len(b',"sum":"00000000"}\n')


class _Op(msgspec.Struct, kw_only=True):
    index: int
    epoch: int
    time: int


class Lead(_Op, kw_only=True):
    """The first operation of every epoch."""

    op: Literal["lead"] = "lead"
    broker: int


class CreateTopic(_Op, kw_only=True):
    op: Literal["create_topic"] = "create_topic"
    topic: str
    topic_id: str
    partitions: int
    config: dict[str, Any]


class DeleteTopic(_Op, kw_only=True):
    op: Literal["delete_topic"] = "delete_topic"
    topic: str
    topic_id: str


class CreatePartitions(_Op, kw_only=True):
    op: Literal["create_partitions"] = "create_partitions"
    topic: str
    partitions: int


class AlterTopic(_Op, kw_only=True):
    """config: all that is set from now on."""

    op: Literal["alter_topic"] = "alter_topic"
    topic: str
    config: dict[str, Any]


class Trim(_Op, kw_only=True):
    """Whole segments below `before` are forgotten; `before` is the new log start."""

    op: Literal["trim"] = "trim"
    topic: str
    partition: int
    before: int


class Register(_Op, kw_only=True):
    """A producer (`producer`), or a member of a group (`group`, `member`), comes or renews."""

    op: Literal["register"] = "register"
    role: Literal["producer", "consumer"]
    client: str
    topics: list[str]
    producer: int | UnsetType = UNSET
    group: str | UnsetType = UNSET
    member: str | UnsetType = UNSET
    session_ms: int | UnsetType = UNSET


class Deregister(_Op, kw_only=True):
    """asked: by itself.  expired: silent; a producer's sequences stay.  forgotten: they go too.

    deleted: a group without members, with its offsets (`member` is left out).
    """

    op: Literal["deregister"] = "deregister"
    reason: Literal["asked", "expired", "forgotten", "deleted"]
    producer: int | UnsetType = UNSET
    group: str | UnsetType = UNSET
    member: str | UnsetType = UNSET


class Append(_Op, kw_only=True):
    """`count` offsets from `offset`; the body of `size` bytes follows the line."""

    op: Literal["append"] = "append"
    topic: str
    partition: int
    offset: int
    count: int
    size: int
    crc: str
    producer: int | UnsetType = UNSET
    sequence: int | UnsetType = UNSET


class Ack(_Op, kw_only=True):
    """offsets: [topic, partition, the next offset that the group wants]."""

    op: Literal["ack"] = "ack"
    group: str
    offsets: list[At]
    member: str | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


#: [topic, partition, owner, the member that may still hold it or null, since which generation];
#: the owner is "" where nobody wants the partition any more, and only its holder is waited for.
Owner: TypeAlias = tuple[str, int, str, str | None, int | None]


class Assign(_Op, kw_only=True):
    """A group's partitions are shared out anew: the whole assignment of one generation."""

    op: Literal["assign"] = "assign"
    group: str
    generation: int
    owners: list[Owner]


Op: TypeAlias = (
    Lead
    | CreateTopic
    | DeleteTopic
    | CreatePartitions
    | AlterTopic
    | Trim
    | Register
    | Deregister
    | Append
    | Ack
    | Assign
)

_KINDS: Final[dict[str, type[Op]]] = {
    "lead": Lead,
    "create_topic": CreateTopic,
    "delete_topic": DeleteTopic,
    "create_partitions": CreatePartitions,
    "alter_topic": AlterTopic,
    "trim": Trim,
    "register": Register,
    "deregister": Deregister,
    "append": Append,
    "ack": Ack,
    "assign": Assign,
}


class _Kind(msgspec.Struct):
    op: str


_encoder = msgspec.json.Encoder()
_kind = msgspec.json.Decoder(_Kind)
_decoders: Final = {name: msgspec.json.Decoder(kind) for name, kind in _KINDS.items()}


class BrokenLine(ValueError):  # noqa: N818 -- it says what was found
    """A line that is no operation, or whose sum does not follow from the line before it."""


def encode(op: Op, previous_sum: str) -> tuple[bytes, str]:
    """The operation's line, closed by a newline, and its sum."""
    head = _encoder.encode(op)[:-1]
    digest = "%08x" % crc32c(previous_sum.encode() + head)  # noqa: UP031 -- a fifth faster here
    return b'%s,"sum":"%s"}\n' % (head, digest.encode()), digest


def decode(line: bytes) -> Op:
    """The operation of a line (the sum is not checked).  Raises BrokenLine."""
    try:
        op: Op = _decoders[_kind.decode(line).op].decode(line)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as e:
        raise BrokenLine(f"not an operation: {e}: {line[:200]!r}") from e
    return op


def check_sum(line: bytes, previous_sum: str) -> str:
    """The line's sum, once it is proved to follow from the line before.  Raises BrokenLine."""
    head, tail = line[:-_SUM_TAIL], line[-_SUM_TAIL:]
    digest = "%08x" % crc32c(previous_sum.encode() + head)  # noqa: UP031 -- as above
    if tail != b',"sum":"%s"}\n' % digest.encode():
        raise BrokenLine(
            f"the sum does not follow from {previous_sum} (expected {digest}): {line[-80:]!r}"
        )
    return digest


def body_size(op: Op) -> int:
    """How many bytes follow the line."""
    return op.size if isinstance(op, Append) else 0


def crc_of(body: bytes | memoryview) -> str:
    """CRC-32C of a body, as eight hex digits."""
    return format(crc32c(bytes(body)), "08x")  # the library takes no memoryview; bytes as they are
