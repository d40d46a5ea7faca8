"""The accepting side of the wire, for brokers and yak-zk alike: what all connections share.

Rules (those of one connection are serving.py's):

* Over max_connections a client is told so, and let go.
* Frames that have begun, or wait in a queue, share max_partial_bytes over all connections, and
  each must end within frame_timeout_ms.  One sweep looks after all of them; a timer a frame would
  cost every frame.
* What all clients leave unread is unread.py's, whose turn it is rounds.py's, and what unanswered
  requests take weights.py's.

It knows nothing of topics, leaders or files.
"""

from __future__ import annotations

import asyncio
import builtins
import itertools
import logging
import socket
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from yak import protocol
from yak.config import Limits
from yak.errors import Refused
from yak.model import Address
from yak.net.listener import Listener, tune
from yak.net.rounds import Rounds
from yak.net.serving import LINGER_S, Handler, ServerConnection, overloaded, stream
from yak.net.tasks import spawn
from yak.net.timing import RequestTimes
from yak.net.unread import Unread
from yak.net.weights import Room
from yak.protocol import RequestDecoder

__all__ = ["Handler", "Server", "ServerConnection"]

#: How often unfinished frames are looked at; a deadline is late by this at most.
SWEEP_S: Final = 1.0
#: Clients over max_connections that are told so at the same time; the others are just cut.
MAX_TURNED_AWAY: Final = 64

_log = logging.getLogger(__name__)


class _TurnedAway(asyncio.Protocol):
    """A client over max_connections: told so, and let go in order."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = stream(transport)
        refused = overloaded("max_connections", self._server.limits.max_connections)
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
    opened, bytes_in, bytes_out: connections, and what went over them, since the start.
    times: how long requests take, where somebody wants to know.
    """

    def __init__(self, decoder: RequestDecoder, handler: Handler, limits: Limits) -> None:
        self.decoder = decoder
        self.handler = handler
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.partial_bytes = 0
        self.room = Room(limits)
        self.rounds = Rounds(self.loop, time.perf_counter)
        self.unread = Unread(limits.max_unread_bytes, self.loop, self.loop.time)
        self.turned_away: set[_TurnedAway] = set()
        self.opened = self.bytes_in = self.bytes_out = 0
        self.times: RequestTimes | None = None
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
        self.opened += 1
        if self._closing:
            connection.abort()
        else:
            self.handler.opened(connection)

    def remove(self, connection: ServerConnection) -> None:
        """A connection is gone."""
        self._admitted -= 1
        if self.times is not None:
            self.times.forget(connection.number)
        del self._connections[connection.number]
        if not self._connections:
            self._empty.set()

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
