"""A terminal with bash in it, as a reader of the documentation has one.

It is a real terminal (a pty), of 100 columns if nothing else is said: keys are signals, and
commands show what they show to people.  Colours are left out, and what is typed is not echoed.

Each has one command at a time; its end is told by bash's own prompt, with the exit code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

COLUMNS: Final = 100
#: A command that a reader would wait for has this long, on a machine that does other things too.
PATIENCE_S: Final = 60.0
_ROWS: Final = 40
#: What bash prints before it reads the next command: the exit code, between two control characters.
_PROMPT: Final = re.compile(rb"\x01(\d+)\x02")
#: jq's, which knows nothing of NO_COLOR.
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ASK: Final = r"""PS1= PS2= PROMPT_COMMAND='printf "\1%d\2" $?'; set +H; stty -echo"""
#: Becomes bash, with its input as the terminal that gives it signals.
_BASH: Final = (
    "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execvp('bash', ['bash', '--norc', '--noprofile', '--noediting', '-i'])"
)


class Terminal:
    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        """env: with COLUMNS."""
        self._fd, inner = pty.openpty()
        size = struct.pack("HHHH", _ROWS, int(env["COLUMNS"]), 0, 0)
        fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
        self._bash = subprocess.Popen(
            [sys.executable, "-S", "-c", _BASH],
            cwd=directory,
            env=dict(env),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._came = b""
        self._type(_ASK)
        assert self.wait_end(), "bash does not answer"

    def close(self) -> None:
        """Bash ends, and hangs up on whatever it runs in front."""
        with contextlib.suppress(ProcessLookupError):
            foreground = os.tcgetpgrp(self._fd)
            if foreground != self._bash.pid:
                os.killpg(foreground, signal.SIGKILL)
        self._bash.kill()
        self._bash.wait(PATIENCE_S)
        os.close(self._fd)

    def run(self, command: str) -> None:
        """Type it, once the one before has ended."""
        assert self.wait_end(), f"before {command}: what was typed before it still runs"
        self._came = b""
        self._type(command)

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    @property
    def ended(self) -> int | None:
        """The exit code of the command; None while it runs."""
        found = _PROMPT.search(self._came)
        return int(found[1]) if found else None

    def lines(self) -> list[str]:
        """What the command has printed since it was typed."""
        raw = _PROMPT.split(self._came)[0].decode(errors="replace")
        text = _COLOUR.sub("", raw).replace("\r\n", "\n")
        lines = text.replace("^C", "").split("\n")  # the terminal itself shows that key
        while lines and not lines[-1]:  # bash adds one after Ctrl-C
            del lines[-1]
        return lines

    def wait(self, look: Callable[[], bool], limit_s: float = PATIENCE_S) -> bool:
        """Read until it is so; False after the limit."""
        deadline = time.monotonic() + limit_s
        while not look():
            rest = deadline - time.monotonic()
            if rest < 0 or not select.select([self._fd], [], [], rest)[0]:
                return False
            self._came += os.read(self._fd, 1 << 16)
        return True

    def wait_end(self, limit_s: float = PATIENCE_S) -> bool:
        return self.wait(lambda: self.ended is not None, limit_s)

    def _type(self, command: str) -> None:
        os.write(self._fd, command.encode() + b"\n")
