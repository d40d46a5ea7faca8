"""The arithmetic of `yak bench`; what it does to a cluster is test_bench.py's, with a real one."""

from __future__ import annotations

import pytest

from yak.commands.measuring import Figures, quantiles, value_of


def test_quantiles_are_by_rank_and_in_milliseconds() -> None:
    found = quantiles([number / 1000 for number in reversed(range(1000))])
    assert {name: round(value, 6) for name, value in found.items()} == {
        "p50": 500, "p95": 950, "p99": 990, "p99.9": 999, "max": 999,
    }  # fmt: skip


def test_one_latency_is_every_quantile_and_none_is_none() -> None:
    assert set(quantiles([0.002]).values()) == {2.0}
    assert quantiles([]) == {}


@pytest.mark.parametrize("size", [2, 3, 100])
def test_a_value_has_its_size_with_its_quotes(size: int) -> None:
    assert len(value_of(size)) + 2 == size


def test_rates_are_by_the_second() -> None:
    figures = Figures("produce", "t", records=300, bytes=3_000_000, seconds=1.5)
    assert (figures.records_per_second, figures.megabytes_per_second) == (200, 2)
    assert Figures("produce", "t").records_per_second == 0
