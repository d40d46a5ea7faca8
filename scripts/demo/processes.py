"""The commands as a user starts them, and all that they say.

A server prints `listening on HOST:PORT` once it is ready; a command ends by itself.  What they
write to stderr lies in `output/NAME.log`, for whoever wants to know what went wrong.

Not here: what the story does with them.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_READY: Final = b"listening on "
#: Longest a server may take to listen, a command to end: far more than any machine needs.
_START_LIMIT_S: Final = 20.0
_STOP_LIMIT_S: Final = 10.0
COMMAND_LIMIT_S: Final = 60.0


class Failure(Exception):  # noqa: N818 -- the demonstration failed, and this says how
    """Something is not as promised."""


class Process:
    """One running command."""

    def __init__(
        self,
        name: str,
        args: list[str],
        output: Path,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: Path | None = None,
    ) -> None:
        self.name = name
        self.log = output / f"{name}.log"
        with ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            out = files.enter_context(stdout.open("wb")) if stdout else subprocess.PIPE
            self.popen = subprocess.Popen(  # noqa: S603 -- our own commands
                args,
                stdin=stdin,
                stdout=out,
                stderr=log,
                env=_environment(),
            )

    def wait_until_it_listens(self) -> str:
        """HOST:PORT, once the process has said that it listens there."""
        assert self.popen.stdout is not None
        fd = self.popen.stdout.fileno()
        deadline = time.monotonic() + _START_LIMIT_S
        said = b""
        while b"\n" not in said:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([fd], [], [], remaining)[0]:
                raise Failure(f"{self.name} did not listen within {_START_LIMIT_S:g} s")
            part = os.read(fd, 4096)
            if not part:
                raise Failure(f"{self.name} ended with exit code {self.popen.wait()}")
            said += part
        line = said.split(b"\n", 1)[0]
        if not line.startswith(_READY):
            raise Failure(f"{self.name} said {line!r} where `listening on …` was expected")
        return line[len(_READY) :].decode()

    def kill(self) -> None:
        """kill -9: it gets no chance to say or write anything more."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(_STOP_LIMIT_S)

    def terminate(self) -> None:
        """Ask it to end, and see that it does so in order."""
        self.popen.terminate()
        try:
            code = self.popen.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"{self.name} did not end within {_STOP_LIMIT_S:g} s of SIGTERM") from e
        if code != 0:
            raise Failure(f"{self.name} ended with exit code {code} after SIGTERM")

    def close(self) -> None:
        """Whatever happens, nothing is left running."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


def command(name: str) -> str:
    """Where an installed command is: beside the Python that runs this."""
    return str(Path(sys.executable).parent / name)


def run(name: str, args: list[str], output: Path, *, stdout: Path | None = None) -> str:
    """Run a command to its end; what it printed, unless that went to the file `stdout`."""
    process = Process(name, args, output, stdout=stdout)
    try:
        printed, _ = process.popen.communicate(timeout=COMMAND_LIMIT_S)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"{name} did not end within {COMMAND_LIMIT_S:g} s") from e
    finally:
        process.close()
    if process.popen.returncode != 0:
        raise Failure(f"{name} ended with exit code {process.popen.returncode}")
    return (printed or b"").decode()


def _environment() -> dict[str, str]:
    """Ours, without the options that somebody may have set for yak in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("YAK_")}
