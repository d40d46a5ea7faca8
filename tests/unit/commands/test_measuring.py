"""The arithmetic of `yak bench`; what it does to a cluster is test_bench.py's, with a real one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yak.commands import measuring
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


class Member:
    """A consumer whose polls take a second each, and bring so many records; then none come."""

    at_end = False

    def __init__(self, brings: list[int], clock: list[float]) -> None:
        self._brings, self._clock = brings, clock

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def poll(self, timeout: float) -> list[SimpleNamespace]:
        count = self._brings.pop(0) if self._brings else 0
        self._clock[0] += 1.0 if count else timeout
        return [SimpleNamespace(value="x")] * count


@pytest.mark.parametrize(("brings", "records", "seconds"), [([30, 20], 50, 2.0), ([], 0, 0.0)])
def test_a_member_s_time_ends_with_its_last_record(
    monkeypatch: pytest.MonkeyPatch, brings: list[int], records: int, seconds: float
) -> None:
    """It goes on waiting while others read the rest; who came too late has read nothing."""
    clock = [100.0]
    ticking = SimpleNamespace(perf_counter=lambda: clock[0], process_time=lambda: 0.0)
    monkeypatch.setattr(measuring, "time", ticking)
    monkeypatch.setattr(measuring, "Consumer", lambda *_, **__: Member(brings, clock))
    figures = measuring.consume("127.0.0.1:1", "t", None, "g")
    assert (figures.records, figures.seconds) == (records, seconds)
