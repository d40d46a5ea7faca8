"""What the README shows in a terminal is typed; its programs: tests/integration/test_readme.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.docs.follow import follow
from tests.docs.pages import ROOT

FENCE: Final = "```console\n"
#: `yak up` has a terminal of its own, as the README says, and is ended when all else was shown.
LATER: Final = FENCE.replace("\n", ' title="terminal 2"\n')
THE_END: Final = f"\n{FENCE}^C\n…\nstopped\n```\n"


def test_the_readme(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed, and what the README kills with it would live")
    first, *later = (ROOT / "README.md").read_text(encoding="utf-8").split(FENCE)
    page = tmp_path / "README.md"
    page.write_text(FENCE.join([first, LATER.join(later)]) + THE_END, encoding="utf-8")
    (tmp_path / "home").mkdir()
    # Its lines are as wide as they are.
    follow(page, tmp_path / "home", {"COLUMNS": "400"})
