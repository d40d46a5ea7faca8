"""Keys go where Kafka's own clients would put them."""

from __future__ import annotations

import pytest

from yak.core.partitioner import Sticky, murmur2, partition_of

#: The vectors of Apache Kafka's public unit test of its murmur2 (signed there).
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), KAFKA_VECTORS.items())
def test_murmur2_is_kafkas(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("data", "signed"), KAFKA_VECTORS.items())
@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 100])
def test_the_sign_is_masked_before_the_remainder(data: bytes, signed: int, partitions: int) -> None:
    assert partition_of(data, partitions) == (signed & 0x7FFFFFFF) % partitions


def test_an_empty_key_is_a_key() -> None:
    assert 0 <= partition_of(b"", 5) < 5


def test_sticky_stays_until_told_and_ignores_late_words() -> None:
    sticky = Sticky(1)
    sticky.move_on(3, left=0)
    assert sticky.partition == 1
    sticky.move_on(3, left=1)
    assert sticky.partition == 2
    sticky.move_on(3, left=2)
    assert sticky.partition == 0


def test_sticky_follows_a_topic_that_grows() -> None:
    sticky = Sticky(2)
    sticky.move_on(4, left=2)
    assert sticky.partition == 3
