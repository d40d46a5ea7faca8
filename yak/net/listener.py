"""One listening socket, and an accept that waits when the process is out of file descriptors.

The loops' own servers differ there: asyncio's retries after a second, uvloop's drops the waiting
clients or closes its server.  Here both do the same: accepting pauses for ACCEPT_PAUSE_S, the
clients wait in the kernel's backlog, and the loop never spins on a socket that stays readable.
The last descriptors are not for clients (descriptors.py): the log, peers and yak-zk need some.

A name with several addresses is bound to one of them (IPv4 first), so that there is one port
even where the system chooses it.  It knows no protocol and keeps no list of what it accepted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from yak.descriptors import is_reserved
from yak.errors import Fatal
from yak.model import Address

#: Out of file descriptors: how long until the next try.
ACCEPT_PAUSE_S: Final = 0.1
#: Connections taken at a time, and how long until the next ones are, so that a crowd at the door
#: does not stop the rest: 2,000 a second, of which each costs some 0.2 ms from its coming to its
#: going.
ACCEPT_BATCH: Final = 8
BATCH_PAUSE_S: Final = 0.004
#: Clients that may wait in the kernel; it cuts this to its own limit.
BACKLOG: Final = 1024
#: An idle connection is probed after this, so that a vanished client's place becomes free.
KEEPALIVE_IDLE_S: Final = 60
#: What the kernel keeps of answers that a client has not read; it takes twice as much.  Left to
#: itself it would take 4 MB of each, which no limit of ours counts, and finding so much memory at a
#: time stops the loop for 5 to 10 ms.  Readers are as fast with it.
SEND_BUFFER_BYTES: Final = 256 * 1024

_log = logging.getLogger(__name__)


class Listener:
    """Hands every accepted socket, non-blocking, to `accepted`, which owns it from then on."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._socket = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._short = False
        self.address = Address(*sock.getsockname()[:2])
        self._loop.add_reader(sock, self._ready)

    @classmethod
    async def open(
        cls, host: str, port: int, accepted: Callable[[socket.socket], None]
    ) -> Listener:
        """Bind and listen; port 0 takes any free one.  Raises Fatal."""
        where = Address(host, port)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as e:
            raise Fatal(f"cannot listen on {where}: the host {host!r} is unknown ({e})") from e
        family, kind, proto, _, bound = min(found, key=lambda one: one[0] != socket.AF_INET)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(0)
            sock.bind(bound)
            sock.listen(BACKLOG)
        except OSError as e:
            sock.close()
            raise Fatal(f"cannot listen on {where}: {_cause(e)}") from e
        return cls(sock, accepted)

    def close(self) -> None:
        """Stop listening; clients in the backlog are turned away by the kernel."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _ready(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                self._leave_some()
                client, _ = self._socket.accept()
            except BlockingIOError:
                return
            except (ConnectionAbortedError, InterruptedError):
                continue
            except OSError as e:
                self._run_short(e)
                return
            self._short = False
            client.settimeout(0)
            self._accepted(client)
        self._wait(BATCH_PAUSE_S)

    def _leave_some(self) -> None:
        """Raises the error that accept would, while only the last ones are free."""
        lowest = os.dup(self._socket.fileno())  # what a client would be given
        os.close(lowest)
        if is_reserved(lowest):
            raise OSError(errno.EMFILE, "no file descriptor is left for clients")

    def _run_short(self, error: OSError) -> None:
        """Every other error of accept is a shortage, and only time helps."""
        if not self._short:
            _log.warning("accepting waits on %s: %s", self.address, error)
        self._short = True
        self._wait(ACCEPT_PAUSE_S)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._ready)


def _cause(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "the port is in use, perhaps by another broker that still runs; "
                "stop it, or choose another port (0 takes any free one)"
            )
        case errno.EACCES:
            return "this user may not use the port; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; listen on 127.0.0.1, or 0.0.0.0 for all"
        case _:
            return error.strerror or str(error)


def tune(sock: socket.socket) -> None:
    """Small answers leave at once, large ones a piece at a time; a vanished client is noticed."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    except OSError as e:
        _log.debug("a connection was gone before it was accepted: %s", e)
