"""Which file descriptors are put by."""

from __future__ import annotations

import resource

import pytest

from yak.config import RESERVED_DESCRIPTORS
from yak.descriptors import is_reserved


@pytest.mark.parametrize(
    ("limit", "first"),
    [
        (1024, 1024 - RESERVED_DESCRIPTORS),
        (40, 30),
        (resource.RLIM_INFINITY, None),
    ],
)
def test_the_last_ones_below_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int, first: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    if first is None:
        assert not is_reserved(2**40)
    else:
        assert not is_reserved(first - 1)
        assert is_reserved(first)
