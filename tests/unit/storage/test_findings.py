"""What a story says of the disk, as `status` has it."""

from __future__ import annotations

from typing import Any

from yak.config import MAX_FINDING_CHARS, MAX_FINDINGS
from yak.storage.findings import Findings


def heard(*events: tuple[str, dict[str, Any]]) -> Findings:
    """These events, a millisecond after each other, from 1 on."""
    found = Findings()
    for time, (event, fields) in enumerate(events, 1):
        found.hear(time, event, fields)
    return found


def test_a_start_that_finds_its_log_torn_is_told_until_it_is_whole_and_after() -> None:
    start = ("started", {"state": "torn", "reason": "12 bytes were cut"})
    found = heard(start)
    (one,) = found.listed
    assert (one.time, one.kind, one.what, one.times) == (1, "torn", "12 bytes were cut", 1)
    assert (one.mended, one.how) == (None, "")
    assert found.is_open("torn", "damaged")
    found.hear(9, "whole_again", {"reason": "in sync"})
    assert (one.mended, one.how) == (9, "in sync")
    assert not found.is_open("torn")
    assert found.listed == [one]


def test_what_is_whole_and_what_yak_zk_starts_with_is_nothing() -> None:
    start = ("started", {"state": "whole", "reason": ""})
    assert heard(start, ("started", {"epoch": 3}), ("whole_again", {}), ("x", {})).listed == []


def test_the_same_again_counts_until_it_is_mended() -> None:
    full = ("storage_failed", {"reason": "No space left", "end": 7})
    found = heard(full, full, ("storage_failed", {"reason": "no room"}), ("storage_goes_on", {}))
    found.hear(8, *full)
    first, second = found.listed
    assert (first.kind, first.times, first.mended) == ("refused", 3, 4)
    assert first.what == "No space left; then: no room"
    assert (second.times, second.time, second.mended) == (1, 8, None)


def test_each_kind_is_mended_by_its_own_end() -> None:
    found = heard(
        ("storage_failed", {"reason": "a"}),
        ("flush_failed", {"reason": "b"}),
        ("checkpoint_waits", {"reason": "c"}),
        ("file_unreadable", {"reason": "d"}),
        ("flushed_again", {}),
        ("checkpoint", {"index": 3}),
    )
    assert {one.kind: one.mended for one in found.listed} == {
        "refused": None,
        "unflushed": 5,
        "no_checkpoint": 6,
        "unreadable": None,
    }


def test_what_was_damaged_and_where_it_is_kept_is_one_finding() -> None:
    kept = {"state": "damaged", "reason": "damaged, kept in damaged/1", "kept": ["damaged/1"]}
    found = heard(("file_damaged", {"reason": "t/0: no crc"}), ("started", kept))
    (one,) = found.listed
    assert one.what == "t/0: no crc; then: damaged, kept in damaged/1"
    later = heard(("started", {"state": "whole", "reason": "", "kept": ["damaged/1"]}))
    assert [(one.kind, one.what.endswith("damaged/1")) for one in later.listed] == [("kept", True)]


def test_it_is_bounded_and_what_is_not_mended_stays() -> None:
    events: list[tuple[str, dict[str, Any]]] = [("file_damaged", {"reason": "x" * 5000})]
    for number in range(MAX_FINDINGS + 5):
        events += [("storage_failed", {"reason": str(number)}), ("storage_goes_on", {})]
    found = heard(*events)
    assert len(found.listed) == MAX_FINDINGS
    assert found.listed[0].kind == "damaged"
    assert len(found.listed[0].what) == MAX_FINDING_CHARS
    assert found.listed[1].what == "6"
