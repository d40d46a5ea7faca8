"""Section 3 of the protocol: what is a body of records, and what is none.

A good body comes back byte for byte, whatever JSON it holds; of a bad one nothing is stored.
"""

from __future__ import annotations

import pytest

from tests.support.wire import Wire, assert_refused

A = b'{"value":1}\n'
B = b'{"value":2}\n'

#: name -> (count, body)
BAD: dict[str, tuple[int, bytes]] = {
    "no-body": (1, b""),
    "count-0": (0, b""),
    "count-0-with-a-record": (0, A),
    "fewer-than-count": (3, A + B),
    "more-than-count": (1, A + B),
    "no-last-newline": (2, A + B[:-1]),
    "crlf": (2, A.replace(b"\n", b"\r\n") + B),
    "cr-inside": (1, b'{"value":\r1}\n'),
    "cr-instead": (2, A[:-1] + b"\r" + B),
    "blank-line-first": (2, b"\n" + A),
    "blank-line-between": (2, A + b"\n" + B),
    "blank-line-counted": (3, A + b"\n" + B),
    "blank-line-last": (2, A + b"\n"),
    "space-before": (1, b" " + A),
    "space-after": (1, b'{"value":1} \n'),
    "two-on-a-line": (1, b'{"value":1}{"value":2}\n'),
    "two-on-a-line-counted": (2, b'{"value":1}{"value":2}\n'),
    "two-on-a-line-and-one-over-two": (2, b'{"value":1}{"value":\n2}\n'),
    "comma-between": (2, b'{"value":1},\n{"value":2}\n'),
    "one-over-two-lines": (1, b'{"value":\n1}\n'),
    "one-over-two-lines-counted": (2, b'{"value":\n1}\n'),
    "array": (1, b'[{"value":1}]\n'),
    "number": (1, b"1\n"),
    "null": (1, b"null\n"),
    "not-json": (1, b"{hello}\n"),
    "cut-short": (1, b'{"value":{"a":1}\n'),
    "no-value": (1, b'{"key":"a"}\n'),
    "empty-object": (1, b"{}\n"),
    "key-is-a-number": (1, b'{"key":1,"value":1}\n'),
    "key-is-an-object": (1, b'{"key":{},"value":1}\n'),
    "headers-is-an-object": (1, b'{"headers":{"a":"b"},"value":1}\n'),
    "headers-is-null": (1, b'{"headers":null,"value":1}\n'),
    "header-is-a-string": (1, b'{"headers":["a"],"value":1}\n'),
    "header-of-one": (1, b'{"headers":[["a"]],"value":1}\n'),
    "header-of-three": (1, b'{"headers":[["a","b","c"]],"value":1}\n'),
    "header-name-null": (1, b'{"headers":[[null,"b"]],"value":1}\n'),
    "header-value-number": (1, b'{"headers":[["a",1]],"value":1}\n'),
    "timestamp-is-a-string": (1, b'{"timestamp":"now","value":1}\n'),
    "timestamp-is-a-fraction": (1, b'{"timestamp":1.5,"value":1}\n'),
    "timestamp-is-true": (1, b'{"timestamp":true,"value":1}\n'),
    "timestamp-is-null": (1, b'{"timestamp":null,"value":1}\n'),
    "nan": (1, b'{"value":NaN}\n'),
    "infinity": (1, b'{"value":-Infinity}\n'),
    "not-utf8": (1, b'{"value":"\xff"}\n'),
    "not-utf8-deep": (1, b'{"value":{"a":["\xc3\x28"]}}\n'),
    "not-utf8-in-another-member": (1, b'{"value":1,"x":"\xff"}\n'),
    "not-utf8-key": (1, b'{"value":1,"key":"\xe2\x82"}\n'),
    "byte-order-mark": (1, b"\xef\xbb\xbf" + A),
    "raw-control-character": (1, b'{"value":"\x00"}\n'),
    "wrong-nesting": (1, b'{"value":[}]}\n'),
    "nested-100000-deep": (1, b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "the-last-of-many-is-bad": (500, A * 499 + b'{"valve":1}\n'),
}


@pytest.mark.parametrize(("count", "body"), BAD.values(), ids=BAD.keys())
def test_of_a_bad_body_nothing_is_stored(leader: Wire, topic: str, count: int, body: bytes) -> None:
    before = leader.produce(topic, 0, ["before"])
    answer, _ = leader.ask("produce", body, topic=topic, partition=0, count=count)
    assert_refused(answer, "INVALID_RECORD")
    after = leader.produce(topic, 0, ["after"])
    assert (before["offset"], after["offset"]) == (0, 1)
    assert [op.values for op in leader.read_all(topic, 0)] == [["before"], ["after"]]


@pytest.mark.parametrize("acks", [1, "all"])
def test_a_refused_batch_does_not_use_up_its_sequence(
    leader: Wire, topic: str, acks: int | str
) -> None:
    if acks == "all":
        producer = leader.ok("register", role="producer", topics=[])["producer"]
        own = {"producer": producer, "sequence": 0}
    else:
        own = {}
    fields = {"topic": topic, "partition": 0, "count": 1, "acks": acks, **own}
    leader.refused("INVALID_RECORD", "produce", b"{}\n", **fields)
    answer = leader.ok("produce", A, **fields)
    assert answer["offset"] == 0
    assert "duplicate" not in answer


def test_the_message_says_which_line_is_bad(leader: Wire, topic: str) -> None:
    body = A * 6 + b'{"value":1,"key":7}\n' + A
    answer = leader.refused("INVALID_RECORD", "produce", body, topic=topic, partition=0, count=8)
    assert "7" in answer["message"]
    assert "key" in answer["message"]


GOOD = {
    "tombstone": b'{"key":"a","value":null}\n',
    "null-key": b'{"key":null,"value":1}\n',
    "spaces": b'{ "value" : [ 1 , 2 ] }\n',
    "numbers-as-written": b'{"value":[1.0,1e2,-0,1.50,123456789012345678901234567890,1E+2]}\n',
    "4000-digits": b'{"value":' + b"7" * 4000 + b"}\n",
    "escapes-as-written": b'{"value":"\\u0041\\/\\n\\u00e9"}\n',
    "not-ascii": '{"value":"grüß 🐂","key":"ключ"}\n'.encode(),
    "line-separators": '{"value":"a\u2028b\u0085c"}\n'.encode(),
    "headers": b'{"headers":[["a","b"],["a",null],["",""]],"value":1}\n',
    "no-headers": b'{"headers":[],"value":1}\n',
    "timestamp": b'{"timestamp":1763800000000,"value":1}\n',
    "other-members": b'{"value":1,"x":{"y":[1,2]},"enc":"base64"}\n',
    "value-last-and-first": b'{"a":1,"value":{"value":{"value":1}},"z":1}\n',
    "braces-in-strings": b'{"value":"}\\n{ }{ "}\n',
    "looks-like-an-operation": b'{"index":1,"op":"append","size":5,"value":1,"sum":"00000000"}\n',
    "nested-50-deep": b'{"value":' + b"[" * 50 + b"]" * 50 + b"}\n",
    "empty-string": b'{"value":"","key":""}\n',
    "300-kB": b'{"value":"' + b"x" * 300_000 + b'"}\n',
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_a_good_body_comes_back_byte_for_byte(leader: Wire, topic: str, body: bytes) -> None:
    answer = leader.ok("produce", body * 3, topic=topic, partition=0, count=3)
    assert (answer["offset"], answer["count"]) == (0, 3)
    (operation,) = leader.read_all(topic, 0)
    assert operation.body == body * 3
    assert operation.fields["size"] == len(body) * 3


def test_a_batch_over_the_limit_is_refused_and_the_limit_named(leader: Wire, name: str) -> None:
    leader.ok("create_topic", topic=name, partitions=1, config={"max_batch_bytes": 1000})
    fits = b'{"value":"%s"}\n' % (b"x" * (1000 - len(b'{"value":""}\n')))
    assert leader.ok("produce", fits, topic=name, partition=0, count=1)["offset"] == 0
    answer = leader.refused(
        "BATCH_TOO_LARGE", "produce", fits + A, topic=name, partition=0, count=2
    )
    assert "1000" in answer["message"]
    assert leader.high_watermark(name, 0) == 1


def test_the_default_limit_is_one_mebibyte(leader: Wire, topic: str) -> None:
    body = b'{"value":"%s"}\n' % (b"x" * (1 << 20))
    leader.refused("BATCH_TOO_LARGE", "produce", body, topic=topic, partition=0, count=1)
    assert leader.high_watermark(topic, 0) == 0
