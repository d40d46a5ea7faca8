"""Proof that nothing acknowledged was lost: what was heard meanwhile, against what there is now.

    mark      the leader's own word at some moment: its epoch, and how far its log was committed
    receipt   what a client was told of one record: topic, partition, offset, and what it sent

Rules:

* What was committed when a mark was made is still there if the log reaches so far, and nothing up
  to there was written in a later epoch: an index and its epoch are one operation.  So a loss is
  found whatever the client is that it happened to.
* A receipt is one record: it is looked for where it is said to be, and compared.  A record that
  its topic's retention let go of is not missed; one whose topic was deleted is.
* The files of all brokers prove themselves, and agree (yak/storage/audit.py and agreement.py).

It asks a whole cluster: who heals it before, does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from yak.admin import Admin
from yak.consumer import Consumer
from yak.errors import YakError
from yak.model import RecordMetadata, TopicPartition
from yak.storage.agreement import compare
from yak.storage.audit import Audit, audit

#: So many losses are named.
_NAMED: Final = 10
#: A whole topic is read within this, or something is wrong.
_READ_S: Final = 60.0


class _Unsaid:
    """Of a receipt that does not say what was sent."""

    def __repr__(self) -> str:
        return "?"


UNSAID: Final = _Unsaid()


class Mark(NamedTuple):
    """What a leader said of itself.  committed: the index of its last committed operation."""

    epoch: int
    committed: int
    when: str


class Receipt(NamedTuple):
    """What was acknowledged."""

    topic: str
    partition: int
    offset: int
    value: Any = UNSAID

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def receipt_of(told: Any) -> Receipt:
    """A RecordMetadata, a Record, or (topic, partition, offset) and maybe the value.

    Raises TypeError.
    """
    if isinstance(told, Receipt):
        return told
    if isinstance(told, RecordMetadata):
        told = told[:3]
    if hasattr(told, "offset") and hasattr(told, "value"):
        return Receipt(told.topic, told.partition, told.offset, told.value)
    if isinstance(told, Sequence) and len(told) in (3, 4) and not isinstance(told, str):
        return Receipt(*told)
    raise TypeError(
        f"{told!r} is no receipt: give RecordMetadata, records, or (topic, partition, offset[, "
        "value])"
    )


def losses(
    bootstrap: str, directories: Sequence[Path], marks: Iterable[Mark], told: Iterable[Any]
) -> list[str]:
    """Everything that is not as it was acknowledged, a line each; none: nothing was lost."""
    audits = [audit(directory) for directory in directories]
    faults, _ = compare(audits)
    faults = [*(fault for one in audits for fault in one.faults), *faults]
    found = [f"{fault.where}: {fault.what}" for fault in faults]
    for one in audits:
        found += [lost for mark in marks if (lost := _lost(mark, one))]
    return found + _missing(bootstrap, [receipt_of(one) for one in told])


def _lost(mark: Mark, now: Audit) -> str:
    """Why what was committed at that mark is not there any more."""
    was = f"operation {mark.committed} was committed in epoch {mark.epoch}, {mark.when}"
    if now.next <= mark.committed:
        return f"{was}; the log of {now.path.name} ends at {now.next - 1}"
    if mark.committed < now.first:
        return ""  # a checkpoint has it, and the log let go of it
    epoch = now.epochs[mark.committed - now.first]
    if epoch > mark.epoch:
        return f"{was}; in {now.path.name} another one is there, of epoch {epoch}"
    return ""


def _missing(bootstrap: str, receipts: Sequence[Receipt]) -> list[str]:
    """A line for each receipt, up to a number, whose record is not where it was."""
    found: list[str] = []
    for topic in sorted({one.topic for one in receipts}):
        mine = [one for one in receipts if one.topic == topic]
        try:
            there, starts = _records(bootstrap, topic)
        except YakError as e:
            found.append(f"{len(mine)} acknowledged records of {topic}: {e}")
            continue
        for one in mine:
            where = (one.topic, one.partition)
            if one.partition not in starts:
                found.append(f"{one} was acknowledged; {topic} has no such partition")
            elif one.offset >= starts[one.partition]:
                found += _compared(one, there[where].get(one.offset, UNSAID))
    more = len(found) - _NAMED
    return found if more <= 0 else [*found[:_NAMED], f"and {more} more"]


def _compared(receipt: Receipt, value: Any) -> list[str]:
    if value is UNSAID:
        return [f"{receipt} was acknowledged, and is not there: {_short(receipt.value)}"]
    if receipt.value is UNSAID or _same(receipt.value, value):
        return []
    return [
        f"{receipt} was acknowledged as {_short(receipt.value)}, and is another one: "
        f"{_short(value)}"
    ]


def _same(sent: Any, read: Any) -> bool:
    if isinstance(sent, bytes) and isinstance(read, str):
        return sent == read.encode()
    try:
        return bool(sent == read or json.loads(json.dumps(sent)) == read)  # a tuple is a list there
    except (TypeError, ValueError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _records(
    bootstrap: str, topic: str
) -> tuple[dict[TopicPartition, dict[int, Any]], dict[int, int]]:
    """The values of all its records by their offsets; where each partition begins."""
    with Admin(bootstrap) as admin:
        partitions = admin.topic(topic).partitions
    there: dict[TopicPartition, dict[int, Any]] = {(topic, one.partition): {} for one in partitions}
    wanted = sum(one.high_watermark - one.start for one in partitions)
    with Consumer(topic, bootstrap=bootstrap, start="beginning") as consumer:
        while wanted > 0:
            records = consumer.poll(timeout=_READ_S, max_records=10_000)
            if not records:
                raise YakError(f"{wanted} records of {topic} did not come", name="TIMEOUT")
            for record in records:
                there[record.topic, record.partition][record.offset] = record.value
            wanted -= len(records)
    return there, {one.partition: one.start for one in partitions}
