"""Sections 1 and 2 of the protocol, as a stranger's socket meets them.

Whatever arrives: an error that says what is wrong, or an orderly close; the connection stays
open wherever the frame was whole, and the broker serves the next client as before.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time

import pytest

from tests.support.cluster import Cluster, MakeCluster
from tests.support.malformed import HEADERS
from tests.support.wire import ClosedError, Fields, Wire, assert_refused, frame_of, payload_of

DEFAULT_MAX_FRAME = 16 * 1024 * 1024


@pytest.mark.parametrize("payload", HEADERS.values(), ids=HEADERS.keys())
def test_what_is_no_json_object_is_refused_and_the_connection_lives(
    leader: Wire, payload: bytes
) -> None:
    leader.send_payload(payload)
    answer, body = leader.receive()
    assert_refused(answer, "INVALID_REQUEST")
    assert answer["id"] is None
    assert body == b""
    assert leader.ok("status")["role"] == "leader"


def test_a_frame_of_the_other_dialect_does_no_harm(shared: Cluster) -> None:
    """First byte 0x00: Kafka's ApiVersions request, which a Kafka client sends first."""
    with shared.connect_leader() as wire:
        wire.send_payload(struct.pack(">hhih", 18, 3, 1, -1))
        try:
            wire.receive()
        except ClosedError:
            return
        wire.ok("status")
    with shared.connect_leader() as wire:
        wire.ok("status")


ODD_BUT_GOOD = {
    "without-newline": b'{"type":"status","id":1}',
    "spaces": b' { "type" : "status" , "id" : 1 } \n',
    "colons-in-strings": b'{"type":"status","id":1,"x":"a:b::","y:":{"z":":"}}\n',
    "the-same-key-in-two-objects": b'{"type":"status","id":1,"x":[{"a":1},{"a":1}],"a":2}\n',
    "escaped": b'{"\\u0074ype":"st\\u0061tus","id":1}\n',
    "unknown-fields": b'{"type":"status","id":1,"x":null,"y":[1,{"z":true}],"partitions":"?"}\n',
    "not-ascii": '{"type":"status","id":1,"ключ":"значение 🐂"}\n'.encode(),
}


@pytest.mark.parametrize("payload", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD.keys())
def test_a_good_object_is_taken_however_it_is_written(leader: Wire, payload: bytes) -> None:
    leader.send_payload(payload)
    answer, _ = leader.receive()
    assert answer["ok"] is True, answer
    assert answer["id"] == 1


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', "1" * 4000, "-" + "9" * 4000, "1e400", "0." + "3" * 4000],
    ids=["lone-surrogate", "4000-digits", "minus-4000-digits", "1e400", "4000-decimals"],
)
@pytest.mark.parametrize("field", ["id", "max_bytes", "unknown"])
def test_values_that_break_json_libraries(leader: Wire, topic: str, field: str, value: str) -> None:
    """An answer in any case; a refusal where the field means something."""
    fields = {"type": '"fetch"', "id": "1", "partitions": f'[["{topic}",0,0]]', field: value}
    leader.send_payload(b"{%s}" % ",".join(f'"{n}":{v}' for n, v in fields.items()).encode())
    answer, _ = leader.receive()
    if field != "unknown":
        assert_refused(answer, "INVALID_REQUEST")
    leader.ok("status")


# -- Lengths --------------------------------------------------------------------------------------

TOO_LONG = {
    "one-too-many": struct.pack(">I", DEFAULT_MAX_FRAME + 1),
    "the-largest": struct.pack(">I", 2**32 - 1),
    "tls": bytes.fromhex("16030100c8010000c40303"),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", TOO_LONG.values(), ids=TOO_LONG.keys())
def test_too_long_a_frame_is_refused_and_the_connection_closed(
    shared: Cluster, data: bytes
) -> None:
    with shared.connect_leader(timeout_s=10) as wire:
        wire.send_raw(data)
        answer, _ = wire.receive()
        assert_refused(answer, "FRAME_TOO_LARGE")
        assert answer["id"] is None
        assert str(DEFAULT_MAX_FRAME) in answer["message"], "the limit is named"
        asked = time.monotonic()
        assert wire.receive_end() == b""
        assert time.monotonic() - asked < 5
    with shared.connect_leader() as wire:
        wire.ok("status")


def test_answers_before_a_too_long_frame_still_arrive(shared: Cluster) -> None:
    with shared.connect_leader() as wire:
        asked = frame_of(payload_of({"type": "status", "id": 1}))
        wire.send_raw(asked + struct.pack(">I", 2**31) + b"x" * 5000)
        answers = [wire.receive()[0], wire.receive()[0]]
        assert [answer["id"] for answer in answers] == [1, None]


def test_the_largest_frame_is_taken(leader: Wire) -> None:
    head = b'{"type":"status","id":1,"x":"'
    leader.send_payload(head + b"x" * (DEFAULT_MAX_FRAME - len(head) - 2) + b'"}')
    answer, _ = leader.receive()
    assert answer["ok"] is True, answer


def test_frames_arrive_byte_by_byte_and_many_at_once(leader: Wire) -> None:
    for byte in frame_of(payload_of({"type": "status", "id": 1})):
        leader.send_raw(bytes([byte]))
    leader.send_raw(b"".join(frame_of(payload_of({"type": "status", "id": n})) for n in (2, 3, 4)))
    assert [leader.receive()[0]["id"] for _ in range(4)] == [1, 2, 3, 4]


def test_a_half_closed_connection_still_gets_its_answers(leader: Wire, topic: str) -> None:
    leader.send({"type": "fetch", "id": 1, "partitions": [[topic, 0, 0]], "wait_ms": 300})
    leader.send({"type": "status", "id": 2})
    leader.socket.shutdown(socket.SHUT_WR)
    assert {leader.receive()[0]["id"], leader.receive()[0]["id"]} == {1, 2}
    assert leader.receive_end() == b""


def test_connections_that_end_anywhere_do_no_harm(shared: Cluster, topic: str) -> None:
    address = shared.addresses[shared.wait_leader()]
    whole = frame_of(payload_of({"type": "fetch", "id": 1, "partitions": [[topic, 0, 0]]}))
    for cut in (0, 1, 3, 4, 5, len(whole) // 2, len(whole) - 1, len(whole)):
        with Wire(address) as wire:
            wire.send_raw(whole[:cut])
            # Closed with unread data it ends in a reset, else in an orderly way: both are met.
            if cut % 2:
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Wire(address) as wire:
        wire.ok("status")


# -- Limits ---------------------------------------------------------------------------------------


@pytest.fixture
def narrow(make_cluster: MakeCluster) -> Cluster:
    """One broker with small limits."""
    limits = (
        "--frame-timeout-ms",
        "700",
        "--max-connections",
        "12",
        "--max-inflight-requests",
        "4",
    )
    return make_cluster(
        ids=[1],
        zk_options=("--min-insync-replicas", "1"),
        broker_options=(*limits, "--max-frame-bytes", "2000000", "--max-partitions", "20"),
    )


def test_limits_of_connections_frames_and_requests(narrow: Cluster) -> None:
    """One cluster, one limit after the other."""
    _check_slow_frame(narrow)
    _check_pipelined_beyond_the_limit(narrow)
    _check_max_frame(narrow)
    _check_max_partitions(narrow)
    _check_max_connections(narrow)
    with narrow.connect_leader() as wire:
        wire.ok("status")


def _check_slow_frame(narrow: Cluster) -> None:
    """A frame that began has to end; a connection that only waits may wait for ever."""
    with narrow.connect(1) as slow, narrow.connect(1) as idle:
        slow.send_raw(frame_of(payload_of({"type": "status", "id": 1}))[:-3])
        answer, _ = slow.receive()
        assert_refused(answer, "INVALID_REQUEST")
        assert answer["id"] is None
        assert slow.receive_end() == b""
        idle.ok("status")


def _check_pipelined_beyond_the_limit(narrow: Cluster) -> None:
    """More requests than may be in flight: the rest waits its turn, none is lost."""
    with narrow.connect(1) as wire:
        wire.ok("create_topic", topic="t", partitions=1)
        for number in range(10):
            wire.send({"type": "fetch", "id": number, "partitions": [["t", 0, 0]], "wait_ms": 100})
        assert sorted(wire.receive()[0]["id"] for _ in range(10)) == list(range(10))


def _check_max_frame(narrow: Cluster) -> None:
    with narrow.connect(1) as wire:
        wire.send_raw(struct.pack(">I", 2_000_001))
        answer, _ = wire.receive()
        assert_refused(answer, "FRAME_TOO_LARGE")
        assert "2000000" in answer["message"]


def _check_max_partitions(narrow: Cluster) -> None:
    with narrow.connect(1) as wire:
        wire.ok("create_topic", topic="widest", partitions=20)
        answer = wire.refused("INVALID_CONFIG", "create_topic", topic="wider", partitions=21)
        assert "20" in answer["message"]


def _check_max_connections(narrow: Cluster) -> None:
    wires = [narrow.connect(1) for _ in range(20)]
    try:
        answers = [_first_answer(wire) for wire in wires]
    finally:
        for wire in wires:
            wire.close()
    assert sum(answer.get("ok", False) for answer in answers) >= 8
    refused = [answer for answer in answers if not answer.get("ok", False)]
    assert refused, "more connections than the limit were served"
    for answer in refused:
        assert_refused(answer, "OVERLOADED")
        assert answer["id"] is None


def _first_answer(wire: Wire) -> Fields:
    """To a status request, or what came instead."""
    with contextlib.suppress(OSError):
        wire.send({"type": "status", "id": 1})
    return wire.receive()[0]


# -- Requests and answers -------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", [0, 7, 2**53 - 1, "", "seven", "🐂", "x" * 1000])
def test_an_answer_echoes_the_id(leader: Wire, request_id: int | str) -> None:
    answer, _ = leader.request({"type": "status", "id": request_id})
    assert answer["ok"] is True
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)


@pytest.mark.parametrize("text", ["null", "true", "1.5", "-1", "[1]", "{}", str(2**53)])
def test_an_id_of_another_kind_is_refused(leader: Wire, text: str) -> None:
    leader.send_payload(b'{"type":"status","id":%s}\n' % text.encode())
    answer, _ = leader.receive()
    assert_refused(answer, "INVALID_REQUEST")
    assert "id" in answer["message"]
    leader.ok("status")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'{"type":"status"}', "id"),
        (b'{"id":1}', "type"),
        (b"{}", "type"),
        (b'{"id":1,"type":null}', "type"),
        (b'{"id":1,"type":7}', "type"),
        (b'{"id":1,"type":["status"]}', "type"),
        (b'{"id":1,"type":"make_coffee"}', "make_coffee"),
        (b'{"id":1,"type":"Status"}', "Status"),
    ],
)
def test_type_and_id_are_required(leader: Wire, payload: bytes, named: str) -> None:
    leader.send_payload(payload)
    answer, _ = leader.receive()
    assert_refused(answer, "INVALID_REQUEST")
    assert named in answer["message"], answer
    assert answer["id"] == (1 if b'"id":1' in payload else None)


def test_a_long_poll_holds_up_nothing(leader: Wire, topic: str) -> None:
    polled = leader.post("fetch", partitions=[[topic, 0, 0]], wait_ms=20_000)
    asked = time.monotonic()
    leader.ok("status")
    leader.produce(topic, 0, ["wake up"])
    answer, body = leader.answer_to(polled)
    assert time.monotonic() - asked < 10, "the poll was answered when the record came"
    assert answer["partitions"][0]["size"] == len(body) > 0


def test_changes_take_effect_in_the_order_of_one_connection(leader: Wire, topic: str) -> None:
    lines = [b'{"value":%d}\n' % number for number in range(300)]
    asked = [
        leader.post("produce", line, topic=topic, partition=0, count=1, acks=1 if n % 3 else "all")
        for n, line in enumerate(lines)
    ]
    offsets = [leader.answer_to(request_id)[0]["offset"] for request_id in asked]
    assert offsets == list(range(300))
    assert b"".join(op.body for op in leader.read_all(topic, 0)) == b"".join(lines)


def test_a_topic_may_be_used_by_the_request_right_behind_its_creation(
    leader: Wire, name: str
) -> None:
    created = leader.post("create_topic", topic=name, partitions=1)
    produced = leader.post("produce", b'{"value":1}\n', topic=name, partition=0, count=1)
    assert leader.answer_to(created)[0]["ok"] is True
    assert leader.answer_to(produced)[0]["offset"] == 0


def test_headers_are_one_line_of_json(leader: Wire) -> None:
    """The answer, too, is a JSON line, closed by a newline where a body follows."""
    leader.send({"type": "status", "id": 1})
    (length,) = struct.unpack(">I", leader.socket.recv(4, socket.MSG_WAITALL))
    payload = leader.socket.recv(length, socket.MSG_WAITALL)
    assert payload.count(b"\n") <= 1
    assert json.loads(payload)["id"] == 1
