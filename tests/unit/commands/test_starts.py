"""Where a consumer starts."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from yak.commands.starts import At, Last, Start, parse_start, since

MOMENT = 1_795_340_460_000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", "beginning"),
        ("end", "end"),
        ("stored", "stored"),
        ("0", 0),
        ("41", 41),
        ("-5", Last(5)),
        ("-0", Last(0)),
        (f"@{MOMENT}", At(MOMENT)),
        ("@2026-11-22T09:41:00Z", At(MOMENT)),
        (f"s@{MOMENT}", At(MOMENT)),
        ("@2026-11-22T10:41:00.250+01:00", At(MOMENT + 250)),
        ("@1969-01-01T00:00:00Z", At(0)),
    ],
)
def test_starts(text: str, start: Start) -> None:
    assert parse_start(text) == start


def test_a_time_without_a_zone_is_local() -> None:
    local = datetime.fromtimestamp(MOMENT / 1000).replace(tzinfo=None)  # noqa: DTZ006 -- local time is meant
    assert parse_start(f"@{local.isoformat()}") == At(MOMENT)


@pytest.mark.parametrize(
    "text", ["", "somewhere", "1.5", "--5", "9007199254740992", "@", "@yesterday", "@-5", "@1e3"]
)
def test_no_starts(text: str) -> None:
    with pytest.raises(ValueError, match="say"):
        parse_start(text)


def test_since() -> None:
    before = int((time.time() - 60) * 1000)
    assert before <= since(60).ms <= before + 10_000
    assert since(1e12) == At(0)
