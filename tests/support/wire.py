"""A tiny synchronous client that speaks the wire by hand: sockets, `struct` and `json`, no yak.

It is written from the protocol's text alone, so that a mistake of the implementation is not
made again by the test that should find it.

    with Wire(address) as wire:
        answer, body = wire.request({"type": "status", "id": 1})
        answer = wire.ok("create_topic", topic="orders")
        error = wire.refused("TOPIC_EXISTS", "create_topic", topic="orders")

Every blocking call has the time-out given to the constructor.  It does not reconnect, does not
follow NOT_LEADER and retries nothing.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from google_crc32c import value as crc32c

Address = tuple[str, int]
Fields = dict[str, Any]

#: Long enough for a loaded machine, short enough to fail within a test's own limit.
DEFAULT_TIMEOUT_S = 15.0


class ClosedError(ConnectionError):
    """The other side closed the connection before a whole frame had arrived."""


def payload_of(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """The header's line, then the body."""
    return json.dumps(header, ensure_ascii=False).encode() + b"\n" + body


def frame_of(payload: bytes) -> bytes:
    """A 4-byte big-endian length, then the payload."""
    return struct.pack(">I", len(payload)) + payload


def record(value: Any, **members: Any) -> bytes:
    """One record's line: `value`, and where given `key`, `headers`, `timestamp`, ..."""
    return json.dumps({**members, "value": value}, ensure_ascii=False).encode() + b"\n"


def records(values: Iterable[Any]) -> bytes:
    """A body of records without keys."""
    return b"".join(record(value) for value in values)


class Operation(NamedTuple):
    """An operation as it stands on the wire, in the log and in partition files."""

    line: bytes
    fields: Fields
    body: bytes

    @property
    def values(self) -> list[Any]:
        """The values of its records."""
        return [json.loads(line)["value"] for line in self.body.splitlines()]

    @property
    def offsets(self) -> range:
        return range(self.fields["offset"], self.fields["offset"] + self.fields["count"])


def split_operations(data: bytes) -> list[Operation]:
    """Whole operations, bodies proved by their crc; anything left over fails."""
    found = []
    position = 0
    while position < len(data):
        end = data.index(b"\n", position) + 1
        line = data[position:end]
        fields = json.loads(line)
        body = data[end : end + fields.get("size", 0)]
        assert len(body) == fields.get("size", 0), f"a body is cut short: {line!r}"
        if body:
            assert f"{crc32c(body):08x}" == fields["crc"], f"crc differs from its body: {line!r}"
        found.append(Operation(line, fields, body))
        position = end + len(body)
    return found


class Wire:
    """One connection.  Answers that arrive before the one asked for are kept for later."""

    def __init__(self, address: Address, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = address
        self.socket = socket.create_connection(address, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._numbers = itertools.count(1)
        self._early: dict[Any, tuple[Fields, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # -- Frames -----------------------------------------------------------------------------------

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_payload(self, payload: bytes) -> None:
        self.send_raw(frame_of(payload))

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        self.send_payload(payload_of(header, body))

    def receive(self) -> tuple[Fields, bytes]:
        """The next frame, whatever it answers.  ClosedError where there is none."""
        (length,) = struct.unpack(">I", self._exactly(4))
        line, _, body = self._exactly(length).partition(b"\n")
        header = json.loads(line)
        assert isinstance(header, dict), header
        return header, body

    def receive_end(self) -> bytes:
        """What still arrives until the other side closes."""
        rest = b""
        try:
            while data := self.socket.recv(65536):
                rest += data
        except ConnectionResetError:
            pass
        return rest

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            data = self.socket.recv(min(size, 1 << 20))
            if not data:
                raise ClosedError(f"{self.address} closed the connection with {size} bytes missing")
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    # -- Requests ---------------------------------------------------------------------------------

    def answer_to(self, request_id: Any) -> tuple[Fields, bytes]:
        """The answer with that id; others that arrive meanwhile are kept."""
        while request_id not in self._early:
            header, body = self.receive()
            assert "id" in header, f"an answer without an id: {header}"
            assert header["id"] not in self._early, f"answered twice: {header}"
            self._early[header["id"]] = header, body
        return self._early.pop(request_id)

    def post(self, kind: str, body: bytes = b"", **fields: Any) -> str:
        """Send a request and return its id, for `answer_to`."""
        request_id = f"r{next(self._numbers)}"
        self.send({"type": kind, "id": request_id, **fields}, body)
        return request_id

    def request(self, header: Mapping[str, Any], body: bytes = b"") -> tuple[Fields, bytes]:
        """Send a header as it is (it has an `id`) and wait for its answer."""
        self.send(header, body)
        return self.answer_to(header["id"])

    def ask(self, kind: str, body: bytes = b"", **fields: Any) -> tuple[Fields, bytes]:
        """A request of that type, and its answer, good or bad."""
        return self.answer_to(self.post(kind, body, **fields))

    def ok(self, kind: str, body: bytes = b"", **fields: Any) -> Fields:
        """As `ask`, where the answer has to be good."""
        answer, _ = self.ask(kind, body, **fields)
        assert answer["ok"] is True, f"{kind} {fields} was refused: {answer}"
        return answer

    def refused(self, error: str, kind: str, body: bytes = b"", **fields: Any) -> Fields:
        """As `ask`, where the answer has to be that error."""
        answer, _ = self.ask(kind, body, **fields)
        assert_refused(answer, error)
        return answer

    # -- Shorthands -------------------------------------------------------------------------------

    def produce(self, topic: str, partition: int, values: Iterable[Any], **fields: Any) -> Fields:
        """Values as one batch; the answer has to be good."""
        lines = [record(value) for value in values]
        return self.ok(
            "produce",
            b"".join(lines),
            topic=topic,
            partition=partition,
            count=len(lines),
            **fields,
        )

    def fetch(
        self, topic: str, partition: int, offset: int, **fields: Any
    ) -> tuple[Fields, list[Operation]]:
        """One partition's entry of a fetch's answer, and its operations."""
        answer, body = self.ask("fetch", partitions=[[topic, partition, offset]], **fields)
        assert answer["ok"] is True, answer
        (entry,) = answer["partitions"]
        assert (entry["topic"], entry["partition"]) == (topic, partition), entry
        assert entry["size"] == len(body), f"size and body disagree: {entry}, {len(body)} bytes"
        return entry, split_operations(body)

    def read_all(self, topic: str, partition: int, offset: int = 0) -> list[Operation]:
        """Every operation from `offset` up to the high watermark."""
        found: list[Operation] = []
        while True:
            entry, operations = self.fetch(topic, partition, offset)
            assert "error" not in entry, entry
            if not operations:
                assert offset >= entry["high_watermark"], (
                    f"empty at {offset}, below the high watermark: {entry}"
                )
                return found
            found.extend(operations)
            offset = operations[-1].offsets.stop

    def high_watermark(self, topic: str, partition: int) -> int:
        entry, _ = self.fetch(topic, partition, 2**53 - 1)
        assert "error" not in entry, entry
        watermark: int = entry["high_watermark"]
        return watermark


#: Which errors may go away by themselves: the protocol's table.
RETRIABLE = {
    "NOT_LEADER",
    "NO_LEADER",
    "NOT_ENOUGH_REPLICAS",
    "REQUEST_TIMED_OUT",
    "UNKNOWN_TOPIC",
    "UNKNOWN_PARTITION",
    "STORAGE_ERROR",
    "OVERLOADED",
    "SHUTTING_DOWN",
}


def assert_refused(answer: Fields, error: str) -> None:
    """The whole form of an error answer, not only its name."""
    assert answer["ok"] is False, answer
    assert answer["error"] == error, answer
    assert answer["retriable"] is (error in RETRIABLE), answer
    assert isinstance(answer["message"], str), answer
    assert len(answer["message"]) > len("bad"), f"a message that a person can act on: {answer}"
