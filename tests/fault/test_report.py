"""What the report says of the longest gaps, and of kinds that are skipped."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fault.disks import Wiped
from tests.fault.fault import Fault
from tests.fault.field import Field
from tests.fault.machine import ClockJumps
from tests.fault.nemesis import Nemesis, Span
from tests.fault.report import Report
from tests.soak.judge import Verdict
from tests.support.cluster import Cluster


def nemesis_of(directory: Path, *kinds: type[Fault]) -> Nemesis:
    field = Field(Cluster(directory))
    return Nemesis(field, random.Random(1), kinds, lambda: None)


def test_a_gap_is_told_with_what_was_under_way_in_it(tmp_path: Path) -> None:
    nemesis = nemesis_of(tmp_path)
    nemesis.spans = [
        Span("before", 1.0, 2.0),
        Span("reaching in", 9.0, 11.5),
        Span("all along", 9.5, 16.0),
        Span("in the other", 21.0, 21.5),
        Span("after", 23.0, 24.0),
    ]
    verdict = Verdict(acknowledged_at=[22.0, 9.9, 10.0, 20.5, 15.0, 20.4])
    report = Report({}, verdict, [], nemesis, [])
    longest, second, third = report.gaps()
    assert [gap["seconds"] for gap in (longest, second, third)] == [5.4, 5.0, 1.5]
    assert [span["what"] for span in longest["meanwhile"]] == ["all along"]
    assert [span["what"] for span in second["meanwhile"]] == ["reaching in", "all along"]
    assert (second["meanwhile"][0]["from"], second["meanwhile"][0]["to"]) == (-1.0, 1.5)
    said = report.summary()
    assert "nobody was acknowledged anything for 5.4 s" in said
    assert "in the other" in said
    assert "before" not in said


def test_kinds_that_cannot_be_are_skipped_and_counted(tmp_path: Path) -> None:
    class Never(ClockJumps):
        kind = "never"

        def missing(self, field: Field) -> str:
            return "not on this machine"

    nemesis = nemesis_of(tmp_path, Never, Wiped)
    assert nemesis.missing == {"never": "not on this machine"}
    assert "skipped: not on this machine" in Report({}, Verdict(), [], nemesis, []).summary()
