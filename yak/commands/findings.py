"""What `yak doctor` found: one step each.

Not here: what is looked at (diagnosis.py, machine.py), and how it is shown (doctor.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Step(msgspec.Struct, kw_only=True, frozen=True):
    """One thing that was looked at.  where: host:port, a directory, or "" for this process."""

    step: str
    where: str
    state: Literal["ok", "failed", "skipped"]
    found: str
    cause: str = ""
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        return self.state == "ok"


def ok(step: str, where: object, found: str) -> Step:
    return Step(step=step, where=str(where), state="ok", found=found)


def failed(step: str, where: object, found: str, cause: str, fix: str) -> Step:
    return Step(step=step, where=str(where), state="failed", found=found, cause=cause, fix=fix)


def skipped(step: str, where: object, needs: str) -> Step:
    return Step(step=step, where=str(where), state="skipped", found=needs)
