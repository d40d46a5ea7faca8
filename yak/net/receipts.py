"""Receipts of what was sent: wait for them with `result`, on a thread or (Async…) on a loop.

A receipt is light, since there may be one for each record: it names a batch and a place in it.
The batch keeps the outcome, and tells those who wait; a receipt that nobody waits on costs
nothing more.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from yak import errors
from yak.core.batches import Batch
from yak.errors import YakError
from yak.model import RecordMetadata

_log: Final = logging.getLogger(__name__)


class _One(msgspec.Struct, frozen=True, eq=False):
    """A place in a batch.  A struct, as nothing else is made so fast."""

    _batch: Batch
    _index: int

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._batch.done

    def __repr__(self) -> str:
        """`<Sent: orders[1]@42>`, `<Sent: on its way>`, `<Sent: lost: …>`"""
        word = "on its way"
        if self.done() and self._batch.error is not None:
            word = f"lost: {self._batch.error}"
        elif self.done():
            place = _outcome(self._batch, self._index)
            at = "" if place.offset is None else f"@{place.offset}"
            word = f"{place.topic}[{place.partition}]{at}"
        return f"<{type(self).__name__}: {word}>"


class Sent(_One, frozen=True, eq=False):
    """The receipt of one record: where it is, once that is known."""

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait for the outcome, in seconds.  Raises the record's error, or TimeoutError."""
        wait(self._batch, timeout)
        return _outcome(self._batch, self._index)

    def exception(self, timeout: float | None = None) -> YakError | None:
        """Wait for the outcome: the error, or None if it was acknowledged."""
        wait(self._batch, timeout)
        return self._batch.error

    def add_done_callback(self, callback: Callable[[Sent], None]) -> None:
        """Call it with this receipt once the outcome is known, from whatever thread knows.

        It must not block: others wait behind it.  What it raises is logged.
        """
        _call_when_done(self._batch, lambda: callback(self))


class AsyncSent(_One, frozen=True, eq=False):
    """The receipt of one record, for a coroutine."""

    async def result(self) -> RecordMetadata:
        """Wait for the outcome.  Raises the record's error."""
        await until_done(self._batch)
        return _outcome(self._batch, self._index)

    async def exception(self) -> YakError | None:
        """Wait for the outcome: the error, or None if it was acknowledged."""
        await until_done(self._batch)
        return self._batch.error

    def add_done_callback(self, callback: Callable[[AsyncSent], None]) -> None:
        """Call it with this receipt once the outcome is known; what it raises is logged."""
        _call_when_done(self._batch, lambda: callback(self))


def _call_when_done(batch: Batch, call: Callable[[], None]) -> None:
    """An application's callback: its fault must stop neither the others nor the sender."""

    def safely() -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 -- whatever it is, it is the application's
            _log.exception("a delivery callback failed")

    if not batch.accumulator.when_done(batch, safely):
        safely()


class _Several:
    """Places in batches, in the order of sending."""

    __slots__ = ("_pieces", "count")

    def __init__(self) -> None:
        #: Records queued so far.
        self.count = 0
        #: (batch, place of the first in it, the records' places in what was sent)
        self._pieces: list[tuple[Batch, int, Sequence[int]]] = []

    def took(self, batch: Batch, first: int, places: Sequence[int]) -> None:
        """These records are in that batch, from its place `first`."""
        self._pieces.append((batch, first, places))
        self.count += len(places)

    def done(self) -> bool:
        """Whether every outcome is known."""
        return all(batch.done for batch, _, _ in self._pieces)

    def failed(self) -> list[int]:
        """The places, in what was sent, of the records that failed so far, ascending."""
        return sorted(
            place
            for batch, _, places in self._pieces
            if batch.error is not None
            for place in places
        )

    def __repr__(self) -> str:
        """`<SentMany: 10 records, on their way>`, or acknowledged, or how many of them are lost."""
        lost = len(self.failed())
        word = f"{lost} lost" if lost else "acknowledged" if self.done() else "on their way"
        return f"<{type(self).__name__}: {self.count} records, {word}>"

    def _check(self) -> None:
        for batch, _, _ in self._pieces:
            if batch.error is not None:
                raise copy.copy(batch.error)

    def _outcomes(self) -> list[RecordMetadata]:
        placed: dict[int, RecordMetadata] = {}
        for batch, first, places in self._pieces:
            for index, place in enumerate(places, first):
                placed[place] = _outcome(batch, index)
        return [placed[place] for place in sorted(placed)]


class SentMany(_Several):
    """The receipt of one `send_many`: of all its records."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all are acknowledged.  Raises the first error in order, or TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for batch, _, _ in self._pieces:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            wait(batch, left)
        self._check()

    def result(self, timeout: float | None = None) -> list[RecordMetadata]:
        """As `wait`; then where each record is, in the order of sending."""
        self.wait(timeout)
        return self._outcomes()


class AsyncSentMany(_Several):
    """The receipt of one `send_many`, for a coroutine."""

    __slots__ = ()

    async def wait(self) -> None:
        """Wait until all are acknowledged.  Raises the first error in order."""
        for batch, _, _ in self._pieces:
            await until_done(batch)
        self._check()

    async def result(self) -> list[RecordMetadata]:
        """As `wait`; then where each record is, in the order of sending."""
        await self.wait()
        return self._outcomes()


def wait(batch: Batch, timeout: float | None) -> None:
    """Wait on this thread until the batch has its outcome.  Raises TimeoutError."""
    if batch.done:
        return
    event = threading.Event()
    if batch.accumulator.when_done(batch, event.set) and not event.wait(timeout):
        raise errors.TimeoutError(
            f"no outcome within {timeout:g} s; it is still on its way", name="TIMEOUT"
        )


async def until_done(batch: Batch) -> None:
    """Wait on this loop, whichever it is, until the batch has its outcome."""
    if batch.done:
        return
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    if batch.accumulator.when_done(batch, lambda: _tell(loop, event)):
        await event.wait()


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set another loop's event; a loop that has been closed waits for nothing any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)


def _outcome(batch: Batch, index: int) -> RecordMetadata:
    if batch.error is not None:
        raise copy.copy(batch.error)
    offset = None if batch.offset is None else batch.offset + index
    return RecordMetadata(batch.topic, batch.partition, offset, batch.timestamp)
