"""`--until-eof`: a process that ends in order when its standard input does.

Whoever starts it keeps the other end of a pipe, and does nothing with it: when that process is
gone, however it went, the kernel closes the pipe, and nothing is left running.

What is written into the pipe is not looked at.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from yak.errors import Fatal

_STDIN: Final = 0


def end_with_stdin(stop: Callable[[], None]) -> None:
    """Call `stop` once stdin has ended.  Raises Fatal where it is no pipe."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if not os.read(_STDIN, 65536):
            loop.remove_reader(_STDIN)
            stop()

    try:
        loop.add_reader(_STDIN, heard)
    except OSError as e:
        raise Fatal(
            f"--until-eof: standard input cannot be waited for ({e.strerror}); give it a pipe that "
            "whoever started this process holds"
        ) from e
