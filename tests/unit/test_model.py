"""Addresses: what is understood, and what is said of the rest."""

from __future__ import annotations

import pytest

from yak.model import Address, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9092", Address("127.0.0.1", 9092)),
        (" localhost:0 ", Address("localhost", 0)),
        ("[::1]:9092", Address("::1", 9092)),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", ":9092", "host", "host:", "host:65536", "host:-1", "host:9\u00b2", "::1:9092"],
)
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="9092"):
        parse_address(text)


def test_several_addresses() -> None:
    assert parse_addresses(" a:1, b:2,") == [Address("a", 1), Address("b", 2)]


@pytest.mark.parametrize("text", ["", " , ", "a:1,b"])
def test_several_addresses_with_none(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_addresses(text)
