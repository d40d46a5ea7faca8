"""What a page of the documentation tells its reader to type, and what it says will be seen.

Rules:

* A fence that begins with ```console is run; `title="terminal 2"` says in which terminal, else in
  the first.  A fence of any other language is shown only (```text).
* `$ ` begins a command, `> ` goes on with it, `^C` and `^D` are keys; all else is what comes.
* A command ends before the next one in its terminal is typed.  One that ends by a key, or of which
  a later fence shows more, runs until then.
* `<!-- numbers differ -->` above a fence: digits are not compared in it.

Not here: how they are run (terminal.py, follow.py), and what counts as the same (compare.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_FENCE: Final = re.compile(
    r"(?P<differ><!-- numbers differ -->\n+)?^```console(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE: Final = re.compile(r'title="([^"]+)"')
_FIRST: Final = "terminal 1"
_FAILURES: Final = ("error: ", "never acknowledged:")
KEYS: Final = {"^C": b"\x03", "^D": b"\x04"}


@dataclass
class Shown:
    """Lines that stand together under a command, or under a key."""

    lines: list[str] = field(default_factory=list)
    numbers_differ: bool = False
    key: str = ""  # the key that is pressed before they come


@dataclass
class Typed:
    """A command, and all that is shown of it in one fence or in several."""

    line: int
    terminal: str
    command: str
    shown: list[Shown]
    runs_on: bool = False

    @property
    def fails(self) -> bool:
        """Whether the page shows that it fails."""
        return any(line.startswith(_FAILURES) for part in self.shown for line in part.lines)


@dataclass
class Step:
    """A command is typed (part 0), or more of it is to be seen."""

    typed: Typed
    part: int


def steps(path: Path) -> list[Step]:
    """All of a page, in its order."""
    text = path.read_text(encoding="utf-8")
    found: list[Step] = []
    last: dict[str, Typed] = {}
    for fence in _FENCE.finditer(text):
        title = _TITLE.search(fence["info"])
        terminal = title[1] if title else _FIRST
        line = text.count("\n", 0, fence.start("text")) + 1
        found += _fence(fence, terminal, line, last)
    return found


def _fence(
    fence: re.Match[str], terminal: str, line: int, last: dict[str, Typed]
) -> Iterator[Step]:
    differ = fence["differ"] is not None
    fresh = True  # nothing of this fence was read yet
    for number, text in enumerate(fence["text"].splitlines(), line):
        typed = last.get(terminal)
        if text.startswith("$ "):
            typed = Typed(number, terminal, text[2:], [Shown(numbers_differ=differ)])
            last[terminal] = typed
            yield Step(typed, 0)
        elif typed is None:
            raise AssertionError(f"line {number}: output, and no command before it: {text}")
        elif (text + " ").startswith("> ") and not fresh and not typed.shown[-1].lines:
            typed.command += "\n" + text[2:]
        elif text in KEYS or fresh:
            typed.runs_on = True
            key = text if text in KEYS else ""
            typed.shown.append(Shown([] if key else [text], differ, key))
            yield Step(typed, len(typed.shown) - 1)
        else:
            typed.shown[-1].lines.append(text)
        fresh = False
