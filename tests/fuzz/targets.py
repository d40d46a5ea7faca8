"""What is fuzzed: each target takes any bytes, and fails where something is not as it must be.

    frames     a stream, cut anywhere: the same frames come out, and a header that is taken is one
               that a strict reader of JSON takes as well
    answers    what a client reads: an answer, a push, or a ProtocolError
    records    a body: what passes is `count` objects, one a line, each with a value
    recovery   a data directory in which one file is replaced by them: a start ends in its ways

SEEDS are good ones of each, from which the others are made.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.support import malformed
from tests.support.memory_disk import MemoryDisk
from tests.support.wire import frame_of, payload_of, record
from tests.unit.storage import test_recovery_bytes as every_byte
from yak import messages as m
from yak import protocol
from yak.bodies import validate_records
from yak.errors import ProtocolError, Refused
from yak.protocol import BadRequest, Frame, FrameReader, Part, RequestDecoder

#: Small, so that lengths beyond it are met.
MAX_FRAME: Final = 1 << 16
#: Of pieces in which a stream comes; the first byte chooses.
CUTS: Final = (1, 2, 3, 5, 7, 64, 1000)

_DECODER: Final = RequestDecoder(m.BrokerRequest)


def frames(data: bytes) -> None:
    size, most = CUTS[data[0] % len(CUTS)] if data else 1, data[0] // 32 + 1 if data else 1
    stream = data[1:]
    whole = _parts(stream, len(stream) + 1, 1 << 20)
    assert _parts(stream, size, most) == whole, f"in pieces of {size}, {most} at a time"
    for part in whole:
        if isinstance(part, Frame):
            header(part.header)


def _parts(stream: bytes, size: int, most: int) -> list[Part]:
    reader, parts = FrameReader(MAX_FRAME), []
    for at in range(0, len(stream), size):
        parts += reader.feed(stream[at : at + size], most)
        assert reader.mid_frame == (reader.partial_bytes > 0)
    while more := reader.more(most):
        assert len(more) <= most
        parts += more
    return parts


def header(data: bytes) -> None:
    """Taken, or refused with the id that it has, if any."""
    try:
        request = _DECODER.decode(data)
    except BadRequest as e:
        refused = e
    else:
        _taken(data, request)
        return
    if refused.id is not None:
        assert _strictly(data)["id"] == refused.id
    protocol.encode_answer(refused.id, protocol.error_answer(refused))


def _taken(data: bytes, request: m.Request) -> None:
    members = _strictly(data)
    assert (members["id"], members["type"]) == (request.id, type(request).__struct_config__.tag)
    assert _DECODER.decode(protocol.encode_request(request)) == request


def _strictly(data: bytes) -> dict[str, Any]:
    """By another reader of JSON, that has no mercy."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a name is there twice"
        return dict(pairs)

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    try:
        found = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=constant)
    except ValueError as e:
        raise AssertionError(f"taken, and no JSON: {e}: {data!r}") from e
    assert isinstance(found, dict)
    return found


def answers(data: bytes) -> None:
    for kind in (m.FetchAnswer, m.MetadataAnswer, m.ProduceAnswer, m.ClusterView):
        try:
            if protocol.decode_head(data) is not None:
                protocol.decode_answer(data, kind)
        except ProtocolError:
            continue


def records(data: bytes) -> None:
    count, body = data[0] if data else 1, data[1:]
    try:
        validate_records(body, count)
    except Refused:
        return
    lines = body.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == count
    for line in lines:
        assert line[:1] == b"{"
        assert line[-1:] == b"}"
        assert b"\r" not in line
        assert "value" in json.loads(line.decode(), parse_int=str)


@functools.cache
def _lived() -> every_byte.Lived:
    return every_byte.live_once()


@functools.cache
def _paths() -> list[str]:
    return sorted(filter(every_byte.is_ours, _lived().files))


def recovery(data: bytes) -> None:
    if not data:
        return
    path = _paths()[data[0] % len(_paths())]
    disk: MemoryDisk = copy.deepcopy(_lived().disk)
    disk.truncate(path, 0)
    disk.append(path, [data[1:]])
    found = every_byte.outcome(_lived(), disk)
    assert found in every_byte.SOUND | {every_byte.LINE_ONLY}, f"{path}: {found}"


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (frames, answers, records, recovery)
}

_REQUESTS: Final[Sequence[dict[str, Any]]] = (
    {"type": "status", "id": 1},
    {"type": "fetch", "id": "a", "partitions": [["t", 0, 41]], "wait_ms": 500, "max_bytes": 9},
    {"type": "produce", "id": 3, "topic": "t", "partition": 0, "count": 1, "acks": 1},
    {"type": "create_topic", "id": 4, "topic": "t", "partitions": 3, "config": {"a": 1}},
    {"type": "register", "id": 5, "role": "consumer", "group": "g", "topics": ["t"]},
    {"type": "heartbeat", "id": 6, "group": "g", "member": "m", "generation": 4, "owned": []},
    {"type": "ack", "id": 7, "group": "g", "offsets": [["t", 0, 43]]},
    {"type": "follow", "id": 8, "broker": 2, "inc": "i", "epoch": 3, "epochs": [[1, 1]], "next": 9},
    {"type": "replicate", "id": 9, "broker": 2, "epoch": 3, "from": 17},
)
_ANSWERS: Final = (
    b'{"id":7,"ok":true,"partitions":[{"topic":"t","partition":0,"start":0,"high_watermark":4}]}',
    b'{"id":7,"ok":false,"error":"NOT_LEADER","message":"m","retriable":true,"leader":'
    b'{"id":2,"host":"h","port":9093}}',
    b'{"type":"cluster","version":12,"epoch":3,"leader":1,"isr":[1,2,3]}',
)
_BODIES: Final = (
    record("x"),
    record({"a": [1.5, None, True, "é"]}),
    b'{"key":"k","value":1,"headers":[["a","b"],["c",null]],"timestamp":17}\n',
)


def seeds(target: str) -> list[bytes]:
    match target:
        case "frames":
            streams = [frame_of(payload_of(request)) for request in _REQUESTS]
            streams += [one for one in malformed.FRAMES if len(one) < 1000] + malformed.TOO_LONG
            streams.append(b"".join(streams[:5]))
            return [bytes([number % 256]) + one for number, one in enumerate(streams)]
        case "answers":
            return list(_ANSWERS)
        case "records":
            return [b"\1" + body for body in _BODIES] + [b"\3" + b"".join(_BODIES)]
        case _:
            files = _lived().files
            return [bytes([number]) + files[path] for number, path in enumerate(_paths())]
