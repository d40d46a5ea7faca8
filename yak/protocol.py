"""The wire without a wire: bytes to frames to messages, and back.  docs/protocol.md is its prose.

    00 00 00 2d {"type":"produce","id":3, … ,"count":2}\n {"value":1}\n{"value":2}\n
    `---------' `--------------------------------------´ `---------------------------´
     length       header: one JSON object on one line      body: bytes, meant by `type`

Rules:

* A frame is a 4-byte big-endian length and a payload.  The payload's first line is the header,
  the rest is the body.  The header's newline may be missing where no body follows.
* Memory grows with what has arrived, never with what a length announces.  A frame that came in
  pieces is joined once, at its end.
* After a length over the limit the stream cannot be found again: the reader reports TooLarge
  once and drops all that follows.
* A payload that begins with 0x00 is of another dialect (Kafka's) and is handed on whole.
* A header is read strictly.  Where it is no JSON object (not UTF-8, a name twice, NaN, a lone
  surrogate, too deep) nothing in it can be trusted, and the refusal has no id; where it is one
  and a field is wrong, the refusal names the field and echoes the id.
* What an answer has beside `id` and `ok` depends on the request: it is decoded as that type.

One file of more than 400 lines, since the wire is one thing to read.  It knows no sockets, no
clock and no time-outs (yak.net does), and decides nothing about topics, offsets or leaders.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from yak import messages as m
from yak.config import KIB, MAX_FRAME_CEILING
from yak.errors import ProtocolError, Refused, is_retriable
from yak.model import MAX_INT

PROTOCOL_VERSION: Final = 1

#: Bytes of the length before every payload.
PREFIX: Final = 4
#: Values that one header may hold: thousands of partitions in one heartbeat.  Beyond it, reading
#: one request would hold up all others.  Counted by commas, colons and brackets, wherever they
#: stand, and only in a header that is long enough to hold that many.
MAX_HEADER_VALUES: Final = 100_000
#: Bytes of a header beside its strings: ten for each of so many values.  A number of a thousand
#: digits takes as long to read as a thousand numbers, and a blank is read as well.
MAX_HEADER_BARE: Final = 10 * MAX_HEADER_VALUES
#: The beginning of a header by which it is seen that the rest need not be kept; and twice as much,
#: and so on.
BEGINNING_BYTES: Final = MAX_HEADER_BARE * 5 // 4
#: Pieces of an unfinished frame are merged while they are smaller than this, so that a frame
#: sent byte by byte costs its bytes, and not an object for each of them.
MERGE_BELOW_BYTES: Final = 16 * KIB
#: Larger integers than 64 bits, signed or not, are neither read nor echoed.
_MIN_64, _MAX_64 = -(2**63), 2**64 - 1
#: No message quotes more than this of what a client sent.
MAX_QUOTED: Final = 200

Buffer: TypeAlias = bytes | bytearray | memoryview

# -- Frames ---------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """header: the first line, without its newline.  body: what follows it.

    The body is bytes, copied once out of the read that brought it: checksums and the counting of
    lines take nothing else, and a view would keep the whole read alive.
    """

    header: bytes
    body: bytes


class Foreign(NamedTuple):
    """A payload of another dialect: its first byte is 0x00."""

    payload: bytes


class TooLarge(NamedTuple):
    """A length over the limit; nothing after it is read."""

    announced: int


Part: TypeAlias = Frame | Foreign | TooLarge


def frame(header: bytes, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame as buffers, ready for a transport's `writelines`; the body is not copied."""
    size = len(header) + 1 + sum(map(len, buffers))
    return [b"%b%b\n" % (size.to_bytes(PREFIX), header), *buffers]


def split_payload(payload: bytes) -> Frame:
    """The header and the body of one payload."""
    return _split(payload, 0, len(payload))


def _split(data: bytes, start: int, stop: int) -> Frame:
    newline = data.find(b"\n", start, stop)
    if newline < 0:
        return Frame(data[start:stop], b"")
    return Frame(data[start:newline], data[newline + 1 : stop])


def _part(data: bytes, start: int, stop: int) -> Part:
    if start < stop and data[start] == 0:
        return Foreign(data[start:stop])
    return _split(data, start, stop)


class FrameReader:
    """Cuts a stream of bytes into frames, however it was cut on its way.

    partial_bytes: bytes held of a frame that has not ended.  uncut_bytes: those held since more
    parts were in them than were wanted.  hopeless: whether no header that begins so is taken; of
    such a frame the rest may be dropped as it comes, and the beginning alone is handed on.
    Invariant: partial_bytes is the sum of the pieces' lengths, with what was dropped, and below
    `_need` between calls.
    """

    __slots__ = (
        *("_at", "_broken", "_drops", "_hopeless", "_look_at", "_max", "_need", "_pieces"),
        *("_uncut", "partial_bytes"),
    )

    def __init__(
        self, max_frame_bytes: int, hopeless: Callable[[bytes], bool] | None = None
    ) -> None:
        assert 0 < max_frame_bytes < MAX_FRAME_CEILING, max_frame_bytes
        self._max = max_frame_bytes
        self._hopeless = hopeless
        #: Whether the rest of this frame is counted, not kept.
        self._drops = False
        self._look_at = BEGINNING_BYTES
        self._pieces: list[bytes] = []
        #: How many bytes, length included, the held pieces need to become more: a length first,
        #: then the frame that it announces.
        self._need = PREFIX
        self._broken = False
        #: What is left of a `feed`, from `_at` on.
        self._uncut = b""
        self._at = 0
        self.partial_bytes = 0

    @property
    def uncut_bytes(self) -> int:
        return len(self._uncut) - self._at

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self.partial_bytes > 0

    def feed(self, data: bytes, most: int = MAX_INT) -> list[Part]:
        """All that ends within `data`, in order; but `most` parts.  `more` gives the others."""
        if self.uncut_bytes:
            data = self._uncut[self._at :] + data
            self._uncut, self._at = b"", 0
        parts: list[Part] = []
        at = self._complete(data, parts) if self._pieces else 0
        self._cut(data, at, parts, most)
        return parts

    def more(self, most: int) -> list[Part]:
        """The next parts of what was fed; none where nothing is left."""
        data, at = self._uncut, self._at
        self._uncut, self._at = b"", 0
        parts: list[Part] = []
        self._cut(data, at, parts, most)
        return parts

    def _cut(self, data: bytes, at: int, parts: list[Part], most: int) -> None:
        stop = len(data)
        while stop - at >= PREFIX and not self._broken:
            if len(parts) >= most:
                self._uncut, self._at = data, at
                return
            size = int.from_bytes(data[at : at + PREFIX])
            end = at + PREFIX + size
            if size > self._max:
                self._give_up(size, parts)
            elif end > stop:
                self._need = PREFIX + size
                break
            else:
                parts.append(_part(data, at + PREFIX, end))
                at = end
        if at < stop and not self._broken:
            self._hold(data[at:])

    def drop(self) -> None:
        """Forget the unfinished frame, and ignore all that may still come."""
        self._broken = True
        self._uncut, self._at = b"", 0
        self._pieces.clear()
        self.partial_bytes = 0

    def _complete(self, data: bytes, parts: list[Part]) -> int:
        """Finish the frame that an earlier read began; how much of `data` that took."""
        at = 0
        while self._pieces:
            piece = data[at : at + self._need - self.partial_bytes]
            at += len(piece)
            self._hold(piece)
            if self.partial_bytes < self._need:
                self._look()
                break
            if self._need == PREFIX:
                size = int.from_bytes(b"".join(self._pieces))
                self._need += size
                if size > self._max:
                    self._give_up(size, parts)
                elif size:
                    continue
            if not self._broken:
                parts.append(self._joined())
                self._pieces.clear()
                self.partial_bytes, self._need = 0, PREFIX
                self._drops, self._look_at = False, BEGINNING_BYTES
        return at

    def _look(self) -> None:
        """Whether the rest of an unfinished frame is worth keeping."""
        if self._hopeless is None or self._drops or self.partial_bytes < self._look_at:
            return
        self._look_at *= 2
        first, *others = self._pieces
        if first.find(b"\n", PREFIX) < 0 and not any(b"\n" in piece for piece in others):
            beginning = b"".join(self._pieces)[PREFIX:]
            self._drops = beginning[0] != 0 and self._hopeless(beginning)

    def _joined(self) -> Part:
        first = self._pieces[0]
        newline = first.find(b"\n", PREFIX)
        if newline < 0 or first[PREFIX] == 0:
            held = b"".join(self._pieces)
            return _part(held, PREFIX, len(held))
        rest = memoryview(first)[newline + 1 :]
        return Frame(first[PREFIX:newline], b"".join([rest, *self._pieces[1:]]))

    def _hold(self, piece: bytes) -> None:
        self.partial_bytes += len(piece)
        if self._drops:
            return
        pieces = self._pieces
        if piece:
            pieces.append(piece)
        # Equal or growing neighbours merge, as in a binary counter: a byte is moved at most
        # log2(MERGE_BELOW_BYTES) times, and few small pieces are ever left.
        while (
            len(pieces) > 1
            and len(pieces[-1]) < MERGE_BELOW_BYTES
            and len(pieces[-2]) <= len(pieces[-1])
        ):
            tail = pieces.pop()
            pieces[-1] += tail

    def _give_up(self, announced: int, parts: list[Part]) -> None:
        self.drop()
        parts.append(TooLarge(announced))


_TLS_HANDSHAKE: Final = 0x1603
_HTTP_METHODS: Final = frozenset(
    {b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "}
)


def too_large(announced: int, limit: int) -> Refused:
    """The refusal of a length; says so where it is the beginning of another protocol."""
    prefix = announced.to_bytes(PREFIX)
    hint = "send smaller batches, or raise max_frame_bytes on the broker"
    if announced >> 16 == _TLS_HANDSHAKE:
        hint = "it looks like a TLS hello: this port speaks plain TCP, connect without TLS"
    elif prefix in _HTTP_METHODS:
        hint = "it looks like HTTP: this port speaks yak's protocol, 4 bytes of length and JSON"
    elif prefix == b"SSH-":
        hint = "it looks like SSH: is this the right port?"
    elif prefix[:1] == b"{":
        hint = "it looks like JSON without the 4 bytes of length before it"
    return Refused(
        "FRAME_TOO_LARGE",
        f"a frame of {announced} bytes was announced, max_frame_bytes is {limit}; {hint}",
    )


def foreign_dialect(payload: bytes) -> Refused:
    """The refusal of a payload that begins with 0x00."""
    api, version = int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])
    return Refused(
        "INVALID_REQUEST",
        f"the payload begins with 0x00 and looks like Kafka's protocol (api key {api}, version "
        f"{version}), which this port does not speak; use a yak client, or send a JSON object",
    )


# -- Requests -------------------------------------------------------------------------------------


class BadRequest(Refused):
    """INVALID_REQUEST: the header or a field of it is malformed.  id: None if it cannot be told."""

    def __init__(self, id_: int | str | None, message: str) -> None:
        super().__init__("INVALID_REQUEST", message)
        self.id = id_


_encoder = msgspec.json.Encoder()
_decode_any = msgspec.json.Decoder().decode


class _Id(msgspec.Struct):
    id: m.RequestId


_decode_id = msgspec.json.Decoder(_Id).decode
#: What decoding raises.
BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class RequestDecoder:
    """Decodes the requests of one port: those of a union in yak.messages."""

    def __init__(self, union_type: Any) -> None:
        kinds: tuple[type[m.Request], ...] = get_args(union_type) or (union_type,)
        self._decode = msgspec.json.Decoder(union_type).decode
        self._types = sorted(str(kind.__struct_config__.tag) for kind in kinds)

    def decode(self, header: bytes) -> m.Request:
        """The request of a header.  Raises BadRequest."""
        members, fault = _read_object(header)
        try:
            request: m.Request = self._decode(header)
        except BROKEN as e:
            raise BadRequest(_echo(members.get("id")), self._explain(members, str(e))) from e
        if fault:
            raise BadRequest(request.id, fault)
        return request

    def id_of(self, header: bytes) -> m.RequestId | None:
        """The id of a header that is not worth more, at a tenth of the cost; None: it has none."""
        try:
            return _decode_id(header).id
        except BROKEN:
            return None

    def _explain(self, members: dict[str, Any], why: str) -> str:
        kind = members.get("type", "")
        if not isinstance(kind, str) or not kind:
            return friendly(why)
        if kind not in self._types:
            known = ", ".join(self._types)
            return f"unknown type {quote(kind)}; this port answers {known}"
        return f"{kind}: {friendly(why)}"


def _read_object(header: bytes) -> tuple[dict[str, Any], str]:
    """The header as a plain object, and what is wrong with a number in it.  Raises BadRequest.

    A name that is there twice is lost in a plain decode.  So are its colons: as many names as
    colons proves that there is none (a colon in a string only costs the slow way).
    """
    if len(header) > MAX_HEADER_VALUES:
        _check_length(header)
    try:
        members = _decode_any(header)
    except msgspec.ValidationError as e:
        return _read_exactly(header), friendly(str(e))
    except msgspec.DecodeError as e:
        what = "the header is not a JSON object" if header else "the payload is empty"
        raise BadRequest(None, f"{what}: {friendly(str(e))}") from e
    except UnicodeDecodeError as e:
        raise BadRequest(None, "the header is not UTF-8") from e
    except RecursionError as e:
        raise BadRequest(None, "the header is nested too deep") from e
    if type(members) is not dict:
        raise BadRequest(None, "the header is JSON, but not an object")
    names, fits = _survey(members)
    if names != header.count(b":") and names != b"".join(_bare(header)).count(b":"):
        members = _read_exactly(header)
    return members, "" if fits else "a number does not fit into 64 bits"


def _check_length(header: bytes) -> None:
    """Whether it can be read in the time that its bytes took to come.  Raises BadRequest."""
    if sum(map(header.count, b",:[{")) > MAX_HEADER_VALUES:
        raise BadRequest(None, f"the header holds more than {MAX_HEADER_VALUES} values")
    if len(header) > MAX_HEADER_BARE and sum(map(len, _bare(header))) > MAX_HEADER_BARE:
        raise BadRequest(None, f"the header has over {MAX_HEADER_BARE} bytes beside its strings")


def is_hopeless(beginning: bytes) -> bool:
    """Whether no header that begins so can be read: what it has too much of only grows."""
    try:
        _check_length(beginning)
    except BadRequest:
        return True
    return False


def _bare(header: bytes) -> list[bytes]:
    """What stands before, between and after the strings of a header, where it is JSON."""
    if b"\\" in header:
        header = header.replace(b"\\\\", b"").replace(b'\\"', b"")
    # As many quotes as that are no strings of so many values.
    return header.split(b'"', 4 * MAX_HEADER_VALUES)[::2]


def _survey(value: Any) -> tuple[int, bool]:
    """How many names a decoded value has in all its objects; whether its integers fit 64 bits."""
    names, fits = 0, True
    rest = [value]
    while rest:
        value = rest.pop()
        if type(value) is dict:
            names += len(value)
            items = value.values()
        else:
            items = value
        for item in items:
            kind = type(item)
            if kind is int:
                fits = fits and _MIN_64 <= item <= _MAX_64
            elif kind is dict or kind is list:
                rest.append(item)
    return names, fits


def _read_exactly(header: bytes) -> dict[str, Any]:
    """The slow way, which sees every name and takes any number.  Raises BadRequest."""
    try:
        members = json.loads(
            header.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_small_int,
        )
    except UnicodeDecodeError as e:
        raise BadRequest(None, "the header is not UTF-8") from e
    except ValueError as e:
        raise BadRequest(None, f"the header is not a JSON object: {e}") from e
    except RecursionError as e:
        raise BadRequest(None, "the header is nested too deep") from e
    if type(members) is not dict:
        raise BadRequest(None, "the header is JSON, but not an object")
    return members


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {quote(name)} is there twice")
        members[name] = value
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _small_int(digits: str) -> int | float:
    """Numbers of thousands of digits are slow to read, and refused whatever they are."""
    return int(digits) if len(digits) <= len(str(_MIN_64)) else math.inf


def _echo(id_: Any) -> int | str | None:
    """The id that an answer can carry, if it is one."""
    if type(id_) is int and _MIN_64 <= id_ <= _MAX_64:
        return id_
    if type(id_) is str and (id_.isascii() or id_.encode(errors="ignore").decode() == id_):
        return id_
    return None


_DETAIL = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")


def friendly(why: str) -> str:
    """msgspec's reason, with the field in front."""
    detail = _DETAIL.fullmatch(why)
    assert detail is not None
    what, path = detail["what"], detail["path"] or ""
    if missing := _MISSING.fullmatch(what):
        name = f"{path}.{missing['name']}" if path else missing["name"]
        return f"the field `{name}` is missing"
    what = what[:MAX_QUOTED].replace("Expected", "expected", 1)
    return f"field `{path}`: {what}" if path and path != "[...]" else what


def quote(text: str) -> str:
    return repr(text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…")


def encode_request(request: m.Request) -> bytes:
    """The header of a request."""
    return _encoder.encode(request)


# -- Answers and pushes ---------------------------------------------------------------------------


def encode_answer(id_: int | str | None, answer: m.Answer) -> bytes:
    """The header of an answer: {"id":7,"ok":true, …}."""
    return b'{"id":%b,%b' % (_encoder.encode(id_), _encoder.encode(answer)[1:])


def encode_push(message: msgspec.Struct) -> bytes:
    """The header of a message that nobody asked for: it has a `type` and no `id`."""
    return _encoder.encode(message)


def error_answer(refused: Refused) -> m.ErrorAnswer:
    """A refusal as an answer; details that are None are left out."""
    details = {name: value for name, value in refused.details.items() if value is not None}
    return m.ErrorAnswer(
        error=refused.name,
        message=refused.message,
        retriable=is_retriable(refused.name),
        **details,
    )


class AnswerHead(msgspec.Struct, kw_only=True):
    """What every answer has; of an error also what the table of errors promises."""

    id: int | str | None
    ok: bool
    error: str | None = None
    message: str = ""
    retriable: bool = False
    leader: m.LeaderHint | None = None
    expected: int | None = None
    start: int | None = None
    high_watermark: int | None = None


class _Tag(msgspec.Struct):
    """Enough to tell an answer from a push, and a good answer from an error."""

    ok: bool = False
    id: int | str | UnsetType | None = UNSET


_decode_tag = msgspec.json.Decoder(_Tag).decode
_decode_error = msgspec.json.Decoder(AnswerHead).decode


def decode_head(header: bytes) -> AnswerHead | None:
    """What an answer says of itself; None: it is a push.  Raises ProtocolError.

    Of a good answer only `id` and `ok` are read: its other fields may have an error's names and
    mean something else.
    """
    try:
        tag = _decode_tag(header)
        if isinstance(tag.id, UnsetType):
            return None
        return AnswerHead(id=tag.id, ok=True) if tag.ok else _decode_error(header)
    except BROKEN as e:
        raise ProtocolError(f"what was received is no answer: {e}: {header[:MAX_QUOTED]!r}") from e


_M = TypeVar("_M", bound=msgspec.Struct)
_decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def decode_answer(header: bytes, type_: type[_M]) -> _M:
    """An answer, or a push, as the type that belongs to it.  Raises ProtocolError."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders.setdefault(type_, msgspec.json.Decoder(type_))
    try:
        message: _M = decoder.decode(header)
    except BROKEN as e:
        raise ProtocolError(
            f"what was received is no {type_.__name__}: {e}: {header[:MAX_QUOTED]!r}"
        ) from e
    return message
