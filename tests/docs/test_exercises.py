"""The exercises for a class are followed, command by command."""

from __future__ import annotations

from pathlib import Path

from tests.docs.follow import follow
from tests.docs.pages import ROOT


def test_the_exercises(tmp_path: Path) -> None:
    follow(ROOT / "docs/teachers.md", tmp_path)
