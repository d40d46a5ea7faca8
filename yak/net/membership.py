"""A consumer's membership in a group: registered, beating, acknowledging, moving partitions.

    register ──▶ member ──heartbeat──▶ same generation: go on
       ▲            │                  newer: partitions leave and come
       │            └── UNKNOWN_MEMBER: nothing is held any more
       └──────────────────┘

Rules:

* A partition that leaves is revoked at once and *reported as owned until it is released*: until
  the application has come back for more and was told, and what it handled is acknowledged.  So
  nobody else is given it while its records are still worked on here.
* A partition that comes begins where the group stands; where the group never acknowledged, where
  `start` says.  That place is acknowledged at once: a group that began at the end keeps what
  comes from then on, even if its first member dies before it acknowledges anything.
* A partition or a topic that came to be while this was a member is read from its beginning,
  whatever `start` says: nothing of it was there before.
* A topic that was deleted, or made again under its name, is another topic: what was held of the
  old one is lost, and no offset of it is believed or acknowledged.
* Each acknowledgement is an operation of the log, so they are gathered: what is handled while
  one is on its way, and `_ACK_EVERY_S` after it, goes with the next.
* A member counts its session itself, from when it asked for what was answered: once that has
  passed, nothing is handed out before a heartbeat is answered.  So one that was stopped for a
  while does not hand out what its successor was given.
* UNKNOWN_MEMBER: silence was too long.  What was fetched is dropped, what was handed out and not
  acknowledged will be delivered again to whoever then has the partition.

It runs on one loop; `nudge` alone may be called from other threads, through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from yak import errors
from yak import messages as m
from yak.core.inbox import Inbox
from yak.core.positions import Place
from yak.errors import CommitFailedError, YakError
from yak.model import TopicPartition
from yak.net.cluster import Cluster
from yak.net.places import Places, Start, is_unknown
from yak.net.tasks import spawn

#: How often a member reports, at most a quarter of its session, in seconds.
_BEAT_S: Final = 0.5
#: How long one request may be asked again; then what it reports is old.
_REQUEST_S: Final = 10.0

#: The shortest time between two acknowledgements that nobody waits for, in seconds.
_ACK_EVERY_S: Final = 0.05

_log = logging.getLogger(__name__)


class Membership:
    """See the module's text.  `join` first, then `run` is its task.

    on_change: what is wanted has changed.  on_lagging: a replica did not know what is there.
    """

    def __init__(
        self,
        cluster: Cluster,
        inbox: Inbox,
        *,
        group: str,
        topics: Sequence[str],
        client: str,
        session_ms: int,
        start: Start,
        on_change: Callable[[], None],
        on_lagging: Callable[[], None],
    ) -> None:
        self.group = group
        self.member = ""
        self.generation = 0
        #: How often it had to register again, since it was forgotten.
        self.rejoined = 0
        self._cluster = cluster
        self._inbox = inbox
        self._topics = list(topics)
        self._client = client
        self._session_ms = session_ms
        self._start = start
        self._on_change = on_change
        self._on_lagging = on_lagging
        self._places = Places(cluster, _REQUEST_S)
        #: The topics as they were when last told of; what is newer came to be since.
        self._known: Mapping[str, m.KnownTopic] = {}
        self._beat_s = min(_BEAT_S, session_ms / 4000)
        self._beat_now = asyncio.Event()
        self._acking: asyncio.Task[None] | None = None
        self._leaving = False

    async def join(self, timeout_s: float = _REQUEST_S) -> None:
        """Become a member; the assignment, if there is one yet, is in the inbox.

        Raises YakError, as INVALID_TOPIC or UNKNOWN_TOPIC, and TimeoutError.
        """
        request = m.Register(
            id=0,
            role="consumer",
            client=self._client,
            group=self.group,
            topics=self._topics,
            session_ms=self._session_ms,
        )
        asked_at = time.monotonic()
        answer, _ = await self._cluster.ask_leader(request, m.MemberAnswer, timeout_s=timeout_s)
        self._inbox.renewed(asked_at + self._session_ms / 1000)
        self.member = answer.member
        self.generation = 0  # if entering fails, the next heartbeat brings the assignment again
        await self._enter(answer.generation, answer.assignment, answer.offsets, answer.topics)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._beat_s):
                    await self._beat_now.wait()
            except TimeoutError:
                pass
            self._beat_now.clear()
            try:
                await self._beat()
            except CommitFailedError:
                await self._rejoin()
            except YakError as e:
                _log.warning("heartbeat of %s in group %s: %s", self.member, self.group, e)
            self.nudge()

    def check(self) -> None:
        """Replicas do not know a partition, or the session has lapsed: beat at once."""
        self._beat_now.set()

    def nudge(self) -> None:
        """The application made progress: acknowledge it, and release what is done."""
        self._release()
        if self._acking is None or self._acking.done():
            places = self._inbox.to_acknowledge()
            if places:
                self._acking = spawn(self._acknowledge_all(places), name="acknowledge")

    async def acknowledge(self) -> None:
        """Wait until all that is handled is acknowledged.  Raises CommitFailedError, YakError."""
        while places := self._inbox.to_acknowledge():
            await self._acknowledge(places)
        self._release()

    async def leave(self) -> None:
        """Say goodbye, so that others need not wait for this member's silence."""
        self._leaving = True
        if self._acking is not None:
            self._acking.cancel()
            await asyncio.gather(self._acking, return_exceptions=True)
        try:
            await self._cluster.ask_leader(
                m.Deregister(id=0, group=self.group, member=self.member),
                m.Done,
                timeout_s=2.0,
            )
        except YakError as e:
            _log.info("goodbye of %s to group %s: %s", self.member, self.group, e)

    # -- the heartbeat ----------------------------------------------------------------------------

    async def _beat(self) -> None:
        generation = self.generation
        positions = list(self._inbox.positions.values())
        request = m.Heartbeat(
            id=0,
            group=self.group,
            member=self.member,
            generation=generation,
            owned=[position.where for position in positions],
            delivered=[(*position.where, position.handed) for position in positions],
        )
        asked_at = time.monotonic()
        answer, _ = await self._cluster.ask_leader(
            request, m.HeartbeatAnswer, timeout_s=max(2.0, self._session_ms / 1000)
        )
        self._inbox.renewed(asked_at + self._session_ms / 1000)
        newer, topics = answer.generation, answer.topics
        if isinstance(newer, int) and isinstance(topics, dict) and newer > generation:
            offsets = answer.offsets if isinstance(answer.offsets, list) else []
            assignment = answer.assignment if isinstance(answer.assignment, list) else []
            await self._enter(newer, assignment, offsets, topics)
            self._beat_now.set()  # others may wait for what this one has let go
        if self._inbox.trust():
            self._on_lagging()
            self._on_change()

    async def _enter(
        self,
        generation: int,
        assignment: Sequence[m.Where],
        offsets: Sequence[tuple[str, int, int | None]],
        topics: Mapping[str, m.KnownTopic],
    ) -> None:
        """A new generation: what is not in it leaves, what is new in it comes."""
        inbox = self._inbox
        assigned = [where for where in assignment if where[0] in topics]
        self._lose_what_is_gone(topics)
        leaving = [where for where in inbox.positions if where not in set(assigned)]
        inbox.revoke(leaving)
        for where in assigned:
            if where in inbox.positions:  # also what was to leave, and is not released yet
                inbox.keep(where)
        self._release()
        coming = [where for where in assigned if where not in inbox.positions]
        stored = {(t, p): offset for t, p, offset in offsets if offset is not None}
        begun = await self._begin([where for where in coming if where not in stored], topics)
        for where in coming:
            at = {**begun, **stored}.get(where)
            position = inbox.assign(where, at or 0, topics[where[0]].topic_id)
            if at is None:
                inbox.stick(position, 0, _never_acknowledged(self.group, where))
        self._known = {**self._known, **topics}
        self.generation = generation
        if leaving or coming:
            _log.info(
                "group %s generation %d: %d partitions came, %d leave",
                self.group, self.generation, len(coming), len(leaving),
            )  # fmt: skip
        self._on_change()

    def _lose_what_is_gone(self, topics: Mapping[str, m.KnownTopic]) -> None:
        """Topics that were deleted, or made again: nothing of the old ones is held any more."""
        gone = [
            where
            for where, position in self._inbox.positions.items()
            if where[0] not in topics or topics[where[0]].topic_id != position.topic_id
        ]
        for topic in sorted({topic for topic, _ in gone}):
            again = ", and made again" if topic in topics else ""
            _log.warning("group %s: topic %s was deleted%s", self.group, topic, again)
        self._inbox.lose(gone)

    async def _begin(
        self, fresh: Sequence[TopicPartition], topics: Mapping[str, m.KnownTopic]
    ) -> dict[TopicPartition, int]:
        """Where the group begins with these; it is told at once.

        None of them where `start` is "error", but for those that are new.
        """
        new = [where for where in fresh if self._is_new(where, topics[where[0]])]
        rest = [] if self._start == "error" else [where for where in fresh if where not in new]
        ids = {topic: here.topic_id for topic, here in topics.items()}
        begun = await self._places.offsets(new, "beginning", ids)
        begun |= await self._places.offsets(rest, self._start, ids)
        if begun:
            try:
                await self._ask_ack([(*where, offset) for where, offset in begun.items()], ids)
            except YakError as e:
                _log.warning("group %s could not note where it begins: %s", self.group, e)
        return begun

    def _is_new(self, where: TopicPartition, here: m.KnownTopic) -> bool:
        """Whether it came to be while this was a member."""
        known = self._known.get(where[0])
        return known is not None and (
            known.topic_id != here.topic_id or where[1] >= known.partitions
        )

    async def _rejoin(self) -> None:
        _log.warning(
            "group %s does not know member %s any more (it was silent for %d ms?): registering "
            "again; what was not acknowledged will be delivered again",
            self.group, self.member, self._session_ms,
        )  # fmt: skip
        self._inbox.forget()
        self._on_change()
        self.rejoined += 1
        try:
            await self.join()
        except YakError as e:
            _log.warning("group %s: %s", self.group, e)

    # -- acknowledging ----------------------------------------------------------------------------

    async def _acknowledge_all(self, places: list[Place]) -> None:
        """Until nothing is left; errors are the next `acknowledge`'s, or the heartbeat's."""
        try:
            while places:
                await self._acknowledge(places)
                self._release()
                await asyncio.sleep(_ACK_EVERY_S)  # what is handled meanwhile goes together
                places = self._inbox.to_acknowledge()
        except YakError as e:
            _log.warning("group %s: not acknowledged: %s", self.group, e)

    async def _acknowledge(self, places: list[Place]) -> None:
        """Raises the first error that there was; one partition's holds up no other's."""
        ids = {position.where[0]: position.topic_id for position, _ in places}
        try:
            await self._ask_ack([(*position.where, offset) for position, offset in places], ids)
        except CommitFailedError:
            self._beat_now.set()  # which finds out, and registers again
            raise
        except errors.TimeoutError:
            raise
        except YakError:
            if len(places) == 1:
                self._inbox.refused(places[0][0])
                self._beat_now.set()  # was the topic deleted?
                raise
            failed: YakError | None = None
            for one in places:
                try:
                    await self._acknowledge([one])
                except YakError as e:
                    failed = e if failed is None or is_unknown(failed) else failed
            if failed is not None:
                raise failed from None
            return
        self._inbox.acknowledged(places)

    async def _ask_ack(self, offsets: list[m.At], topic_ids: m.TopicIds) -> None:
        await self._cluster.ask_leader(
            m.Ack(
                id=0,
                group=self.group,
                member=self.member,
                generation=self.generation,
                offsets=offsets,
                topic_ids=topic_ids,
            ),
            m.Done,
            timeout_s=_REQUEST_S,
        )

    def _release(self) -> None:
        if self._inbox.release() and not self._leaving:
            self._beat_now.set()


def _never_acknowledged(group: str, where: TopicPartition) -> YakError:
    return YakError(
        f'group {group} never acknowledged anything in {where[0]}[{where[1]}], and start="error" '
        "says not to choose where to begin",
        name="NO_OFFSET",
        hint="seek in it, or begin with another `start`",
    )
