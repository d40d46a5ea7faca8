"""Families become the text that Prometheus reads."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from yak.metrics import exposition
from yak.metrics.exposition import counted, gauge, histogram, single, text
from yak.net.timing import Histogram


def read(written: bytes) -> list[Sample]:
    families = text_string_to_metric_families(written.decode())
    return [sample for family in families for sample in family.samples]


def test_a_family_in_pieces_is_one_family() -> None:
    rows: list[exposition.Row] = [((f"t{n}",), n) for n in range(3 * exposition.PIECE + 1)]
    families = list(gauge("yak_many", "Many.", ("topic",), rows))
    assert [len(family.samples) for family in families] == [100, 100, 100, 1]
    written = asyncio.run(text(families))
    assert written.count(b"# HELP yak_many Many.\n") == written.count(b"# TYPE yak_many gauge\n")
    assert written.count(b"# TYPE") == 1
    assert [(s.labels, s.value) for s in read(written)] == [
        ({"topic": name}, value) for (name,), value in rows
    ]


def test_names_that_people_give_are_escaped() -> None:
    group = 'a "group"\nwith \\ and ü'
    written = asyncio.run(text(gauge("yak_g", "G.", ("consumergroup",), [((group,), 1)])))
    assert written.count(b"\n") == 3
    (sample,) = read(written)
    assert sample.labels == {"consumergroup": group}


def test_counters_are_totals_and_gauges_are_not() -> None:
    families = [*counted(yak_sent=("Sent.", 3)), *single(yak_here=("Here.", 2.5))]
    written = asyncio.run(text(families))
    assert [(s.name, s.value) for s in read(written)] == [("yak_sent_total", 3), ("yak_here", 2.5)]


def test_a_histogram_has_its_buckets_sum_and_count() -> None:
    one = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 7.0):
        one.add(value)
    written = asyncio.run(text(histogram("yak_s", "S.", "type", {"fetch": one})))
    found = {(s.name, s.labels.get("le")): s.value for s in read(written)}
    assert found == {
        ("yak_s_bucket", "0.1"): 1,
        ("yak_s_bucket", "1.0"): 2,
        ("yak_s_bucket", "+Inf"): 3,
        ("yak_s_count", None): 3,
        ("yak_s_sum", None): 7.55,
    }


def test_writing_gives_way_between_pieces() -> None:
    rows: list[exposition.Row] = [((str(n),), n) for n in range(5 * exposition.PIECE)]

    async def play() -> int:
        writing = asyncio.ensure_future(text(gauge("yak_many", "Many.", ("n",), rows)))
        rounds = 0
        while not writing.done():
            await asyncio.sleep(0)
            rounds += 1
        return rounds

    assert asyncio.run(play()) >= 5
