"""Ports for the processes of one cluster, kept from everybody else until they listen.

    reserved = Reserved.take("127.0.0.1", 9092)     raises Fatal, which names who has it
    ...                                             the process binds the same port, and listens
    reserved.close()

Rules:

* A reserved port is bound and does not listen: whoever connects is refused, as by a process that
  is not there.  On Linux the process that listens binds it beside us (SO_REUSEADDR), so that
  nobody can come between; elsewhere it is let go of just before.
* Port 0 takes any free one.

It cannot name a process of another user.
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from yak.errors import Fatal
from yak.model import Address

#: Whether two sockets may be bound to one port while none of them listens.
_SHARES: Final = sys.platform == "linux"
#: In /proc/net/tcp, the state of a socket that listens.
_LISTENS: Final = "0A"
#: Of a command line so much is quoted.
_QUOTED: Final = 120


class Reserved:
    """One port.  See the module's text."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self._socket = sock
        self.address = address

    @classmethod
    def take(cls, host: str, port: int, instead: str = "--ports any") -> Reserved:
        """instead: the option that takes free ones.  Raises Fatal where somebody has it."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except OSError as e:
            sock.close()
            raise Fatal(_refusal(host, port, e, instead)) from e
        return cls(sock, Address(host, sock.getsockname()[1]))

    def give(self) -> None:
        """A process is about to bind it."""
        if not _SHARES:
            self._socket.close()

    def close(self) -> None:
        self._socket.close()


def _refusal(host: str, port: int, error: OSError, instead: str) -> str:
    if error.errno != errno.EADDRINUSE:
        option = instead.partition(" ")[0]
        return f"port {port} of {host} cannot be used: {error.strerror}; choose with {option}"
    who = holder(port)
    return (
        f"port {port} is in use{f' by {who}' if who else ', by a process that cannot be seen'}; "
        "stop that one (`yak down` in its directory, if it is a cluster of yak's), or choose "
        f"other ports: `{instead}` takes free ones"
    )


def holder(port: int) -> str:
    """Who listens on this port: `pid 4711 (java -jar …)`; "" where that cannot be known."""
    inodes = _listening(port)
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):  # another user's, or gone meanwhile
            for fd in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(fd.readlink()) in inodes:
                        return f"pid {process.name}{_command(process)}"
    return ""


def _command(process: Path) -> str:
    with suppress(OSError):
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        text = " ".join(words).strip()
        return f" ({text if len(text) <= _QUOTED else text[:_QUOTED] + '…'})" if text else ""
    return ""


def _listening(port: int) -> set[str]:
    """As /proc/PID/fd shows the sockets that listen on it."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{rest[5]}]")
    return found
