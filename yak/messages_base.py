"""What every request and every answer has, and the types that their fields share.

yak/messages.py has the rules, and names all of this again: it is what others import.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yak.config import MAX_WAIT_MS
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
#: {topic: the topic_id that the request means by it}
TopicIds: TypeAlias = dict[str, str]

DEFAULT_TIMEOUT_MS = 30_000


class Request(msgspec.Struct, tag_field="type", kw_only=True, gc=False):
    """What every request has.  What was decoded has no cycles: garbage.py says why it matters."""

    id: RequestId


class Logged(Request, kw_only=True):
    """A request that changes the log: answered once that is committed, or after `timeout_ms`."""

    timeout_ms: Count = DEFAULT_TIMEOUT_MS


class Status(Request, tag="status", kw_only=True):
    pass


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
