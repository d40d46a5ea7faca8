"""What the brokers of a long run keep small, and what their stories say of how they did it.

The log is cut every few seconds and little of it is retained, so that who was away for some
seconds, or lost its directory, is filled by a full copy.  Topics come in three kinds:

    steady      read by groups that have to get everything: retention leaves far more than they
                are ever behind
    forgetful   keeps seconds: who reads it may find that something went before it came
    others      none, or by chance as the forgetful ones

Stories are counted from each broker's events.jsonl, of directories that are wiped before they go.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.wire import Fields

KIB: Final = 1024

#: event -> what the report calls it.
TOLD: Final = {
    "checkpoint": "checkpoints",
    "log_cut": "log cuts",
    "copying": "copies begun",
    "begins_anew": "copies installed",
}
#: No disk fails in a long run, and no broker forgets what it had: these are anomalies.
AMISS: Final = frozenset({
    "storage_failed", "file_damaged", "flush_failed", "file_unreadable", "not_tidied",
    "checkpoint_waits", "error", "critical",
})  # fmt: skip


class House(NamedTuple):
    """How small everything is: bytes, and milliseconds."""

    segment: int
    log_segment: int
    log_retained: int
    checkpoint_bytes: int
    checkpoint_operations: int
    #: Retention of steady topics, and of forgetful ones.
    steady: Fields
    forgetful: Fields

    def zk_options(self) -> tuple[str, ...]:
        return ("--oplog-segment-bytes", str(self.log_segment))

    def broker_options(self) -> tuple[str, ...]:
        return (
            *("--oplog-retain-bytes", str(self.log_retained)),
            *("--checkpoint-bytes", str(self.checkpoint_bytes)),
            *("--checkpoint-operations", str(self.checkpoint_operations)),
            *("--retention-check-ms", "1000", "--trash-ms", "2000"),
        )

    def config(self, *, steady: bool, forgets: bool) -> Fields:
        """A topic's config."""
        kept = self.steady if steady else self.forgetful if forgets else {}
        return {"segment_bytes": self.segment, **kept}


#: At 50 KB/s: a log of ten seconds, steady topics of some minutes.
LONG: Final = House(
    32 * KIB, 128 * KIB, 256 * KIB, 256 * KIB, 1000,
    {"retention_bytes": 256 * KIB, "retention_ms": 240_000},
    {"retention_bytes": 64 * KIB, "retention_ms": 10_000},
)  # fmt: skip
#: All that in a minute.
SHORT: Final = House(
    8 * KIB, 32 * KIB, 32 * KIB, 64 * KIB, 200,
    {"retention_bytes": 256 * KIB},
    {"retention_bytes": 16 * KIB, "retention_ms": 3000},
)  # fmt: skip


class Stories:
    """Counts what brokers told."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        #: What is amiss, as it was told.
        self.amiss: list[str] = []

    def read(self, data_dir: Path) -> None:
        """All that is there, once."""
        for path in sorted(data_dir.glob("events*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # a kill may cut the last one
                    self._count(json.loads(line))

    def _count(self, entry: Fields) -> None:
        event = entry["event"]
        self.events[event] += 1
        damaged = event == "started" and entry["state"] == "damaged"
        if event in AMISS or damaged:
            self.amiss.append(f"{entry['process']} told of {event}: {entry}")

    def figures(self) -> dict[str, int]:
        return {name: self.events[event] for event, name in TOLD.items()}
