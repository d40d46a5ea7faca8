"""What is known of a cluster, as plain values, and the form of an explanation.

    Facts         all that was gathered: logs, events, yak-zk's history, a running cluster's word
    Cause         one link of a chain: when, in which operation and epoch, and a plain sentence
    Explanation   an answer, its chain of causes in the order of time, and what cannot be known

Rules:

* Whatever looks through a log (`Seen`) is shown every operation once, in order, and keeps only
  what its question needs: a log may have millions.
* Facts come from replicas that agree.  Where one log reaches further than another, `logs` begins
  with it; its end may not be committed yet.
* Times are ms since 1970 and in sentences UTC.

It reads no files and asks nobody: whoever gathers the facts does (commands/gathering.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from yak import messages as m
from yak.core import ops
from yak.core.document import Document
from yak.core.state import State


class Unexplained(Exception):  # noqa: N818 -- it says what was found
    """The question is about something that is not there; the message says what is."""


class Event(NamedTuple):
    """One line of a process's events.jsonl."""

    time: int
    process: str
    event: str
    fields: Mapping[str, Any]

    @property
    def broker(self) -> int | None:
        """The broker that it is about: the one that it names, else the one that tells it."""
        named = self.fields.get("broker")
        return named if isinstance(named, int) else self.teller

    def hurts(self, *members: int | None) -> bool:
        """Whether it is a fault of `yak chaos`, or its end, at one of these; 0 is yak-zk."""
        return self.process == "chaos" and bool({*self.fields.get("members", ())} & {*members})

    @property
    def teller(self) -> int | None:
        """The broker that tells it; None for yak-zk."""
        number = self.process.removeprefix("broker-")
        return int(number) if number.isdecimal() else None


class Seen(Protocol):
    """What a question keeps of one log."""

    def begin(self, state: State) -> None:
        """Before the first operation: the state of the last checkpoint, or an empty one."""

    def see(self, op: ops.Op) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LogFacts:
    """One broker's log as it lies on its disk.

    first, last: the indexes that it holds; last is 0 where it is empty.  state: after the last.
    checkpoint: the index of its checkpoint, 0 without one.  seen: what the question kept.
    stored: the operation of the offset asked for, as a partition file holds it.
    """

    broker: int
    directory: str
    first: int
    last: int
    epoch: int
    checkpoint: int
    state: State
    seen: Any
    stored: ops.Append | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """logs: the one that reaches furthest first.  events: by time.  now: when this was gathered.

    statuses: of the brokers that answered.  down: why the others did not.
    topics: those that a running cluster has.  ends: of the topic asked for, (start, high
    watermark) of each partition.  groups: as the leader sees them.
    fetched: the operation that holds the offset asked for, as a broker sent it.
    """

    now: int = 0
    logs: Sequence[LogFacts] = ()
    events: Sequence[Event] = ()
    document: Document | None = None
    coordinator: m.CoordinatorStatus | None = None
    statuses: Mapping[int, m.StatusAnswer] = field(default_factory=dict)
    down: Mapping[int, str] = field(default_factory=dict)
    topics: Mapping[str, m.TopicEntry] = field(default_factory=dict)
    ends: Sequence[tuple[int, int]] = ()
    groups: Mapping[str, m.GroupAnswer] = field(default_factory=dict)
    fetched: ops.Append | None = None
    sources: Sequence[str] = ()
    unknown: Sequence[str] = ()

    @property
    def log(self) -> LogFacts | None:
        """The log that reaches furthest."""
        return self.logs[0] if self.logs else None

    @property
    def word(self) -> m.StatusAnswer | None:
        """The word of the highest epoch, if a broker answers; the leader's own where it does."""
        words = list(self.statuses.values())
        return max(words, key=lambda one: (one.epoch, one.broker == one.leader), default=None)

    def of(self, *events: str, process: str = "", broker: int | None = None) -> list[Event]:
        """The events of these names, in order; of one process, about one broker."""
        return [
            one
            for one in self.events
            if one.event in events
            and one.process.startswith(process)
            and (broker is None or one.broker == broker)
        ]

    def last(self, *events: str, before: int | None = None, broker: int | None = None) -> Any:
        """The last of them, not later than `before`; None without one."""
        found = self.of(*events, broker=broker)
        return next((e for e in reversed(found) if before is None or e.time <= before), None)


class Cause(msgspec.Struct, kw_only=True, frozen=True):
    """One link of a chain.

    kind: what it is, in one word, for programs.  source: whose word it is.
    time, index, epoch: null where it has none, or where none is known.
    """

    time: int | None = None
    index: int | None = None
    epoch: int | None = None
    kind: str
    source: str
    what: str


class Explanation(msgspec.Struct, kw_only=True, frozen=True):
    """answer: one sentence.  unknown: what could not be told, and why."""

    about: str
    answer: str
    chain: list[Cause]
    unknown: list[str]
    sources: list[str]


def explanation(
    about: str, answer: str, chain: Sequence[Cause], facts: Facts, unknown: Sequence[str] = ()
) -> Explanation:
    """The chain by time; what has none stays behind all that it was put behind."""
    latest, keyed = 0, []
    for place, cause in enumerate(chain):
        latest = max(latest, cause.time or 0)
        keyed.append((latest if cause.time is None else cause.time, place, cause))
    return Explanation(
        about=about,
        answer=answer,
        chain=[cause for _, _, cause in sorted(keyed, key=lambda one: one[:2])],
        unknown=list(dict.fromkeys([*unknown, *facts.unknown])),
        sources=list(facts.sources),
    )


def of_log(op: ops.Op, kind: str, what: str) -> Cause:
    """A cause that is an operation."""
    return Cause(time=op.time, index=op.index, epoch=op.epoch, kind=kind, source="log", what=what)


# -- Words ----------------------------------------------------------------------------------------


def clock(ms: int) -> str:
    """`07:31:02.114`, UTC."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%H:%M:%S") + f".{ms % 1000:03d}"


def moment(ms: int) -> str:
    """`2026-11-22 07:31:02.114Z`"""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d ") + clock(ms) + "Z"


def named(ids: Sequence[int]) -> str:
    """`broker 1`, `brokers 1, 2 and 3`, `nobody`."""
    if not ids:
        return "nobody"
    return ("broker " if len(ids) == 1 else "brokers ") + numbers(ids)


def numbers(ids: Sequence[int]) -> str:
    """`1`, `1, 2 and 3`"""
    texts = [str(one) for one in sorted(ids)]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def are(ids: Sequence[int]) -> str:
    """The verb after `named`."""
    return "is" if len(ids) <= 1 else "are"


def counted(count: int, noun: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def joined(parts: Sequence[str], most: int = 10) -> str:
    """`a, b and c`; of more than `most` the first, and how many more."""
    shown = list(parts[:most])
    if len(parts) > most:
        shown.append(f"{len(parts) - most:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
