"""`yak up`: which brokers, on which ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from yak.commands.chosen_ports import chosen_ports
from yak.commands.options import PortsType
from yak.commands.up import _ids
from yak.local.cluster import Ports


def make(directory: Path, *brokers: int) -> Path:
    for broker in brokers:
        (directory / f"broker-{broker}").mkdir()
        (directory / f"broker-{broker}" / "meta.json").touch()
    return directory


def test_as_many_as_there_were_else_three(tmp_path: Path) -> None:
    assert _ids(tmp_path, None) == [1, 2, 3]
    assert _ids(tmp_path, 1) == [1]
    make(tmp_path, 1, 2, 7, 10)
    (tmp_path / "broker-x").mkdir()
    assert _ids(tmp_path, None) == [1, 2, 7, 10]


def test_those_that_are_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ids(make(tmp_path, 1, 2, 3), 2) == [1, 2]
    assert "has broker 3 as well" in capsys.readouterr().out
    assert _ids(tmp_path, 1) == [1]
    assert "has brokers 2 and 3 as well" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        (None, Ports(2181, {1: 9092, 3: 9094})),
        ("any", Ports(0, {1: 0, 3: 0})),
        ("0", Ports(0, {1: 0, 3: 0})),
        ("19000", Ports(19000, {1: 19001, 3: 19002})),
        ("5,7,6", Ports(5, {1: 7, 3: 6})),
    ],
)
def test_where_they_listen(given: str | None, ports: Ports) -> None:
    parsed = None if given is None else PortsType().convert(given, None, None)
    assert chosen_ports(parsed, [1, 3]) == ports


@pytest.mark.parametrize("given", ["1,2", "1,2,3,4", "65534"])
def test_too_few_too_many_too_high(given: str) -> None:
    with pytest.raises(click.UsageError, match="need 3 ports"):
        chosen_ports(PortsType().convert(given, None, None), [1, 3])


@pytest.mark.parametrize("given", ["", "x", "1,", "-1", "65536", "any,1"])
def test_what_is_no_port(given: Any) -> None:
    with pytest.raises(click.BadParameter, match="say any"):
        PortsType().convert(given, None, None)


def test_pages_of_metrics_stand_in_a_row() -> None:
    assert chosen_ports([0], [1, 2], metrics=9308).metrics == 9308
    with pytest.raises(click.UsageError, match="65535"):
        chosen_ports([0], [1, 2], metrics=65534)
