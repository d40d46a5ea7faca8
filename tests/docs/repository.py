"""A copy of this repository, as git would take it in: what a reader clones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.docs.pages import ROOT


def known_to_git() -> list[str]:
    """Paths of what is in git, or would be taken in: the repository, not the machine."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


def copied(directory: Path) -> Path:
    """Into this directory, without git's own."""
    for name in known_to_git():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, directory / name)
    return directory


def committed(directory: Path) -> Path:
    """The same, with all of it in one commit."""
    copied(directory)
    who = ("-c", "user.name=yak", "-c", "user.email=yak@example.org")
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "All of it"]):
        subprocess.run(["git", *command], cwd=directory, check=True, timeout=60)
    return directory
