"""Places in a log, as an application says them, and the offsets that they mean.

    "beginning"   the first record that is still there     "end"     only what comes from now on
    "stored"      where the group stands, else the         "error"   where the group stands, else
                  beginning                                          that is an error
    N             offset N of every partition              -N        the last N records of each
    datetime      the first record logged then or later; also "@2026-11-22T09:41:00Z" and
                  "@MS", milliseconds since 1970
    {(topic, partition): N}   an offset for each partition; the others from the beginning

Rules:

* A time after the last record is the end.  A datetime without a zone is local time.
* The leader is asked, and says nothing of another topic than the one that is meant: one that was
  deleted and made again has other offsets.

It knows no consumers; what they do where a place is gone is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from yak import messages as m
from yak.errors import RetriableError, YakError
from yak.model import MAX_INT, TopicPartition
from yak.net.cluster import Cluster

#: See the module's text.
Start: TypeAlias = str | int | datetime | Mapping[TopicPartition, int]

WORDS: Final = ("beginning", "end", "stored", "error")


def check_start(start: Start) -> None:
    """Whether it is a place.  Raises ValueError."""
    if isinstance(start, str) and start not in WORDS:
        if not start.startswith("@"):
            raise ValueError(
                f"start is one of {', '.join(WORDS)}, an offset, -N or @TIME, not {start!r}"
            )
        milliseconds(start)


def milliseconds(when: str | int | datetime) -> int:
    """A time as ms since 1970: those ms, a datetime, or either as text.  Raises ValueError."""
    if isinstance(when, datetime):
        return max(0, round(when.timestamp() * 1000))
    if isinstance(when, int):
        if not 0 <= when <= MAX_INT:
            raise ValueError(f"a time is 0 to {MAX_INT} ms since 1970, not {when}")
        return when
    text = when.removeprefix("@")
    if text.isascii() and text.isdigit() and int(text) <= MAX_INT:
        return int(text)
    try:
        return milliseconds(datetime.fromisoformat(text))
    except ValueError as e:
        raise ValueError(f"@{text}: say @ and milliseconds, or @2026-11-22T09:41:00Z") from e


def gap_policy(start: Start) -> Literal["beginning", "end", "error"]:
    """Where a consumer with that `start` goes on when what it wants is gone."""
    if start == "end":
        return "end"
    return "error" if start == "error" else "beginning"


class Places:
    """Asks the leader what places mean."""

    def __init__(self, cluster: Cluster, timeout_s: float) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s

    async def offsets(
        self, wheres: Sequence[TopicPartition], start: Start, topic_ids: m.TopicIds
    ) -> dict[TopicPartition, int]:
        """The offset that `start` means in each of these partitions.

        topic_ids: of their topics.  Raises YakError, UNKNOWN_TOPIC where one of them is gone or
        was made again, and TimeoutError.
        """
        if not wheres:
            return {}
        if isinstance(start, Mapping):
            known = {where: start[where] for where in wheres if where in start}
            rest = [where for where in wheres if where not in start]
            return known | await self.offsets(rest, "beginning", topic_ids)
        if isinstance(start, datetime) or (isinstance(start, str) and start.startswith("@")):
            return await self._at_time(wheres, milliseconds(start), topic_ids)
        if start == "end":
            return await self._listed(wheres, "latest", topic_ids)
        earliest = await self._listed(wheres, "earliest", topic_ids)
        if not isinstance(start, int):
            return earliest
        if start >= 0:
            return dict.fromkeys(wheres, start)
        latest = await self._listed(wheres, "latest", topic_ids)
        return {where: max(earliest[where], latest[where] + start) for where in wheres}

    async def exist(self, wheres: Sequence[TopicPartition], topic_ids: m.TopicIds) -> bool:
        """Whether the leader knows these partitions, of these very topics.  Raises YakError."""
        try:
            await self._listed(wheres, "earliest", topic_ids)
        except RetriableError as e:
            if is_unknown(e):
                return False
            raise
        return True

    async def _at_time(
        self, wheres: Sequence[TopicPartition], at_ms: int, topic_ids: m.TopicIds
    ) -> dict[TopicPartition, int]:
        # The end first: what is logged after that is found by its time, and not passed over.
        latest = await self._listed(wheres, "latest", topic_ids)
        found = await self._ask(wheres, at_ms, topic_ids)
        return {where: latest[where] if at is None else at for where, at in found.items()}

    async def _listed(
        self,
        wheres: Sequence[TopicPartition],
        at: Literal["earliest", "latest"],
        topic_ids: m.TopicIds,
    ) -> dict[TopicPartition, int]:
        found = await self._ask(wheres, at, topic_ids)
        return {where: offset or 0 for where, offset in found.items()}

    async def _ask(
        self,
        wheres: Sequence[TopicPartition],
        at: Literal["earliest", "latest"] | int,
        topic_ids: m.TopicIds,
    ) -> dict[TopicPartition, int | None]:
        meant = {topic: topic_ids[topic] for topic, _ in wheres if topic in topic_ids}
        request = m.ListOffsets(id=0, partitions=list(wheres), at=at, topic_ids=meant)
        answer, _ = await self._cluster.ask_leader(
            request, m.OffsetsAnswer, timeout_s=self._timeout_s
        )
        return {(topic, partition): offset for topic, partition, offset in answer.offsets}


def is_unknown(error: YakError) -> bool:
    """Whether there is no such partition, or no such topic any more."""
    return error.name in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION")
