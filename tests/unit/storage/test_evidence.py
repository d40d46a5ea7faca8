"""What proves that a fault in the log is damage, and what only looks like it."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.operations import append_op, body_of, encoded, lead, mixed
from yak.core import ops
from yak.core.ops import NO_SUM
from yak.storage.evidence import STATED_SUMS, find_valid


def a_log(count: int = 12) -> list[bytes]:
    return encoded(mixed(count))


def stated_sum(part: bytes) -> str:
    line = part.partition(b"\n")[0]
    found = msgspec.json.decode(line)["sum"]
    assert isinstance(found, str)
    return found


def test_an_operation_whose_sum_follows_from_the_last_good_one_is_found_anywhere() -> None:
    parts = a_log()
    for number in range(1, len(parts)):
        known = (stated_sum(parts[number - 1]),)
        for before in (b"", b"\n", b"x" * 1000, b"\0" * 4096, b'{"index":5,"epo'):
            data = before + parts[number]
            found = find_valid(data, known, number + 1, -1)
            assert found == (len(before), number + 1)


def test_nothing_valid_is_found_in_any_cut_of_one_operation() -> None:
    (line,) = encoded([(lead(1), None)])
    for size in range(len(line)):
        assert find_valid(line[:size], (NO_SUM,), 1, -1) is None
    assert find_valid(line, (NO_SUM,), 1, -1) == (0, 1)


def test_the_damaged_line_itself_is_no_proof() -> None:
    (line,) = encoded([(lead(1), None)])
    assert find_valid(line, (NO_SUM,), 1, 0) is None


def test_a_body_with_the_crc_that_its_line_states_is_a_proof_without_any_sum() -> None:
    body = body_of(3)
    (part,) = encoded([(append_op(7, 0, body), body)], "12345678")
    assert find_valid(part, (), 7, -1) == (0, 7)
    flipped = bytearray(part)
    flipped[-5] ^= 1
    assert find_valid(bytes(flipped), (), 7, -1) is None
    assert find_valid(part[:-1], (), 7, -1) is None


def test_a_line_proves_itself_by_a_sum_that_was_stated_before_it_in_the_same_bytes() -> None:
    """The last good one is lost with what was damaged."""
    first, second = encoded([(lead(5), None), (lead(6, 2), None)], "12345678")
    assert find_valid(first, ("00000001",), 5, -1) is None
    assert find_valid(first + second, ("00000001",), 5, -1) == (len(first), 6)


def test_an_operation_of_before_is_no_proof() -> None:
    """A copy of an old line, in a record or in a page that was not overwritten."""
    parts = a_log()
    data = b"".join(parts[:6])
    assert find_valid(data, (NO_SUM,), 7, -1) is None
    assert find_valid(data, (NO_SUM,), 6, -1) is not None


@pytest.mark.parametrize("between", [STATED_SUMS - 1, STATED_SUMS])
def test_only_the_last_stated_sums_count(between: int) -> None:
    """Else a record that is a list of sums would make the search as long as its square."""
    first, second = encoded([(lead(5), None), (lead(6, 2), None)], "12345678")
    noise = b"".join(b'{"value":1,"sum":"%08x"}\n' % number for number in range(between))
    found = find_valid(first + noise + second, (), 5, -1)
    assert (found is not None) == (between < STATED_SUMS)


def test_a_record_that_looks_like_an_operation_proves_nothing() -> None:
    fake = b'{"index":9,"epoch":1,"time":1009,"op":"lead","broker":1,"sum":"deadbeef"}\n'
    assert find_valid(fake * 3, (NO_SUM,), 1, -1) is None
    assert ops.crc_of(fake)
