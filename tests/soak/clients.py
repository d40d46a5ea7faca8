"""The clients of a long run, each a process of its own: `python -m tests.soak.clients SPEC`.

SPEC is a JSON object with `kind`, `proc` (its name), `bootstrap`, `notes` (a file) and what its
kind needs:

    producer   the library; topics, rate (records a second), keyed
    raw        a registered producer on a raw socket; topics, rate
    consumer   the library, in a group; group, topics, session_ms, by_hand
    member     a member of a group on a raw socket; group, topics, session_ms
    reader     the library without a group; topics
    replica    one broker's reader on a raw socket, its own the only address; topics

Each works until SIGTERM, finishes what is under way, and exits with 0.  What happens to it that
must not happen ends it with a traceback and 1, and that is an anomaly of the run.  Everything it
knows it has written down first (notes.py): what it will send before it sends it, and what it was
handed before that is acknowledged.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.soak.notes import Notes
from tests.soak.raw import RawMember, RawProducer, RawReader
from yak import Consumer, Producer
from yak.errors import UndeliveredError, YakError
from yak.net.receipts import Sent

#: What a value carries beside its name, so that disks have something to do.
PAD = "." * 120
#: The longest a stopping producer waits for what is under way.
CLOSE_S = 20.0
#: How long one poll waits for records.
POLL_S = 0.5


class Stop:
    """SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def name_of(value: Any) -> str:
    """The unique part of a value."""
    return str(value["id"])


class Spec(msgspec.Struct, kw_only=True):
    kind: str
    proc: str
    bootstrap: str
    notes: str
    topics: list[str]
    seed: int = 0
    rate: float = 20.0
    keyed: bool = False
    group: str = ""
    session_ms: int = 6000
    by_hand: bool = False


def produce(spec: Spec, notes: Notes, stop: Stop) -> None:
    """Bursts of records, keyed or not, over all topics; each record is a send of its own."""
    chance = random.Random(spec.seed)
    under_way: deque[tuple[str, float, str, Sent]] = deque()
    count = 0
    producer = Producer(bootstrap=spec.bootstrap, client=spec.proc, linger_ms=chance.choice([0, 5]))
    try:
        while not stop.asked:
            topic, size = chance.choice(spec.topics), chance.randint(1, 12)
            values = [f"{spec.proc}.{count + n}" for n in range(size)]
            count += size
            notes.add("begin", topic=topic, values=values)
            for value in values:
                key = f"key-{chance.randrange(50)}" if spec.keyed else None
                t0 = time.monotonic()
                sent = producer.send(topic, {"id": value, "pad": PAD}, key=key)
                under_way.append((topic, t0, value, sent))
            _note_outcomes(under_way, notes)
            time.sleep(size / spec.rate)
        producer.close(CLOSE_S)
    except UndeliveredError as e:
        print(f"undelivered: {e}", file=sys.stderr)  # noqa: T201 -- its story, kept by the run
    finally:
        _note_outcomes(under_way, notes)


def _note_outcomes(under_way: deque[tuple[str, float, str, Sent]], notes: Notes) -> None:
    """Whatever has its outcome now; batches of different partitions end in any order."""
    for _ in range(len(under_way)):
        topic, t0, value, sent = item = under_way.popleft()
        if not sent.done():
            under_way.append(item)
            continue
        try:
            at = sent.result(0)
        except YakError as e:
            print(f"{topic} {value}: {e}", file=sys.stderr)  # noqa: T201 -- as above
            msgs: list[Any] = [topic, None, None, value]
        else:
            msgs = [topic, at.partition, at.offset, value]
        result = "ok" if msgs[2] is not None else "info"
        notes.add("send", t0=t0, t1=time.monotonic(), result=result, msgs=[msgs])


def consume(spec: Spec, notes: Notes, stop: Stop) -> None:
    """A member of a group: acknowledged when it asks for more, or by hand."""
    with Consumer(
        *spec.topics,
        bootstrap=spec.bootstrap,
        client=spec.proc,
        group=spec.group,
        start="beginning",
        commit="manual" if spec.by_hand else "after",
        session_ms=spec.session_ms,
    ) as consumer:
        while not stop.asked:
            msgs = _poll(consumer, spec, notes)
            if msgs and spec.by_hand:
                _ack(consumer, msgs, spec, notes)


def read(spec: Spec, notes: Notes, stop: Stop) -> None:
    """All partitions, without a group, from the beginning."""
    with Consumer(
        *spec.topics, bootstrap=spec.bootstrap, client=spec.proc, start="beginning"
    ) as consumer:
        notes.add("assign")
        while not stop.asked:
            _poll(consumer, spec, notes)


def _poll(consumer: Consumer, spec: Spec, notes: Notes) -> list[tuple[str, int, int, str]]:
    t0 = time.monotonic()
    records = consumer.poll(POLL_S)
    msgs = [(r.topic, r.partition, r.offset, name_of(r.value)) for r in records]
    if msgs:
        group = spec.group or None
        notes.add("poll", t0=t0, t1=time.monotonic(), result="ok", group=group, msgs=msgs)
    return msgs


def _ack(
    consumer: Consumer, msgs: list[tuple[str, int, int, str]], spec: Spec, notes: Notes
) -> None:
    t0, result = time.monotonic(), "ok"
    try:
        consumer.ack()
    except YakError as e:
        # Expelled, or the topic is gone: the records will be delivered again, or never.
        print(f"ack: {e}", file=sys.stderr)  # noqa: T201 -- as above
        result = "info"
    acked = [(topic, part, offset) for topic, part, offset, _ in msgs]
    notes.add("ack", t0=t0, t1=time.monotonic(), result=result, group=spec.group, msgs=acked)


def raw_produce(spec: Spec, notes: Notes, stop: Stop) -> None:
    RawProducer(spec.bootstrap, spec.proc, notes, random.Random(spec.seed)).run(
        spec.topics, spec.rate, PAD, lambda: stop.asked
    )


def raw_member(spec: Spec, notes: Notes, stop: Stop) -> None:
    RawMember(spec.bootstrap, spec.proc, notes, spec.group, spec.topics, spec.session_ms).run(
        lambda: stop.asked
    )


def raw_read(spec: Spec, notes: Notes, stop: Stop) -> None:
    RawReader(spec.bootstrap, notes, spec.topics).run(lambda: stop.asked)


KINDS: dict[str, Callable[[Spec, Notes, Stop], None]] = {
    "producer": produce,
    "raw": raw_produce,
    "consumer": consume,
    "member": raw_member,
    "reader": read,
    "replica": raw_read,
}


def main() -> None:
    stop = Stop()
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    with Notes(Path(spec.notes), spec.proc) as notes:
        KINDS[spec.kind](spec, notes, stop)


if __name__ == "__main__":
    main()
