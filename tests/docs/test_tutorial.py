"""The tutorial is followed, command by command, from a clone on."""

from __future__ import annotations

import site
from pathlib import Path
from typing import Final

import pytest

from tests.docs.follow import follow, left_out
from tests.docs.pages import ROOT
from tests.docs.repository import committed

PAGES: Final = sorted((ROOT / "docs").glob("*.md"))
TUTORIAL: Final = ROOT / "docs/tutorial.md"
ADDRESS: Final = "https://example.org/yak.git"


def what_yak_needs(directory: Path) -> Path:
    """What is installed beside yak here, but not yak: so pip has it, and asks nobody for it."""
    directory.mkdir()
    for folder in map(Path, site.getsitepackages()):
        for path in folder.iterdir():
            if "yak" not in path.name and path.name != "__pycache__":
                (directory / path.name).symlink_to(path)
    return directory


def test_the_tutorial(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "upstream").mkdir()
    clone = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{committed(tmp_path / 'upstream')}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    install = {
        "PYTHONPATH": str(what_yak_needs(tmp_path / "needed")),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's own way to say yes
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
    }
    follow(TUTORIAL, home, {**clone, **install})


def test_what_this_machine_lacks() -> None:
    missing = [command for page in PAGES for command in left_out(page)]
    if missing:
        pytest.skip(f"jq is not installed: {len(missing)} commands were left out")
