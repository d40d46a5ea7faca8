"""A reader who follows a page: types each command, and compares what comes with what is shown.

* A page has a directory of its own, and as many terminals as it names.
* Ports are free ones (YAK_UP_PORTS), since others may run on this machine; the address that a page
  names in a command is put right.  Sessions are longer, so that a machine that stands still for two
  seconds elects nobody, and the first leader is broker 1 also where that one starts late.
* A reader takes seconds between two commands, and a test none: what only looks (LOOKS) is typed
  again for a while, until what comes is what the page shows.
* That a command says what it waits for is left out, where the page does not show it.
* A command that needs what this machine does not have (MAY_LACK) is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.docs.compare import consumed, difference, masked
from tests.docs.pages import KEYS, ROOT, Shown, Step, Typed, steps
from tests.docs.terminal import COLUMNS, PATIENCE_S, Terminal
from tests.support.process import environment
from yak.errors import Fatal
from yak.local import cluster, note

LOOKS: Final = (
    *("cat", "cmp", "cut", "diff", "grep", "head", "jq", "ls", "sha256sum", "sort", "tail", "uniq"),
    *("yak status", "yak explain", "yak log", "yak verify", "yak zk status"),
    *("yak topic list", "yak topic describe", "yak group list", "yak group describe"),
    *("yak broker list", "yak broker describe"),
)
MAY_LACK: Final = ("jq",)
#: What a command says that takes longer than usual; a machine that does other things makes it.
WAITS: Final = "waiting for the cluster at "
#: What only looks is typed again for so long, and so often.
LOOK_S: Final = 20.0
_AGAIN_S: Final = 0.25
_NAMED: Final = re.compile(r"\b(?:localhost|127\.0\.0\.1):9092\b")
#: Each fits the others (docs/operations.md, Timings).
_CALM: Final = {
    "YAK_ZK_BOOTSTRAP_WAIT_MS": "1500",
    "YAK_ZK_SESSION_MS": "5000",
    "YAK_ZK_LEASE_MS": "3300",
    "YAK_ZK_REPLICA_LAG_MS": "3000",
    "YAK_ZK_RESIGN_MS": "8000",
}


def follow(
    page: Path, directory: Path, env: Mapping[str, str] | None = None, look_s: float = LOOK_S
) -> None:
    """An AssertionError says which command of the page, and in what it differs.

    env: beside the usual.  look_s: for how long what only looks is typed again.
    """
    usual = {"COLUMNS": str(COLUMNS), "YAK_UP_PORTS": "any", **_CALM}
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    whole = environment(PATH=here, **{**usual, **(env or {})})
    with ExitStack() as stack:
        stack.callback(_end, directory)
        reader = _Reader(page, directory, whole, stack)
        reader.look_s = look_s
        for step in steps(page):
            reader.do(step)
        reader.leave()


def left_out(page: Path) -> list[str]:
    """What this machine lacks a program for."""
    return [step.typed.command for step in steps(page) if _lacking(step.typed.command)]


def _lacking(command: str) -> bool:
    words = re.findall(r"[\w.-]+", command)
    return any(name in words and shutil.which(name) is None for name in MAY_LACK)


def _end(directory: Path) -> None:
    """Whatever clusters a page has left running."""
    for path in directory.rglob(note.NAME):
        with contextlib.suppress(Fatal):
            cluster.kill(path.parent)


class _Reader:
    def __init__(self, page: Path, directory: Path, env: dict[str, str], stack: ExitStack) -> None:
        self._page = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page.name
        self._directory = directory
        self._env = env
        self._stack = stack
        self.look_s = LOOK_S
        self._terminals: dict[str, Terminal] = {}
        #: What a terminal has printed of its command, and was compared.
        self._seen: dict[str, int] = {}

    def do(self, step: Step) -> None:
        typed = step.typed
        if _lacking(typed.command):
            return
        terminal = self._terminal(typed.terminal)
        shown = typed.shown[step.part]
        if step.part == 0:
            self._type(typed, terminal)
        if shown.key:
            terminal.press(KEYS[shown.key])
        last = step.part == len(typed.shown) - 1
        if typed.runs_on and not (last and shown.key):
            self._until_it_shows(typed, shown, terminal)
        else:
            self._to_its_end(typed, shown, terminal)

    def leave(self) -> None:
        """Nothing may run on when the page ends."""
        for name, terminal in self._terminals.items():
            assert terminal.wait_end(self.look_s), f"{self._page}: {name} still runs something"

    def _terminal(self, name: str) -> Terminal:
        if name not in self._terminals:
            self._terminals[name] = terminal = Terminal(self._directory, self._env)
            self._stack.callback(terminal.close)
        return self._terminals[name]

    def _type(self, typed: Typed, terminal: Terminal) -> None:
        self._seen[typed.terminal] = 0
        terminal.run(_NAMED.sub(self._address, typed.command))

    def _address(self, named: re.Match[str]) -> str:
        """The first broker of the cluster that this page has started."""
        found = (note.read(path.parent) for path in self._directory.rglob(note.NAME))
        return next((one.bootstrap.split(",")[0] for one in found if one), named[0])

    def _until_it_shows(self, typed: Typed, shown: Shown, terminal: Terminal) -> None:
        """It runs on: what is shown comes, and more may follow."""

        def look() -> bool:
            seen = self._seen[typed.terminal]
            ends = consumed(_page(shown), self._came(typed, shown, terminal), whole=False)
            if ends is not None:
                self._seen[typed.terminal] = seen + ends
            return ends is not None

        if not terminal.wait(look):
            self._fail(typed, shown, terminal, "it did not come")

    def _to_its_end(self, typed: Typed, shown: Shown, terminal: Terminal) -> None:
        deadline = time.monotonic() + self.look_s
        while True:
            if not terminal.wait_end():
                self._fail(typed, shown, terminal, f"it has not ended after {PATIENCE_S:g} s")
            came = self._came(typed, shown, terminal)
            if consumed(_page(shown), came, whole=True) is not None:
                break
            if typed.runs_on or not _looks(typed.command) or time.monotonic() > deadline:
                self._fail(typed, shown, terminal, "it shows something else")
            time.sleep(_AGAIN_S)
            self._type(typed, terminal)
        if terminal.ended and not typed.fails:
            self._fail(typed, shown, terminal, f"it ended with {terminal.ended}")

    def _came(self, typed: Typed, shown: Shown, terminal: Terminal) -> list[str]:
        lines = terminal.lines()
        if not any(line.startswith(WAITS) for part in typed.shown for line in part.lines):
            lines = [line for line in lines if not line.startswith(WAITS)]
        rest = lines[self._seen[typed.terminal] :]
        return [masked(line, numbers_differ=shown.numbers_differ) for line in rest]

    def _fail(self, typed: Typed, shown: Shown, terminal: Terminal, why: str) -> None:
        raise AssertionError(
            f"{self._page}:{typed.line}, in {typed.terminal}: {why}\n"
            f"$ {typed.command}\n"
            f"{difference(_page(shown), self._came(typed, shown, terminal))}\n"
            "-- as it came:\n" + "\n".join(terminal.lines())
        )


def _page(shown: Shown) -> Sequence[str]:
    return [masked(line, numbers_differ=shown.numbers_differ) for line in shown.lines]


def _looks(command: str) -> bool:
    """Whether it changes nothing, so that it may be typed again."""
    parts = [part.strip() for part in re.split(r"\|\||&&|[|;\n]", command)]
    return all(part.startswith(("echo ", *LOOKS)) for part in parts) and ">" not in command
