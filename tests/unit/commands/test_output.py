"""Tables are in columns; numbers stand to the right."""

from __future__ import annotations

from yak.commands.output import listed, many, table


def test_a_table() -> None:
    rows = [("orders", 0, 1234, "down: x"), ("a", 12, None, None)]
    assert table(("topic", "partition", "lag", "state"), rows).splitlines() == [
        "topic   partition    lag  state",
        "orders          0  1,234  down: x",
        "a              12      -  -",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("topic", "lag"), []) == "topic  lag"


def test_nouns() -> None:
    assert (many(1, "record"), many(2000, "record")) == ("1 record", "2,000 records")


def test_a_list_in_a_sentence() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    names = [str(n) for n in range(1500)]
    assert listed(names, most=3) == "0, 1 and 1,498 more"
    assert listed(names[:3], most=3) == "0, 1 and 2"
