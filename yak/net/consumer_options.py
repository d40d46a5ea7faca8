"""A consumer's options: their meanings, their defaults, and what contradicts what.

They are Consumer's and AsyncConsumer's alike.  The callbacks are not among the settings: a
consumer that is forgotten without a `close` must not be kept alive by what its callbacks hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

from yak.config import DEFAULT_BOOTSTRAP, MAX_WAIT_MS, MIB
from yak.core.serializers import Deserializer, check_form
from yak.model import TopicPartition
from yak.net.cluster import OnWaiting
from yak.net.fetcher import OnGap, ReadFrom
from yak.net.places import Start, check_start, gap_policy

#: What is called when partitions come or go, with those; AsyncConsumer awaits what it returns.
Callback: TypeAlias = Callable[[list[TopicPartition]], object]


class ConsumerOptions(TypedDict, total=False):
    """The options of Consumer and AsyncConsumer; `Settings` and `Callbacks` say what they mean."""

    bootstrap: str
    group: str | None
    start: Start
    on_gap: OnGap | None
    partitions: Collection[int] | None
    read_from: ReadFrom
    commit: Literal["after", "manual"]
    on_assigned: Callback | None
    on_revoked: Callback | None
    on_lost: Callback | None
    value_deserializer: Deserializer
    key_deserializer: Deserializer
    max_records: int
    session_ms: int
    client: str
    max_bytes: int
    wait_ms: int
    metadata_max_age_ms: float
    verify: bool
    on_waiting: OnWaiting | None


class Callbacks(NamedTuple):
    """What is called by `poll`, the loop over records, and `close`, in the application's thread.

    on_assigned: these partitions came; nothing of them was handed out yet (the place to `seek`).
    on_revoked: these go.  They are nobody else's before it has returned, and what is handled by
    then (also by an `ack` of its own) is acknowledged.
    on_lost: these are gone: the group has forgotten this member, or their topic was deleted.
    Nothing of them can be acknowledged any more.
    """

    assigned: Callback | None = None
    revoked: Callback | None = None
    lost: Callback | None = None

    def any(self) -> bool:
        return any(callback is not None for callback in self)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A consumer's options, but for its callbacks."""

    #: HOST:PORT, several with commas between them.
    bootstrap: str = DEFAULT_BOOTSTRAP
    #: The group whose partitions are shared and whose progress is remembered.
    group: str | None = None
    #: Where to begin: "beginning", "end", "stored", "error", an offset, -N for the last N records,
    #: a datetime or "@TIME", or {(topic, partition): offset}: net/places.py.  In a group only where
    #: it never acknowledged anything.
    start: Start = "end"
    #: Where to go on when what it wants was trimmed away: "beginning" (the first record that is
    #: still there), "end", or "error".  None: as `start` says, where that is "end" or "error",
    #: else "beginning".
    on_gap: OnGap | None = None
    #: Only these partitions of each topic; not in a group.
    partitions: Collection[int] | None = None
    #: "any" in-sync replica, the "leader", or the broker with this id while it answers.
    read_from: ReadFrom = "any"
    #: When records are acknowledged: "after" they were handled, or by hand.
    commit: Literal["after", "manual"] = "after"
    #: "json", "str", "bytes", or a function of the bytes: core/serializers.py.  A record with which
    #: it fails is told by an INVALID_RECORD; asking for more goes on behind it.
    value_deserializer: Deserializer = None
    key_deserializer: Deserializer = None
    #: The most that one `poll` returns, where it does not say.
    max_records: int = 500
    #: Silence after which the group takes a member for gone.
    session_ms: int = 10_000
    #: This consumer's name, in the group and in the brokers' logs.
    client: str = "yak-consumer"
    #: Bytes that one fetch asks for.
    max_bytes: int = MIB
    #: How long a broker may hold a fetch for which it has nothing.
    wait_ms: int = 500
    #: How soon new partitions are found.
    metadata_max_age_ms: float = 5000
    #: Compare records with their checksums.
    verify: bool = True
    #: Told why, each second in which nobody answers who could: no broker does, or none leads.
    #: Called on the consumer's loop; it must not block, nor hold the consumer.
    on_waiting: OnWaiting | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        check_start(self.start)
        check_form("value_deserializer", self.value_deserializer)
        check_form("key_deserializer", self.key_deserializer)
        if self.group is None and self.start in ("stored", "error"):
            raise ValueError(f"start={self.start!r} needs a group, which is what is stored")
        if self.on_gap not in (None, "beginning", "end", "error"):
            raise ValueError(f'on_gap is "beginning", "end" or "error", not {self.on_gap!r}')
        if self.group is not None and self.partitions is not None:
            raise ValueError("partitions cannot be chosen in a group: it shares them out")
        if self.commit not in ("after", "manual"):
            raise ValueError(f'commit is "after" or "manual", not {self.commit!r}')
        if isinstance(self.read_from, str) and self.read_from not in ("any", "leader"):
            raise ValueError(f'read_from is "any", "leader" or a broker\'s id: {self.read_from!r}')
        if not 1000 <= self.session_ms <= 300_000:
            raise ValueError(f"session_ms is 1000 to 300000, not {self.session_ms}")
        if not 0 <= self.wait_ms <= MAX_WAIT_MS:
            raise ValueError(f"wait_ms is 0 to {MAX_WAIT_MS}, not {self.wait_ms}")
        for name in ("max_records", "max_bytes", "metadata_max_age_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)!r}")

    @property
    def gap(self) -> OnGap:
        """Where to go on when what it wants was trimmed away."""
        return self.on_gap or gap_policy(self.start)


def parse_options(options: Any) -> tuple[Settings, Callbacks]:
    """The settings and the callbacks.  Raises ValueError, naming the option."""
    rest = dict(options)
    callbacks = Callbacks(*(rest.pop(f"on_{kind}", None) for kind in Callbacks._fields))
    for kind, callback in zip(Callbacks._fields, callbacks, strict=True):
        if callback is not None and not callable(callback):
            raise ValueError(f"on_{kind} is called with a list of partitions: {callback!r} is not")
    return Settings(**rest), callbacks
