"""Records to lines and back: nothing a caller sends comes back as anything else."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from google_crc32c import value as crc32c
from hypothesis import given

from yak.bodies import validate_records
from yak.core.records import (
    Chunk,
    decode_chunk,
    encode_pairs,
    encode_record,
    encode_values,
    key_bytes,
    split_operations,
)
from yak.errors import ProtocolError, YakError
from yak.model import Record

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e6, 1e6) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.none() | _TEXT | st.binary()
_HEADERS = st.none() | st.lists(st.tuples(_TEXT, st.none() | _TEXT), max_size=2)


def _decode(body: bytes, since: int = 0) -> list[Record]:
    return decode_chunk(Chunk(0, body.count(b"\n"), 5, 1, body), "t", 0, since)


def _as_bytes(part: Any) -> Any:
    return part.encode() if isinstance(part, str) else part


@given(_JSON | st.binary(), _KEYS, _HEADERS, st.none() | st.integers(0, 2**53 - 1))
def test_what_is_sent_is_what_is_read(value: Any, key: Any, headers: Any, stamp: Any) -> None:
    line = encode_record(value, key, headers, stamp)
    validate_records(line, 1)
    (record,) = _decode(line)
    assert not record.raw
    assert _as_bytes(record.value) == _as_bytes(value)
    assert _as_bytes(record.key) == _as_bytes(key)
    assert record.headers == (headers or [])
    assert record.timestamp == (5 if stamp is None else stamp)


@given(st.lists(_JSON | st.binary(), max_size=5), st.data())
def test_many_at_once_are_the_same_lines_as_one_by_one(values: list[Any], data: Any) -> None:
    assert encode_values(values) == b"".join(map(encode_record, values))
    keys = data.draw(st.lists(_KEYS, min_size=len(values), max_size=len(values)))
    headers = data.draw(_HEADERS)
    assert encode_pairs(keys, values, headers) == b"".join(
        encode_record(value, key, headers) for key, value in zip(keys, values, strict=True)
    )


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (object(), None),
        (float("nan"), None),
        (float("inf"), None),
        ("\udc80", None),
        ({"a": {1j}}, None),
        ("v", "\udc80"),
        ("v", 7),
        ("v", ["k"]),
    ],
)
def test_what_is_no_record_is_refused_where_it_is_sent(value: Any, key: Any) -> None:
    with pytest.raises(YakError) as caught:
        encode_record(value, key)
    assert caught.value.name == "INVALID_RECORD"
    with pytest.raises(YakError):
        encode_pairs([key], [value], None)


def test_bad_headers_and_timestamps_are_refused() -> None:
    for headers in ([("a", 1)], [(1, "a")]):
        with pytest.raises(YakError):
            encode_record("v", None, headers)  # type: ignore[arg-type]  # that is the point
    for timestamp in (-1, 1.5, True):
        with pytest.raises(YakError):
            encode_record("v", None, None, timestamp)  # type: ignore[arg-type]  # likewise


def test_a_tombstone_is_none_and_only_none() -> None:
    assert encode_record(None, "k") == b'{"key":"k","value":null}\n'
    assert _decode(b'{"key":"k","value":null}\n')[0].value is None


def test_the_bytes_of_a_key() -> None:
    assert key_bytes("é") == key_bytes("é".encode()) == b"\xc3\xa9"
    with pytest.raises(YakError):
        key_bytes("\udc80")


def test_a_record_that_cannot_be_decoded_is_handed_on_raw_among_its_neighbours() -> None:
    body = (
        b'{"value":1}\n{"novalue":2}\n{"value":\xff}\n{"value":"!","enc":"base64"}\n{"value":2}\n'
    )
    records = _decode(body)
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert [record.raw for record in records] == [False, True, True, True, False]
    assert records[1].value == '{"novalue":2}'
    assert records[2].value == b'{"value":\xff}'
    assert records[4].value == 2


def test_other_members_cannot_pose_as_an_offset() -> None:
    (record,) = _decode(b'{"value":1,"offset":99,"topic":"x","raw":true,"partition":7}\n')
    assert (record.offset, record.topic, record.partition, record.raw) == (0, "t", 0, False)
    (hostile,) = _decode(b'{"value":1,"yak:offset":99}\n')
    assert hostile.offset == 0


def test_records_before_the_asked_offset_are_left_out() -> None:
    body = encode_values(["a", "b", "c"])
    records = decode_chunk(Chunk(10, 3, 5, 1, body), "t", 2, since=11)
    assert [(r.offset, r.value, r.partition) for r in records] == [(11, "b", 2), (12, "c", 2)]
    assert decode_chunk(Chunk(10, 3, 5, 1, body), "t", 2, since=13) == []


def _operation(body: bytes, **members: Any) -> bytes:
    line = {"index": 1, "epoch": 3, "time": 7, "op": "append", "offset": 4, "count": 2}
    line |= {"size": len(body), "crc": format(crc32c(body), "08x"), **members, "sum": "0" * 8}
    return json.dumps(line).encode() + b"\n" + body


def test_operations_are_split_and_others_passed_over() -> None:
    body = encode_values(["a", "b"])
    data = (
        _operation(body)
        + _operation(b"", op="trim")
        + _operation(b"\x00\n\xff", format=2, offset=6, count=9)
        + _operation(body, offset=15)
    )
    assert split_operations(data) == [
        Chunk(4, 2, 7, 3, body),
        Chunk(6, 9, 7, 3, None),
        Chunk(15, 2, 7, 3, body),
    ]
    assert split_operations(b"") == []


@pytest.mark.parametrize("damage", ["bit", "cut", "junk"])
def test_damage_is_found(damage: str) -> None:
    body = encode_values(["a", "b"])
    data = bytearray(_operation(body))
    if damage == "bit":
        data[-4] ^= 1
    elif damage == "cut":
        del data[-1]
    else:
        data[:1] = b"?"
    with pytest.raises(ProtocolError) as caught:
        split_operations(bytes(data))
    assert caught.value.name == "CORRUPT"
    if damage == "bit":
        split_operations(bytes(data), verify=False)
