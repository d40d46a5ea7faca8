"""What a run of faults found: for people, and as JSON.

A gap is a time in which no writer was acknowledged anything.  What was done meanwhile is said with
the longest ones: whether the cluster could not go on, or took its time.

It counts and formats; what is an anomaly was said by others.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.fault.nemesis import Nemesis
from tests.soak.judge import Verdict

#: So many of the longest gaps are told of.
GAPS: Final = 3


@dataclass
class Report:
    figures: dict[str, Any]
    verdict: Verdict
    #: What else went wrong than a history shows.
    troubles: list[str]
    nemesis: Nemesis
    #: What was done, line by line.
    story: list[str]

    @property
    def anomalies(self) -> int:
        return self.verdict.count + len(self.troubles)

    def recovery(self) -> dict[str, tuple[int, float, float]]:
        """kind -> how often, median and worst seconds until all was well again."""
        return {
            kind: (len(took), statistics.median(took), max(took))
            for kind, took in sorted(self.nemesis.healed_s.items())
        }

    def gaps(self) -> list[dict[str, Any]]:
        """The longest ones: how long, and what was under way, in seconds after its beginning."""
        return [
            {
                "seconds": round(end - begin, 1),
                "meanwhile": [
                    {
                        "from": round(span.began - begin, 1),
                        "to": round(span.ended - begin, 1),
                        "what": span.what,
                    }
                    for span in self.nemesis.spans
                    if span.began < end and span.ended > begin
                ],
            }
            for begin, end in self.verdict.gaps()[:GAPS]
        ]

    def summary(self) -> str:
        every = [took for kind in self.nemesis.healed_s.values() for took in kind]
        lines = [f"{name:<28} {value}" for name, value in self.figures.items()]
        if every:
            median, worst = statistics.median(every), max(every)
            lines.append(f"{'well again':<28} {median:.1f} s in the median, {worst:.1f} s at worst")
        lines += [f"{'anomalies':<28} {self.anomalies}", *self.verdict.lines(), *self.troubles]
        lines += ["", f"{'kind':<28} made  alone  well again after (median, worst)"]
        recovery = self.recovery()
        for kind in sorted(self.nemesis.made | dict.fromkeys(recovery, 0)):
            made = self.nemesis.made[kind] or "-"
            count, median, worst = recovery.get(kind, (0, 0.0, 0.0))
            took = f"{count:>5}  {median:.1f} s, {worst:.1f} s" if count else "    -"
            lines.append(f"{kind:<28} {made:>4}  {took}")
        skipped = sorted(self.nemesis.missing.items())
        lines += [f"{kind:<28} skipped: {why}" for kind, why in skipped]
        for what, count in sorted(self.nemesis.unable.items()):
            lines.append(f"not this time ({count}): {what}")
        return "\n".join([*lines, "", *self._of_gaps()])

    def _of_gaps(self) -> list[str]:
        lines = []
        for gap in self.gaps():
            lines.append(f"nobody was acknowledged anything for {gap['seconds']:.1f} s; meanwhile:")
            for span in gap["meanwhile"]:
                lines.append(f"    {span['from']:6.1f} to {span['to']:5.1f} s  {span['what']}")
            if not gap["meanwhile"]:
                lines.append("    no fault")
        return lines

    def write(self, path: Path) -> None:
        data = {
            **self.figures,
            "made": dict(sorted(self.nemesis.made.items())),
            "skipped": self.nemesis.missing,
            "not this time": dict(self.nemesis.unable),
            "gaps": self.gaps(),
            "recovery": {
                kind: {"times": times, "median_s": round(median, 2), "worst_s": round(worst, 2)}
                for kind, (times, median, worst) in self.recovery().items()
            },
            "anomalies": {"count": self.anomalies, **self.verdict.anomalies},
            "troubles": self.troubles,
            "story": self.story,
        }
        path.write_text(json.dumps(data, indent=1))
