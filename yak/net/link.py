"""A follower's one connection to its leader, told by link numbers.

The core names each connection that it wants by a number (`Dial`), and drops what it hears of an
older one; so nothing here needs to be cancelled in time, only closed.  One request is under way
at a time: `follow`, then `replicate` after `replicate`.

It never retries: a lost link is said, and the core dials again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from yak import messages as m
from yak.core import events as e
from yak.errors import YakError
from yak.model import Address
from yak.net.connection import Connection, read_answer
from yak.net.tasks import spawn
from yak.protocol import Frame

#: A leader that does not accept a connection within this is not there.
DIAL_TIMEOUT_S: Final = 1.0
#: What the leader's answer to `follow` may take.  A `replicate` has no limit of its own here:
#: the core gives a silent leader up, and dials anew.
ANSWER_TIMEOUT_S: Final = 5.0
#: Bytes of operations that one `replicate` asks for.
REPLICATE_BYTES: Final = 4 * 1024 * 1024

Tell: TypeAlias = Callable[[e.Event], None]
Buffer: TypeAlias = bytes | memoryview
#: (link, the leader's answer, the operations' bytes): the shell verifies them.
Received: TypeAlias = Callable[[int, m.ReplicateAnswer, Buffer], None]


class LeaderLink:
    """Carries out Dial, Undial, SendFollow, SendReplicate, and a copy's questions."""

    def __init__(self, me: int, inc: str, tell: Tell, received: Received) -> None:
        self._me = me
        self._inc = inc
        self._tell = tell
        self._received = received
        #: The newest link that was asked for; older ones are closed and not spoken of.
        self._number = 0
        self._connection: Connection | None = None

    def dial(self, effect: e.Dial) -> None:
        self.close()
        self._number = effect.link
        _ = spawn(self._dial(effect), name=f"dial broker {effect.broker}")

    async def _dial(self, effect: e.Dial) -> None:
        number = effect.link
        try:
            connection = await Connection.open(
                Address(effect.host, effect.port),
                timeout_s=DIAL_TIMEOUT_S,
                on_closed=lambda reason: self._down(number, reason),
            )
        except YakError as error:
            self._down(number, str(error))
            return
        if number != self._number:
            connection.close()
            return
        self._connection = connection
        self._tell(e.LinkUp(number))

    def undial(self, link: int) -> None:
        if link == self._number:
            self.close()

    def close(self) -> None:
        """Nothing more is heard of the present link."""
        self._number = -1
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def follow(self, effect: e.SendFollow, running_sum: str) -> None:
        request = m.Follow(
            id=0,
            broker=self._me,
            inc=self._inc,
            epoch=effect.epoch,
            epochs=effect.epochs,
            next=effect.next,
            sum=running_sum,
        )
        if self._connection is not None and effect.link == self._number:
            _ = spawn(self._follow(effect.link, self._connection, request), name="follow")

    async def _follow(self, link: int, connection: Connection, request: m.Follow) -> None:
        try:
            answer, _ = await connection.ask(request, m.FollowAnswer, timeout_s=ANSWER_TIMEOUT_S)
        except YakError as error:
            self._tell(e.FollowAnswered(link, None, str(error)))
            return
        self._tell(e.FollowAnswered(link, answer))

    def replicate(self, effect: e.SendReplicate) -> None:
        request = m.Replicate(
            id=0,
            broker=self._me,
            epoch=effect.epoch,
            from_=effect.first,
            wait_ms=effect.wait_ms,
            max_bytes=REPLICATE_BYTES,
        )
        if self._connection is None or effect.link != self._number:
            return
        future = self._connection.send(request)
        future.add_done_callback(lambda done: self._replicated(effect.link, done))

    def _replicated(self, link: int, future: asyncio.Future[Frame]) -> None:
        """An answer to `replicate`, on the road of every record: a callback, not a task."""
        if link != self._number or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._down(link, str(error))
            return
        assert self._connection is not None
        try:
            answer, body = read_answer(future.result(), m.ReplicateAnswer, self._connection.address)
        except YakError as refused:
            self._connection.close(str(refused))
            return
        self._received(link, answer, body)

    def copy(
        self, link: int, request: m.Copy, received: Callable[[m.CopyAnswer, Buffer], None]
    ) -> None:
        """Ask for a piece of a full copy; `received` hears the answer, if the link still counts."""
        if self._connection is None or link != self._number:
            return
        future = self._connection.send(request)
        future.add_done_callback(lambda done: self._piece(link, received, done))

    def _piece(
        self,
        link: int,
        received: Callable[[m.CopyAnswer, Buffer], None],
        future: asyncio.Future[Frame],
    ) -> None:
        if link != self._number or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._down(link, str(error))
            return
        assert self._connection is not None
        try:
            answer, body = read_answer(future.result(), m.CopyAnswer, self._connection.address)
        except YakError as refused:
            self._connection.close(str(refused))
            return
        received(answer, body)

    def fail(self, link: int, reason: str) -> None:
        """Give the link up, and say so."""
        if link == self._number and self._connection is not None:
            self._connection.close(reason)

    def _down(self, link: int, reason: str) -> None:
        """Said once; nothing more is heard of this link."""
        if link == self._number:
            self._number, self._connection = -1, None
            self._tell(e.LinkDown(link, reason))
