"""A simulated operator: topics come, grow, change, are trimmed and go; so do groups.

It takes one deed after the other, each with a pause before it, and tells whoever leads.  Some
deeds are two requests in one breath (deleted and made again), which take effect in that order.
What it was told has happened must be in the history; what was refused may be tried again later.

It is nobody's friend: it deletes what others write to and read from at that moment.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.sim.clients import Client
from yak import messages as m

if TYPE_CHECKING:
    from tests.sim.history import Incarnation
    from tests.sim.world import World

#: Files that hold a few batches, so that there is something to trim.
SEGMENT_BYTES: Final = (1024, 1024, 1500, 4096)
#: A topic that nobody but the operator knows, and a group.
SPARE_TOPIC: Final = "x"
SPARE_GROUP: Final = "idle"
#: Refusals that say that somebody else was faster, or that it is not the time.
_FINE: Final = (
    "TOPIC_EXISTS",
    "UNKNOWN_TOPIC",
    "UNKNOWN_PARTITION",
    "INVALID_CONFIG",
    "OFFSET_OUT_OF_RANGE",
    "GROUP_NOT_EMPTY",
)


class Operator(Client):
    """See the module."""

    def __init__(self, world: World, name: str, deeds: int) -> None:
        super().__init__(world, name)
        self._left = deeds
        self._pace_s = 1.6 * world.setup.chaos_s / max(deeds, 1)
        self._waiting = 0
        self._plan: list[m.Logged] = []
        self.after(0.1 * self.rng.random(), self.ready)

    @property
    def finished(self) -> bool:
        return not self._waiting

    def ready(self) -> None:
        if self.world.finishing or self._waiting or not self._left or not self.connected():
            return
        if not self._plan:
            self._plan = self._deed()
            self._left -= 1
            self.world.note(f"{self.name}: {', '.join(map(_told, self._plan))}")
        plan, self._plan = self._plan, []
        self._waiting = len(plan)
        for request in plan:
            request.timeout_ms = self.world.setup.timeout_ms
            self.ask(request, b"", partial(self._answered, request))

    def _answered(self, request: m.Logged, answer: m.Answer | None, _: bytes) -> None:
        self._waiting -= 1
        if isinstance(answer, m.ErrorAnswer):
            if not answer.retriable and answer.error not in _FINE:
                self.world.judge.fail(f"{self.name}: {_told(request)}: {answer.message}")
        elif answer is not None:
            self._check(request, answer)
        if answer is None or (isinstance(answer, m.ErrorAnswer) and answer.error not in _FINE):
            self._plan.append(request)  # again, whether it was done or not
        if self._plan:
            if not self._waiting:
                self.misdirected(answer)
        elif not self._waiting:
            self.after(self._pace_s * self.rng.random(), self.ready)

    def _check(self, request: m.Logged, answer: m.Answer) -> None:
        """What it is told was done is in the history."""
        history, done = self.world.judge.history, True
        if isinstance(answer, m.TopicAnswer):
            known = history.incarnations.get(answer.topic_id)
            done = known is not None and len(known.shelves) >= answer.partitions
        elif isinstance(answer, m.TrimAnswer):
            done = any(
                len(one.shelves) > answer.partition
                and answer.start in one.shelves[answer.partition].starts
                for one in history.by_name[answer.topic]
            )
        elif isinstance(request, m.DeleteTopic):
            done = any(one.deleted for one in history.by_name[request.topic])
        if not done:
            self.world.judge.fail(f"acknowledged: {self.name} was told of {_told(request)}")

    # -- deeds ------------------------------------------------------------------------------------

    def _deed(self) -> list[m.Logged]:
        topics = self.world.judge.history.topics
        name = self.rng.choice((*self.world.setup.topics, *self.world.setup.topics, SPARE_TOPIC))
        known = topics.get(name)
        if known is None:
            return [self._create(name)]
        deed = self.rng.choices(
            (self._grow, self._alter, self._delete, self._trim, self._group),
            weights=(2, 1, 3, 4, 2),
        )[0]
        return deed(known)

    def _create(self, name: str) -> m.Logged:
        config = {"segment_bytes": self.rng.choice(SEGMENT_BYTES)}
        count = self.rng.randint(1, 3)
        return m.CreateTopic(id=0, topic=name, partitions=count, config=config)

    def _grow(self, known: Incarnation) -> list[m.Logged]:
        total = min(len(known.shelves) + self.rng.randint(1, 2), 5)
        return [m.CreatePartitions(id=0, topic=known.name, partitions=total)]

    def _alter(self, known: Incarnation) -> list[m.Logged]:
        config = {"segment_bytes": self.rng.choice(SEGMENT_BYTES)}
        return [m.AlterTopic(id=0, topic=known.name, config=config)]

    def _delete(self, known: Incarnation) -> list[m.Logged]:
        request = m.DeleteTopic(id=0, topic=known.name)
        if self.rng.random() < 0.5:
            request.topic_id = known.id
        return [request, self._create(known.name)] if self.rng.random() < 0.6 else [request]

    def _trim(self, known: Incarnation) -> list[m.Logged]:
        plan: list[m.Logged] = []
        for p, shelf in enumerate(known.shelves):
            if self.rng.random() < 0.7:
                before = self.rng.choice((shelf.end, self.rng.randint(shelf.start, shelf.end)))
                plan.append(m.Trim(id=0, topic=known.name, partition=p, before=before))
        return plan or self._alter(known)

    def _group(self, known: Incarnation) -> list[m.Logged]:
        group = self.rng.choice((SPARE_GROUP, SPARE_GROUP, *self.world.setup.groups))
        if self.rng.random() < 0.3:
            return [m.DeleteGroup(id=0, group=group)]
        p = self.rng.randrange(len(known.shelves))
        offset = self.rng.randint(0, known.shelves[p].end)
        reset = self.rng.random() < 0.5
        return [m.Ack(id=0, group=group, offsets=[(known.name, p, offset)], reset=reset)]


def _told(request: m.Logged) -> str:
    fields: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("topic", "group", "partition", "partitions", "before", "offsets", "reset")
        if hasattr(request, name)
    }
    return f"{type(request).__name__} {fields}"
