"""Every scene, killed at each of its calls: what was done, and what was found.

    first start                    41 calls, killed at 41
    segment roll                  118 calls, killed at 40: every third, from the second on

A failed one names the call, and `--only SCENE --call "rename 3"` does it again.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.calls import Call, changes, killed, traced
from tests.kills.scenes import Reached, Scene, check


@dataclass
class Result:
    """Of one scene.  failures: the call, and what was wrong after it."""

    scene: str
    calls: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    took_s: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        failed = f"; FAILED {len(self.failures)}" if self.failures else ""
        return (
            f"{self.scene:<28} {self.calls:4} calls, killed at {self.kills.total():4} "
            f"in {self.took_s:5.1f} s: {kinds}{failed}"
        )


class Stage:
    """Where a scene is played again and again, each time from the same directory."""

    def __init__(self, scene: Scene, home: Path) -> None:
        self.scene = scene
        self.master = home / "prepared"
        self._run = home / "run"
        self._notes = home / "notes"
        self._reached = Reached()
        self._at_first = self._reached.all
        for old in (self.master, self._run):
            shutil.rmtree(old, ignore_errors=True)
        if scene.prepare is not None:
            scene.prepare(str(self.master), self._reached)
            self._at_first = self._reached.all

    @property
    def path(self) -> Path:
        """Below one that is not there either at a first start."""
        return self._run / "data"

    def play(self, kill: Call | None = None) -> Call | None:
        """Once; the call instead of which it was killed, if it was.  Raises AssertionError."""
        shutil.rmtree(self._run, ignore_errors=True)
        if self.master.exists():
            shutil.copytree(self.master, self.path)
        self._reached.note(*self._at_first)
        scene, path = self.scene, str(self.path)
        died = traced(lambda: scene.begin(path, self._reached), scene.act, self._notes, kill)
        assert died or kill is None, f"there is no {kill}: the calls of two runs are not the same"
        return killed(self._notes, self._run) if died else None

    def calls(self) -> list[Call]:
        """Of an untouched run, which has to pass as well."""
        self.play()
        found = changes(self._notes, self._run)
        self.check()
        return found

    def check(self) -> None:
        check(self.scene, str(self.path), self._reached, self.master)


def kill_everywhere(scene: Scene, home: Path, choose: Callable[[list[Call]], list[Call]]) -> Result:
    """choose: the calls to kill at, of all that there are."""
    began = time.monotonic()
    stage = Stage(scene, home)
    calls = stage.calls()
    result = Result(scene.name, len(calls))
    for call in choose(calls):
        try:
            at = stage.play(call)
            assert at == call, f"it was killed at {at}"
            stage.check()
        except Exception:  # noqa: BLE001 -- the others are tried as well; this one is reported
            result.failures.append((str(call), traceback.format_exc()))
        result.kills[call.name] += 1
    result.took_s = time.monotonic() - began
    return result
