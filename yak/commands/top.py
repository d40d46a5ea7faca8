"""`yak top`: a live view of the cluster, until q or Ctrl-C.

A thread takes one picture after the other; this one draws the newest and listens for keys, so that
a broker which does not answer delays no key.  A cluster that is gone is shown as such, with how it
was, and shown again as soon as it is back.

It needs a terminal; where there is none, it says what to use instead.

Not here: what is asked (picture.py), and how it looks (view.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Final

import click

from yak.admin import AsyncAdmin
from yak.commands.options import (
    ADDRESS,
    DURATION,
    examples,
    option_bootstrap,
    running_zk,
)
from yak.commands.picture import Picture, Rates, Sketch
from yak.config import DEFAULT_ZK
from yak.local import note
from yak.net.loop_thread import LoopThread

#: How soon a key or a new picture is noticed, in seconds.
LOOK_S: Final = 0.1
#: Pictures closer together than this would keep the leader busy with being looked at, in seconds.
SHORTEST_S: Final = 0.1


@click.command(
    context_settings={"auto_envvar_prefix": "YAK_TOP"},
    epilog=examples(
        "yak top",
        "yak top --interval 500ms",
        "yak top -b 127.0.0.1:9092 --zk 127.0.0.1:2181",
    ),
)
@option_bootstrap
@click.option(
    "--zk",
    type=ADDRESS,
    default=running_zk,
    show_default=f"that of `yak up`, else {DEFAULT_ZK}",
    envvar="YAK_ZK",
    help="yak-zk, which knows what happened and why, and when it last heard of each broker.",
)
@click.option(
    "--interval",
    type=DURATION,
    default=1.0,
    show_default="1s",
    help="How often the cluster is asked.",
)
def top(*, bootstrap: str, zk: str, interval: float) -> None:
    """Watch the cluster: brokers, topics, groups, and what happens; q leaves."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        raise click.ClickException(
            "yak top needs a terminal that can be drawn on; `yak status --watch` prints the same "
            "again and again, and `yak status --json --watch` for programs"
        )
    source = click.get_current_context().get_parameter_source("zk")
    zk_named = source is not click.core.ParameterSource.DEFAULT
    thread = LoopThread("yak-top")
    try:
        watcher = _Watcher(bootstrap, zk, max(SHORTEST_S, interval), zk_named=zk_named)
        asyncio.run_coroutine_threadsafe(watcher.run(), thread.loop)
        with _keys() as pressed, contextlib.suppress(KeyboardInterrupt):
            _draw(console, watcher, pressed)
    finally:
        thread.stop()


class _Watcher:
    """Takes the pictures.  newest: read by another thread, and replaced whole."""

    def __init__(self, bootstrap: str, zk: str, interval: float, *, zk_named: bool) -> None:
        self._bootstrap = bootstrap
        self._zk = zk
        self._interval = interval
        self._zk_named = zk_named
        self.newest: Picture | None = None
        #: Why no more will come: a bug, which must not look like a cluster that stands still.
        self.failure: BaseException | None = None

    async def run(self) -> None:
        try:
            async with AsyncAdmin(self._bootstrap, client="yak-top", timeout_s=2.0) as admin:
                home = note.home_of(self._bootstrap)
                sketch = Sketch(admin, self._zk, zk_named=self._zk_named, home=home)
                while True:
                    began = time.monotonic()
                    self.newest = await sketch.take()
                    await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - began)))
        except Exception as e:  # noqa: BLE001 -- the thread that draws raises it
            self.failure = e


def _draw(console: object, watcher: _Watcher, pressed: _Pressed) -> None:
    """Until q is pressed."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from yak.commands.view import view

    assert isinstance(console, Console)
    rates, shown, last = Rates(), None, None
    size = console.size
    waiting = Text("yak top: asking the cluster …  q leaves")
    with Live(waiting, console=console, screen=True, auto_refresh=False) as live:
        while not pressed.quit(LOOK_S):
            if watcher.failure is not None:
                raise watcher.failure
            newest = watcher.newest
            if newest is None or (newest is shown and console.size == size):
                continue
            if newest is not shown:
                rates.take(newest)
            shown, size = newest, console.size
            last = newest if newest.report is not None else last
            drawn = view(
                newest, rates, width=size.width, height=size.height, last=last, note="q leaves"
            )
            live.update(drawn, refresh=True)


class _Pressed:
    """The keyboard; nobody's where stdin is none."""

    def __init__(self, file: int | None) -> None:
        self._file = file

    def quit(self, wait_s: float) -> bool:
        """Whether q was pressed within this time; an end of the input is no key."""
        if self._file is None:
            time.sleep(wait_s)
            return False
        if not select.select([self._file], [], [], wait_s)[0]:
            return False
        read = os.read(self._file, 100)
        if not read:
            self._file = None
        return b"q" in read or b"Q" in read or b"\x04" in read


@contextlib.contextmanager
def _keys() -> Iterator[_Pressed]:
    """Keys come one by one and are not shown, for as long as this lasts."""
    if not sys.stdin.isatty():
        yield _Pressed(None)
        return
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield _Pressed(file)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
