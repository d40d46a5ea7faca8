"""The reader of the documentation can fail: what a page gets wrong, it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.docs.compare import consumed, masked
from tests.docs.follow import follow

RIGHT: Final = """
```console
$ echo one; echo two; echo three
one
…
three
$ printf 'at %s from 127.0.0.1:%d\\n' 11:22:33.444 4711
at 10:00:00 from 127.0.0.1:9092
$ echo "never \\
> mind"
never mind
$ ls nowhere || true
ls: …
$ cd /
```

Another terminal has a directory of its own, and shows more while it runs.

```console title="terminal 2"
$ pwd | grep -c page; printf 'begun\\n'; cat; echo left
1
begun
```

<!-- numbers differ -->
```console
$ echo 17
18
```

```console title="terminal 2"
^D
left
```

```text
$ false
```
"""


PAGE: Final = [masked(line) for line in ("a 1", "…", "at …!", "z")]


@pytest.mark.parametrize(
    ("came", "whole", "lines"),
    [
        (["a 1", "at last!", "z"], True, 3),
        (["a  1", "b", "c", "at 5 s!", "z"], True, 5),
        (["a 1", "at last!", "z", "more"], True, None),
        (["a 1", "at last!", "z", "more"], False, 3),
        (["a 1", "at last!"], False, None),
        (["a 2", "at last!", "z"], False, None),
        (["a 1", "at last", "z"], False, None),
    ],
)
def test_what_counts_as_the_same(came: list[str], *, whole: bool, lines: int | None) -> None:
    assert consumed(PAGE, [masked(line) for line in came], whole=whole) == lines


def read(text: str, directory: Path) -> None:
    page = directory / "page.md"
    page.write_text(text, encoding="utf-8")
    (directory / "page").mkdir()
    follow(page, directory / "page", look_s=0.3)


def test_a_right_page(tmp_path: Path) -> None:
    read(RIGHT, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("\nthree\n", "\nthreee\n", r"(?s)page.md:3, in terminal 1: .*-threee\n\+two\n\+three"),
        ("\nnever mind\n", "\n", r"\+never mind"),
        ("at 10:00:00 from", "at 10:00:00 to", r"-at TIME to ADDRESS\n\+at TIME from ADDRESS"),
        ("18\n", "no\n", r"-no\n\+N"),
        ("$ cd /\n", "$ cd /nowhere 2> /dev/null\n", "page.md:14, .*ended with 1"),
        ("^D\nleft\n", "^D\nright\n", r"page.md:20, in terminal 2: (?s:.*)-right\n\+left"),
        ("^D\nleft\n", "…\n", "terminal 2 still runs"),
    ],
)
def test_a_page_that_is_wrong(tmp_path: Path, old: str, new: str, found: str) -> None:
    assert old in RIGHT
    with pytest.raises(AssertionError, match=found):
        read(RIGHT.replace(old, new), tmp_path)
