"""Operations as bytes."""

from __future__ import annotations

import pytest

from tests.support.operations import append_op, body_of, encoded, lead, mixed
from yak.core.ops import NO_SUM, BrokenLine
from yak.storage.chunk import parse_chunk, split, sum_of, walk


def parse(data: bytes | memoryview, index: int = 1, epoch: int = 0) -> list[int]:
    chunk = parse_chunk(data, previous_sum=NO_SUM, next_index=index, previous_epoch=epoch)
    assert b"".join(entry.line + bytes(entry.body) for entry in chunk.entries) == bytes(data)
    assert chunk.data == data
    return [op.index for op in chunk.ops]


def test_a_chunk_is_its_operations() -> None:
    operations = mixed(20)
    data = b"".join(encoded(operations))
    assert parse(data) == list(range(1, 21))
    assert parse(memoryview(data)) == list(range(1, 21))
    assert [entry.op for entry in split(data)] == [op for op, _ in operations]
    assert parse(b"") == []


def test_a_walk_steps_over_whole_operations_and_leaves_a_part() -> None:
    pieces = encoded(mixed(10))
    data = b"".join(pieces)
    for cut in range(len(data)):
        steps = list(walk(data[:cut]))
        assert [data[step.start : step.end] for step in steps] == pieces[: len(steps)]
        assert cut - (steps[-1].end if steps else 0) < len(pieces[len(steps)])


def test_every_flipped_bit_is_found() -> None:
    data = b"".join(encoded(mixed(6)))
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(BrokenLine):
            parse(bytes(broken))


def test_every_missing_end_is_found() -> None:
    pieces = encoded(mixed(4))
    data = b"".join(pieces)
    ends = {len(b"".join(pieces[:count])) for count in range(5)}
    for cut in range(len(data)):
        if cut not in ends:
            with pytest.raises(BrokenLine):
                parse(data[:cut])


def test_another_index_epoch_or_sum_is_refused() -> None:
    body = body_of(2)
    data = encoded([(lead(5, epoch=3), None)])[0]
    with pytest.raises(BrokenLine, match="operation 5 where 6 was due"):
        parse(data, index=6, epoch=3)
    with pytest.raises(BrokenLine, match="after epoch 4"):
        parse(data, index=5, epoch=4)
    with pytest.raises(BrokenLine, match="sum"):
        parse_chunk(data, previous_sum="00000001", next_index=5, previous_epoch=3)
    op = append_op(5, 0, body)
    op.crc = "00000000"
    with pytest.raises(BrokenLine, match="crc"):
        parse(encoded([(op, body)])[0], index=5)


def test_the_sum_is_the_lines_own() -> None:
    line = encoded([(lead(1), None)])[0]
    assert sum_of(line) == line.decode().rpartition('"sum":"')[2][:8]
