"""Records of a topic to stdout, until it is time to end.

Rules:

* A record counts as handled once it was printed and stdout was flushed.  Only then is the next
  one asked for, and that is what acknowledges it.
* A reader of stdout who leaves ends it quietly, also while nothing comes, as after `| head -1`.
  What was not printed is not acknowledged.
* Ctrl-C ends it: what was printed is acknowledged, and the group left.
* It ends (-n) after so many records, (-e) when all there is has been printed, (--timeout) when
  nothing has come for so long, (--expect, where neither -n nor -e is said) when that many have.
* "All there is" is the leader's word, not that of a replica which may be a little behind.  A topic
  that does not exist has no end, and is an error then.
* Where it begins at the end because nothing else was said, it says how much it leaves out.

Not here: how a record is printed (formats.py), and how it got here (yak.consumer).
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import click

from yak.admin import Admin
from yak.commands.formats import Format
from yak.commands.interrupts import Interrupted, Interrupts
from yak.commands.output import listed, many
from yak.commands.pages import pages
from yak.commands.running import say
from yak.commands.starts import At, Last, Start
from yak.consumer import Consumer
from yak.errors import YakError
from yak.model import Address, TopicPartition
from yak.net.cluster import OnWaiting

if TYPE_CHECKING:
    from yak.metrics.station import Figures

#: Records that are printed and flushed together at most.
_AT_ONCE: Final = 5_000
#: An interruption or the end of everything is noticed within this.
_LOOK_S: Final = 0.1
#: How long a broker may hold a fetch for which it has nothing: short where its word on the end
#: is waited for.
_WAIT_MS: Final = 500
_WAIT_FOR_END_MS: Final = 50
#: How long the leader may take to say where the end is, or how much is left out.
_ASK_S: Final = 5.0
#: The same where nothing can begin without it.
_START_S: Final = 30.0


class Until(NamedTuple):
    """When to end; None and False: not for this reason.  expected: fewer are a failure."""

    records: int | None = None
    end: bool = False
    idle_s: float | None = None
    expected: int | None = None

    @property
    def most(self) -> int | None:
        """No more records than this are printed."""
        if self.records is None and not self.end:
            return self.expected
        return self.records


def _write_all(out: BinaryIO, text: bytes) -> None:
    """All of it, also where stdout is unbuffered (PYTHONUNBUFFERED) and a write may be short."""
    rest = memoryview(text)
    while rest:
        rest = rest[out.write(rest) or 0 :]


class _Reader:
    """Whoever reads stdout: the other end of a pipe, a socket or a terminal."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are told unasked

    @property
    def has_left(self) -> bool:
        """Whether nobody can ever read what would be written now."""
        return any(told & (select.POLLERR | select.POLLHUP) for _, told in self._poll.poll(0))


class Drain:
    """See the module's text.

    group: None reads for itself.  on_waiting: is told what is waited for, on other threads.
    """

    def __init__(
        self,
        topic: str,
        group: str | None,
        show: Format,
        until: Until,
        interrupts: Interrupts,
        *,
        on_waiting: OnWaiting = lambda _: None,
        quiet: bool,
        verbose: bool = False,
    ) -> None:
        self._topic = topic
        self._group = group
        self._show = show
        self._until = until
        self._interrupts = interrupts
        self._on_waiting = on_waiting
        self._quiet = quiet
        self._verbose = verbose
        #: Records on stdout.
        self.printed = 0
        #: Where the leader said the end is; asked once, when it seems to be reached.
        self._end: dict[TopicPartition, int] | None = None

    def run(
        self,
        start: Start | None,
        *,
        bootstrap: str,
        client: str,
        partitions: tuple[int, ...],
        read_from: Any,
        metrics: Address | None = None,
    ) -> int:
        """Print; the exit code.  start: None where nothing was said.  Raises YakError."""
        reading = {"bootstrap": bootstrap, "client": client, "read_from": read_from}
        with contextlib.suppress(BrokenPipeError, Interrupted), contextlib.ExitStack() as stack:
            consumer = self._interrupts.call(lambda: self._made(start, partitions, **reading))
            stack.enter_context(
                pages(metrics, "yak-consume", consumer, lambda: self._figures(consumer))
            )
            self._interrupts.call(lambda: stack.enter_context(consumer))
            if start is None and not self._quiet:
                self._say_what_is_left_out(consumer, bootstrap)
            if self._verbose:
                begun = [f"{t}[{n}]@{offset}" for (t, n), offset in consumer.positions.items()]
                click.echo(f"starts at {listed(begun) or 'nothing yet'}", err=True)
            self._print(consumer, bootstrap)
        if self._interrupts.asked and sys.stderr.isatty():
            click.echo(err=True)  # the shell's prompt is not behind the terminal's ^C
        expected = self._until.expected
        if expected is not None and self.printed < expected:
            return say(f"{self.printed} records came from {bootstrap}, {expected} were expected", 1)
        return 0

    def _made(
        self, start: Start | None, partitions: tuple[int, ...], *, bootstrap: str, **reading: Any
    ) -> Consumer:
        """Once there is a cluster to read from.  Raises YakError, UsageError."""
        if self._until.idle_s is not None:
            with self._admin(bootstrap, self._until.idle_s) as admin:
                admin.brokers()  # a cluster that nobody can reach is told of in that time, too
        if self._until.end:
            self._check_topic(bootstrap)
        try:
            return Consumer(
                self._topic,
                bootstrap=bootstrap,
                group=self._group,
                start=self._meaning(start, bootstrap),
                partitions=partitions or None,
                wait_ms=_WAIT_FOR_END_MS if self._until.end else _WAIT_MS,
                on_waiting=self._on_waiting,
                **reading,
            )
        except ValueError as e:
            raise click.UsageError(str(e)) from e

    def _admin(self, bootstrap: str, timeout_s: float = _START_S) -> Admin:
        return Admin(bootstrap, timeout_s=timeout_s, on_waiting=self._on_waiting)

    def _figures(self, consumer: Consumer) -> Figures:
        from yak.metrics.of_clients import ConsumerFigures

        return ConsumerFigures(consumer, lambda: self.printed)

    def _print(self, consumer: Consumer, bootstrap: str) -> None:
        most, idle_s = self._until.most, self._until.idle_s
        heard = time.monotonic()
        out, show = sys.stdout.buffer, self._show
        reader = _Reader()
        while (most is None or self.printed < most) and not self._interrupts.asked:
            room = _AT_ONCE if most is None else min(_AT_ONCE, most - self.printed)
            records = consumer.poll(timeout=_LOOK_S, max_records=room)
            if records:
                _write_all(out, b"".join([show(record) for record in records]))
                out.flush()
                self.printed += len(records)
                heard = time.monotonic()
            elif reader.has_left or (idle_s is not None and time.monotonic() - heard >= idle_s):
                return
            if self._until.end and consumer.at_end and self._is_at_end(consumer, bootstrap):
                return

    def _check_topic(self, bootstrap: str) -> None:
        """What ends with the topic would never end without one.  Raises UNKNOWN_TOPIC."""
        try:
            with self._admin(bootstrap, _ASK_S) as admin:
                admin.topic(self._topic)
        except YakError as e:
            if e.name == "UNKNOWN_TOPIC":
                e.hint = "`yak topic list` shows those that there are; without -e it is waited for"
                raise

    # -- where it begins and ends -----------------------------------------------------------------

    def _meaning(self, start: Start | None, bootstrap: str) -> Any:
        """What the consumer makes of it."""
        match start:
            case None:
                return "end"
            case Last(count):
                return -count if count else "end"
            case At(ms):
                with self._admin(bootstrap) as admin:
                    report = admin.topic(self._topic)
                    found = admin.offsets(self._topic, len(report.partitions), ms)
                return {
                    (self._topic, one.partition): one.high_watermark if at is None else at
                    for one, at in zip(report.partitions, found, strict=True)
                }
            case _:
                return start

    def _is_at_end(self, consumer: Consumer, bootstrap: str) -> bool:
        """Whether everything that the leader had when this was first asked has been printed."""
        positions = consumer.positions
        if self._end is None or not positions.keys() <= self._end.keys():
            try:
                with self._admin(bootstrap, _ASK_S) as admin:
                    report = admin.topic(self._topic)
            except YakError:
                return True  # nobody leads: the replica's own word must do
            self._end = {(self._topic, p.partition): p.high_watermark for p in report.partitions}
        return all(offset >= self._end[where] for where, offset in positions.items())

    def _say_what_is_left_out(self, consumer: Consumer, bootstrap: str) -> None:
        with contextlib.suppress(YakError), self._admin(bootstrap, _ASK_S) as admin:
            begun = {
                (self._topic, p.partition): p.start for p in admin.topic(self._topic).partitions
            }
            new = set(begun)
            if self._group is not None:
                known = admin.group(self._group).partitions
                new -= {(p.topic, p.partition) for p in known if p.acked is not None}
            left_out = sum(
                offset - begun[where]
                for where, offset in consumer.positions.items()
                if where in new
            )
            if left_out > 0:
                click.echo(
                    f"{self._topic} has {many(left_out, 'record')} already, and this starts after "
                    "them; to read them too, add --from-beginning",
                    err=True,
                )
