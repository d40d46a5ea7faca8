"""Producers over time: they come, are heard, fall silent, come back, and are forgotten.

    register ─▶ here ─ silent for producer_session_ms ─▶ gone ─ producer_retention_ms ─▶ forgotten
                 ▲                                         │ │
                 └────────── produce, heartbeat ◀──────────┘ └─ max_producers: longest gone ─▶

* Each step is logged, so that every replica knows the same producers; when it is taken is the
  leader's to judge, by time that it has seen pass itself.
* One that is gone is remembered for its sequences: what it sends again is not stored twice.
* A new producer is refused for want of room only where all that are known are here.

Members of groups are membership.py's, and what a producer's sequences mean is sequences.py's.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import ops
from yak.core.service import Service
from yak.core.sessions import Sessions
from yak.errors import Refused
from yak.model import Now

#: How many of a crowd one look logs as gone, so that the turn stays short: some 20 ms.
EXPIRED_AT_ONCE: Final = 1000


class Producers:
    """The leader's book of producers; liveness in memory, the rest in the log."""

    def __init__(self, service: Service, limits: Limits, now: Now) -> None:
        self.service = service
        self.pending = service.pending
        self.tail = service.tail
        self.out = service.out
        self.limits = limits
        self._here: Sessions[int] = Sessions()
        #: Until they are forgotten.  Invariant: whoever has `gone_ms` in the tail stands here.
        self._gone: Sessions[int] = Sessions()
        gone = []
        for number, producer in service.state.producers.items():
            if producer.gone_ms is None:
                self._here.open(number, self._session_s, now.mono)
            else:
                gone.append((producer.gone_ms, number))
        for _, number in sorted(gone):
            self._remember(number, now)

    @property
    def _session_s(self) -> float:
        return self.limits.producer_session_ms / 1000

    def _remember(self, number: int, now: Now) -> None:
        """A new leader keeps it for the full time again: between two clocks nothing is sure."""
        self._gone.open(number, self.limits.producer_retention_ms / 1000, now.mono)

    # -- coming and going --------------------------------------------------------------------------

    def check_room(self) -> None:
        """Whether one more may come.  Raises Refused where nobody can be forgotten for it."""
        if self._full and not self._gone:
            raise Refused(
                "OVERLOADED",
                f"{len(self.tail.producers)} producers are registered, and none of them is gone; "
                f"max_producers is {self.limits.max_producers}. Let some end, or raise it",
            )

    @property
    def _full(self) -> bool:
        return len(self.tail.producers) >= self.limits.max_producers

    def register(self, client: str, topics: list[str], now: Now) -> int:
        """Log a new producer, `check_room` having passed; its number."""
        for _ in range(2):  # two for one: a limit that was lowered is reached in the end
            number = self._gone.take_first() if self._full else None
            if number is not None:
                self._log_gone(number, "forgotten", now)
                self._tell("producer_forgotten", number, reason="max_producers")
        number = self.tail.next_producer
        self._log_here(number, client, topics, now)
        return number

    def deregister(self, number: int, now: Now) -> None:
        """It says that it ends.  Raises Refused, and then nothing was written."""
        self._known(number)
        self.service.admit(now)
        self._here.close(number)
        self._gone.close(number)
        self._log_gone(number, "asked", now)

    def _known(self, number: int) -> None:
        if number not in self.tail.producers:
            raise Refused(
                "UNKNOWN_PRODUCER", f"producer {number} is not registered here; register again"
            )

    def _log_here(self, number: int, client: str, topics: list[str], now: Now) -> None:
        self.pending.append(
            ops.Register, now, role="producer", client=client, topics=topics, producer=number
        )
        self._here.open(number, self._session_s, now.mono)

    def _log_gone(self, number: int, reason: str, now: Now) -> None:
        self.pending.append(ops.Deregister, now, reason=reason, producer=number)

    # -- being heard -------------------------------------------------------------------------------

    def produced(self, number: int, now: Now) -> None:
        """A produce keeps its producer registered, and brings one back that was gone."""
        self._here.touch(number, now.mono)
        self._bring_back(number, now)

    def heartbeat(self, asked: e.Asked, number: int, now: Now) -> None:
        self._known(number)
        self.service.leased(now)
        self._here.touch(number, now.mono)
        self._bring_back(number, now)
        self.service.reply_leased(asked, m.Done(), now)

    def _bring_back(self, number: int, now: Now) -> None:
        """A producer that was logged as gone is here again: that is logged too."""
        producer = self.tail.producers[number]
        if producer.gone_ms is not None and self.service.can_write(now):
            self._gone.close(number)
            self._log_here(number, producer.client, list(producer.topics), now)

    # -- silence -----------------------------------------------------------------------------------

    def restart(self, now: Now) -> None:
        """Everybody who is here gets a full session."""
        self._here.restart(now.mono)

    def expire(self, now: Now) -> None:
        """Log who has fallen silent, and who has been gone long enough."""
        for number in islice(self._here.expired(now.mono), EXPIRED_AT_ONCE):
            if number in self.tail.producers:
                self._log_gone(number, "expired", now)
                self._remember(number, now)
                self._tell("producer_expired", number)
        for number in islice(self._gone.expired(now.mono), EXPIRED_AT_ONCE):
            self._log_gone(number, "forgotten", now)

    def _tell(self, event: str, number: int, **fields: object) -> None:
        self.out.append(e.Tell(event, {"producer": number, **fields}))
