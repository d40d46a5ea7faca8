"""yak.protocol: messages to bytes and back, without a wire."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yak import messages as m
from yak import protocol
from yak.bodies import validate_records
from yak.config import Settings
from yak.errors import ERRORS, ProtocolError, Refused
from yak.model import MAX_INT
from yak.protocol import (
    MAX_HEADER_BARE,
    MAX_HEADER_VALUES,
    BadRequest,
    RequestDecoder,
)

# -- Requests -------------------------------------------------------------------------------------

DECODER = RequestDecoder(m.BrokerRequest)


def refused(header: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        DECODER.decode(header)
    assert caught.value.name == "INVALID_REQUEST"
    assert len(caught.value.message) < 1000
    return caught.value


NO_OBJECT = [
    b"",
    b"[]",
    b"1",
    b"null",
    b'"status"',
    b"{",
    b'{"type":"status","id":1}x',
    b'{"type":"status","id":1}{}',
    b'{"type":"status","id":1,}',
    b'{"type":"status","id":01}',
    b"{'type':'status','id':1}",
    b'{"type":"status","id":1,"x":[}]}',
    b'{"type":"status","id":1,"x":"\x01"}',
    b'\xef\xbb\xbf{"type":"status","id":1}',
    b'{"type":"status","id":1,"x":"\xff"}',
    b'{"type":"status","id":1,"\xc3\x28":1}',
    b'{"type":"status","id":1,"x":"\xed\xa0\x80"}',
    b'{"type":"status","id":1,"x":"\\ud800"}',
    b'{"type":"status","id":1,"x":"\\udc00"}',
    b'{"type":"status","id":"\\ud800"}',
    b'{"type":"status","id":"\\ud800","x":1e999}',
    b'{"type":"status","id":1,"x":NaN}',
    b'{"type":"status","id":1,"x":-Infinity}',
    b'{"type":"status","id":1,"x":1e999,"y":NaN}',
    b'{"type":"status","id":1,"id":1}',
    b'{"type":"status","id":1,"\\u0069d":1}',
    b'{"type":"status","id":1,"x":{"a":1,"a":1}}',
    b'{"type":"status","id":1,"x":[[{"a":":","a":1}]]}',
    b'{"type":"status","id":1,"x":1e999,"y":1,"y":2}',
    b'{"type":"status","id":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"type":"status","id":1,"x":1e999,"y":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000,
    b'{"type":"status","id":1,"x":[' + b"1," * MAX_HEADER_VALUES + b"1]}",
]


@pytest.mark.parametrize("header", NO_OBJECT, ids=lambda header: repr(header[:50]))
def test_what_is_no_strict_json_object_has_no_id(header: bytes) -> None:
    assert refused(header).id is None


FIELDS: list[tuple[bytes, int | str | None, str]] = [
    (b"{}", None, "`type`"),
    (b'{"id":7}', 7, "`type`"),
    (b'{"type":null,"id":7}', 7, "`type`"),
    (b'{"type":"status"}', None, "`id`"),
    (b'{"type":"status","id":null}', None, "`id`"),
    (b'{"type":"status","id":true}', None, "`id`"),
    (b'{"type":"status","id":1.0}', None, "`id`"),
    (b'{"type":"status","id":-1}', -1, "`id`"),
    (b'{"type":"status","id":9007199254740992}', MAX_INT + 1, "`id`"),
    (b'{"type":"status","id":%s}' % (b"9" * 30), None, "`id`"),
    (b'{"type":"status","id":%s}' % (b"9" * 5000), None, "`id`"),
    (b'{"type":"coffee","id":"a"}', "a", "'coffee'"),
    (b'{"type":"fetch","id":"\xc3\xa9"}', "é", "`partitions`"),
    (b'{"type":"fetch","id":7,"partitions":[["t",0,-1]]}', 7, "`partitions[0][2]`"),
    (b'{"type":"fetch","id":7,"partitions":[["t",0,true]]}', 7, "`partitions[0][2]`"),
    (b'{"type":"fetch","id":7,"partitions":[["t",0]]}', 7, "`partitions[0]`"),
    (b'{"type":"fetch","id":7,"partitions":[],"wait_ms":60001}', 7, "60000"),
    (b'{"type":"fetch","id":7,"partitions":[],"wait_ms":null}', 7, "`wait_ms`"),
    (b'{"type":"create_topic","id":7,"topic":1}', 7, "`topic`"),
    (
        b'{"type":"create_topic","id":7,"topic":"t","partitions":%s}' % (b"9" * 30),
        7,
        "`partitions`",
    ),
    (b'{"type":"create_topic","id":7,"topic":"t","config":{"x":[%s]}}' % (b"9" * 20), 7, "64 bits"),
    (b'{"type":"status","id":7,"x":%s}' % (b"1" * 4000), 7, "64 bits"),
    (b'{"type":"status","id":7,"x":%s}' % (b"1" * 5000), 7, "out of range"),
    (b'{"type":"status","id":7,"x":1e999}', 7, "out of range"),
    (b'{"type":"\xf0\x9f\x90\x82%s","id":7}' % (b"x" * 90_000), 7, "unknown type"),
]


@pytest.mark.parametrize(("header", "id_", "named"), FIELDS, ids=lambda v: repr(v)[:50])
def test_a_wrong_field_is_named_and_the_id_echoed(
    header: bytes, id_: int | str | None, named: str
) -> None:
    error = refused(header)
    assert error.id == id_
    assert type(error.id) is type(id_)
    assert named in error.message
    answer = protocol.encode_answer(error.id, protocol.error_answer(error))
    assert json.loads(answer)["id"] == id_


GOOD = [
    (b'{"type":"status","id":1}', m.Status(id=1)),
    (b' { "type" : "status" , "id" : "" } ', m.Status(id="")),
    (b'{"type":"status","id":1,"x":"a:b::","y:":{"z":":"}}', m.Status(id=1)),
    (b'{"type":"status","id":1,"x":[{"a":1},{"a":1}],"a":2}', m.Status(id=1)),
    (b'{"\\u0074ype":"st\\u0061tus","id":9007199254740991}', m.Status(id=MAX_INT)),
    (b'{"type":"hello","id":1,"client":"\\ud83d\\udc02"}', m.Hello(id=1, client="🐂")),
    (b'{"type":"group","id":1,"group":"%s"}' % (b"," * 900), m.GroupInfo(id=1, group="," * 900)),
]


@pytest.mark.parametrize(("header", "request_"), GOOD, ids=lambda v: repr(v)[:50])
def test_a_good_request_however_it_is_written(header: bytes, request_: m.Request) -> None:
    assert DECODER.decode(header) == request_


def test_a_long_header_of_few_values_is_taken() -> None:
    group = "," * (MAX_HEADER_VALUES - 100)
    header = protocol.encode_request(m.GroupInfo(id=1, group=group + "x" * 10_000_000))
    request = DECODER.decode(header)
    assert isinstance(request, m.GroupInfo)
    assert not any(protocol.is_hopeless(header[:size]) for size in (1 << 20, 5 << 20))


def test_what_no_header_may_have_is_seen_by_its_beginning() -> None:
    for begins in (b'{"x":[' + b"9" * 1_250_000, b'{"x":[' + b"[]," * 100_000, b" " * 1_250_000):
        assert protocol.is_hopeless(begins)
        assert refused(begins) is not None
        assert refused(begins + b'"x",' * 10) is not None


def test_a_long_header_is_strings() -> None:
    """Numbers of thousands of digits take their time, blanks and whatever else is none as well."""
    for bare in (b"9" * 2_000_000, b"[%b]" % b",".join([b"1." + b"9" * 100] * 50_000)):
        said = refused(b'{"type":"status","id":1,"x":%b}' % bare)
        assert said is not None
        assert f"{MAX_HEADER_BARE} bytes beside its strings" in said.message
    blank = b" " * 2_000_000
    assert refused(b'{"type":"status","id":1%b}' % blank) is not None
    for text in (blank, b"9" * 2_000_000, b'\\"' * 1_000_000, b"\\\\" * 1_000_000):
        header = b'{"type":"status","id":1,"x":"%b"}' % text
        assert DECODER.decode(header) == m.Status(id=1)


def test_a_colon_in_a_string_is_none_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way is for what is refused: it would take long for a long header."""
    monkeypatch.setattr(protocol, "_read_exactly", lambda header: pytest.fail("the slow way"))
    for text in (b"a:b", b'a:\\"b:', b"\\\\", b'\\\\\\":', b":" * 1000):
        header = b'{"type":"status","id":1,"x:y":["%b",{"%b":":"}]}' % (text, text)
        assert DECODER.decode(header) == m.Status(id=1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(json_values)
def test_unknown_fields_are_ignored_whatever_they_hold(value: Any) -> None:
    header = json.dumps({"type": "status", "id": 1, "x": value}, ensure_ascii=False).encode()
    assert DECODER.decode(header) == m.Status(id=1)


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_refused_in_order(header: bytes) -> None:
    refused(header)


@pytest.mark.parametrize(
    ("header", "id_"),
    [
        (b'{"type":"status","id":7}', 7),
        (b'{"id":"x","partitions":[[[]]],"type":"fetch"}', "x"),
        (b'{"type":"status"}', None),
        (b'{"type":"status","id":null}', None),
        (b'{"id":7', None),
        (b'["id",7]', None),
        (b'{"id":"\xff"}', None),
        (b"[" * 100_000, None),
    ],
)
def test_the_id_of_a_header_that_is_not_looked_into(header: bytes, id_: m.RequestId | None) -> None:
    assert RequestDecoder(m.BrokerRequest).id_of(header) == id_


def test_a_decoder_of_one_kind() -> None:
    decoder = RequestDecoder(m.Beat)
    assert decoder.decode(b'{"type":"heartbeat","id":1,"number":2,"heard":3}') == m.Beat(
        id=1, number=2, heard=3
    )
    with pytest.raises(BadRequest, match="this port answers heartbeat"):
        decoder.decode(b'{"type":"status","id":1}')


@pytest.mark.parametrize(
    "request_",
    [
        m.Produce(id=1, topic="t", partition=0, count=2, producer=7, sequence=0),
        m.Fetch(id="x", partitions=(("t", 0, 41),), wait_ms=500),
        m.Replicate(id=2, broker=3, epoch=4, from_=17),
        m.Register(id=3, role="producer", topics=[]),
    ],
)
def test_requests_come_back_as_they_were(request_: m.Request) -> None:
    assert DECODER.decode(protocol.encode_request(request_)) == request_


# -- Answers and pushes ---------------------------------------------------------------------------


@pytest.mark.parametrize("id_", [0, MAX_INT, -1, 2**64 - 1, -(2**63), "a\n\U0001f402", None])
def test_an_answer_begins_with_its_id(id_: int | str | None) -> None:
    header = protocol.encode_answer(id_, m.Done())
    assert header.startswith(b'{"id":')
    assert json.loads(header) == {"id": id_, "ok": True}
    head = protocol.decode_head(header)
    assert head == protocol.AnswerHead(id=id_, ok=True)


def test_a_good_answer_may_use_the_names_of_an_errors_fields() -> None:
    answer = m.FollowAnswer(epoch=3, truncate_to=17, sum="00000000")
    header = b'{"id":1,"ok":true,"leader":2,"start":"x",%b' % msgspec.json.encode(answer)[1:]
    assert protocol.decode_head(header) == protocol.AnswerHead(id=1, ok=True)
    assert protocol.decode_answer(header, m.FollowAnswer) == answer


def test_an_error_answer_carries_what_it_promises() -> None:
    hint = m.LeaderHint(2, "127.0.0.1", 9093)
    answer = protocol.error_answer(Refused("NOT_LEADER", "2 leads", leader=hint, expected=None))
    header = protocol.encode_answer(7, answer)
    assert json.loads(header) == {
        "id": 7,
        "ok": False,
        "error": "NOT_LEADER",
        "message": "2 leads",
        "retriable": True,
        "leader": {"id": 2, "host": "127.0.0.1", "port": 9093},
    }
    head = protocol.decode_head(header)
    assert head is not None
    assert (head.error, head.retriable, head.leader, head.expected) == (
        "NOT_LEADER",
        True,
        hint,
        None,
    )


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_says_whether_to_retry(name: str) -> None:
    assert protocol.error_answer(Refused(name, "x")).retriable is ERRORS[name][0]


def test_a_push_has_no_id() -> None:
    view = m.ClusterView(
        cluster="c", version=1, epoch=2, leader=None, isr=[], settings=Settings(), brokers=[]
    )
    header = protocol.encode_push(view)
    assert header.startswith(b'{"type":"cluster",')
    assert protocol.decode_head(header) is None
    assert protocol.decode_answer(header, m.ClusterView) == view


@pytest.mark.parametrize(
    "header", [b"", b"[]", b'{"id":1,"ok":1}', b'{"id":{},"ok":true}', b'{"id":1,"ok":tr\xff']
)
def test_what_is_no_answer_breaks_the_protocol(header: bytes) -> None:
    with pytest.raises(ProtocolError, match="no answer"):
        protocol.decode_head(header)


def test_an_answer_of_another_type_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError, match="no ProduceAnswer"):
        protocol.decode_answer(b'{"id":1,"ok":true}', m.ProduceAnswer)


# -- Records --------------------------------------------------------------------------------------

A = b'{"value":1}\n'
B = b'{"value":2}\n'

#: count, body, what the message says
BAD_BODIES: list[tuple[int, bytes, str]] = [
    (1, b"", "empty"),
    (0, b"", "at least 1"),
    (0, A, "at least 1"),
    (3, A + B, "2 lines, count says 3"),
    (1, A + B, "2 lines, count says 1"),
    (2, A + B[:-1], "last line (2) is not closed"),
    (2, A[:-1] + b"\r\n" + B, "line 1 of the body: it holds a carriage return"),
    (1, b'{"value":\r1}\n', "line 1 of the body: it holds a carriage return"),
    (2, A[:-1] + b"\r" + B, "count says 2"),
    (2, b"\n" + A, "line 1 of the body: it is blank"),
    (3, A + b"\n" + B, "line 2 of the body: it is blank"),
    (2, A + b"\n", "line 2 of the body: it is blank"),
    (2, A + b"  \n", "line 2 of the body: it is blank"),
    (1, b" " + A, "line 1 of the body: it is not one JSON object"),
    (2, A + b" " + B, "line 2 of the body: it is not one JSON object"),
    (1, b'{"value":1} \n', "line 1 of the body: it is not one JSON object"),
    (1, b'{"value":1}{"value":2}\n', "line 1 of the body"),
    (2, b'{"value":1}{"value":\n2}\n', "line 1 of the body"),
    (2, b'{"value":\n1}\n', "line 1 of the body"),
    (2, b'{"value":1},\n{"value":2}\n', "line 1 of the body"),
    (2, A + b'[{"value":1}]\n', "line 2 of the body: it is not one JSON object"),
    (1, b"{hello}\n", "line 1 of the body"),
    (1, b'{"value":{"a":1}\n', "line 1 of the body"),
    (1, b'{"value":[{}\n{}]}\n', "2 lines"),
    (2, b'{"value":[{}\n{}]}\n', "line 1 of the body"),
    (2, A + b'{"key":"a"}\n', "line 2 of the body: the field `value` is missing"),
    (1, b'{"value":1,"key":1}\n', "field `key`"),
    (1, b'{"value":1,"headers":null}\n', "field `headers`"),
    (1, b'{"value":1,"headers":[["a"]]}\n', "field `headers[0]`"),
    (1, b'{"value":1,"headers":[["a","b","c"]]}\n', "field `headers[0]`"),
    (1, b'{"value":1,"headers":[[null,"b"]]}\n', "field `headers[0][0]`"),
    (1, b'{"value":1,"headers":[["a",1]]}\n', "field `headers[0][1]`"),
    (1, b'{"value":1,"timestamp":null}\n', "field `timestamp`"),
    (1, b'{"value":1,"timestamp":true}\n', "field `timestamp`"),
    (1, b'{"value":1,"timestamp":1.5}\n', "field `timestamp`"),
    (1, b'{"value":1,"timestamp":-1}\n', "field `timestamp`"),
    (1, b'{"value":1,"timestamp":9007199254740992}\n', "field `timestamp`"),
    (1, b'{"value":NaN}\n', "line 1"),
    (1, b'{"value":[-Infinity]}\n', "line 1"),
    (1, b'{"value":01}\n', "line 1"),
    (1, b'{"value":"\\ud800"}\n', "line 1"),
    (1, b'{"value":{"\\udc00":1}}\n', "line 1"),
    (1, b'{"value":"\x00"}\n', "line 1"),
    (2, A + b'{"value":"\xff"}\n', "line 2 of the body: it is not UTF-8"),
    (1, b'{"value":1,"x":"\xed\xa0\x80"}\n', "not UTF-8"),
    (1, b"\xef\xbb\xbf" + A, "not one JSON object"),
    (1, b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deep"),
    (500, A * 499 + b'{"valve":1}\n', "line 500 of the body"),
    (1, b"\n" * 1_000_000, "1000000 lines"),
]


@pytest.mark.parametrize(("count", "body", "said"), BAD_BODIES, ids=lambda v: repr(v)[:50])
def test_a_bad_body_is_refused_and_its_line_named(count: int, body: bytes, said: str) -> None:
    for form in (body, memoryview(body)):
        with pytest.raises(Refused) as caught:
            validate_records(form, count)
        assert caught.value.name == "INVALID_RECORD"
        assert said in caught.value.message
        assert len(caught.value.message) < 1000


GOOD_LINES = [
    A,
    b'{"key":"a","value":null}\n',
    b'{"key":null,"value":1}\n',
    b'{ "value" : [ 1 , 2 ] }\n',
    b'{"value":[1.0,1e2,-0,1.50,1E+2,1e999]}\n',
    b'{"value":%s}\n' % (b"7" * 4000),
    b'{"value":"\\u0041\\/\\n\\u00e9\\ud83d\\udc02"}\n',
    '{"value":"grüß 🐂\u2028\u0085","key":"ключ"}\n'.encode(),
    b'{"headers":[["a","b"],["a",null],["",""]],"value":1}\n',
    b'{"timestamp":9007199254740991,"value":1,"headers":[]}\n',
    b'{"value":1,"x":{"y":[1,2]},"enc":"base64"}\n',
    b'{"value":"}\\n{ }{ "}\n',
    b'{"value":' + b"[" * 50 + b"]" * 50 + b"}\n",
    b'{"value":1,"value":2}\n',
]


@pytest.mark.parametrize("line", GOOD_LINES, ids=lambda line: repr(line[:40]))
def test_a_good_body_passes(line: bytes) -> None:
    validate_records(line, 1)
    validate_records(memoryview(line * 3), 3)


def test_all_good_lines_together() -> None:
    validate_records(b"".join(GOOD_LINES), len(GOOD_LINES))


@given(st.lists(json_values, min_size=1, max_size=5), st.data())
def test_one_byte_more_or_less_never_passes_unseen(values: list[Any], data: st.DataObject) -> None:
    """What passes is `count` objects, one a line, each with a value, whatever was done to it."""
    body = b"".join(json.dumps({"value": v}, ensure_ascii=False).encode() + b"\n" for v in values)
    validate_records(body, len(values))
    at = data.draw(st.integers(0, len(body)))
    piece = data.draw(
        st.sampled_from([b"", b"\n", b"}\n{", b"\r", b" ", b"{", b"}", b"\xff", b","])
    )
    spoiled = body[:at] + piece + body[at + (not piece) :]
    try:
        validate_records(spoiled, len(values))
    except Refused:
        return
    lines = spoiled.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(values)
    assert all("value" in json.loads(line) for line in lines)
    assert all(line[:1] == b"{" and line[-1:] == b"}" and b"\r" not in line for line in lines)
