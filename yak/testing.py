"""A cluster for tests, which may be hurt: what the pytest plugin's `yak_cluster` is.

    with YakCluster(tmp_path) as cluster:
        with cluster.producer() as producer:          # remembers what was acknowledged
            producer.send("orders", {"id": 1}).result()
            cluster.kill_leader()
            producer.send("orders", {"id": 2}).result()
        cluster.assert_no_acked_loss()

* Real processes on free ports, under a directory of its own.  They end with this process, however
  that ends.
* `heal` brings back all that was killed, stopped, cut or slowed; the plugin does it before each
  test.
* The first `cut`, or `slow`, puts the brokers behind doors (local/relay.py), for which each is
  started again once, in order.
* Before it hurts the cluster, it hears how far the log is committed; `assert_no_acked_loss` proves
  that this is still there, for whatever client it was acknowledged to, and so are the receipts
  that `producer()` took or the caller brings.
* Its story is what was done to it and what its processes said, in one.

Timings are yak-zk's defaults: a killed leader is replaced at once, a stopped one after two seconds.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack

from yak import messages as m
from yak.admin import Admin
from yak.errors import YakError
from yak.local.acked import Mark, Receipt, losses
from yak.local.asking import Asker
from yak.local.cluster import LocalCluster, Options, Ports
from yak.local.doors import Orders, among
from yak.local.follow import Line
from yak.local.note import name_of
from yak.local.ready import LOOK_EVERY_S, Standing
from yak.model import RecordMetadata
from yak.net.receipts import Sent, SentMany
from yak.producer import Producer, ProducerOptions

#: How long what is waited for may take, on a machine that does other things too.
PATIENCE_S: Final = 30.0
#: What a report shows of the story; the beginning is left out.
_SHOWN_LINES: Final = 400
#: How late `slow` makes what passes, where nothing is said: a bad day between two cities.
LATE_MS: Final = 200.0
#: A question to the leader.
_ASK_S: Final = 10.0


class YakCluster(LocalCluster):
    """See the module's text.  bootstrap: HOST:PORT,… for clients; zk: of yak-zk."""

    def __init__(
        self,
        directory: Path,
        brokers: int = 3,
        *,
        broker_options: Sequence[str] = (),
        zk_options: Sequence[str] = (),
    ) -> None:
        ids = range(1, brokers + 1)
        few = ["--min-insync-replicas", "1"] if brokers == 1 else []
        options = Options(zk=[*few, *zk_options], broker=["--fsync", "never", *broker_options])
        super().__init__(directory, list(ids), Ports.free(list(ids)), options, ends_with_us=True)
        self._paused: set[int] = set()
        #: Who is cut off (None), or slow by so many ms, among whom.
        self._apart: dict[tuple[int, ...], float | None] = {}
        self._orders: Orders | None = None
        self._hurt = False
        self._marks: list[Mark] = []
        self._producers: list[WitnessedProducer] = []
        self._story: list[Line] = []
        self._numbers = itertools.count(1)
        self._follower = self.follower()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill_all()
        if self._orders is not None:
            self._orders.close()
        self._follower.close()

    # -- how it is --------------------------------------------------------------------------------

    @property
    def answering(self) -> list[int]:
        """Brokers that run and are not stopped."""
        return [one for one in self.ids if self.running(one) and one not in self._paused]

    def standing(self) -> Standing:
        return Standing({one: self.address(one) for one in self.answering})

    def leader(self) -> int | None:
        """Who leads, by its own word; None while nobody does."""
        with self.standing() as standing:
            word = standing.leader()
        return None if word is None else word.broker

    def wait_leader(self, *, other_than: int | None = None, timeout_s: float = PATIENCE_S) -> int:
        """Until somebody leads; who.  Raises TimeoutError."""
        return self._await_leader(
            lambda word: word.broker != other_than, f"no leader but {other_than}", timeout_s
        ).broker

    def wait_isr(
        self, ids: Collection[int] | None = None, *, timeout_s: float = PATIENCE_S
    ) -> None:
        """Until the leader counts exactly these (all) as in sync.  Raises TimeoutError."""
        wanted = sorted(self.ids if ids is None else ids)
        self._await_leader(
            lambda word: sorted(word.isr) == wanted, f"the ISR is not {wanted}", timeout_s
        )

    def _await_leader(
        self, is_so: Callable[[m.StatusAnswer], bool], not_yet: str, timeout_s: float
    ) -> m.StatusAnswer:
        deadline = time.monotonic() + timeout_s
        with self.standing() as standing:
            while True:
                word = standing.leader()
                if word is not None and is_so(word):
                    return word
                if time.monotonic() > deadline:
                    seen = f"broker {word.broker} leads, in sync: {word.isr}" if word else ""
                    raise TimeoutError(f"after {timeout_s:g} s {not_yet}: {seen or 'nobody leads'}")
                time.sleep(LOOK_EVERY_S)

    # -- using it ---------------------------------------------------------------------------------

    def new_topic(
        self, name: str = "topic", partitions: int = 3, config: dict[str, Any] | None = None
    ) -> str:
        """Make a topic whose name nobody else has; its name, which begins with `name`."""
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
        topic = f"{kept[:100]}-{next(self._numbers)}"
        request = m.CreateTopic(id=1, topic=topic, partitions=partitions, config=config or {})
        with Asker(self.address(self.wait_leader()), _ASK_S) as asker:
            asker.ask(request, m.TopicAnswer)
        return topic

    def producer(self, **options: Unpack[ProducerOptions]) -> WitnessedProducer:
        """A yak.Producer that remembers what was acknowledged, for `assert_no_acked_loss`."""
        options.setdefault("bootstrap", self.bootstrap)
        producer = WitnessedProducer(**options)
        self._producers.append(producer)
        return producer

    # -- hurting it -------------------------------------------------------------------------------

    def kill_leader(self) -> int:
        """kill -9 whoever leads; who it was."""
        leader = self.wait_leader()
        self.kill(leader)
        return leader

    def kill(self, member: int) -> None:
        """kill -9 of a broker, or of yak-zk (0)."""
        self._before(f"kill {name_of(member)}")
        super().kill(member)
        self._paused.discard(member)

    def pause(self, member: int) -> None:
        """SIGSTOP: it neither answers nor closes anything, until `resume`."""
        self._before(f"pause {name_of(member)}")
        super().pause(member)
        self._paused.add(member)

    def resume(self, member: int) -> None:
        self.tell(f"resume {name_of(member)}")
        super().resume(member)
        self._paused.discard(member)

    def restart(self, *members: int) -> None:
        """Kill what of these runs, start it again; they listen when this returns."""
        for member in members:
            if self.running(member):
                self.kill(member)
        self.tell(f"start {', '.join(map(name_of, members))}")
        super().restart(*members)

    def cut(self, one: int, other: int | None = None) -> None:
        """Nothing comes through between two brokers, or a broker and yak-zk (0), until `mend`.

        other: None cuts `one` off from all others.  Clients still reach both, and yak-zk still
        sees whether a broker's port refuses.
        """
        self._keep_apart("cut", one, other, None)

    def slow(self, one: int, other: int | None = None, *, by_ms: float = LATE_MS) -> None:
        """What passes between two, or one and all others, comes so late, each way, until `mend`.

        As `yak chaos slow`.  Late is not slow: as much comes through as before.  Clients are
        not slowed.
        """
        if by_ms <= 0:
            raise ValueError(f"by_ms is above 0, not {by_ms!r}")
        self._keep_apart("slow", one, other, by_ms)

    def mend(self) -> None:
        """End every `cut` and `slow`."""
        self.tell("mend")
        self._apart.clear()
        self._order_all()

    def _keep_apart(self, what: str, one: int, other: int | None, late_ms: float | None) -> None:
        members = (one,) if other is None else (one, other)
        for member in members:
            if member not in self.processes:
                raise ValueError(f"there is no {name_of(member)} to {what}")
        if one == other:
            raise ValueError(f"a process and itself: there is nothing between them to {what}")
        if self._orders is None:
            self._orders = self._put_doors_between()
        whom = "all others" if other is None else name_of(other)
        late = "" if late_ms is None else f" by {late_ms:g} ms"
        self._before(f"{what} {name_of(one)} {'from' if what == 'cut' else 'and'} {whom}{late}")
        self._apart[members] = late_ms
        self._order_all()

    def _order_all(self) -> None:
        assert self._orders is not None
        found = sorted(self._apart.items())
        rules = [rule for members, late_ms in found for rule in among(members, self.ids, late_ms)]
        self._orders.order(rules)

    def _put_doors_between(self) -> Orders:
        """A door before each broker, and one to yak-zk for each; they are started again by it."""
        self.tell("doors are put between them: each broker is started again")
        self.open_doors()
        leader = self.leader()
        for broker in sorted(self.answering, key=lambda one: one == leader):
            self.processes[broker].signal(signal.SIGTERM)
            self.processes[broker].wait()
            super().restart(broker)
            self.wait_in_sync(self.answering)
        if leader is not None and self.leader() != leader:
            self._let_lead(leader)
        assert self.doors is not None
        return Orders(self.doors.address)

    def _let_lead(self, broker: int) -> None:
        """Whoever led before does so again, so that a test may name it."""
        with Admin(self.bootstrap) as admin:
            admin.elect(self.zk, broker, plan=admin.elect(self.zk, broker).plan)
        self._await_leader(lambda word: word.broker == broker, "it does not lead", PATIENCE_S)

    def heal(self, timeout_s: float = PATIENCE_S) -> None:
        """All run, are in sync, and hold the same log."""
        if self._apart:
            self.mend()
        for member in sorted(self._paused):
            self.resume(member)
        gone = [member for member in self.processes if not self.running(member)]
        if gone:
            self.restart(*gone)
        self.wait_isr(timeout_s=timeout_s)
        self._hurt = False

    # -- proving it -------------------------------------------------------------------------------

    def assert_no_acked_loss(self, acked: Iterable[Any] = ()) -> None:
        """Heal it, and prove that all that was acknowledged is there, on every broker.

        acked: what any client was told: RecordMetadata, records, or (topic, partition, offset)
        with or without the value.  Raises AssertionError, which names what is lost.
        """
        self._mark("at the end")
        self.heal()
        self._wait_level()
        told = [*acked, *(one for producer in self._producers for one in producer.receipts())]
        directories = [self.directory(one) for one in self.ids]
        found = losses(self.bootstrap, directories, self._marks, told)
        if found:
            self.tell(f"lost: {found}")
            raise AssertionError("what was acknowledged is not there:\n  " + "\n  ".join(found))

    def _before(self, what: str) -> None:
        self._mark(f"before {what}")
        self.tell(what)
        self._hurt = True

    def _mark(self, when: str) -> None:
        with self.standing() as standing:
            word = standing.leader()
        if word is not None:
            self._marks.append(Mark(word.epoch, word.committed, when))

    def _wait_level(self) -> None:
        """Until all hold the same log, all of it committed."""
        deadline = time.monotonic() + PATIENCE_S
        with self.standing() as standing:
            while True:
                words = [standing.status(one) for one in self.ids]
                ends = {None if w is None else (w.log_end, w.committed + 1) for w in words}
                if len(ends) == 1 and all(one and one[0] == one[1] for one in ends):
                    return
                if time.monotonic() > deadline:
                    raise AssertionError(f"the brokers do not come to hold one log: {ends}")
                time.sleep(LOOK_EVERY_S)

    # -- its story --------------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        """A line of the story."""
        self._story.append(Line(time.time_ns() // 1_000_000, "test", what))

    def begin_test(self, name: str) -> None:
        """Another test begins: whole again, and with a story of its own."""
        if self._hurt or self._paused or not all(map(self.running, self.processes)):
            self.heal()
        self._follower.lines()
        self._marks.clear()
        self._producers.clear()
        self._story.clear()
        self.tell(name)

    def story(self) -> str:
        """What was done, and what was said, since this test began."""
        self._story = sorted([*self._story, *self._follower.lines()], key=lambda line: line.time)
        width = max(len(line.process) for line in self._story) if self._story else 0
        lines = [f"{line.at} {line.process.ljust(width)}  {line.text}" for line in self._story]
        ended = [
            f"{process.name} has ended: {process.words()}"
            for process in self.processes.values()
            if process.code is not None
        ]
        more = len(lines) - _SHOWN_LINES
        before = [f"… {more} lines before these"] if more > 0 else []
        return "\n".join([*before, *lines[-_SHOWN_LINES:], *ended])


class WitnessedProducer(Producer):
    """A Producer that keeps what it was given, and the receipts."""

    def __init__(self, **options: Unpack[ProducerOptions]) -> None:
        super().__init__(**options)
        self._sent: list[tuple[Sent | SentMany, Sequence[Any]]] = []

    def send(self, topic: str, value: Any, *rest: Any, **more: Any) -> Sent:
        sent = super().send(topic, value, *rest, **more)
        self._sent.append((sent, [value]))
        return sent

    def send_many(self, topic: str, values: Sequence[Any], *rest: Any, **more: Any) -> SentMany:
        values = list(values)
        sent = super().send_many(topic, values, *rest, **more)
        self._sent.append((sent, values))
        return sent

    def receipts(self) -> list[Receipt]:
        """Of what was acknowledged until now."""
        found: list[Receipt] = []
        for sent, values in self._sent:
            if not sent.done():
                continue
            try:
                result = sent.result()
            except YakError:
                continue
            places = [result] if isinstance(result, RecordMetadata) else result
            found += [
                Receipt(place.topic, place.partition, place.offset, value)
                for place, value in zip(places, values, strict=True)
                if place.offset is not None
            ]
        return found
