"""The leader's book of full copies: who is being copied to, over which connection.

A follower whose log ends before the leader's begins is offered the leader's last checkpoint, and
asks for it piece by piece on the same connection.  It is no follower meanwhile: nothing that it
held counts, and it is not reachable.  But a member of R that is being copied to shows that the
leader is heard, which is what resigning is about: a leader that resigned would only begin the copy
again.

It does not know bytes or files; the shell keeps the checkpoint for the connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from yak import messages as m
from yak.core import events as e
from yak.errors import Refused


@dataclass(slots=True)
class _Copy:
    """heard: when the last piece was asked for."""

    broker: int
    heard: float


class Copies:
    """See the module.  patience_s: for so long a connection may ask for nothing."""

    def __init__(self, out: list[e.Effect]) -> None:
        self.out = out
        self._by_conn: dict[int, _Copy] = {}

    def offer(self, conn: int, request: m.Follow, epoch: int, now: float) -> None:
        self.drop(request.broker)
        self._by_conn[conn] = _Copy(request.broker, now)
        self.out.append(e.OfferCopy(conn, request.id, request.broker, epoch))
        fields = {"epoch": epoch, "follower": request.broker, "had": request.next}
        self.out.append(e.Tell("copy_offered", fields))

    def piece(self, conn: int, request: m.Copy, now: float) -> None:
        copy = self._by_conn.get(conn)
        if copy is None or copy.broker != request.broker:
            raise Refused("INVALID_REQUEST", "`copy` before a `follow` that was offered one")
        copy.heard = now
        self.out.append(e.SendCopy(conn, request))

    def heard(self, broker: int) -> float:
        """When this broker last asked for a piece; minus infinity where it does not copy."""
        copies = (copy.heard for copy in self._by_conn.values() if copy.broker == broker)
        return max(copies, default=float("-inf"))

    def drop(self, broker: int) -> None:
        """It follows anew."""
        for conn in [conn for conn, copy in self._by_conn.items() if copy.broker == broker]:
            del self._by_conn[conn]

    def closed(self, conn: int) -> None:
        self._by_conn.pop(conn, None)

    def hang_up_silent(self, now: float, patience_s: float) -> None:
        """Who asks for nothing any more must not keep a checkpoint from being let go."""
        for conn, copy in list(self._by_conn.items()):
            if copy.heard < now - patience_s:
                self.out.append(e.HangUp(conn, f"broker {copy.broker} stopped copying"))
                del self._by_conn[conn]

    def end(self, why: str) -> None:
        """The leader steps down."""
        for conn in self._by_conn:
            self.out.append(e.HangUp(conn, why))
        self._by_conn.clear()
