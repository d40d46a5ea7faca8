"""Lines to a producer: sent, followed until they are acknowledged, and accounted for.

Rules:

* Lines that arrived together are sent together.  On a terminal, and with -v, each acknowledgement
  is shown before the next lines are read: `✓ orders[1]@42  0.4 ms  2 replicas`.
* Lines are kept until they are acknowledged, so that those which never were can be listed, by
  number and beginning.  The producer's buffer bounds how many that can be.
* A line that is no record ends the reading; what came before it is still delivered.
* Ctrl-C ends the reading; whole lines that were read are still delivered.  A second one leaves.

Not here: how lines become records (lines.py), nor anything of delivery (yak.producer).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from yak.commands.interrupts import Interrupted, Interrupts
from yak.commands.lines import (
    READ_BYTES,
    BadLine,
    Chunk,
    Parsed,
    json_or_text,
    read_chunks,
    split_key,
    text_or_bytes,
    texts,
)
from yak.commands.output import many
from yak.commands.progress import Progress
from yak.commands.running import say
from yak.errors import Fatal, UndeliveredError, YakError
from yak.model import Headers, RecordMetadata

if TYPE_CHECKING:
    from yak.net.receipts import Sent, SentMany
    from yak.producer import Producer

_STDIN: Final = 0
#: Of what was never acknowledged: so many lines with their beginnings, the rest by number.
_LISTED_LINES: Final = 100
_PREVIEW_BYTES: Final = 60

#: A line that was not acknowledged: its number, and itself.
Lost: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True, kw_only=True)
class How:
    """What the options say of every record."""

    topic: str
    key: str | None = None
    separator: bytes | None = None
    headers: Headers | None = None
    partition: int | None = None
    json_values: bool = False
    #: What a line is, where it says more than a key and a value.  Raises BadLine.
    parse: Callable[[bytes, int], Parsed] | None = None
    #: With `parse`: the partition of each record, whatever its key.
    turns: Iterator[int] | None = None


@dataclass(frozen=True)
class _Outstanding:
    """Lines that were sent, and their receipts.  at: when, on a monotonic clock."""

    chunk: Chunk
    receipt: SentMany | list[Sent]
    at: float

    def done(self) -> bool:
        if isinstance(self.receipt, list):
            return all(sent.done() for sent in self.receipt)
        return self.receipt.done()

    def places(self) -> list[RecordMetadata]:
        """Where the records are.  Raises YakError if one of them was not acknowledged."""
        if isinstance(self.receipt, list):
            return [sent.result() for sent in self.receipt]
        return self.receipt.result()

    def lost(self) -> list[Lost]:
        """The lines that failed; everything else was acknowledged."""
        if isinstance(self.receipt, list):
            failed = [n for n, sent in enumerate(self.receipt) if sent.exception() is not None]
        else:
            failed = self.receipt.failed()
        return [(self.chunk.first + n, self.chunk.lines[n]) for n in failed]


class Feed:
    """See the module's text.  shows: each acknowledgement is a line on stderr.

    replicas: asked after each that is shown; how many have the record, None where nobody says.
    """

    def __init__(
        self,
        producer: Producer,
        how: How,
        interrupts: Interrupts,
        *,
        quiet: bool,
        shows: bool,
        replicas: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._producer = producer
        self._how = how
        self._interrupts = interrupts
        self._quiet = quiet
        self._shows = shows and not quiet
        self._replicas = replicas
        self._outstanding: deque[_Outstanding] = deque()
        self._lost: list[Lost] = []
        #: How many of those lost were never handed to the producer.
        self._unsent = 0

    def run(self, file: Path | None, *, prompts: bool) -> int:
        """Send everything; the exit code."""
        error = ""
        try:
            self._read(file, prompts=prompts)
        except Interrupted:
            if prompts:
                click.echo(err=True)
        except Fatal as e:
            error = str(e)
        except YakError as e:
            error = f"{e} ({e.hint})" if e.hint else str(e)
        except OSError as e:
            error = f"cannot read {file or 'standard input'}: {e.strerror}"
        try:
            self._producer.close()
        except UndeliveredError as e:
            error = error or str(e)
        self._settle()
        return self._report(error)

    # -- reading and sending ----------------------------------------------------------------------

    def _read(self, file: Path | None, *, prompts: bool) -> None:
        fd = _STDIN if file is None else os.open(file, os.O_RDONLY)

        def read() -> bytes:
            if prompts:
                click.echo("> ", nl=False, err=True)
            self._interrupts.wait_readable(fd)
            return os.read(fd, READ_BYTES)

        size = 0 if file is None else file.stat().st_size
        try:
            with Progress(size, self._how.topic, shown=not (self._quiet or self._shows)) as bar:
                for chunk in read_chunks(read):
                    self._send(chunk)
                    self._settle()
                    bar.advance(sum(map(len, chunk.lines)) + len(chunk.lines), len(chunk.lines))
            if prompts:
                click.echo(err=True)  # what comes is not behind the last prompt
        finally:
            if file is not None:
                os.close(fd)

    def _send(self, chunk: Chunk) -> None:
        how = self._how
        if how.parse is not None:
            self._send_parsed(chunk, how.parse)
        elif how.separator is not None:
            pairs = [split_key(line, how.separator) for line in chunk.lines]
            keys = [None if key is None else text_or_bytes(key) for key, _ in pairs]
            self._send_many(chunk, self._values([value for _, value in pairs]), keys)
        else:
            self._send_many(chunk, self._values(chunk.lines), None)

    def _values(self, lines: list[bytes]) -> list[Any]:
        return [json_or_text(line) for line in lines] if self._how.json_values else texts(lines)

    def _send_many(
        self, chunk: Chunk, values: list[Any], keys: Sequence[str | bytes | None] | None
    ) -> None:
        how = self._how
        before = self._producer.statistics.sent
        at = time.monotonic()
        try:
            receipt = self._producer.send_many(
                how.topic, values, how.key, keys=keys, headers=how.headers, partition=how.partition
            )
        except YakError:
            # Without keys, records are taken in their order; with keys, all count as not taken.
            taken = self._producer.statistics.sent - before if keys is None else 0
            self._give_up(chunk, taken)
            raise
        self._sent(_Outstanding(chunk, receipt, at))

    def _send_parsed(self, chunk: Chunk, parse: Callable[[bytes, int], Parsed]) -> None:
        records: list[Parsed] = []
        bad: BadLine | None = None
        for number, line in enumerate(chunk.lines, chunk.first):
            try:
                records.append(parse(line, number))
            except BadLine as e:
                bad = e
                break
        part = Chunk(chunk.first, chunk.lines[: len(records)])
        alike = all(record.headers is None and record.timestamp is None for record in records)
        if alike and self._how.turns is None:
            self._send_many(part, [one.value for one in records], [one.key for one in records])
        else:
            self._send_each(part, records)
        if bad is not None:
            raise bad

    def _send_each(self, chunk: Chunk, records: list[Parsed]) -> None:
        how = self._how
        receipts: list[Sent] = []
        at = time.monotonic()
        try:
            for record in records:
                headers = [*(record.headers or ()), *(how.headers or ())] or None
                partition = how.partition if how.turns is None else next(how.turns)
                receipts.append(
                    self._producer.send(
                        how.topic,
                        record.value,
                        record.key,
                        headers,
                        partition,
                        record.timestamp,
                    )
                )
        except YakError:
            self._give_up(chunk, len(receipts))
            raise
        finally:
            self._sent(_Outstanding(chunk, receipts, at))

    def _give_up(self, chunk: Chunk, taken: int) -> None:
        """The lines from `taken` on never reached the producer."""
        lost = list(enumerate(chunk.lines, chunk.first))[taken:]
        self._lost += lost
        self._unsent += len(lost)

    # -- following --------------------------------------------------------------------------------

    def _sent(self, sent: _Outstanding) -> None:
        self._outstanding.append(sent)
        if not self._shows:
            return
        with suppress(UndeliveredError):  # it is listed at the end
            self._producer.flush()
        elapsed_ms = (time.monotonic() - sent.at) * 1000
        with suppress(YakError):  # likewise
            places = sent.places()
            replicas = self._replicas()
            ticks = [_tick(place, elapsed_ms, replicas) for place in places]
            click.echo("".join(ticks), nl=False, err=True)

    def _settle(self) -> None:
        """Let go of lines whose outcome is known; remember the lost ones."""
        while self._outstanding and self._outstanding[0].done():
            self._lost += self._outstanding.popleft().lost()

    def _report(self, error: str) -> int:
        self._lost.sort()
        if self._lost:
            click.echo("\n".join(["never acknowledged:", *listed(self._lost)]), err=True)
        if not self._quiet:
            numbers = self._producer.statistics
            click.echo(
                f"sent {numbers.sent + self._unsent}  acknowledged {numbers.acknowledged}  "
                f"retransmitted {numbers.retransmitted}  lost {numbers.lost + self._unsent}",
                err=True,
            )
        if error:
            return say(error, 1)
        return 1 if self._lost else 0


def listed(lost: list[Lost]) -> list[str]:
    """The first lines by number and beginning, the rest as ranges of numbers."""
    shown = [f"  line {number}: {_preview(line)}" for number, line in lost[:_LISTED_LINES]]
    rest = [number for number, _ in lost[_LISTED_LINES:]]
    if rest:
        shown.append(f"  and {many(len(rest), 'line')} more: {_ranges(rest)}")
    return shown


def _ranges(numbers: list[int]) -> str:
    """`4-7, 9`: ascending numbers, in short."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)


def _preview(line: bytes) -> str:
    text = line[:_PREVIEW_BYTES].decode(errors="replace")
    shown = "".join(sign if sign.isprintable() else "�" for sign in text)
    return shown + "…" if len(line) > _PREVIEW_BYTES else shown


def _tick(place: RecordMetadata, elapsed_ms: float, replicas: int | None) -> str:
    at = "" if place.offset is None else f"@{place.offset}"
    on = "" if replicas is None else f"  {many(replicas, 'replica')}"
    return f"✓ {place.topic}[{place.partition}]{at}  {elapsed_ms:.1f} ms{on}\n"
