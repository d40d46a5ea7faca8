"""A real text that every machine with Python has: the sources of its standard library.

Real text repeats itself: thousands of lines are empty, or say `else:`.  To prove that *each* line
arrived once, and in order, every line travels with its number as its key:

    00000041<TAB>def main():

Not here: anything about yak.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

#: What the demonstration promises at least.
MIN_LINES: Final = 50_000
#: Enough that sending takes about as long as a new leader needs.
WANTED_LINES: Final = 200_000
_KEY_DIGITS: Final = 8


class Text(NamedTuple):
    """A file of lines, each closed by a newline.  origin: whose words they are."""

    path: Path
    lines: list[bytes]
    origin: str

    @property
    def size(self) -> int:
        """Bytes, with the newlines."""
        return sum(len(line) for line in self.lines)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, the first 16 of its hex digits."""
        return hashlib.sha256(b"".join(self.lines)).hexdigest()[:16]

    def keyed(self) -> list[bytes]:
        """What is sent: each line after its number and a tab."""
        return [b"%0*d\t%s" % (_KEY_DIGITS, n, line) for n, line in enumerate(self.lines)]


def make_text(path: Path) -> Text:
    """Write sources of the standard library to `path`, one after the other."""
    library = Path(sysconfig.get_paths()["stdlib"])
    lines: list[bytes] = []
    files = 0
    for source in _sources(library):
        lines.extend(source.splitlines(keepends=True))
        files += 1
        if len(lines) >= WANTED_LINES:
            break
    assert len(lines) >= MIN_LINES, f"{library} has only {len(lines)} lines of plain sources"
    path.write_bytes(b"".join(lines))
    version = platform.python_version()
    return Text(path, lines, f"{files} source files of Python {version}'s standard library")


def _sources(library: Path) -> Iterator[bytes]:
    """Sources that are UTF-8, of lines that end in one newline, in a fixed order."""
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = sorted(name for name in subfolders if not name.endswith("-packages"))
        for name in sorted(names):
            source = (Path(folder) / name).read_bytes() if name.endswith(".py") else b""
            if source.endswith(b"\n") and b"\r" not in source and _is_utf8(source):
                yield source


def _is_utf8(source: bytes) -> bool:
    try:
        source.decode()
    except UnicodeDecodeError:
        return False
    return True
