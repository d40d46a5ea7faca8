"""One outgoing TCP connection: requests go out, answers find the request that they belong to.

Clients, followers and a broker's session with yak-zk all speak through it.  The rules:

* Every request gets an id of this connection's own counter, in the order of sending, and is
  written at once; uvloop gathers what one turn of the loop writes into one system call.
* An answer belongs to the request whose id it carries.  One that nobody waits for any more
  (timed out, cancelled) is dropped.  A message without an id is a push.
* An error whose id is null speaks of the connection: it ends, and that error is its reason.
* When the connection ends, every request that waits fails with that reason.  The usual one is a
  `RetriableError` named CONNECTION: *unknown* whether the request was carried out.
* What is no frame, or no JSON, ends the connection with a `ProtocolError` named PROTOCOL.

It never retries and never reconnects: that is `net.cluster`'s business, which knows what is safe
to ask twice.
"""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from yak import errors
from yak import messages as m
from yak.config import MIB
from yak.errors import (
    ProtocolError,
    RetriableError,
    YakError,
    error_from_wire,
)
from yak.model import Address
from yak.protocol import (
    AnswerHead,
    Buffer,
    Frame,
    FrameReader,
    decode_answer,
    decode_head,
    encode_request,
    frame,
)

A = TypeVar("A", bound=m.Answer)

#: How long `ask` waits where the caller does not say, in seconds.
DEFAULT_ASK_S: Final = 10.0
#: How long a connection may take to open where the caller does not say, in seconds.
DEFAULT_OPEN_S: Final = 5.0


class Connection(asyncio.Protocol):
    """See the module's text.  Made by `open`; belongs to the loop that opened it."""

    def __init__(
        self,
        address: Address,
        *,
        max_frame_bytes: int = 16 * MIB,
        on_push: Callable[[bytes], None] | None = None,
        on_closed: Callable[[str], None] | None = None,
    ) -> None:
        self.address = address
        #: Why the connection ended; empty while it stands.
        self.reason = ""
        #: Loop time at which bytes last arrived.
        self.heard_at = 0.0
        self._reader = FrameReader(max_frame_bytes)
        self._on_push = on_push
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._next_id = 0
        #: Requests that wait, by id.  Invariant: empty once `closed`.
        self._waiting: dict[m.RequestId, asyncio.Future[Frame]] = {}
        self._final: YakError = _lost(address, "it was never opened")
        self._ended = False

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        timeout_s: float = DEFAULT_OPEN_S,
        max_frame_bytes: int = 16 * MIB,
        on_push: Callable[[bytes], None] | None = None,
        on_closed: Callable[[str], None] | None = None,
    ) -> Connection:
        """Connect within `timeout_s`.  Raises RetriableError named CONNECTION.

        on_push gets the header of every message without an id.  on_closed is called once, with
        the reason, when an opened connection ends, also by `close`.
        """
        loop = asyncio.get_running_loop()
        connection = cls(
            address, max_frame_bytes=max_frame_bytes, on_push=on_push, on_closed=on_closed
        )
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(lambda: connection, address.host, address.port)
        except TimeoutError as e:
            raise _unreachable(address, f"no answer within {timeout_s:g} s") from e
        except OSError as e:
            raise _unreachable(address, e.strerror or str(e)) from e
        return connection

    # -- what its owner does ----------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._ended

    @property
    def unsent_bytes(self) -> int:
        """What was written and still waits for the other side to read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, request: m.Request, buffers: Sequence[Buffer] = ()) -> asyncio.Future[Frame]:
        """Write the request, whose `id` is set here, and its body; the future is its answer.

        The answer is not looked at: `read_answer` tells an error from the rest.  The future
        fails with the connection's reason when it ends, at once if it has ended.
        """
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self._ended:
            _fail(future, self._error())
            return future
        self._next_id += 1
        request.id = self._next_id
        self._waiting[self._next_id] = future
        self._write(request, buffers)
        return future

    def post(self, request: m.Request, buffers: Sequence[Buffer] = ()) -> None:
        """Write a request that is never answered (`acks` 0).  Raises as `send` fails."""
        if self._ended:
            raise self._error()
        self._next_id += 1
        request.id = self._next_id
        self._write(request, buffers)

    async def ask(
        self,
        request: m.Request,
        answer_type: type[A],
        buffers: Sequence[Buffer] = (),
        timeout_s: float = DEFAULT_ASK_S,
    ) -> tuple[A, bytes | memoryview]:
        """Send, wait, decode: the answer and its body.

        Raises the YakError of an error answer (see `read_answer`), the connection's reason, or
        TimeoutError; after the last two it is unknown whether the request was carried out.
        """
        future = self.send(request, buffers)
        request_id = request.id
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError as e:
            raise errors.TimeoutError(
                f"{self.address} did not answer a {_type_of(request)} within {timeout_s:g} s",
                name="TIMEOUT",
                broker=str(self.address),
                hint="the broker may be overloaded or stopped: `yak status` shows who answers",
            ) from e
        finally:
            self._waiting.pop(request_id, None)
        return read_answer(answer, answer_type, self.address)

    def close(self, reason: str = "closed by this side") -> None:
        """End it now: what was written is still sent, what waits fails.  Idempotent."""
        self._end(_lost(self.address, reason))

    # -- what asyncio tells -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ended:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        for item in self._reader.feed(data):
            if self._ended:
                return
            if isinstance(item, Frame):
                self._received(item)
            else:
                self._broken(f"what it sent is no yak frame ({item!r})")

    def eof_received(self) -> None:
        self._end(_lost(self.address, "the other side closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(_lost(self.address, str(exc) if exc else "the connection was closed"))

    # -- inside -----------------------------------------------------------------------------------

    def _write(self, request: m.Request, buffers: Sequence[Buffer]) -> None:
        assert self._transport is not None, "a connection that was opened has a transport"
        self._transport.writelines(frame(encode_request(request), buffers))

    def _received(self, item: Frame) -> None:
        try:
            head = decode_head(item.header)
        except ProtocolError as e:
            self._broken(str(e))
            return
        if head is None:
            if self._on_push is not None:
                self._on_push(item.header)
        elif head.id is None:
            self._end(_error_of(head, self.address))
        else:
            future = self._waiting.pop(head.id, None)
            if future is not None and not future.done():
                future.set_result(item)

    def _broken(self, what: str) -> None:
        self._end(
            ProtocolError(
                f"{self.address} does not speak yak: {what}",
                name="PROTOCOL",
                broker=str(self.address),
                hint="is another program listening on that port?",
            )
        )

    def _end(self, error: YakError) -> None:
        if self._ended:
            return
        self._ended = True
        self._final = error
        self.reason = str(error)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _fail(future, self._error())
        if self._transport is not None:
            self._transport.close()
            if self._on_closed is not None:
                self._on_closed(self.reason)

    def _error(self) -> YakError:
        """The reason, for one who waits: a shared exception would share its tracebacks."""
        return copy.copy(self._final)


def read_answer(
    answer: Frame, answer_type: type[A], address: Address
) -> tuple[A, bytes | memoryview]:
    """An answer and its body, or the error that it is.

    Raises the YakError of an error answer, with `broker`, and in `details` what the protocol
    lets that error carry (`leader`, `expected`, `start`, `high_watermark`); ProtocolError where
    the answer is not one of `answer_type`.
    """
    try:
        head = decode_head(answer.header)
        if head is not None and head.ok:
            return decode_answer(answer.header, answer_type), answer.body
    except ProtocolError as e:
        raise ProtocolError(
            f"{address}: {e}",
            name="PROTOCOL",
            broker=str(address),
            hint="do client and broker have the same version?",
        ) from e
    assert head is not None, "a push is no answer"
    raise _error_of(head, address)


def _error_of(head: AnswerHead, address: Address) -> YakError:
    error = error_from_wire(
        head.error or "INTERNAL", head.message or "no reason given", str(address)
    )
    error.details = {
        name: value
        for name in ("leader", "expected", "start", "high_watermark")
        if (value := getattr(head, name)) is not None
    }
    return error


def _fail(future: asyncio.Future[Frame], error: YakError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # asked for: whoever lost interest is owed no traceback at exit


def _type_of(request: m.Request) -> str:
    return str(type(request).__struct_config__.tag)


def _lost(address: Address, reason: str) -> RetriableError:
    return RetriableError(
        f"the connection to {address} ended: {reason}", name="CONNECTION", broker=str(address)
    )


def _unreachable(address: Address, reason: str) -> RetriableError:
    return RetriableError(
        f"cannot connect to {address}: {reason}",
        name="CONNECTION",
        broker=str(address),
        hint="is a broker listening there? `yak status` shows the cluster",
    )
