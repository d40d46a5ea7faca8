"""Clients that write and read while things break, what they saw, and the judgement over it.

A `Writer` is a registered producer on raw sockets: one batch at a time, sent again with the same
sequence to whoever leads until it is acknowledged.  A `Reader` follows one partition through
whichever broker answers.  `judge` compares what was acknowledged with what can be read:

* every acknowledged value is there, at the offset that its answer named;
* no value is there twice, and none that nobody sent;
* each writer's values stand in the order in which it sent them;
* what a reader was shown, in the order in which it was shown, is what the closing read finds.

Both run on threads of their own and end with `finish`, which raises what went wrong inside.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.cluster import Cluster
from tests.support.process import wait_until
from tests.support.wire import RETRIABLE, Wire, record

#: How long one answer is waited for before another broker is tried: above any healthy answer.
ANSWER_TIMEOUT_S = 2.0
#: Between two attempts, so that a cluster without a leader is not flooded.
RETRY_PAUSE_S = 0.03


class _Client(threading.Thread):
    """A loop on a thread over whichever broker answers."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.done = threading.Event()
        self.error: BaseException | None = None
        #: When something last went well, on the monotonic clock: for the longest gap.
        self.progress: list[float] = []
        self._addresses = list(cluster.addresses.values())
        self._turn = itertools.cycle(range(len(self._addresses)))
        self._wire: Wire | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as e:  # noqa: BLE001 -- the test's thread raises it again
            self.error = e
        finally:
            self.hang_up()

    def work(self) -> None:
        raise NotImplementedError

    def wire(self) -> Wire:
        """The connection in use, or one to the next broker."""
        if self._wire is None:
            self._wire = Wire(self._addresses[next(self._turn)], ANSWER_TIMEOUT_S)
        return self._wire

    def hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def ask(
        self, kind: str, body: bytes = b"", **fields: Any
    ) -> tuple[dict[str, Any], bytes] | None:
        """A good answer; None where another broker, or a little later, should be tried."""
        try:
            answer, data = self.wire().ask(kind, body, **fields)
        except OSError:
            self.hang_up()
        else:
            if answer["ok"]:
                self.progress.append(time.monotonic())
                return answer, data
            assert answer["error"] in RETRIABLE, f"{self.name} {kind} {fields}: {answer}"
            self.hang_up()
        self.done.wait(RETRY_PAUSE_S)
        return None

    def insist(self, kind: str, body: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """As `ask`, until it went well."""
        while True:
            answer = self.ask(kind, body, **fields)
            if answer is not None:
                return answer

    def finish(self, timeout_s: float = 30.0) -> None:
        """Stop after what is under way, and raise what failed."""
        self.done.set()
        self.join(timeout_s)
        assert not self.is_alive(), f"{self.name} does not come to an end"
        if self.error is not None:
            raise self.error

    def longest_gap_s(self) -> float:
        """The longest time between two successes."""
        return max((b - a for a, b in itertools.pairwise(self.progress)), default=0.0)

    def wait_progress(self, more: int) -> None:
        """Until so many further requests went well."""
        target = len(self.progress) + more
        wait_until(
            lambda: len(self.progress) >= target or self.error is not None,
            f"{self.name}: {more} more requests go well",
        )
        if self.error is not None:
            raise self.error


class Writer(_Client):
    """Writes `NAME-0`, `NAME-1`, ... to one partition, in batches of `batch`."""

    def __init__(
        self, cluster: Cluster, name: str, topic: str, partition: int, batch: int = 3
    ) -> None:
        super().__init__(cluster, name)
        self.topic = topic
        self.partition = partition
        self.batch = batch
        #: All that was ever sent, in order.
        self.sent: list[str] = []
        #: value -> offset, of what was acknowledged.
        self.acknowledged: dict[str, int] = {}
        #: Answers that said that the batch was already there.
        self.duplicates = 0

    def work(self) -> None:
        producer = self.insist("register", role="producer", topics=[self.topic])[0]["producer"]
        while not self.done.is_set():
            sequence = len(self.sent)
            values = [f"{self.name}-{sequence + n}" for n in range(self.batch)]
            self.sent += values
            answer, _ = self.insist(
                "produce",
                b"".join(record(value) for value in values),
                topic=self.topic,
                partition=self.partition,
                count=len(values),
                producer=producer,
                sequence=sequence,
                timeout_ms=1500,
            )
            self.duplicates += answer.get("duplicate", False)
            self.acknowledged.update(zip(values, itertools.count(answer["offset"]), strict=False))


class Reader(_Client):
    """Follows one partition from its beginning; where it reads changes with every failure."""

    def __init__(self, cluster: Cluster, name: str, topic: str, partition: int) -> None:
        super().__init__(cluster, name)
        self.topic = topic
        self.partition = partition
        #: (offset, value) in the order in which they were shown.
        self.seen: list[tuple[int, str]] = []

    def work(self) -> None:
        position = 0
        while not self.done.is_set():
            found = self.ask(
                "fetch", partitions=[[self.topic, self.partition, position]], wait_ms=200
            )
            if found is None:
                continue
            (entry,), body = found[0]["partitions"], found[1]
            if "error" in entry:
                # Cut off from its leader, or just started and not yet caught up.
                assert entry["error"] in ("NO_LEADER", "UNKNOWN_TOPIC"), entry
                self.hang_up()
                self.done.wait(RETRY_PAUSE_S)
            for offset, value in _records(body):
                if offset >= position:
                    self.seen.append((offset, value))
                    position = offset + 1


def _records(body: bytes) -> Iterator[tuple[int, str]]:
    """(offset, value) of a fetch's body."""
    position = 0
    while position < len(body):
        end = body.index(b"\n", position) + 1
        fields = json.loads(body[position:end])
        position = end + fields["size"]
        for offset, line in enumerate(body[end:position].splitlines(), fields["offset"]):
            yield offset, json.loads(line)["value"]


def closing_read(wire: Wire, topic: str, partition: int) -> list[str]:
    """Every value of a partition; its place in the list is its offset."""
    values: list[str] = []
    for operation in wire.read_all(topic, partition):
        assert operation.offsets.start == len(values), "a gap in the offsets"
        values += operation.values
    return values


def judge(final: list[str], writers: Sequence[Writer], readers: Sequence[Reader] = ()) -> None:
    """Compare what clients saw with the closing read of one partition."""
    sent = {value for writer in writers for value in writer.sent}
    places = {value: offset for offset, value in enumerate(final)}
    assert len(places) == len(final), "a value is stored twice"
    assert places.keys() <= sent, f"never sent: {sorted(places.keys() - sent)[:10]}"
    for writer in writers:
        lost = [value for value in writer.acknowledged if value not in places]
        assert not lost, f"acknowledged and lost: {lost[:10]}"
        wrong = {v: (o, places[v]) for v, o in writer.acknowledged.items() if places[v] != o}
        assert not wrong, f"acknowledged at one offset, found at another: {wrong}"
        order = [places[value] for value in writer.sent if value in places]
        assert order == sorted(order), f"{writer.name}'s records are out of order"
    for reader in readers:
        for expected, (offset, value) in enumerate(reader.seen):
            assert offset == expected, f"{reader.name} went from {expected - 1} to {offset}"
            assert offset < len(final), f"{reader.name} was shown {value}, which vanished"
            assert final[offset] == value, f"{reader.name} saw another value at {offset}"
