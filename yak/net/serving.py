"""One client of a port, from its first byte to its end: the gate for every request.

    kernel -> data_received -> FrameReader -> queue -> RequestDecoder -> handler.received
    transport <- one writelines a turn of the loop <- answer(), push() <- the handler, any time

Rules:

* The handler hears only of good requests, in the order of their frames, and never from within
  its own call of `answer`.  What is malformed is answered here, and the connection stays open.
* A request counts as unanswered until `answer`, or `done` where no answer is due.
* While a connection has max_inflight_requests unanswered, max_unsent_bytes that its client does
  not read, or answers that wait for room (unread.py), nothing more is taken from it: frames that
  are here already wait in its queue, the others wait in the kernel, and so with the client.
* Of what arrives some is taken at once, and the rest in turns with the others' (rounds.py).
* A request for which weights.py finds no room is refused.  What followers ask is not counted: it is
  little, and all others depend on it.
* All answers of one turn of the loop leave a connection in one write.
* An end is orderly: what was answered is sent, the write side is shut, input is discarded until
  the client ends too, at most LINGER_S.  Closing at once would reset the connection, and the
  client could lose the very error that tells it why.
* A client that ends its side first still gets the answers that it waits for.
* Who is gone and waited for many answers is forgotten in its turn, too: a thousand may go at once.

A connection's reading, writing and ending hang together, hence more than 400 lines.  What all
connections share is server.py's.  It gives no request a time limit, and promises no order of
answers.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec

from yak import messages as m
from yak import protocol
from yak.config import MIB
from yak.errors import Refused
from yak.model import MAX_INT, Address
from yak.net import rounds
from yak.net.unread import ANSWER_BYTES, SMALL_ANSWER, SMALL_IN_A_ROW
from yak.net.weights import HEAVY_BYTES, REQUEST_BYTES, Weights, weight_of
from yak.protocol import BadRequest, Buffer, Foreign, Frame, FrameReader, Part, TooLarge

if TYPE_CHECKING:
    from yak.net.server import Server

#: Frames that are cut out of what arrived at a time; a read may hold 60,000 empty ones.
CUT_AT_ONCE: Final = 16
#: How long the end of a connection may take before it is cut.
LINGER_S: Final = 1.0
#: Answers of one turn are written together, but no more than this is gathered before a write.
GATHER_BYTES: Final = 1 * MIB

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
        "_answered",
        "_backlogged",
        "_broken_off",
        "_debt",
        "_ending",
        "_eof",
        "_farewell",
        "_huge_due",
        "_leaving",
        "_out",
        "_out_bytes",
        "_paused",
        "_paused_at",
        "_queue",
        "_reader",
        "_refused",
        "_server",
        "_shut",
        "_small_answers",
        "_timer",
        "_transport",
        "_waiting",
        "_waiting_work",
        "_weights",
        "_written",
        "choked",
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
        self.unanswered = self._answered = 0
        #: When the unfinished frame began, in the loop's time.
        self.since = 0.0
        self.unread_since = 0.0
        self._server = server
        self._reader = FrameReader(server.limits.max_frame_bytes, protocol.is_hopeless)
        #: Frames received and not yet taken.
        self._queue: deque[Part] = deque()
        #: Size, counted in the server's partial_bytes, and work of them and of what is not cut yet.
        self._waiting = self._waiting_work = 0
        self._weights = Weights(server.room)
        #: Answers of this turn, not yet given to the transport, and their size.
        self._out: list[Buffer] = []
        self._out_bytes = 0
        #: How many in a row were small, up to the last one.
        self._small_answers = 0
        #: The transport holds more than max_unsent_bytes.
        self.choked = False
        #: Of all answers.
        self._written = 0
        #: We do not read.
        self._paused = False
        self._paused_at = 0.0
        #: The server's next rounds look after it.
        self._backlogged = False
        #: What was last taken was malformed, and its header so long: it pauses.
        self._refused: int | None = None
        #: Its next turn is one for a huge part.
        self._huge_due = False
        #: Work of reading, beyond a share, that its next turn counts.
        self._debt = 0
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
        #: The handler has not heard of that yet: how much work that is.
        self._leaving = 0
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

    @property
    def read_bytes(self) -> int:
        """What the kernel has ever taken of it."""
        return self._written - self.unsent_bytes

    def answer(self, id_: m.RequestId, answer: m.Answer, buffers: Sequence[Buffer] = ()) -> None:
        """Answer a request; `buffers` is the body.  After the connection's end it is dropped."""
        self._send(protocol.encode_answer(id_, answer), buffers)
        self._done(id_, answer)

    def when_room(self, make: Callable[[], None], size: int = ANSWER_BYTES) -> None:
        """Have a large answer made: at once, or when unread.py has room for it.

        Requests that were taken together may all be answered in one turn, long after the rule
        of max_unsent_bytes let them in.  After the connection's end nothing is made any more.
        """
        unread = self._server.unread
        small = self._small_answers >= SMALL_IN_A_ROW
        if small and not self.choked and not unread.waits(self):
            make()
        elif not self.closed:
            unread.when_room(self, size, make)

    def done(self, id_: m.RequestId) -> None:
        """A request is served that gets no answer (acks=0)."""
        self._done(id_, None)

    def _done(self, id_: m.RequestId, answer: m.Answer | None) -> None:
        assert self.unanswered > 0, "answered twice"
        self.unanswered -= 1
        self._answered += 1
        self._weights.remove(id_)
        if self._server.times is not None:
            self._server.times.ended(self.number, id_, answer)
        if self._paused or self._ending or self._eof:
            self._wait_for_a_round()

    def keep(self, size: int) -> None:
        """Count so much memory that is kept for this client, in place of what was before."""
        self._weights.keep(size)

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
        self._transport = stream(transport)
        self._transport.set_write_buffer_limits(high=self._server.limits.max_unsent_bytes)
        self.peer = _address(transport.get_extra_info("peername"))
        self.dialled = _address(transport.get_extra_info("sockname")).host
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        held = self._reader.partial_bytes
        self._server.bytes_in += len(data)
        self._cut(self._reader.feed(data, CUT_AT_ONCE), held)
        self._owe(rounds.reading(len(data)))
        if self._queue or self._debt:
            self._drain()
            self._note_waiting()
        if self._server.partial_bytes > self._server.limits.max_partial_bytes:
            self.refuse(overloaded("max_partial_bytes", self._server.limits.max_partial_bytes))

    def eof_received(self) -> bool:
        self._eof = True
        self._forget_tail()
        if self._shut:
            return False
        self._drain()
        return not self._broken_off

    def pause_writing(self) -> None:
        self.choked = True
        self._set_reading()

    def resume_writing(self) -> None:
        self.choked = False
        self._server.unread.reads_on(self)
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken_off = True
        self._ending = True
        self._queue.clear()
        self.forget_partial()
        self._note_waiting()
        self._server.unread.forget(self)
        self._out.clear()
        self._out_bytes = 0
        waited = 1 + self._weights.bytes // REQUEST_BYTES
        self._weights.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._server.remove(self)
        self._leaving = waited
        if waited <= rounds.LIGHT:
            self._leave()
        elif not self._backlogged:
            self._backlogged = True
            self._server.rounds.join(self)

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
        self._written += size
        self._small_answers = self._small_answers + 1 if size <= SMALL_ANSWER else 0
        self._server.unread.wrote(self, size)
        self._server.bytes_out += size
        if self._out_bytes >= GATHER_BYTES:
            self.flush()

    def _owe(self, work: int) -> None:
        """Reading was work, too: where this round has no room for that, it is paid for later."""
        turns = self._server.rounds
        if self._debt or work > turns.largest:
            self._debt += work
            self._wait_for_a_round()
        elif work:
            turns.took(work)

    def _drain(self) -> None:
        """Take what may be taken at once, unless its turn comes; then read on, wait or end."""
        if self._waits and not self._backlogged:
            turns = self._server.rounds
            turns.took(self._take_some(turns.at_once(light=self.light), turns.largest))
        self._go_on()

    def _go_on(self) -> None:
        """Read on, wait or end."""
        self._set_reading()
        if self.unanswered == 0:
            if self._ending:
                self._shut_down(LINGER_S)
            elif self._eof and not self._waits:
                # A client that ended first still reads; it may be slow, but not for ever.
                self._shut_down(self._server.limits.frame_timeout_ms / 1000)

    def its_turn(self) -> int:
        """Called in a round; how much work it took."""
        self._backlogged, self._refused = False, None
        if self._broken_off:
            return self._leave()
        work, self._debt = self._debt, 0
        share = self._server.rounds.share
        if work < share or self._huge_due:
            work += self._take_some(share, MAX_INT if self._huge_due else rounds.HUGE)
        elif self._waits:
            self._wait_for_a_round()
        self._go_on()
        return work

    @property
    def light(self) -> bool:
        return not self._broken_off and rounds.is_light(self.unanswered, self._answered)

    @property
    def backlog(self) -> int:
        """Of who is gone none: to forget him may take long, but gives back what is kept for him."""
        if self._broken_off:
            return 0
        return self._waiting_work + self._debt + self._weights.bytes // REQUEST_BYTES

    def _leave(self) -> int:
        """What it waited for is forgotten; how much that was, in requests."""
        work, self._leaving = self._leaving, 0
        if work:
            self._server.handler.closed(self)
        return work

    def _take_some(self, share: int, largest: int) -> int:
        """Take what the limits allow of a share; what is left waits for its turn.

        So does a part of more work than `largest`.
        """
        queue = self._queue
        work = 0
        while work < share and self._takes and self._refused is None:
            if not queue:
                held = self._reader.partial_bytes
                self._cut(self._reader.more(CUT_AT_ONCE), held)
                if not queue:
                    break
            size = rounds.work(queue[0])
            if size > largest:
                break
            work += size
            self._take(queue.popleft())
        if self._waits or self._waiting:
            self._note_waiting()
        if self._refused is not None or (self._waits and self._takes):
            self._wait_for_a_round()
        return work

    @property
    def _waits(self) -> bool:
        """Whether something is here that is not taken."""
        return bool(self._queue) or self._reader.uncut_bytes > 0

    @property
    def _takes(self) -> bool:
        """Whether the limits let more be taken."""
        full = self.unanswered >= self._server.limits.max_inflight_requests
        waits = self.choked or self._server.unread.waits(self)
        return not (full or waits or self._ending)

    def _wait_for_a_round(self) -> None:
        if not (self._backlogged or self._broken_off):
            self._backlogged = True
            turns = self._server.rounds
            work = rounds.work(self._queue[0]) if self._queue else 0
            self._huge_due = work > rounds.HUGE and self._refused is None
            if self._refused is not None:
                turns.pause(self, self._refused)
            elif self._huge_due:
                turns.join_huge(self, work)
            else:
                turns.join(self)

    def _cut(self, parts: list[Part], held: int) -> None:
        """Parts were cut out of the stream.  held: of an unfinished frame, before that."""
        reader = self._reader
        if reader.partial_bytes or held:
            self._server.note_partial(
                self, reader.partial_bytes - held, fresh=bool(parts) or not held
            )
        self._queue.extend(parts)
        if self._eof:
            self._forget_tail()

    def _forget_tail(self) -> None:
        """The client sends no more, so that the frame after the last whole one never ends."""
        if not self._reader.uncut_bytes:
            self.forget_partial()

    def _note_waiting(self) -> None:
        uncut = self._reader.uncut_bytes
        size = sum(len(p.header) + len(p.body) for p in self._queue if isinstance(p, Frame)) + uncut
        self._server.partial_bytes += size - self._waiting
        self._waiting = size
        self._waiting_work = sum(map(rounds.work, self._queue)) + uncut // rounds.UNCUT_WORK

    def _take(self, part: Part) -> None:
        match part:
            case Frame(header, body):
                self._take_request(header, body)
            case Foreign(payload):
                self._refuse_frame(None, protocol.foreign_dialect(payload), len(payload))
            case TooLarge(announced):
                self.refuse(protocol.too_large(announced, self._server.limits.max_frame_bytes))

    def _take_request(self, header: bytes, body: bytes) -> None:
        weight = weight_of(len(header))
        if weight > HEAVY_BYTES and not self._weights.fits(weight):
            self._refuse_frame(self._server.decoder.id_of(header), self._no_room(), len(header))
            return
        try:
            request = self._server.decoder.decode(header)
        except BadRequest as e:
            self._refuse_frame(e.id, e, len(header))
            return
        if not isinstance(request, m.PeerRequest):
            if not self._weights.fits(weight):
                self._refuse_frame(request.id, self._no_room(), len(header))
                return
            self._weights.add(request.id, weight)
        self._hand_over(request, body)

    def _refuse_frame(self, id_: m.RequestId | None, refused: Refused, size: int) -> None:
        """An answer, and a pause before this client's next frame."""
        self._refused = size
        self._send(protocol.encode_answer(id_, protocol.error_answer(refused)))

    def _hand_over(self, request: m.Request, body: bytes) -> None:
        self.unanswered += 1
        owed = self.unanswered
        if self._server.times is not None:
            self._server.times.began(self.number, request)
        try:
            self._server.handler.received(self, request, body)
        except Exception:  # noqa: BLE001 -- any bug of a handler costs one request, not the broker
            incident = uuid.uuid4().hex[:8]
            _log.exception("incident %s: a request of %s failed: %r", incident, self.peer, request)
            if self.unanswered == owed:
                refused = Refused("INTERNAL", f"a bug; incident {incident} in the broker's log")
                self.answer(request.id, protocol.error_answer(refused))

    def _no_room(self) -> Refused:
        return overloaded("max_inflight_bytes", self._server.limits.max_inflight_bytes)

    def _set_reading(self) -> None:
        pause = (self._waits or self._debt > 0 or not self._takes) and not self._ending
        if pause == self._paused or self._eof or self._transport.is_closing():
            return
        self._paused = pause
        now = self._server.loop.time()
        if pause:
            self._paused_at = now
            self._transport.pause_reading()
        else:
            self.since += now - self._paused_at  # that time was not the client's
            self._transport.resume_reading()

    def _end(self) -> None:
        """From now on nothing is taken, and what comes in is discarded."""
        self._ending = True
        self._queue.clear()
        self.forget_partial()
        self._note_waiting()

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


def stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """uvloop's transports have the methods of asyncio's, but not their base class."""
    return cast("asyncio.Transport", transport)


def overloaded(name: str, limit: int) -> Refused:
    return Refused("OVERLOADED", f"the broker is at its limit {name} ({limit}); try again later")


def _address(name: Any) -> Address:
    """A socket's name; an IPv4 address as such, also where the listener speaks IPv6."""
    if not name:
        return Address("?", 0)
    host, port = name[:2]
    return Address(host.removeprefix("::ffff:") if "." in host else host, port)
