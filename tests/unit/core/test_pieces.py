"""Many records cut into pieces: each fits, none is lost, order within a partition stays."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from yak.core.partitioner import partition_of
from yak.core.pieces import Many, Piece, cut
from yak.core.records import key_bytes


def _cut(many: Many, batch_bytes: int = 200, batch_records: int = 50) -> list[Piece]:
    return list(cut(many, lambda key: partition_of(key_bytes(key), 4), batch_bytes, batch_records))


@given(
    st.lists(st.tuples(st.integers(0, 300), st.none() | st.sampled_from("abcdefgh"))),
    st.integers(50, 2000),
    st.integers(1, 60),
)
def test_every_record_is_in_one_piece_that_fits(
    records: list[tuple[int, Any]], batch_bytes: int, batch_records: int
) -> None:
    values = ["v" * size for size, _ in records]
    keys = [key for _, key in records]
    pieces = _cut(Many(values, keys=keys), batch_bytes, batch_records)
    assert sorted(place for piece in pieces for place in piece.places) == list(range(len(values)))
    last: dict[Any, int] = {}
    for piece in pieces:
        lines = piece.lines.splitlines()
        assert len(lines) == len(piece.places) <= batch_records
        assert len(piece.lines) <= batch_bytes or len(lines) == 1
        for line, place in zip(lines, piece.places, strict=True):
            assert json.loads(line)["value"] == values[place]
            assert json.loads(line).get("key") == keys[place]
            key = keys[place]
            expected = None if key is None else partition_of(key.encode(), 4)
            assert piece.partition == expected
            assert last.get(piece.partition, -1) < place
            last[piece.partition] = place


def test_the_same_for_all() -> None:
    for many, partition in [
        (Many([1] * 100), None),
        (Many([1] * 100, key="k"), partition_of(b"k", 4)),
        (Many([1] * 100, partition=3), 3),
        (Many([1] * 100, keys=["a"] * 100, partition=2), 2),
        (Many([1] * 100, headers=[("h", "v")]), None),
    ]:
        pieces = _cut(many)
        assert {piece.partition for piece in pieces} == {partition}
        assert sum(len(piece.places) for piece in pieces) == 100


def test_keys_and_values_belong_together() -> None:
    with pytest.raises(ValueError, match="2 values and 1 keys"):
        _cut(Many([1, 2], keys=["a"]))
    assert _cut(Many([])) == []
