"""One spawned command of the project: its output in files, its end by its own pid.

* A server is ready when it has printed `listening on HOST:PORT` on stdout; nothing waits longer
  than it must, and every wait has a deadline after which it says what it waited for.
* The environment is the caller's without any `YAK_*`, so that a developer's shell changes nothing;
  and byte code is kept, as users have it: compiling yak takes twice as long as starting it.
* Each process leads its own process group: a Ctrl-C on the test run does not reach it, and it is
  ended by its own pid alone, whatever became of the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tests.support.wire import Address

T = TypeVar("T")

#: How often a condition is looked at again.
POLL_S = 0.02
#: A process that should start or stop has this long, on a machine that does other things too.
PATIENCE_S = 30.0
#: Of a process's output, this much is attached to a failed test.
TAIL_BYTES = 12_000

_LISTENING = re.compile(r"^listening on (.+):(\d+)$", re.MULTILINE)


def wait_until(
    look: Callable[[], T], what: str | Callable[[], str], timeout_s: float = PATIENCE_S
) -> T:
    """The first true value of `look`; an AssertionError that names `what` after the deadline.

    what: called then, where it is to say how things stand in the end.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            named = what if isinstance(what, str) else what()
            raise AssertionError(f"after {timeout_s} s still not: {named} (last seen: {seen!r})")
        time.sleep(POLL_S)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without YAK_*, and without colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YAK_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", **extra}


def command(name: str) -> str:
    """The installed command of this interpreter's environment."""
    return str(Path(sys.executable).parent / name)


class Process:
    """A running (or ended) command."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        *,
        stdin: int | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """name: also that of its output's files in `directory`, its working directory.

        before: a command that becomes this one, as `nsenter --net=FILE`.
        """
        self.name = name
        self.argv = [*before, command(argv[0]), *argv[1:]]
        self.stdout_path = directory / f"{name}.stdout"
        self.stderr_path = directory / f"{name}.stderr"
        self.stopped = False
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.popen = subprocess.Popen(
                self.argv,
                cwd=directory,
                env=dict(env) if env is not None else environment(),
                stdin=stdin,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def rss_bytes(self) -> int:
        """What it holds in memory now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    @property
    def answering(self) -> bool:
        """Running, and not stopped by us."""
        return self.running and not self.stopped

    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def wait_listening(self, timeout_s: float = PATIENCE_S) -> Address:
        """Where it listens, from its own words."""

        def look() -> re.Match[str] | None:
            found = _LISTENING.search(self.stdout())
            if found is None and not self.running:
                raise AssertionError(
                    f"{self.name} ended with {self.popen.returncode} before it listened: "
                    f"{self.stderr()[-2000:]}"
                )
            return found

        found = wait_until(look, f"{self.name} prints `listening on HOST:PORT`", timeout_s)
        assert found is not None
        return found[1].strip("[]"), int(found[2])

    def signal(self, number: int) -> None:
        """A signal to this process alone; nothing where it has already ended."""
        if self.running:
            self.popen.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: alive for the kernel, dead for everybody who waits for it."""
        self.signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self.stopped = False

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken it away."""
        self.signal(signal.SIGKILL)
        self.popen.wait(PATIENCE_S)
        self.stopped = False

    def terminate(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout_s} s") from None

    def close(self) -> None:
        """Whatever state it is in: it ends now."""
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        if self.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()

    def report(self) -> str:
        """What a failed test shows of it."""
        state = "running" if self.running else f"exit code {self.popen.returncode}"
        shown = [f"$ {' '.join(self.argv)}   (pid {self.pid}, {state})"]
        for path in (self.stdout_path, self.stderr_path):
            with contextlib.suppress(OSError):
                text = path.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
                shown += [f"-- {path.name}", text.rstrip()] if text else []
        return "\n".join(shown)
