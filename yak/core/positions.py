"""What a consumer reads: its partitions, how far it has got in each, and who knows of it.

    one partition:     acked      handled     next          fetch_at
    ───────────────────┼──────────┼───────────┼─────────────┼──────────▶ offsets
      the group knows  │ told the │ with the  │ fetched     │ not yet
                       │ leader   │ application             │ fetched

Rules:

* Invariants: acked ≤ handled ≤ handed; next ≤ fetch_at.  `handed` is where `next` was at its
  furthest; a seek moves `next` and `fetch_at`, and neither of the other three: what is handled
  stays handled.  What is not, and is behind `next` now, does not become so by asking for more: it
  will be handed out again.
* A partition is *revoked*, and then *released*: once the application has come back for more, was
  told (where it wants to be), and all that it handled is acknowledged.  Only then may the group be
  told that it is not held any more.
* A partition is *lost* at once: it is another's by now, or deleted.  Nothing of it is acknowledged.
* What the application is told is what has changed since it was last told: a partition that came
  and went meanwhile is not spoken of.  What it was told counts once its callback has returned; one
  that failed is called again.
* A Position is one stay of a partition: when the partition is lost and comes again, that is
  another one, and what is still under way for the first finds nobody.

It keeps no records and takes no lock: both are the inbox's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from yak.core.records import Chunk
from yak.errors import YakError
from yak.model import TopicPartition


@dataclass(eq=False, slots=True)
class Position:
    """One partition that this consumer reads; offsets as the module's drawing names them.

    topic_id: of the topic that these are offsets of.
    out: the application has records of it and has not asked for more since.
    told: the application was told that it came, and not yet that it goes.
    unknown: the replicas say that there is no such partition; it is not fetched until that is
    cleared up.
    stuck: why it cannot be read on from here; raised to the application.
    parked: chunks of it that were fetched before it was paused.
    high_watermark: as last told by a broker; None before.
    """

    where: TopicPartition
    topic_id: str
    next: int
    handed: int
    handled: int
    acked: int
    fetch_at: int
    out: bool = False
    revoked: bool = False
    lost: bool = False
    told: bool = False
    paused: bool = False
    unknown: bool = False
    stuck: YakError | None = None
    parked: list[Chunk] = field(default_factory=list)
    high_watermark: int | None = None

    @property
    def done(self) -> int:
        """What the application has handled if it has handled all that it was handed."""
        return min(self.handed, self.next)

    @property
    def wanted(self) -> bool:
        """To be fetched."""
        return not (self.revoked or self.paused or self.unknown or self.stuck is not None)

    @property
    def released(self) -> bool:
        """Revoked, and nothing of it is left to do."""
        return self.revoked and not (self.told or self.out) and self.acked >= self.handled


#: A partition, and the offset meant in it.
Place: TypeAlias = tuple[Position, int]


class Notice(NamedTuple):
    """What the application is to be told."""

    kind: Literal["assigned", "revoked", "lost"]
    positions: list[Position]

    @property
    def partitions(self) -> list[TopicPartition]:
        return sorted(position.where for position in self.positions)


class FetchPlan(NamedTuple):
    """What to fetch.

    version: of the set of partitions that are fetched.  whole: `places` are all of them; else
    those whose offset has moved since the last plan.
    """

    version: int
    whole: bool
    places: list[Place]


class Positions:
    """See the module's text.  announces: whether the application wants to be told."""

    def __init__(self, *, announces: bool) -> None:
        self.held: dict[TopicPartition, Position] = {}
        #: There is something to tell; the application's thread looks at this for each record.
        self.news = False
        #: Grows when another set of partitions is to be fetched.
        self.version = 0
        self._announces = announces
        #: Whether anything is wanted, and for which version that was looked at.
        self._wants, self._looked_at = False, 0
        #: Wanted, and its `fetch_at` has changed since the last plan.
        self._moved: dict[Position, None] = {}
        #: Handled and not acknowledged, as far as is known.
        self.dirty: dict[Position, None] = {}
        self._stuck: dict[Position, None] = {}
        self._revoked: dict[Position, None] = {}
        #: Gone, and the application was told of them when they came.
        self._lost: dict[Position, None] = {}

    # -- coming and going -------------------------------------------------------------------------

    def add(self, where: TopicPartition, offset: int, topic_id: str) -> Position:
        """A partition comes."""
        assert where not in self.held
        position = Position(where, topic_id, offset, offset, offset, offset, offset)
        self.held[where] = position
        self._changed()
        return position

    def keep(self, position: Position) -> None:
        """It was to go, and stays: it goes on where it was."""
        if position.revoked:
            position.revoked = False
            del self._revoked[position]
            self._changed()

    def revoke(self, position: Position) -> None:
        """It is to go; see `release`."""
        if not position.revoked:
            position.revoked = True
            position.paused = False
            position.fetch_at = position.next
            self._revoked[position] = None
            self.unstick(position)
            self._changed()

    def release(self) -> list[TopicPartition]:
        """Forget those that are released now."""
        gone = [position for position in self._revoked if position.released]
        for position in gone:
            self._remove(position)
        return [position.where for position in gone]

    def lose(self, position: Position) -> None:
        """It is gone, and nothing of it is acknowledged any more."""
        self._remove(position)
        position.revoked = position.lost = True
        if position.told:
            self._lost[position] = None
        self._changed()

    def _remove(self, position: Position) -> None:
        del self.held[position.where]
        self._revoked.pop(position, None)
        self.dirty.pop(position, None)
        self._stuck.pop(position, None)
        self._moved.pop(position, None)

    def _changed(self) -> None:
        self.version += 1
        self.news = self._announces

    # -- what is fetched --------------------------------------------------------------------------

    def changed_wants(self) -> None:
        """Another set of partitions is to be fetched than before."""
        self.version += 1

    def move(self, position: Position, fetch_at: int) -> None:
        """Fetch it from there next."""
        position.fetch_at = fetch_at
        self._moved[position] = None

    def wants(self) -> bool:
        """Whether anything is to be fetched."""
        if self._looked_at != self.version:
            self._looked_at = self.version
            self._wants = any(position.wanted for position in self.held.values())
        return self._wants

    def plan(self, version: int) -> FetchPlan:
        """What to fetch next.  version: of the plan that the last fetch went by; else -1."""
        moved, self._moved = self._moved, {}
        whole = version != self.version
        chosen: Iterable[Position] = self.held.values() if whole else moved
        places = [(position, position.fetch_at) for position in chosen if position.wanted]
        return FetchPlan(self.version, whole, places)

    def stick(self, position: Position, error: YakError) -> None:
        """It cannot be read on."""
        position.stuck = error
        self._stuck[position] = None
        self.version += 1

    def unstick(self, position: Position) -> None:
        position.stuck = None
        self._stuck.pop(position, None)

    def stuck(self) -> YakError | None:
        """Why one of them cannot be read on, if it is meant to be."""
        return next((position.stuck for position in self._stuck if not position.paused), None)

    # -- what is acknowledged ---------------------------------------------------------------------

    def handle(self, position: Position, offset: int) -> None:
        """The application has handled everything below `offset`."""
        if offset > position.handled:
            position.handled = offset
            if not position.lost:
                self.dirty[position] = None

    def to_acknowledge(self) -> list[Place]:
        """What is handled and not acknowledged."""
        for position in [position for position in self.dirty if position.handled <= position.acked]:
            del self.dirty[position]
        return [(position, position.handled) for position in self.dirty]

    # -- what is told -----------------------------------------------------------------------------

    def notice(self) -> Notice | None:
        """What to tell the application next: what it lost, what goes, what came."""
        if self.news:
            if self._lost:
                return Notice("lost", list(self._lost))
            going = [position for position in self._revoked if position.told]
            if going:
                return Notice("revoked", going)
            came = [one for one in self.held.values() if not (one.told or one.revoked)]
            if came:
                return Notice("assigned", came)
            self.news = False
        return None

    def noted(self, notice: Notice) -> None:
        """The application was told.  What has changed since is another notice."""
        for position in notice.positions:
            position.told = notice.kind == "assigned"
            if notice.kind == "lost":
                self._lost.pop(position, None)
            elif position.lost and position.told:
                self._lost[position] = None
