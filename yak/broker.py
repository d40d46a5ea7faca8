"""The shell of a broker: it owns the world, and carries for the core.

    clients, followers ─▶ net.server ─┐                    ┌─▶ storage.store   append, apply, read
    the leader ─▶ net.link ───────────┼▶ inbox ─▶ turn ────┼─▶ net             answers, links
    yak-zk ─▶ net.coordinator ────────┘  (core.node)       └─▶ storage.story   what was decided

One *turn* at a time, never two: drain the inbox into the core, let it act, carry its effects out
in their order.  No `await` stands inside a turn, so there is no lock.  What arrives meanwhile is
the next turn's batch.  A sync of the log runs in a thread, one at a time; whatever is appended
while it runs is the next one's.

The shell decides nothing: what follows from an event is core.node's to say.  It validates bodies
(they are bytes, which the core never sees) and verifies copied operations.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from yak import __version__, protocol
from yak import messages as m
from yak.config import BrokerConfig, Settings
from yak.core import events as e
from yak.core.desk import Identity
from yak.core.log import Log
from yak.core.node import Node
from yak.core.ops import BrokenLine, crc_of
from yak.errors import Fatal, Refused
from yak.model import Address, Now, parse_address
from yak.net.coordinator import CoordinatorSession
from yak.net.link import LeaderLink
from yak.net.server import Server, ServerConnection
from yak.protocol import RequestDecoder
from yak.storage.chunk import Chunk, parse_chunk
from yak.storage.data_dir import DataDir, read_boot_id
from yak.storage.disk import Buffer, OsDisk
from yak.storage.faults import Damaged, StorageError, SumMismatch
from yak.storage.store import Recovered, Store
from yak.storage.story import Story

#: How long partition files may lag behind what is applied; reads are served from memory.
FLUSH_S: Final = 0.05
#: How long answers may take to leave when the broker stops.
CLOSE_GRACE_S: Final = 2.0


@dataclass(slots=True)
class Batch(e.Body):
    """A produced body, with its bytes."""

    data: bytes


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
        self.node = Node(
            Identity(
                id=config.id,
                inc=inc,
                version=__version__,
                limits=config.limits,
                default_partitions=config.default_partitions,
                auto_create=config.auto_create,
            ),
            Log(store.epochs, store.next_index, recovered.time),
            data_dir.meta.epoch,
            self._now(),
        )
        self.link = LeaderLink(config.id, inc, self._tell, self._copied)
        self.server: Server
        self.session: CoordinatorSession
        self.stopped = asyncio.Event()
        self.failure: Fatal | None = None
        self._started = time.monotonic()
        self._inbox: list[e.Event] = []
        #: Invariant: a turn is scheduled whenever the inbox is not empty.
        self._turn_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._flush_due: asyncio.TimerHandle | None = None
        #: The last index that the core was told is durable.
        self._durable = store.next_index - 1
        #: When the sync that runs now began; None while none runs.
        self._sync_began: float | None = None

    # -- the world's ears ------------------------------------------------------------------------

    def opened(self, connection: ServerConnection, /) -> None:
        """A client or a follower connected; the core hears of it when it asks."""

    def closed(self, connection: ServerConnection, /) -> None:
        self._tell(e.Closed(connection.number))

    def received(self, connection: ServerConnection, request: m.Request, body: bytes, /) -> None:
        """A good request; a produced body is validated here, once."""
        batch = None
        if isinstance(request, m.Produce):
            try:
                protocol.validate_records(body, request.count)
            except Refused as refused:
                self._refuse(connection, request, refused)
                return
            batch = Batch(len(body), crc_of(body), body)
            if request.acks == 0:
                connection.done()
        self._tell(e.Asked(connection.number, request, batch, connection.dialled))  # type: ignore[arg-type]  # the decoder of this port knows only BrokerRequest

    def _refuse(self, connection: ServerConnection, request: m.Produce, refused: Refused) -> None:
        if request.acks == 0:
            self.node.dropped += 1
            connection.done()
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
        self.store.segment_bytes = view.settings.oplog_segment_bytes
        if joined:
            # yak-zk has recorded in what state our log is; the mark has done its work.
            self.data_dir.clear_suspicion()
            self._tell(e.Joined(view))
        else:
            self._tell(e.ViewChanged(view))

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
            self._carry_out(self.node.act(now))
            if not self.sync_always and self.store.next_index - 1 > self._durable:
                # Written is as durable as it gets: the same turn goes on with that.
                self._durable = self.store.next_index - 1
                self.node.hear(e.Durable(self._durable), now)
                self._carry_out(self.node.act(now))
        except Fatal as fatal:
            self._fail(fatal)
            return
        if self.sync_always:
            self._begin_sync()
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._turn_due:
            return
        delay = self.node.next_deadline() - time.monotonic()
        if delay <= 0:
            self._tell(e.Tick())
        else:
            self._deadline = self.loop.call_later(delay, self._tell, e.Tick())

    def _carry_out(self, effects: list[e.Effect]) -> None:
        """In their order; consecutive appends in one write."""
        appends: list[e.AppendOp] = []
        failed = False
        for effect in effects:
            if isinstance(effect, e.AppendOp):
                appends.append(effect)
                continue
            if appends:
                failed |= not self._append(appends)
                appends = []
            if failed and isinstance(effect, e.SendOps):
                # It may promise what was not written; the follower will ask again.
                self._hang_up(effect.conn, "the disk refused")
            else:
                failed |= not self._carry(effect)
        if appends:
            self._append(appends)

    def _append(self, appends: list[e.AppendOp]) -> bool:
        """Whether the disk took them."""
        operations = [(a.op, a.body.data if isinstance(a.body, Batch) else None) for a in appends]
        try:
            self.store.append(operations)
        except StorageError as error:
            self._tell(e.StorageFailed(error.message, self.store.next_index - 1))
            return False
        return True

    def _append_copied(self, effect: e.AppendCopied) -> bool:
        chunk = effect.copied.chunk
        assert isinstance(chunk, Chunk)
        try:
            self.store.append_copied(chunk)
        except StorageError as error:
            self._tell(e.StorageFailed(error.message, self.store.next_index - 1))
            return False
        return True

    def _carry(self, effect: e.Effect) -> bool:
        """Carry one effect out.  False if the disk refused."""
        match effect:
            case e.Apply():
                self._apply(effect)
            case e.SendRecords():
                self._send_records(effect)
            case e.Reply():
                self._reply(effect.conn, effect.id, effect.answer)
            case e.ReplyLeased():
                self._reply_leased(effect.conn, effect.id, effect.answer, effect.until)
            case e.SendOps():
                self._send_ops(effect)
            case e.AppendCopied():
                return self._append_copied(effect)
            case e.SendReplicate():
                self.link.replicate(effect)
            case e.FindOffsets():
                self._find_offsets(effect)
            case e.Tell():
                self.story.tell(effect.event, **effect.fields)
            case e.AppendOp():
                raise AssertionError("gathered by _carry_out")
            case _:
                self._carry_rarely(effect)
        return True

    def _carry_rarely(
        self,
        effect: e.Truncate
        | e.Load
        | e.SendFollowAnswer
        | e.HangUp
        | e.Dial
        | e.Undial
        | e.SendFollow
        | e.ProposeIsr
        | e.Resign
        | e.SaveEpoch
        | e.SaveCluster
        | e.Halt
        | e.Finished,
    ) -> None:
        match effect:
            case e.Truncate():
                self._truncate(effect)
            case e.Load():
                self._tell(e.Loaded(self.store.load(effect.first, effect.last)))
            case e.SendFollowAnswer():
                answer = m.FollowAnswer(
                    epoch=effect.epoch,
                    truncate_to=effect.truncate_to,
                    sum=self.store.sum_before(effect.truncate_to),
                )
                self._reply(effect.conn, effect.id, answer)
            case e.HangUp():
                self._hang_up(effect.conn, effect.reason)
            case e.Dial():
                self.link.dial(effect)
            case e.Undial():
                self.link.undial(effect.link)
            case e.SendFollow():
                self.link.follow(effect, self.store.sum)
            case e.ProposeIsr():
                self._propose_isr(effect)
            case e.Resign():
                self.session.resign(effect.epoch, effect.reason)
            case e.SaveEpoch():
                self.data_dir.save_epoch(effect.epoch)
            case e.SaveCluster():
                self.data_dir.save_cluster(effect.cluster)
            case e.Halt():
                raise Fatal(f"broker {self.config.id} stops, its files are kept: {effect.reason}")
            case e.Finished():
                self.stopped.set()
            case _:
                assert_never(effect)

    # -- effects on the disk ---------------------------------------------------------------------

    def _truncate(self, effect: e.Truncate) -> None:
        try:
            self.store.truncate(effect.next, effect.sum)
        except (SumMismatch, Damaged) as damage:
            raise Fatal(
                f"broker {self.config.id} stops, its files in {self.config.data_dir} are kept: "
                f"{damage}"
            ) from damage
        self._durable = min(self._durable, effect.next - 1)

    def _apply(self, effect: e.Apply) -> None:
        try:
            self.store.apply(effect.ops)
        except StorageError as error:
            # Nothing is lost: the log has it, and memory serves it; the next flush tries again.
            self.story.tell("flush_failed", reason=error.message)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_due is None:
            self._flush_due = self.loop.call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flush_due = None
        try:
            self.store.flush()
        except StorageError as error:
            self.story.tell("flush_failed", reason=error.message)
            self._flush_soon()

    def _begin_sync(self) -> None:
        """Sync what was appended, unless a sync runs: then the next one takes it."""
        if self._sync_began is not None or self.store.next_index - 1 <= self._durable:
            return
        self._sync_in_thread()

    def _sync_in_thread(self) -> None:
        self._sync_began = time.monotonic()
        job = self.store.begin_sync()
        future = self.loop.run_in_executor(None, job.run)
        future.add_done_callback(lambda done: self._synced(job, done))

    def _synced(self, job: Any, done: asyncio.Future[None]) -> None:
        self._sync_began = None
        error = done.exception()
        if error is not None:
            # What the disk did not take may be lost whatever it says later: never try again.
            self.data_dir.sync_failed(self._durable)
            self._fail(Fatal(f"the disk refused to sync the log: {error}; this broker stops"))
            return
        if self.sync_always:
            self._durable = max(self._durable, job.index)
            self._tell(e.Durable(self._durable))

    def may_beat(self) -> bool:
        """A broker whose fsync hangs must look as dead as it is."""
        began = self._sync_began
        settings = self.node.view.settings if self.node.view else None
        patience = settings.session_ms / 2000 if settings else 1.0
        return began is None or time.monotonic() - began < patience

    # -- effects on the net ----------------------------------------------------------------------

    def _reply(
        self, conn: int, id_: m.RequestId, answer: m.Answer, buffers: list[Buffer] | None = None
    ) -> None:
        connection = self.server.connections.get(conn)
        if connection is None:
            return
        if isinstance(answer, m.StatusAnswer):
            self._complete_status(answer)
        connection.answer(id_, answer, buffers or ())

    def _reply_leased(self, conn: int, id_: m.RequestId, answer: m.Answer, until: float) -> None:
        """Rule `lease`: looked at once more just before the answer leaves."""
        if time.monotonic() >= until:
            refused = Refused("NO_LEADER", "this broker's lease on the leadership ran out just now")
            answer = protocol.error_answer(refused)
        self._reply(conn, id_, answer)

    def _send_records(self, effect: e.SendRecords) -> None:
        buffers: list[Buffer] = []
        left, first = effect.max_bytes, True
        for entry, offset in zip(effect.entries, effect.offsets, strict=True):
            if offset is None or (left <= 0 and not first):
                continue
            try:
                read = self.store.read_records(
                    entry.topic, entry.partition, offset, left, at_least_one=first
                )
            except StorageError as error:
                entry.error, entry.message = "STORAGE_ERROR", error.message
                entry.retriable = True
                continue
            entry.size = sum(len(b) for b in read)
            left -= entry.size
            first = first and not read
            buffers += read
        self._reply(effect.conn, effect.id, m.FetchAnswer(partitions=effect.entries), buffers)

    def _send_ops(self, effect: e.SendOps) -> None:
        try:
            count, buffers = self.store.read_ops(effect.first, effect.last, effect.max_bytes)
        except StorageError as error:
            self.story.tell("log_unreadable", reason=error.message)
            self._hang_up(effect.conn, error.message)
            return
        answer = m.ReplicateAnswer(
            epoch=effect.epoch, from_=effect.first, committed=effect.committed, count=count
        )
        self._reply(effect.conn, effect.id, answer, buffers)

    def _find_offsets(self, effect: e.FindOffsets) -> None:
        answer: m.Answer
        try:
            offsets = [
                (topic, partition, self.store.find_offset(topic, partition, effect.at_ms))
                for topic, partition in effect.partitions
            ]
            answer = m.OffsetsAnswer(offsets=offsets)
        except StorageError as error:
            answer = protocol.error_answer(Refused("STORAGE_ERROR", error.message))
        self._reply_leased(effect.conn, effect.id, answer, effect.until)

    def _hang_up(self, conn: int, reason: str) -> None:
        connection = self.server.connections.get(conn)
        if connection is not None:
            connection.close(reason)

    def _propose_isr(self, effect: e.ProposeIsr) -> None:
        version = effect.version
        self.session.propose_isr(
            effect.epoch,
            version,
            effect.isr,
            effect.incs,
            lambda ok, message: self._tell(e.IsrAnswered(version, ok, message)),
        )

    def _complete_status(self, answer: m.StatusAnswer) -> None:
        """What only the shell knows."""
        answer.connections = len(self.server.connections)
        answer.host, answer.port = self.server.address
        answer.fsync = self.config.fsync
        answer.version = __version__
        answer.uptime_s = round(time.monotonic() - self._started, 3)

    # -- life ------------------------------------------------------------------------------------

    def _identity(self) -> m.Join:
        """What yak-zk is told at a join."""
        address = self._advertised()
        epochs = self.store.epochs
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
        )

    def _advertised(self) -> Address:
        """--advertise, where a port 0 means the one that was bound."""
        if self.config.advertise is None:
            return self.server.address
        address = parse_address(self.config.advertise)
        return Address(address.host, address.port or self.server.address.port)

    def stop(self) -> None:
        """SIGTERM: finish what clients wait for, say goodbye."""
        if self.node.stopping:
            self._fail(Fatal("interrupted twice: stopped at once", exit_code=130))
        self._tell(e.Stop())

    def _fail(self, fatal: Fatal) -> None:
        """Stop at once: nothing more is acknowledged, the files are kept."""
        self.failure = self.failure or fatal
        self.stopped.set()

    async def live(self, ready: Callable[[Address], None]) -> None:
        """Listen, join, and go on until Stop, or until a reason to stop at once."""
        config = self.config
        decoder = RequestDecoder(m.BrokerRequest)
        self.server = await Server.start(config.host, config.port, decoder, self, config.limits)
        ready(self.server.address)
        self.session = CoordinatorSession(
            parse_address(config.zk),
            identity=self._identity,
            may_beat=self.may_beat,
            on_view=self._viewed,
            on_lease=lambda sent: self._tell(e.LeaseRenewed(sent)),
            on_lost=lambda reason: self._tell(e.CoordinatorLost(reason)),
            wait_s=config.zk_wait_s,
        )
        self._tell(e.Tick())
        session = asyncio.ensure_future(self.session.run())
        stopped = asyncio.ensure_future(self.stopped.wait())
        interval = asyncio.ensure_future(self._sync_at_intervals())
        try:
            await asyncio.wait({session, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if session.done() and not self.stopped.is_set():
                session.result()  # raises Fatal
            if self.failure is not None:
                raise self.failure
            await self.session.leave()
        finally:
            for task in (session, stopped, interval):
                task.cancel()
            self.link.close()
            await self.server.close(CLOSE_GRACE_S if self.failure is None else 0.0)

    async def _sync_at_intervals(self) -> None:
        """fsync interval:MS: a power cut may cost what the last interval brought."""
        if not self.config.fsync.startswith("interval:"):
            return
        interval_s = int(self.config.fsync.removeprefix("interval:")) / 1000
        while True:
            await asyncio.sleep(interval_s)
            if self._sync_began is None:
                self._sync_in_thread()


async def run(config: BrokerConfig) -> None:
    """Run a broker until SIGTERM or SIGINT.  Raises Fatal where it cannot start or go on."""
    disk = OsDisk()
    path = str(config.data_dir)
    boot_id = read_boot_id()
    data_dir = DataDir.open(disk, path, kind="broker", broker=config.id, boot_id=boot_id)
    story = Story(f"broker-{config.id}", f"{path}/events.jsonl", sys.stderr)
    store, recovered = Store.recover(disk, data_dir, Settings().oplog_segment_bytes)
    inc = uuid.uuid4().hex
    data_dir.mark_running(inc=inc, boot_id=boot_id, fsync=config.fsync)
    broker = Broker(config, data_dir, store, recovered, story, inc)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, broker.stop)

    def ready(address: Address) -> None:
        story.tell(
            "started",
            listening=str(address),
            data_dir=path,
            state=recovered.state,
            reason=recovered.message,
            next=recovered.next,
            fsync=config.fsync,
        )
        sys.stdout.write(f"listening on {address}\n")
        sys.stdout.flush()

    await broker.live(ready)
    store.close()
    data_dir.mark_stopped()
    story.tell("stopped", reason="asked to")
