"""Tab, pressed in the real shells, each set up as `yak completion --help` says: on a terminal.

A shell that is not installed is skipped, and that is said.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from tests.support.cluster import Cluster
from tests.support.process import PATIENCE_S, command, environment
from yak.commands.completion import SHELLS, completion

#: Where a shell reads what it does first, beneath $HOME; and what it needs before the line.
START: Final = {
    "bash": (".bashrc", ""),
    "zsh": (".zshrc", "autoload -Uz compinit && compinit -u"),
    "fish": (".config/fish/config.fish", ""),
}
#: Becomes the shell, with its input as the terminal that gives it signals.
BECOME: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execvp(sys.argv[1], [sys.argv[1], '-i'])"
)
_ESCAPES: Final = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>])|\r")
#: To the beginning of the line, before which `echo` is put: what Tab made of it is printed whole.
_HOME: Final = "\x01"


class Shell:
    """One that runs, and what it has shown."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self._fd, inner = pty.openpty()
        argv = [sys.executable, "-S", "-c", BECOME, name]
        self._process = subprocess.Popen(
            argv, env=env, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait(self, line: str) -> bool:
        """Until this was printed, as a line of its own."""
        deadline = time.monotonic() + PATIENCE_S
        while line not in self.shown.splitlines():
            rest = max(0.0, deadline - time.monotonic())
            if not select.select([self._fd], [], [], rest)[0]:
                return False
            came = os.read(self._fd, 1 << 16).decode(errors="replace")
            self.shown += _ESCAPES.sub("", came)
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._fd)


def advice(shell: str) -> str:
    """The line that the help says."""
    said = CliRunner().invoke(completion, ["--help"]).output
    found = re.search(rf"^ *(.*yak completion {shell}.*?)   +in ", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, shared: Cluster, tmp_path: Path) -> Iterator[Shell]:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    path, before = START[name]
    start = tmp_path / path
    start.parent.mkdir(parents=True, exist_ok=True)
    start.write_text(f"{before}\n{advice(name)}\n")
    env = environment(
        HOME=str(tmp_path),
        XDG_CONFIG_HOME=str(tmp_path / ".config"),
        PATH=os.pathsep.join([str(Path(command("yak")).parent), os.environ["PATH"]]),
        YAK_BOOTSTRAP=shared.bootstrap(),
        TERM="xterm",
    )
    running = Shell(name, env)
    yield running
    running.close()


def test_tab_completes_commands_and_topics(shell: Shell, topic: str) -> None:
    # What is typed before the shell is ready waits for it.
    shell.type("echo ready\n")
    assert shell.wait("ready"), shell.shown
    for typed, completed in (
        ("yak kafka-producer-p", "yak kafka-producer-perf-test"),
        (f"yak-consume {topic[:-1]}", f"yak-consume {topic}"),
    ):
        shell.type(f"{typed}\t{_HOME}echo \n")
        assert shell.wait(completed), shell.shown
