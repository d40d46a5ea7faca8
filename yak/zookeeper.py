"""yak-zk: the coordinator's shell around core/coordinator.py.

    data/zookeeper/state.json     the cluster document, replaced durably *before* anybody is told
    data/zookeeper/events.jsonl   what happened and why, as on stderr
    data/zookeeper/meta.json      whose directory this is, and its lock

One event loop, one thread: an event goes to the core, and its effects are carried out in their
order before the next one is looked at.  Saving is one of them, and blocks the loop on purpose:
nothing may be said while it is not known to be on disk.  If it fails, the process stops, for
what it would say next could not be relied upon.  (The core sees that it did not run meanwhile,
and blames nobody.)

A session whose connection closed is *probed*: the broker's own port is asked for its status.
Refused by every address of its host, or answered by another incarnation: dead at once.  A
connection that is reset, or ends without an answer, is what a dying process looks like for a
moment, so it is asked again.  Anything else proves nothing, and the session goes on until its
heartbeats are missed.

What it does not do: it decides nothing, and it serves no records.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from yak import messages as m
from yak.config import CoordinatorConfig, Limits, Settings
from yak.core.coordinator import Coordinator, Effect, Probe, Publish, Save
from yak.core.document import Document
from yak.core.events import HangUp, Reply, Tell
from yak.errors import Fatal, YakError
from yak.memory import Memory
from yak.model import Address, Now
from yak.net.connection import Connection
from yak.net.lifeline import end_with_stdin
from yak.net.server import Server, ServerConnection
from yak.net.tasks import spawn
from yak.net.timing import RequestTimes
from yak.protocol import RequestDecoder
from yak.storage.data_dir import DataDir, check_json, write_json_durably
from yak.storage.disk import OsDisk
from yak.storage.story import Story, StoryHandler

#: How long connections may take to end when the process stops.
GRACE_S: Final = 1.0
#: A probe connects and waits for an answer this long each; it is asked so many times, so far
#: apart, if the connection ends without one.
PROBE_S: Final = 1.0
PROBE_ATTEMPTS: Final = 10
PROBE_PAUSE_S: Final = 0.02
#: So many of its last events a status has: a screen full, in 10 KB.
EVENTS_TOLD: Final = 50

_FORMAT: Final = 1


async def run(config: CoordinatorConfig, *, stop: asyncio.Event | None = None) -> None:
    """Be the coordinator until `stop`; without one, until SIGTERM or SIGINT.  Raises Fatal."""
    _check_settings(config.settings)
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if config.until_eof:
        end_with_stdin(stop.set)
    disk = OsDisk()
    try:
        directory = DataDir.open(disk, str(config.data_dir), kind="zookeeper")
        path = f"{directory.path}/state.json"
        document = _load(directory, path) or Document(
            cluster=str(uuid.uuid4()), settings=config.settings
        )
        path_of_events = f"{directory.path}/events.jsonl"
        story = Story("yak-zk", path_of_events, sys.stderr, quiet=config.quiet, disk=disk)
        shell = _Shell(config, document, lambda new: _save(directory, path, new), story, stop)
        directory.take_over(document.cluster)
        with StoryHandler.listening(story):
            await shell.serve_with_pages()
    finally:
        disk.close()


def _check_settings(settings: Settings) -> None:
    """A heartbeat must be answered well within what a session lasts longer than a lease."""
    s = settings
    if s.heartbeat_ms + s.lease_ms >= s.session_ms:
        raise Fatal(
            f"--heartbeat-ms {s.heartbeat_ms} and --lease-ms {s.lease_ms} together must be below "
            f"--session-ms {s.session_ms}: else no heartbeat could renew a lease in time",
            exit_code=2,
        )


def _load(directory: DataDir, path: str) -> Document | None:
    """The document as it was last saved; None in a new directory.  Raises Fatal."""
    try:
        data = directory.disk.read_file(path)
    except FileNotFoundError:
        if directory.meta.cluster is None:
            return None
        raise Fatal(
            f"{path} is missing, though cluster {directory.meta.cluster} was kept here: bring it "
            "back; if it is gone, start with an empty --data-dir, which refuses the brokers of "
            "that cluster until `yak zk adopt`"
        ) from None
    except OSError as e:
        raise Fatal(f"{path} cannot be read: {e.strerror}; look at the disk") from e
    try:
        document = msgspec.json.decode(data, type=Document)
        if document.format != _FORMAT:
            raise Fatal(
                f"{path} has format {document.format}, this version of yak reads {_FORMAT}: start "
                "the yak that wrote it"
            )
        check_json(data)
    except (msgspec.MsgspecError, ValueError) as e:
        raise Fatal(f"{path} is not what yak-zk writes there: {e}; bring a good copy back") from e
    return document


def _save(directory: DataDir, path: str, document: Document) -> None:
    """zk_durable.  Raises Fatal."""
    try:
        write_json_durably(directory.disk, path, document)
    except OSError as e:
        raise Fatal(
            f"{path} cannot be written: {e.strerror}; nothing was told that is not on disk: make "
            "room or mend the disk, and start yak-zk again"
        ) from e
    directory.take_over(document.cluster)


class _Shell:
    """The core's world: a server, a clock, a disk.  It is the server's Handler."""

    server: Server

    def __init__(
        self,
        config: CoordinatorConfig,
        document: Document,
        save: Callable[[Document], None],
        story: Story,
        stop: asyncio.Event,
    ) -> None:
        self._config = config
        self._save = save
        self._story = story
        self._stop = stop
        #: Why the process must stop, if it must.  Nothing is said any more then.
        self._failed: Exception | None = None
        self._probes: set[asyncio.Task[None]] = set()
        #: For `status`: all of it is in events.jsonl, on this machine only.
        self._recent: deque[m.Happened] = deque(maxlen=EVENTS_TOLD)
        self._memory = Memory()
        self._core = Coordinator(
            document,
            config.settings,
            _now(),
            bootstrap_wait_ms=config.bootstrap_wait_ms,
            cooldown_ms=config.cooldown_ms,
        )

    async def serve_with_pages(self) -> None:
        """Serve, with /metrics, /healthz and /readyz if somebody wants them.  Raises Fatal."""
        if self._config.metrics is None:
            await self.serve()
            return
        from yak.metrics.of_zk import ZkFigures
        from yak.metrics.station import Station

        figures = ZkFigures(RequestTimes(), frozenset(self._core.document.isr_ids))
        self._story.listeners.append(figures)
        station = await Station.open(self._config.metrics, self._story.process, figures)
        with suppress(OSError):  # nobody reads it
            sys.stdout.write(f"{station.line}\n")
            sys.stdout.flush()
        try:
            await self.serve(figures.begin)
        finally:
            station.close()

    async def serve(self, begun: Callable[[Coordinator, Server], None] | None = None) -> None:
        """Until the stop.  Raises Fatal."""
        self._do(self._core.start)
        self._check()
        self.server = await Server.start(
            self._config.host,
            self._config.port,
            RequestDecoder(m.CoordinatorRequest),
            self,
            Limits(),
        )
        if begun is not None:
            begun(self._core, self.server)
        address, document = self.server.address, self._core.document
        self._tell(
            "started",
            address=str(address),
            cluster=document.cluster,
            epoch=document.epoch,
            leader=document.leader,
        )
        with suppress(OSError):  # nobody reads it
            sys.stdout.write(f"listening on {address}\n")
            sys.stdout.flush()
        self._tick_later()
        try:
            await self._stop.wait()
        finally:
            for probe in self._probes:
                probe.cancel()
            await self.server.close(GRACE_S)
        self._check()
        self._tell("stopped", reason="asked to")

    def _tick_later(self) -> None:
        """Let the core feel time pass.

        By a timer: a task that waits with a time-out is most of what an idle yak-zk would do.
        """
        now = time.monotonic()
        asyncio.get_running_loop().call_later(self._core.next_deadline(now) - now, self._tick)

    def _tick(self) -> None:
        if not self._stop.is_set():
            self._do(self._core.tick)
            self._tick_later()

    # -- what the server tells --------------------------------------------------------------------

    def opened(self, connection: ServerConnection, /) -> None:
        """Nothing is owed to a connection before it asks."""

    def received(self, connection: ServerConnection, request: Any, body: Any, /) -> None:
        self._do(self._core.handle, connection.number, request)

    def closed(self, connection: ServerConnection, /) -> None:
        self._do(self._core.closed, connection.number)

    # -- effects ----------------------------------------------------------------------------------

    def _do(self, event: Callable[..., list[Effect]], *what: Any) -> None:
        """One event, and all that follows from it.

        Whatever fails here leaves the core ahead of the disk: then silence is the only safe word.
        """
        if self._stop.is_set():
            return
        try:
            for effect in event(*what, _now()):
                self._carry_out(effect)
        except Exception as e:  # noqa: BLE001 -- it ends the process: `serve` raises it
            self._failed = e
            self._stop.set()

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Save(document):
                self._save(document)
            case Tell(event, fields):
                self._tell(event, **fields)
            case Reply(conn, request_id, answer):
                if isinstance(answer, m.CoordinatorStatus):
                    answer.events = list(self._recent)
                    answer.memory = self._memory.resident_bytes(_now().mono)
                connection = self.server.connections.get(conn)
                if connection is not None:
                    connection.answer(request_id, answer)
            case Publish(view, conns):
                for conn in conns:
                    if conn in self.server.connections:
                        self.server.connections[conn].push(view)
            case HangUp(conn, reason):
                connection = self.server.connections.get(conn)
                if connection is not None:
                    connection.close(reason)
            case Probe():
                task = spawn(self._probe(effect), name=f"probe of broker {effect.broker}")
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)

    def _tell(self, event: str, **fields: Any) -> None:
        self._story.tell(event, **fields)
        self._recent.append(m.Happened(time=_now().wall_ms, event=event, fields=fields))

    # -- probes -----------------------------------------------------------------------------------

    async def _probe(self, probe: Probe) -> None:
        for _ in range(PROBE_ATTEMPTS):
            verdict = await _ask_port(probe)
            if verdict.proof:
                self._do(self._core.probed, probe.broker, probe.inc, verdict.proof)
            if not verdict.again:
                return
            await asyncio.sleep(PROBE_PAUSE_S)


class _Verdict(NamedTuple):
    """proof: why the process is surely dead, if it is.  again: it may be about to die."""

    proof: str = ""
    again: bool = False


_LIVES_OR_HANGS: Final = _Verdict()
_REFUSES: Final = _Verdict("its port refuses connections")
_REPLACED: Final = _Verdict("another process answers at its address")
_ENDING: Final = _Verdict(again=True)


async def _ask_port(probe: Probe) -> _Verdict:
    """Ask every address of the host until one does not refuse."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(probe.host, probe.port)
    except OSError:
        return _LIVES_OR_HANGS
    verdict = _LIVES_OR_HANGS
    for host in sorted({str(entry[4][0]) for entry in found}):
        verdict = await _ask_address(Address(host, probe.port), probe.inc)
        if verdict is not _REFUSES:
            break
    return verdict


async def _ask_address(address: Address, inc: str) -> _Verdict:
    try:
        connection = await Connection.open(address, timeout_s=PROBE_S)
    except YakError as e:
        match e.__cause__:
            case ConnectionRefusedError():
                return _REFUSES
            case ConnectionResetError():  # its port was closed before it took this one in
                return _ENDING
            case _:
                return _LIVES_OR_HANGS
    try:
        status, _ = await connection.ask(m.Status(id=0), m.StatusAnswer, timeout_s=PROBE_S)
    except YakError as e:
        return _ENDING if e.name == "CONNECTION" else _LIVES_OR_HANGS
    finally:
        connection.close()
    return _REPLACED if status.inc not in ("", inc) else _LIVES_OR_HANGS


def _now() -> Now:
    return Now(mono=time.monotonic(), wall_ms=time.time_ns() // 1_000_000)
