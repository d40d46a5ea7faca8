"""The shell of a broker: it owns the world, and carries for the core.

    clients, followers ─▶ net.server ─┐                    ┌─▶ storage.store   append, apply, read
    the leader ─▶ net.link ───────────┼▶ inbox ─▶ turn ────┼─▶ net             answers, links
    yak-zk ─▶ net.coordinator ────────┘  (core.node)       └─▶ storage.story   what was decided
                                        ears and turns here, hands in carrier.py

One *turn* at a time, never two: drain the inbox into the core, let it act, carry its effects out
in their order.  No `await` stands inside a turn, so there is no lock.  What arrives meanwhile is
the next turn's batch.  Syncs of the log run in a thread, one at a time, each for all before it.

The shell decides nothing: what follows from an event is core.node's to say.  It verifies copied
operations.  A broker's whole life stands here, hence more than 400 lines.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from yak import messages as m
from yak import protocol
from yak.alarm import Alarm
from yak.carrier import Carrier, batch_of
from yak.config import OPLOG_RETAIN_BYTES, BrokerConfig, Settings
from yak.core import events as e
from yak.core.desk import Identity
from yak.core.log import Log
from yak.core.node import Node
from yak.core.ops import BrokenLine
from yak.core.state import State
from yak.errors import Fatal, Refused
from yak.garbage import Garbage
from yak.housekeeping import Housekeeper
from yak.model import Address, Now, parse_address
from yak.net.coordinator import CoordinatorSession
from yak.net.lifeline import end_with_stdin
from yak.net.link import LeaderLink
from yak.net.server import Server, ServerConnection
from yak.net.timing import RequestTimes
from yak.protocol import RequestDecoder
from yak.storage.chunk import parse_chunk
from yak.storage.data_dir import DataDir, read_boot_id
from yak.storage.disk import SHORTAGES, Buffer, OsDisk
from yak.storage.findings import SUSPICIONS
from yak.storage.store import Recovered, Store
from yak.storage.story import Story, StoryHandler
from yak.version import VERSION

if TYPE_CHECKING:
    from yak.metrics.of_broker import BrokerFigures
    from yak.metrics.station import Station

#: How long answers may take to leave when the broker stops.
CLOSE_GRACE_S: Final = 2.0
#: What a partition takes that a client goes on reading (core/standing.py), with its keys.
KEPT_BYTES: Final = 600
#: A description of more topics than this waits for its turn.
FEW_TOPICS: Final = 100
#: After one has been made, the next waits so many times as long as that took.
DESCRIPTION_PAUSE: Final = 4


class Broker:
    """One running broker.  Made by `run`."""

    def __init__(
        self,
        config: BrokerConfig,
        data_dir: DataDir,
        store: Store,
        recovered: Recovered,
        story: Story,
        inc: str,
    ) -> None:
        self.config = config
        self.recovered = recovered
        self.data_dir = data_dir
        self.store = store
        self.story = story
        self.inc = inc
        self.loop = asyncio.get_running_loop()
        self.sync_always = config.fsync == "always"
        identity = Identity(
            id=config.id,
            inc=inc,
            version=VERSION,
            limits=config.limits,
            default_partitions=config.default_partitions,
            auto_create=config.auto_create,
        )
        log = Log(store.epochs, store.next_index, recovered.time, store.first_index)
        self.node = Node(identity, log, data_dir.meta.epoch, self._now(), recovered.restored)
        self.link = LeaderLink(config.id, inc, self._tell, self._copied)
        self.carrier = self._make_carrier()
        retain = config.oplog_retain_bytes
        retain = OPLOG_RETAIN_BYTES if retain is None else retain
        self.housekeeper = Housekeeper(store, story, self, config.limits, retain)
        self.stopped = asyncio.Event()
        self.failure: Fatal | None = None
        #: After `stopped`: it goes on in another life.
        self.begins_anew = False
        self._started = time.monotonic()
        #: Our disk may lack something: so we found it, or so says yak-zk.
        self._suspect = recovered.state != "whole"
        self._inbox: list[e.Event] = []
        #: Who wants to be told of much.  Invariant: the first one's turn is due, unless empty.
        self._descriptions: deque[e.Asked] = deque()
        #: Invariant: a turn is scheduled whenever the inbox is not empty.
        self._turn_due = False
        self._alarm = Alarm(self.loop, self._time_has_come)
        #: When the sync that runs now began; None while none runs.
        self._sync_began: float | None = None

    def _make_carrier(self) -> Carrier:
        return Carrier(
            broker=self.config.id,
            fsync=self.config.fsync,
            store=self.store,
            data_dir=self.data_dir,
            story=self.story,
            link=self.link,
            tell=self._tell,
            finished=lambda: self.stopped.set(),
            restart=self._begin_anew,
            max_unflushed_bytes=self.config.limits.max_unflushed_bytes,
        )

    # -- the world's ears ------------------------------------------------------------------------

    def opened(self, connection: ServerConnection, /) -> None:
        """A client or a follower connected; the core hears of it when it asks."""

    def closed(self, connection: ServerConnection, /) -> None:
        self.carrier.giving.closed(connection.number)
        self._tell(e.Closed(connection.number))

    def received(self, connection: ServerConnection, request: m.Request, body: bytes, /) -> None:
        """A good request; a produced body is validated here, once."""
        batch = None
        if isinstance(request, m.Produce):
            try:
                batch = batch_of(body, request.count, self._largest(request.topic, len(body)))
            except Refused as refused:
                self._refuse(connection, request, refused)
                return
            if request.acks == 0:
                connection.done(request.id)
        elif isinstance(request, m.Fetch) and request.session == "new":
            connection.keep(KEPT_BYTES * len(request.partitions))
        asked = e.Asked(connection.number, request, batch, connection.dialled)  # type: ignore[arg-type]  # the decoder of this port knows only BrokerRequest
        if _describes_much(request):
            self._describe(asked)
        else:
            self._tell(asked)

    def _largest(self, topic: str, size: int) -> int:
        """How large a batch may be; but what is asked and not heard yet may change that."""
        asked = (event.request for event in self._inbox if isinstance(event, e.Asked))
        small = size <= self.config.limits.max_batch_bytes
        if small or any(isinstance(one, m.AlterTopic | m.CreateTopic) for one in asked):
            return size
        return self.node.max_batch_bytes(topic)

    def _describe(self, asked: e.Asked) -> None:
        """One after the other, each when its client has room: an answer may have megabytes."""
        if not self._descriptions:
            self.loop.call_soon(self._describe_next)
        self._descriptions.append(asked)

    def _describe_next(self) -> None:
        """Then a pause, so that they take a part of the time and not all of it."""
        asked = self._descriptions[0]
        connection = self.carrier.server.connections.get(asked.conn)
        if connection is not None:
            connection.when_room(lambda: self._tell(asked))
        self.loop.call_later(0, self._after_description, time.monotonic())

    def _after_description(self, began: float) -> None:
        """The turn that answered it is over."""
        self._descriptions.popleft()
        if self._descriptions:
            took = time.monotonic() - began
            self.loop.call_later(DESCRIPTION_PAUSE * took, self._describe_next)

    def _refuse(self, connection: ServerConnection, request: m.Produce, refused: Refused) -> None:
        if request.acks == 0:
            self.node.dropped += 1
            connection.done(request.id)
        else:
            connection.answer(request.id, protocol.error_answer(refused))

    def _copied(self, link: int, answer: m.ReplicateAnswer, body: Buffer) -> None:
        """The leader's bytes: verified against our own log's end before the core hears of them."""
        if answer.from_ != self.store.next_index:
            self._tell(e.Copied(link, answer, []))
            return
        epoch = self.store.epochs[-1][0] if self.store.epochs else 0
        try:
            chunk = parse_chunk(
                body,
                previous_sum=self.store.sum,
                next_index=self.store.next_index,
                previous_epoch=epoch,
            )
        except BrokenLine as broken:
            self._tell(e.LinkDown(link, f"what the leader sent does not follow: {broken}"))
            return
        self._tell(e.Copied(link, answer, chunk.ops, chunk))

    def _viewed(self, view: m.ClusterView, joined: bool) -> None:  # noqa: FBT001 -- a callback's signature
        if self.stopped.is_set():
            return  # what stopped us has marked the disk, and this join did not tell of that yet
        self._tell_of_our_disk(view)
        self.store.segment_bytes = view.settings.oplog_segment_bytes
        if joined:
            self._recorded()
            self._tell(e.Joined(view))
        else:
            self._tell(e.ViewChanged(view))

    def _tell_of_our_disk(self, view: m.ClusterView) -> None:
        """Whether yak-zk holds it for whole: that it does not, and that it does again."""
        me = self.config.id
        state = next((one.state for one in view.brokers if one.id == me), "whole")
        if state != "whole" and not self._suspect:
            self._suspect = True
            if not self.story.found.is_open(*SUSPICIONS):
                what = "another disk, an emptied one or an older copy, or not mended since then"
                self.story.tell("not_whole", state=state, reason=f"yak-zk says so: {what}")
        elif state == "whole" and me in view.isr and self._suspect:
            self._suspect = False
            self.story.tell("whole_again", reason="all that the leader has is here, and in sync")

    def _recorded(self) -> None:
        """This run, and in what state our log is; the marks have done their work."""
        self._mark(self.data_dir.recorded, "still_marked_suspect")

    def _mark(self, mark: Callable[[], None], refused: str) -> None:
        """Where the disk has no room for it the older mark stays: that costs care, and no data."""
        try:
            mark()
        except Fatal as fatal:
            self.story.tell(refused, reason=fatal.message)
            cause = fatal.__cause__
            if not isinstance(cause, OSError) or cause.errno not in SHORTAGES:
                self._fail(fatal)

    # -- the turn --------------------------------------------------------------------------------

    def _now(self) -> Now:
        return Now(time.monotonic(), time.time_ns() // 1_000_000)

    def _tell(self, event: e.Event) -> None:
        """An event for the next turn."""
        self._inbox.append(event)
        if not self._turn_due:
            self._turn_due = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Hear all that arrived, act, carry out."""
        self._turn_due = False
        if self.stopped.is_set():
            return
        try:
            events, self._inbox = self._inbox, []
            now = self._now()
            for event in events:
                self.node.hear(event, now)
            taken = self.carrier.carry_out(self.node.act(now))
            written = self.store.next_index - 1
            if taken and not self.sync_always and written > self.node.log.durable:
                # Written is as durable as it gets: the same turn goes on with that; but not where
                # the disk refused some of it, of which the core must hear first.
                self.node.hear(e.Durable(written), now)
                self.carrier.carry_out(self.node.act(now))
        except Fatal as fatal:
            self._fail(fatal)
            return
        except Exception as bug:
            # What this turn still owed is lost: who went on would beat, and answer nobody.
            self._fail(Fatal(f"a bug: {bug!r}; its traceback stands above, the files are kept"))
            raise
        self.carrier.server.flush()  # now, not in the loop's next round: nothing more follows
        if self.sync_always:
            self._begin_sync()
        self.housekeeper.look()
        self._set_deadline()

    def _set_deadline(self) -> None:
        """A timer for the core's next deadline; one that would come early may stay as it is."""
        if self._turn_due:
            return
        deadline = self.node.next_deadline()
        now = time.monotonic()
        if deadline <= now:
            self._tell(e.Tick())
        else:
            self._alarm.set(deadline, now)

    def _time_has_come(self) -> None:
        """A turn at once: by way of `_tell` an idle broker's loop would go round twice."""
        if self._turn_due:
            return
        if self.node.next_deadline() > time.monotonic():  # it was put off since
            self._set_deadline()
        else:
            self._inbox.append(e.Tick())
            self._turn()

    def _begin_sync(self) -> None:
        """Sync what was appended, unless a sync runs: then the next one takes it."""
        if self._sync_began is not None or self.store.next_index - 1 <= self.node.log.durable:
            return
        self._sync_in_thread()

    def _sync_in_thread(self) -> None:
        try:
            job = self.store.begin_sync()
        except OSError as error:  # no descriptor is left, of those that are put by for this
            self._fail(Fatal(f"a sync cannot begin: {error}; this broker stops"))
            return
        self._sync_began = time.monotonic()
        future = self.loop.run_in_executor(None, job.run)
        future.add_done_callback(lambda done: self._synced(job, done))

    def _synced(self, job: Any, done: asyncio.Future[None]) -> None:
        self._sync_began = None
        error = done.exception()
        if error is not None:
            self.sync_failed(error)
        elif self.sync_always:
            self._tell(e.Durable(job.index))

    def sync_failed(self, error: BaseException) -> None:
        """What the disk did not take may be lost whatever it says later: never try again."""
        self.store.sync_failed()
        self._fail(Fatal(f"the disk refused to sync: {error}; this broker stops"))

    # -- what the housekeeper asks ---------------------------------------------------------------

    def state(self) -> State:
        return self.node.state

    def wanted(self) -> int:
        return self.node.wanted()

    def pinned(self) -> int:
        return self.carrier.giving.pinned

    def log_cut(self, first: int) -> None:
        self._tell(e.LogCut(first))

    def log_damaged(self, reason: str) -> None:
        self._tell(e.FileDamaged(reason, of_log=True))

    def may_beat(self) -> bool:
        """A broker whose fsync hangs must look as dead as it is."""
        began = self._sync_began
        settings = self.node.view.settings if self.node.view else None
        patience = settings.session_ms / 2000 if settings else 1.0
        return began is None or time.monotonic() - began < patience

    # -- life ------------------------------------------------------------------------------------

    def _identity(self) -> m.Join:
        """What yak-zk is told at a join."""
        address = self._advertised()
        epochs, view = self.store.epochs, self.node.view
        return m.Join(
            id=0,
            broker=self.config.id,
            host=address.host,
            port=address.port,
            cluster=self.data_dir.meta.cluster,
            disk=self.data_dir.meta.disk,
            inc=self.inc,
            state=self.data_dir.state,
            end=(epochs[-1][0], self.store.next_index - 1) if epochs else (0, 0),
            epoch=self.node.epoch,
            seen=(view.epoch, view.version) if view else (0, 0),
            lineage=tuple(self.data_dir.meta.lineage),
        )

    def _advertised(self) -> Address:
        """--advertise, where a port 0 means the one that was bound."""
        if self.config.advertise is None:
            return self.carrier.server.address
        address = parse_address(self.config.advertise)
        return Address(address.host, address.port or self.carrier.server.address.port)

    def stop(self) -> None:
        """SIGTERM: finish what clients wait for, say goodbye."""
        if self.stopped.is_set():
            self.begins_anew = False  # asked between two lives
            return
        if self.node.stopping:
            self._fail(Fatal("interrupted twice: stopped at once", exit_code=130))
        self._tell(e.Stop())

    def _begin_anew(self, reason: str) -> None:
        """The disk holds something else from now on: another life of this broker begins."""
        self.story.tell("begins_anew", reason=reason)
        self.begins_anew = True
        self.stopped.set()

    def _fail(self, fatal: Fatal) -> None:
        """Stop at once: nothing more is acknowledged, the files are kept."""
        self.failure = self.failure or fatal
        self.stopped.set()

    def _uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What must stop the process does so from a timer's callback, too."""
        error = context.get("exception")
        if isinstance(error, Fatal):
            self._fail(error)
        else:
            loop.default_exception_handler(context)

    def leaves(self) -> None:
        """Before the goodbye: this run ends in order, and is marked as ended."""
        self._mark(self.data_dir.mark_leaving, "still_marked_running")

    def close_files(self) -> None:
        """The orderly end: what was written is durable, and the run is marked as ended."""
        self.store.close()
        self._mark(self.data_dir.mark_stopped, "still_marked_running")

    async def live(self, ready: Callable[[Address], None]) -> None:
        """Listen, join, and go on until Stop, or until a reason to stop at once."""
        config = self.config
        decoder = RequestDecoder(m.BrokerRequest)
        self.loop.set_exception_handler(self._uncaught)
        server = await Server.start(config.host, config.port, decoder, self, config.limits)
        self.carrier.server = server
        ready(server.address)
        coordination = CoordinatorSession(
            parse_address(config.zk),
            identity=self._identity,
            may_beat=self.may_beat,
            on_view=self._viewed,
            on_lease=lambda sent: self._tell(e.LeaseRenewed(sent)),
            on_lost=lambda reason: self._tell(e.CoordinatorLost(reason)),
            wait_s=config.zk_wait_s,
        )
        self.carrier.session = coordination
        self._tell(e.Tick())
        self.housekeeper.tidy()
        session = asyncio.ensure_future(coordination.run())
        stopped = asyncio.ensure_future(self.stopped.wait())
        interval = asyncio.ensure_future(self._sync_at_intervals())
        try:
            await asyncio.wait({session, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if session.done() and not self.stopped.is_set():
                session.result()  # raises Fatal
            if self.failure is not None:
                raise self.failure
            if not self.begins_anew:
                self.leaves()
                await coordination.leave()
        finally:
            for task in (session, stopped, interval):
                task.cancel()
            self.carrier.close()
            self.link.close()
            in_order = self.failure is None and not self.begins_anew
            await server.close(CLOSE_GRACE_S if in_order else 0.0)
            await self.housekeeper.close()

    async def _sync_at_intervals(self) -> None:
        """fsync interval:MS: a power cut may cost what the last interval brought."""
        if not self.config.fsync.startswith("interval:"):
            return
        interval_s = int(self.config.fsync.removeprefix("interval:")) / 1000
        while True:
            await asyncio.sleep(interval_s)
            if self._sync_began is None:
                self._sync_in_thread()


def _describes_much(request: m.Request) -> bool:
    """Whether its answer grows with what there is."""
    if isinstance(request, m.Metadata):
        return not isinstance(request.topics, list) or len(request.topics) > FEW_TOPICS
    return isinstance(request, m.Groups | m.GroupInfo)


async def run(config: BrokerConfig) -> None:
    """Run a broker until SIGTERM or SIGINT.  Raises Fatal where it cannot start or go on.

    It may have several lives: after a full copy, or where its files prove damaged, it begins anew
    from what is on the disk, as after a restart, on the same port.
    """
    disk = OsDisk()
    path = str(config.data_dir)
    boot_id = read_boot_id(config.boot_id_path)
    data_dir = DataDir.open(disk, path, kind="broker", broker=config.id, boot_id=boot_id)
    story = Story(f"broker-{config.id}", f"{path}/events.jsonl", sys.stderr, quiet=config.quiet)
    if config.oplog_retain_bytes is None:
        tenth = shutil.disk_usage(path).total // 10
        config = replace(config, oplog_retain_bytes=min(OPLOG_RETAIN_BYTES, tenth))
    figures = station = None
    garbage = Garbage()
    try:
        if config.metrics is not None:
            figures, station = await _open_pages(config.metrics, story)
        with StoryHandler.listening(story):
            broker = await _live_once(config, disk, data_dir, story, boot_id, garbage, figures)
            while broker.begins_anew:
                if figures is not None:
                    figures.life = None
                config = replace(config, port=broker.carrier.server.address.port)
                broker = await _live_once(
                    config, disk, data_dir, story, boot_id, garbage, figures, say=False
                )
    except Fatal as fatal:
        story.tell("failed", reason=fatal.message)
        raise
    finally:
        if station is not None:
            station.close()
    broker.close_files()
    story.tell("stopped", reason="asked to")


async def _open_pages(where: Address, story: Story) -> tuple[BrokerFigures, Station]:
    """/metrics, /healthz and /readyz, for as long as the process lives."""
    from yak.metrics.of_broker import BrokerFigures
    from yak.metrics.station import Station

    figures = BrokerFigures(RequestTimes())
    story.listeners.append(figures.events)
    station = await Station.open(where, story.process, figures)
    sys.stdout.write(f"{station.line}\n")
    sys.stdout.flush()
    return figures, station


async def _live_once(
    config: BrokerConfig,
    disk: OsDisk,
    data_dir: DataDir,
    story: Story,
    boot_id: str,
    garbage: Garbage,
    figures: BrokerFigures | None = None,
    *,
    say: bool = True,
) -> Broker:
    """From what is on the disk to the end of this life.  say: where it listens, on stdout."""
    store, recovered = Store.recover(
        disk,
        data_dir,
        Settings().oplog_segment_bytes,
        sync_at_roll=config.fsync == "always",
    )
    inc = uuid.uuid4().hex
    data_dir.mark_running(inc=inc, boot_id=boot_id, fsync=config.fsync)
    broker = Broker(config, data_dir, store, recovered, story, inc)
    garbage.look_through()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, broker.stop)
    if config.until_eof:
        end_with_stdin(broker.stop)

    def ready(address: Address) -> None:
        story.tell(
            "started",
            listening=str(address),
            data_dir=data_dir.path,
            state=recovered.state,
            reason=recovered.message,
            next=recovered.next,
            fsync=config.fsync,
            **({"kept": recovered.kept} if recovered.kept else {}),
        )
        if figures is not None:
            figures.begin(broker.node, broker.carrier.server, store, broker.may_beat)
        if say:
            sys.stdout.write(f"listening on {address}\n")
            sys.stdout.flush()

    await broker.live(ready)
    return broker
