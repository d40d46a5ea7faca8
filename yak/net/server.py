"""The accepting side of the wire: one gate for every request, for brokers and yak-zk alike.

    kernel -> data_received -> FrameReader -> queue -> RequestDecoder -> handler.received
    transport <- one writelines a turn of the loop <- answer(), push() <- the handler, any time

Rules:

* The handler hears only of good requests, in the order of their frames, and never from within
  its own call of `answer`.  What is malformed is answered here, and the connection stays open.
* A request counts as unanswered until `answer`, or `done` where no answer is due.
* While a connection has max_inflight_requests unanswered, or max_unsent_bytes that its client
  does not read, nothing more is taken from it: frames that are here already wait in its queue,
  the others wait in the kernel, and so with the client.
* Frames that have begun, or wait in a queue, share max_partial_bytes over all connections, and
  each must end within frame_timeout_ms.  One sweep looks after all of them; a timer a frame would
  cost every frame.  What all clients leave unread is unread.py's.
* All answers of one turn of the loop leave a connection in one write.
* An end is orderly: what was answered is sent, the write side is shut, input is discarded until
  the client ends too, at most LINGER_S.  Closing at once would reset the connection, and the
  client could lose the very error that tells it why.
* A client that ends its side first still gets the answers that it waits for.

Door and gate share these rules and so one file of more than 400 lines.  It knows nothing of
topics, leaders or files, gives no request a time limit, and promises no order of answers.
"""

from __future__ import annotations

import asyncio
import builtins
import itertools
import logging
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import msgspec

from yak import messages as m
from yak import protocol
from yak.config import MIB, Limits
from yak.errors import Refused
from yak.model import Address
from yak.net.listener import Listener, tune
from yak.net.tasks import spawn
from yak.net.unread import Unread
from yak.protocol import (
    BadRequest,
    Buffer,
    Foreign,
    Frame,
    FrameReader,
    Part,
    RequestDecoder,
    TooLarge,
)

#: How long the end of a connection may take before it is cut.
LINGER_S: Final = 1.0
#: Answers of one turn are written together, but no more than this is gathered before a write.
GATHER_BYTES: Final = 1 * MIB
#: How often unfinished frames are looked at; a deadline is late by this at most.
SWEEP_S: Final = 1.0
#: Clients over max_connections that are told so at the same time; the others are just cut.
MAX_TURNED_AWAY: Final = 64

_log = logging.getLogger(__name__)


class Handler(Protocol):
    """Who serves the requests.  All is called from the event loop and must not block."""

    def opened(self, connection: ServerConnection, /) -> None:
        """A client has connected."""

    def received(self, connection: ServerConnection, request: m.Request, body: bytes, /) -> None:
        """A good request, to be answered now or later.  It raises only by mistake."""

    def closed(self, connection: ServerConnection, /) -> None:
        """The connection is gone; answers to it are dropped from now on."""


class ServerConnection(asyncio.Protocol):
    """One client.

    number: never used twice by this process.  dialled: the local address that the client
    connected to.  unanswered: requests that the handler has and owes an answer to.
    """

    __slots__ = (
        "_broken_off",
        "_choked",
        "_drain_due",
        "_ending",
        "_eof",
        "_farewell",
        "_held",
        "_out",
        "_out_bytes",
        "_paused",
        "_queue",
        "_reader",
        "_server",
        "_shut",
        "_timer",
        "_transport",
        "_waiting",
        "dialled",
        "number",
        "peer",
        "since",
        "unanswered",
        "unread_since",
    )

    _transport: asyncio.Transport

    def __init__(self, server: Server, number: int) -> None:
        self.number = number
        self.peer = Address("?", 0)
        self.dialled = "?"
        self.unanswered = 0
        #: When the unfinished frame began, in the loop's time.
        self.since = 0.0
        self.unread_since = 0.0
        self._server = server
        self._reader = FrameReader(server.limits.max_frame_bytes)
        #: Frames received and not yet taken.
        self._queue: deque[Part] = deque()
        #: Their size, when they began to wait: counted until all are taken.
        self._waiting = 0
        #: Answers of this turn, not yet given to the transport, and their size.
        self._out: list[Buffer] = []
        self._out_bytes = 0
        #: The transport holds more than max_unsent_bytes.
        self._choked = False
        #: Answers that are made once there is room.  Invariant: empty unless choked.
        self._held: deque[Callable[[], None]] = deque()
        #: We do not read.
        self._paused = False
        self._drain_due = False
        #: The client sends no more.
        self._eof = False
        #: Nothing more is taken; our side is shut when nothing is unanswered, or in LINGER_S.
        self._ending = False
        #: Why we end it: the last frame that the client gets.
        self._farewell: Refused | None = None
        #: Our write side is shut.
        self._shut = False
        #: The connection is gone.
        self._broken_off = False
        self._timer: asyncio.TimerHandle | None = None

    # -- what the handler calls -------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether answers would be dropped."""
        return self._shut or self._broken_off

    @property
    def unsent_bytes(self) -> int:
        """What was answered and has not reached the kernel."""
        if self._broken_off:
            return 0
        return self._out_bytes + self._transport.get_write_buffer_size()

    def answer(self, id_: m.RequestId, answer: m.Answer, buffers: Sequence[Buffer] = ()) -> None:
        """Answer a request; `buffers` is the body.  After the connection's end it is dropped."""
        self._send(protocol.encode_answer(id_, answer), buffers)
        self.done()

    def when_room(self, make: Callable[[], None]) -> None:
        """Have a large answer made: at once, or when the client has read of the ones before it.

        Requests that were taken together may all be answered in one turn, long after the rule
        of max_unsent_bytes let them in.  After the connection's end nothing is made any more.
        """
        if self._choked:
            self._held.append(make)
        elif self._server.unread.room_now:
            make()
        else:
            self._server.unread.make_later(lambda: self._make_later(make))

    def _make_later(self, make: Callable[[], None]) -> None:
        if not self.closed:
            self.when_room(make)

    def done(self) -> None:
        """A request is served that gets no answer (acks=0)."""
        assert self.unanswered > 0, "answered twice"
        self.unanswered -= 1
        waits = self._paused or self._ending or self._eof
        if waits and not (self._drain_due or self._broken_off):
            self._drain_due = True
            self._server.loop.call_soon(self._drain)

    def push(self, message: msgspec.Struct) -> None:
        """Send what the client did not ask for."""
        self._send(protocol.encode_push(message))

    def close(self, reason: str = "", *, linger_s: float = LINGER_S) -> None:
        """Send what is answered, then end the connection in order.  reason: for the log."""
        if not self.closed:
            _log.info("closing connection %d of %s: %s", self.number, self.peer, reason)
        self._end()
        self._shut_down(linger_s)

    def abort(self) -> None:
        """Cut the connection; what is unsent is lost."""
        if not self._broken_off:
            self._transport.abort()

    # -- what the event loop calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = _stream(transport)
        self._transport.set_write_buffer_limits(high=self._server.limits.max_unsent_bytes)
        self.peer = _address(transport.get_extra_info("peername"))
        self.dialled = _address(transport.get_extra_info("sockname")).host
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        reader = self._reader
        held = reader.partial_bytes
        parts = reader.feed(data)
        if reader.partial_bytes or held:
            self._server.note_partial(
                self, reader.partial_bytes - held, fresh=bool(parts) or not held
            )
        if parts:
            self._queue.extend(parts)
            self._drain()
        if self._server.partial_bytes > self._server.limits.max_partial_bytes:
            self.refuse(_overloaded("max_partial_bytes", self._server.limits.max_partial_bytes))

    def eof_received(self) -> bool:
        self._eof = True
        self.forget_partial()
        if self._shut:
            return False
        self._drain()
        return not self._broken_off

    def pause_writing(self) -> None:
        self._choked = True
        self._set_reading()

    def resume_writing(self) -> None:
        self._choked = False
        while self._held and not self._choked:
            self._held.popleft()()
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken_off = True
        self._ending = True
        self.forget_partial()
        self._queue.clear()
        self._note_waiting()
        self._held.clear()
        self._out.clear()
        self._out_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        self._server.remove(self)

    # -- how it works -----------------------------------------------------------------------------

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._reader.mid_frame

    @property
    def reading(self) -> bool:
        """Whether we read, so that an unfinished frame is the client's to finish."""
        return not self._paused

    def refuse(self, refused: Refused) -> None:
        """End the connection: answers that are due, then what is wrong with it, then no more."""
        if self._ending:
            return
        _log.info("refusing connection %d of %s: %s", self.number, self.peer, refused)
        self._farewell = refused
        self._end()
        self._arm(LINGER_S, self._out_of_time)
        self._drain()

    def forget_partial(self) -> None:
        """Give back what an unfinished frame holds of the common limit; nothing more is read."""
        held = self._reader.partial_bytes
        self._reader.drop()
        self._server.note_partial(self, -held, fresh=False)

    def flush(self) -> None:
        """Hand what has gathered to the transport."""
        if self._out and not self.closed:
            out, self._out, self._out_bytes = self._out, [], 0
            self._transport.writelines(out)

    def _send(self, header: bytes, buffers: Sequence[Buffer] = ()) -> None:
        if self.closed:
            return
        if not self._out:
            self._server.note_unsent(self)
            if not self._transport.get_write_buffer_size():
                self.unread_since = self._server.loop.time()
        out = protocol.frame(header, buffers)
        size = sum(map(len, out))
        self._out += out
        self._out_bytes += size
        self._server.unread.wrote(self, size)
        if self._out_bytes >= GATHER_BYTES:
            self.flush()

    def _drain(self) -> None:
        """Take what the limits allow, then read on, wait or end."""
        self._drain_due = False
        queue = self._queue
        limit = self._server.limits.max_inflight_requests
        while queue and not (self._ending or self._choked) and self.unanswered < limit:
            self._take(queue.popleft())
        if bool(queue) != bool(self._waiting):
            self._note_waiting()
        self._set_reading()
        if self.unanswered == 0:
            if self._ending:
                self._shut_down(LINGER_S)
            elif self._eof and not queue:
                # A client that ended first still reads; it may be slow, but not for ever.
                self._shut_down(self._server.limits.frame_timeout_ms / 1000)

    def _note_waiting(self) -> None:
        """Nothing more is read while frames wait, so that their size is what it was at first."""
        size = sum(len(p.header) + len(p.body) for p in self._queue if isinstance(p, Frame))
        self._server.partial_bytes += size - self._waiting
        self._waiting = size

    def _take(self, part: Part) -> None:
        match part:
            case Frame(header, body):
                self._take_request(header, body)
            case Foreign(payload):
                refused = protocol.foreign_dialect(payload)
                self._send(protocol.encode_answer(None, protocol.error_answer(refused)))
            case TooLarge(announced):
                self.refuse(protocol.too_large(announced, self._server.limits.max_frame_bytes))

    def _take_request(self, header: bytes, body: bytes) -> None:
        try:
            request = self._server.decoder.decode(header)
        except BadRequest as e:
            self._send(protocol.encode_answer(e.id, protocol.error_answer(e)))
            return
        self.unanswered += 1
        owed = self.unanswered
        try:
            self._server.handler.received(self, request, body)
        except Exception:  # noqa: BLE001 -- any bug of a handler costs one request, not the broker
            incident = uuid.uuid4().hex[:8]
            _log.exception("incident %s: a request of %s failed: %r", incident, self.peer, request)
            if self.unanswered == owed:
                refused = Refused("INTERNAL", f"a bug; incident {incident} in the broker's log")
                self.answer(request.id, protocol.error_answer(refused))

    def _set_reading(self) -> None:
        full = self.unanswered >= self._server.limits.max_inflight_requests
        pause = (self._choked or full or bool(self._queue)) and not self._ending
        if pause == self._paused or self._eof or self._transport.is_closing():
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self.since = self._server.loop.time()
            self._transport.resume_reading()

    def _end(self) -> None:
        """From now on nothing is taken, and what comes in is discarded."""
        self._ending = True
        self._queue.clear()
        self._note_waiting()
        self.forget_partial()

    def _out_of_time(self) -> None:
        self._shut_down(LINGER_S)

    def _shut_down(self, linger_s: float) -> None:
        """Send all that is answered and shut our side; the client's end ends the connection."""
        if self.closed:
            return
        if self._farewell is not None:
            self._send(protocol.encode_answer(None, protocol.error_answer(self._farewell)))
        self.flush()
        self._shut = True
        self._set_reading()
        self._arm(linger_s, self.abort)
        if self._eof:
            self._transport.close()
        elif not self._transport.is_closing():
            with suppress(OSError):  # reset by the client, which asyncio has not told yet
                self._transport.write_eof()

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        """The one timer: what is to happen where the client does not end the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.call_later(seconds, action)


class _TurnedAway(asyncio.Protocol):
    """A client over max_connections: told so, and let go in order."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = _stream(transport)
        refused = _overloaded("max_connections", self._server.limits.max_connections)
        header = protocol.encode_answer(None, protocol.error_answer(refused))
        self.transport.writelines(protocol.frame(header))
        self.transport.write_eof()
        self._timer = self._server.loop.call_later(LINGER_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._server.turned_away.discard(self)


class Server:
    """Listens, admits, and holds what the connections share.

    partial_bytes: held of unfinished frames, and of those that wait.  Invariant: the sum over
    `connections`.
    turned_away: clients over max_connections that are being told so.
    """

    def __init__(self, decoder: RequestDecoder, handler: Handler, limits: Limits) -> None:
        self.decoder = decoder
        self.handler = handler
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.partial_bytes = 0
        self.unread = Unread(limits.max_unread_bytes, self.loop.call_soon)
        self.turned_away: set[_TurnedAway] = set()
        self._connections: dict[int, ServerConnection] = {}
        self.connections: Mapping[int, ServerConnection] = MappingProxyType(self._connections)
        self._numbers = itertools.count(1)
        #: Connections, and sockets on their way to become one.
        self._admitted = 0
        #: Connections with an unfinished frame, and those with answers not yet written.
        self._partial: set[ServerConnection] = set()
        self._unsent: list[ServerConnection] = []
        self._listener: Listener | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False
        self._empty = asyncio.Event()

    @classmethod
    async def start(
        cls, host: str, port: int, decoder: RequestDecoder, handler: Handler, limits: Limits
    ) -> Server:
        """Listen; port 0 takes any free one.  Raises Fatal where that is impossible."""
        server = cls(decoder, handler, limits)
        server._listener = await Listener.open(host, port, server._accepted)
        server._sweep()
        return server

    @property
    def address(self) -> Address:
        """Where it listens, with the real port."""
        assert self._listener is not None
        return self._listener.address

    async def close(self, grace_s: float) -> None:
        """Accept nobody, end every connection in order; after `grace_s` cut what is left."""
        self._closing = True
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for turned_away in list(self.turned_away):
            turned_away.transport.abort()
        for connection in list(self._connections.values()):
            connection.close("the server is shutting down", linger_s=grace_s)
        while self._connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), grace_s)
            except builtins.TimeoutError:
                for connection in list(self._connections.values()):
                    connection.abort()

    # -- what its connections tell it -------------------------------------------------------------

    def add(self, connection: ServerConnection) -> None:
        """A connection stands."""
        self._connections[connection.number] = connection
        if self._closing:
            connection.abort()
        else:
            self.handler.opened(connection)

    def remove(self, connection: ServerConnection) -> None:
        """A connection is gone."""
        self._admitted -= 1
        del self._connections[connection.number]
        if not self._connections:
            self._empty.set()
        self.handler.closed(connection)

    def note_partial(self, connection: ServerConnection, change: int, *, fresh: bool) -> None:
        """A connection's unfinished frame grew or shrank by `change`; fresh: it has just begun."""
        self.partial_bytes += change
        if connection.mid_frame:
            if fresh:
                connection.since = self.loop.time()
                self._partial.add(connection)
        else:
            self._partial.discard(connection)

    def note_unsent(self, connection: ServerConnection) -> None:
        """A connection has its first answer of this turn."""
        if not self._unsent:
            self.loop.call_soon(self.flush)
        self._unsent.append(connection)

    def flush(self) -> None:
        """Write what was answered.  It comes by itself; who knows that no more follows calls it."""
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.flush()

    # -- accepting and sweeping -------------------------------------------------------------------

    def _accepted(self, sock: socket.socket) -> None:
        if self._admitted >= self.limits.max_connections and (
            len(self.turned_away) >= MAX_TURNED_AWAY
        ):
            sock.close()
            return
        tune(sock)
        _ = spawn(self._adopt(sock), name="accept a connection")

    async def _adopt(self, sock: socket.socket) -> None:
        guest: asyncio.Protocol
        if self._admitted >= self.limits.max_connections:
            guest = _TurnedAway(self)
            self.turned_away.add(guest)
        else:
            guest = ServerConnection(self, next(self._numbers))
            self._admitted += 1
        try:
            await self.loop.connect_accepted_socket(lambda: guest, sock)
        except OSError as e:
            _log.warning("a connection was lost while it was accepted: %s", e)
            sock.close()

    def _sweep(self) -> None:
        """End the connections whose frame began too long ago, but not while we do not read."""
        timeout_s = self.limits.frame_timeout_ms / 1000
        now = self.loop.time()
        for connection in list(self._partial):
            if connection.reading and now - connection.since > timeout_s:
                connection.refuse(
                    Refused(
                        "INVALID_REQUEST",
                        "a frame began and did not end within frame_timeout_ms "
                        f"({self.limits.frame_timeout_ms})",
                    )
                )
        self._sweeper = self.loop.call_later(min(SWEEP_S, timeout_s / 2), self._sweep)


def _stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """uvloop's transports have the methods of asyncio's, but not their base class."""
    return cast("asyncio.Transport", transport)


def _overloaded(name: str, limit: int) -> Refused:
    return Refused("OVERLOADED", f"the broker is at its limit {name} ({limit}); try again later")


def _address(name: Any) -> Address:
    """A socket's name; an IPv4 address as such, also where the listener speaks IPv6."""
    if not name:
        return Address("?", 0)
    host, port = name[:2]
    return Address(host.removeprefix("::ffff:") if "." in host else host, port)
