"""One command that was started here: yak-zk, or a broker.

* It is in a session of its own: a Ctrl-C in the terminal is ours, and we say in which order they
  end.  What it writes to stderr goes to a file, so that it does not depend on us.
* It says where it listens in one line on its stdout; that pipe's end is the process's.
* Why it ended, it says itself: `words`.

It knows nothing of what the process does.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from yak.errors import Fatal
from yak.local.pids import Pid, born

#: A process on a machine that does other things too.
LISTEN_LIMIT_S: Final = 30.0
_LISTENING: Final = b"listening on "
_SETTING: Final = "YAK_"
#: Of a process that said no `error:`, so many lines are shown.
_LAST_LINES: Final = 12


def command(name: str) -> list[str]:
    """How one of our commands is started by this interpreter: `yak-broker`."""
    script = Path(sys.executable).parent / name
    if script.exists():
        return [str(script)]
    return [sys.executable, "-m", "yak", name.removeprefix("yak-")]


def own_settings() -> dict[str, str]:
    """The YAK_* of our environment: options of whatever is started by it."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SETTING)}


def _others() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTING)}


class Process:
    """See the module's text.

    argv: its whole command.  log: its stderr, begun anew.  holds: its stdin is a pipe that ends
    with us, else empty.  env: the YAK_* of its environment; ours, if left out.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        holds: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = own_settings() if env is None else dict(env)
        self.log = log
        #: HOST:PORT, once it has said so.
        self.address = ""
        self._said = b""
        try:
            with log.open("wb") as stderr:
                self._popen = subprocess.Popen(  # noqa: S603 -- our own commands
                    self.argv,
                    stdin=subprocess.PIPE if holds else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                    env={**_others(), **self.env},
                )
        except OSError as e:
            raise Fatal(f"{name} cannot be started: {e.strerror}: {e.filename}") from e
        self.id = Pid(self._popen.pid, born(self._popen.pid))

    @property
    def stdout(self) -> int:
        """Readable when it has said something, or has ended."""
        assert self._popen.stdout is not None
        return self._popen.stdout.fileno()

    def hear(self) -> bool:
        """Read what it said; False once it has ended, or shut its stdout."""
        part = os.read(self.stdout, 4096)
        self._said += part
        for line in self._said.split(b"\n")[:-1]:  # where it tells metrics may stand before
            if line.startswith(_LISTENING):
                self.address = line[len(_LISTENING) :].decode()
        return bool(part)

    @property
    def code(self) -> int | None:
        """Its exit code; minus the signal's number where one ended it; None: it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def kill(self) -> None:
        """kill -9, and it is gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def wait(self) -> int:
        """Until it has ended by itself."""
        return self._popen.wait()

    def close(self) -> None:
        """Let go of its pipes; the process may run on."""
        for pipe in (self._popen.stdout, self._popen.stdin):
            if pipe is not None:
                pipe.close()

    def words(self) -> str:
        """Why it ended, in its own words where it has any."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        code = self.code
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"killed by {signal.Signals(-code).name}"
        said = [line for line in lines if line.strip()][-_LAST_LINES:]
        return how + (f", after it said: {' | '.join(said)}" if said else "")


def wait_listening(processes: Collection[Process], limit_s: float) -> None:
    """Until each has said where it listens.  Raises Fatal where one ends, or is late."""
    deadline = time.monotonic() + limit_s
    waiting = {process.stdout: process for process in processes if not process.address}
    with selectors.DefaultSelector() as selector:
        for fd in waiting:
            selector.register(fd, selectors.EVENT_READ)
        while waiting:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                late = ", ".join(process.name for process in waiting.values())
                raise Fatal(f"{late} did not listen within {limit_s:g} s; is the machine so busy?")
            for key, _ in ready:
                process = waiting[key.fd]
                if not process.hear():
                    process.wait()
                    raise Fatal(f"{process.name} could not start: {process.words()}")
                if process.address:
                    selector.unregister(key.fd)
                    del waiting[key.fd]
