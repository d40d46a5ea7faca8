"""The scripts that a shell reads: one for each installed command, and whole."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from yak.commands.completion import PROGRAMS, SHELLS, completion, scripts


def test_every_installed_command_is_completed() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert set(PROGRAMS) == set(project["project"]["scripts"])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_asks_the_program_by_its_variable(shell: str) -> None:
    made = scripts(shell, PROGRAMS)
    assert len(made) == len(PROGRAMS)
    for program, script in zip(PROGRAMS, made, strict=True):
        assert program in script
        assert f"_{program.replace('-', '_').upper()}_COMPLETE" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    printed = CliRunner().invoke(completion, [shell]).output
    read = subprocess.run([shell, "-n"], input=printed, capture_output=True, text=True, timeout=30)
    assert (read.returncode, read.stderr) == (0, "")


def test_help_says_where_the_line_goes() -> None:
    said = CliRunner().invoke(completion, ["--help"]).output
    for name in ("~/.bashrc", "~/.zshrc", "config.fish"):
        assert name in said
