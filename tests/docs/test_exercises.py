"""The exercises for a class are followed, command by command: by `make exercises`.

Not with every test: some steps are told to people, who look before they go on; typed at once on a
busy machine, one in four runs went on before the other terminal had done its part.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.follow import follow
from tests.docs.pages import ROOT


@pytest.mark.skipif("YAK_EXERCISES" not in os.environ, reason="make exercises runs it")
def test_the_exercises(tmp_path: Path) -> None:
    follow(ROOT / "docs/teachers.md", tmp_path)
