"""System calls of a running process that fail or hang, by strace.

    with Injected(pid, "fsync,fdatasync,syncfs", "error=EIO"):
        ...                    its threads' syncs fail, those of threads to come too

* It holds from the moment that the constructor returns until `close`: what is under way then goes
  on, and the process lives on as if nobody had looked.
* Where the process ends meanwhile, strace ends with it.

`missing` says why this machine cannot: no strace, or a kernel that lets nobody trace.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.support.process import PATIENCE_S, wait_until

#: What makes bytes durable in yak: storage/disk.py has no other door.
SYNCS: Final = "fsync,fdatasync,syncfs"
#: Notes for nobody.
NOTHING: Final = Path("/dev/null")
#: Strace itself ends within this, on a machine that does other things too.
END_S: Final = 10.0


class Injected:
    """Something that is done to calls of one process."""

    def __init__(
        self, pid: int, calls: str, what: str = "", *, which: str = "", notes: Path = NOTHING
    ) -> None:
        """calls: "fsync,fdatasync"; what: "error=EIO", "delay_enter=5000000" (µs), ...

        which: of them, those to which it is done (all).  notes: where all of them are noted.
        """
        argv = ["strace", "-f", "-y", "-p", str(pid), "-e", f"trace={calls}"]
        if what:
            argv += ["-e", f"inject={which or calls}:{what}"]
        # -o: its notes of the calls; stderr is left to what it says about itself.
        argv += ["-o", str(notes)]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- held as long as strace runs
        self._strace = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said
        )
        try:
            wait_until(self._attached, f"strace attaches to {pid}", END_S)
        except BaseException:
            self.close()
            raise

    def _attached(self) -> bool:
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")
        if "attached" in said:
            return True
        if self._strace.poll() is not None:
            raise OSError(f"strace ended with {self._strace.returncode}: {said.strip()}")
        return False

    def __enter__(self) -> Injected:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_end(self) -> None:
        """Until the process has ended, and its last call is noted."""
        self._strace.wait(PATIENCE_S)

    def close(self) -> None:
        """Let go of the process; twice is fine."""
        if self._strace.poll() is None:
            self._strace.terminate()
            try:
                self._strace.wait(END_S)
            except subprocess.TimeoutExpired:
                self._strace.kill()  # the kernel lets its tracees go
                self._strace.wait()
        self._said.close()


@functools.cache
def missing() -> str:
    """Why no process can be traced here, or ""."""
    if shutil.which("strace") is None:
        return "no strace"
    asleep = subprocess.Popen(["sleep", "60"])
    try:
        Injected(asleep.pid, SYNCS, "error=EIO").close()
    except (OSError, AssertionError) as e:
        return f"nothing can be traced here: {e}"
    finally:
        asleep.kill()
        asleep.wait()
    return ""
