"""What the brokers of a running cluster give to readers, compared byte for byte.

Every partition is read from its log's start to its end as it was at the beginning, from every
in-sync replica side by side: whole batches, each with its checksum, one after the other.

It knows no files, and does not stop a cluster that goes on: what comes meanwhile is not read, and
what is trimmed meanwhile is passed over, and said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from msgspec import UNSET

from yak import messages as m
from yak.config import MIB
from yak.core.records import split_operations
from yak.errors import ProtocolError, RetriableError, YakError
from yak.model import MAX_INT, Address, TopicPartition, parse_addresses
from yak.net.cluster import Cluster, OnWaiting
from yak.net.connection import Connection, read_answer

#: How long one broker may take for one answer, in seconds.
_ANSWER_S: Final = 30.0
#: How long the cluster is looked for, in seconds: who asks sits in front of it.
_FIND_S: Final = 5.0
#: Bytes of one fetch.
_FETCH_BYTES: Final = MIB
#: A replica that has not caught up with what it says is asked again so often, after so long.
_AGAIN: Final = 50
_AGAIN_S: Final = 0.1
#: How much of a line a fault shows.
_SHOWN_BYTES: Final = 300


@dataclass(slots=True)
class Replicas:
    """brokers: that were compared.  faults: (where, what, lines that disagree)."""

    brokers: list[int] = field(default_factory=list)
    partitions: int = 0
    records: int = 0
    size: int = 0
    faults: list[tuple[str, str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Answered(NamedTuple):
    entry: m.FetchEntry
    body: bytes


async def compare_replicas(bootstrap: str, on_waiting: OnWaiting) -> Replicas:
    """Read everything from every in-sync replica.  Raises YakError where one cannot be asked.

    on_waiting: is told why nobody answers yet.
    """
    cluster = Cluster(parse_addresses(bootstrap), "yak-verify")
    cluster.on_waiting = on_waiting
    try:
        known = await cluster.metadata(timeout_s=_FIND_S)
        addresses = {one.id: Address(one.host, one.port) for one in known.brokers}
        found = Replicas(brokers=sorted(known.isr))
        found.notes += [
            f"broker {number} is not in sync, and was not compared"
            for number in sorted(addresses)
            if number not in known.isr
        ]
        replicas = {number: await cluster.connect(addresses[number]) for number in found.brokers}
        for topic, entry in sorted(known.topics.items()):
            for number in range(entry.partitions or 0):
                found.partitions += 1
                await _Reader(found, replicas, (topic, number)).compare()
        return found
    finally:
        await cluster.close()


class _Reader:
    """One partition, read from all replicas."""

    def __init__(
        self, found: Replicas, replicas: dict[int, Connection], where: TopicPartition
    ) -> None:
        self._found = found
        self._replicas = replicas
        self._where = where
        self._name = f"{where[0]}[{where[1]}]"

    async def compare(self) -> None:
        """From where all begin to where all end now.  Ends at the first fault."""
        bounds = await self._ask(MAX_INT)
        if self._refused(bounds):
            return
        offset = max(answer.entry.start for answer in bounds.values())
        end = min(answer.entry.high_watermark for answer in bounds.values())
        waited = 0
        while offset < end:
            answers = await self._ask(offset)
            trimmed = [a for a in answers.values() if a.entry.error == "OFFSET_OUT_OF_RANGE"]
            if trimmed:
                start = max(answer.entry.start for answer in trimmed)
                self._found.notes.append(f"{self._name}: trimmed up to {start} while it was read")
                offset = max(offset, start)
                continue
            if self._refused(answers):
                return
            size = min(len(answer.body) for answer in answers.values())
            if not size and waited < _AGAIN:
                waited += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            following = self._compared(answers, size, offset)
            if following is None:
                return
            offset, waited = following, 0

    def _compared(self, answers: Mapping[int, _Answered], size: int, offset: int) -> int | None:
        """The offset after what all gave; None where they disagree, or it is not right."""
        first, *others = sorted(answers)
        body = answers[first].body[:size]
        if not size:
            silent = [number for number in answers if not answers[number].body]
            self._fault(f"broker {silent[0]}", f"nothing at {offset}, below its high watermark")
            return None
        for number in others:
            theirs = answers[number].body[:size]
            if theirs != body:
                at = next(n for n in range(size) if body[n] != theirs[n])
                lines = [_line(one, at) for one in (body, theirs)]
                who = f"brokers {first} and {number}"
                self._fault(who, f"other bytes {at} bytes from offset {offset} on", lines)
                return None
        try:
            chunks = split_operations(body, verify=True)
        except ProtocolError as e:
            self._fault(f"brokers {sorted(answers)}", str(e))
            return None
        for chunk in chunks:
            if not chunk.offset <= offset < chunk.offset + chunk.span:
                self._fault(f"brokers {sorted(answers)}", f"{chunk.offset} where {offset} is next")
                return None
            offset = chunk.offset + chunk.span
            self._found.records += chunk.span
        self._found.size += size * len(answers)
        return offset

    def _refused(self, answers: Mapping[int, _Answered]) -> bool:
        """Whether a replica could not give it.  What was deleted meanwhile is no fault."""
        for number, (entry, _) in answers.items():
            if entry.error in ("UNKNOWN_TOPIC", "UNKNOWN_PARTITION"):
                self._found.notes.append(f"{self._name}: broker {number} does not know it (now)")
                return True
            if entry.error is not UNSET and entry.error != "OFFSET_OUT_OF_RANGE":
                self._fault(f"broker {number}", f"{entry.error}: {entry.message}")
                return True
        return False

    def _fault(self, who: str, what: str, lines: list[str] | None = None) -> None:
        self._found.faults.append((f"{self._name}, {who}", what, lines or []))

    async def _ask(self, offset: int) -> dict[int, _Answered]:
        """What each replica has there, at once."""
        asked = list(self._replicas.items())
        answers = await asyncio.gather(
            *(self._fetch(connection, offset) for _, connection in asked), return_exceptions=True
        )
        found: dict[int, _Answered] = {}
        for (number, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, YakError):
                    raise answer
                self._fault(f"broker {number}", f"{answer}; it is not asked any more")
                del self._replicas[number]
            else:
                found[number] = answer
        if not found:
            raise RetriableError("no in-sync broker answers any more", name="CONNECTION")
        return found

    async def _fetch(self, connection: Connection, offset: int) -> _Answered:
        request = m.Fetch(
            id=0,
            partitions=((*self._where, offset),),
            max_bytes=_FETCH_BYTES,
            wait_ms=0,
        )
        async with asyncio.timeout(_ANSWER_S):
            frame = await connection.send(request)
        answer, body = read_answer(frame, m.FetchAnswer, connection.address)
        return _Answered(answer.partitions[0], bytes(body))


def _line(data: bytes, at: int) -> str:
    start = data.rfind(b"\n", 0, at) + 1
    line = data[start : data.find(b"\n", at)][:_SHOWN_BYTES]
    return line.decode(errors="replace")
