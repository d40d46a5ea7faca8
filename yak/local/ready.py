"""When a cluster is ready: whoever was started is in sync, and a record has gone round.

    all in sync        the leader itself counts them
    a record           sent to the leader with acks=all, read back, its topic deleted again

A topic is made for it, and gone when this returns; what is left of it is four operations in the
log.  Brokers are asked again and again while they find each other; who ends meanwhile is noticed
by whoever calls (`check`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from yak import messages as m
from yak.errors import Fatal, YakError
from yak.local.asking import Asker
from yak.model import Address

#: The topic of the record that goes round.
TOPIC: Final = "__yak-up"
#: From the last one that listens to all in sync: a broker may have to catch up.
READY_LIMIT_S: Final = 60.0
#: How often brokers are asked how they stand.
LOOK_EVERY_S: Final = 0.01
#: A broker that says nothing for so long is asked again later.
_ANSWER_S: Final = 1.0
#: One record: its copies are on several disks within this, or something is wrong.
_RECORD_S: Final = 10.0
_LINE: Final = b'{"value":"a record went round"}\n'


class Standing:
    """What some brokers say of themselves, on connections that are kept."""

    def __init__(self, addresses: Mapping[int, Address]) -> None:
        self.addresses = dict(addresses)
        self._askers: dict[int, Asker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for broker in list(self._askers):
            self._forget(broker)

    def status(self, broker: int) -> m.StatusAnswer | None:
        """Its own word; None where it gives none."""
        try:
            if broker not in self._askers:
                self._askers[broker] = Asker(self.addresses[broker], _ANSWER_S)
            return self._askers[broker].ask(m.Status(id=0), m.StatusAnswer)[0]
        except YakError:
            self._forget(broker)
            return None

    def leader(self, among: Collection[int] | None = None) -> m.StatusAnswer | None:
        """The word of the broker that leads, in the highest epoch that anyone has heard of."""
        asked = self.addresses if among is None else among
        words = [word for word in map(self.status, asked) if word is not None]
        newest = max((word.epoch for word in words), default=0)
        leads = [word for word in words if word.role == "leader" and word.epoch == newest]
        return leads[0] if leads else None

    def _forget(self, broker: int) -> None:
        asker = self._askers.pop(broker, None)
        if asker is not None:
            asker.close()


def wait_in_sync(
    standing: Standing,
    wanted: Collection[int],
    limit_s: float,
    check: Callable[[], None],
) -> m.StatusAnswer:
    """Until the leader counts these as in sync; its word.  Raises Fatal, which says how it is."""
    deadline = time.monotonic() + limit_s
    while True:
        check()
        word = standing.leader()
        if word is not None and set(wanted) <= set(word.isr):
            return word
        if time.monotonic() > deadline:
            raise Fatal(_unready(word, wanted, limit_s))
        time.sleep(LOOK_EVERY_S)


def _unready(word: m.StatusAnswer | None, wanted: Collection[int], limit_s: float) -> str:
    if word is None:
        return f"nobody leads after {limit_s:g} s: `yak zk status` says why"
    late = ", ".join(str(broker) for broker in sorted(set(wanted) - set(word.isr)))
    return (
        f"after {limit_s:g} s broker {late} is not in sync with broker {word.broker}, which leads: "
        "its events.jsonl says what it does; a broker that copies much may take longer"
    )


def round_trip(leader: Address) -> None:
    """A record goes there with acks=all, and comes back.  Raises YakError."""
    with Asker(leader, _RECORD_S) as asker:
        with suppress(YakError):  # what an earlier start left, if it was killed just here
            asker.ask(m.DeleteTopic(id=0, topic=TOPIC), m.Done)
        made, _ = asker.ask(m.CreateTopic(id=1, topic=TOPIC, partitions=1), m.TopicAnswer)
        try:
            produce = m.Produce(id=2, topic=TOPIC, partition=0, count=1)
            sent, _ = asker.ask(produce, m.ProduceAnswer, _LINE)
            assert sent.offset is not None
            fetch = m.Fetch(id=3, partitions=((TOPIC, 0, sent.offset),), wait_ms=1000)
            _, lines = asker.ask(fetch, m.FetchAnswer)
            if not lines.endswith(_LINE):
                raise Fatal(f"the record that was sent did not come back, but {lines!r}")
        finally:
            asker.ask(m.DeleteTopic(id=4, topic=TOPIC, topic_id=made.topic_id), m.Done)
