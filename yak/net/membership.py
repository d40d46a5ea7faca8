"""A consumer's membership in a group: registered, beating, acknowledging, moving partitions.

    register ──▶ member ──heartbeat──▶ same generation: go on
       ▲            │                  newer: partitions leave and come
       │            └── UNKNOWN_MEMBER: nothing is held any more
       └──────────────────┘

Rules:

* A partition that leaves is revoked at once and *reported as owned until it is released*: until
  the application has come back for more, and what it handled is acknowledged.  So nobody else is
  given it while its records are still worked on here.
* A partition that comes begins where the group stands; where the group never acknowledged, where
  `start` says.  That place is acknowledged at once: a group that began at the end keeps what
  comes from then on, even if its first member dies before it acknowledges anything.
* Each acknowledgement is an operation of the log, so they are gathered: what is handled while
  one is on its way, and `_ACK_EVERY_S` after it, goes with the next.
* UNKNOWN_MEMBER: silence was too long.  What was fetched is dropped, what was handed out and not
  acknowledged will be delivered again to whoever then has the partition.

It runs on one loop; `nudge` alone may be called from other threads, through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UnsetType

from yak import errors
from yak import messages as m
from yak.core.inbox import Inbox
from yak.errors import CommitFailedError, YakError
from yak.model import TopicPartition
from yak.net.cluster import Cluster
from yak.net.fetcher import Start, starting_offsets
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

    on_change: what is wanted has changed.
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
        answer, _ = await self._cluster.ask_leader(request, m.MemberAnswer, timeout_s=timeout_s)
        self.member = answer.member
        self.generation = 0  # if entering fails, the next heartbeat brings the assignment again
        await self._enter(answer.generation, answer.assignment, answer.offsets)

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

    def nudge(self) -> None:
        """The application made progress: acknowledge it, and release what is done."""
        self._release()
        if self._acking is None or self._acking.done():
            self._acking = spawn(self._acknowledge_all(), name="acknowledge")

    async def acknowledge(self) -> None:
        """Wait until all that is handled is acknowledged.  Raises CommitFailedError, YakError."""
        while offsets := self._inbox.to_acknowledge():
            await self._acknowledge(offsets)
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
            delivered=[(*position.where, position.next) for position in positions],
        )
        answer, _ = await self._cluster.ask_leader(
            request, m.HeartbeatAnswer, timeout_s=max(2.0, self._session_ms / 1000)
        )
        if isinstance(answer.generation, UnsetType) or isinstance(answer.assignment, UnsetType):
            return
        if answer.generation > generation:
            offsets = answer.offsets if not isinstance(answer.offsets, UnsetType) else []
            await self._enter(answer.generation, answer.assignment, offsets)
            self._beat_now.set()  # others may wait for what this one has let go

    async def _enter(
        self,
        generation: int,
        assignment: list[m.Where],
        offsets: list[tuple[str, int, int | None]],
    ) -> None:
        """A new generation: what is not in it leaves, what is new in it comes."""
        inbox = self._inbox
        assigned = set(assignment)
        leaving = [
            where
            for where, position in inbox.positions.items()
            if where not in assigned and not position.revoked
        ]
        inbox.revoke(leaving)
        self._release()
        stored = {(t, p): offset for t, p, offset in offsets if offset is not None}
        coming = [where for where in assignment if where not in inbox.positions]
        fresh = [where for where in coming if where not in stored]
        begun = await self._begin(fresh)
        for where in assignment:  # those revoked and not yet released stay, and go on
            inbox.assign(where, stored.get(where, begun.get(where, 0)))
        self.generation = generation
        if leaving or coming:
            _log.info(
                "group %s generation %d: %d partitions came, %d leave",
                self.group, self.generation, len(coming), len(leaving),
            )  # fmt: skip
        self._on_change()

    async def _begin(self, fresh: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the group begins with these; it is told at once."""
        if not fresh:
            return {}
        begun = await starting_offsets(self._cluster, fresh, self._start, _REQUEST_S)
        try:
            await self._ask_ack([(*where, offset) for where, offset in begun.items()])
        except YakError as e:
            _log.warning("group %s could not note where it begins: %s", self.group, e)
        return begun

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

    async def _acknowledge_all(self) -> None:
        """Until nothing is left; errors are the next `acknowledge`'s, or the heartbeat's."""
        try:
            while offsets := self._inbox.to_acknowledge():
                await self._acknowledge(offsets)
                self._release()
                await asyncio.sleep(_ACK_EVERY_S)  # what is handled meanwhile goes together
        except YakError as e:
            _log.warning("group %s: not acknowledged: %s", self.group, e)

    async def _acknowledge(self, offsets: list[m.At]) -> None:
        try:
            await self._ask_ack(offsets)
        except CommitFailedError:
            self._beat_now.set()  # which finds out, and registers again
            raise
        except errors.TimeoutError:
            raise
        except YakError:
            if len(offsets) == 1:
                self._inbox.acknowledged(offsets)  # a partition that is gone holds up no other
                raise
            for one in offsets:
                await self._acknowledge([one])
            return
        self._inbox.acknowledged(offsets)

    async def _ask_ack(self, offsets: list[m.At]) -> None:
        await self._cluster.ask_leader(
            m.Ack(
                id=0,
                group=self.group,
                member=self.member,
                generation=self.generation,
                offsets=offsets,
            ),
            m.Done,
            timeout_s=_REQUEST_S,
        )

    def _release(self) -> None:
        if self._inbox.release() and not self._leaving:
            self._beat_now.set()
