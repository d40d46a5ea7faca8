"""Whatever is done to a small data directory, and to several places of it at once.

What a start may come to is test_recovery_bytes.py's to say.  In a test run the examples are the
same each time; `make fuzz EXAMPLES=100000` tries others, and many (tests/fuzz).
"""

from __future__ import annotations

import copy
import os
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_disk import MemoryDisk
from tests.unit.storage import test_recovery_bytes as every_byte

lived = every_byte.lived

_EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "0"))

#: (file by its number, what is done, where, how long, with what); places are parts of a whole.
damages: Final = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.sampled_from(("flip", "cut", "drop", "insert", "repeat", "zero", "gone")),
        st.floats(0, 1),
        st.integers(1, 60),
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=3,
)


def done_to(data: bytes, what: str, place: float, size: int, new: bytes) -> bytes:
    """A file's bytes after that."""
    at = int(place * (len(data) - 1))
    match what:
        case "flip":
            return data[:at] + bytes([data[at] ^ (1 << size % 8)]) + data[at + 1 :]
        case "cut":
            return data[:at]
        case "drop":
            return data[:at] + data[at + size :]
        case "insert":
            return data[:at] + new + data[at:]
        case "repeat":
            return data[: at + size] + data[at:]
        case _:
            return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


@pytest.mark.timeout(0 if _EXAMPLES else 120)
@settings(
    max_examples=_EXAMPLES or 150,
    derandomize=not _EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(damages)
def test_a_start_ends_in_one_of_its_ways(
    lived: every_byte.Lived, damage: list[tuple[int, str, float, int, bytes]]
) -> None:
    disk: MemoryDisk = copy.deepcopy(lived.disk)
    paths = sorted(filter(every_byte.is_ours, lived.files))
    for number, what, *how in damage:
        harm(disk, paths[number % len(paths)], what, *how)
    found = every_byte.outcome(lived, disk)
    assert found in every_byte.SOUND | {every_byte.LINE_ONLY}


def harm(disk: MemoryDisk, path: str, what: str, *how: Any) -> None:
    """Whoever does that does not ask the broker."""
    data = disk.tree("/data").get(path, b"")
    if not data:
        return
    if what == "gone":
        if path != every_byte.META:  # without it this is no data directory, and no file to blame
            disk.unlink(path)
        return
    disk.truncate(path, 0)
    disk.append(path, [done_to(data, what, *how)])
