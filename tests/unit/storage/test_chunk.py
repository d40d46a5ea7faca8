"""Operations as bytes."""

from __future__ import annotations

import pytest

from tests.support.operations import TOPIC, append_op, body_of, encoded, lead, mixed
from yak.core.ops import NO_SUM, BrokenLine
from yak.storage.chunk import Proved, parse_chunk, prove_appends, prove_log, split, sum_of, walk


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


def batches(*times: int, partition: int = 0) -> list[bytes]:
    """A partition's: an operation of something else came between any two."""
    body = body_of(2)
    return [
        encoded([(append_op(2 * n + 1, 2 * n, body, partition=partition, time=time), body)])[0]
        for n, time in enumerate(times)
    ]


def test_whole_batches_are_proved_up_to_a_part_of_one() -> None:
    pieces = batches(7, 8, 8)
    data = b"".join(pieces)
    assert prove_appends(data, TOPIC, 0) == Proved(len(data), 0, 6)
    assert prove_appends(b"a first line\n" + pieces[1], TOPIC, 0, 13) == Proved(
        13 + len(pieces[1]), 2, 4
    )
    for cut in range(len(pieces[0]), len(data)):
        whole = 1 + (cut >= len(pieces[0] + pieces[1]))
        assert prove_appends(data[:cut], TOPIC, 0) == Proved(
            sum(map(len, pieces[:whole])), 0, 2 * whole
        )


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        (batches(8, 7), "follows"),
        ([batches(7)[0], batches(7)[0]], "follows"),
        ([batches(7, 7)[0], batches(7, 7, 7)[2]], "follows"),
        (batches(7, partition=1), f"is of {TOPIC}/1"),
        ([batches(7)[0].replace(TOPIC.encode(), b"nobodys")], "is of nobodys/0"),
        ([batches(7)[0].replace(b'"append"', b'"appenD"')], "not an operation"),
        ([batches(7)[0].replace(b'"epoch"', b'"epocH"')], "not an operation"),
        ([batches(7)[0].replace(b'"count":', b'"count": ')], "a blank"),
        (encoded([(lead(5), None)]), "not an operation"),
    ],
)
def test_what_is_no_batch_of_this_partition_or_in_no_order_is_refused(
    pieces: list[bytes], says: str
) -> None:
    with pytest.raises(BrokenLine, match=says):
        prove_appends(b"".join(pieces), TOPIC, 0)


def test_a_batch_right_behind_another_is_proved_by_its_sum() -> None:
    body = body_of(1)
    first, second = encoded([(append_op(1, 0, body), body), (append_op(2, 1, body), body)])
    assert prove_appends(first + second, TOPIC, 0).next == 2
    epoch = second.replace(b'"epoch":1', b'"epoch":2')
    with pytest.raises(BrokenLine, match="sum"):
        prove_appends(first + epoch, TOPIC, 0)


def test_a_log_is_proved_from_one_operation_to_another() -> None:
    pieces = encoded(mixed(6))
    data = b"".join(pieces)
    prove_log(data, NO_SUM, 1, 6)
    prove_log(data[len(pieces[0]) :], sum_of(pieces[0].split(b"\n")[0] + b"\n"), 2, 5)
    for wrong in ((data, "00000001", 1, 6), (data, NO_SUM, 2, 6), (data, NO_SUM, 1, 5)):
        with pytest.raises(BrokenLine):
            prove_log(*wrong)
    for cut in range(1, len(data)):
        with pytest.raises(BrokenLine):
            prove_log(data[:-cut], NO_SUM, 1, 6)
