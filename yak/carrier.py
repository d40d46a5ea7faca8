"""Carries the core's effects out, in their order: the other half of a broker's shell.

    AppendOp … Apply, Load          storage.store, at once
    Reply … SendOps, HangUp         net.server: written when the turn of the loop ends
    Dial … SendReplicate            net.link
    ProposeIsr, Resign              net.coordinator
    SaveEpoch, SaveCluster          storage.data_dir, durable before what follows
    OfferCopy … Install, Rebuild    copying.py; then this life of the broker ends
    Tell                            storage.story

Consecutive appends go out in one write.  Where the disk refuses one, StorageFailed is told; in
this turn nothing more is appended, since it would leave a gap, and no `replicate` is answered,
since its answer may name what was not written.

Every effect has its place here, hence more than 400 lines.  It decides nothing, and hears nothing
(broker.py does).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

from yak import messages as m
from yak import protocol
from yak.bodies import validate_records
from yak.config import Limits
from yak.copying import Fetching, Giving
from yak.core import events as e
from yak.core.ops import crc_of
from yak.errors import Fatal, Refused
from yak.memory import Memory
from yak.net.coordinator import Coordination
from yak.net.link import LeaderLink
from yak.net.server import Server
from yak.storage.chunk import Chunk
from yak.storage.data_dir import DataDir
from yak.storage.disk import Buffer
from yak.storage.faults import Damaged, StorageError, SumMismatch, Trimmed
from yak.storage.store import Store
from yak.storage.story import Story
from yak.version import VERSION

#: How long partition files may lag behind what is applied; reads are served from memory.
FLUSH_S: Final = 0.05
#: Offsets that are found by their time at once.
FIND_AT_ONCE: Final = 50
#: Partitions that are written at once: a heartbeat or an answer must not wait for a thousand.
FLUSH_AT_ONCE: Final = 50
#: After the disk refused that.
FLUSH_AGAIN_S: Final = 0.5


#: topic, partition, and the offset that was looked for.
_Found: TypeAlias = tuple[str, int, int | None]


class Batch(e.Body):
    """A produced body, with its bytes."""

    data: bytes


def batch_of(body: bytes, count: int, most: int) -> Batch:
    """Validated, but where the core refuses it by its size alone, whatever is in it.

    Raises Refused.  most: its size then.
    """
    if len(body) > most:
        return Batch(len(body), "unread", b"")
    validate_records(body, count)
    return Batch(len(body), crc_of(body), body)


class Carrier:
    """The hands of one broker.

    server and session are set once they stand, before the first effect that needs them.
    finished: called for Finished.  restart: what is on the disk has changed under this process.
    """

    server: Server
    session: Coordination

    def __init__(
        self,
        *,
        broker: int,
        fsync: str,
        store: Store,
        data_dir: DataDir,
        story: Story,
        link: LeaderLink,
        tell: Callable[[e.Event], None],
        finished: Callable[[], None],
        restart: Callable[[str], None],
        max_unflushed_bytes: int = Limits.max_unflushed_bytes,
    ) -> None:
        self.store = store
        self.data_dir = data_dir
        self.story = story
        self.link = link
        self._broker = broker
        self._fsync = fsync
        self._tell = tell
        self._finished = finished
        self._restart = restart
        self.giving = Giving(store)
        self.fetching = Fetching(broker, store, lambda: self.link, tell)
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._memory = Memory()
        self._flush_due: asyncio.TimerHandle | None = None
        self._max_unflushed_bytes = max_unflushed_bytes
        #: The partition files were refused when last tried.
        self._refused = False
        #: The core was told not to apply.
        self._stuck = False
        self._closed = False

    def close(self) -> None:
        """Nothing is written from here on: the next life has other files of the same names."""
        self._closed = True
        if self._flush_due is not None:
            self._flush_due.cancel()

    def carry_out(self, effects: list[e.Effect]) -> bool:
        """In their order; consecutive appends in one write.

        Whether the disk took all of it; if not, the core does not know that before the next turn.
        """
        appends: list[e.AppendOp] = []
        failed = False
        for effect in effects:
            if isinstance(effect, e.AppendOp):
                appends.append(effect)
                continue
            if appends:
                failed = failed or not self._append(appends)
                appends = []
            if failed and isinstance(effect, e.SendOps):
                # It may promise what was not written; the follower will ask again.
                self._hang_up(effect.conn, "the disk refused")
            else:
                failed |= not self._carry(effect)
        if appends and not failed:
            failed = not self._append(appends)
        return not failed

    def _append(self, appends: list[e.AppendOp]) -> bool:
        """Whether the disk took them."""
        operations = [(a.op, a.body.data if isinstance(a.body, Batch) else None) for a in appends]
        try:
            self.store.append(operations)
        except StorageError as error:
            self._tell(e.StorageFailed(error.message, self.store.next_index - 1))
            return False
        self._log_taken()
        return True

    def _append_copied(self, effect: e.AppendCopied) -> bool:
        chunk = effect.copied.chunk
        assert isinstance(chunk, Chunk)
        try:
            self.store.append_copied(chunk)
        except StorageError as error:
            self._tell(e.StorageFailed(error.message, self.store.next_index - 1))
            return False
        self._log_taken()
        return True

    def _log_taken(self) -> None:
        """Whoever was told that the disk refuses is told when it does no longer."""
        if self.story.found.is_open("refused"):
            self.story.tell("storage_goes_on", end=self.store.next_index - 1)

    def _save_epoch(self, effect: e.SaveEpoch) -> bool:
        try:
            self.data_dir.save_epoch(effect.epoch)
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
            case e.SaveEpoch():
                return self._save_epoch(effect)
            case e.SendReplicate():
                self.link.replicate(effect)
            case e.FindOffsets():
                self._find_offsets(effect)
            case e.Tell():
                self.story.tell(effect.event, **effect.fields)
            case e.AppendOp():
                raise AssertionError("gathered by carry_out")
            case _:
                self._carry_rarely(effect)
        return True

    def _carry_rarely(
        self,
        effect: e.Truncate
        | e.Load
        | e.FindTrims
        | e.SendFollowAnswer
        | e.CopyEffect
        | e.HangUp
        | e.Dial
        | e.Undial
        | e.SendFollow
        | e.ProposeIsr
        | e.Resign
        | e.SaveCluster
        | e.Halt
        | e.Finished,
    ) -> None:
        match effect:
            case e.Truncate():
                self._truncate(effect)
            case e.Load():
                self._load(effect)
            case e.FindTrims():
                self._tell(e.TrimsFound(self.store.find_trims(effect.queries)))
            case e.SendFollowAnswer():
                self._answer_follow(effect)
            case e.OfferCopy() | e.SendCopy() | e.FetchCopy() | e.Install() | e.Rebuild():
                self._carry_copy(effect)
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
            case e.SaveCluster():
                self.data_dir.save_cluster(effect.cluster)
            case e.Halt():
                raise Fatal(f"broker {self._broker} stops, its files are kept: {effect.reason}")
            case e.Finished():
                self._finished()
            case _:
                assert_never(effect)

    def _answer_follow(self, effect: e.SendFollowAnswer) -> None:
        if effect.truncate_to < self.store.first_index:  # cut since the core looked
            self._hang_up(effect.conn, f"operation {effect.truncate_to} is no longer in the log")
            return
        try:
            running = self.store.sum_before(effect.truncate_to)
        except StorageError as error:
            self._not_given(effect.conn, error)
            return
        answer = m.FollowAnswer(epoch=effect.epoch, truncate_to=effect.truncate_to, sum=running)
        self._reply(effect.conn, effect.id, answer)

    def _carry_copy(self, effect: e.CopyEffect) -> None:
        match effect:
            case e.OfferCopy() | e.SendCopy():
                self._give_copy(effect)
            case e.FetchCopy():
                self.fetching.begin(effect)
            case e.Install():
                self._install(effect)
            case e.Rebuild():
                self.data_dir.is_damaged()
                self._restart(f"its files are damaged: {effect.reason}")
            case _:
                assert_never(effect)

    def _give_copy(self, effect: e.OfferCopy | e.SendCopy) -> None:
        try:
            if isinstance(effect, e.OfferCopy):
                self._reply(effect.conn, effect.id, self.giving.offer(effect))
            else:
                answer, data = self.giving.piece(effect)
                self._reply(effect.conn, effect.request.id, answer, [data])
        except StorageError as error:
            self._not_given(effect.conn, error)

    def _unreadable(self, error: StorageError, *, needed: bool = False) -> None:
        """The core must know of bytes that are no longer what was written.

        Where the disk does not give them at all, that is said once: each reader comes again.
        """
        if error.damaged:
            self._tell(e.FileDamaged(error.message, needed))
        elif isinstance(error.__cause__, OSError) and not self.story.found.is_open("unreadable"):
            self.story.tell("file_unreadable", reason=error.message)

    def _not_given(self, conn: int, error: StorageError) -> None:
        """A follower cannot be served."""
        self._unreadable(error, needed=True)
        self._hang_up(conn, error.message)

    def _install(self, effect: e.Install) -> None:
        """This life ends here; what it holds in memory is not what is on the disk any more."""
        try:
            self.fetching.install(effect)
        except OSError as error:
            raise Fatal(f"the full copy cannot take its place: {error}; start again") from error
        self.story.tell("copied", checkpoint=effect.index)
        self._restart(f"a full copy up to operation {effect.index} is complete")

    # -- effects on the disk ---------------------------------------------------------------------

    def _truncate(self, effect: e.Truncate) -> None:
        try:
            self.store.truncate(effect.next, effect.sum)
        except (SumMismatch, Damaged) as damage:
            raise Fatal(
                f"broker {self._broker} stops, its files in {self.data_dir.path} are kept: {damage}"
            ) from damage

    def _load(self, effect: e.Load) -> None:
        try:
            loaded = self.store.load(effect.first, effect.last)
        except StorageError as error:
            if error.damaged:
                # Begun without it, the next life cannot come this far and no further again.
                self.data_dir.is_damaged()
                self.story.tell("log_damaged", reason=error.message)
                self._restart(f"its log is damaged: {error.message}")
                return
            raise Fatal(
                f"broker {self._broker} stops: committed operations cannot be read back: {error}; "
                "look at the disk, then start it again"
            ) from error
        self._tell(e.Loaded(loaded))

    def _apply(self, effect: e.Apply) -> None:
        try:
            self.store.apply(effect.ops)
        except StorageError as error:
            # Nothing is lost: the log has it, and memory serves it; the next flush tries again.
            self._flush_refused(error)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_due is None and not self._closed:
            after = FLUSH_AGAIN_S if self._refused else FLUSH_S
            self._flush_due = self._loop.call_later(after, self._flush)

    def _flush(self) -> None:
        self._flush_due = None
        try:
            more = self.store.flush(FLUSH_AT_ONCE)
        except StorageError as error:
            self._flush_refused(error)
            self._flush_soon()
            return
        if more:
            self._flush_due = self._loop.call_later(0, self._flush)
        elif self._refused:
            self._refused = False
            self.story.tell("flushed_again")
        if self._stuck and self.store.unflushed_bytes < self._max_unflushed_bytes:
            self._stuck = False
            self._tell(e.FilesStuck(None))

    def _flush_refused(self, error: StorageError) -> None:
        """What waits in memory is served from there; but that must not fill it."""
        if not self._refused:
            self.story.tell("flush_failed", reason=error.message)
        self._refused = True
        waiting = self.store.unflushed_bytes
        if waiting >= self._max_unflushed_bytes and not self._stuck:
            self._stuck = True
            limit = f"max_unflushed_bytes is {self._max_unflushed_bytes}"
            self._tell(e.FilesStuck(f"{error.message} ({waiting} bytes; {limit})"))

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
        """Read them when the client has room: a hundred of its polls may wake at one append."""
        connection = self.server.connections.get(effect.conn)
        if connection is not None:
            connection.when_room(lambda: self._read_and_send(effect), effect.max_bytes)

    def _read_and_send(self, effect: e.SendRecords) -> None:
        buffers: list[Buffer] = []
        left, first = effect.max_bytes, True
        for entry, offset in zip(effect.entries, effect.offsets, strict=True):
            if offset is None or (left <= 0 and not first):
                continue
            try:
                read = self.store.read_records(
                    entry.topic, entry.partition, offset, left, at_least_one=first
                )
            except Trimmed as gone:  # since the core looked: this client's answers had to wait
                entry.error, entry.message = "OFFSET_OUT_OF_RANGE", gone.message
                entry.start, entry.retriable = gone.start, False
                continue
            except StorageError as error:
                self._unreadable(error)
                entry.error, entry.message = "STORAGE_ERROR", error.message
                entry.retriable = True
                continue
            entry.size = sum(len(b) for b in read)
            left -= entry.size
            if not read and not first:
                left = 0  # this one has the next turn; who read on would read for nothing
            first = first and not read
            buffers += read
        self._reply(effect.conn, effect.id, m.FetchAnswer(partitions=effect.entries), buffers)

    def _send_ops(self, effect: e.SendOps) -> None:
        if effect.first < self.store.first_index:  # it was too slow for what the log retains
            self._hang_up(effect.conn, f"operation {effect.first} is no longer in the log")
            return
        try:
            count, buffers = self.store.read_ops(effect.first, effect.last, effect.max_bytes)
        except StorageError as error:
            self._not_given(effect.conn, error)
            return
        answer = m.ReplicateAnswer(
            epoch=effect.epoch, from_=effect.first, committed=effect.committed, count=count
        )
        self._reply(effect.conn, effect.id, answer, buffers)

    def _find_offsets(self, effect: e.FindOffsets, found: tuple[_Found, ...] = ()) -> None:
        """Each takes a read of a file: many are found a few in each round of the loop.

        found: those that are.
        """
        first, after = len(found), len(found) + FIND_AT_ONCE
        here = zip(effect.partitions[first:after], effect.bounds[first:after], strict=True)
        answer: m.Answer
        try:
            found += tuple(
                (topic, partition, _kept(self.store.find_offset(topic, partition, effect.at_ms), b))
                for (topic, partition), b in here
            )
            answer = m.OffsetsAnswer(offsets=list(found))
        except StorageError as error:
            self._unreadable(error)
            answer = protocol.error_answer(Refused("STORAGE_ERROR", error.message))
        else:
            if after < len(effect.partitions):
                self._loop.call_soon(self._find_offsets, effect, found)
                return
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
        answer.fsync = self._fsync
        answer.found = self.story.found.listed
        answer.version = VERSION
        now = time.monotonic()
        answer.uptime_s = round(now - self._began, 3)
        answer.memory = self._memory.resident_bytes(now)


def _kept(offset: int | None, bounds: tuple[int, int]) -> int | None:
    """The first offset from `offset` on that is not forgotten; None where nothing is left.

    Trims free whole files: the first one may begin below the log's start.
    """
    start, end = bounds
    if offset is None or offset >= start:
        return offset
    return start if start < end else None
